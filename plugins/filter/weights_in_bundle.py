# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter that takes declared weights from a bundle."""

from __future__ import annotations

import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_declared import weights_in_bundle

DOCUMENTATION = r"""
name: weights_in_bundle
short_description: Declared weights as files of a bundle
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Replaces the source of every entry that the bundle has by the bundle's server, with each file and its checksum.
  - What is not in the bundle stays as it is.
positional: _input, bundled, url
options:
  _input:
    description: For the option C(models) of M(llmops.dify_xinference.model_weights).
    type: list
    elements: dict
    required: true
  bundled:
    description: Weights of the bundle, as M(llmops.dify_xinference.bundle_info) returns them in C(contents).
    type: list
    elements: dict
    required: true
  url:
    description: Where the bundle's folder of weights is served.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Take the weights from the bundle
  ansible.builtin.set_fact:
    model_weights_models: "{{ declared | llmops.dify_xinference.weights_in_bundle(bundle_checked.contents.weights, 'http://192.0.2.21:5080/weights') }}"
"""

RETURN = r"""
_value:
  description: For the option C(models) of M(llmops.dify_xinference.model_weights).
  type: list
  elements: dict
"""


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"weights_in_bundle": weights_in_bundle}
