# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.llmops.dify_xinference.tests.tools import extra_stages


def test_the_list_is_read_and_filtered() -> None:
    text = "# about\n\none thing | true\nOther | echo a | cat\n"
    assert extra_stages.stages(text) == [("one thing", "true"), ("Other", "echo a | cat")]
    assert [stage.name for stage in extra_stages.stages(text, "other")] == ["Other"]
    with pytest.raises(SystemExit, match="not .name"):
        extra_stages.stages("no bar")


def test_the_list_of_this_checkout() -> None:
    found = extra_stages.stages(extra_stages.LIST.read_text(encoding="utf-8"))
    assert len({stage.name for stage in found}) == len(found) >= 8
