# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Wanted against found: ``changed`` and ``diff`` are two readings of one comparison, so they can never disagree."""

from __future__ import annotations

import typing as t

HIDDEN = "(hidden)"


class Difference:
    """Collects what differs between the wanted and the found state.

    A secret that differs counts as a change, and shows as ``(hidden)`` on both sides of the diff.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[str, t.Any, t.Any]] = []

    def add(self, name: str, wanted: t.Any, found: t.Any, secret: bool = False) -> bool:
        """Record one comparison; returns whether it differs. ``name`` may be dotted for nested things."""
        if wanted == found:
            return False
        if secret:
            # None still shows as absent: that is no secret, and tells creation from rotation.
            wanted = wanted if wanted is None else HIDDEN + " (new)"
            found = found if found is None else HIDDEN
        self._entries.append((name, wanted, found))
        return True

    def merge(self, prefix: str, other: "Difference") -> None:
        """Take over another comparison's entries under ``prefix``."""
        for name, wanted, found in other._entries:
            self._entries.append((f"{prefix}.{name}" if name else prefix, wanted, found))

    @property
    def changed(self) -> bool:
        return bool(self._entries)

    @property
    def names(self) -> list[str]:
        """What differs, sorted."""
        return sorted(name for name, wanted, found in self._entries)

    def diff(self) -> dict[str, dict[str, t.Any]]:
        """For ``exit_json(diff=...)``: only what differs, keys sorted."""
        entries = sorted(self._entries, key=lambda entry: entry[0])
        return {
            "before": {name: found for name, wanted, found in entries},
            "after": {name: wanted for name, wanted, found in entries},
        }


__all__ = ["Difference", "HIDDEN"]
