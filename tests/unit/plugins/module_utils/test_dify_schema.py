# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_schema import ProviderSchema, as_text, fit


def field(name, kind="text-input", required=True, default=None, show_on=()):
    return {"variable": name, "type": kind, "required": required, "default": default, "show_on": list(show_on)}


def schema(*fields, **more):
    entry = {
        "provider": "a/b/c",
        "supported_model_types": ["llm", "rerank"],
        "configurate_methods": ["customizable-model"],
        "model_credential_schema": {"credential_form_schemas": list(fields)},
        **more,
    }
    return ProviderSchema.read(entry)


URL = field("server_url", "secret-input")
TIMEOUT = field("invoke_timeout", default="60")


def test_required_fields_get_the_forms_own_default():
    form = schema(URL, TIMEOUT, field("api_key", "secret-input", required=False))
    assert fit({"server_url": "u"}, "llm", form) == ({"server_url": "u", "invoke_timeout": "60"}, None)
    assert form.secrets == {"server_url", "api_key"}


def test_settings_of_ours_that_an_older_form_lacks_are_dropped_but_a_key_is_not():
    form = schema(URL)
    assert fit({"server_url": "u", "invoke_timeout": "60", "max_retries": "3"}, "llm", form) == ({"server_url": "u"}, None)
    _same, problem = fit({"server_url": "u", "api_key": "k"}, "llm", form)
    assert "has no field api_key" in problem
    assert "upgrade Dify" in problem


def test_fields_of_another_model_type_are_not_asked_for():
    form = schema(field("mode", show_on=[{"variable": "__model_type", "value": "llm"}]), field("style", show_on=[{"variable": "mode", "value": "x"}]))
    assert fit({}, "rerank", form) == ({}, None)
    assert "requires the field mode" in fit({}, "llm", form)[1]
    assert fit({"mode": "chat"}, "llm", form) == ({"mode": "chat"}, None)


def test_defaults_that_dify_fills_in_by_itself_are_compared_like_what_was_given():
    """It does so for fields that are not required, and only beside the values that show them."""
    llm = {"variable": "__model_type", "value": "llm"}
    form = schema(
        field("delimiter", required=False, default=";", show_on=[llm, {"variable": "mode", "value": "completion"}]),
        field("mode", "select", required=False, default="chat", show_on=[llm]),
    )
    assert fit({}, "llm", form) == ({"mode": "chat"}, None)
    assert fit({"mode": "completion"}, "llm", form) == ({"mode": "completion", "delimiter": ";"}, None)
    assert fit({}, "rerank", form) == ({}, None)


def test_a_field_of_several_model_types_has_the_default_of_its_own():
    form = schema(*(field("size", default=size, show_on=[{"variable": "__model_type", "value": kind}]) for kind, size in (("llm", "4096"), ("rerank", "512"))))
    assert [fit({}, kind, form)[0] for kind in ("llm", "rerank")] == [{"size": "4096"}, {"size": "512"}]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"configurate_methods": ["predefined-model"]}, "one set of credentials for all its models"),
        ({"supported_model_types": ["tts"]}, "has no llm models here"),
    ],
)
def test_providers_that_cannot_are_named(entry, words):
    assert words in fit({}, "llm", schema(**entry))[1]


def test_names_of_credentials_are_read_also_of_detached_models():
    custom = {
        "custom_models": [{"model": "m", "model_type": "llm", "current_credential_id": None, "available_model_credentials": [{"credential_name": "ansible"}]}]
    }
    assert schema(custom_configuration=custom).credential_names == {("m", "llm"): ("ansible",)}


def test_values_become_text():
    assert [as_text(value) for value in (True, 60, "x")] == ["true", "60", "x"]
