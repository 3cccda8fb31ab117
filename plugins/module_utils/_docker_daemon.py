# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""daemon.json as a document with several owners: merging, undoing, and what a change costs.

Pure: text and mappings in, decisions out. Which keys a reload applies was measured on Docker 20.10 to 29.
"""

from __future__ import annotations

import copy
import json
import re
import typing as t

# SIGHUP applies these; everything else needs a restart.
RELOAD_KEYS = frozenset(
    [
        "authorization-plugins",
        "debug",
        "default-cgroupns-mode",
        "default-ipc-mode",
        "default-runtime",
        "default-shm-size",
        "default-stop-timeout",
        "features",
        "insecure-registries",
        "labels",
        "live-restore",
        "max-concurrent-downloads",
        "max-concurrent-uploads",
        "max-download-attempts",
        "network-diagnostic-port",
        "nri-opts",
        "registry-mirrors",
        "runtimes",
        "shutdown-timeout",
    ]
)
# A reload stores all features, but these act at start only.
RESTART_FEATURES = frozenset(["cdi", "containerd-snapshotter"])
# A reload keeps the old value of a key that is gone from the file: only these explicit values undo it.
EXPLICIT_EMPTIES: dict[str, t.Any] = {
    "authorization-plugins": [],
    "debug": False,
    "default-runtime": "runc",
    "default-shm-size": "64M",
    "insecure-registries": [],
    "labels": [],
    "live-restore": False,
    "registry-mirrors": [],
    "runtimes": {},
    "shutdown-timeout": 15,
}
# These a reload sets back by itself when they are gone. What is in neither table only a restart undoes: its default
# follows from the machine (default-cgroupns-mode) or from the version.
RESET_WHEN_ABSENT = frozenset(["features", "max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts", "network-diagnostic-port"])
OWNERS_VERSION = 1

Document = t.Dict[str, t.Any]
# section -> path ("runtimes/nvidia") -> {"set": value, "before": value found there} ; "before" is left out when nothing was there,
# "parent_absent" is true when the object that holds it was ours too.
Owners = t.Dict[str, t.Dict[str, t.Dict[str, t.Any]]]


class DocumentError(Exception):
    """daemon.json, or the record of its owners, is not usable; the text says what was found and what to do."""


class Merge(t.NamedTuple):
    """The file as it should be, who owns what in it, and what a reload has to be given to undo what went away."""

    document: Document
    owners: Owners
    transition: Document


class Cost(t.NamedTuple):
    """What a change of the file costs: keys that a reload applies, and keys that need a restart."""

    reload: t.List[str]
    restart: t.List[str]


def _no_number(word: str) -> t.Any:
    raise ValueError(f"{word} is no JSON")


def _finite(word: str) -> float:
    number = float(word)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{word} is too large")
    return number


def same(one: t.Any, other: t.Any) -> bool:
    """Whether two values are the same JSON: to Python 1, 1.0 and true are equal."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def parse_document(text: str, path: str) -> Document:
    """The file as a mapping; an empty file and a byte order mark are fine, as they are for dockerd."""
    text = text.lstrip("\ufeff")
    if not text.strip():
        return {}
    try:
        if any("\udc80" <= character <= "\udcff" for character in text):
            raise ValueError("it is not UTF-8")
        document = json.loads(text, parse_constant=_no_number, parse_float=_finite)
        # An escaped half of a character is JSON to Python, and cannot be written again.
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise DocumentError(
            f"{path} is not valid JSON: {error}. It was left as it is. Correct it, or set repair: true to keep it as a backup and start anew."
        ) from error
    if not isinstance(document, dict):
        raise DocumentError(f"{path} holds a {type(document).__name__}, not an object. It was left as it is. Correct it, or set repair: true.")
    return document


def render(document: t.Mapping[str, t.Any]) -> str:
    """As people and other tools write it: four spaces, keys in the order found, a newline at the end."""
    return json.dumps(document, indent=4, ensure_ascii=False) + "\n"


def parse_owners(text: str, path: str) -> Owners:
    if not text.strip():
        return {}
    try:
        record = json.loads(text)
        sections = record["sections"]
    except (ValueError, KeyError, TypeError) as error:
        raise DocumentError(
            f"{path}, the record of who owns which key of daemon.json, is not readable: {error}. Correct it, or delete it to forget the owners."
        ) from error
    if not isinstance(sections, dict) or not all(isinstance(entries, dict) for entries in sections.values()):
        raise DocumentError(f"{path}, the record of who owns which key of daemon.json, has no usable sections. Correct it, or delete it to forget the owners.")
    return sections


