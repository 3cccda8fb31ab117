# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""What the sources of apt and dnf share: a key that is checked before anything is written, and files as one plan."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_host import read_file, write_file
from ansible_collections.llmops.dify_xinference.plugins.module_utils._openpgp import KeyFormatError, fingerprints, normal_fingerprint

# (path, text that is wanted); None: the file goes.
Plan = t.Sequence[t.Tuple[str, t.Optional[str]]]


class KeyRefusedError(ValueError):
    """The key is none, or another one than expected; the text says so to people."""


def checked_fingerprints(name: str, key: str, fingerprint: str) -> list[str]:
    """The primary keys' fingerprints; raises :class:`KeyRefusedError` when they are not the wanted one. An empty one takes any key."""
    wanted = normal_fingerprint(fingerprint)
    try:
        found = fingerprints(key)
    except KeyFormatError as error:
        raise KeyRefusedError(f"The key of the repository {name} is not usable: {error}. Give an ASCII-armoured public key.") from error
    if wanted and found != [wanted]:
        raise KeyRefusedError(
            f"The key of the repository {name} is not the expected one, so nothing was written. Expected: {wanted}. Found: {', '.join(found)}. "
            "If the vendor changed its key, verify the new fingerprint from a second source before setting it."
        )
    return found


def unfinished(plan: Plan) -> list[tuple[str, str | None]]:
    """What of a plan the files do not say yet; raises :class:`OSError`."""
    return [(path, wanted) for path, wanted in plan if read_file(path) != wanted]


def differences(plan: Plan, key_path: str) -> list[dict[str, str]]:
    """One entry of the diff for each file; a key is told by its fingerprint, for nobody reads its armour."""
    found = []
    for path, wanted in plan:
        texts = [read_file(path) or "", wanted or ""]
        if path == key_path:
            texts = [f"key {' '.join(_key_names(text))}\n" if text else "" for text in texts]
        found.append({"before_header": path, "after_header": path, "before": texts[0], "after": texts[1]})
    return found


def _key_names(text: str) -> list[str]:
    try:
        return fingerprints(text)
    except KeyFormatError:
        return ["(not readable)"]


def write(plan: Plan) -> None:
    """Each file whole or not at all, in the plan's order."""
    for path, wanted in plan:
        if wanted is None:
            os.unlink(path)
        else:
            write_file(path, wanted)


__all__ = ["KeyRefusedError", "checked_fingerprints", "differences", "unfinished", "write"]
