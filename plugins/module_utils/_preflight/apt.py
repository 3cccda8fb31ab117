# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""apt's sources and settings as they are read, for the checks A17 to A19."""

from __future__ import annotations

import re
import typing as t


class Entry(t.NamedTuple):
    """One repository of one file: ``uri`` without a slash at its end, ``signed_by`` empty when nothing is said."""

    file: str
    uri: str
    suite: str
    signed_by: str


def one_line_entries(file: str, text: str) -> list[Entry]:
    """The entries of a .list file."""
    found = []
    for line in text.splitlines():
        match = re.match(r"^\s*deb(?:-src)?\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)", line)
        if match:
            signed = re.search(r"signed-by=(\S+)", match.group(1) or "", re.IGNORECASE)
            found.append(Entry(file, match.group(2).rstrip("/"), match.group(3), signed.group(1) if signed else ""))
    return found


def deb822_entries(file: str, text: str) -> list[Entry]:
    """The entries of a .sources file; a key that stands in the file itself is shown as such."""
    found = []
    for block in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if line.startswith("#"):
                continue
            match = re.match(r"^([A-Za-z-]+):\s*(.*)$", line)
            if match:
                name = match.group(1).lower()
                fields[name] = match.group(2).strip()
            elif name and line[:1] in (" ", "\t"):
                fields[name] = (fields[name] + "\n" + line.strip()).strip()
        if fields.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        signed = fields.get("signed-by", "")
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                found.append(Entry(file, uri.rstrip("/"), suite, signed))
    return found


def conflicts(entries: t.Sequence[Entry]) -> list[list[Entry]]:
    """Entries of one repository that name different keys: apt reads no source at all while there is one."""
    by_repository: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        by_repository.setdefault((entry.uri, entry.suite), []).append(entry)
    return [group for group in by_repository.values() if len({entry.signed_by for entry in group}) > 1]


def settings(texts: t.Sequence[str]) -> list[tuple[str, str]]:
    """apt.conf as (name, value), lists as repeated names, later files last; comments are left out."""
    found: list[tuple[str, str]] = []
    for text in texts:
        text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        text = "\n".join(re.sub(r"(^|\s)(//|#).*$", "", line) for line in text.splitlines())
        stack: list[str] = []
        for name, value, mark in re.findall(r'([A-Za-z][\w:./-]*)?\s*(?:"([^"]*)")?\s*([{};])', text):
            where = "::".join([*stack, name] if name else stack).lower().rstrip(":")
            if mark == "{":
                stack.append(name.rstrip(":"))
            elif mark == "}":
                stack = stack[:-1]
            elif value:
                found.append((where, value))
    return found


def unattended_upgrades(found: t.Sequence[tuple[str, str]]) -> bool:
    """Whether the nightly upgrade is on."""
    values = [value for name, value in found if name == "apt::periodic::unattended-upgrade"]
    return bool(values) and values[-1] not in ("0", "no", "false")


def spared(found: t.Sequence[tuple[str, str]], word: str) -> bool:
    """Whether the nightly upgrade's blacklist names packages with this word."""
    return any(name == "unattended-upgrade::package-blacklist" and word in value for name, value in found)


__all__ = ["Entry", "conflicts", "deb822_entries", "one_line_entries", "settings", "spared", "unattended_upgrades"]
