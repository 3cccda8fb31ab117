#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_engine_info
short_description: Tell which Docker is on a host, and which packages would complete it
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Looks at packages, commands and versions in one call, and plans what has to be installed for an engine with a Compose that is new enough.
  - Never plans the removal of anything.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes.info_module
options:
  package_source:
    description:
      - V(distribution) takes the distribution's packages, V(docker) takes those of Docker's own repository.
      - V(auto) takes the distribution's, and from Docker's repository what the distribution has not, or has too old.
    type: str
    choices: [auto, distribution, docker]
    default: auto
  compose_minimum:
    description: Oldest Compose that will do.
    type: str
    default: 2.24.4
"""

EXAMPLES = r"""
- name: Look at the host
  llmops.dify_xinference.docker_engine_info:
    package_source: auto
  register: result
"""

RETURN = r"""
satisfied:
  description: Whether engine and Compose are there and new enough.
  returned: always
  type: bool
  sample: false
packages:
  description: What has to be installed.
  returned: always
  type: list
  elements: str
  sample: [docker.io, docker-cli, ca-certificates, docker-compose]
needs_docker_repository:
  description: Whether some of RV(packages) come from Docker's own repository.
  returned: always
  type: bool
  sample: false
messages:
  description: What is worth knowing about the choice.
  returned: always
  type: list
  elements: str
  sample: []
refusal:
  description: Why the host cannot be served; empty when it can.
  returned: always
  type: str
  sample: ""
installed:
  description: Versions of the packages that have to do with Docker.
  returned: always
  type: dict
  sample: {docker.io: 26.1.5+dfsg1-9+b9}
engine_version:
  description: Version of the installed engine; empty when there is none, or none from a package.
  returned: always
  type: str
  sample: 26.1.5
compose_version:
  description: Version of the Compose plugin; empty when there is none.
  returned: always
  type: str
  sample: 2.26.1
os:
  description: What the host says it is.
  returned: always
  type: dict
  sample: {id: debian, version: "13", codename: trixie}
"""

import os
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_host import command, read_file
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_packages import KNOWN_PACKAGES, Found, engine_version, plan
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight.host import parse_os_release

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"


def installed_packages() -> dict[str, str]:
    dummy, out = command(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\n"] + list(KNOWN_PACKAGES))
    rows = [line.split() for line in out.splitlines()]
    return {row[1]: row[2] for row in rows if len(row) == 3 and row[0] == "installed"}


def compose_version(docker: str) -> str:
    status, out = command([docker, "compose", "version", "--short"])
    return out.splitlines()[-1].strip().lstrip("v") if status == 0 and out else ""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "package_source": {"type": "str", "choices": ["auto", "distribution", "docker"], "default": "auto"},
            "compose_minimum": {"type": "str", "default": "2.24.4"},
        },
        supports_check_mode=True,
    )
    release = parse_os_release(read_file("/etc/os-release") or "")
    docker = shutil.which("docker", path=SEARCH_PATH) or ""
    # The link itself tells snap's command apart: its target is snap, whatever the command.
    docker_path = docker if docker.startswith("/snap/") else os.path.realpath(docker) if docker else ""
    found = Found(
        os_id=release.get("ID", ""),
        os_version=release.get("VERSION_ID", ""),
        packages=installed_packages(),
        docker_path=docker_path,
        dockerd_path=shutil.which("dockerd", path=SEARCH_PATH) or "",
        compose_version=compose_version(docker) if docker and not docker_path.startswith("/snap/") else "",
        apparmor=(read_file("/sys/module/apparmor/parameters/enabled") or "").strip() == "Y",
    )
    result = plan(found, module.params["package_source"], module.params["compose_minimum"])
    module.exit_json(
        changed=False,
        installed=found.packages,
        compose_version=found.compose_version,
        engine_version=engine_version(found.packages),
        os={"id": found.os_id, "version": found.os_version, "codename": release.get("VERSION_CODENAME", "")},
        **result._asdict(),
    )


if __name__ == "__main__":
    main()
