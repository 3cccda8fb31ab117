#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_build
short_description: Make a folder from which a fleet without an internet connection is installed
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Brings container images, Debian packages, Python packages, single files and model weights into one folder, on a machine that has
    an internet connection. Neither a container engine nor root is needed.
  - What a name stood for when it was first asked for is written into O(lock), as digests, checksums and commits. A later run brings the same
    bytes or fails; a tag that moved upstream is reported in RV(drift), and followed only with O(update).
  - An interrupted run goes on at the byte where it stopped. What is there already is read and held against its checksum, and what nobody
    asks for any more is removed.
  - C(bundle.json) in the folder lists each file with its size and SHA-256, and C(bundle.sha256) the checksum of that list.
  - Images lie in the OCI image layout, their manifests byte for byte as upstream has them, so that their digests stay.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes
  - llmops.dify_xinference.weights
attributes:
  check_mode:
    support: full
    details: The sources are asked for what is not in the lock yet, and nothing is written. A file or a Python package that is not in the lock is named only.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  path:
    description: The folder.
    type: path
    required: true
  lock:
    description: File that says what each name stands for. Keep it under version control, beside the inventory.
    type: path
    required: true
  update:
    description: Resolve everything anew, and write a new lock.
    type: bool
    default: false
  images:
    description: Images of Docker Hub, with a tag or a digest.
    type: list
    elements: str
    default: []
  registry_url:
    description: Registry that has them, or a mirror of it.
    type: str
    default: https://registry-1.docker.io
  registry_username:
    description: Account at the registry.
    type: str
  registry_password:
    description: Its password.
    type: str
  platform:
    description: System and architecture of the hosts.
    type: str
    default: linux/amd64
  dify_release:
    description: A release of Dify. Its archive comes as a file, and the images that its Compose file starts join O(images).
    type: dict
    suboptions:
      version: {description: "The release, say V(1.16.1).", type: str, required: true}
      url: {description: Address of the archive., type: str, required: true}
      sha256: {description: Checksum of the archive., type: str}
      env: {description: Settings that go before those of the release's C(.env.example), type: dict, default: {}}
  dify_plugin:
    description: The provider plugin. The Python packages that it names join O(python).
    type: dict
    suboptions:
      url: {description: Address or path of the C(.difypkg)., type: str, required: true}
      sha256: {description: Its checksum., type: str}
      python_version: {description: Python of the plugin daemon., type: str, default: "3.12"}
  files:
    description: Further files.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Its name in the bundle., type: str, required: true}
      url: {description: Address or path., type: str, required: true}
      sha256: {description: Its checksum., type: str}
  debs:
    description: Folders of Debian packages, each with all that its packages depend on and a minimal system lacks.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: "Name of the folder, say V(debian-bookworm).", type: str, required: true}
      packages:
        description: Packages, as V(docker-ce) or V(docker-ce=5:29.8.0-1~debian.12~bookworm).
        type: list
        elements: str
        required: true
      sources:
        description: Repositories to look in.
        type: list
        elements: dict
        required: true
        suboptions:
          url: {description: Address., type: str, required: true}
          suite: {description: "Suite, or V(/) for a flat repository.", type: str, default: /}
          components: {description: Components., type: list, elements: str, default: []}
          arch: {description: Architecture., type: str, default: amd64}
  python:
    description: Python packages with all they depend on, as wheels.
    type: list
    elements: dict
    default: []
    suboptions:
      python_version: {description: "Python that will install them, say V(3.12).", type: str, required: true}
      requirements: {description: What pip is asked for., type: list, elements: str, required: true}
  python_platforms:
    description: Platform tags of the wheels, as C(pip download --platform) takes them.
    type: list
    elements: str
    default: [manylinux_2_28_x86_64, manylinux_2_17_x86_64, manylinux2014_x86_64, linux_x86_64]
  python_index_url:
    description: Python index. If the value is not specified, pip's own configuration decides.
    type: str
  weights:
    description: Weights of models, as O(llmops.dify_xinference.model_weights#module:models) names them. Local folders of hosts are left out.
    type: list
    elements: dict
    default: []
seealso:
  - module: llmops.dify_xinference.bundle_info
"""

EXAMPLES = r"""
- name: Make a bundle on this machine
  llmops.dify_xinference.bundle_build:
    path: /srv/bundle
    lock: "{{ inventory_dir }}/bundle.lock.json"
    images: [xprobe/xinference:v4.1.0]
    dify_release:
      version: 1.16.1
      url: https://github.com/langgenius/dify/archive/refs/tags/1.16.1.tar.gz
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
added:
  description: What the lock did not know before.
  type: list
  elements: str
  returned: always
  sample: ["images: xprobe/xinference:v4.1.0"]
drift:
  description: What has another meaning upstream than in the lock, or cannot be asked for there.
  type: list
  elements: str
  returned: always
fetched:
  description: Files that came, or would come in check mode.
  type: list
  elements: str
  returned: always
bytes:
  description: Bytes that were brought.
  type: int
  returned: always
resumed_bytes:
  description: Bytes of these files that an earlier run had brought.
  type: int
  returned: always
files:
  description: Number of files in the bundle.
  type: int
  returned: success
size:
  description: Size of the bundle in bytes.
  type: int
  returned: success
images:
  description: Digest by image.
  type: dict
  returned: always
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils._bundle import BundleError, read, write
from ansible_collections.llmops.dify_xinference.plugins.module_utils._bundle_build import Builder, name_of, weights_folder
from ansible_collections.llmops.dify_xinference.plugins.module_utils._bundle_compose import images_of_release
from ansible_collections.llmops.dify_xinference.plugins.module_utils._bundle_images import Registry
from ansible_collections.llmops.dify_xinference.plugins.module_utils._bundle_lock import prune_lock, read_lock, write_lock
from ansible_collections.llmops.dify_xinference.plugins.module_utils._bundle_python import requirements_of_plugin
from ansible_collections.llmops.dify_xinference.plugins.module_utils._command import run_command
from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_args import hub_spec, web_of
from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_sources import LOCAL, source_of

_FILE = {"name": {"type": "str", "required": True}, "url": {"type": "str", "required": True}, "sha256": {"type": "str"}}
_SOURCE = {
    "url": {"type": "str", "required": True},
    "suite": {"type": "str", "default": "/"},
    "components": {"type": "list", "elements": "str", "default": []},
    "arch": {"type": "str", "default": "amd64"},
}
_PLATFORMS = ["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "linux_x86_64"]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **hub_spec(),
            "path": {"type": "path", "required": True},
            "lock": {"type": "path", "required": True},
            "update": {"type": "bool", "default": False},
            "images": {"type": "list", "elements": "str", "default": []},
            "registry_url": {"type": "str", "default": "https://registry-1.docker.io"},
            "registry_username": {"type": "str"},
            "registry_password": {"type": "str", "no_log": True},
            "platform": {"type": "str", "default": "linux/amd64"},
            "dify_release": {
                "type": "dict",
                "options": {
                    "version": {"type": "str", "required": True},
                    "url": {"type": "str", "required": True},
                    "sha256": {"type": "str"},
                    "env": {"type": "dict", "default": {}},
                },
            },
            "dify_plugin": {
                "type": "dict",
                "options": {"url": {"type": "str", "required": True}, "sha256": {"type": "str"}, "python_version": {"type": "str", "default": "3.12"}},
            },
            "files": {"type": "list", "elements": "dict", "default": [], "options": _FILE},
            "debs": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "packages": {"type": "list", "elements": "str", "required": True},
                    "sources": {"type": "list", "elements": "dict", "required": True, "options": _SOURCE},
                },
            },
            "python": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"python_version": {"type": "str", "required": True}, "requirements": {"type": "list", "elements": "str", "required": True}},
            },
            "python_platforms": {"type": "list", "elements": "str", "default": _PLATFORMS},
            "python_index_url": {"type": "str"},
            "weights": {"type": "list", "elements": "dict", "default": []},
        },
        supports_check_mode=True,
    )
    params = module.params
    web = web_of(params)
    registry = Registry(web, params["registry_url"], params["registry_username"] or "", params["registry_password"] or "")
    try:
        lock = {} if params["update"] else read_lock(params["lock"])
        builder = Builder(params["path"], lock, web, registry, run_command, params["platform"], params["concurrency"], module.check_mode)
        if not module.check_mode:
            os.makedirs(params["path"], exist_ok=True)
        items, names = _resolve(builder, params)
        result = {"added": builder.added, "drift": builder.drift, "images": dict(lock["images"])}
        changed = bool(builder.added)
        if not module.check_mode:
            changed = write_lock(params["lock"], lock) or changed
        files = {} if builder.problems else builder.bring(items)
        result.update(fetched=sorted(builder.fetched), bytes=builder.bytes, resumed_bytes=builder.resumed)
        diff = {"before": {"present": []}, "after": {"present": sorted(builder.fetched)}}
        if builder.problems:
            module.fail_json(
                msg="The bundle is not complete; the next run goes on from here. " + "; ".join(builder.problems),
                changed=changed or bool(builder.fetched),
                **result,
            )
        if module.check_mode:
            module.exit_json(changed=changed or bool(builder.fetched), files=len(items), size=sum(item.size or 0 for item in items), diff=diff, **result)
        manifest = builder.manifest(files, names)
        try:
            same = read(params["path"]) == manifest
        except BundleError:
            same = False
        if not same:
            write(params["path"], manifest)
    except (BundleError, OSError) as error:
        module.fail_json(msg=str(error))
    size = sum(entry["size"] for entry in files.values())
    module.exit_json(changed=changed or bool(builder.fetched) or not same, files=len(files), size=size, diff=diff, **result)


