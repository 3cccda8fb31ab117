# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_versions import _STEPS, NEWEST_KNOWN, capabilities, provider_id, version_key


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


# The last version before each step, the first from it on, and what changes: releases between the recorded ones are told by this.
STEPS = [
    ("0.6.16", "0.7.0", "xinference_fields", ("server_url", "model_uid"), ("server_url", "model_uid", "api_key")),
    ("0.9.2", "0.10.0", "login_tokens", "data", "pair"),
    ("0.9.2", "0.10.0", "refresh", "", "body"),
    ("0.13.2", "0.14.0", "xinference_fields", ("server_url", "model_uid", "api_key"), ("server_url", "model_uid", "api_key", "invoke_timeout", "max_retries")),
    ("0.15.8", "1.0.0", "plugins", False, True),
    ("0.15.8", "1.0.0", "xinference_provider", "xinference", "langgenius/xinference/xinference"),
    ("1.6.0", "1.7.0", "auto_upgrade", "", "preferences"),
    ("1.7.2", "1.8.0", "credential_records", False, True),
    ("1.9.1", "1.9.2", "login_tokens", "pair", "cookies"),
    ("1.9.1", "1.9.2", "refresh", "body", "cookies"),
    ("1.9.1", "1.9.2", "admin_key", True, False),
    ("1.9.1", "1.9.2", "setup_language", False, True),
    ("1.10.1-fix.1", "1.11.0", "admin_key", False, True),
    ("1.11.1", "1.11.2", "login_base64", False, True),
    ("1.13.3", "1.14.0", "default_model_first_write_bug", True, False),
    ("1.14.0", "1.14.1", "env_file", False, True),
    ("1.14.1", "1.15.0", "auto_upgrade", "preferences", "category"),
]


@pytest.mark.parametrize(("last", "first", "name", "before", "after"), STEPS)
def test_each_step_is_taken_at_its_version(last, first, name, before, after):
    assert (getattr(capabilities(last), name), getattr(capabilities(first), name)) == (before, after)


def test_every_step_of_the_table_has_such_a_test():
    assert sorted((name, since) for name, since, _before, _after in _STEPS) == sorted((name, version_key(first)) for _last, first, name, *_rest in STEPS)


def test_capabilities_of_a_version_newer_than_the_newest_known_are_the_newest_ones():
    assert capabilities("1.99.0")._replace(version="") == capabilities(NEWEST_KNOWN)._replace(version="")
    assert version_key("v1.10.1-fix.1") == (1, 10, 1, 1) > version_key("1.10.1")


def test_other_text_is_refused():
    with pytest.raises(ValueError, match="is not a Dify version"):
        capabilities("latest")


def test_xinferences_provider_has_the_name_of_its_generation_and_others_keep_theirs():
    long, short = "langgenius/xinference/xinference", "xinference"
    assert [provider_id(name, capabilities("0.15.8")) for name in (long, short)] == [short, short]
    assert [provider_id(name, capabilities("1.0.0")) for name in (long, short)] == [long, long]
    assert provider_id("a/b/c", capabilities("0.15.8")) == "a/b/c"
