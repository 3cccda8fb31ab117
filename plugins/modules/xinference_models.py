#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: xinference_models
short_description: Launch, keep and remove the models of an Xinference server, as one declared list
version_added: 0.1.0
author:
  - The llmops.dify_xinference contributors (@llmops)
description:
  - Takes the whole list of models, compares it with what runs, launches what is missing at the same time, waits until all
    serve, and returns one result per model. A model that cannot be launched gets its verdict, the others go on, and the
    module fails at the end with all that failed.
  - A launch is sent once. A uid that somebody else is launching is waited for. A second copy never comes to be.
  - What the server shows of a model is compared with the declaration. What it never shows (engine arguments, environment
    variables, the path) is compared with the launch that is remembered in O(state_file).
  - Where the server has autostart entries (2.12 and newer) they are kept in step, so that models come back after a restart.
  - While models download and load, the task shows what happens for each, as often as something changes, and at least every
    30 seconds. Nothing is shown with C(no_log), in the background (C(async)), in check mode, and with O(wait=false).
  - In check mode nothing is sent but questions, and a server that does not answer counts as one without models.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes.converging_module
  - llmops.dify_xinference.xinference
options:
  models:
    description: The declared models.
    type: list
    elements: dict
    required: true
    suboptions:
      uid:
        description:
          - The name by which others use the model. Without C(/) and spaces, at most 100 characters, and not ending in
            C(-<number>) or C(-rep<number>), which the server takes for a replica.
        type: str
        required: true
      state:
        description: Whether the model runs.
        type: str
        choices: [present, absent]
        default: present
      type:
        description: What it does. One of V(LLM), V(embedding), V(rerank), V(image), V(audio), V(video), V(flexible), V(world).
        type: str
        default: LLM
      name:
        description: The model's name on Xinference, built in or registered. Needed unless O(models[].register) names it.
        type: str
      engine:
        description: The engine, as V(vllm), V(transformers), V(sglang), V(llama.cpp). Needed for an V(LLM).
        type: str
      size:
        description: Size in billions, as V(7) or V(0_5).
        type: str
      format:
        description: Format of the weights, as V(pytorch), V(awq), V(gptq), V(ggufv2).
        type: str
      quantization:
        description: Quantization, as V(none), V(Int4).
        type: str
      replica:
        description: Number of copies that share the load. A change is made in place where the server can.
        type: int
      gpus:
        description: Indexes of the GPUs to use. Their number is a multiple of O(models[].replica).
        type: list
        elements: int
      n_gpu:
        description: Number of GPUs for each replica, V(auto), or V(cpu). If not set, the server decides.
        type: str
      worker_ip:
        description:
          - Worker to place the model on, as C(ip:port). A server without separate workers ignores it; then there is a warning.
        type: str
      model_path:
        description: Folder with the weights on the worker (inside the container).
        type: str
      download_hub:
        description: Where the weights come from, as V(huggingface) or V(modelscope).
        type: str
      peft_model_config:
        description:
          - LoRA adapters, as the server's REST API takes them. C(lora_list) is a list of C({lora_name, local_path}); for
            image models there are C(image_lora_load_kwargs) and C(image_lora_fuse_kwargs).
        type: dict
      request_limits:
        description: Number of requests that may wait for the model.
        type: int
      enable_virtual_env:
        description: Whether the model gets a Python environment of its own.
        type: bool
      virtual_env_packages:
        description: Packages for that environment.
        type: list
        elements: str
      virtual_env_find_links:
        description: Folders or URLs where that environment's packages are found, for hosts without a package index (4.x).
        type: list
        elements: str
      envs:
        description: Environment variables for the model's process. They never appear in output.
        type: dict
      options:
        description: Further arguments for the engine, as C(max_model_len). They are passed on as they are.
        type: dict
        default: {}
      refused:
        description:
          - Why this model must not be launched, as the filter P(llmops.dify_xinference.place_models#filter) says it. It becomes the
            model's verdict, and nothing is sent to the server for it.
        type: str
      register:
        description:
          - Specification of a custom model, as the server's C(/v1/model_registrations) takes it. It is registered before the
            launch, and replaced when the server's differs in something that is declared here.
        type: dict
  state_file:
    description: Where launches are remembered, with mode C(0600). It tells what is ours, and shows changes that the server hides.
    type: path
    default: /opt/xinference/launched.json
  replace:
    description: What happens to a running model that differs from its declaration. V(never) leaves it and warns.
    type: str
    choices: [when_changed, never]
    default: when_changed
  prune:
    description:
      - Which models that are not declared are ended. V(ours) are those that this module launched and remembers in
        O(state_file). V(all) are also those of others.
    type: str
    choices: [none, ours, all]
    default: none
  autostart:
    description: Whether the models come back by themselves after a restart of the server, where the server can do that.
    type: bool
    default: true
  wait:
    description: Whether to wait until the models serve. Without it no autostart entry is written until a later run.
    type: bool
    default: true
  wait_timeout:
    description: Seconds that one model may take, its download included. The server goes on when they are over.
    type: float
    default: 1800
  concurrency:
    description: How many models are launched at the same time.
    type: int
    default: 4
  share_gpus:
    description:
      - Whether models are launched at the same time even if they may meet on a GPU.
      - Without it two models that are pinned to the same GPU are launched one after the other, and what may land on the GPU
        of an LLM after that LLM, since an LLM takes the memory that it finds.
    type: bool
    default: false
  continuation:
    description:
      - How the action plugin of this module shows progress. It calls the module again and again, each time for some seconds,
        and hands over what the call before returned. It is of no use in a playbook.
    type: dict
seealso:
  - module: llmops.dify_xinference.xinference_info
  - module: llmops.dify_xinference.xinference_setup
"""

EXAMPLES = r"""
- name: Serve one model of each kind
  llmops.dify_xinference.xinference_models:
    credentials_file: /opt/xinference/credentials.json
    models:
      - {uid: chat, type: LLM, name: qwen2.5-instruct, engine: vllm, size: 7, format: awq, quantization: Int4, gpus: [0]}
      - {uid: embed, type: embedding, name: bge-m3}
      - {uid: rerank, type: rerank, name: bge-reranker-v2-m3}
    prune: ours
  register: xinference_models_result

- name: Remove one model
  llmops.dify_xinference.xinference_models:
    credentials_file: /opt/xinference/credentials.json
    models:
      - {uid: chat, state: absent}
"""

RETURN = r"""
models:
  description: One result per declared model, in the order of the declaration, then one per model that was pruned.
  returned: always
  type: list
  elements: dict
  contains:
    uid: {description: The uid., type: str, returned: always, sample: chat}
    type: {description: What it does., type: str, returned: always, sample: LLM}
    name: {description: The model's name on Xinference., type: str, returned: always, sample: qwen2.5-instruct}
    action:
      description: One of V(keep), V(launch), V(replace), V(scale), V(wait), V(remove), V(refuse), V(leave).
      type: str
      returned: always
      sample: launch
    changed: {description: Whether anything was changed for it., type: bool, returned: always, sample: true}
    failed: {description: Whether it is not as declared., type: bool, returned: always, sample: false}
    state: {description: "One of V(ready), V(loading), V(absent), V(failed).", type: str, returned: always, sample: ready}
    reason: {description: "Why the action, or the server's words for a failure.", type: str, returned: always, sample: not running}
    differs: {description: What differed from the declaration., type: list, elements: str, returned: always, sample: [quantization]}
    seconds: {description: How long it took., type: float, returned: always, sample: 41.5}
    address: {description: Address of the model's process., type: str, returned: always, sample: "127.0.0.1:42463"}
    accelerators: {description: Indexes of its GPUs., type: list, elements: str, returned: always, sample: ["0"]}
    abilities: {description: What the server says it can do., type: list, elements: str, returned: always, sample: [generate, chat]}
    engine: {description: The engine that runs it., type: str, returned: always, sample: vllm}
    replica: {description: Number of live copies., type: int, returned: always, sample: 1}
    context_length: {description: "Tokens of context, 0 if unknown.", type: int, returned: always, sample: 32768}
    dimensions: {description: "Length of an embedding's vectors, 0 for others.", type: int, returned: always, sample: 1024}
reachable:
  description: Whether the server answered. Only check mode goes on when it did not.
  returned: always
  type: bool
  sample: true
autostart:
  description: Whether the server brings models back after a restart.
  returned: always
  type: bool
  sample: true
pending:
  description: Models that are not ready yet. Always empty at the end of a task; see O(continuation).
  returned: always
  type: list
  elements: str
  sample: []
requests:
  description: Number of HTTP requests that were sent.
  returned: always
  type: int
  sample: 3
"""

import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import ServerUnreachable
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference import XinferenceError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_apply import NOTES, Converge
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_args import MODEL, client_of, connection_spec
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_files import Launched, UnreadableFile
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_model import is_secret


def hide_secrets(module: AnsibleModule) -> dict[str, t.Any]:
    """Arguments that may be shown. ``no_log`` on envs would do too much: a value of "0" would blank every 0 in the result."""
    models = []
    for model in module.params["models"]:
        for key, value in (model["envs"] or {}).items():
            if is_secret(key) or len(str(value)) >= 12:
                module.no_log_values.add(str(value))
        models.append(dict(model, envs=dict.fromkeys(model["envs"] or {}, "(hidden)")))
    secrets = {key: "(hidden)" if module.params[key] else None for key in ("password", "api_key")}
    return {"module_args": dict(module.params, models=models, continuation=None, **secrets)}


def failure_of(rows: list[dict[str, t.Any]]) -> str:
    """One message for everything that failed; empty when nothing did."""
    failed = [row for row in rows if row.get("failed")]
    if not failed:
        return ""
    return f"{len(failed)} of {len(rows)} models failed: " + "; ".join(f"{row['uid']}: {row['reason']}" for row in failed)


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            connection_spec(),
            models={"type": "list", "elements": "dict", "required": True, "options": MODEL},
            state_file={"type": "path", "default": "/opt/xinference/launched.json"},
            replace={"type": "str", "choices": ["when_changed", "never"], "default": "when_changed"},
            prune={"type": "str", "choices": ["none", "ours", "all"], "default": "none"},
            autostart={"type": "bool", "default": True},
            wait={"type": "bool", "default": True},
            wait_timeout={"type": "float", "default": 1800},
            concurrency={"type": "int", "default": 4},
            share_gpus={"type": "bool", "default": False},
            continuation={"type": "dict"},
        ),
        supports_check_mode=True,
        no_log=True,  # the invocation is not written to the host's system log, for the sake of envs
    )
    params = module.params
    continuation = params["continuation"] or {}
    result: dict[str, t.Any] = {
        "changed": False,
        "models": [],
        "reachable": True,
        "autostart": False,
        "requests": 0,
        "pending": [],
        "invocation": hide_secrets(module),
    }
    try:
        client = client_of(params)
        converge = Converge(client, Launched(params["state_file"]), params["models"], params)
        if module.check_mode:
            outcome = converge.predict()
        elif continuation.get("before"):
            outcome = converge.go_on(continuation["before"], float(continuation["slice"]))
        else:
            outcome = converge.carry_out(float(continuation["slice"]) if params["wait"] and continuation.get("slice") else None)
    except ServerUnreachable as problem:
        result["reachable"] = False
        module.fail_json(msg=f"{problem}. Is the server up, and is url right as seen from this host?", **result)
    except (XinferenceError, UnreadableFile) as problem:
        module.fail_json(msg=str(problem), **result)
    for warning in outcome.warnings:
        module.warn(warning)
    rows = outcome.rows
    if outcome.pending:
        result["at"] = time.monotonic()
    else:
        rows = [{key: value for key, value in row.items() if key not in NOTES} for row in rows]
    result.update(
        changed=any(row["changed"] for row in rows),
        models=rows,
        reachable=outcome.reachable,
        autostart=outcome.autostart,
        requests=client.requests + int((continuation.get("before") or {}).get("requests") or 0),
        pending=outcome.pending,
        diff=outcome.diff,
    )
    message = failure_of(rows)
    if message and not outcome.pending:
        module.fail_json(msg=message, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
