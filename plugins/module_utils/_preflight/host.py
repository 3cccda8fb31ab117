# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Section A: the host itself."""

from __future__ import annotations

import fcntl
import os
import platform
import re
import struct
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight import _http_probe, apt
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._context import Context
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._core import (
    FAIL,
    INFO,
    OK,
    SKIP,
    UNKNOWN,
    WARN,
    Detect,
    Finding,
)

SUPPORTED = {"debian": ("12", "13"), "ubuntu": ("22.04", "24.04", "26.04")}
ARCHITECTURES = ("x86_64", "aarch64")
# What the server takes by itself; a host with less than half of it does not even start Xinference.
MEMORY_WANTED_GIB = 4.0
MEMORY_NEEDED_GIB = 2.0
# dockerd's own default is a million; below this many, servers with many connections run out.
FILES_WANTED = 65536
# TLS and apt's Valid-Until forgive minutes, signed tokens do not.
CLOCK_TOLERANCE = 30.0
MIB = 1024.0


def parse_os_release(text: str) -> dict[str, str]:
    """The assignments of ``/etc/os-release``, quotes removed."""
    return {key: value.strip("\"'") for key, value in re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE)}


def os_supported(context: Context) -> Finding:
    text = context.text("etc/os-release")
    if text is None:
        return Finding(UNKNOWN, "/etc/os-release cannot be read.")
    release = parse_os_release(text)
    name, version = release.get("ID", "?"), release.get("VERSION_ID", "?")
    if version in SUPPORTED.get(name, ()):
        return Finding(OK, f"{name} {version}")
    return Finding(FAIL, f"{name} {version} is not supported.")


def arch(context: Context) -> Finding:
    machine = platform.machine()
    if machine in ARCHITECTURES:
        return Finding(OK, machine)
    return Finding(FAIL, f"The processor architecture {machine} is not supported.")


def virtualization(context: Context) -> Finding:
    if context.is_wsl:
        return Finding(INFO, "WSL2: the driver is Windows', and is neither installed nor checked here.")
    status, out = context.answer("systemd-detect-virt")
    found = out.strip()
    if not found:
        return Finding(UNKNOWN, "systemd-detect-virt gave no answer.")
    return Finding(OK, "bare metal" if found == "none" else found)


def cgroup_version(context: Context) -> Finding:
    if os.path.exists(context.path("sys/fs/cgroup/cgroup.controllers")):
        return Finding(OK, "cgroup v2")
    if not os.path.isdir(context.path("sys/fs/cgroup")):
        return Finding(UNKNOWN, "/sys/fs/cgroup cannot be seen.")
    return Finding(WARN, "The host uses cgroup v1.")


def meminfo(context: Context) -> dict[str, float]:
    """/proc/meminfo in MiB (HugePages_Total as a number of pages)."""
    rows = re.findall(r"^(\w+):\s+(\d+)( kB)?", context.text("proc/meminfo") or "", re.MULTILINE)
    return {name: int(value) / MIB if unit else float(value) for name, value, unit in rows}


def cpu_ram(context: Context) -> Finding:
    found = meminfo(context).get("MemTotal", 0.0) / MIB
    if not found:
        return Finding(UNKNOWN, "/proc/meminfo cannot be read.")
    if found < MEMORY_NEEDED_GIB:
        return Finding(FAIL, f"{found:.1f} GiB of memory, at least {MEMORY_NEEDED_GIB:.0f} GiB are needed.")
    weights = max((model.disk_gib for model in context.options.models), default=0.0)
    largest = max((gpu["memory_total_mib"] or 0 for gpu in context.smi.gpus), default=0) / MIB
    why = "the weights of the largest declared model" if weights else "the memory of the largest GPU"
    wanted = max(MEMORY_WANTED_GIB, weights or largest)
    # Kernel and firmware take a share of what the board carries, so 5 % below is no finding.
    if found < wanted * 0.95:
        return Finding(WARN, f"{found:.1f} GiB of memory, {wanted:.1f} GiB wanted ({why}): loading such a model may not work.")
    return Finding(OK, f"{found:.1f} GiB of memory")


