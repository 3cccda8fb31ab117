# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""One apt repository with its own key: what its files say, and which other entries would stop apt. Pure but for reading.

Two entries for one repository with different ``Signed-By`` values stop *all* of apt ("Conflicting values set for option
Signed-By"), so other entries for it are found by content, whatever their file is called.
"""

from __future__ import annotations

import re
import typing as t


class Source(t.NamedTuple):
    """A repository. A flat one has suite ``/`` (or a path that ends in ``/``) and no components."""

    name: str
    uri: str
    suite: str
    components: t.Tuple[str, ...]
    key_path: str


class SourceError(ValueError):
    """The repository cannot be written like this; the text says why."""


def render(source: Source) -> str:
    """The ``.sources`` file (deb822). apt itself fills in ``$(ARCH)``."""
    flat = source.suite.endswith("/")
    if flat and source.components:
        raise SourceError(f"{source.name}: a flat repository (suite {source.suite}) has no components, and apt would refuse them.")
    if not flat and not source.components:
        raise SourceError(f"{source.name}: the suite {source.suite} needs at least one component.")
    lines = ["Types: deb", f"URIs: {source.uri}", f"Suites: {source.suite}"]
    if source.components:
        lines.append("Components: " + " ".join(source.components))
    lines.append(f"Signed-By: {source.key_path}")
    return "\n".join(lines) + "\n"


def _one_line_entries(text: str) -> list[tuple[int, str]]:
    """(line number, URI) of the active entries of a ``.list`` file."""
    found = []
    for number, line in enumerate(text.splitlines()):
        match = re.match(r"^\s*deb(?:-src)?\s+(?:\[[^\]]*\]\s+)?(\S+)", line)
        if match:
            found.append((number, match.group(1)))
    return found


def _names(uri: str, patterns: t.Sequence[str]) -> bool:
    return any(re.search(pattern, uri) for pattern in patterns)


def without_entries(path: str, text: str, patterns: t.Sequence[str]) -> str | None:
    """A sources file without the entries whose URI matches one of the patterns.

    ``None`` when nothing in it is left to say, and the very same text when nothing matches.
    """
    if path.endswith(".sources"):
        stanzas = re.split(r"\n\s*\n", text)
        kept = [
            stanza for stanza in stanzas if not any(_names(uri, patterns) for uri in " ".join(re.findall(r"(?im)^URIs:(.*(?:\n[ \t].*)*)", stanza)).split())
        ]
        if len(kept) == len(stanzas):
            return text
        left = "\n\n".join(stanza for stanza in kept if stanza.strip())
        return left.rstrip("\n") + "\n" if re.search(r"(?im)^URIs:", left) else None
    drop = {number for number, uri in _one_line_entries(text) if _names(uri, patterns)}
    if not drop:
        return text
    lines = text.splitlines(keepends=True)
    left = "".join(line for number, line in enumerate(lines) if number not in drop)
    return left if _one_line_entries(left) else None


__all__ = ["Source", "SourceError", "render", "without_entries"]
