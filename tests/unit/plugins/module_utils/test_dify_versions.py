# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_versions import capabilities, provider_id


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0.6.13", {"login_tokens": "data", "admin_key": True, "plugins": False, "refresh": "", "xinference_fields": ("server_url", "model_uid")}),
        ("0.15.8", {"login_tokens": "pair", "login_base64": False, "credential_records": False, "refresh": "body", "xinference_provider": "xinference"}),
        ("1.7.2", {"login_tokens": "pair", "plugins": True, "credential_records": False, "xinference_provider": "langgenius/xinference/xinference"}),
        ("1.9.2", {"login_tokens": "cookies", "login_base64": False, "admin_key": False, "credential_records": True, "auto_upgrade": "preferences"}),
        ("1.10.1-fix.1", {"admin_key": False}),
        ("1.11.1", {"admin_key": True, "login_base64": False}),
        ("1.11.2", {"login_base64": True, "default_model_first_write_bug": True}),
        (
            "1.16.1",
            {"login_tokens": "cookies", "login_base64": True, "auto_upgrade": "category", "default_model_first_write_bug": False, "env_file": True},
        ),
    ],
)
def test_matrix(version, expected):
    able = capabilities(version)._asdict()
    assert {name: able[name] for name in expected} == expected


def test_other_text_is_refused():
    with pytest.raises(ValueError, match="is not a Dify version"):
        capabilities("latest")


def test_xinferences_provider_has_the_name_of_its_generation_and_others_keep_theirs():
    long, short = "langgenius/xinference/xinference", "xinference"
    assert [provider_id(name, capabilities("0.15.8")) for name in (long, short)] == [short, short]
    assert [provider_id(name, capabilities("1.0.0")) for name in (long, short)] == [long, long]
    assert provider_id("a/b/c", capabilities("0.15.8")) == "a/b/c"
