# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The last of these files: docs/dify-registration.md holds what came out."""

from __future__ import annotations

import os
import pathlib

import pytest

from tests.contract.dify_generations.world import complete, table, verdicts

DOCUMENT = pathlib.Path(__file__).resolve().parents[3] / "docs" / "dify-registration.md"


def test_documents_hold_what_came_out(request: pytest.FixtureRequest) -> None:
    asked = request.config
    if asked.option.keyword or any("::" in word or word.endswith(".py") for word in asked.args):
        pytest.skip("only a part of this folder was run")
    assert complete(), f"no result for every version:\n{table()}"
    text = wanted = DOCUMENT.read_text(encoding="utf-8")
    for name, content in (("table", table()), ("verdicts", verdicts())):
        start, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        before, _mark, rest = wanted.partition(start)
        _old, _mark, after = rest.partition(end)
        wanted = before + start + content + "\n" + end + after
    if os.environ.get("DIFY_TABLE") == "write":
        DOCUMENT.write_text(wanted, encoding="utf-8")
    else:
        assert text == wanted, "what Dify registration does has changed: run this folder with DIFY_TABLE=write"
