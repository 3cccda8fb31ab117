# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""What a folder of weights has to hold, against what it holds: pure decisions, and the manifest they rest on."""

from __future__ import annotations

import fnmatch
import re
import typing as t

MANIFEST = ".weights.json"
PARTIAL = ".incomplete"

KEEP, FETCH, REFUSE = "keep", "fetch", "refuse"


class File(t.NamedTuple):
    """A file that is wanted. ``size`` in bytes, ``None`` when only the server knows it.

    ``digest``: ``sha256:<hex>``, ``git:<hex>`` (SHA-1 of git's blob header and the content, for what is not in LFS), or
    ``mtime:<ns>`` for a copy of a local file.
    """

    path: str
    size: t.Optional[int]
    digest: str


class Listing(t.NamedTuple):
    """The files of one model as their source lists them. ``commit``: what a moving revision stands for now; may be empty."""

    commit: str
    files: t.List[File]


class Plan(t.NamedTuple):
    """``fetch``: what is missing or differs. ``keep``: what is there. ``remove``: ours of an earlier revision."""

    fetch: t.List[File]
    keep: t.List[File]
    remove: t.List[str]

    def bytes_to_come(self, partial: t.Mapping[str, int]) -> int:
        """Bytes that have to travel, what lies in partial files not counted."""
        return sum(max((file.size or 0) - partial.get(partial_name(file), 0), 0) for file in self.fetch)


def problem_with_path(path: str) -> str:
    """Why a file's path may not be written below a folder; empty when it may."""
    parts = path.split("/")
    if not path or path.startswith("/") or "\\" in path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        return f"the path {path!r} leads out of the folder"
    if parts[0] in (MANIFEST, PARTIAL):
        return f"the path {path!r} is one of this module's own"
    return ""


def problem_with_name(name: t.Any) -> str:
    """Why a model's folder cannot have this name; empty when it can."""
    if not isinstance(name, str) or not re.match(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$", name):
        return f"the name {name!r} is no name for a folder: letters, digits, dots, dashes and underscores"
    return ""


def selected(path: str, allow: t.Sequence[str], ignore: t.Sequence[str]) -> bool:
    """Patterns as huggingface_hub takes them: fnmatch on the whole path, ``*`` also matches slashes, ``folder/`` is its content."""

    def matches(pattern: str) -> bool:
        return fnmatch.fnmatchcase(path, pattern + "*" if pattern.endswith("/") else pattern)

    return (not allow or any(map(matches, allow))) and not any(map(matches, ignore))


def partial_name(file: File) -> str:
    """Name of a file's partial download: another content never continues it."""
    return file.path.replace("%", "%25").replace("/", "%2F") + "." + re.sub(r"\W", "", file.digest.rpartition(":")[2])[:16]


def is_commit(revision: str) -> bool:
    """Whether a revision can never mean anything else."""
    return bool(re.match(r"^[0-9a-f]{40}$|^[0-9a-f]{64}$", revision))


def same_request(manifest: t.Mapping[str, t.Any], request: t.Mapping[str, t.Any]) -> bool:
    """Whether a manifest answers this very request."""
    return manifest.get("request") == dict(request)


def recorded(manifest: t.Mapping[str, t.Any]) -> dict[str, dict[str, t.Any]]:
    files = manifest.get("files")
    return {str(path): entry for path, entry in files.items() if isinstance(entry, dict)} if isinstance(files, dict) else {}


def intact(entry: t.Mapping[str, t.Any] | None, found: tuple[int, int] | None) -> bool:
    """Whether a file is as it was when it was verified: same size, same modification time."""
    return entry is not None and found is not None and (entry.get("size"), entry.get("mtime_ns")) == found


def decide(files: t.Sequence[File], manifest: t.Mapping[str, t.Any], found: t.Mapping[str, tuple[int, int]], verified: t.Collection[str] = ()) -> Plan:
    """Compare a listing with a folder.

    :param found: path -> (size, mtime in ns) of what lies in the folder.
    :param verified: paths whose content was read and has the wanted digest, whatever the manifest says.
    """
    entries = recorded(manifest)
    fetch: list[File] = []
    keep: list[File] = []
    for file in files:
        entry = entries.get(file.path)
        known = intact(entry, found.get(file.path)) and entry is not None and entry.get("digest") == file.digest
        (keep if known or file.path in verified else fetch).append(file)
    wanted = {file.path for file in files}
    return Plan(fetch, keep, sorted(path for path in entries if path not in wanted and path in found))


def to_read(files: t.Sequence[File], manifest: t.Mapping[str, t.Any], found: t.Mapping[str, tuple[int, int]], all_of_them: bool) -> list[File]:
    """Files that have to be read to know whether they are the wanted ones: there, of the right size, and not vouched for."""
    entries = recorded(manifest)
    result = []
    for file in files:
        there = found.get(file.path)
        if there is None or file.digest.startswith("mtime:") or (file.size is not None and file.size != there[0]):
            continue
        entry = entries.get(file.path)
        if all_of_them or not (intact(entry, there) and entry is not None and entry.get("digest") == file.digest):
            result.append(file)
    return result


def parse_checksums(text: str) -> list[tuple[str, str]]:
    """(path, SHA-256) of the lines that ``sha256sum`` writes. Raises ValueError on a line that is none."""
    result = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.match(r"^\\?([0-9A-Fa-f]{64}) [ *](.+)$", line)
        if not match:
            raise ValueError(f"line {number} is not of the form of sha256sum: {line[:80]!r}")
        path = match.group(2)
        result.append((path[2:] if path.startswith("./") else path, match.group(1).lower()))
    if not result:
        raise ValueError("no line with a checksum")
    return result


__all__ = [
    "FETCH",
    "File",
    "KEEP",
    "Listing",
    "MANIFEST",
    "PARTIAL",
    "Plan",
    "REFUSE",
    "decide",
    "intact",
    "is_commit",
    "parse_checksums",
    "partial_name",
    "problem_with_name",
    "problem_with_path",
    "recorded",
    "same_request",
    "selected",
    "to_read",
]
