# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""The lock of a bundle: for every name, which bytes it stood for when it was first asked for."""

from __future__ import annotations

import json
import os
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._bundle import FORMAT, BundleError

SECTIONS = ("debs", "files", "images", "python", "weights")


def read_lock(path: str) -> dict[str, t.Any]:
    """The lock; empty when there is none. Raises :class:`BundleError` for one that cannot be read."""
    try:
        with open(path, encoding="utf-8") as stream:
            lock = json.load(stream)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read as a lock: {error}. Put it back from where you keep it, or remove it to resolve everything anew.") from error
    if not isinstance(lock, dict) or lock.get("format") != FORMAT:
        raise BundleError(f"{path} is no lock of this version: remove it to resolve everything anew.")
    return lock


def prune_lock(lock: dict[str, t.Any], wanted: t.Mapping[str, t.Collection[str]]) -> None:
    """Leave out of the lock what nobody asks for any more."""
    for section in SECTIONS:
        for name in list(lock.get(section, {})):
            if name not in wanted.get(section, ()):
                del lock[section][name]


def write_lock(path: str, lock: t.Mapping[str, t.Any]) -> bool:
    """Whether it changed."""
    text = json.dumps(lock, indent=2, sort_keys=True) + "\n"
    try:
        with open(path, encoding="utf-8") as stream:
            if stream.read() == text:
                return False
    except OSError:
        pass
    with open(path + ".new", "w", encoding="utf-8") as stream:
        stream.write(text)
    os.replace(path + ".new", path)
    return True


__all__ = ["SECTIONS", "prune_lock", "read_lock", "write_lock"]
