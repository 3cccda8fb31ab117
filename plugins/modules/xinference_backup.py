#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: xinference_backup
short_description: Back up and restore accounts, keys, registrations and autostart entries of an Xinference
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Copies what a model server cannot be without, encrypted as M(llmops.dify_xinference.dify_backup) does it. Weights and Python
    environments are not in it.
  - The server goes on meanwhile; its databases are copied through SQLite.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes
  - llmops.dify_xinference.backup.key
  - llmops.dify_xinference.backup.retention
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: partial
    details: V(present) makes a backup in every run.
options:
  state:
    description:
      - V(present) makes a backup.
      - V(checked) unpacks one, asks SQLite about every database in it, and takes that away again.
      - V(restored) puts one in place and leaves the container stopped; what was there waits beside. V(kept) removes that, V(undone) brings it back.
    type: str
    choices: [present, checked, restored, kept, undone]
    default: present
  home:
    description: Folder that holds everything of Xinference on this host.
    type: path
    required: true
  container:
    description: Name of the server's container.
    type: str
    default: xinference
  version:
    description: Version of the server, for the manifest.
    type: str
    default: ""
  path:
    description: Folder that holds the backups.
    type: path
    required: true
  host:
    description: The host's name in the backup's name.
    type: str
    required: true
  backup:
    description: Folder of the backup to check or to restore; the newest of O(host) in O(path) when not given.
    type: path
"""

EXAMPLES = r"""
- name: Back the model server up
  llmops.dify_xinference.xinference_backup:
    home: /opt/xinference
    path: /var/backups/llmops
    host: "{{ inventory_hostname }}"
    key: "{{ xinference_backup_key }}"
"""

RETURN = r"""
backup:
  description: The backup's folder.
  type: str
  returned: V(present), V(checked) and V(restored)
bytes:
  description: Size of the backup in bytes.
  type: int
  returned: when a backup was made
databases:
  description: Databases that SQLite calls whole.
  type: int
  returned: V(checked) and V(restored)
age:
  description: Age of the backup in seconds.
  type: int
  returned: V(checked) and V(restored)
removed:
  description: Names of the old backups that were removed.
  type: list
  elements: str
  returned: V(present)
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _backup_store as store
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _xinference_backup
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_args import key_argument, retention_arguments
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_seal import BackupError, check_key
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_store import reader


def run(params: dict, check_mode: bool) -> dict:
    state, home, folder, host, key = (params[name] for name in ("state", "home", "path", "host", "key"))
    if state in ("kept", "undone"):
        if check_mode:
            return {"changed": True}
        return {"changed": _xinference_backup.commit(home) if state == "kept" else _xinference_backup.undo(home, params["container"])}
    check_key(key or "")
    if state == "present":
        if check_mode:
            return {"changed": True, "backup": folder, "removed": []}
        made = _xinference_backup.create(home, folder, host, key, params["version"], reader())
        removed = store.retain(folder, "xinference", host, params["keep"], params["keep_days"])
        return {"changed": True, "backup": made["path"], "bytes": sum(part["size"] for part in made["parts"]), "removed": removed}
    backup = params["backup"] or store.newest(folder, "xinference", host)
    if not backup:
        raise BackupError(f"No backup of {host} in {folder}; name one, or make one first.")
    if state == "checked" or check_mode:
        manifest = _xinference_backup.check(backup, key, home)
    else:
        manifest = _xinference_backup.restore(backup, key, home, params["container"])
    return {"changed": state == "restored", "backup": backup, "databases": manifest["databases"], "age": round(time.time() - manifest["taken"])}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **key_argument(),
            **retention_arguments(),
            "state": {"type": "str", "default": "present", "choices": ["present", "checked", "restored", "kept", "undone"]},
            "home": {"type": "path", "required": True},
            "container": {"type": "str", "default": "xinference"},
            "version": {"type": "str", "default": ""},
            "path": {"type": "path", "required": True},
            "host": {"type": "str", "required": True},
            "backup": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode)
    except (BackupError, OSError, ValueError) as error:
        module.fail_json(msg=f"Xinference's backup, {module.params['state']}: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