def wanted_paths(config: t.Mapping[str, t.Any]) -> dict[tuple[str, ...], t.Any]:
    """The wanted values by path: an object is merged key by key, everything else is set as a whole."""
    paths: dict[tuple[str, ...], t.Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            for name, entry in value.items():
                paths[(key, name)] = entry
        else:
            paths[(key,)] = value
    return paths


def path_name(path: tuple[str, ...]) -> str:
    return "/".join(path)


def split_path(name: str) -> tuple[str, ...]:
    return tuple(name.split("/", 1))


def _has(document: t.Mapping[str, t.Any], path: tuple[str, ...]) -> bool:
    if len(path) == 1:
        return path[0] in document
    parent = document.get(path[0])
    return isinstance(parent, dict) and path[1] in parent


def _get(document: t.Mapping[str, t.Any], path: tuple[str, ...]) -> t.Any:
    return document[path[0]] if len(path) == 1 else document[path[0]][path[1]]


def _owner_of_parent(owners: Owners, key: str) -> bool:
    """Whether one of our sections made the object that a key holds."""
    return any(split_path(name)[0] == key and entry.get("parent_absent") for entries in owners.values() for name, entry in entries.items())


def _undo(document: Document, path: tuple[str, ...], entry: t.Mapping[str, t.Any]) -> None:
    """Put back what was there before this path was ours; what was changed by hand since then stays."""
    if not _has(document, path) or not same(_get(document, path), entry["set"]):
        return
    if len(path) == 1:
        if "before" in entry:
            document[path[0]] = entry["before"]
        else:
            del document[path[0]]
        return
    parent = document[path[0]]
    if "before" in entry:
        parent[path[1]] = entry["before"]
        return
    del parent[path[1]]
    if parent:
        return
    if "parent_before" in entry:
        document[path[0]] = entry["parent_before"]
    elif entry.get("parent_absent"):
        del document[path[0]]


def _check_conflicts(owners: Owners, section: str, wanted: t.Mapping[tuple[str, ...], t.Any]) -> None:
    for other, entries in owners.items():
        if other == section:
            continue
        for name, entry in entries.items():
            path = split_path(name)
            for mine, value in wanted.items():
                overlaps = mine == path or (mine[0] == path[0] and len(mine) != len(path))
                if overlaps and not (mine == path and same(entry["set"], value)):
                    raise DocumentError(
                        f"The section {section} wants {path_name(mine)}, which the section {other} owns as {name} with another value. Set it in one place only."
                    )


def merge(found: t.Mapping[str, t.Any], owners: Owners, section: str, config: t.Mapping[str, t.Any]) -> Merge:
    """Make ``section`` own exactly ``config`` in the file; keys of nobody and of other sections stay.

    Raises :class:`DocumentError` when another section owns one of the keys with another value.
    """
    document = copy.deepcopy(dict(found))
    kept = copy.deepcopy(owners)
    for key in config:
        if "/" in key:
            raise DocumentError(f"{key} is no key of daemon.json. Give objects as objects: {{runtimes: {{nvidia: ...}}}}.")
    wanted = wanted_paths(config)
    _check_conflicts(kept, section, wanted)
    mine = kept.pop(section, {})
    others = {name: entry for entries in kept.values() for name, entry in entries.items()}
    for name, entry in mine.items():
        path = split_path(name)
        if path in wanted:
            continue
        if name not in others:
            _undo(document, path, entry)
    records: dict[str, dict[str, t.Any]] = {}
    for path, value in wanted.items():
        name = path_name(path)
        # A path shared with another section has one history: what was there before either of them.
        old = mine.get(name) or others.get(name)
        record: dict[str, t.Any] = {"set": copy.deepcopy(value)}
        if old is not None:
            record.update({key: entry for key, entry in old.items() if key != "set"})
        else:
            if _has(document, path):
                record["before"] = copy.deepcopy(_get(document, path))
            if len(path) == 2 and not isinstance(document.get(path[0]), dict):
                if path[0] in document:
                    record["parent_before"] = document[path[0]]
                else:
                    record["parent_absent"] = True
            elif len(path) == 2 and (
                _owner_of_parent(kept, path[0]) or _owner_of_parent({section: records}, path[0]) or _owner_of_parent({section: mine}, path[0])
            ):
                record["parent_absent"] = True
        records[name] = record
    for path, value in wanted.items():
        if len(path) == 1:
            document[path[0]] = copy.deepcopy(value)
        else:
            if not isinstance(document.get(path[0]), dict):
                document[path[0]] = {}
            document[path[0]][path[1]] = copy.deepcopy(value)
    if records:
        kept[section] = records
    return Merge(document, kept, transition_of(found, document))


def transition_of(found: t.Mapping[str, t.Any], document: t.Mapping[str, t.Any]) -> Document:
    """The file to reload with: keys that went away carry the explicit value that undoes them."""
    transition = copy.deepcopy(dict(document))
    for key in found:
        if key not in document and key in EXPLICIT_EMPTIES and found[key] != EXPLICIT_EMPTIES[key]:
            transition[key] = copy.deepcopy(EXPLICIT_EMPTIES[key])
    return transition


def cost(found: t.Mapping[str, t.Any], document: t.Mapping[str, t.Any]) -> Cost:
    """Which of the keys that differ a reload applies, and which need a restart."""
    reload, restart = [], []
    absent = object()
    for key in sorted(set(found) | set(document)):
        before, after = found.get(key, absent), document.get(key, absent)
        if before is not absent and after is not absent and same(before, after):
            continue
        if key == "features":
            before = before if isinstance(before, dict) else {}
            after = after if isinstance(after, dict) else {}
            names = {name for name in set(before) | set(after) if not same(before.get(name), after.get(name))}
            restart += [f"features/{name}" for name in sorted(names & RESTART_FEATURES)]
            if names - RESTART_FEATURES:
                reload.append(key)
        elif key in RELOAD_KEYS and (after is not absent or key in EXPLICIT_EMPTIES or key in RESET_WHEN_ABSENT):
            reload.append(key)
        else:
            restart.append(key)
    return Cost(reload, restart)


_CREDENTIALS = re.compile(r"(://)[^/@\s\"]+@")


def without_credentials(text: str) -> str:
    """The text with user names and passwords in URLs (proxies) left out."""
    return _CREDENTIALS.sub(r"\1(hidden)@", text)


__all__ = [
    "Cost",
    "DocumentError",
    "EXPLICIT_EMPTIES",
    "Merge",
    "OWNERS_VERSION",
    "RELOAD_KEYS",
    "RESET_WHEN_ABSENT",
    "cost",
    "merge",
    "parse_document",
    "parse_owners",
    "render",
    "same",
    "transition_of",
    "without_credentials",
]
