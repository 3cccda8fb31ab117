# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter that tells a launch where the weights are."""

from __future__ import annotations

import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_declared import with_weights

DOCUMENTATION = r"""
name: with_weights
short_description: Put the path of the weights in place of what they come from
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Gives every model with C(weights) its C(model_path), unless it has one, and takes C(weights) away, which the module that launches
    does not know.
  - A model whose weights could not be brought gets C(refused) with the reason, so that it is not launched and the others are.
positional: _input, mount, results
options:
  _input:
    description: The declared models.
    type: list
    elements: dict
    required: true
  mount:
    description: Where the server's container has the folder of all weights.
    type: str
    required: true
  results:
    description: The results RV(llmops.dify_xinference.model_weights#module:models) of the module that brought them.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Launch from the weights that were brought before
  llmops.dify_xinference.xinference_models:
    models: "{{ xinference_models | llmops.dify_xinference.with_weights('/weights', model_weights_result.models) }}"
"""

RETURN = r"""
_value:
  description: For the option C(models) of M(llmops.dify_xinference.xinference_models).
  type: list
  elements: dict
"""


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"with_weights": with_weights}