def _resolve(builder: Builder, params: dict) -> tuple[list, dict[str, str]]:
    """All files of the bundle, and which of them have a part to play. Problems are the builder's."""
    names: dict[str, str] = {}
    files, images, python = list(params["files"]), list(params["images"]), list(params["python"])
    release, plugin = params["dify_release"], params["dify_plugin"]
    if release:
        names["dify_release"] = f"dify-{release['version']}.tar.gz"
        files.append({"name": names["dify_release"], "url": release["url"], "sha256": release["sha256"]})
    if plugin:
        names["dify_plugin"] = name_of(plugin["url"])
        files.append({"name": names["dify_plugin"], "url": plugin["url"], "sha256": plugin["sha256"]})
    items = builder.files(files)
    # What these two need is read out of them, so they come first.
    for item in items:
        part = [role for role, name in names.items() if item.path == "files/" + name]
        if not part:
            continue
        path = os.path.join(builder.path, item.path)
        if not builder.check and not os.path.exists(path):
            builder.bring_one(item)
        if not os.path.exists(path):
            continue
        if part == ["dify_release"]:
            images += images_of_release(path, release["env"])
        else:
            python.append({"python_version": plugin["python_version"], "requirements": requirements_of_plugin(path)})
    merged: dict[str, list[str]] = {}
    for entry in python:
        merged.setdefault(entry["python_version"], []).extend(entry["requirements"])
    python = [{"python_version": version, "requirements": sorted(set(lines)), "platforms": params["python_platforms"]} for version, lines in merged.items()]
    weights = []
    for entry in params["weights"]:
        source, problem = source_of(entry, params)
        if problem:
            builder.problems.append(f"weights {entry.get('name')}: {problem}")
        elif source.kind != LOCAL:
            known = {"source": source.kind, "repo": source.repo, "revision": source.revision, "url": source.url}
            weights.append(({**known, "allow": list(source.allow), "ignore": list(source.ignore)}, source))
    items += builder.images(images) + builder.debs(params["debs"]) + builder.python(python, params["python_index_url"] or "") + builder.weights(weights)
    wanted = {
        "images": images,
        "files": [file["name"] for file in files],
        "debs": [folder["name"] for folder in params["debs"]],
        "python": [entry["python_version"] for entry in python if entry["requirements"]],
        "weights": [weights_folder(entry) for entry, _source in weights],
    }
    if not builder.problems:
        prune_lock(builder.lock, wanted)
    return items, names


if __name__ == "__main__":
    main()
