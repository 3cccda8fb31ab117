# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Options that the modules of backup, restore, upgrade and teardown share; documented in the doc fragment ``backup``."""

from __future__ import annotations

import typing as t

Spec = t.Dict[str, t.Dict[str, t.Any]]


def stack_arguments() -> Spec:
    return {"home": {"type": "path", "required": True}, "project": {"type": "str", "default": "dify"}}


def key_argument() -> Spec:
    return {"key": {"type": "str", "no_log": True}}


def retention_arguments() -> Spec:
    return {"keep": {"type": "int", "default": 7}, "keep_days": {"type": "int", "default": 0}}


__all__ = ["key_argument", "retention_arguments", "stack_arguments"]
