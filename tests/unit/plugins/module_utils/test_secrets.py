# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import os
import stat

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _secrets as secrets
from ansible_collections.llmops.dify_xinference.plugins.module_utils._secrets import SecretRefused, Wanted


def test_missing_secrets_are_made_once_and_kept():
    values, made, replaced = secrets.plan({}, [Wanted("A", 20), Wanted("B")])
    assert (sorted(made), replaced) == (["A", "B"], [])
    assert len(values["A"]) == 20
    assert values["A"].isalnum()
    again, made, replaced = secrets.plan(values, [Wanted("A", 20), Wanted("B")])
    assert (again, made, replaced) == (values, [], [])


def test_given_values_win_and_unnamed_ones_stay():
    values, made, replaced = secrets.plan({"A": "oldoldold", "X": "keepkeep"}, [Wanted("A", value="newnewnew"), Wanted("B", value="12345678x")])
    assert values == {"A": "newnewnew", "B": "12345678x", "X": "keepkeep"}
    assert (made, replaced) == (["B"], ["A"])


def test_permanent_secret_cannot_be_changed_and_its_value_is_not_told():
    with pytest.raises(SecretRefused, match="DB_PASSWORD") as refusal:
        secrets.plan({"DB_PASSWORD": "oldoldold"}, [Wanted("DB_PASSWORD", value="newnewnew", permanent=True)])
    assert "newnewnew" not in str(refusal.value)
    assert "oldoldold" not in str(refusal.value)


@pytest.mark.parametrize("value", ["difyai123456", "dify-sandbox", "sk-9f73s3something", "short"])
def test_public_and_short_values_are_refused(value):
    with pytest.raises(SecretRefused):
        secrets.plan({}, [Wanted("A", value=value)])
    with pytest.raises(SecretRefused):
        secrets.plan({"A": "difyai123456"}, [Wanted("A")])


def test_key32_decodes_to_32_bytes():
    for _attempt in range(20):
        value = secrets.generate("key32", 0)
        assert value.isalnum()
        assert len(base64.urlsafe_b64decode(value + "=")) == 32
        assert base64.urlsafe_b64encode(base64.urlsafe_b64decode(value + "=")).decode() == value + "="


def test_file_is_private_from_the_start_and_a_damaged_one_is_not_overwritten(tmp_path):
    path = str(tmp_path / "secrets.json")
    os.umask(0)
    secrets.save(path, {"A": "b"})
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert secrets.load(path) == {"A": "b"}
    assert os.listdir(tmp_path) == ["secrets.json"]
    (tmp_path / "secrets.json").write_text("{broken")
    with pytest.raises(ValueError, match="restore it from a backup"):
        secrets.load(path)
