#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dify_upgrade
short_description: Decide on an upgrade of Dify, remember where it stands, and bring the old version back
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - The parts of an upgrade that no other module has; the role P(llmops.dify_xinference.dify_upgrade#role) puts them in order.
  - V(look) finds the running version and what an interrupted run left, names what lies between the releases, and refuses
    a downgrade and steps that need a person's hand and were not accepted.
  - V(compare) shows how the new release's C(.env) differs from the running one's, without secrets, and checks the space.
  - V(begin) notes the backup and takes the old containers away. V(migrate) runs in the new C(api) container what the steps between the
    releases have as a command, each once. V(finish) ends the upgrade.
  - V(roll_back) restores the backup that V(begin) noted and starts the old version. It may be called again after an interruption.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes
  - llmops.dify_xinference.backup
  - llmops.dify_xinference.backup.key
attributes:
  check_mode:
    support: full
    details: V(look) and V(compare) never change anything; the others only say that they would.
  diff_mode:
    support: full
    details: V(compare) has the difference of C(.env).
  idempotent:
    support: full
options:
  step:
    description: What to do.
    type: str
    choices: [look, compare, begin, migrate, finish, roll_back]
    required: true
  version:
    description: Version to upgrade to.
    type: str
    required: true
  accept:
    description: Steps that need a person's hand afterwards and are wanted all the same.
    type: list
    elements: str
    default: []
  backup:
    description: Folder of the backup. Needed for V(begin), unless an interrupted run noted it.
    type: path
  backup_dir:
    description: Folder the backup will be made in. Needed for V(compare).
    type: path
  port:
    description: Port on loopback for the scratch project of V(roll_back).
    type: int
    default: 18080
  migrate_timeout:
    description: Seconds that one command of V(migrate) may take.
    type: int
    default: 3600
  wait_timeout:
    description: Seconds to wait for services to be healthy.
    type: int
    default: 900
"""

EXAMPLES = r"""
- name: See what lies before Dify 1.16.1
  llmops.dify_xinference.dify_upgrade:
    step: look
    home: /opt/dify
    version: 1.16.1
    accept: [weaviate]
"""

RETURN = r"""
phase:
  description: V(nothing), V(begin), V(go_on) or V(roll_back), what is to be done.
  type: str
  returned: V(look)
running:
  description: Version that runs, or ran before the upgrade began.
  type: str
  returned: success
steps:
  description: What lies between the releases, V(id), V(text) and V(command), empty where nothing has to be run.
  type: list
  elements: dict
  returned: V(look)
env:
  description: Variables V(added), V(removed) and V(changed); of secrets only the names.
  type: dict
  returned: V(compare)
missing_images:
  description: Images of the new release that the host lacks.
  type: list
  elements: str
  returned: V(compare)
migrated:
  description: Steps whose command was run.
  type: list
  elements: str
  returned: V(migrate)
seconds:
  description: How long bringing the old version back took.
  type: float
  returned: V(roll_back)
"""

import json
import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _backup_store as store
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _dify_backup, _dify_restore, _secrets
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_args import key_argument, stack_arguments
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_plan import space_problem
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_seal import BackupError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._command import run_command
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_stack import Stack, alone, containers, remove_project, wait_for_others
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_upgrade import env_difference, next_phase, refusal, steps_between, to_migrate

STATE = ".upgrade.json"


def load(home: str) -> dict:
    try:
        with open(os.path.join(home, STATE), encoding="utf-8") as handle:
            return dict(json.load(handle))
    except FileNotFoundError:
        return {}


def save(home: str, state: dict) -> None:
    _secrets.write_private(os.path.join(home, STATE), json.dumps(state) + "\n")


def look(params: dict) -> dict:
    home, wanted = params["home"], params["version"]
    state = load(home)
    running, store_name = state.get("from"), state.get("vector_store", "")
    if not state:
        found = _dify_backup.look(home, params["project"])
        running, store_name = found.version, found.stack.env().get("VECTOR_STORE") or "weaviate"
    phase = next_phase(state, str(running), wanted)
    if phase == "other":
        raise BackupError(
            f"An upgrade from {running} to {state['to']} was interrupted; finish it with dify_version={state['to']}, or go back with "
            f"-e dify_upgrade_roll_back=true, before one to {wanted}."
        )
    steps = steps_between(str(running), wanted, store_name)
    problem = refusal(str(running), wanted, steps, params["accept"]) if phase == "begin" else None
    if problem:
        raise BackupError(problem)
    return {"phase": phase, "running": running, "steps": [{"id": step.id, "text": step.text, "command": " ".join(step.command)} for step in steps]}


def compare(params: dict) -> dict:
    home, project = params["home"], params["project"]
    found = _dify_backup.look(home, project)
    new = Stack(project, os.path.join(home, "releases", params["version"], "docker"))
    env = env_difference(found.stack.env(), new.env())
    images = sorted(set(new.compose("config", "--images").split()))
    missing = [image for image in images if run_command(["docker", "image", "inspect", image], 60)[0] != 0]
    needed = _dify_backup.needed_bytes(found)
    places = [(params["backup_dir"], needed, "The backup before the upgrade"), (home, int(needed * 1.2), "Bringing the old version back")]
    problems = [problem for place, size, what in places for problem in [space_problem(size, store.free_bytes(place), place, what)] if problem]
    if problems:
        raise BackupError(" ".join(problems))
    texts = {side: "".join(line + "\n" for line in env[kind]) for side, kind in (("before", "removed"), ("after", "added"))}
    changed = "".join(f"{line}\n" for line in env["changed"])
    return {"running": found.version, "env": env, "missing_images": missing, "diff": {"before": texts["before"], "after": texts["after"] + changed}}


def begin(params: dict) -> dict:
    home, project = params["home"], params["project"]
    state = load(home)
    changed = not state
    if not state:
        if not params["backup"]:
            raise BackupError("there is no backup to go back to; the step begin needs one.")
        found = _dify_backup.look(home, project)
        store_name = found.stack.env().get("VECTOR_STORE") or "weaviate"
        state = {"from": found.version, "to": params["version"], "backup": params["backup"], "phase": "switching", "vector_store": store_name}
        save(home, state)
    # Under another name the same service would run twice on one folder (db, db_postgres). Looked at again after an interruption.
    new = os.path.join(home, "releases", state["to"], "docker")
    if any(os.path.normpath(container.folder) != os.path.normpath(new) for container in containers(project)):
        remove_project(project)
        changed = True
    return {"changed": changed, "running": state["from"]}


def migrate(params: dict) -> dict:
    home, state, done = params["home"], load(params["home"]), []
    for step in to_migrate(state):
        new = Stack(params["project"], os.path.join(home, "releases", state["to"], "docker"))
        words = " ".join(step.command)
        new.compose("exec", "-T", "api", *step.command, timeout=params["migrate_timeout"], what=f"`{words}` in the new api container")
        done.append(step.id)
        # Noted one by one: what was interrupted is run again, what came to its end is not.
        state = {**state, "migrated": [*state.get("migrated", []), step.id]}
        save(home, state)
    return {"changed": bool(done), "migrated": done, "running": params["version"]}


def roll_back(params: dict) -> dict:
    home, project, begun = params["home"], params["project"], time.monotonic()
    state = load(home)
    if not state:
        # Nothing was exchanged yet: what is stopped is started.
        running = _dify_backup.look(home, project).version
        _dify_restore.start(home, project, running, params["wait_timeout"])
        return {"changed": True, "running": running, "seconds": round(time.monotonic() - begun, 1)}
    save(home, {**state, "phase": "rolling-back"})
    stands = _dify_restore.state(home)["state"]
    if stands in ("none", "prepared"):
        # What the new version left is of no use, and its database would be in the way of nobody: it is only stopped.
        _dify_restore.prepare(home, project, state["backup"], params["key"] or "", params["port"], params["wait_timeout"], 1800)
    if stands in ("none", "prepared", "switching"):
        _dify_restore.switch(home, project)
    _dify_restore.start(home, project, state["from"], params["wait_timeout"])
    _dify_restore.commit(home)
    os.unlink(os.path.join(home, STATE))
    return {"changed": True, "running": state["from"], "seconds": round(time.monotonic() - begun, 1)}


def finish(params: dict) -> dict:
    state = load(params["home"])
    if state:
        os.unlink(os.path.join(params["home"], STATE))
    return {"changed": bool(state), "running": params["version"]}


def main() -> None:
    steps = {"look": look, "compare": compare, "begin": begin, "migrate": migrate, "finish": finish, "roll_back": roll_back}
    module = AnsibleModule(
        argument_spec={
            **stack_arguments(),
            **key_argument(),
            "step": {"type": "str", "required": True, "choices": ["look", "compare", "begin", "migrate", "finish", "roll_back"]},
            "version": {"type": "str", "required": True},
            "accept": {"type": "list", "elements": "str", "default": []},
            "backup": {"type": "path"},
            "backup_dir": {"type": "path"},
            "port": {"type": "int", "default": 18080},
            "migrate_timeout": {"type": "int", "default": 3600},
            "wait_timeout": {"type": "int", "default": 900},
        },
        required_if=[("step", "compare", ["backup_dir"]), ("step", "roll_back", ["key"])],
        supports_check_mode=True,
    )
    params = module.params
    if module.check_mode and params["step"] not in ("look", "compare"):
        module.exit_json(changed=True, running=params["version"])
    try:
        wait_for_others(params["project"])
        with alone():
            result = steps[params["step"]](params)
    except (BackupError, OSError, ValueError) as error:
        module.fail_json(msg=f"Upgrade of Dify, step {params['step']}: {error}")
    module.exit_json(**{"changed": False, **result})


if __name__ == "__main__":
    main()
