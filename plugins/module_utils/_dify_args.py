# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Connection options of the Dify modules: declared once, and turned into a client."""

from __future__ import annotations

import json
import re
import typing as t

from ansible.module_utils.basic import env_fallback
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify import TIMEOUT, DifyClient
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_memory import SessionFile
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_plan import MODEL_TYPES, XINFERENCE_DEFAULTS, WantedModel
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_schema import as_text
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import JsonClient, open_url_transport

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

# Names like api_key, access_token, aws_secret_access_key; not max_tokens.
_SECRET_NAME = re.compile(r"(^|_)(key|apikey|secret|token|password|passwd)$", re.IGNORECASE)

# Seconds to wait, in all, for a plugin daemon that is down: one that is restarted takes about a minute.
DAEMON_WAIT = 90.0


def connection_arguments() -> dict[str, dict[str, t.Any]]:
    return {
        "url": {"type": "str", "required": True, "fallback": (env_fallback, ["DIFY_URL"])},
        "admin_key": {"type": "str", "no_log": True, "fallback": (env_fallback, ["DIFY_ADMIN_KEY"])},
        "admin_key_file": {"type": "path", "no_log": False, "fallback": (env_fallback, ["DIFY_ADMIN_KEY_FILE"])},
        "email": {"type": "str", "fallback": (env_fallback, ["DIFY_EMAIL"])},
        "password": {"type": "str", "no_log": True, "fallback": (env_fallback, ["DIFY_PASSWORD"])},
        "session_file": {"type": "path"},
        "workspace_id": {"type": "str", "fallback": (env_fallback, ["DIFY_WORKSPACE_ID"])},
        "validate_certs": {"type": "bool", "default": True},
        "ca_path": {"type": "path"},
        "timeout": {"type": "float", "default": TIMEOUT},
    }


def model_arguments() -> dict[str, dict[str, t.Any]]:
    """What Dify shall know: the same options for the module that sees to it and the one that compares."""
    return {
        "models": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "model": {"type": "str"},
                "model_type": {"type": "str", "choices": list(MODEL_TYPES), "required": True},
                "model_uid": {"type": "str"},
                "server_url": {"type": "str"},
                "api_key": {"type": "str", "no_log": True},
                "abilities": {"type": "list", "elements": "str", "default": []},
                "credentials": {"type": "dict", "default": {}, "no_log": False},
                "secret_credentials": {"type": "dict", "default": {}, "no_log": True},
                "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            },
            "required_one_of": [("model", "model_uid")],
        },
        "default_models": {"type": "dict", "default": {}},
        "provider": {"type": "str", "default": "langgenius/xinference/xinference"},
        "credential_name": {"type": "str", "default": "ansible"},
        "state_file": {"type": "path"},
    }


def wanted_models(params: dict[str, t.Any]) -> list[WantedModel]:
    wanted = []
    for item in params["models"]:
        credentials: dict[str, str] = {}
        if item["server_url"]:
            credentials.update(XINFERENCE_DEFAULTS)
            # No trailing slash: some kinds store it without, and would differ for ever.
            credentials["server_url"] = item["server_url"].rstrip("/")
            credentials["model_uid"] = item["model_uid"] or item["model"] or ""
            if item["api_key"]:
                credentials["api_key"] = item["api_key"]
        elif item["model_uid"]:
            credentials["model_uid"] = item["model_uid"]
        for given in (item["credentials"], item["secret_credentials"]):
            # To Dify an empty field is one that was not sent.
            credentials.update({key: as_text(value) for key, value in given.items() if value not in (None, "")})
        name = item["model"] or item["model_uid"] or ""
        wanted.append(WantedModel(name, item["model_type"], credentials, tuple(item["abilities"]), item["state"] == "absent"))
    return wanted


def wanted_defaults(module: AnsibleModule) -> dict[str, str]:
    """The defaults by type. Ends the module for a type that Dify does not have, or a credential name it would not take."""
    params = module.params
    if not 1 <= len(params["credential_name"]) <= 30:
        module.fail_json(msg=f"credential_name has {len(params['credential_name'])} characters; Dify takes 1 to 30.")
    bad_types = sorted(set(params["default_models"]) - set(MODEL_TYPES))
    if bad_types:
        module.fail_json(msg=f"default_models: unknown type {', '.join(bad_types)}; known are {', '.join(MODEL_TYPES)}.")
    return {str(key): str(value) for key, value in params["default_models"].items() if value}


def read_key(path: str, name: str, plain: bool = True) -> str:
    """A key from a file: the file is either the key itself (with ``plain``) or a JSON object that holds it under ``name``."""
    with open(path, encoding="utf-8") as handle:
        text = handle.read().strip()
    if text.startswith("{"):
        return str(json.loads(text).get(name) or "")
    return text if plain else ""


def http_client(module: AnsibleModule, url: str, timeout: float, retries: int = 2) -> JsonClient:
    transport = open_url_transport(validate_certs=module.params["validate_certs"], ca_path=module.params.get("ca_path"))
    return JsonClient(url, transport, timeout=timeout, retries=retries)


def hide_secrets(module: AnsibleModule) -> None:
    """What stands in ``credentials`` under a name that says it is secret appears in no output, as if it stood in ``secret_credentials``."""
    for item in module.params["models"]:
        module.no_log_values.update(as_text(value) for name, value in item["credentials"].items() if value and _SECRET_NAME.search(name))


def client_of(module: AnsibleModule) -> DifyClient:
    """The client that the module's connection options describe. Ends the module when the key file cannot be read."""
    params = module.params
    key, password = params["admin_key"], params["password"]
    if not key and params["admin_key_file"]:
        try:
            key = read_key(params["admin_key_file"], "ADMIN_API_KEY")
        except (OSError, ValueError) as error:
            module.fail_json(msg=f"admin_key_file {params['admin_key_file']} cannot be read: {error}. It is written by the dify role on the Dify host.")
        if not key:
            module.fail_json(msg=f"admin_key_file {params['admin_key_file']} holds no ADMIN_API_KEY.")
        module.no_log_values.add(key)
        if params["email"] and not password:
            # Where the key is not honoured (1.9.2 to 1.10.1) there has to be a login, and the dify role keeps its password beside the key.
            password = read_key(params["admin_key_file"], "ADMIN_PASSWORD", plain=False) or None
            if password:
                module.no_log_values.add(password)
    sessions = SessionFile(params["session_file"], params["url"], params["email"])
    return DifyClient(
        http_client(module, params["url"], params["timeout"]),
        admin_key=key,
        email=params["email"],
        password=password,
        workspace_id=params["workspace_id"],
        daemon_wait=DAEMON_WAIT,
        session=sessions.load(),
        keep=None if module.check_mode else sessions.save,
    )


__all__ = ["client_of", "connection_arguments", "hide_secrets", "http_client", "model_arguments", "read_key", "wanted_defaults", "wanted_models"]
