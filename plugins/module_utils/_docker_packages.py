# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Which packages bring Docker Engine and Compose to a host, given what it is and what it has. Pure.

Distribution versions: Debian's archive as of 2026-11 (12 has only Compose 1.29, 13 has 2.26.1); Ubuntu's
docker-compose-v2 is 2.24.6 or newer in the updates of 22.04 and 24.04.
"""

from __future__ import annotations

import re
import typing as t

DOCKER_PACKAGES = ("docker-ce", "docker-ce-cli", "containerd.io", "docker-buildx-plugin", "docker-compose-plugin")
PLUGIN = "docker-compose-plugin"
# apt would remove these to install Docker's own packages, and with them the containers that they run.
CONFLICTING = ("containerd", "docker-desktop", "docker-engine", "lxc-docker", "moby-engine", "runc")
# Worth a word, and in nobody's way: a Compose that answers to another name, a wrapper that writes daemon.json.
REPORTED = {
    "docker-compose": "its command is docker-compose, version {}; `docker compose` is what is used here",
    "nvidia-docker2": "it is obsolete, and its installation writes daemon.json; remove it when the NVIDIA container toolkit is there",
}
# What the look at the host asks dpkg for.
KNOWN_PACKAGES = DOCKER_PACKAGES + CONFLICTING + ("docker.io", "docker-cli", "docker-compose", "docker-compose-v2", "nvidia-docker2", "podman-docker")


class Distribution(t.NamedTuple):
    """What a distribution's own archive has; ``compose`` is empty when its Compose is no plugin of ``docker``."""

    engine: t.Tuple[str, ...]
    compose: str
    compose_version: str


DISTRIBUTIONS = {
    ("debian", "12"): Distribution(("docker.io",), "", "1.29.2"),
    ("debian", "13"): Distribution(("docker.io", "docker-cli"), "docker-compose", "2.26.1"),
    ("ubuntu", "22.04"): Distribution(("docker.io",), "docker-compose-v2", "2.24.6"),
    ("ubuntu", "24.04"): Distribution(("docker.io",), "docker-compose-v2", "2.24.6"),
    ("ubuntu", "26.04"): Distribution(("docker.io",), "docker-compose-v2", "2.24.6"),
}


class Found(t.NamedTuple):
    """What is on the host. ``docker_path`` is the command with links followed, empty when there is none."""

    os_id: str
    os_version: str
    packages: t.Dict[str, str]
    docker_path: str
    dockerd_path: str
    compose_version: str
    apparmor: bool = False


class Plan(t.NamedTuple):
    """``refusal`` is empty when the host can be served; ``messages`` are worth showing either way."""

    satisfied: bool
    packages: t.List[str]
    needs_docker_repository: bool
    messages: t.List[str]
    refusal: str


def version_key(version: str) -> tuple[int, ...]:
    """``v2.24.4-desktop.1`` as numbers, so that 2.9 is older than 2.24 and 5.1 newer."""
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(part or 0) for part in match.groups()) if match else ()


def at_least(version: str, minimum: str) -> bool:
    return bool(version_key(version)) and version_key(version) >= version_key(minimum)


def engine_version(packages: t.Mapping[str, str]) -> str:
    """``5:29.8.0-1~debian.13`` as ``29.8.0``; empty when the engine is not from a package."""
    version = packages.get("docker-ce") or packages.get("docker.io") or ""
    return ".".join(str(part) for part in version_key(version.rpartition(":")[2]))


def _is_old(found: Found, name: str) -> bool:
    """Whether a package is there, and is not the plugin that newer archives have under an old name."""
    version = found.packages.get(name, "")
    return bool(version) and not (name == "docker-compose" and at_least(version, "2.0"))


def _refuse(text: str) -> Plan:
    return Plan(False, [], False, [], text)


def _companions(found: Found) -> list[str]:
    """What the engine needs and only recommends: TLS roots, and the profile loader where the kernel enforces AppArmor."""
    return ["ca-certificates"] + (["apparmor"] if found.apparmor else [])


def plan(found: Found, source: str, compose_minimum: str) -> Plan:
    """``source``: auto (the distribution's, and Docker's for what it lacks), distribution, or docker."""
    if found.docker_path.startswith("/snap/") or found.docker_path == "/usr/bin/snap":
        return _refuse("Docker comes from snap here, which cannot use the host's NVIDIA hook. Save what its containers hold, then: snap remove docker.")
    if "podman-docker" in found.packages:
        return _refuse("podman-docker is installed, and answers in Docker's place. Remove it first: apt remove podman-docker.")
    distribution = DISTRIBUTIONS.get((found.os_id, found.os_version), Distribution((), "", ""))
    if not distribution.engine and source != "docker":
        return _refuse(f"{found.os_id} {found.os_version} is not supported. Supported are {', '.join(f'{name} {version}' for name, version in DISTRIBUTIONS)}.")
    has_engine = bool({"docker-ce", "docker.io"} & set(found.packages)) or bool(found.dockerd_path)
    good_compose = at_least(found.compose_version, compose_minimum)
    messages = [f"{name} is installed and stays: {words.format(found.packages[name])}." for name, words in REPORTED.items() if _is_old(found, name)]
    if has_engine and source == "docker" and "docker.io" in found.packages:
        messages.append("docker.io is installed and stays: replacing it by docker-ce would stop every container. Remove it yourself in a maintenance window.")
    if "docker.io" in found.packages and not found.docker_path:
        # Newer archives keep the command in a package of its own, which the engine only recommends.
        return Plan(False, ["docker-cli"], False, messages, "")
    if has_engine and good_compose:
        return Plan(True, [], False, messages, "")
    engine: list[str] = []
    if not has_engine:
        if source == "docker":
            conflicts = sorted(set(CONFLICTING) & set(found.packages))
            if conflicts:
                return _refuse(
                    f"{', '.join(conflicts)} would have to be removed for Docker's own packages, and what runs on them would end. "
                    f"Look what runs (ctr -n k8s.io containers list), then: apt remove {' '.join(conflicts)}. Or set docker_package_source: distribution."
                )
            return Plan(False, list(DOCKER_PACKAGES) + _companions(found), True, messages, "")
        engine = list(distribution.engine) + _companions(found)
    elif not found.packages.keys() & {"docker-ce", "docker.io"}:
        return _refuse(
            f"Docker was not installed from a package ({found.dockerd_path}), and its Compose is "
            f"{found.compose_version or 'missing'}; {compose_minimum} is needed. "
            "Install the Compose plugin beside it."
        )
    if good_compose:
        return Plan(False, engine, False, messages, "")
    if source == "docker" or "docker-ce" in found.packages:
        return Plan(False, engine + [PLUGIN], True, messages, "")
    if distribution.compose and at_least(distribution.compose_version, compose_minimum) and distribution.compose not in found.packages:
        return Plan(False, engine + [distribution.compose], False, messages, "")
    if source == "distribution":
        return _refuse(
            f"{found.os_id} {found.os_version} has Docker Compose {distribution.compose_version}; {compose_minimum} is needed. "
            "Set docker_package_source to auto (Compose from Docker's repository) or docker (all of it)."
        )
    messages.append(
        f"{found.os_id} {found.os_version} has Docker Compose {distribution.compose_version}, and {compose_minimum} is needed: "
        f"{PLUGIN} is taken from Docker's repository."
    )
    return Plan(False, engine + [PLUGIN], True, messages, "")


__all__ = ["DISTRIBUTIONS", "DOCKER_PACKAGES", "Found", "KNOWN_PACKAGES", "Plan", "at_least", "engine_version", "plan", "version_key"]
