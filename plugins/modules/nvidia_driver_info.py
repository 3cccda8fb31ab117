#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_driver_info
short_description: Tell which NVIDIA driver a host has, and which packages would bring the one it should have
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Chooses branch, kernel modules and packages from the GPUs that are found, in one call and without a driver.
  - Says before anything is installed why a host cannot be served, as Secure Boot with a module that is built on the host, or a GPU
    that is too old or too new for the branch.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes.info_module
options:
  branch:
    description:
      - The driver's branch, as V(580).
      - V(auto) keeps an installed one that will do, and else takes the long-term branch, or a newer one where a GPU or O(image_version) needs it.
    type: str
    default: auto
  modules:
    description: The kernel modules. V(auto) takes the open ones, unless a GPU is older than Turing.
    type: str
    choices: [auto, open, proprietary]
    default: auto
  source:
    description:
      - V(distribution) takes Ubuntu's signed modules, or Debian's packages; V(nvidia) takes NVIDIA's repository.
      - V(auto) takes Ubuntu's own on Ubuntu, and NVIDIA's on Debian.
    type: str
    choices: [auto, distribution, nvidia]
    default: auto
  version:
    description: Exact version, as apt names it. When empty, an installed version of the branch stays.
    type: str
    default: ""
  image_version:
    description: Tag of the image of Xinference that will run. A driver that is too old for it is refused. Empty, or in no table, it is not compared.
    type: str
    default: ""
  key_enrolled:
    description: Whether modules that are built on the host are signed with a key that Secure Boot knows.
    type: bool
    default: false
  headers:
    description: Whether the headers of the running kernel are among the packages, where the module is built on the host.
    type: bool
    default: true
  root:
    description: Folder below which C(proc) and C(sys) are looked for, for tests.
    type: path
    default: /
  docker_socket:
    description: Socket of the Docker daemon.
    type: path
    default: /var/run/docker.sock
"""

EXAMPLES = r"""
- name: Look at the driver
  llmops.dify_xinference.nvidia_driver_info:
    image_version: v4.1.0
  register: result
"""

RETURN = r"""
refusal:
  description: Why the host cannot be served; empty when it can.
  returned: always
  type: str
  sample: ""
messages:
  description: What is worth knowing about the choice.
  returned: always
  type: list
  elements: str
  sample: []
branch:
  description: The branch that was chosen.
  returned: always
  type: int
  sample: 580
modules:
  description: V(open) or V(proprietary).
  returned: always
  type: str
  sample: open
source:
  description: V(distribution) or V(nvidia).
  returned: always
  type: str
  sample: nvidia
packages:
  description: What apt has to be asked for.
  returned: always
  type: list
  elements: str
  sample: [nvidia-open-580, linux-headers-6.12.48+deb13-amd64]
satisfied:
  description: Whether the driver that is installed will do.
  returned: always
  type: bool
  sample: false
hold:
  description: Packages of the driver that are not held.
  returned: always
  type: list
  elements: str
  sample: []
release:
  description: Held packages of the driver that have to be released before another version is installed.
  returned: always
  type: list
  elements: str
  sample: []
installed:
  description: Version of the installed driver; empty when there is none.
  returned: always
  type: str
  sample: 580.173.02
loaded:
  description: Version of the loaded driver; empty when none is loaded.
  returned: always
  type: str
  sample: 580.95.05
fabric_manager:
  description: Whether the host has NVSwitches, and so needs a fabric manager of the driver's very version.
  returned: always
  type: bool
  sample: false
reboot:
  description: Why the host has to be rebooted; empty when it has not.
  returned: always
  type: str
  sample: driver 580.173.02 is installed and 580.95.05 is loaded
os:
  description: What the host says it is.
  returned: always
  type: dict
  sample: {id: debian, version: "13", machine: x86_64}
nouveau:
  description: Whether nouveau is loaded.
  returned: always
  type: bool
  sample: false
in_use:
  description: Names of the running containers that have GPUs.
  returned: always
  type: list
  elements: str
  sample: [xinference]
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils._cuda import image_needs
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_host import DockerHost, HostError, command, read_file
from ansible_collections.llmops.dify_xinference.plugins.module_utils._gpu_probe import has_gpus
from ansible_collections.llmops.dify_xinference.plugins.module_utils._nvidia import loaded_driver, pci_cards
from ansible_collections.llmops.dify_xinference.plugins.module_utils._nvidia_driver import Found, Wish, plan
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight.host import parse_os_release

SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def secure_boot(root: str) -> bool | None:
    """The firmware's own variable; its fifth byte is the value."""
    try:
        with open(os.path.join(root, SECURE_BOOT), "rb") as stream:
            return stream.read(5)[4:5] == b"\x01"
    except FileNotFoundError:
        return False
    except OSError:
        return None


def installed_packages() -> dict[str, tuple[str, bool]]:
    """Version and hold of all installed packages: which of them are the driver's is the plan's business."""
    status, out = command(["dpkg-query", "--show", "--showformat", "${db:Status-Want} ${db:Status-Status} ${Package} ${Version}\n"])
    rows = [line.split() for line in out.splitlines()] if status == 0 else []
    return {row[2]: (row[3], row[0] == "hold") for row in rows if len(row) == 4 and row[1] == "installed"}


def gpu_containers(socket: str) -> list[str]:
    host = DockerHost(endpoint=socket)
    try:
        return sorted(str(entry["Names"][0]).lstrip("/") for entry in host.get("/containers/json") if has_gpus(host.get(f"/containers/{entry['Id']}/json")))
    except HostError:
        return []


def main() -> None:
    choices: dict[str, t.Any] = {"type": "str", "default": "auto"}
    module = AnsibleModule(
        argument_spec={
            "branch": {"type": "str", "default": "auto"},
            "modules": {**choices, "choices": ["auto", "open", "proprietary"]},
            "source": {**choices, "choices": ["auto", "distribution", "nvidia"]},
            "version": {"type": "str", "default": ""},
            "image_version": {"type": "str", "default": ""},
            "key_enrolled": {"type": "bool", "default": False, "no_log": False},
            "headers": {"type": "bool", "default": True},
            "root": {"type": "path", "default": "/"},
            "docker_socket": {"type": "path", "default": "/var/run/docker.sock"},
        },
        supports_check_mode=True,
    )
    params = module.params
    root = params["root"]
    if params["branch"] != "auto" and not params["branch"].isdigit():
        module.fail_json(msg=f"branch is {params['branch']!r}; it is auto, or a number as 580.")
    release = parse_os_release(read_file("/etc/os-release") or "")
    kernel = os.uname().release
    loaded = loaded_driver(root) or ""
    nouveau = os.path.isdir(os.path.join(root, "sys/module/nouveau"))
    found = Found(
        os_id=release.get("ID", ""),
        os_version=release.get("VERSION_ID", ""),
        kernel=kernel,
        cards=pci_cards(root) or [],
        secure_boot=secure_boot(root),
        nouveau=nouveau,
        loaded=loaded,
        packages=installed_packages(),
        run_file=os.path.exists("/usr/bin/nvidia-uninstall"),
        wsl="microsoft" in kernel.lower(),
    )
    needs = image_needs(params["image_version"])
    wish = Wish(minimum=needs.min_driver if needs else "", **{name: params[name] for name in Wish._fields if name != "minimum"})
    result = plan(found, wish)._asdict()
    system = {"id": found.os_id, "version": found.os_version, "machine": os.uname().machine}
    module.exit_json(changed=False, os=system, loaded=loaded, nouveau=nouveau, in_use=gpu_containers(params["docker_socket"]), **result)


if __name__ == "__main__":
    main()
