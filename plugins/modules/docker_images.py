#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_images
short_description: Have a list of images on a host, before anything is stopped for them
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Pulls what is missing of a list of images, several at once. What is there already is not asked for again, so an interrupted run goes on where it was.
  - The list may come from a Compose project itself, as C(docker compose config --images) reads it.
  - An image that does not come is tried again where that may help, stops no other, and fails the task at the end.
  - Returns the digest of each image, so that a fleet can be compared.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes.converging_module
options:
  images:
    description: Names of images, with a tag or a digest.
    type: list
    elements: str
    default: []
  projects:
    description: Compose projects whose images are wanted too.
    type: list
    elements: dict
    default: []
    suboptions:
      project_src:
        description: Folder of the project, with its C(.env).
        type: path
        required: true
      files:
        description: Compose files, when they are not the usual ones.
        type: list
        elements: str
        default: []
      profiles:
        description: Profiles whose services count. Without any, those of the project's C(COMPOSE_PROFILES).
        type: list
        elements: str
        default: []
  parallel:
    description: How many images are pulled at once.
    type: int
    default: 3
  timeout:
    description: Seconds for one try of one image.
    type: float
    default: 3600
  retries:
    description: How often an image is tried again, after 5, 10, 20 seconds and so on.
    type: int
    default: 3
  progress_file:
    description: A file on the host that tells the state of each image while they are pulled. None when empty.
    type: path
    default: /run/llmops-docker-images.json
seealso:
  - module: llmops.dify_xinference.registry_mirror_info
"""

EXAMPLES = r"""
- name: Have what Dify's release needs, before it is upgraded
  llmops.dify_xinference.docker_images:
    projects:
      - project_src: /opt/dify/releases/1.16.1/docker

- name: Have one image, on four hosts at a time
  llmops.dify_xinference.docker_images:
    images: [xprobe/xinference:v4.1.0]
  throttle: 4
"""

RETURN = r"""
images:
  description: One entry per image, in the order of the list.
  returned: always
  type: list
  elements: dict
  sample:
    - name: xprobe/xinference:v4.1.0
      present: true
      pulled: true
      digest: sha256:0f21f0fc167be4011712eb737589ea8cd11113a2a6e33f135d46c917fe0ac1a0
      id: sha256:93fffb63a9103415f9e6de7de8e039ccd4a9846795be26e6a6a913f3f9cdc8a9
      seconds: 312.4
      attempts: 1
      error: ""
  contains:
    name:
      description: The image.
      type: str
    present:
      description: Whether it is on the host.
      type: bool
    pulled:
      description: Whether it was pulled, or would be in check mode.
      type: bool
    digest:
      description: Digest under which the registry has it; empty for one that was built or loaded.
      type: str
    id:
      description: Its identity on the host.
      type: str
    seconds:
      description: Time of the pull.
      type: float
    attempts:
      description: Tries.
      type: int
    error:
      description: Why it did not come.
      type: str
digests:
  description: Digest by image, or its identity when the registry has none. Equal on all hosts that run the same.
  returned: always
  type: dict
  sample: {xprobe/xinference:v4.1.0: "sha256:0f21f0fc167be4011712eb737589ea8cd11113a2a6e33f135d46c917fe0ac1a0"}
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils._command import run_command
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_host import write_file
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_images import ImagesError, compose_images, ensure, wanted_names


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "images": {"type": "list", "elements": "str", "default": []},
            "projects": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "project_src": {"type": "path", "required": True},
                    "files": {"type": "list", "elements": "str", "default": []},
                    "profiles": {"type": "list", "elements": "str", "default": []},
                },
            },
            "parallel": {"type": "int", "default": 3},
            "timeout": {"type": "float", "default": 3600},
            "retries": {"type": "int", "default": 3},
            "progress_file": {"type": "path", "default": "/run/llmops-docker-images.json"},
        },
        supports_check_mode=True,
    )
    params = module.params

    def progress(states: dict[str, str]) -> None:
        if params["progress_file"]:
            write_file(params["progress_file"], json.dumps(states, indent=4) + "\n")

    try:
        names = list(params["images"])
        for project in params["projects"]:
            names += compose_images(project["project_src"], project["files"], project["profiles"], run_command)
        before, after = ensure(
            wanted_names(names), run_command, params["parallel"], params["timeout"], params["retries"], check=module.check_mode, progress=progress
        )
    except (ImagesError, OSError) as error:
        module.fail_json(msg=str(error))
    if params["progress_file"] and not module.check_mode and os.path.exists(params["progress_file"]):
        os.unlink(params["progress_file"])
    pulled = [image.name for image in after if image.pulled]
    result = {
        "changed": bool(pulled),
        "images": [image._asdict() for image in after],
        "digests": {image.name: image.digest or image.id for image in after if image.present},
        "diff": {
            "before": {image.name: "present" if image.present else "absent" for image in before if image.name in pulled},
            "after": dict.fromkeys(pulled, "present"),
        },
    }
    failed = [image for image in after if image.error]
    if failed:
        words = "; ".join(f"{image.name} ({image.attempts} tries): {image.error}" for image in failed)
        module.fail_json(msg=f"{len(failed)} of {len(after)} images did not come: {words}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