def swap(context: Context) -> Finding:
    memory = meminfo(context)
    if "SwapTotal" not in memory:
        return Finding(UNKNOWN, "/proc/meminfo cannot be read.")
    used = memory["SwapTotal"] - memory.get("SwapFree", 0.0)
    available = memory.get("MemAvailable", 0.0) / max(memory.get("MemTotal", 1.0), 1.0)
    # Pages swapped out long ago with memory to spare cost nothing.
    if used > MIB and available < 0.15:
        return Finding(WARN, f"{used / MIB:.1f} GiB are swapped out and {available:.0%} of the memory is available.")
    return Finding(OK, f"{used / MIB:.1f} GiB swapped out")


def nofile(context: Context) -> Finding:
    unit = context.units.get("docker", {})
    if unit.get("LoadState") != "loaded":
        return Finding(SKIP, "Docker is not installed yet.")
    limit = unit.get("LimitNOFILE", "")
    if limit.isdecimal() and int(limit) < FILES_WANTED:
        return Finding(WARN, f"docker.service may open {limit} files, and its containers no more.")
    return Finding(OK, f"docker.service may open {limit or '?'} files")


def hugepages(context: Context) -> Finding:
    memory = meminfo(context)
    if "MemTotal" not in memory:
        return Finding(UNKNOWN, "/proc/meminfo cannot be read.")
    taken = memory.get("HugePages_Total", 0.0) * memory.get("Hugepagesize", 0.0)
    if taken > 0.1 * memory.get("MemTotal", 1.0):
        return Finding(INFO, f"{taken / MIB:.1f} GiB of memory are locked in huge pages.")
    return Finding(OK, "no memory worth the name in huge pages")


def numa(context: Context) -> Finding:
    nodes = {gpu["numa_node"] for gpu in context.pci_gpus or [] if (gpu["numa_node"] or 0) >= 0}
    if len(nodes) > 1:
        return Finding(INFO, f"The GPUs are on {len(nodes)} processor sockets.")
    return Finding(OK, "all GPUs on one socket") if context.pci_gpus else Finding(SKIP, "There is no GPU.")


