#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dify_backup
short_description: Make an encrypted backup of everything a Dify on this host is
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Copies both PostgreSQL databases, the files with the workspaces' keys, the plugins, the vector store, the release with its
    C(.env), and the secrets into a folder of its own below O(path).
  - Services that write are paused meanwhile, and vector stores stopped, so that the parts fit each other. Requests wait; they
    do not fail. The services go on also when the module is killed.
  - Every part is encrypted with O(key) (AES-256, by C(openssl)) and its checksum is in a signed manifest, with the rows and a
    checksum of every table.
  - Redis is not copied. It holds caches, sessions and tasks that were not begun.
  - Space is checked first; a backup that cannot be finished leaves nothing behind and takes no older one away.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes
  - llmops.dify_xinference.backup
  - llmops.dify_xinference.backup.key
  - llmops.dify_xinference.backup.retention
attributes:
  check_mode:
    support: full
    details: Looks at the stack and at the space, and names what would be copied and which old backups would go.
  diff_mode:
    support: none
  idempotent:
    support: none
    details: Every run makes a backup.
options:
  path:
    description: Folder that holds the backups. One outside of O(home), best on another disk.
    type: path
    required: true
  host:
    description: The host's name in the backup's name; retention looks at backups of this host only.
    type: str
    required: true
  hold:
    description: Leave the services that write stopped after the backup, for an upgrade that follows. After an error they run again.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Back Dify up
  llmops.dify_xinference.dify_backup:
    home: /opt/dify
    path: /var/backups/llmops
    host: "{{ inventory_hostname }}"
    key: "{{ dify_backup_key }}"
    keep: 14
"""

RETURN = r"""
backup:
  description: The backup's folder. In check mode the folder that it would be made in.
  type: str
  returned: success
  sample: /var/backups/llmops/dify-dify1-20261124T170000Z
version:
  description: Version of Dify.
  type: str
  returned: success
held:
  description: Seconds in which nothing was written.
  type: float
  returned: when a backup was made
bytes:
  description: Size of the backup in bytes. In check mode the most it could take.
  type: int
  returned: success
parts:
  description: Names of what is in it.
  type: list
  elements: str
  returned: success
not_included:
  description: What the user has to back up otherwise, because it is not on this host.
  type: list
  elements: str
  returned: when a backup was made
removed:
  description: Names of the old backups that were removed.
  type: list
  elements: str
  returned: success
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _backup_store as store
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _dify_backup
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_args import key_argument, retention_arguments, stack_arguments
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_plan import space_problem
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_seal import BackupError, check_key
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_store import reader
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_stack import alone


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **stack_arguments(),
            **key_argument(),
            **retention_arguments(),
            "path": {"type": "path", "required": True},
            "host": {"type": "str", "required": True},
            "hold": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    folder, host = params["path"], params["host"]
    if os.path.realpath(folder).startswith(os.path.realpath(params["home"]) + os.sep):
        module.fail_json(msg=f"path {folder} lies in {params['home']}: a restore would put it aside with what it replaces. Use another folder.")
    try:
        check_key(params["key"])
        found = _dify_backup.look(params["home"], params["project"])
        if module.check_mode:
            needed = _dify_backup.needed_bytes(found)
            problem = space_problem(needed, store.free_bytes(folder), folder, "The backup")
            if problem:
                raise BackupError(problem)
            parts = [*(f"database-{name}" for name in (found.database.existing() if found.database else [])), "settings"]
            parts += [f"volume-{name}" for name in found.volumes]
            module.exit_json(changed=True, version=found.version, backup=folder, bytes=needed, parts=parts, removed=[])
        with alone():
            # Looked at again: what was waited for may have changed it.
            made = _dify_backup.create(_dify_backup.look(params["home"], params["project"]), folder, host, params["key"], params["hold"], reader())
            removed = store.retain(folder, "dify", host, params["keep"], params["keep_days"])
    except (BackupError, OSError, ValueError) as error:
        module.fail_json(msg=f"Dify was not backed up: {error}")
    module.exit_json(
        changed=True,
        backup=made["path"],
        version=made["version"],
        held=made["held"],
        bytes=sum(part["size"] for part in made["parts"]),
        parts=[part["name"] for part in made["parts"]],
        not_included=made["not_included"],
        removed=removed,
    )


if __name__ == "__main__":
    main()
