#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_info
short_description: Check a bundle, or a copy of one
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Reads every file of a bundle that M(llmops.dify_xinference.bundle_build) made and holds it against its checksum.
  - With O(manifest) it looks at a copy of that bundle instead, and says what is still missing in it.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes
  - llmops.dify_xinference.attributes.info_module
options:
  path:
    description: The folder.
    type: path
    required: true
  manifest:
    description: Content of the C(bundle.json) of the bundle that O(path) is to be a copy of. Then nothing fails that only is not there yet.
    type: str
  whole:
    description: Whether the content of all files is read. Without it, files of the right size pass in a copy that was whole once.
    type: bool
    default: true
seealso:
  - module: llmops.dify_xinference.bundle_build
"""

EXAMPLES = r"""
- name: Refuse a damaged bundle before any host is touched
  llmops.dify_xinference.bundle_info:
    path: /srv/bundle
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
missing:
  description: Files that are not there, or are damaged.
  type: list
  elements: str
  returned: always
small:
  description: Those of RV(missing) of at most 16 MiB, which are better carried together. What describes the bundle is not among them, because it comes last.
  type: list
  elements: str
  returned: always
unknown:
  description: Files that do not belong there.
  type: list
  elements: str
  returned: always
folders:
  description: The folders of all files, parents first.
  type: list
  elements: str
  returned: always
  sample: [images, images/blobs, images/blobs/sha256]
size:
  description: Size of the bundle in bytes.
  type: int
  returned: always
contents:
  description: What C(bundle.json) says of what the files are for.
  type: dict
  returned: always
  contains:
    images: {description: Digest by image., type: dict}
    names: {description: Which file is the Dify release (C(dify_release)) and which the plugin (C(dify_plugin))., type: dict}
    checksums: {description: SHA-256 of the single files., type: dict}
    debs: {description: Folders of Debian packages., type: list, elements: str}
    python: {description: Whether there is a Python index., type: bool}
    weights: {description: Repositories with their files., type: list, elements: dict}
"""

import hashlib
import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils._bundle import CHECKSUM, MANIFEST, BundleError, compare, read, small_of


def _folders(paths: list[str]) -> list[str]:
    found = set()
    for path in paths:
        parts = path.split("/")[:-1]
        found |= {"/".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
    return sorted(found)


def _describing(path: str, text: str) -> list[str]:
    """Which of the two files that describe a bundle are not those of this manifest. They come last: with them the copy is one itself."""
    wanted = {MANIFEST: text, CHECKSUM: hashlib.sha256(text.encode("utf-8")).hexdigest() + f"  {MANIFEST}\n"}
    stale = []
    for name, content in wanted.items():
        try:
            with open(os.path.join(path, name), encoding="utf-8") as stream:
                same = stream.read() == content
        except (OSError, UnicodeDecodeError):
            same = False
        if not same:
            stale.append(name)
    return stale


def main() -> None:
    module = AnsibleModule(
        argument_spec={"path": {"type": "path", "required": True}, "manifest": {"type": "str"}, "whole": {"type": "bool", "default": True}},
        supports_check_mode=True,
    )
    path, given = module.params["path"], module.params["manifest"]
    try:
        manifest = json.loads(given) if given else read(path)
        stale = _describing(path, given) if given else []
        # Sizes do when the copy was found right once: what it is described by came last.
        problems = compare(path, manifest, module.params["whole"] or bool(stale))
    except (BundleError, OSError, ValueError, KeyError) as error:
        module.fail_json(msg=str(error))
    contents = {key: manifest[key] for key in ("images", "names", "debs", "python", "weights")}
    contents["checksums"] = {name[6:]: entry["sha256"] for name, entry in manifest["files"].items() if name.startswith("files/")}
    missing = sorted(problems.missing + problems.damaged)
    result = {
        "missing": missing + stale,
        "small": small_of(manifest, missing),
        "unknown": problems.unknown,
        "folders": _folders(list(manifest["files"])),
        "size": sum(entry["size"] for entry in manifest["files"].values()),
        "contents": contents,
    }
    if not given and result["missing"]:
        words = problems.sentences()
        more = f" and {len(words) - 10} more" if len(words) > 10 else ""
        module.fail_json(
            msg=f"The bundle {path} cannot be used: {'; '.join(words[:10])}{more}. Nothing was changed. Copy it again, or run bundle.yml again.",
            **result,
        )
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
