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
  gather:
    description: What to look at.
    type: list
    elements: str
    choices: [workspaces, plugins, models, defaults]
    default: [workspaces, plugins, models, defaults]
  models:
    description:
      - What Dify should know, as the option of the same name of M(llmops.dify_xinference.dify_models) takes it. With it, or
        with O(default_models), RV(drift) tells what differs; the same comparison as that module's.
    type: list
    elements: dict
    default: []
    suboptions:
      model: {description: Name shown in Dify. The uid by default., type: str}
      model_type:
        description: Dify's word for the kind of model.
        type: str
        choices: [llm, text-embedding, rerank, speech2text, tts, moderation]
        required: true
      model_uid: {description: Uid of the model on Xinference., type: str}
      server_url: {description: Address of Xinference., type: str}
      api_key: {description: Key of that Xinference., type: str}
      abilities: {description: What the model server says the model can do., type: list, elements: str, default: []}
      credentials: {description: More fields of the provider., type: dict, default: {}}
      secret_credentials: {description: Further such fields that are secrets., type: dict, default: {}}
      state: {description: Whether the model should be there., type: str, choices: [present, absent], default: present}
  default_models:
    description: Default model by type that Dify should have.
    type: dict
    default: {}
  provider:
    description: Provider whose models are reported.
    type: str
    default: langgenius/xinference/xinference
  credential_name:
    description: Name of the credentials that are ours; models with one that are not declared count as drift.
    type: str
    default: ansible
  state_file:
    description: The file of M(llmops.dify_xinference.dify_models) with the fingerprints of the registered keys. It is only read.
    type: path
"""

EXAMPLES = r"""
- name: Look at Dify
  llmops.dify_xinference.dify_info:
    url: http://127.0.0.1
    admin_key_file: /opt/dify/secrets.json
  register: dify

- name: Tell what differs from what is declared
  llmops.dify_xinference.dify_info:
    url: http://127.0.0.1
    admin_key_file: /opt/dify/secrets.json
    gather: []
    models:
      - model: chat
        model_type: llm
        server_url: http://192.0.2.10:9997
        api_key: "{{ xinference_key }}"
    default_models:
      llm: chat
  register: dify
  failed_when: dify.drift | length > 0
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
drift:
  description: What differs from O(models) and O(default_models); empty when all is as declared.
  type: list
  elements: dict
  returned: when O(models) or O(default_models) is given
  sample:
    - {what: model, name: llm/chat, action: update, reason: api_key differs}
requests:
  description: How many requests were sent to Dify.
  type: int
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify import DifyClient, DifyError, DifyUsageError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_args import (
    client_of,
    connection_arguments,
    hide_secrets,
    model_arguments,
    wanted_defaults,
    wanted_models,
)
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_memory import FileMemory
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_models import Registrar
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_schema import MODEL_TYPES
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_versions import provider_id
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
    provider = provider_id(provider, client.capabilities)
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
        result["default_models"] = {kind: client.default_model(kind) for kind in MODEL_TYPES if kind != "moderation"}
    return result


def drift_of(module: AnsibleModule, client: DifyClient, defaults: dict) -> list:
    """What dify_models would do, told instead of done."""
    params = module.params
    wanted = wanted_models(params)
    registrar = Registrar(client, params["provider"], lambda item: None, FileMemory(params["state_file"]), True, params["credential_name"])
    registrar.present(wanted)
    if wanted:
        registrar.prune(wanted)
    found = registrar.defaults(defaults)
    drift = [{"what": "model", "name": f"{item['model_type']}/{item['model']}", **_told(item)} for item in registrar.results]
    drift += [{"what": "default", "name": item["model_type"], **_told({"action": "set", **item})} for item in found]
    return [item for item in drift if item["action"] != "none"]


def _told(item: dict) -> dict:
    return {"action": item["action"] if item["changed"] or item["verdict"] == "failed" else "none", "reason": item["reason"]}


def main() -> None:
    arguments = connection_arguments()
    arguments.update(model_arguments())
    arguments["gather"] = {"type": "list", "elements": "str", "choices": PARTS, "default": PARTS}
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)
    hide_secrets(module)
    defaults = wanted_defaults(module)
    client = client_of(module)
    try:
        result = look(client, module.params["provider"], module.params["gather"])
        if (module.params["models"] or defaults) and result["setup"] == "finished":
            result["drift"] = drift_of(module, client, defaults)
    except (DifyError, DifyUsageError, ServerUnreachable) as error:
        module.fail_json(msg=f"Dify could not be looked at: {error}")
    module.exit_json(changed=False, requests=client.requests, **result)


if __name__ == "__main__":
    main()
