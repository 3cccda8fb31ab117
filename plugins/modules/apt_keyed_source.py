#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: apt_keyed_source
short_description: Declare an apt repository with its own checked key, and remove entries that conflict with it
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Writes C(/etc/apt/keyrings/NAME.asc) and C(/etc/apt/sources.list.d/NAME.sources), which names that key and no other.
  - Checks the key's fingerprint before anything is written. Neither C(gnupg) nor C(python3-debian) is needed.
  - Takes other entries for the same repository out of apt's sources, found by their address and not by their file name,
    because two entries with different keys make apt refuse all its sources.
  - Does not run C(apt update).
extends_documentation_fragment:
  - llmops.dify_xinference.attributes.converging_module
options:
  name:
    description: Name of the two files, without a suffix.
    type: str
    required: true
  uri:
    description: Base address of the repository. apt fills in C($(ARCH)).
    type: str
    required: true
  suite:
    description: The suite, or V(/) for a flat repository.
    type: str
    default: /
  components:
    description: The components; none for a flat repository.
    type: list
    elements: str
    default: []
  key:
    description: The public key, ASCII-armoured.
    type: str
    required: true
  fingerprint:
    description:
      - The fingerprint that the key has to have; blanks do not matter.
      - When empty, the key is taken as it is.
    type: str
    default: ""
  conflicts:
    description: Regular expressions. Other entries whose address matches one of them are removed, and so are those for O(uri) itself.
    type: list
    elements: str
    default: []
  root:
    description: Folder below which C(etc/apt) is looked for, for tests and images.
    type: path
    default: /
"""

EXAMPLES = r"""
- name: Declare NVIDIA's repository
  llmops.dify_xinference.apt_keyed_source:
    name: nvidia-container-toolkit
    uri: https://nvidia.github.io/libnvidia-container/stable/deb/$(ARCH)
    key: "{{ lookup('ansible.builtin.file', 'nvidia-container-toolkit.asc') }}"
    fingerprint: C95B 321B 61E8 8C18 09C4 F759 DDCA E044 F796 ECB0
    conflicts: [libnvidia-container, nvidia-docker]
"""

RETURN = r"""
fingerprints:
  description: Fingerprints of the primary keys in O(key).
  returned: success
  type: list
  elements: str
  sample: [C95B321B61E88C1809C4F759DDCAE044F796ECB0]
changed_files:
  description: Files that were written or removed.
  returned: success
  type: list
  elements: str
  sample: [/etc/apt/keyrings/nvidia-container-toolkit.asc]
removed_entries:
  description: Files that other entries for the repository were taken out of.
  returned: success
  type: list
  elements: str
  sample: [/etc/apt/sources.list.d/libnvidia-container.list]
"""

import glob
import os
import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils._apt_source import Source, SourceError, render, without_entries
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_host import read_file
from ansible_collections.llmops.dify_xinference.plugins.module_utils._keyed_source import KeyRefusedError, checked_fingerprints, differences, unfinished, write


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "uri": {"type": "str", "required": True},
            "suite": {"type": "str", "default": "/"},
            "components": {"type": "list", "elements": "str", "default": []},
            "key": {"type": "str", "required": True, "no_log": False},
            "fingerprint": {"type": "str", "default": ""},
            "conflicts": {"type": "list", "elements": "str", "default": []},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    params = module.params
    apt = os.path.join(params["root"], "etc/apt")
    key_path = os.path.join(apt, "keyrings", params["name"] + ".asc")
    source_path = os.path.join(apt, "sources.list.d", params["name"] + ".sources")
    try:
        found = checked_fingerprints(params["name"], params["key"], params["fingerprint"])
        text = render(Source(params["name"], params["uri"], params["suite"], tuple(params["components"]), key_path))
        # The other entries go first: apt must never see both.
        plan: list[tuple[str, str | None]] = []
        removed = []
        others = [os.path.join(apt, "sources.list")] + sorted(
            glob.glob(os.path.join(apt, "sources.list.d", "*.list")) + glob.glob(os.path.join(apt, "sources.list.d", "*.sources"))
        )
        for path in others:
            old = read_file(path) if path != source_path else None
            if old is None:
                continue
            left = without_entries(path, old, [*params["conflicts"], re.escape(params["uri"].split("$(")[0].rstrip("/"))])
            if left is None and path == others[0]:
                left = ""  # tools expect the main file to be there, if only empty
            if left != old:
                plan.append((path, left))
                removed.append(path)
        plan += [(key_path, params["key"].strip() + "\n"), (source_path, text)]
        plan = unfinished(plan)
        diff = differences(plan, key_path)
        if not module.check_mode:
            write(plan)
    except (KeyRefusedError, SourceError) as error:
        module.fail_json(msg=str(error))
    except (OSError, UnicodeDecodeError) as error:
        module.fail_json(msg=f"apt's sources cannot be read or written: {error}. Run with become: true.")
    module.exit_json(changed=bool(plan), fingerprints=found, changed_files=[path for path, dummy in plan], removed_entries=removed, diff=diff)


if __name__ == "__main__":
    main()
