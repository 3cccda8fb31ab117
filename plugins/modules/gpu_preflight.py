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
  - Only reads, needs nothing but Python, runs the checks side by side, and gives every command a timeout.
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
    description:
      - Checks whose findings do not count. They are still reported, with the status V(skip) and the reason.
      - A mapping of ids to reasons, or a list of ids or of mappings with C(id) and C(reason).
    type: raw
    default: {}
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
    description: Free space that the models need, in GiB. When 0, it is what O(models) take, as far as that is known.
    type: float
    default: 0
  models:
    description:
      - Models that are going to run here, as M(llmops.dify_xinference.xinference_models) takes them. Their memory and disk space are estimated.
      - Only what says how large a model is has to be given (C(uid), C(name), C(type), C(engine), C(size), C(format), C(quantization), C(n_gpu) and the like).
    type: list
    elements: dict
    default: []
  ports:
    description: TCP ports that have to be free, or Xinference's already.
    type: list
    elements: int
    default: []
  mirrors:
    description: URLs of registry mirrors that are going to be used. Each is asked for the images, down to the first bytes of a layer.
    type: list
    elements: str
    default: []
  mirror_images:
    description: Images of Docker Hub to ask the mirrors for.
    type: list
    elements: str
    default: []
  apt_repositories:
    description: URLs of the signed index of apt repositories that are going to be used. In them, C($(ARCH)), C($(ID)) and C($(CODENAME)) stand for this host's.
    type: list
    elements: str
    default: []
  model_hubs:
    description: URLs of small files on the model hubs that are going to be used.
    type: list
    elements: str
    default: []
  package_indexes:
    description: URLs of the Python package indexes that engines are going to be installed from.
    type: list
    elements: str
    default: []
  time_urls:
    description: Further HTTP servers to compare the clock with. All that are asked anyway count as well.
    type: list
    elements: str
    default: []
  require:
    description:
      - Software that the host itself has to have, and its smallest version; an empty text for any.
      - Without this, a CUDA toolkit and cuDNN on the host are reported and said to be unnecessary, because the image brings its own.
    type: dict
    default: {}
    suboptions:
      cuda_toolkit:
        description: Smallest version of the CUDA toolkit.
        type: str
      cudnn:
        description: Smallest version of cuDNN.
        type: str
  expect_installed:
    description: Whether Docker and the NVIDIA container toolkit have to be there already, so that their absence is a finding.
    type: bool
    default: false
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
    models:
      - {uid: chat, name: qwen2.5-instruct, type: LLM, engine: vllm, size: 7, format: pytorch, quantization: none}
    ignore:
      C08: This riser has four lanes, and models are loaded once a month.
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
      found: fail
      message: "The driver 550.163.01 is too old for the image v4.1.0: CUDA 13.0 needs 580 or newer."
      remedy: Install driver 580 or newer, or set xinference_version to an older image.
      ignored: false
      reason: ""
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
      description: V(ok), V(info), V(warn), V(fail), V(unknown) when it could not be seen, or V(skip) when it does not apply or is ignored.
      type: str
    found:
      description: The status that it would have if it were not ignored.
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
    reason:
      description: Why it is ignored, in the words of O(ignore).
      type: str
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
  sample: {ok: 87, info: 2, unknown: 3, skip: 8, fail: 1}
gpus:
  description:
    - The GPUs as the driver sees them. Memory is in MiB. What a card does not have or its driver does not tell is none.
  returned: always
  type: list
  elements: dict
  sample:
    - index: 0
      uuid: GPU-2f4c0d2e-0000-4000-8000-000000000000
      bus_id: "0000:01:00.0"
      name: NVIDIA GeForce RTX 4090
      compute_capability: "8.9"
      arch: ada
      memory_total_mib: 24564
      memory_used_mib: 1
      memory_free_mib: 24080
      mig_mode: "[N/A]"
      mig_mode_pending: "[N/A]"
      mig_instances: 0
      mig_devices: []
      persistence_mode: Enabled
      driver_version: 580.95.05
      pcie_gen: 1
      pcie_gen_max: 4
      pcie_width: 16
      pcie_width_max: 16
      numa_node: 0
      temperature_c: 34
      power_limit_w: 450.0
      power_default_limit_w: 450.0
      ecc_uncorrected: null
      ecc_uncorrected_ever: null
      retired_pending: null
      remap_pending: null
      remap_failure: null
      recovery_action: None
      throttle_bits: 1
      compute_mode: Default
      display_active: Disabled
      fabric_state: null
      fabric_status: null
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
      driver: nvidia
      link_width: 16
      link_width_max: 16
      numa_node: 0
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
host_cuda:
  description: CUDA toolkits and cuDNN on the host, which containers do not use.
  returned: always
  type: dict
  sample: {toolkit: [{version: 12.8.1, where: /usr/local/cuda-12.8}], cudnn: []}
seconds:
  description: How long the look took, in seconds.
  returned: always
  type: float
  sample: 0.8
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight.run import Options, model_of, preflight, reasons_of

LISTS = ("ports", "mirrors", "mirror_images", "apt_repositories", "model_hubs", "package_indexes", "time_urls")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "image_version": {"type": "str", "default": ""},
            "min_gpus": {"type": "int", "default": 1},
            "ignore": {"type": "raw", "default": {}},
            "docker_space_gib": {"type": "float", "default": 60},
            "docker_root": {"type": "str", "default": ""},
            "model_path": {"type": "str", "default": ""},
            "model_space_gib": {"type": "float", "default": 0},
            "models": {"type": "list", "elements": "dict", "default": []},
            "ports": {"type": "list", "elements": "int", "default": []},
            "mirrors": {"type": "list", "elements": "str", "default": []},
            "mirror_images": {"type": "list", "elements": "str", "default": []},
            "apt_repositories": {"type": "list", "elements": "str", "default": []},
            "model_hubs": {"type": "list", "elements": "str", "default": []},
            "package_indexes": {"type": "list", "elements": "str", "default": []},
            "time_urls": {"type": "list", "elements": "str", "default": []},
            "require": {"type": "dict", "default": {}, "options": {"cuda_toolkit": {"type": "str"}, "cudnn": {"type": "str"}}},
            "expect_installed": {"type": "bool", "default": False},
            "nvidia_smi": {"type": "str", "default": "nvidia-smi"},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        ignored = reasons_of(params["ignore"])
    except ValueError as error:
        module.fail_json(msg=str(error))
    values = {name: params[name] for name in Options._fields if name in params}
    values.update({name: tuple(params[name]) for name in LISTS})
    values["models"] = tuple(model_of(model) for model in params["models"])
    values["require"] = {name: version for name, version in (params["require"] or {}).items() if version is not None}
    module.exit_json(changed=False, **preflight(Options(**values), ignored))


if __name__ == "__main__":
    main()
