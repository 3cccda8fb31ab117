# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter that makes a table for people of the preflight's document."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight.table import WIDTH, table

DOCUMENTATION = r"""
name: preflight_table
short_description: Show the preflight's findings as a table of hosts and checks
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Hosts down, checks with a finding across; below it each finding once, with the hosts that have it and what to do.
options:
  _input:
    description: What P(llmops.dify_xinference.preflight_report#filter) returns.
    type: dict
    required: true
  width:
    description: Columns to keep to.
    type: int
    default: 100
"""

EXAMPLES = r"""
- name: Show the findings of all hosts
  ansible.builtin.debug:
    msg: "{{ groups['gpu_hosts'] | llmops.dify_xinference.preflight_report(hostvars) | llmops.dify_xinference.preflight_table(width=80) }}"
  run_once: true
"""

RETURN = r"""
_value:
  description: The table, lines separated by newlines.
  type: str
"""


def preflight_table(document: t.Mapping[str, t.Any], width: int = WIDTH) -> str:
    if not isinstance(document, t.Mapping) or "hosts" not in document:
        raise AnsibleFilterError("preflight_table needs what the filter preflight_report returns.")
    return table(dict(document), int(width))


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"preflight_table": preflight_table}
