# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""The options by which every Xinference module reaches a server, and the client they make."""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import env_fallback
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import JsonClient, open_url_transport
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference import Xinference
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_files import read_json

# The suboptions of a declared model, for every module that takes a list of them.
MODEL = {
    "uid": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "type": {"type": "str", "default": "LLM"},
    "name": {"type": "str"},
    "engine": {"type": "str"},
    "size": {"type": "str"},
    "format": {"type": "str"},
    "quantization": {"type": "str"},
    "replica": {"type": "int"},
    "gpus": {"type": "list", "elements": "int"},
    "n_gpu": {"type": "str"},
    "worker_ip": {"type": "str"},
    "model_path": {"type": "str"},
    "download_hub": {"type": "str"},
    "peft_model_config": {"type": "dict"},
    "request_limits": {"type": "int"},
    "enable_virtual_env": {"type": "bool"},
    "virtual_env_packages": {"type": "list", "elements": "str"},
    "virtual_env_find_links": {"type": "list", "elements": "str"},
    "envs": {"type": "dict"},
    "options": {"type": "dict", "default": {}},
    "refused": {"type": "str"},
    "register": {"type": "dict"},
}


def connection_spec() -> dict[str, dict[str, t.Any]]:
    """Documented in the doc fragment ``xinference``."""
    return {
        "url": {"type": "str", "default": "http://127.0.0.1:9997", "fallback": (env_fallback, ["XINFERENCE_URL"])},
        "username": {"type": "str", "fallback": (env_fallback, ["XINFERENCE_USERNAME"])},
        "password": {"type": "str", "no_log": True, "fallback": (env_fallback, ["XINFERENCE_PASSWORD"])},
        "api_key": {"type": "str", "no_log": True, "fallback": (env_fallback, ["XINFERENCE_API_KEY"])},
        "credentials_file": {"type": "path", "fallback": (env_fallback, ["XINFERENCE_CREDENTIALS_FILE"])},
        "validate_certs": {"type": "bool", "default": True},
        "ca_path": {"type": "path"},
        "timeout": {"type": "float", "default": 60},
    }


def account_of(params: dict[str, t.Any]) -> tuple[str | None, str | None]:
    """User name and password: as given, otherwise of the credentials file. Raises UnreadableFile."""
    if params.get("username") or not params.get("credentials_file"):
        return params.get("username"), params.get("password")
    admin = read_json(params["credentials_file"]).get("admin") or {}
    return admin.get("username"), admin.get("password")


def http_of(params: dict[str, t.Any]) -> JsonClient:
    # The server is on this host or in its network: a proxy meant for the internet would not find it.
    return JsonClient(params["url"], open_url_transport(params["validate_certs"], params["ca_path"], use_proxy=False), timeout=params["timeout"])


def client_of(params: dict[str, t.Any]) -> Xinference:
    """A client with the account of the options. Raises UnreadableFile."""
    username, password = account_of(params)
    return Xinference(http_of(params), username, password, params.get("api_key"))


__all__ = ["MODEL", "account_of", "client_of", "connection_spec", "http_of"]
