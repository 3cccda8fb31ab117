#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: xinference_keeper
short_description: Put a program on a host that launches its Xinference models again after a restart
version_added: 0.1.0
author:
  - The llmops.dify_xinference contributors (@llmops)
description:
  - Writes one executable Python file, which compares the state file of M(llmops.dify_xinference.xinference_models) with the
    server and launches what is missing. It is the same code as that module, and needs nothing but C(python3) 3.9 or newer.
  - Servers before 2.12 have no autostart entries, so their models are gone after every restart. With this program, started
    by systemd, they come back with no controller. It also helps where a worker comes back empty.
  - Called as C(python3 keeper.pyz --state-file FILE --url URL --credentials-file FILE) it waits for the server, launches what
    is missing, waits until it serves, and ends with status 0. Status 1 means that a model failed, 2 that the server did not
    answer, 3 that it refused the login, which must not be tried again soon.
  - With C(--watch SECONDS) it does not end, and compares that often. C(--help) shows the rest. It writes one line per event.
  - It launches only models with O(llmops.dify_xinference.xinference_models#module:autostart), never those that failed when
    they were declared or that are being removed. It ends nothing, and never writes the state file.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes.converging_module
options:
  path:
    description: Where the program is. Its folder must exist.
    type: path
    default: /opt/xinference/keeper.pyz
  state:
    description: Whether the program is there.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: llmops.dify_xinference.xinference_models
"""

EXAMPLES = r"""
- name: Write the keeper
  llmops.dify_xinference.xinference_keeper:
    path: /opt/xinference/keeper.pyz
  notify: Restart the keeper
"""

RETURN = r"""
path:
  description: Where the program is.
  returned: success
  type: str
  sample: /opt/xinference/keeper.pyz
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils._difference import Difference
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_keeper import packed, parts, unpacked


def write(path: str, content: bytes) -> None:
    """Replace the program in one step, executable for everybody: it holds no secret."""
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "wb") as handle:
            handle.write(content)
            os.fchmod(handle.fileno(), 0o755)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/opt/xinference/keeper.pyz"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    path = module.params["path"]
    difference = Difference()
    there = os.path.lexists(path)
    if module.params["state"] == "absent":
        difference.add(path, None, "there" if there else None)
        if there and not module.check_mode:
            os.unlink(path)
    else:
        wanted, found = parts(), unpacked(path)
        difference.add("mode", "0755", "0" + oct(os.stat(path).st_mode & 0o7777)[2:] if there else None)
        if found:
            for name in sorted(set(wanted) | set(found)):
                if wanted.get(name) != found.get(name):  # whole sources would drown the rest of a diff
                    difference.add(os.path.basename(name), "this version" if name in wanted else None, "another version" if name in found else None)
        else:
            difference.add(path, "the keeper", "something else" if there else None)
        if difference.changed and not module.check_mode:
            try:
                write(path, packed(wanted))
            except OSError as problem:
                module.fail_json(msg=f"{path} cannot be written: {problem}. Does its folder exist?")
    module.exit_json(changed=difference.changed, diff=difference.diff(), path=path)


if __name__ == "__main__":
    main()
