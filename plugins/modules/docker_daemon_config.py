#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_daemon_config
short_description: Own a section of Docker's daemon.json, and apply it at the lowest price
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Merges what one owner wants into C(daemon.json). Keys of nobody and keys of other owners stay.
  - Remembers in a readable file beside it who set which key, so that what an owner no longer wants is undone, and what was there before comes back.
  - Checks the result itself and with C(dockerd --validate) where that exists, before anything is written. The file is replaced in one step, after a backup.
  - Reloads dockerd when a reload applies the change, and restarts it only when it has to. When containers run and live-restore is wanted,
    it is switched on and read back before a restart.
  - Reads the result back from the engine, because a reload that dockerd refuses is still logged as done. If dockerd does not take the file over,
    the old one is put back.
  - Works without a running Docker as well, and then only writes.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes.converging_module
options:
  section:
    description: Name of the owner, say the name of a role.
    type: str
    required: true
  config:
    description:
      - The keys of C(daemon.json) that this owner wants, and no others. An empty mapping takes back everything the owner set.
      - An object (C(runtimes), C(features), C(log-opts)) is merged key by key, everything else is set as a whole.
    type: dict
    default: {}
  path:
    description: The configuration file.
    type: path
    default: /etc/docker/daemon.json
  owners_path:
    description: The record of who owns which key. When empty, it lies beside O(path) as C(daemon.owners.json).
    type: path
  manage_service:
    description: Whether to look at and to act on the service at all. When V(false), only the file is written.
    type: bool
    default: true
  allow_start:
    description: Whether to start Docker when it is installed and does not run.
    type: bool
    default: true
  allow_restart:
    description: Whether to restart Docker when only that applies a change. When V(false), the rest is applied and RV(pending) says what waits.
    type: bool
    default: true
  restart_after:
    description: Files that dockerd looks for at its start only. If one of them is newer than the running dockerd, it is restarted, once.
    type: list
    elements: path
    default: []
  restart_reason:
    description: Why O(restart_after) needs a restart, for the messages.
    type: str
    default: ""
  repair:
    description:
      - Replace a file that is not valid JSON. It is kept as RV(backup_file).
      - Also write a file anew that is empty or begins with a byte order mark, which Docker before 23.0 does not start with.
    type: bool
    default: false
  allow_hidden_images:
    description:
      - Whether C(data-root), C(storage-driver) or the image store may change while the engine has images or containers.
        They stay on disk, and are shown no more.
      - A stopped Docker is not asked. Whoever moves the data by hand stops it first.
    type: bool
    default: false
  service:
    description: Name of the systemd unit.
    type: str
    default: docker
  docker_socket:
    description: Path of the engine's socket.
    type: path
    default: /var/run/docker.sock
"""

EXAMPLES = r"""
- name: Use a registry mirror, and keep containers alive while dockerd restarts
  llmops.dify_xinference.docker_daemon_config:
    section: docker
    config:
      registry-mirrors: [https://mirror.example.com]
      live-restore: true

- name: Register the NVIDIA runtime, with one restart when the toolkit came after dockerd
  llmops.dify_xinference.docker_daemon_config:
    section: nvidia_container_toolkit
    config:
      runtimes:
        nvidia: {path: nvidia-container-runtime, args: []}
    restart_after: [/usr/bin/nvidia-container-runtime-hook]

- name: Take back everything that the section set
  llmops.dify_xinference.docker_daemon_config:
    section: nvidia_container_toolkit
"""

RETURN = r"""
actions:
  description: What was done to the service, V(none), V(reload), V(restart) or V(start). One entry.
  returned: success
  type: list
  elements: str
  sample: [reload]
reasons:
  description: Why.
  returned: success
  type: list
  elements: str
  sample: [A reload applies registry-mirrors.]
pending:
  description: What only a restart would apply, and O(allow_restart) did not allow.
  returned: success
  type: list
  elements: str
  sample: [Only a restart applies log-driver.]
config:
  description: The whole file as it is now.
  returned: success
  type: dict
  sample: {registry-mirrors: [https://mirror.example.com]}
backup_file:
  description: Copy of the file as it was before; none when there was none or nothing was written.
  returned: success
  type: str
  sample: /etc/docker/daemon.json.2026-11-22T10-00-00.471100~
containers_running:
  description: How many containers ran when the module looked.
  returned: success
  type: int
  sample: 3
engine:
  description: What the running engine shows; empty when it does not run.
  returned: success
  type: dict
  sample:
    version: 26.1.5
    live_restore: true
    runtimes: [io.containerd.runc.v2, nvidia, runc]
    default_runtime: runc
    registry_mirrors: [https://mirror.example.com/]
    data_root: /var/lib/docker
    cgroup_driver: systemd
    containerd_image_store: false
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_apply import ApplyError, Request, apply
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_daemon import DocumentError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_host import DockerHost, HostError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "section": {"type": "str", "required": True},
            "config": {"type": "dict", "default": {}},
            "path": {"type": "path", "default": "/etc/docker/daemon.json"},
            "owners_path": {"type": "path"},
            "manage_service": {"type": "bool", "default": True},
            "allow_start": {"type": "bool", "default": True},
            "allow_restart": {"type": "bool", "default": True},
            "restart_after": {"type": "list", "elements": "path", "default": []},
            "restart_reason": {"type": "str", "default": ""},
            "repair": {"type": "bool", "default": False},
            "allow_hidden_images": {"type": "bool", "default": False},
            "service": {"type": "str", "default": "docker"},
            "docker_socket": {"type": "path", "default": "/var/run/docker.sock"},
        },
        supports_check_mode=True,
    )
    params = module.params
    owners_path = params["owners_path"] or os.path.join(os.path.dirname(params["path"]), "daemon.owners.json")
    request = Request(
        section=params["section"],
        config=params["config"],
        path=params["path"],
        owners_path=owners_path,
        manage_service=params["manage_service"],
        allow_start=params["allow_start"],
        allow_restart=params["allow_restart"],
        restart_after=tuple(params["restart_after"]),
        restart_reason=params["restart_reason"],
        repair=params["repair"],
        allow_hidden_images=params["allow_hidden_images"],
        check_mode=module.check_mode,
    )
    host = DockerHost(params["service"], params["docker_socket"], module.get_bin_path("dockerd", opt_dirs=["/usr/sbin", "/sbin"]) or "dockerd")
    try:
        result = apply(request, host)
    except (ApplyError, DocumentError, HostError, OSError) as error:
        module.fail_json(msg=str(error))
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
