#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_registries
short_description: Mirrors of other registries than Docker Hub, and accounts at private ones
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Writes C(/etc/docker/certs.d/<registry>/hosts.toml) for engines that read it, which are Docker 29.0 and newer with the containerd image store.
    No reload is needed. On others it says so and writes nothing.
  - Logs in to private registries by C(docker login --password-stdin), only where the stored account is another one. The password is in no process list.
  - Removes only what it wrote. Files and accounts of others stay.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - An account that Docker keeps in a credential helper cannot be read, so the login is made each time.
options:
  mirrors:
    description: Mirrors by registry, in order. A registry that is not named any more loses the file that was written for it.
    type: dict
    default: {}
  logins:
    description: Accounts by registry.
    type: list
    elements: dict
    default: []
    suboptions:
      registry:
        description: The registry as in an image's name, V(docker.io) for Docker Hub.
        type: str
        required: true
      username:
        description: The account. Needed unless O(logins[].state=absent).
        type: str
      password:
        description: Its password or access token. Needed unless O(logins[].state=absent).
        type: str
      state:
        description: Whether the account is kept or forgotten.
        type: str
        choices: [present, absent]
        default: present
  engine_version:
    description: The engine's version. Asked from the engine when empty.
    type: str
    default: ""
  certs_dir:
    description: Where the folders of the registries are.
    type: path
    default: /etc/docker/certs.d
  config_dir:
    description: Folder of the C(config.json) that holds the accounts. The one of root is what Ansible with become and Compose use.
    type: path
    default: /root/.docker
  docker_socket:
    description: Path of the engine's socket.
    type: path
    default: /var/run/docker.sock
"""

EXAMPLES = r"""
- name: Pull GitHub's images through a prefix service, and log in to a private registry
  llmops.dify_xinference.docker_registries:
    mirrors:
      ghcr.io:
        - url: https://ghcr.m.daocloud.io
      docker.io:
        - url: https://m.daocloud.io/v2/docker.io
          override_path: true
    logins:
      - registry: registry.cn-hangzhou.aliyuncs.com
        username: fleet
        password: "{{ acr_password }}"
"""

RETURN = r"""
hosts:
  description: Registries whose file was written or removed.
  returned: always
  type: list
  elements: str
  sample: [ghcr.io]
logins:
  description: Registries that were logged in to or out from.
  returned: always
  type: list
  elements: str
  sample: [registry.cn-hangzhou.aliyuncs.com]
refusal:
  description: Why the engine would not read O(mirrors), which were not written then; empty when it would.
  returned: always
  type: str
  sample: ""
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _docker_registries as registries
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_host import DockerHost, HostError, read_file, write_file


def found_hosts(certs_dir: str) -> dict[str, str]:
    """Every hosts.toml by registry."""
    found = {}
    for name in sorted(os.listdir(certs_dir)) if os.path.isdir(certs_dir) else []:
        text = read_file(os.path.join(certs_dir, name, "hosts.toml"))
        if text is not None:
            found[name] = text
    return found


def refusal_of(params: dict[str, t.Any]) -> str:
    """Why mirrors would not be read here."""
    try:
        info = DockerHost(endpoint=params["docker_socket"]).info()
    except HostError as error:
        return f"the engine cannot be asked for its version: {error}"
    store = any(list(entry)[:2] == ["driver-type", "io.containerd.snapshotter.v1"] for entry in info.get("DriverStatus") or [])
    return registries.hosts_refusal(params["engine_version"] or str(info.get("ServerVersion") or ""), store)


def apply_hosts(params: dict[str, t.Any], changes: dict[str, str | None]) -> None:
    for registry, text in changes.items():
        path = os.path.join(params["certs_dir"], registry, "hosts.toml")
        if text is not None:
            write_file(path, text)
            continue
        os.unlink(path)
        if not os.listdir(os.path.dirname(path)):
            os.rmdir(os.path.dirname(path))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "mirrors": {"type": "dict", "default": {}},
            "logins": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "registry": {"type": "str", "required": True},
                    "username": {"type": "str"},
                    "password": {"type": "str", "no_log": True},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                },
                "required_if": [("state", "present", ("username", "password"))],
            },
            "engine_version": {"type": "str", "default": ""},
            "certs_dir": {"type": "path", "default": "/etc/docker/certs.d"},
            "config_dir": {"type": "path", "default": "/root/.docker"},
            "docker_socket": {"type": "path", "default": "/var/run/docker.sock"},
        },
        supports_check_mode=True,
    )
    params = module.params
    config_path = os.path.join(params["config_dir"], "config.json")
    try:
        found = found_hosts(params["certs_dir"])
        refusal = refusal_of(params) if params["mirrors"] else ""
        changes = registries.plan_hosts({} if refusal else params["mirrors"], found)
        config = read_file(config_path) or ""
        new = [
            entry
            for entry in params["logins"]
            if entry["state"] == "present" and not registries.logged_in(config, entry["registry"], entry["username"], entry["password"])
        ]
        gone = [entry["registry"] for entry in params["logins"] if entry["state"] == "absent"]
        rest = registries.without_logins(config, gone) if gone else None
        if not module.check_mode:
            apply_hosts(params, changes)
            if rest is not None:
                write_file(config_path, rest)
            for entry in new:
                log_in(module, entry, params)
    except (registries.RegistryError, HostError, OSError) as error:
        module.fail_json(msg=str(error))
    touched = [entry["registry"] for entry in new] + (gone if rest is not None else [])
    module.exit_json(
        changed=bool(changes or touched),
        hosts=sorted(changes),
        logins=sorted(touched),
        refusal=refusal,
        diff={
            "before": {**{name: found.get(name) for name in changes}, **{f"account at {name}": "another or none" for name in touched}},
            "after": {
                **changes,
                **dict.fromkeys(f"account at {name}" for name in touched),
                **{f"account at {entry['registry']}": entry["username"] for entry in new},
            },
        },
    )


def log_in(module: AnsibleModule, entry: dict[str, t.Any], params: dict[str, t.Any]) -> None:
    """``docker login``, which also asks the registry whether the account is right."""
    os.makedirs(params["config_dir"], mode=0o700, exist_ok=True)
    argv = ["docker", "--config", params["config_dir"], "login", "--username", entry["username"], "--password-stdin"]
    status, dummy, err = module.run_command(
        argv + ([] if registries.config_key(entry["registry"]) == registries.HUB_KEY else [entry["registry"]]), data=entry["password"]
    )
    if status != 0:
        raise registries.RegistryError(
            f"{entry['registry']} does not take the account {entry['username']}: {err.strip()[:300]} Check the password, and whether the registry is reached."
        )
    os.chmod(os.path.join(params["config_dir"], "config.json"), 0o600)


if __name__ == "__main__":
    main()
