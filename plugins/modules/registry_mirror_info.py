#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_mirror_info
short_description: Tell which registry mirrors would serve a pull from this host
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Asks each mirror of Docker Hub for what a pull asks for, which is the version check, a token, the manifest of a wanted image and the first bytes of a layer.
  - All mirrors are asked at once.
  - A mirror that does not answer is a finding and no failure of the task.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes.info_module
options:
  mirrors:
    description: Candidates, in the order of preference.
    type: list
    elements: str
    required: true
  images:
    description:
      - Images that are going to be pulled, say C(xprobe/xinference:v4.1.0). Images of other registries than
        Docker Hub are left out, because mirrors do not serve them.
      - With a digest, C(xprobe/xinference:v4.1.0@sha256:...), a mirror that serves another image under the name is found out for
        sure. With a tag, mirrors are held against each other.
      - When empty, only the version check is made, which proves little.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds for one request.
    type: float
    default: 5
  total_timeout:
    description: Seconds for all requests to one mirror.
    type: float
    default: 15
  slow_after:
    description: Seconds after which a mirror that works is called slow.
    type: float
    default: 5
  validate_certs:
    description: Whether to check TLS certificates.
    type: bool
    default: true
  use_proxy:
    description: Whether to use the proxy that the environment names.
    type: bool
    default: true
seealso:
  - module: llmops.dify_xinference.docker_daemon_config
"""

EXAMPLES = r"""
- name: Find the mirrors that serve the image
  llmops.dify_xinference.registry_mirror_info:
    mirrors:
      - https://docker.m.daocloud.io
      - https://mirror.example.com
    images: [xprobe/xinference:v4.1.0]
  register: result

- name: Use the good ones
  llmops.dify_xinference.docker_daemon_config:
    section: docker
    config:
      registry-mirrors: "{{ result.usable }}"
"""

RETURN = r"""
mirrors:
  description: One entry per candidate, in the order given.
  returned: always
  type: list
  elements: dict
  sample:
    - url: https://mirror.example.com
      verdict: html
      usable: false
      reason: it answers with a web page where the version check was asked for
      seconds: 0.21
  contains:
    url:
      description: The mirror.
      type: str
    verdict:
      description:
        - V(ok), V(slow), V(throttled) (it limits the rate), or V(missing) (it lives but does not have the images). These are usable.
        - V(denied) (refuses the images), V(html) (a web page instead of a registry), V(wrong) (wrong content, or another image than asked for) or V(dead)
          (no answer, or server errors). These are not.
      type: str
    usable:
      description: Whether pulls gain by it, or at least do not break by it.
      type: bool
    reason:
      description: What was found; may be empty when all is well.
      type: str
    seconds:
      description: Time of the whole probe.
      type: float
    retry_after:
      description: Seconds that a mirror that limits the rate asks to wait, 0 when it does not say.
      type: int
    digests:
      description: Digest of each image that it serves, by name.
      type: dict
ranked:
  description:
    - The usable candidates by what they promise now, which is V(ok), V(slow), V(throttled), V(missing), and the faster one first.
    - It differs from run to run. For C(daemon.json), which should not, RV(usable) is the right one.
  returned: always
  type: list
  elements: str
  sample: [https://docker.m.daocloud.io]
usable:
  description: The usable candidates, in the order given.
  returned: always
  type: list
  elements: str
  sample: [https://docker.m.daocloud.io]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils._mirror import parse_image, probe_all, ranked, urllib_fetch


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "mirrors": {"type": "list", "elements": "str", "required": True},
            "images": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "float", "default": 5},
            "total_timeout": {"type": "float", "default": 15},
            "slow_after": {"type": "float", "default": 5},
            "validate_certs": {"type": "bool", "default": True},
            "use_proxy": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    images = [image for image in (parse_image(name) for name in params["images"]) if image is not None]
    fetch = urllib_fetch(params["validate_certs"], params["use_proxy"])
    verdicts = probe_all(params["mirrors"], images, fetch, params["timeout"], params["total_timeout"], params["slow_after"])
    module.exit_json(
        changed=False,
        mirrors=[dict(verdict._asdict(), usable=verdict.usable) for verdict in verdicts],
        ranked=ranked(verdicts),
        usable=[verdict.url for verdict in verdicts if verdict.usable],
    )


if __name__ == "__main__":
    main()
