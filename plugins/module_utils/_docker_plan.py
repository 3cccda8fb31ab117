# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""From a changed daemon.json and a running dockerd to the cheapest action: none, start, reload or restart. Pure."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_daemon import Cost

NONE = "none"
START = "start"
RELOAD = "reload"
RESTART = "restart"
# Both clocks have second-grain sources; a file this much older than dockerd still counts as older.
CLOCK_GRAIN = 2.0


class Unit(t.NamedTuple):
    """The service: ``started`` is seconds since the epoch, 0 when it does not run; ``flags`` is what its command line sets."""

    installed: bool
    active: bool
    started: float
    flags: t.Dict[str, str]
    command: t.List[str]


class Decision(t.NamedTuple):
    """``action`` with its ``reasons``; ``pending`` is what only a restart would apply and was not allowed."""

    action: str
    reasons: t.List[str]
    pending: t.List[str]


def _url(mirror: str) -> str:
    return str(mirror).rstrip("/") + "/"


def live_expectations(document: t.Mapping[str, t.Any], flags: t.Mapping[str, str]) -> dict[str, t.Any]:
    """What ``/info`` has to show once the file is loaded, for what a reload applies and ``/info`` shows."""
    runtimes = document.get("runtimes")
    expected: dict[str, t.Any] = {
        "registry-mirrors": [_url(mirror) for mirror in document.get("registry-mirrors") or []],
        "live-restore": bool(document.get("live-restore", False)),
        "default-runtime": document.get("default-runtime") or "runc",
        "labels": sorted(document.get("labels") or []),
        "debug": bool(document.get("debug", False)),
        "runtimes": sorted(runtimes) if isinstance(runtimes, dict) else [],
    }
    # What the command line sets is the unit's business.
    return {key: value for key, value in expected.items() if key not in flags}


