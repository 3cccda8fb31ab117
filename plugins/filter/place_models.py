# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter that gives every declared model its GPUs, before anything is pulled or launched."""

from __future__ import annotations

import json
import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._placement import place
from ansible_collections.llmops.dify_xinference.plugins.module_utils._placement_gpus import Device, devices_of

DOCUMENTATION = r"""
name: place_models
short_description: Fit declared models on the GPUs that were found
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Gives every model that does not say where it runs its GPUs, so that none of them holds more than it can, and refuses what
    fits nowhere with what it needs, what each GPU has, who takes it, and what would fit.
  - What runs keeps its place. Then come models with C(gpus), which are never moved, LLMs, and everything else. The same input
    gives the same places.
  - vLLM and SGLang take a share of the whole GPU. Where such a model is not alone, and does not declare its share
    (C(options.gpu_memory_utilization), C(options.mem_fraction_static)), it gets one that leaves room for the others.
  - The need of a model is estimated from the parameters of its size, the bytes of its format and quantization, a
    key/value cache for one request of its whole context, and what its engine takes. Its option C(memory_gib) overrides that.
    The numbers and their sources are in C(plugins/module_utils/_model_memory.py) and C(_model_facts.py).
positional: _input, gpus
options:
  _input:
    description: The models, as O(llmops.dify_xinference.xinference_models#module:models), each with C(memory_gib) if its user knows better.
    type: list
    elements: dict
    required: true
  gpus:
    description:
      - The GPUs of the host, as RV(llmops.dify_xinference.gpu_preflight#module:gpus) has them. An empty list means that nothing is known.
      - For a cluster a dictionary of its workers, address to a dictionary with C(gpus) and C(visible).
    type: raw
    required: true
  visible:
    description: The GPUs that the server's container gets, V(all) or a list of indexes and UUIDs. It numbers them anew, from 0.
    type: raw
    default: all
  running:
    description: What was launched on the host, as the module's C(state_file) has it, as text or as a dictionary.
    type: raw
    default: {}
  leaving:
    description: Whether what runs and is not declared is about to be ended.
    type: bool
    default: false
  mode:
    description: V(none) leaves every model to the server.
    type: str
    choices: [auto, none]
    default: auto
"""

EXAMPLES = r"""
- name: See where the models would go
  ansible.builtin.debug:
    msg: "{{ (xinference_models | llmops.dify_xinference.place_models(gpu_preflight_result.gpus)).table }}"
"""

RETURN = r"""
_value:
  description: The placement.
  type: dict
  contains:
    models:
      description: The declaration with C(gpus), C(worker_ip) and shares filled in, and C(refused) with a reason on what must not be launched.
      type: list
      elements: dict
    placements:
      description: One entry per model with C(uid), C(type), C(action), C(gpus), C(worker), C(memory_gib), C(share) and C(reason).
        The action is V(placed), V(kept), V(pinned), V(left) to the server, V(cpu) or V(refused).
      type: list
      elements: dict
    gpus:
      description: Of each GPU C(index), C(worker), C(name), C(total_gib), C(others_gib), C(free_gib), C(models) (uid to GiB) and C(problem).
      type: list
      elements: dict
    refused:
      description: The uids of what was refused.
      type: list
      elements: str
    table:
      description: The same for people, one line per model and GPU.
      type: list
      elements: str
"""


def remembered(running: t.Any) -> dict[str, dict[str, t.Any]]:
    """uid -> launch request, of the state file's text or content. What cannot be read is reported by the module that owns it."""
    if isinstance(running, (str, bytes)):
        try:
            running = json.loads(running or "{}")
        except ValueError:
            return {}
    models = running.get("models", running) if isinstance(running, t.Mapping) else {}
    if not isinstance(models, t.Mapping):
        return {}
    entries = {str(uid): entry.get("launch", entry) for uid, entry in models.items() if isinstance(entry, t.Mapping)}
    return {uid: dict(launch) for uid, launch in entries.items() if isinstance(launch, t.Mapping)}


def table(found: t.Mapping[str, t.Any]) -> list[str]:
    lines = []
    for entry in found["placements"]:
        where = ("GPU " + ", ".join(map(str, entry["gpus"])) + (f" of {entry['worker']}" if entry["worker"] else "")) if entry["gpus"] else "-"
        share = f", share {entry['share']:.2f}" if entry["share"] is not None else ""
        lines.append(f"{entry['uid']} ({entry['type']}): {entry['action']}, {where}{share}: {entry['reason']}")
    for gpu in found["gpus"]:
        takers = [f"{uid} {gib:.1f}" for uid, gib in gpu["models"].items()] + ([f"others {gpu['others_gib']:.1f}"] if gpu["others_gib"] else [])
        place_of = f"GPU {gpu['index']}" + (f" of {gpu['worker']}" if gpu["worker"] else "")
        state = gpu["problem"] or f"{gpu['free_gib']:.1f} of {gpu['total_gib']:.1f} GiB free"
        lines.append(f"{place_of} {gpu['name']}: {state}" + (": " + ", ".join(takers) if takers else ""))
    return lines


def place_models(
    models: t.Sequence[t.Mapping[str, t.Any]],
    gpus: t.Any,
    visible: t.Any = "all",
    running: t.Any = None,
    leaving: bool = False,
    mode: str = "auto",
) -> dict[str, t.Any]:
    if mode not in ("auto", "none"):
        raise AnsibleFilterError(f"place_models: mode is {mode!r}, and can be auto or none")
    if not isinstance(models, (list, tuple)) or not all(isinstance(model, t.Mapping) for model in models):
        raise AnsibleFilterError("place_models: the models are no list of dictionaries")
    devices: list[Device] = []
    if isinstance(gpus, t.Mapping):
        for worker, entry in gpus.items():
            devices += devices_of(str(worker), entry.get("gpus") or [], entry.get("visible", "all"))
    else:
        devices = devices_of("", gpus or [], visible)
    found = place([dict(model) for model in models], devices, remembered(running), bool(leaving), mode)
    found["table"] = table(found)
    return found


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"place_models": place_models}
