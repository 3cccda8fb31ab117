# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter that says which weights the declared models name."""

from __future__ import annotations

import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_declared import weights_of

DOCUMENTATION = r"""
name: weights_of
short_description: The weights that declared models name, for the module model_weights
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Makes of every model with C(weights) an entry for O(llmops.dify_xinference.model_weights#module:models).
  - C(weights) is the name of a repository, or a dictionary with the keys of such an entry. The folder is called as C(name) says,
    or as the model's C(uid). Models with C(state=absent), and those that placement refused, are left out.
positional: _input, source
options:
  _input:
    description: The declared models.
    type: list
    elements: dict
    required: true
  source:
    description: Where weights come from that name no C(source).
    type: str
    default: huggingface
"""

EXAMPLES = r"""
- name: Bring the weights
  llmops.dify_xinference.model_weights:
    models: "{{ xinference_models | llmops.dify_xinference.weights_of('modelscope') }}"
"""

RETURN = r"""
_value:
  description: For the option C(models) of M(llmops.dify_xinference.model_weights).
  type: list
  elements: dict
"""


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"weights_of": weights_of}
