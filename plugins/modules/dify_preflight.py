#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dify_preflight
short_description: Look for what would stop Dify on this host, before anything is changed
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Checks that Docker Compose is new enough, that nobody else holds the wanted ports, that there is space, and that no other release
    of Dify is there, whose data the wanted one would migrate.
  - Fails with everything that was found. Nothing is ever changed.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes
attributes:
  check_mode:
    support: full
    details: In check mode a host without Docker is no error, since the run before it may be the one that installs it.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  home:
    description: Folder that holds, or will hold, everything of Dify on this host.
    type: path
    required: true
  project:
    description: Compose project of Dify; what its own containers hold is no clash.
    type: str
    default: dify
  ports:
    description: What Dify's web server will listen on.
    type: list
    elements: dict
    required: true
    suboptions:
      address:
        description: Address; V(0.0.0.0) for all of them.
        type: str
        required: true
      port:
        description: TCP port.
        type: int
        required: true
  version:
    description: Release that will run. Space for its images is only asked for where it is not on the host yet.
    type: str
    required: true
  space_gib:
    description: GiB that must be free for images and data before a release is installed.
    type: float
    default: 10.0
  allow_version_change:
    description: Whether another release of Dify may be there.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Look before Dify is installed
  llmops.dify_xinference.dify_preflight:
    home: /opt/dify
    version: 1.16.1
    ports:
      - {address: 0.0.0.0, port: 80}
"""

RETURN = r"""
compose:
  description: Version of Docker Compose.
  type: str
  returned: when there is one
  sample: 2.40.0
problems:
  description: What would stop Dify.
  type: list
  elements: str
  returned: always
  sample: []
"""

import os
import re
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _ports
from ansible_collections.llmops.dify_xinference.plugins.module_utils._command import run_command
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_release import is_installed, other_release_problem

# The tags !override and !reset of the role's own Compose file, and Dify's optional env files.
OLDEST_COMPOSE = (2, 24, 4)


def compose_problem(status: int, text: str) -> str:
    """What is wrong with the answer of ``docker compose version --short``; empty when nothing is."""
    numbers = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text.strip())
    if status != 0 or not numbers:
        return "Docker with Compose does not answer on this host; run the role docker first (site.yml does)."
    if tuple(int(number) for number in numbers.groups()) < OLDEST_COMPOSE:
        return f"Docker Compose {text.strip()} is too old; 2.24.4 or newer is needed. The role docker installs it."
    return ""


def port_problems(ports: list, project: str, published: str) -> list:
    listeners = []
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        if os.path.exists(path):
            with open(path, encoding="utf-8") as handle:
                listeners += _ports.from_proc(handle.read())
    problems = []
    for found in _ports.clashes([(item["address"], item["port"]) for item in ports], listeners, _ports.from_docker(published), project):
        holder = _ports.process_of(found.holder) if found.holder.isdigit() else f"the container {found.holder}"
        problems.append(f"port {found.port} is taken by {holder}; choose another (dify_port, dify_https_port) or end that one.")
    return problems


def space_problems(paths: list, wanted_gib: float) -> list:
    problems = []
    seen = set()
    for path in paths:
        while not os.path.exists(path):
            path = os.path.dirname(path)
        device = os.stat(path).st_dev
        free = shutil.disk_usage(path).free / 2**30
        if device not in seen and free < wanted_gib:
            problems.append(f"{path} has {free:.1f} GiB free; {wanted_gib:g} GiB are wanted before a release is installed (dify_space_gib).")
        seen.add(device)
    return problems


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "project": {"type": "str", "default": "dify"},
            "ports": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {"address": {"type": "str", "required": True}, "port": {"type": "int", "required": True}},
            },
            "version": {"type": "str", "required": True},
            "space_gib": {"type": "float", "default": 10.0},
            "allow_version_change": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    status, version, _unused = run_command(["docker", "compose", "version", "--short"], 60)
    problem = compose_problem(status, version)
    if problem and module.check_mode:
        module.exit_json(changed=False, problems=[problem])
    problems = [problem] if problem else []
    _status, published, _unused = run_command(["docker", "ps", "--format", '{{.Label "com.docker.compose.project"}}\t{{.Names}}\t{{.Ports}}'], 60)
    problems += port_problems(params["ports"], params["project"], published)
    if not params["allow_version_change"]:
        api = ["label=com.docker.compose.project=" + params["project"], "label=com.docker.compose.service=api"]
        listing = ["docker", "ps", "--all", "--filter", api[0], "--filter", api[1], "--format", '{{.Label "com.docker.compose.project.working_dir"}}']
        _status, folders, _unused = run_command(listing, 60)
        other = other_release_problem(params["home"], folders.split("\n"), params["version"])
        problems += [other] if other else []
    if not is_installed(params["home"], params["version"]):
        _status, root, _unused = run_command(["docker", "info", "--format", "{{.DockerRootDir}}"], 60)
        problems += space_problems([root.strip() or "/var/lib/docker", params["home"]], params["space_gib"])
    result = {"changed": False, "problems": problems, "compose": version.strip()}
    if problems:
        module.fail_json(msg=f"Dify {params['version']} cannot run here: {' '.join(problems)} Nothing was changed.", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
