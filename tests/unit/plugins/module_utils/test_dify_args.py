# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import types

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_args import client_of, read_key

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
