#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dnf_keyed_source
short_description: Declare a dnf repository with its own checked key, and remove other entries for it
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Writes C(/etc/pki/rpm-gpg/RPM-GPG-KEY-NAME) and C(/etc/yum.repos.d/NAME.repo), which names that key and no other.
  - Checks the key's fingerprint before anything is written. Neither C(gnupg) nor a look into rpm's own keys is needed.
  - Takes other entries for the same repository out of the files in C(/etc/yum.repos.d), found by their address and not by their file
    name, because a package that O(packages) keeps out would come from there.
  - Does not run C(dnf).
extends_documentation_fragment:
  - llmops.dify_xinference.attributes.converging_module
options:
  name:
    description: Identifier of the repository, and name of the two files.
    type: str
    required: true
  title:
    description: What people read. When empty, O(name).
    type: str
    default: ""
  url:
    description: Base address of the repository. dnf fills in C($basearch).
    type: str
    required: true
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
  packages:
    description:
      - What may come from the repository, as dnf's patterns (C(includepkgs)). With a version in them they are a version lock that
        needs no plugin.
      - Everything, when the list is empty.
    type: list
    elements: str
    default: []
  conflicts:
    description: Regular expressions. Other entries whose address matches one of them are removed, and so are those for O(url) itself.
    type: list
    elements: str
    default: []
  root:
    description: Folder below which C(etc) is looked for, for tests and images.
    type: path
    default: /
"""

EXAMPLES = r"""
- name: Declare NVIDIA's repository, for one version of one package
  llmops.dify_xinference.dnf_keyed_source:
    name: nvidia-container-toolkit
    url: https://nvidia.github.io/libnvidia-container/stable/rpm/$basearch
    key: "{{ lookup('ansible.builtin.file', 'nvidia-container-toolkit.asc') }}"
    fingerprint: C95B 321B 61E8 8C18 09C4 F759 DDCA E044 F796 ECB0
    packages: [nvidia-container-toolkit-1.20.0-1*]
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
  sample: [/etc/yum.repos.d/nvidia-container-toolkit.repo]
removed_entries:
  description: Files that other entries for the repository were taken out of.
  returned: success
  type: list
  elements: str
  sample: [/etc/yum.repos.d/libnvidia-container.repo]
"""

import glob
import os
import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dnf_source import Source, render, without_entries
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_host import read_file
from ansible_collections.llmops.dify_xinference.plugins.module_utils._keyed_source import KeyRefusedError, checked_fingerprints, differences, unfinished, write


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "title": {"type": "str", "default": ""},
            "url": {"type": "str", "required": True},
            "key": {"type": "str", "required": True, "no_log": False},
            "fingerprint": {"type": "str", "default": ""},
            "packages": {"type": "list", "elements": "str", "default": []},
            "conflicts": {"type": "list", "elements": "str", "default": []},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    params = module.params
    name = params["name"]
    key_path = os.path.join(params["root"], "etc/pki/rpm-gpg/RPM-GPG-KEY-" + name)
    folder = os.path.join(params["root"], "etc/yum.repos.d")
    source_path = os.path.join(folder, name + ".repo")
    patterns = [*params["conflicts"], re.escape(params["url"].split("$")[0].rstrip("/"))]
    try:
        found = checked_fingerprints(name, params["key"], params["fingerprint"])
        text = render(Source(name, params["title"] or name, params["url"], key_path, tuple(params["packages"])))
        plan: list[tuple[str, str | None]] = []
        for path in sorted(glob.glob(os.path.join(folder, "*.repo"))):
            old = read_file(path) if path != source_path else None
            left = without_entries(old, patterns) if old is not None else old
            if left != old:
                plan.append((path, left))
        removed = [path for path, dummy in plan]
        plan = unfinished([*plan, (key_path, params["key"].strip() + "\n"), (source_path, text)])
        diff = differences(plan, key_path)
        if not module.check_mode:
            write(plan)
    except KeyRefusedError as error:
        module.fail_json(msg=str(error))
    except (OSError, UnicodeDecodeError) as error:
        module.fail_json(msg=f"dnf's sources cannot be read or written: {error}. Run with become: true.")
    module.exit_json(changed=bool(plan), fingerprints=found, changed_files=[path for path, dummy in plan], removed_entries=removed, diff=diff)


if __name__ == "__main__":
    main()
