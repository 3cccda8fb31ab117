#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dify_release
short_description: Unpack a Dify release beside the ones already there
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Puts the C(docker) folder of a Dify release under C(<home>/releases/<version>/docker), untouched, and lets its
    C(volumes) point at the one C(<home>/volumes) that all releases share.
  - A release is unpacked beside its place and moved there whole, so an interrupted run leaves nothing half done; a
    release that is there is not fetched again.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes.converging_module
options:
  home:
    description: Folder that holds everything of Dify on this host.
    type: path
    required: true
  version:
    description: Release tag, for example V(1.16.1).
    type: str
    required: true
  url:
    description: Archive (C(.tar.gz)) of the release; C(docker/) may lie at any depth. Not needed with O(src) or O(git).
    type: str
  mirrors:
    description: More addresses of the same archive, asked in order when O(url) does not give it.
    type: list
    elements: str
    default: []
  git:
    description:
      - Git repository that has the release as a tag called O(version). Used instead of O(url). Needs git on the host.
      - O(checksum) is then V(commit:<id>), the commit that the tag must name.
    type: str
  checksum:
    description: Expected checksum of the archive, as C(sha256:<hex>) or plain SHA-256. With O(git), V(commit:<id>).
    type: str
  src:
    description: Folder on this host that holds a release (the one with C(docker/) in it), or a C(.tar.gz). Used instead of O(url).
    type: path
  validate_certs:
    description: Whether TLS certificates are verified while downloading.
    type: bool
    default: true
  timeout:
    description: Seconds without a byte after which a download is given up.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Have Dify 1.16.1 on the host
  llmops.dify_xinference.dify_release:
    home: /opt/dify
    version: 1.16.1
    url: https://github.com/langgenius/dify/archive/refs/tags/1.16.1.tar.gz
"""

RETURN = r"""
path:
  description: The release's C(docker) folder.
  type: str
  returned: success
  sample: /opt/dify/releases/1.16.1/docker
installed:
  description: Whether the release is on the host now (false in check mode on a host that lacks it).
  type: bool
  returned: success
initialized:
  description: Whether the release's one-shot service that prepares the storage folder has done its work, or there is none.
  type: bool
  returned: success
forwarding:
  description:
    - The release's C(nginx/conf.d/default.conf.template), changed so that nginx asks for the addresses of the services with every request.
      Empty where the release does so itself.
  type: str
  returned: when the release is on the host
layout:
  description: What the release consists of, read from its files.
  type: dict
  returned: when the release is on the host
  contains:
    services:
      description: Services of its compose file, of every profile.
      type: list
      elements: str
      sample: [api, worker, web, db, redis, nginx]
    published:
      description: Services that the compose file publishes a port of.
      type: list
      elements: str
      sample: [plugin_daemon, nginx]
    health_checked:
      description: Services with a health check of their own.
      type: list
      elements: str
      sample: [db, redis]
    reads_env:
      description: Whether containers read the whole C(.env), or only the variables that the compose file lists.
      type: bool
    one_shot:
      description: Services that do their work once and end.
      type: list
      elements: str
      sample: []
    profiles:
      description: Compose profiles by service; services without any always run.
      type: dict
      sample: {weaviate: [weaviate]}
    images:
      description: Images by service, as the compose file names them.
      type: dict
      sample: {api: "langgenius/dify-api:1.16.1"}
    database:
      description: Service of the database that comes with the release, empty when there is none.
      type: str
      sample: db
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_release import (
    ReleaseError,
    forwarding,
    install,
    is_initialized,
    is_installed,
    layout,
    release_path,
)
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_versions import version_key


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "version": {"type": "str", "required": True},
            "url": {"type": "str"},
            "mirrors": {"type": "list", "elements": "str", "default": []},
            "git": {"type": "str"},
            "checksum": {"type": "str"},
            "src": {"type": "path"},
            "validate_certs": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 60},
        },
        required_one_of=[("url", "src", "git")],
        supports_check_mode=True,
    )
    params = module.params
    try:
        version_key(params["version"])
        installed = is_installed(params["home"], params["version"])
        changed = not installed
        if changed and not module.check_mode:
            install(
                params["home"],
                params["version"],
                urls=[address for address in [params["url"], *params["mirrors"]] if address],
                git=params["git"],
                src=params["src"],
                checksum=params["checksum"],
                validate_certs=params["validate_certs"],
                timeout=params["timeout"],
            )
            installed = True
        found = {}
        if installed:
            seen = layout(params["home"], params["version"])
            found = {"layout": seen._asdict(), "forwarding": forwarding(params["home"], params["version"], seen.services)}
        initialized = installed and is_initialized(params["home"], params["version"])
    except (ReleaseError, ValueError) as error:
        module.fail_json(msg=str(error))
    path = release_path(params["home"], params["version"])
    module.exit_json(
        changed=changed,
        path=path,
        installed=installed,
        initialized=initialized,
        **found,
        diff={"before": "" if changed else f"{path}\n", "after": f"{path}\n"},
    )


if __name__ == "__main__":
    main()
