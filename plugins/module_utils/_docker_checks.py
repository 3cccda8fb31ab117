# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""What a dockerd would make of a daemon.json: refuse it, ignore part of it, or not start with the unit's flags. Pure.

Its own ``--validate`` (23.0 and newer) is blind to much of this; what it sees and what it does not was measured on
Docker 20.10, 26.1 and 29.
"""

from __future__ import annotations

import re
import shlex
import typing as t

# Names of command line flags that dockerd accepts in the file and ignores there: the keys are plural.
SINGULAR_KEYS = {
    "add-runtime": "runtimes",
    "authorization-plugin": "authorization-plugins",
    "default-address-pool": "default-address-pools",
    "default-ulimit": "default-ulimits",
    "exec-opt": "exec-opts",
    "host": "hosts",
    "insecure-registry": "insecure-registries",
    "label": "labels",
    "log-opt": "log-opts",
    "registry-mirror": "registry-mirrors",
    "runtime": "runtimes",
    "storage-opt": "storage-opts",
}
_SHORT_FLAGS = {"H": "hosts", "D": "debug", "l": "log-level", "G": "group", "g": "data-root", "s": "storage-driver", "b": "bridge", "p": "pidfile"}
_TYPES: dict[str, type | tuple[type, ...]] = {
    "debug": bool,
    "default-runtime": str,
    "exec-opts": list,
    "features": dict,
    "hosts": list,
    "insecure-registries": list,
    "labels": list,
    "live-restore": bool,
    "log-opts": dict,
    "registry-mirrors": list,
    "runtimes": dict,
}
_BUILT_IN_RUNTIMES = ("runc", "io.containerd.runc.v1", "io.containerd.runc.v2", "io.containerd.runtime.v1.linux")
# Keys that dockerd's help does not name, as no flags or as hidden ones; it takes them in the file all the same.
_FILE_ONLY_KEYS = frozenset(
    ["builder", "default-network-opts", "deprecated-key-path", "features", "log-opts", "network-diagnostic-port", "proxies", "runtimes"]
)


def old_engines_refuse(text: str) -> str:
    """What of a file that is sound for Docker 23.0 and newer an older dockerd does not start with; empty when nothing."""
    if not text.strip():
        return "is empty"
    return "begins with a byte order mark" if text.startswith("\ufeff") else ""


def flag_keys(command: str) -> dict[str, str]:
    """Keys that the unit's command line sets, with the flag as written: ``{"hosts": "-H", "containerd": "--containerd"}``."""
    keys: dict[str, str] = {}
    try:
        words = shlex.split(command)[1:]
    except ValueError:
        words = command.split()[1:]
    for word in words:
        if word.startswith("--"):
            flag = word[2:].split("=", 1)[0]
            keys[SINGULAR_KEYS.get(flag, flag)] = "--" + flag
        elif re.match(r"^-[A-Za-z]", word):
            keys[_SHORT_FLAGS.get(word[1], word[1])] = word[:2]
    return keys


def own_checks(document: t.Mapping[str, t.Any], unit_flags: t.Mapping[str, str]) -> list[str]:
    """What dockerd would refuse or silently ignore, and its own ``--validate`` does not see; one sentence each."""
    problems = [f"{key} is no key of daemon.json." for key in document if "/" in key]
    for wrong, right in SINGULAR_KEYS.items():
        if wrong in document:
            problems.append(f"{wrong} is no key of daemon.json and would be ignored; the key is {right}.")
    for key, kind in _TYPES.items():
        if key in document and document[key] is not None and not isinstance(document[key], kind):
            problems.append(f"{key} has to be a {t.cast(type, kind).__name__}, not {document[key]!r}.")
    mirrors = document.get("registry-mirrors")
    for mirror in mirrors if isinstance(mirrors, list) else []:
        if not isinstance(mirror, str) or not re.match(r"^https?://[^/@\s]+(/\S*)?$", mirror):
            shown = str(mirror).rsplit("@", maxsplit=1)[-1]
            problems.append(f"registry-mirrors: {shown} is no URL of the form https://host[:port], without a user name or password.")
    runtimes = document.get("runtimes")
    runtimes = runtimes if isinstance(runtimes, dict) else {}
    if "runc" in runtimes:
        problems.append("runtimes: runc is built in and may not be defined.")
    default = document.get("default-runtime")
    if isinstance(default, str) and default not in runtimes and default not in _BUILT_IN_RUNTIMES and not default.startswith("io.containerd."):
        problems.append(f"default-runtime is {default}, which runtimes does not define: dockerd would not start.")
    exec_opts = document.get("exec-opts")
    for option in exec_opts if isinstance(exec_opts, list) else []:
        if str(option).startswith("native.cgroupdriver=") and str(option).split("=", 1)[1] not in ("systemd", "cgroupfs"):
            problems.append(f"exec-opts: {option} is no cgroup driver; it can be systemd or cgroupfs.")
    log_opts = document.get("log-opts")
    for name, value in log_opts.items() if isinstance(log_opts, dict) else ():
        if not isinstance(value, str):
            problems.append(f'log-opts: {name} has to be text ("{value}"), not {value!r}.')
    for key, flag in unit_flags.items():
        # Runtimes are merged from both places; all else in two places stops dockerd.
        if key in document and key != "runtimes":
            problems.append(f"{key} is set both in daemon.json and by {flag} on the command line of the unit: dockerd would not start.")
    return problems


def known_keys(help_text: str) -> set[str]:
    """The keys that a dockerd takes, by its ``--help``: dockerd itself compares the file with its flags."""
    flags = re.findall(r"^\s+(?:-\w, )?--([a-z0-9-]+)", help_text, re.MULTILINE)
    # A key of a list is its flag's name in the plural; dockerd takes the singular too, and ignores it.
    return set(flags) | {flag + "s" for flag in flags} | {SINGULAR_KEYS.get(flag, flag) for flag in flags} | _FILE_ONLY_KEYS


def unknown_keys(keys: t.Iterable[str], help_text: str) -> list[str]:
    """Keys that this dockerd would refuse to start with, for one that is too old to check a file itself."""
    known = known_keys(help_text)
    if "http-proxy" not in known:
        known.discard("proxies")
    return sorted(key for key in keys if key not in known)


__all__ = ["SINGULAR_KEYS", "flag_keys", "known_keys", "old_engines_refuse", "own_checks", "unknown_keys"]
