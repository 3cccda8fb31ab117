#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_container_toolkit_info
short_description: Tell what a host has of the NVIDIA container toolkit, and what would complete it
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Looks at packages, holds, predecessors, CDI specifications, the running Docker and the last probe in one call.
  - Plans what has to be installed, held and removed, which CDI specification has to be generated anew, and whether
    running containers can lose their GPUs to a C(systemctl daemon-reload).
extends_documentation_fragment:
  - llmops.dify_xinference.attributes.info_module
options:
  version:
    description: Version of the four packages, as the package manager names it.
    type: str
    required: true
  root:
    description: Folder below which C(proc) and C(sys) are looked for, for tests.
    type: path
    default: /
  cdi_dirs:
    description: Folders with CDI specifications.
    type: list
    elements: path
    default: [/etc/cdi, /var/run/cdi]
  stamp:
    description: File that M(llmops.dify_xinference.gpu_container_probe) remembers its last good probe in.
    type: path
    default: /var/lib/llmops/gpu-probe.json
  docker_socket:
    description: Socket of the Docker daemon.
    type: path
    default: /var/run/docker.sock
  daemon_owners:
    description: Record of who owns what in C(daemon.json).
    type: path
    default: /etc/docker/daemon.owners.json
"""

EXAMPLES = r"""
- name: Look at the toolkit
  llmops.dify_xinference.nvidia_container_toolkit_info:
    version: 1.20.0-1
  register: result
"""

RETURN = r"""
package_manager:
  description: V(apt), V(dnf), or empty when neither is there.
  returned: always
  type: str
  sample: apt
architecture:
  description: The architecture, as the package manager names it.
  returned: always
  type: str
  sample: amd64
packages:
  description: What has to be done about the packages.
  returned: always
  type: dict
  contains:
    satisfied:
      description: Whether nothing has to be done.
      type: bool
    install:
      description: Packages to install, all four or none.
      type: list
      elements: str
    hold:
      description: Packages to hold.
      type: list
      elements: str
    remove:
      description: Predecessors to remove.
      type: list
      elements: str
    current:
      description: What is installed, with versions.
      type: list
      elements: str
driver:
  description: Version of the loaded driver; empty when none is loaded.
  returned: always
  type: str
  sample: 595.71.05
toolkit:
  description: Version of the toolkit's main package; empty when it is not installed.
  returned: always
  type: str
  sample: 1.20.0-1
cdi:
  description: What is to be said about the CDI specifications.
  returned: always
  type: dict
  contains:
    state:
      description: V(none), V(fresh), V(stale), or V(unknown) when a version cannot be told.
      type: str
    double:
      description: Whether two files name the same GPUs.
      type: bool
    refresh:
      description: Files that have to be generated anew.
      type: list
      elements: str
    messages:
      description: The same in words.
      type: list
      elements: str
gpu_loss:
  description: Whether running containers can lose their GPUs.
  returned: always
  type: dict
  contains:
    exposed:
      description: Whether a C(systemctl daemon-reload) takes the GPUs from running containers.
      type: bool
    reason:
      description: Why, or why not.
      type: str
    defend:
      description: Whether C(daemon.json) shall set the cgroup driver V(cgroupfs).
      type: bool
gpu_containers:
  description: Names of the running containers that have GPUs.
  returned: always
  type: list
  elements: str
  sample: [xinference]
probe:
  description: What the last good probe was made with; empty when there was none.
  returned: always
  type: dict
  sample: {image: "xprobe/xinference:v4.1.0", driver: 595.71.05, toolkit: 1.20.0-1}
