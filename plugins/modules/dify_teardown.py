#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dify_teardown
short_description: Remove Dify's containers, and its data only when that is said
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Stops and removes the containers and networks of Dify's Compose project, the database last.
  - Images and backups stay in any case.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes
  - llmops.dify_xinference.backup
attributes:
  check_mode:
    support: full
    details: Names every container and folder that would go, with its size.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  data:
    description: Remove O(home) with databases, files, secrets and releases as well.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Take Dify off this host, and keep its data
  llmops.dify_xinference.dify_teardown:
    home: /opt/dify
"""

RETURN = r"""
gone:
  description: What was removed, or would be in check mode.
  type: list
  elements: str
  returned: success
left:
  description: What stays.
  type: list
  elements: str
  returned: success
"""

import os
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_args import stack_arguments
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_plan import bytes_text
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_seal import BackupError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_store import tree_size
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_stack import containers, remove_project


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **stack_arguments(),
            "data": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    home, project, data = module.params["home"], module.params["project"], module.params["data"]
    if os.path.realpath(home).count("/") < 2:
        module.fail_json(msg=f"home is {home}: that is no folder of Dify's own.")
    if data and os.path.isdir(home) and os.listdir(home) and not os.path.isdir(os.path.join(home, "releases")):
        module.fail_json(msg=f"{home} has no folder releases, so it is not what the role dify made. Nothing was removed.")
    try:
        there = sorted(f"container {container.service}" for container in containers(project))
        entries = sorted(os.listdir(home)) if os.path.isdir(home) else []
        folders = [f"{os.path.join(home, name)} ({bytes_text(tree_size(os.path.join(home, name)))})" for name in entries]
        gone, left = (there + folders, []) if data else (there, folders)
        if not module.check_mode:
            remove_project(project)
            if data and os.path.isdir(home):
                shutil.rmtree(home)
    except (BackupError, OSError) as error:
        module.fail_json(msg=f"Dify was not removed: {error}")
    texts = {"before": "".join(f"{line}\n" for line in gone + left), "after": "".join(f"{line}\n" for line in left)}
    module.exit_json(changed=bool(gone), gone=gone, left=left, diff=texts)


if __name__ == "__main__":
    main()
