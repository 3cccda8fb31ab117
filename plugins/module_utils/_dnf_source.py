# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""One dnf repository with its own key: what its file says, and other files' entries for it. Pure.

dnf minds no second entry for a repository. But it takes the newest package of any of them, so one that somebody left would undo
the list of what this one may give, which is the version lock.
"""

from __future__ import annotations

import re
import typing as t


class Source(t.NamedTuple):
    """A repository. ``packages`` are dnf's patterns of what may come from it, as ``name-1.20.0-1*``; empty for everything."""

    name: str
    title: str
    url: str
    key_path: str
    packages: t.Tuple[str, ...] = ()


def render(source: Source) -> str:
    """The ``.repo`` file. The repository's index is signed, and carries the packages' digests."""
    lines = [f"[{source.name}]", f"name={source.title}", f"baseurl={source.url}", "enabled=1"]
    lines += ["repo_gpgcheck=1", "gpgcheck=0", f"gpgkey=file://{source.key_path}", "sslverify=1"]
    if source.packages:
        lines.append("includepkgs=" + " ".join(source.packages))
    return "\n".join(lines) + "\n"


def without_entries(text: str, patterns: t.Sequence[str]) -> str | None:
    """A ``.repo`` file without the entries one of whose addresses matches a pattern.

    ``None`` when no entry is left, and the very same text when nothing matches.
    """
    sections = re.split(r"(?m)^(?=\[)", text)
    kept = [section for section in sections if not (section.startswith("[") and _names(section, patterns))]
    if len(kept) == len(sections):
        return text
    return "".join(kept) if any(section.startswith("[") for section in kept) else None


def _names(section: str, patterns: t.Sequence[str]) -> bool:
    # An address may go on in lines that begin with a blank.
    found = re.findall(r"(?m)^(?:baseurl|mirrorlist|metalink)\s*=(.*(?:\n[ \t]+.*)*)", section)
    return any(re.search(pattern, address) for addresses in found for address in addresses.split() for pattern in patterns)


__all__ = ["Source", "render", "without_entries"]