"""

import glob
import json
import os
import shutil
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _nvidia_toolkit as toolkit
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_host import DockerHost, HostError, command, read_file
from ansible_collections.llmops.dify_xinference.plugins.module_utils._gpu_probe import has_gpus
from ansible_collections.llmops.dify_xinference.plugins.module_utils._nvidia import loaded_driver

NAMES = toolkit.PACKAGES + toolkit.LEGACY
SECTION = "nvidia_container_toolkit"


def look_at_packages() -> tuple[str, str, dict[str, toolkit.Package]]:
    """Package manager, architecture, and the packages that matter."""
    if shutil.which("dpkg-query"):
        dummy, out = command(["dpkg-query", "--show", "--showformat", "${db:Status-Want} ${db:Status-Status} ${Package}=${Version}\n", *NAMES])
        status, architecture = command(["dpkg", "--print-architecture"])
        return "apt", architecture if status == 0 else "", toolkit.parse_dpkg(out)
    if shutil.which("dnf") and shutil.which("rpm"):
        dummy, out = command(["rpm", "-q", "--queryformat", "%{NAME}=%{VERSION}-%{RELEASE}\\n", *NAMES])
        return "dnf", os.uname().machine, toolkit.parse_rpm(out)
    return "", "", {}


def look_at_specs(folders: t.Sequence[str]) -> list[toolkit.Spec]:
    """NVIDIA's CDI specifications; a file that two folders lead to (``/var/run`` is a link to ``/run``) counts once."""
    found: dict[str, toolkit.Spec] = {}
    for folder in folders:
        for path in sorted(glob.glob(os.path.join(folder, "*.yaml")) + glob.glob(os.path.join(folder, "*.json"))):
            try:
                spec = toolkit.parse_spec(path, read_file(path) or "")
            except (OSError, UnicodeDecodeError):
                continue
            if spec:
                found.setdefault(os.path.realpath(path), spec)
    return list(found.values())


def look_at_docker(socket: str) -> tuple[dict[str, t.Any], list[str]]:
    """``/info`` and the names of the running containers with GPUs; nothing when Docker does not run."""
    host = DockerHost(endpoint=socket)
    try:
        info = host.info()
        names = [str(entry["Names"][0]).lstrip("/") for entry in host.get("/containers/json") if has_gpus(host.get(f"/containers/{entry['Id']}/json"))]
    except HostError:
        return {}, []
    return info, sorted(names)


def read_json(path: str) -> dict[str, t.Any]:
    """A JSON object; an empty one when the file is missing or holds something else."""
    try:
        found = json.loads(read_file(path) or "{}")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "version": {"type": "str", "required": True},
            "root": {"type": "path", "default": "/"},
            "cdi_dirs": {"type": "list", "elements": "path", "default": ["/etc/cdi", "/var/run/cdi"]},
            "stamp": {"type": "path", "default": "/var/lib/llmops/gpu-probe.json"},
            "docker_socket": {"type": "path", "default": "/var/run/docker.sock"},
            "daemon_owners": {"type": "path", "default": "/etc/docker/daemon.owners.json"},
        },
        supports_check_mode=True,
    )
    params = module.params
    manager, architecture, found = look_at_packages()
    driver = loaded_driver(params["root"])
    specs = look_at_specs(params["cdi_dirs"])
    info, gpu_containers = look_at_docker(params["docker_socket"])
    ours = "exec-opts" in ((read_json(params["daemon_owners"]).get("sections") or {}).get(SECTION) or {})
    exposure = toolkit.exposure(
        str(info.get("ServerVersion") or ""), str(info.get("CgroupDriver") or ""), bool(specs), int(info.get("ContainersRunning") or 0), ours
    )
    module.exit_json(
        changed=False,
        package_manager=manager,
        architecture=architecture,
        packages=toolkit.plan_packages(found, params["version"])._asdict(),
        driver=driver or "",
        toolkit=found.get(toolkit.PACKAGES[0], toolkit.Package("", False)).version,
        cdi=toolkit.judge_specs(specs, driver)._asdict(),
        gpu_loss=exposure._asdict(),
        gpu_containers=gpu_containers,
        probe=read_json(params["stamp"]),
    )


if __name__ == "__main__":
    main()
