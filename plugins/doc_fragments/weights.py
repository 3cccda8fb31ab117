# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # How a module reaches the places where weights come from.
    DOCUMENTATION = r"""
options:
  huggingface_endpoint:
    description: Address of the Hugging Face Hub or a mirror of it. If the value is not specified, E(HF_ENDPOINT) is used.
    type: str
  huggingface_token:
    description: Token for gated and private repositories. If the value is not specified, E(HF_TOKEN) is used.
    type: str
  modelscope_endpoint:
    description: Address of ModelScope. If the value is not specified, E(MODELSCOPE_DOMAIN) is used.
    type: str
  modelscope_token:
    description: Token for ModelScope. If the value is not specified, E(MODELSCOPE_API_TOKEN) is used.
    type: str
  http_token:
    description: Bearer token for sources of the kind V(http).
    type: str
  concurrency:
    description: How many files come at the same time.
    type: int
    default: 4
  retries:
    description: How often a file is tried again in a row without a byte of progress.
    type: int
    default: 5
  timeout:
    description: Seconds without a byte after which a connection counts as broken.
    type: float
    default: 60
  validate_certs:
    description: Whether certificates are checked.
    type: bool
    default: true
  ca_path:
    description: File with certification authorities, for a mirror or a proxy with a private one.
    type: path
"""
