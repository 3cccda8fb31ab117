#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: xinference_cluster
short_description: Wait until the workers of an Xinference cluster are registered, and its models serve
version_added: 0.1.0
author:
  - The llmops.dify_xinference contributors (@llmops)
description:
  - A supervisor answers long before its workers are there, and refuses to launch until then. This module waits for the
    workers of the inventory, names those that are missing after O(wait_timeout), and those that are registered and in no inventory.
  - Workers that joined since the last run are told the registrations of custom models, which the server itself does not do.
  - With O(models_of) it also waits until what was launched before serves again, as after a host was restarted.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes
  - llmops.dify_xinference.xinference
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  workers:
    description: The workers that belong to the cluster, as a dictionary of their names and addresses (without ports).
    type: dict
    required: true
  wait_for:
    description:
      - Names of the workers to wait for. The others are named when they are missing, and no more.
      - If not set, all are waited for.
    type: list
    elements: str
  min_workers:
    description: With fewer workers the module fails.
    type: int
    default: 1
  wait_timeout:
    description: Seconds to wait for all workers, and again for all models.
    type: float
    default: 300
  registrations:
    description: Declared models that may have a C(register), as O(llmops.dify_xinference.xinference_models#module:models) takes them.
    type: list
    elements: dict
    default: []
  state_file:
    description:
      - Where it is remembered which workers know the registrations.
      - If not set, nothing is registered, and nothing remembered.
    type: path
  models_of:
    description: The file in which M(llmops.dify_xinference.xinference_models) remembers its launches. Its models are waited for.
    type: path
seealso:
  - module: llmops.dify_xinference.xinference_models
"""

EXAMPLES = r"""
- name: Wait for the workers
  llmops.dify_xinference.xinference_cluster:
    url: http://192.0.2.10:9997
    credentials_file: /opt/xinference/credentials.json
    state_file: /opt/xinference/workers.json
    workers: {gpu1: 192.0.2.11, gpu2: 192.0.2.12}
"""

RETURN = r"""
present:
  description: Names and addresses of the workers that are registered.
  returned: always
  type: dict
  sample: {gpu1: 192.0.2.11}
missing:
  description: Names and addresses of the workers that are not.
  returned: always
  type: dict
  sample: {gpu2: 192.0.2.12}
unknown:
  description: Addresses of workers that are registered and not in O(workers).
  returned: always
  type: list
  elements: str
  sample: [192.0.2.13]
told:
  description: Names of custom models that were registered again for workers that joined.
  returned: always
  type: list
  elements: str
  sample: [my-embedding]
not_ready:
  description: Models of O(models_of) that do not serve after O(wait_timeout).
  returned: always
  type: list
  elements: str
  sample: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import ServerUnreachable
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference import XinferenceError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_args import client_of, connection_spec
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_cluster import Cluster, newcomers, remember, roll_call
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_files import Launched, UnreadableFile
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_plan import type_of


def registrations_of(models: list[dict[str, t.Any]]) -> list[tuple[str, dict[str, t.Any]]]:
    """(type, specification) of every declared model that brings its own."""
    found = []
    for model in models:
        spec = model.get("register")
        if isinstance(spec, dict) and model.get("state") != "absent":
            named = dict(spec, model_name=model.get("name") or spec.get("model_name"))
            pair = (str(type_of(model.get("type") or "LLM")), named)
            if pair not in found:
                found.append(pair)
    return found


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            connection_spec(),
            workers={"type": "dict", "required": True},
            wait_for={"type": "list", "elements": "str"},
            min_workers={"type": "int", "default": 1},
            wait_timeout={"type": "float", "default": 300},
            registrations={"type": "list", "elements": "dict", "default": []},
            state_file={"type": "path"},
            models_of={"type": "path"},
        ),
        supports_check_mode=True,
    )
    params = module.params
    wanted = {str(host): str(address) for host, address in params["workers"].items()}
    result: dict[str, t.Any] = {"changed": False, "present": {}, "missing": wanted, "unknown": [], "told": [], "not_ready": []}
    try:
        cluster = Cluster(client_of(params))
        if module.check_mode:
            roll = roll_call(wanted, cluster.workers())
        else:
            roll = cluster.wait_for_workers(wanted, params["wait_timeout"], params["wait_for"], params["min_workers"])
        result.update(roll._asdict())
        if len(roll.present) < min(params["min_workers"], len(wanted)) and not module.check_mode:
            listed = ", ".join(f"{host} ({address})" for host, address in roll.missing.items())
            module.fail_json(
                msg=f"{len(roll.present)} of {len(wanted)} workers are registered with {params['url']} after {params['wait_timeout']:.0f} s. "
                f"Missing: {listed}. Look at `docker ps` and `docker logs` of the worker's container on those hosts, and whether they reach {params['url']}.",
                **result,
            )
        registrations = registrations_of(params["registrations"])
        if params["state_file"] and registrations and newcomers(params["state_file"], roll.present.values()):
            if module.check_mode:
                result["told"] = [spec["model_name"] for _model_type, spec in registrations]
            else:
                result["told"] = cluster.tell(registrations)
            result["changed"] = bool(result["told"])
        if params["state_file"] and not module.check_mode:
            remember(params["state_file"], roll.present.values())
        if params["models_of"] and not module.check_mode:
            result["not_ready"] = cluster.wait_for_models(Launched(params["models_of"]).load(), params["wait_timeout"])
    except (XinferenceError, ServerUnreachable, UnreadableFile) as problem:
        module.fail_json(msg=str(problem), **result)
    if result["not_ready"]:
        listed = ", ".join(result["not_ready"])
        module.fail_json(msg=f"After {params['wait_timeout']:.0f} s these models do not serve: {listed}. Look at `docker logs` of the server.", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
