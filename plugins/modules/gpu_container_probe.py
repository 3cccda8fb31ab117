#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_container_probe
short_description: Ask CUDA in a container of the image that will run whether it can use the GPUs
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Runs C(cuInit) and counts the devices in a throw-away container with the same GPU request as Compose makes. This finds
    what C(nvidia-smi) hides, as a missing fabric manager (802) or a refused C(cuInit) (999).
  - Tells what the answers of Docker 20.10 to 29, of the toolkit and of CUDA mean, and what to do.
  - A good answer is remembered in a file on the host, and not asked for again while image, driver, toolkit and GPUs stay the same.
  - Needs C(python3) in the image. Whether the finding stops a play is the caller's decision; the module itself does not fail over it.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes
attributes:
  check_mode:
    support: full
    details: Nothing is pulled and nothing is remembered.
  diff_mode:
    support: none
  idempotent:
    support: full
    details: A probe never counts as a change.
options:
  image:
    description: The image, with its tag.
    type: str
    required: true
  gpus:
    description: The GPUs that the container is given, V(all) or a list of indexes and UUIDs.
    type: list
    elements: str
    default: [all]
  pull:
    description: Whether an image that is missing is pulled.
    type: bool
    default: true
  timeout:
    description: Seconds that the container may take.
    type: int
    default: 120
  pull_timeout:
    description: Seconds that the pull may take.
    type: int
    default: 7200
  stamp:
    description: File that a good answer is remembered in. When empty, none is.
    type: path
    default: /var/lib/llmops/gpu-probe.json
  root:
    description: Folder below which C(proc) and C(sys) are looked for, for tests.
    type: path
    default: /
  docker:
    description: The docker command.
    type: str
    default: docker
"""

EXAMPLES = r"""
- name: Ask CUDA in the image that will run
  llmops.dify_xinference.gpu_container_probe:
    image: xprobe/xinference:v4.1.0
  register: result
  failed_when: result.status == 'fail'
"""

RETURN = r"""
status:
  description: V(ok), V(fail), or V(unknown) when CUDA could not be asked.
  returned: always
  type: str
  sample: fail
cause:
  description: A stable word for what is wrong; empty when nothing is.
  returned: always
  type: str
  sample: system_not_ready
message:
  description: What was found.
  returned: always
  type: str
  sample: "cuInit in the container returns 802: the system is not yet initialised, although nvidia-smi looks fine."
remedy:
  description: What to do about it.
  returned: always
  type: str
  sample: On NVSwitch machines start nvidia-fabricmanager at exactly the driver's version (role nvidia_driver).
devices:
  description: How many GPUs CUDA sees in the container; none when it could not count.
  returned: always
  type: int
  sample: 2
cuda:
  description: The CUDA version that the driver speaks in the container.
  returned: always
  type: str
  sample: "13.2"
remembered:
  description: Whether an earlier answer was used, and no container was started.
  returned: always
  type: bool
  sample: false
"""

import glob
import json
import os
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _gpu_probe as probe
from ansible_collections.llmops.dify_xinference.plugins.module_utils._command import TIMED_OUT
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_host import command, read_file, write_file
from ansible_collections.llmops.dify_xinference.plugins.module_utils._nvidia import loaded_driver
from ansible_collections.llmops.dify_xinference.plugins.module_utils._nvidia_toolkit import PACKAGES

NAME = "llmops-gpu-probe"


def read_stamp(path: str) -> dict[str, t.Any]:
    """What was remembered; nothing when the file is missing or damaged."""
    try:
        found = json.loads(read_file(path) or "{}") if path else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def toolkit_version() -> str:
    """The installed toolkit, as the package manager names it; empty when there is none."""
    for argv in (["dpkg-query", "-W", "-f", "${Version}", PACKAGES[0]], ["rpm", "-q", "--queryformat", "%{VERSION}-%{RELEASE}", PACKAGES[0]]):
        status, out = command(argv)
        if status == 0:
            return out
    return ""


def expected_count(root: str, gpus: list[str]) -> int | None:
    """How many GPUs the container should see, by the driver's own list; ``None`` when that is not known, or GPUs are split (MIG shows one of them)."""
    proc = os.path.join(root, "proc/driver/nvidia")
    if glob.glob(os.path.join(proc, "capabilities/gpu*/mig/gi*")):
        return None
    try:
        bound = len(os.listdir(os.path.join(proc, "gpus")))
    except OSError:
        bound = 0
    return probe.wanted_count(gpus, bound or None)


def image_id(docker: str, image: str) -> str:
    status, out = command([docker, "image", "inspect", "--format", "{{.Id}}", image])
    return out.splitlines()[-1].strip() if status == 0 and out else ""


def ask(params: dict[str, t.Any], wanted: int | None) -> probe.Verdict:
    """One throw-away container."""
    argv = [params["docker"], "run", "--rm", "--name", NAME, "--network", "none", "--gpus", probe.gpu_request(params["gpus"])]
    argv += ["--entrypoint", "python3", params["image"], "-c", probe.PROGRAM]
    command([params["docker"], "rm", "--force", NAME])  # one that an interrupted run left behind
    status, text = command(argv, float(params["timeout"]))
    if status == TIMED_OUT:
        command([params["docker"], "rm", "--force", NAME])
    return probe.classify(status, text, wanted)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "image": {"type": "str", "required": True},
            "gpus": {"type": "list", "elements": "str", "default": ["all"]},
            "pull": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 120},
            "pull_timeout": {"type": "int", "default": 7200},
            "stamp": {"type": "path", "default": "/var/lib/llmops/gpu-probe.json"},
            "root": {"type": "path", "default": "/"},
            "docker": {"type": "str", "default": "docker"},
        },
        supports_check_mode=True,
    )
    params = module.params
    if not params["gpus"]:
        module.fail_json(msg="gpus is empty: without GPUs there is nothing to ask. Leave the probe out for such a container.")
    found = image_id(params["docker"], params["image"])
    if not found and module.check_mode:
        verdict = probe.Verdict(probe.UNKNOWN, "image_missing", f"{params['image']} is not on the host yet, so CUDA was not asked.", "")
        module.exit_json(changed=False, remembered=False, **verdict._asdict())
    if not found and params["pull"]:
        status, text = command([params["docker"], "pull", "--quiet", params["image"]], float(params["pull_timeout"]))
        if status != 0:
            module.exit_json(changed=False, remembered=False, **probe.classify(status, text, None)._asdict())
        found = image_id(params["docker"], params["image"])
    circumstances = {
        "image": params["image"],
        "image_id": found,
        "gpus": params["gpus"],
        "driver": loaded_driver(params["root"]) or "",
        "toolkit": toolkit_version(),
    }
    stamp = read_stamp(params["stamp"])
    if stamp.get("verdict") and probe.same_probe(stamp, circumstances):
        module.exit_json(changed=False, remembered=True, **stamp["verdict"])
    verdict = ask(params, expected_count(params["root"], params["gpus"]))
    if verdict.status == probe.OK and params["stamp"] and not module.check_mode:
        about = "The last good answer of llmops.dify_xinference.gpu_container_probe; delete it to have CUDA asked again."
        record = {"about": about, **circumstances, "at": int(time.time()), "verdict": verdict._asdict()}
        try:
            write_file(params["stamp"], json.dumps(record, indent=2, sort_keys=True) + "\n")
        except OSError as error:
            module.warn(f"The probe's answer could not be remembered: {error}")
    module.exit_json(changed=False, remembered=False, **verdict._asdict())


if __name__ == "__main__":
    main()
