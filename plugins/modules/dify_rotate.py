#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dify_rotate
short_description: Replace Dify's own secrets by new ones
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Makes new values for the named secrets and keeps them in the host's file of secrets. The role C(dify), run afterwards, writes them into
    every variable that carries them and makes the containers anew.
  - C(DB_PASSWORD) is changed in the running database first. The new one is kept before that, so a run that is cut off is finished by the next.
  - Secrets that cannot be replaced without loss are refused, with what to do instead; then nothing is changed.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Names only. A value is never shown.
  idempotent:
    support: none
    details: Each run makes new secrets; that is what it is for.
options:
  path:
    description: The C(docker) folder of the release that runs.
    type: path
    required: true
  secrets_file:
    description: JSON file of the host's secrets.
    type: path
    required: true
  names:
    description: Secrets to replace. All that can be, when empty.
    type: list
    elements: str
    default: []
  external:
    description: Secrets of servers that are not Dify's own. They are left alone, and refused when named.
    type: list
    elements: str
    default: []
  project:
    description: Compose project of Dify.
    type: str
    default: dify
  database_user:
    description: Role of the database whose password is C(DB_PASSWORD).
    type: str
    default: postgres
"""

EXAMPLES = r"""
- name: Make a new admin key and a new database password
  llmops.dify_xinference.dify_rotate:
    path: /opt/dify/releases/1.16.1/docker
    secrets_file: /opt/dify/secrets.json
    names: [ADMIN_API_KEY, DB_PASSWORD]
"""

RETURN = r"""
rotated:
  description: Names of the secrets that have a new value.
  type: list
  elements: str
  returned: success
  sample: [ADMIN_API_KEY, DB_PASSWORD]
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _dify_layout, _dify_rotation, _secrets


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "secrets_file": {"type": "path", "required": True, "no_log": False},
            "names": {"type": "list", "elements": "str", "default": []},
            "external": {"type": "list", "elements": "str", "default": []},
            "project": {"type": "str", "default": "dify"},
            "database_user": {"type": "str", "default": "postgres"},
        },
        supports_check_mode=True,
    )
    params = module.params
    names = params["names"] or [name for name in _dify_rotation.ROTATABLE if name not in params["external"]]
    try:
        stored = _secrets.load(params["secrets_file"])
        new = _dify_rotation.plan(stored, names, params["external"])
        with open(os.path.join(params["path"], "docker-compose.yaml"), encoding="utf-8") as handle:
            database = _dify_layout.read(handle.read()).database
    except _dify_rotation.RotationRefused as error:
        module.fail_json(msg=f"Nothing was rotated. {error}")
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"Dify's secrets cannot be rotated: {error}")
    module.no_log_values.update(stored.values())
    module.no_log_values.update(new.values())
    if new and not module.check_mode:
        try:
            if _dify_rotation.DATABASE in new:
                # In this order a run that is cut off leaves either the old password everywhere, or the new one waiting beside it.
                stored[_dify_rotation.PENDING] = new[_dify_rotation.DATABASE]
                _secrets.save(params["secrets_file"], stored)
                change_database(module, database, new[_dify_rotation.DATABASE])
                stored.pop(_dify_rotation.PENDING)
            _secrets.save(params["secrets_file"], {**stored, **new})
        except OSError as error:
            module.fail_json(msg=f"{params['secrets_file']} cannot be written: {error}")
    rotated = sorted(new)
    diff = {"before": "".join(f"{name}: (kept)\n" for name in rotated), "after": "".join(f"{name}: (new)\n" for name in rotated)}
    module.exit_json(changed=bool(rotated), rotated=rotated, diff={"before_header": params["secrets_file"], "after_header": params["secrets_file"], **diff})


def change_database(module: AnsibleModule, service: str, password: str) -> None:
    """Over the database's own socket, where no password is asked for; the new one goes in as input."""
    params = module.params
    argv = ["docker", "compose", "--project-name", params["project"], "exec", "-T", service]
    argv += ["psql", "--quiet", "--set", "ON_ERROR_STOP=1", "--username", params["database_user"], "--dbname", "postgres"]
    status, out, errors = module.run_command(argv, data=_dify_rotation.alter_role(params["database_user"], password), cwd=params["path"])
    if status != 0:
        module.fail_json(
            msg=f"The database did not take the new password: {(errors or out).strip()[-300:]}. Nothing else was rotated; the old password stays valid. "
            f"Is the service {service} up (docker compose ps)? Run this again then."
        )


if __name__ == "__main__":
    main()