def clock(context: Context) -> Finding:
    offsets = sorted(answer.offset for answer in _http_probe.all_answers(context).values() if answer.offset is not None)
    if offsets:
        # The middle one: a single server with a wrong clock of its own accuses nobody.
        off = offsets[len(offsets) // 2]
        if abs(off) > CLOCK_TOLERANCE:
            return Finding(WARN, f"The clock is {abs(off):.0f} s {'behind' if off > 0 else 'ahead'}, compared with {len(offsets)} HTTP servers in use.")
        return Finding(OK, f"the clock agrees with {len(offsets)} HTTP servers to {CLOCK_TOLERANCE:.0f} s")
    status, out = context.answer("timedatectl", "show", "-p", "NTPSynchronized", "--value")
    if status == 0 and out.strip() == "yes":
        return Finding(OK, "the clock is synchronized")
    return Finding(
        UNKNOWN, "No server was there to compare the clock with, and systemd does not say that it is synchronized.", "Start chrony or systemd-timesyncd."
    )


def reboot_pending(context: Context) -> Finding:
    if not os.path.exists(context.path("run/reboot-required")):
        return Finding(OK, "no reboot is pending")
    packages = sorted(set((context.text("run/reboot-required.pkgs") or "").split()))
    return Finding(WARN, "A reboot is pending" + (f" for {', '.join(packages[:5])}{' ...' if len(packages) > 5 else ''}." if packages else "."))


def lock_holder(path: str) -> int | None:
    """The process that holds a lock file's lock, 0 when nobody does, ``None`` when it cannot be seen."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return 0
    except OSError:
        return None
    try:
        # struct flock of 64-bit Linux: type, whence, start, length, pid.
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
        kind, dummy, dummy, dummy, pid = struct.unpack("hhqqi4x", fcntl.fcntl(handle, fcntl.F_GETLK, asked))
        return 0 if kind == fcntl.F_UNLCK else max(pid, 1)
    except OSError:
        return None
    finally:
        os.close(handle)


def apt_state(context: Context) -> Finding:
    status, out = context.answer("dpkg", "--audit")
    if status == 127:
        return Finding(SKIP, "There is no dpkg.")
    if out.strip():
        first = next((line.strip() for line in out.splitlines() if line.startswith(" ")), out.splitlines()[0])
        return Finding(FAIL, f"dpkg was interrupted: {first}")
    if status != 0:
        return Finding(UNKNOWN, f"dpkg --audit ended with {status}.")
    holder = lock_holder(context.path("var/lib/dpkg/lock-frontend"))
    if holder:
        return Finding(WARN, f"apt or dpkg is at work (process {holder}).", "Wait until it has ended; the roles wait for a while by themselves.")
    if holder is None:
        return Finding(UNKNOWN, "dpkg has nothing half-installed; who holds its lock is root's to see.", "Run with become: true.")
    return Finding(OK, "dpkg is idle, with nothing half-installed")


def apt_files(context: Context) -> list[str]:
    folder = "etc/apt/sources.list.d"
    return ["etc/apt/sources.list"] + [f"{folder}/{name}" for name in context.listing(folder) if name.endswith((".list", ".sources"))]


def apt_entries(context: Context) -> list[apt.Entry]:
    found: list[apt.Entry] = []
    for file in apt_files(context):
        text = context.text(file)
        if text is None:
            continue
        if file.endswith(".list"):
            found += apt.one_line_entries("/" + file, text)
        elif file.endswith(".sources"):
            found += apt.deb822_entries("/" + file, text)
    return found


def apt_conflict(context: Context) -> Finding:
    if not os.path.isdir(context.path("etc/apt")):
        return Finding(SKIP, "There is no apt.")
    groups = apt.conflicts(apt_entries(context))
    hidden = context.hidden(*apt_files(context))
    if not groups and hidden:
        return Finding(UNKNOWN, f"Cannot be read: {', '.join(hidden)}.", "Run with become: true.")
    if not groups:
        return Finding(OK, "no repository has two keys")
    files = sorted({entry.file for group in groups for entry in group})
    return Finding(
        FAIL,
        f"apt refuses all its sources: {groups[0][0].uri} has different Signed-By in {', '.join(files)}.",
        f"Keep one entry; delete it from the others ({', '.join(files)}).",
    )


def driver_packages(context: Context) -> dict[str, tuple[str, bool]]:
    """Packages that make up the driver, without the toolkit's, which the roles hold by themselves."""
    names = re.compile(
        r"^(nvidia-(driver|utils|kernel|dkms|compute|fabricmanager|persistenced|modprobe|open)|libnvidia-(?!container)|linux-modules-nvidia|libcuda1)"
    )
    return {name: entry for name, entry in (context.packages or {}).items() if names.match(name)}


def unattended(context: Context) -> Finding:
    names = ["etc/apt/apt.conf.d/" + name for name in context.listing("etc/apt/apt.conf.d")]
    found = apt.settings([context.text(name) or "" for name in names])
    hidden = context.hidden(*names)
    if hidden and not apt.unattended_upgrades(found):
        return Finding(UNKNOWN, f"Cannot be read: {', '.join(hidden)}.", "Run with become: true.")
    if not apt.unattended_upgrades(found):
        return Finding(OK, "no unattended upgrades")
    packages = driver_packages(context)
    if not packages:
        return Finding(SKIP, "The driver is not apt's.")
    if apt.spared(found, "nvidia") or all(held for dummy, held in packages.values()):
        return Finding(OK, "unattended upgrades leave the driver alone")
    return Finding(WARN, f"Unattended upgrades are on and may replace the driver ({len(packages)} packages) under running models.")


def needrestart(context: Context) -> Finding:
    texts = [context.text("etc/needrestart/needrestart.conf")] + [
        context.text("etc/needrestart/conf.d/" + name) for name in context.listing("etc/needrestart/conf.d")
    ]
    lines = [line for text in texts for line in (text or "").splitlines() if not line.lstrip().startswith("#")]
    automatic = any(re.search(r"\{restart\}\s*=\s*'a'", line) for line in lines)
    spared = any("override_rc" in line and "docker" in line for line in lines)
    if automatic and not spared:
        return Finding(INFO, "needrestart restarts services by itself, Docker among them.")
    return Finding(OK, "needrestart does not restart Docker by itself")


DETECT: t.Mapping[str, Detect] = {
    "A01": os_supported,
    "A02": arch,
    "A03": virtualization,
    "A04": cgroup_version,
    "A05": cpu_ram,
    "A06": swap,
    "A09": nofile,
    "A12": hugepages,
    "A13": numa,
    "A14": clock,
    "A16": reboot_pending,
    "A17": apt_state,
    "A18": apt_conflict,
    "A19": unattended,
    "A20": needrestart,
}

__all__ = ["DETECT", "driver_packages", "parse_os_release"]
