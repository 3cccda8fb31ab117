# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""How modules reach the places where weights come from: the options of the doc fragment ``weights``, in one place."""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import env_fallback
from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_http import Web, ansible_opener


def hub_spec() -> dict[str, dict[str, t.Any]]:
    """Documented in the doc fragment ``weights``."""
    return {
        "huggingface_endpoint": {"type": "str", "fallback": (env_fallback, ["HF_ENDPOINT"])},
        "huggingface_token": {"type": "str", "no_log": True, "fallback": (env_fallback, ["HF_TOKEN"])},
        "modelscope_endpoint": {"type": "str", "fallback": (env_fallback, ["MODELSCOPE_DOMAIN"])},
        "modelscope_token": {"type": "str", "no_log": True, "fallback": (env_fallback, ["MODELSCOPE_API_TOKEN"])},
        "http_token": {"type": "str", "no_log": True},
        "concurrency": {"type": "int", "default": 4},
        "retries": {"type": "int", "default": 5},
        "timeout": {"type": "float", "default": 60},
        "validate_certs": {"type": "bool", "default": True},
        "ca_path": {"type": "path"},
    }


def web_of(params: t.Mapping[str, t.Any]) -> Web:
    """HTTP as these options want it."""
    return Web(ansible_opener(params["timeout"], params["validate_certs"], params["ca_path"]), params["retries"])


__all__ = ["hub_spec", "web_of"]