def live_values(info: t.Mapping[str, t.Any], document: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The same keys as ``/info`` shows them; of the runtimes, those that are not built in."""
    registry = info.get("RegistryConfig") or {}
    runtimes = info.get("Runtimes") or {}
    wanted = document.get("runtimes")
    wanted = wanted if isinstance(wanted, dict) else {}
    names = {name for name in runtimes if name != "runc" and not name.startswith("io.containerd.")}
    # A wanted name of the built-in form counts when it is there.
    names |= {name for name in wanted if name in runtimes}
    stale = {
        name
        for name, entry in wanted.items()
        if name in names and isinstance(entry, dict) and entry.get("path") and (runtimes[name] or {}).get("path") not in (None, entry["path"])
    }
    return {
        "registry-mirrors": [_url(mirror) for mirror in registry.get("Mirrors") or []],
        "live-restore": bool(info.get("LiveRestoreEnabled")),
        "default-runtime": info.get("DefaultRuntime") or "runc",
        "labels": sorted(info.get("Labels") or []),
        "debug": bool(info.get("Debug")),
        "runtimes": sorted(names - stale),
    }


def not_loaded(document: t.Mapping[str, t.Any], info: t.Mapping[str, t.Any], flags: t.Mapping[str, str]) -> dict[str, tuple[t.Any, t.Any]]:
    """Keys whose value in the file is not the running one: ``{key: (in the file, running)}``."""
    running = live_values(info, document)
    return {key: (value, running[key]) for key, value in live_expectations(document, flags).items() if running[key] != value}


def needs_restart_by_info(document: t.Mapping[str, t.Any], info: t.Mapping[str, t.Any]) -> list[str]:
    """Restart-only keys that ``/info`` shows with another value than the file has: somebody never restarted."""
    shown = {"data-root": "DockerRootDir", "log-driver": "LoggingDriver", "storage-driver": "Driver"}
    keys = [key for key, name in shown.items() if document.get(key) and info.get(name) and str(document[key]).rstrip("/") != str(info[name]).rstrip("/")]
    for option in document.get("exec-opts") or []:
        name, dummy, value = str(option).partition("=")
        if name == "native.cgroupdriver" and info.get("CgroupDriver") and info["CgroupDriver"] != value:
            keys.append("exec-opts")
    return sorted(keys)


def hidden_store(document: t.Mapping[str, t.Any], found: t.Mapping[str, t.Any], info: t.Mapping[str, t.Any]) -> str:
    """Why the engine's store may not be changed while it holds something; empty when it is not, or holds nothing.

    The images and containers of the old place stay on disk, take its space, and are shown no more.
    """
    images, containers = int(info.get("Images") or 0), int(info.get("Containers") or 0)
    if not images and not containers:
        return ""
    moves = []
    wanted = str(document.get("data-root") or "").rstrip("/")
    if "data-root" in document and wanted != str(info.get("DockerRootDir") or wanted).rstrip("/"):
        moves.append(f"data-root from {info.get('DockerRootDir')} to {wanted}")
    elif "data-root" in found and "data-root" not in document:
        moves.append(f"data-root from {info.get('DockerRootDir')} back to its default")
    driver = document.get("storage-driver")
    if driver and info.get("Driver") and driver != info["Driver"]:
        moves.append(f"storage-driver from {info['Driver']} to {driver}")
    features = [value if isinstance(value, dict) else {} for value in (document.get("features"), found.get("features"))]
    store = any(list(entry)[:2] == ["driver-type", "io.containerd.snapshotter.v1"] for entry in info.get("DriverStatus") or [])
    name = "containerd-snapshotter"
    if features[0].get(name) != features[1].get(name) and bool(features[0].get(name)) != store:
        moves.append(f"features/{name} to {json.dumps(features[0].get(name))}")
    if not moves:
        return ""
    return (
        f"it would change {', '.join(moves)}, and the {images} images and {containers} containers here would be hidden. Move them yourself "
        "(stop Docker, copy the folder, run again), remove them, or set docker_allow_hidden_images: true to start empty."
    )


def late_files(started: float, changed_at: t.Mapping[str, float], seen: t.Mapping[str, float]) -> list[str]:
    """Files that dockerd looks for at its start only and that came after it.

    ``seen`` remembers for a file the start time of a dockerd that did find it: an upgrade of the package gives the file
    a new time, and needs no restart.
    """
    late = []
    for path, when in changed_at.items():
        known = abs(seen.get(path, 0.0) - started) <= CLOCK_GRAIN
        if when > started + CLOCK_GRAIN and not known:
            late.append(path)
    return sorted(late)


def decide(
    unit: Unit,
    written: bool,
    change: Cost,
    unloaded: t.Collection[str],
    restart_keys: t.Collection[str],
    late: t.Collection[str],
    allow_start: bool,
    allow_restart: bool,
    late_reason: str = "",
) -> Decision:
    """What to do after the file was written (``written``) or found right.

    ``unloaded``: keys that the running daemon shows otherwise; ``restart_keys``: keys that are known to wait for a
    restart, from an interrupted run or from ``/info``; ``late``: see :func:`late_files`.
    """
    if not unit.installed:
        return Decision(NONE, ["Docker is not installed yet; it will read the file when it starts."] if written else [], [])
    if not unit.active:
        if allow_start:
            return Decision(START, ["Docker does not run."], [])
        return Decision(NONE, ["Docker does not run; it will read the file when it starts."] if written else [], [])
    needing = sorted(set(change.restart) | set(restart_keys))
    restart_reasons = []
    if needing:
        restart_reasons.append(f"Only a restart applies {', '.join(needing)}.")
    for path in late:
        restart_reasons.append(f"{path} was installed after dockerd started{': ' + late_reason if late_reason else ''}.")
    reload_reasons = []
    reloading = sorted(set(change.reload) | set(unloaded))
    if reloading:
        reload_reasons.append(f"A reload applies {', '.join(reloading)}.")
    if restart_reasons and allow_restart:
        return Decision(RESTART, restart_reasons + reload_reasons, [])
    if reload_reasons:
        return Decision(RELOAD, reload_reasons, restart_reasons)
    return Decision(NONE, [], restart_reasons)


__all__ = [
    "Decision",
    "NONE",
    "RELOAD",
    "RESTART",
    "START",
    "Unit",
    "decide",
    "hidden_store",
    "late_files",
    "live_expectations",
    "live_values",
    "needs_restart_by_info",
    "not_loaded",
]
