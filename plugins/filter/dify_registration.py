# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter that turns what the GPU hosts run into what Dify shall know."""

from __future__ import annotations

import typing as t
import urllib.parse

from ansible.errors import AnsibleFilterError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_derive import derive

DOCUMENTATION = r"""
name: dify_registration
short_description: Derive Dify's models from what the GPU hosts run
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Reads the facts that the roles C(xinference) and C(xinference_models) leave on every GPU host, and says what Dify
    shall know. Hosts that failed, models that are not ready and kinds Dify cannot use are left out with a note.
positional: _input, hostvars, servers, reports
options:
  _input:
    description: Names of the GPU hosts, in inventory order.
    type: list
    elements: str
    required: true
  hostvars:
    description: The variable C(hostvars).
    type: dict
    required: true
  servers:
    description: Further model servers, which are no hosts of the inventory, each with C(url), C(api_key) and C(name).
    type: list
    elements: dict
    default: []
  reports:
    description: What M(llmops.dify_xinference.xinference_info) said of each of O(servers), in their order; a failed one counts as not up.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Say what Dify shall know
  ansible.builtin.set_fact:
    registration: "{{ groups['gpu_hosts'] | llmops.dify_xinference.dify_registration(hostvars) }}"
"""

RETURN = r"""
_value:
  description: The registration.
  type: dict
  contains:
    models:
      description: For the option C(models) of M(llmops.dify_xinference.dify_models).
      type: list
      elements: dict
    defaults:
      description: The first model of each type.
      type: dict
    notes:
      description: What was left out, and why.
      type: list
      elements: str
    complete:
      description: Whether nothing was left out for being down; only then may anything be pruned.
      type: bool
"""


def dify_registration(
    hosts: t.Iterable[str],
    hostvars: t.Mapping[str, t.Any],
    servers: t.Sequence[t.Mapping[str, t.Any]] = (),
    reports: t.Sequence[t.Mapping[str, t.Any]] = (),
) -> dict[str, t.Any]:
    sources = []
    for host in hosts:
        try:
            known = hostvars[host]
        except KeyError as error:
            raise AnsibleFilterError(f"dify_registration: {host} is no host of the inventory") from error
        sources.append(
            {
                "host": host,
                "declared": known.get("xinference_models"),
                "endpoint": known.get("xinference_endpoint"),
                "result": known.get("xinference_models_result"),
            }
        )
    for number, server in enumerate(servers):
        report = reports[number] if number < len(reports) else {}
        sources.append(
            {
                "host": server.get("name") or urllib.parse.urlsplit(str(server["url"])).hostname,
                "endpoint": {"url": server["url"], "api_key": server.get("api_key")},
                "result": {"models": report["models"]} if "models" in report else None,
                "problem": report.get("msg"),
            }
        )
    return derive(sources)


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"dify_registration": dify_registration}
