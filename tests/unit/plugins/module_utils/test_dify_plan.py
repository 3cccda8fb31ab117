# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_plan import (
    HIDDEN_VALUE,
    FoundModel,
    Known,
    WantedModel,
    check_wanted,
    fingerprint,
    mask,
    masks,
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
    known = Known("salt", {"api_key": fingerprint("salt", "llm/chat#api_key", KEY)})
    unchanged = plan_model(wanted(api_key=KEY), found(api_key=mask(KEY)), known)
    assert (unchanged.kind, unchanged.masked) == ("none", ("api_key",))
    action = plan_model(wanted(api_key=other), found(api_key=mask(KEY)), known)
    assert action.kind == "update"
    assert action.credentials["api_key"] == other
    assert action.difference.changed


def test_short_key_that_nobody_remembers_is_written_once():
    assert plan_model(wanted(api_key="short"), found(api_key="*" * 20)).kind == "update"
    known = Known("s", {"api_key": fingerprint("s", "llm/chat#api_key", "short")})
    assert plan_model(wanted(api_key="short"), found(api_key="*" * 20), known).kind == "none"


@pytest.mark.parametrize("shown", ["http:/************97", "http:/**************97"])
def test_an_address_is_a_secret_to_older_providers_and_compared_by_its_mask(shown):
    """As recorded from Dify 0.15, and from 0.6, which writes a star for each hidden character."""
    address = "http://127.0.0.1:29997"
    assert shown in masks(address)
    action = plan_model(wanted(server_url=address), found(server_url=shown))
    assert (action.kind, action.masked) == ("none", ("server_url",))


def test_an_address_changed_in_its_middle_is_noticed_by_its_fingerprint():
    known = Known("s", {"server_url": fingerprint("s", "llm/chat#server_url", "http://192.0.2.99:9997")})
    action = plan_model(wanted(), found(server_url=mask(URL)), known)
    assert (action.kind, action.reasons) == ("update", ["server_url differs"])


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
    action = plan_model(wanted(), found(server_url="SFlCUklEOrXTOAW3hN199"))
    assert action.reasons == ["server_url is ciphertext, which an upgrade left (Dify 0.15, or plugin 0.0.4)"]
    assert action.difference.diff()["before"] == {"server_url": "(ciphertext)"}


def test_beside_ciphertext_no_stored_secret_is_relied_on():
    action = plan_model(wanted(api_key=KEY), found(server_url="SFlCUklEOxyz", api_key=mask(KEY)))
    assert (action.kind, action.broken, action.credentials["api_key"]) == ("update", True, KEY)
    assert KEY not in str(action.difference.diff())


def test_disabled_model_is_enabled_without_touching_its_credential():
    action = plan_model(wanted(), found(disabled=True))
    assert (action.kind, action.enable, action.reasons) == ("enable", True, ["it is disabled"])


def test_before_1_8_a_model_is_there_when_it_has_credentials():
    old = FoundModel(dict(BASE), None, None, [], True, False, records=False)
    assert plan_model(wanted(), old).kind == "none"
    assert plan_model(wanted(), old._replace(credentials={})).kind == "create"


def test_two_credentials_of_our_name_become_one_the_attached():
    two = [{"credential_id": name, "credential_name": "ansible"} for name in ("a", "b")]
    action = plan_model(wanted(), found()._replace(credential_id="b", available=two))
    assert (action.kind, action.remove) == ("update", ("a",))
    detached = plan_model(wanted(), FoundModel({}, None, None, two[::-1], False, False))
    assert (detached.kind, detached.credential_id, detached.remove) == ("attach", "a", ("b",))


def test_absent_model_is_deleted_with_what_is_left_of_it():
    gone = wanted()._replace(absent=True)
    assert plan_model(gone, found()).kind == "delete"
    assert plan_model(gone, FoundModel({}, None, None, [{"credential_id": "c", "credential_name": "x"}], False, False)).kind == "delete"
    assert plan_model(gone, FoundModel({}, None, None, [], False, False)).kind == "none"


def test_changed_abilities_are_registered_anew():
    seeing = wanted()._replace(abilities=("vision", "chat"))
    assert plan_model(seeing, found()).kind == "none"  # nothing remembered yet
    assert plan_model(seeing, found(), Known(abilities="chat,vision")).kind == "none"
    assert plan_model(seeing, found(), Known(abilities="chat")).reasons == ["the model's abilities changed since it was registered"]


def test_fields_dify_computed_are_told_by_the_form():
    extra = found(weight="7")
    assert plan_model(wanted(), extra).reasons == ["weight differs"]
    assert plan_model(wanted(), extra, Known(form=frozenset(BASE))).kind == "none"


def test_prune_leaves_what_is_wanted():
    actions = plan_prune([("chat", "llm"), ("old", "llm")], [wanted()])
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
