#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: xinference_info
short_description: Report what an Xinference server runs
version_added: 0.1.0
author:
  - The llmops.dify_xinference contributors (@llmops)
description:
  - Reports the models of a server, those that load or failed included, which of them come back after a restart, and the
    server's version. It works for every version from 0.13 on; what an old server does not know is empty.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes.info_module
  - llmops.dify_xinference.xinference
options:
  api_key:
    description: A key to look with, instead of an account.
    type: str
seealso:
  - module: llmops.dify_xinference.xinference_models
"""

EXAMPLES = r"""
- name: See what runs
  llmops.dify_xinference.xinference_info:
    credentials_file: /opt/xinference/credentials.json
  register: xinference
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
    autostart: {description: Whether it comes back after a restart., type: bool, returned: always, sample: true}
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import ServerUnreachable
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference import FAILED, LOADING, READY, LoginFailed, Xinference, XinferenceError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_args import client_of, connection_spec
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_files import UnreadableFile
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_run import shown_of


def report(client: Xinference) -> dict[str, t.Any]:
    """What the server runs. An API key may not read autostart entries: then none is reported."""
    records = client.models()
    instances = client.instances()
    try:
        autostart = client.autostart() or {}
    except LoginFailed:
        autostart = {}
    rows = []
    for uid in sorted(set(records) | set(instances)):
        record = records.get(uid, {})
        instance = instances.get(uid, {})
        status = str(instance.get("status") or "")
        if not record and status not in ("CREATING", "ERROR"):
            continue  # ended
        row = {
            "uid": uid,
            "type": record.get("model_type") or "",
            "name": record.get("model_name") or instance.get("model_name") or "",
            "state": READY if record else LOADING if status == "CREATING" else FAILED,
            "autostart": uid in autostart,
        }
        row.update(shown_of(record))
        rows.append(row)
    return {"models": rows, "version": client.version(), "auth": client.auth_required()}


def main() -> None:
    module = AnsibleModule(argument_spec=dict(connection_spec(), api_key={"type": "str", "no_log": True}), supports_check_mode=True)
    try:
        result = report(client_of(module.params, module.params["api_key"]))
    except (XinferenceError, ServerUnreachable, UnreadableFile) as problem:
        module.fail_json(msg=str(problem))
    else:
        module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
