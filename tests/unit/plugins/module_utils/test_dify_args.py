# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import pathlib
import re
import types

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _dify_args
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_args import (
    client_of,
    connection_arguments,
    hide_secrets,
    read_key,
    wanted_models,
)

PARAMS = {
    "url": "http://127.0.0.1:9",
    "admin_key": None,
    "email": None,
    "password": None,
    "session_file": None,
    "workspace_id": None,
    "validate_certs": True,
    "timeout": 1.0,
}


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "secrets.json"
    path.write_text(json.dumps({"ADMIN_API_KEY": "key", "ADMIN_PASSWORD": "kept"}))
    return str(path)


def module(**params):
    return types.SimpleNamespace(params={**PARAMS, **params}, no_log_values=set(), check_mode=False)


@pytest.mark.parametrize(("email", "password", "used"), [(None, None, None), ("a@example.com", None, "kept"), ("a@example.com", "given", "given")])
def test_the_password_beside_the_key_is_for_a_login_that_is_asked_for(stored, email, password, used):
    asked = module(admin_key_file=stored, email=email, password=password)
    client = client_of(asked)
    assert (client.admin_key, client.password) == ("key", used)
    assert "key" in asked.no_log_values and (used != "kept" or "kept" in asked.no_log_values)


def test_a_file_that_is_the_key_holds_no_password(tmp_path):
    path = tmp_path / "key"
    path.write_text("key\n")
    assert read_key(str(path), "ADMIN_API_KEY") == "key"
    assert read_key(str(path), "ADMIN_PASSWORD", plain=False) == ""


def test_documented_environment_variables_are_the_ones_that_are_read():
    read = {name: option["fallback"][1] for name, option in connection_arguments().items() if "fallback" in option}
    told, name = {}, None
    fragment = pathlib.Path(_dify_args.__file__).parents[1] / "doc_fragments" / "dify.py"
    for line in fragment.read_text(encoding="utf-8").splitlines():
        option = re.match(r"  (\w+):$", line)
        name = option.group(1) if option else name
        for variable in re.findall(r"E\((\w+)\)", line):
            told[name] = [variable]
    assert told == read
    assert {"url", "admin_key", "admin_key_file", "email", "password", "workspace_id"} == set(read)


def item(**more):
    empty = {"model": "m", "model_type": "llm", "model_uid": None, "server_url": None, "api_key": None, "abilities": [], "state": "present"}
    return {**empty, "credentials": {}, "secret_credentials": {}, **more}


def test_values_under_a_secrets_name_are_hidden_and_others_are_not():
    fields = {"api_key": "a-key", "aws_secret_access_key": "b-key", "access_token": "c-token", "PASSWORD": "d-word", "max_tokens": 4096, "mode": "chat"}
    asked = module(models=[item(credentials=fields)])
    hide_secrets(asked)
    assert asked.no_log_values == {"a-key", "b-key", "c-token", "d-word"}


def test_an_empty_field_is_one_that_was_not_given():
    models = [item(credentials={"api_key": "", "mode": None, "size": 0}, secret_credentials={"token": ""})]
    assert wanted_models({"models": models})[0].credentials == {"size": "0"}


def test_an_address_has_no_slash_at_its_end():
    assert wanted_models({"models": [item(server_url="http://192.0.2.10:9997/")]})[0].credentials["server_url"] == "http://192.0.2.10:9997"
