# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""The NVIDIA container toolkit on a host: packages, CDI specifications, and whether a GPU can get lost. Pure.

Sources: the toolkit's packaging (exact dependencies since 1.18), docs.nvidia.com (CDI support), the moby sources (which way
``--gpus`` goes in which version), and runs on Docker 20.10 to 29.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._cuda import version_key

# They depend on one another's exact version: pinning only the first makes apt drift or fail.
PACKAGES = ("nvidia-container-toolkit", "nvidia-container-toolkit-base", "libnvidia-container-tools", "libnvidia-container1")
# What came before. nvidia-docker2 has daemon.json as a file of its own, so it is never purged.
LEGACY = ("nvidia-docker2", "nvidia-docker", "nvidia-container-runtime", "nvidia-container-runtime-hook", "libnvidia-container0")
# From here on Docker tries CDI first for --gpus, so the devices stand in the container's own specification.
DOCKER_GPUS_BY_CDI = (29, 2)
CGROUPFS = "native.cgroupdriver=cgroupfs"


class Package(t.NamedTuple):
    """One package on the host. ``version`` is empty when only its configuration is left."""

    version: str
    held: bool


class PackagePlan(t.NamedTuple):
    """``install`` and ``hold`` are names of packages, ``remove`` are predecessors that are in the way; ``current`` is what is there, in words."""

    satisfied: bool
    install: t.List[str]
    hold: t.List[str]
    remove: t.List[str]
    current: t.List[str]


class Spec(t.NamedTuple):
    """One CDI specification of NVIDIA GPUs. ``driver`` is the version its library names carry, empty when they carry none."""

    path: str
    driver: str


class SpecVerdict(t.NamedTuple):
    """``state``: none, fresh, stale or unknown; ``refresh`` are the files to generate anew; ``double`` when two files name the same devices."""

    state: str
    double: bool
    refresh: t.List[str]
    messages: t.List[str]


class Exposure(t.NamedTuple):
    """Whether a ``systemctl daemon-reload`` takes the GPUs from running containers, and what defends against it."""

    exposed: bool
    reason: str
    defend: bool


def parse_dpkg(text: str) -> dict[str, Package]:
    """``dpkg-query`` lines of ``<wanted> <status> <name>=<version>`` by name."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) != 3 or "=" not in words[2]:
            continue
        name, dummy, version = words[2].partition("=")
        found[name] = Package(version if words[1] == "installed" else "", words[0] == "hold")
    return found


def parse_rpm(text: str) -> dict[str, Package]:
    """``rpm -q`` lines of ``<name>=<version>-<release>``; what is not installed says so in words. The repository file locks, so all count as held."""
    rows = [line.strip().partition("=") for line in text.splitlines() if re.match(r"^[a-z0-9.+-]+=\S+$", line.strip())]
    return {name: Package(version, True) for name, dummy, version in rows}


def plan_packages(found: t.Mapping[str, Package], version: str) -> PackagePlan:
    """What has to be done so that the four packages are there at one version, held, and without their predecessors."""
    nothing = Package("", False)
    install = [name for name in PACKAGES if found.get(name, nothing).version != version]
    hold = [name for name in PACKAGES if name in install or not found.get(name, nothing).held]
    remove = [name for name in LEGACY if found.get(name, nothing).version]
    current = [f"{name} {package.version}" for name, package in sorted(found.items()) if package.version]
    # All four move together, or apt would have to be told how to break the exact dependencies.
    return PackagePlan(not (install or hold or remove), list(PACKAGES) if install else [], hold, remove, current)


def parse_spec(path: str, text: str) -> Spec | None:
    """A CDI specification, YAML or JSON, or ``None`` when it is not one of NVIDIA's GPUs. No YAML parser is on a bare host."""
    if not re.search(r"""(?m)^\s*["']?kind["']?\s*:\s*["']?nvidia\.com/gpu["']?\s*,?\s*$""", text):
        return None
    # The libraries' names carry the driver's version; libcuda is in every specification of a GPU.
    versions = re.findall(r"lib(?:cuda|nvidia-ml)\.so\.(\d{3,}\.\d+(?:\.\d+)?)", text)
    return Spec(path, versions[0] if versions else "")


def judge_specs(specs: t.Sequence[Spec], loaded: str | None) -> SpecVerdict:
    """Compare the specifications with the loaded driver. A stale one makes container starts fail with "no such file"."""
    if not specs:
        return SpecVerdict("none", False, [], [])
    messages = []
    stale = [spec for spec in specs if loaded and spec.driver and spec.driver != loaded]
    for spec in stale:
        messages.append(f"The CDI specification {spec.path} is for driver {spec.driver}, and {loaded} is loaded: it is generated anew.")
    double = len(specs) > 1
    if double:
        paths = [spec.path for spec in specs]
        messages.append(
            f"{' and '.join(paths)} name the same GPUs. The one below /run wins; the other one was made by hand and is not "
            f"followed by upgrades. Delete {next((path for path in paths if path.startswith('/etc/')), paths[0])} when nothing needs it."
        )
    if stale:
        return SpecVerdict("stale", double, [spec.path for spec in stale], messages)
    known = bool(loaded) and all(spec.driver for spec in specs)
    return SpecVerdict("fresh" if known else "unknown", double, [], messages)


def exposure(docker_version: str, cgroup_driver: str, has_spec: bool, containers: int, ours: bool) -> Exposure:
    """Whether GPUs that ``--gpus`` or Compose's ``driver: nvidia`` gave can get lost, and whether ``daemon.json`` shall say cgroupfs.

    With the systemd cgroup driver every ``systemctl daemon-reload`` applies a unit's devices anew, and the hook's are not
    among them (NVML then says Unknown Error). ``containers`` is the number of running ones: they were made under the old
    driver, and a dockerd with another one cannot manage them. ``ours`` is whether the setting is there, and this role's:
    it is never taken back, for that would cost a restart and bring the loss back.
    """
    if not docker_version:
        return Exposure(False, "Docker does not run yet.", ours)
    if version_key(docker_version)[:2] >= DOCKER_GPUS_BY_CDI and has_spec:
        return Exposure(False, f"Docker {docker_version} gives GPUs by CDI, so they are in the containers' own specification.", ours)
    if cgroup_driver == "cgroupfs":
        return Exposure(False, "Docker's cgroup driver is cgroupfs, which systemd does not reload.", ours)
    reason = f"Docker {docker_version} gives GPUs by the hook, and its cgroup driver is {cgroup_driver or 'unknown'}: "
    return Exposure(True, reason + "any systemctl daemon-reload takes the GPUs from running containers.", ours or containers == 0)


__all__ = [
    "CGROUPFS",
    "Exposure",
    "LEGACY",
    "PACKAGES",
    "Package",
    "PackagePlan",
    "Spec",
    "SpecVerdict",
    "exposure",
    "judge_specs",
    "parse_dpkg",
    "parse_rpm",
    "parse_spec",
    "plan_packages",
]
