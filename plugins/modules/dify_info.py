#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dify_info
short_description: Look at Dify's version, workspaces, plugins, models and defaults
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Reports what Dify has. Keys are shown as Dify masks them.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes.info_module
  - llmops.dify_xinference.dify
options:
  provider:
    description: Provider whose models are reported.
    type: str
    default: langgenius/xinference/xinference
  gather:
    description: What to look at.
    type: list
    elements: str
    choices: [workspaces, plugins, models, defaults]
    default: [workspaces, plugins, models, defaults]
"""

EXAMPLES = r"""
- name: Look at Dify
  llmops.dify_xinference.dify_info:
    url: http://127.0.0.1
    admin_key_file: /opt/dify/secrets.json
  register: dify
"""

RETURN = r"""
version:
  description: Dify's version.
  type: str
  returned: success
  sample: 1.16.1
setup:
  description: V(finished) once there is an administrator; else nothing more is reported.
  type: str
  returned: success
workspaces:
  description: Workspaces of the account (id, name, current).
  type: list
  elements: dict
  returned: when asked for
plugins:
  description: Installed plugins (plugin_id, version, source).
  type: list
  elements: dict
  returned: when asked for
models:
  description: Models of O(provider) with their credentials as Dify shows them.
  type: list
  elements: dict
  returned: when asked for
default_models:
  description: Default model by type; V(null) where there is none.
  type: dict
  returned: when asked for
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify import DifyClient, DifyError, DifyUsageError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_args import client_of, connection_arguments
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import ServerUnreachable

PARTS = ["workspaces", "plugins", "models", "defaults"]


def models_of(client: DifyClient, provider: str) -> list:
    models = []
    for entry in client.models(provider):
        credentials = client.credentials(provider, entry["model"], entry["model_type"])
        models.append(
            {
                "model": entry["model"],
                "model_type": entry["model_type"],
                "status": entry.get("status"),
                "credential_name": credentials.get("current_credential_name"),
                "credentials": credentials.get("credentials") or {},
            }
        )
    return models


def look(client: DifyClient, provider: str, gather: list) -> dict:
    state = client.setup_state()
    result = {"version": client.version, "setup": state.get("step")}
    if state.get("step") != "finished":
        return result
    if "workspaces" in gather:
        result["workspaces"] = [
            {key: item.get(key) for key in ("id", "name", "status", "current")} for item in (client.call("GET", "/workspaces") or {}).get("workspaces") or []
        ]
    if "plugins" in gather and client.capabilities.plugins:
        found = (client.workspace("GET", "/plugin/list", page="1", page_size="100") or {}).get("plugins") or []
        result["plugins"] = [{key: item.get(key) for key in ("plugin_id", "version", "source", "plugin_unique_identifier")} for item in found]
    if "models" in gather:
        result["models"] = models_of(client, provider)
    if "defaults" in gather:
        result["default_models"] = {kind: client.default_model(kind) for kind in ("llm", "text-embedding", "rerank", "speech2text", "tts")}
    return result


def main() -> None:
    arguments = connection_arguments()
    arguments["provider"] = {"type": "str", "default": "langgenius/xinference/xinference"}
    arguments["gather"] = {"type": "list", "elements": "str", "choices": PARTS, "default": PARTS}
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)
    try:
        result = look(client_of(module), module.params["provider"], module.params["gather"])
    except (DifyError, DifyUsageError, ServerUnreachable) as error:
        module.fail_json(msg=f"Dify could not be looked at: {error}")
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
