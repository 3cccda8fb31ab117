#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dify_restore
short_description: Bring a backup of Dify back, or prove in a scratch project that it could be
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Works in steps, so that what can fail fails before anything that runs is touched. O(step=prepare) checks every byte of the
    backup, the space and the images, unpacks into a folder beside the running stack, loads the databases into a server of
    their own and compares every table. O(step=switch) stops what runs and lets the two change places. After that Dify is
    started (role P(llmops.dify_xinference.dify#role)), and O(step=commit) removes what was replaced, or O(step=undo) brings it back.
  - O(step=drill) does the same in a scratch Compose project, starts it on loopback without the services that act on their own
    (C(worker), C(worker_beat)), signs in, reads every model's credentials, takes it away again, and says how long it took.
  - A step that was interrupted is finished when it is called again.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes
  - llmops.dify_xinference.backup
  - llmops.dify_xinference.backup.key
attributes:
  check_mode:
    support: full
    details: Checks the backup, the key and the space, and changes nothing.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details: V(switch), V(commit) and V(undo) have nothing to do when they are done.
options:
  step:
    description:
      - V(look) says where an earlier restore stands.
    type: str
    choices: [look, drill, prepare, switch, commit, undo]
    required: true
  backup:
    description: Folder of the backup. Needed for V(drill) and V(prepare), unless O(path) and O(host) say where to find the newest.
    type: path
  path:
    description: Folder that holds backups; the newest of O(host) is taken.
    type: path
  host:
    description: Host whose newest backup is taken.
    type: str
  port:
    description: Port on loopback for the scratch project.
    type: int
    default: 18080
  wait_timeout:
    description: Seconds to wait for the scratch project's services to be healthy.
    type: int
    default: 600
  pull_timeout:
    description: Seconds for one image that the host lacks.
    type: int
    default: 1800
"""

EXAMPLES = r"""
- name: Prove that last night's backup can be restored
  llmops.dify_xinference.dify_restore:
    step: drill
    home: /opt/dify
    path: /var/backups/llmops
    host: "{{ inventory_hostname }}"
    key: "{{ dify_backup_key }}"
"""

RETURN = r"""
state:
  description: V(none), V(prepared), V(switching), V(switched) or V(undoing), after this step.
  type: str
  returned: success
backup:
  description: Name of the backup.
  type: str
  returned: V(drill), V(prepare), and while a restore is under way
version:
  description: Version of Dify in the backup.
  type: str
  returned: V(drill), V(prepare), and while a restore is under way
replaced:
  description: Version of Dify that runs, or ran, in its place; empty when there is none.
  type: str
  returned: V(prepare), and while a restore is under way
rpo:
  description: Age of the backup in seconds; what was written since would be lost.
  type: int
  returned: V(drill)
rto:
  description: Seconds from nothing to a healthy stack that lets the administrator in.
  type: float
  returned: V(drill)
seconds:
  description: Seconds of each stage.
  type: dict
  returned: V(drill) and V(prepare)
rows:
  description: Rows of each database, all equal to the manifest's.
  type: dict
  returned: V(drill)
models:
  description: Models whose credentials could be read.
  type: int
  returned: V(drill)
services:
  description: Services that were started and became healthy.
  type: list
  elements: str
  returned: V(drill)
restored:
  description: Whether there was something that came back.
  type: bool
  returned: V(undo)
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _backup_store as store
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _dify_restore as restore
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_args import key_argument, stack_arguments
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_seal import BackupError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_stack import alone


def find(params: dict) -> str:
    if params["backup"]:
        return str(params["backup"])
    found = store.newest(params["path"], "dify", params["host"]) if params["path"] and params["host"] else None
    if not found:
        raise BackupError(f"No backup of {params['host']} in {params['path']}; name one, or make one first.")
    return found


def run(params: dict, check_mode: bool) -> dict:
    step, home, project = params["step"], params["home"], params["project"]
    if step in ("drill", "prepare"):
        backup, key = find(params), params["key"] or ""
        if check_mode:
            manifest = restore.read(backup, key, home)
            return {"changed": step == "prepare", "backup": manifest["name"], "version": manifest["version"]}
        times = (params["port"], params["wait_timeout"], params["pull_timeout"])
        if step == "drill":
            return {"changed": False, **restore.drill(home, backup, key, *times)}
        return {"changed": True, **restore.prepare(home, project, backup, key, *times)}
    stands = restore.state(home)["state"]
    if step == "look" or check_mode:
        return {"changed": step != "look" and stands != "none"}
    if step == "switch":
        if stands in ("prepared", "switching"):
            restore.switch(home, project)
        return {"changed": stands in ("prepared", "switching")}
    if step == "undo":
        return {"changed": stands != "none", "restored": restore.undo(home, project, params["wait_timeout"])}
    return {"changed": restore.commit(home)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **stack_arguments(),
            **key_argument(),
            "step": {"type": "str", "required": True, "choices": ["look", "drill", "prepare", "switch", "commit", "undo"]},
            "backup": {"type": "path"},
            "path": {"type": "path"},
            "host": {"type": "str"},
            "port": {"type": "int", "default": 18080},
            "wait_timeout": {"type": "int", "default": 600},
            "pull_timeout": {"type": "int", "default": 1800},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        with alone():
            result = run(params, module.check_mode)
        stands = restore.state(params["home"]) if os.path.isdir(params["home"]) else {"state": "none"}
    except (BackupError, OSError, ValueError) as error:
        module.fail_json(msg=f"Restoring Dify, step {params['step']}: {error}")
    module.exit_json(**{**stands, **result})


if __name__ == "__main__":
    main()
