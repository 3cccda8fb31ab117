#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: xinference_info
short_description: Report what an Xinference server is and runs
version_added: 0.1.0
author:
  - The llmops.dify_xinference contributors (@llmops)
description:
  - Reports the models of a server, those that load or failed included, which of them come back after a restart, its
    version, what it can do, its workers and GPUs, and its custom models. It works for every version from 0.13 on; what an
    old server does not know, or does not tell this login, is empty.
  - With O(models) it also says what M(llmops.dify_xinference.xinference_models) would do for them, and why.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes.info_module
  - llmops.dify_xinference.xinference
options:
  gather:
    description: What to ask for besides the models. Each costs some requests.
    type: list
    elements: str
    choices: [cluster, registrations, replicas]
    default: [cluster, registrations, replicas]
  models:
    description: Declared models to compare with, as in O(llmops.dify_xinference.xinference_models#module:models).
    type: list
    elements: dict
    default: []
  state_file:
    description: The launches that are remembered, as in O(llmops.dify_xinference.xinference_models#module:state_file).
    type: path
    default: /opt/xinference/launched.json
seealso:
  - module: llmops.dify_xinference.xinference_models
"""

EXAMPLES = r"""
- name: See what runs
  llmops.dify_xinference.xinference_info:
    credentials_file: /opt/xinference/credentials.json
  register: xinference

- name: Fail when something differs from what is declared
  llmops.dify_xinference.xinference_info:
    credentials_file: /opt/xinference/credentials.json
    models: "{{ xinference_models }}"
    gather: []
  register: xinference
  failed_when: xinference.drift | selectattr('changed') | length > 0
"""

RETURN = r"""
version:
  description: The server's version, empty when the account may not see it.
  returned: success
  type: str
  sample: 4.1.0
auth:
  description: Whether the server asks for a login.
  returned: success
  type: bool
  sample: true
models:
  description: What runs, loads, or failed since the server's start.
  returned: success
  type: list
  elements: dict
  contains:
    uid: {description: The uid., type: str, returned: always, sample: chat}
    type: {description: "What it does, empty while it loads.", type: str, returned: always, sample: LLM}
    name: {description: The model's name on Xinference., type: str, returned: always, sample: qwen2.5-instruct}
    state: {description: "One of V(ready), V(loading), V(failed).", type: str, returned: always, sample: ready}
    address: {description: Address of the model's process., type: str, returned: always, sample: "127.0.0.1:42463"}
    accelerators: {description: Indexes of its GPUs., type: list, elements: str, returned: always, sample: ["0"]}
    abilities: {description: What the server says it can do., type: list, elements: str, returned: always, sample: [generate, chat]}
    engine: {description: The engine that runs it., type: str, returned: always, sample: vllm}
    replica: {description: Number of live copies., type: int, returned: always, sample: 1}
    context_length: {description: "Tokens of context, 0 if unknown.", type: int, returned: always, sample: 32768}
    dimensions: {description: "Length of an embedding's vectors, 0 for others.", type: int, returned: always, sample: 1024}
    autostart: {description: Whether the server brings it back after a restart., type: bool, returned: always, sample: true}
    error: {description: "Why it failed, in the server's words.", type: str, returned: always, sample: ""}
    replicas:
      description: Its copies, from 1.14 on.
      returned: always
      type: list
      elements: dict
      contains:
        id: {description: Number of the copy., type: int, returned: always, sample: 0}
        state: {description: "As V(ready), V(creating), V(error), V(terminated).", type: str, returned: always, sample: ready}
        worker: {description: Address of the worker that runs it., type: str, returned: always, sample: "127.0.0.1:31422"}
        address: {description: Address of its process., type: str, returned: always, sample: "127.0.0.1:42463"}
        accelerators: {description: Indexes of its GPUs., type: list, elements: str, returned: always, sample: ["0"]}
capabilities:
  description: What the server can do. C(replicas) and C(progress) come with 1.14 and 1.5, C(autostart) with 2.12.
  returned: success
  type: dict
  sample: {replicas: true, progress: true, autostart: true}
autostart:
  description: The uids that the server brings back after a restart.
  returned: success
  type: list
  elements: str
  sample: [chat]
nodes:
  description: Supervisor and workers. Empty when the login may not see them.
  returned: success
  type: list
  elements: dict
  contains:
    role: {description: "V(supervisor) or V(worker).", type: str, returned: always, sample: worker}
    address: {description: "Address, with the port from 1.x on.", type: str, returned: always, sample: "127.0.0.1:31422"}
    gpus: {description: Number of its GPUs., type: int, returned: always, sample: 2}
    gpu_memory_bytes: {description: Their memory in all., type: int, returned: always, sample: 32212254720}
gpus:
  description: Number of GPUs of all workers.
  returned: success
  type: int
  sample: 2
registrations:
  description: Custom models by type.
  returned: success
  type: dict
  sample: {embedding: [my-embedding]}
drift:
  description: What would be done for each of O(models), and why.
  returned: success
  type: list
  elements: dict
  contains:
    uid: {description: The uid., type: str, returned: always, sample: chat}
    action: {description: "As in RV(llmops.dify_xinference.xinference_models#module:models[].action).", type: str, returned: always, sample: replace}
    changed: {description: Whether something would be changed., type: bool, returned: always, sample: true}
    state: {description: "One of V(ready), V(loading), V(absent), V(failed).", type: str, returned: always, sample: ready}
    reason: {description: Why., type: str, returned: always, sample: differs in quantization}
    differs: {description: What differs., type: list, elements: str, returned: always, sample: [quantization]}
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import ServerUnreachable
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference import XinferenceError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_args import MODEL, client_of, connection_spec
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_files import Launched, UnreadableFile
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_report import drift_of, report


def checked(module: AnsibleModule) -> list[dict[str, t.Any]]:
    """The declared models with the types and defaults of xinference_models, whose documentation describes them."""
    models = []
    for model in module.params["models"]:
        for value in (model.get("envs") or {}).values() if isinstance(model.get("envs"), dict) else ():
            if len(str(value)) >= 12:
                module.no_log_values.add(str(value))
        result = ArgumentSpecValidator(MODEL).validate(model)
        if result.error_messages:
            module.fail_json(msg=f"models: {model.get('uid')}: {'; '.join(result.error_messages)}")
        models.append(result.validated_parameters)
    return models


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            connection_spec(),
            gather={
                "type": "list",
                "elements": "str",
                "choices": ["cluster", "registrations", "replicas"],
                "default": ["cluster", "registrations", "replicas"],
            },
            models={"type": "list", "elements": "dict", "default": []},
            state_file={"type": "path", "default": "/opt/xinference/launched.json"},
        ),
        supports_check_mode=True,
        no_log=True,  # the invocation is not written to the host's system log, for the sake of envs
    )
    declared = checked(module)
    # What may be shown of the arguments: a declared model may hold secrets.
    shown = dict(module.params, models=[model["uid"] for model in declared])
    shown.update({key: "(hidden)" if module.params[key] else None for key in ("password", "api_key")})
    try:
        client = client_of(module.params)
        result = report(client, module.params["gather"])
        result["drift"] = drift_of(client, declared, Launched(module.params["state_file"])) if declared else []
    except (XinferenceError, ServerUnreachable, UnreadableFile) as problem:
        module.fail_json(msg=str(problem), invocation={"module_args": shown})
    else:
        module.exit_json(changed=False, invocation={"module_args": shown}, **result)


if __name__ == "__main__":
    main()
