#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_preflight
short_description: Check whether a GPU host can run a given Xinference image
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Looks at a host before anything is installed on it, and says of every check whether it is fine, and if not, what was found and what to do.
  - Only reads, needs nothing but Python, and gives every command it runs a timeout.
  - Root is not needed. What cannot be seen without it has the status V(unknown), never V(ok).
  - Does not fail when a check fails, so that all findings can be shown; look at RV(failures).
extends_documentation_fragment:
  - llmops.dify_xinference.attributes.info_module
options:
  image_version:
    description:
      - Tag of the image C(xprobe/xinference) that is going to run. Driver, CUDA version and compute capability are judged against what it needs.
      - Leave empty to leave those checks out.
    type: str
    default: ""
  min_gpus:
    description: How many GPUs there have to be at least.
    type: int
    default: 1
  ignore:
    description: Ids of checks whose findings do not count. They are still reported, with the status V(skip).
    type: list
    elements: str
    default: []
  docker_space_gib:
    description: Free space that Docker's data folder needs, in GiB. The GPU image of Xinference alone unpacks to tens of GiB.
    type: float
    default: 60
  docker_root:
    description: Docker's data folder. When empty, it is taken from C(/etc/docker/daemon.json), or else it is C(/var/lib/docker).
    type: str
    default: ""
  model_path:
    description: Folder that is going to hold the models. Leave empty to leave the check out.
    type: str
    default: ""
  model_space_gib:
    description: Free space that the models need, in GiB.
    type: float
    default: 0
  ports:
    description: TCP ports that have to be free, or Xinference's already.
    type: list
    elements: int
    default: []
  nvidia_smi:
    description: Name or path of C(nvidia-smi).
    type: str
    default: nvidia-smi
  root:
    description:
      - Folder below which the GPU's own paths are looked for (C(proc/driver), C(sys/bus/pci), C(sys/module), C(dev)).
      - For hosts that replay a GPU. Memory, disks and ports are always the host's own.
    type: path
    default: /
seealso:
  - module: llmops.dify_xinference.docker_daemon_config
"""

EXAMPLES = r"""
- name: Judge the host against the image that is going to run
  llmops.dify_xinference.gpu_preflight:
    image_version: v4.1.0
    min_gpus: 2
    ports: [9997]
  register: result

- name: Name what is wrong
  ansible.builtin.fail:
    msg: "{{ result.verdicts | selectattr('status', 'equalto', 'fail') | map(attribute='message') | list }}"
  when: result.failures | length > 0
"""

RETURN = r"""
verdicts:
  description: One entry per check.
  returned: always
  type: list
  elements: dict
  sample:
    - id: D10
      name: driver_vs_image
      severity: fail
      status: fail
      message: "The driver 550.163.01 is too old for the image v4.1.0: CUDA 13.0 needs 580 or newer."
      remedy: Install driver 580 or newer, or set xinference_version to an older image.
      ignored: false
  contains:
    id:
      description: Stable id of the check.
      type: str
    name:
      description: Short name of the check.
      type: str
    severity:
      description: The worst that the check can find, V(fail), V(warn) or V(info).
      type: str
    status:
      description: V(ok), V(warn), V(fail), V(unknown) when it could not be seen, or V(skip) when it does not apply or is ignored.
      type: str
    message:
      description: What was found.
      type: str
    remedy:
      description: What to do about it; empty when nothing is to be done.
      type: str
    ignored:
      description: Whether the finding does not count because O(ignore) names it.
      type: bool
failures:
  description: Ids of the checks that failed and are not ignored.
  returned: always
  type: list
  elements: str
  sample: [D10]
summary:
  description: How many checks have which status.
  returned: always
  type: dict
  sample: {ok: 17, fail: 1}
gpus:
  description: The GPUs as the driver sees them. Memory is in MiB.
  returned: always
  type: list
  elements: dict
  sample:
    - index: 0
      uuid: GPU-2f4c0d2e-0000-4000-8000-000000000000
      bus_id: "0000:01:00.0"
      name: NVIDIA GeForce RTX 4090
      compute_capability: "8.9"
      memory_total_mib: 24564
      memory_used_mib: 1
      memory_free_mib: 24080
      mig_mode: "[N/A]"
      mig_mode_pending: "[N/A]"
      persistence_mode: Enabled
      driver_version: 580.95.05
      faults: []
pci_gpus:
  description: The GPUs on the PCI bus, known without a driver.
  returned: always
  type: list
  elements: dict
  sample:
    - bus_id: "0000:01:00.0"
      kind: gpu
      device_id: "2684"
      arch: ada
      compute_capability: "8.9"
      name: NVIDIA GeForce RTX 4090
driver:
  description: Versions of the driver, as loaded kernel module and as library, and the CUDA version it speaks.
  returned: always
  type: dict
  sample: {version: 580.95.05, loaded_version: 580.95.05, library_version: 580.95.05, cuda: "13.0"}
cuda:
  description: The newest CUDA version that the driver speaks; none without a driver.
  returned: always
  type: str
  sample: "13.0"
image:
  description: What the image needs; the values are none when its tag is in no table.
  returned: always
  type: dict
  sample: {version: v4.1.0, cuda: "13.0", min_driver: "580", min_compute_capability: "7.5"}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._core import Options
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight.run import IDS, preflight


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "image_version": {"type": "str", "default": ""},
            "min_gpus": {"type": "int", "default": 1},
            "ignore": {"type": "list", "elements": "str", "default": []},
            "docker_space_gib": {"type": "float", "default": 60},
            "docker_root": {"type": "str", "default": ""},
            "model_path": {"type": "str", "default": ""},
            "model_space_gib": {"type": "float", "default": 0},
            "ports": {"type": "list", "elements": "int", "default": []},
            "nvidia_smi": {"type": "str", "default": "nvidia-smi"},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    params = module.params
    unknown = sorted(set(params["ignore"]) - set(IDS))
    if unknown:
        module.fail_json(msg=f"ignore names checks that do not exist: {', '.join(unknown)}. The checks are {', '.join(IDS)}.")
    options = Options(**{name: params[name] for name in Options._fields if name != "ports"}, ports=tuple(params["ports"]))
    module.exit_json(changed=False, **preflight(options, params["ignore"]))


if __name__ == "__main__":
    main()
