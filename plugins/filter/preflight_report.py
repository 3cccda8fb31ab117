# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters that turn what the preflight found on many hosts into one document and one table."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight.table import report

DOCUMENTATION = r"""
name: preflight_report
short_description: Put the preflight's findings of many hosts into one document
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Reads the fact that the role C(gpu_preflight) leaves on every GPU host. A host that could not be reached, or whose check broke, is in it as well.
  - P(llmops.dify_xinference.preflight_table#filter) makes a table of it.
positional: _input, hostvars
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
"""

EXAMPLES = r"""
- name: Show the findings of all hosts
  ansible.builtin.debug:
    msg: "{{ groups['gpu_hosts'] | llmops.dify_xinference.preflight_report(hostvars) | llmops.dify_xinference.preflight_table }}"
  run_once: true
"""

RETURN = r"""
_value:
  description: The document.
  type: dict
  contains:
    passed:
      description: Whether no host failed and all could be reached.
      type: bool
    ok:
      description: Names of the hosts without a finding.
      type: list
      elements: str
    fail:
      description: Names of the hosts with a failed check.
      type: list
      elements: str
    warn:
      description: Names of the hosts that only have warnings.
      type: list
      elements: str
    unreachable:
      description: Names of the hosts that could not be reached.
      type: list
      elements: str
    hosts:
      description: One entry per host with C(host), C(state), C(findings), C(unseen), C(statuses), C(gpus), C(driver), C(message) and C(seconds).
      type: list
      elements: dict
"""


def preflight_report(hosts: t.Sequence[str], hostvars: t.Mapping[str, t.Mapping[str, t.Any]]) -> dict[str, t.Any]:
    if isinstance(hosts, str):
        raise AnsibleFilterError("preflight_report needs a list of host names.")
    return report([(host, hostvars[host].get("gpu_preflight_result") or {"msg": "It was not checked."}) for host in hosts])


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"preflight_report": preflight_report}
