# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_plan import (
    HIDDEN_VALUE,
    FoundModel,
    WantedModel,
    check_wanted,
    fingerprint,
    mask,
    plan_defaults,
    plan_model,
    plan_prune,
)

URL = "http://192.0.2.10:9997"
KEY = "sk-0123456789abcdef"
BASE = {"server_url": URL, "model_uid": "chat", "invoke_timeout": "60", "max_retries": "3"}


def wanted(**more):
    return WantedModel("chat", "llm", {**BASE, **more})


def found(credentials=None, disabled=False, name="ansible", **changes):
    stored = {**BASE, "completion_type": "chat", "context_length": 32768, **changes} if credentials is None else credentials
    identity = "11111111-1111-1111-1111-111111111111" if stored else None
    return FoundModel(stored, identity, name if identity else None, [{"credential_id": identity, "credential_name": name}] if identity else [], True, disabled)


@pytest.mark.parametrize(
    ("value", "shown"),
    [("", "*" * 20), ("secret12", "*" * 20), ("secret123", "secret************23"), (KEY, "sk-012************ef")],
)
def test_mask_is_the_one_dify_shows(value, shown):
    assert mask(value) == shown


def test_nothing_to_do_when_all_fields_match_and_derived_ones_are_ignored():
    action = plan_model(wanted(), found())
    assert (action.kind, action.reasons) == ("none", [])


def test_absent_model_is_created_with_all_secrets_in_clear():
    action = plan_model(wanted(api_key=KEY), found({}))
    assert action.kind == "create"
    assert action.credentials["api_key"] == KEY
    assert KEY not in str(action.difference.diff())


def test_changed_field_is_updated_and_the_unchanged_secret_hidden():
    action = plan_model(wanted(api_key=KEY, invoke_timeout="120"), found(api_key=mask(KEY)))
    assert (action.kind, action.reasons) == ("update", ["invoke_timeout differs"])
    assert action.credentials["api_key"] == HIDDEN_VALUE
    assert action.credentials["invoke_timeout"] == "120"


def test_rotated_key_shows_in_its_mask():
    action = plan_model(wanted(api_key="sk-aaaaaaaaaaaaaaaa"), found(api_key=mask(KEY)))
    assert action.kind == "update"
    assert action.credentials["api_key"] == "sk-aaaaaaaaaaaaaaaa"


def test_rotated_key_with_the_same_mask_is_noticed_by_its_fingerprint():
    other = KEY[:6] + "XXXXXXXXXXX" + KEY[-2:]
    assert mask(other) == mask(KEY)
    remembered = fingerprint("salt", "llm/chat", KEY)
    assert plan_model(wanted(api_key=KEY), found(api_key=mask(KEY)), remembered, "salt").kind == "none"
    action = plan_model(wanted(api_key=other), found(api_key=mask(KEY)), remembered, "salt")
    assert action.kind == "update"
    assert action.credentials["api_key"] == other
    assert action.difference.changed


def test_short_key_that_nobody_remembers_is_written_once():
    assert plan_model(wanted(api_key="short"), found(api_key="*" * 20)).kind == "update"
    remembered = fingerprint("s", "llm/chat", "short")
    assert plan_model(wanted(api_key="short"), found(api_key="*" * 20), remembered, "s").kind == "none"


def test_key_that_is_no_longer_wanted_is_removed():
    action = plan_model(wanted(), found(api_key=mask(KEY)))
    assert (action.kind, action.reasons) == ("update", ["api_key differs"])
    assert "api_key" not in action.credentials


def test_detached_credential_is_put_right_and_attached():
    detached = FoundModel({}, None, None, [{"credential_id": "c1", "credential_name": "ansible"}], False, False)
    action = plan_model(wanted(), detached)
    assert (action.kind, action.credential_id, action.switch) == ("attach", "c1", True)


def test_credential_of_someone_else_is_not_attached():
    detached = FoundModel({}, None, None, [{"credential_id": "c1", "credential_name": "API KEY 1"}], False, False)
    assert plan_model(wanted(), detached).kind == "create"


def test_ciphertext_url_after_an_upgrade_is_a_difference():
    assert plan_model(wanted(), found(server_url="SFlCUklEOrXTOAW3hN199")).reasons == ["server_url differs"]


def test_disabled_model_is_enabled_without_touching_its_credential():
    action = plan_model(wanted(), found(disabled=True))
    assert (action.kind, action.enable, action.reasons) == ("enable", True, ["it is disabled"])


def test_prune_takes_only_what_carries_our_name():
    ours, theirs = found(), found(name="API KEY 1")
    actions = plan_prune([(("chat", "llm"), ours), (("old", "llm"), ours), (("other", "llm"), theirs)], [wanted()])
    assert [(action.kind, action.model) for action in actions] == [("delete", "old")]


def test_defaults_are_compared_with_their_provider():
    mine = {"provider": "p", "model": "chat"}
    assert plan_defaults({"llm": "chat", "rerank": "r", "tts": ""}, {"llm": mine, "rerank": None}, "p") == ["rerank"]
    assert plan_defaults({"llm": "chat"}, {"llm": {"provider": "other", "model": "chat"}}, "p") == ["llm"]


def test_uids_and_doubles_that_dify_would_refuse_are_named():
    slash = WantedModel("m", "llm", {"model_uid": "a/b"})
    problems = check_wanted([wanted(), wanted(), slash])
    assert "listed twice" in problems["chat", "llm"]
    assert "'a/b'" in problems["m", "llm"]
