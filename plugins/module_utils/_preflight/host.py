# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Section A: the host itself."""

from __future__ import annotations

import platform
import re

from ansible_collections.llmops.dify_xinference.plugins.module_utils._nvidia import read_text
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._core import FAIL, OK, UNKNOWN, WARN, Check, Context, Finding

SUPPORTED = {"debian": ("12", "13"), "ubuntu": ("22.04", "24.04", "26.04")}
ARCHITECTURES = ("x86_64", "aarch64")
# What Dify asks for when it stands alone; a host with less than half of it does not even start Xinference.
MEMORY_WANTED_GIB = 4.0
MEMORY_NEEDED_GIB = 2.0


def parse_os_release(text: str) -> dict[str, str]:
    """The assignments of ``/etc/os-release``, quotes removed."""
    return {key: value.strip("\"'") for key, value in re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE)}


def os_supported(context: Context) -> Finding:
    text = read_text(context.host_root, "etc/os-release")
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


def memory_gib(text: str | None) -> float | None:
    match = re.search(r"^MemTotal:\s+(\d+) kB", text or "", re.MULTILINE)
    return int(match.group(1)) / 1024 / 1024 if match else None


def cpu_ram(context: Context) -> Finding:
    found = memory_gib(read_text(context.host_root, "proc/meminfo"))
    if found is None:
        return Finding(UNKNOWN, "/proc/meminfo cannot be read.")
    if found < MEMORY_NEEDED_GIB:
        return Finding(FAIL, f"{found:.1f} GiB of memory, at least {MEMORY_NEEDED_GIB:.0f} GiB are needed.")
    largest = max((gpu["memory_total_mib"] or 0 for gpu in context.smi.gpus), default=0) / 1024
    wanted = max(MEMORY_WANTED_GIB, largest)
    # Kernel and firmware take a share of what the board carries, so 5 % below is no finding.
    if found < wanted * 0.95:
        return Finding(
            WARN, f"{found:.1f} GiB of memory, {wanted:.1f} GiB wanted (the memory of the largest GPU): loading a model that fills a GPU may not work."
        )
    return Finding(OK, f"{found:.1f} GiB of memory")


CHECKS = (
    Check("A01", "os_supported", "fail", "Use Debian 12 or 13, or Ubuntu 22.04, 24.04 or 26.04.", os_supported),
    Check("A02", "arch", "fail", "Use a host with x86_64 or aarch64; the NVIDIA container toolkit exists for no other.", arch),
    Check("A05", "cpu_ram", "fail", "Give the host more memory, or run smaller models.", cpu_ram),
)
