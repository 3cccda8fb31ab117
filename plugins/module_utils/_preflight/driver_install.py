# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Section D, what is installed: why a module is not loaded, what will break it, and what nobody needs."""

from __future__ import annotations

import glob
import os
import re
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _nvidia_text
from ansible_collections.llmops.dify_xinference.plugins.module_utils._cuda import version_key
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._context import Context
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._core import FAIL, INFO, OK, SKIP, UNKNOWN, WARN, Detect, Finding
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight.driver import no_answer, no_driver_wanted
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight.host import driver_packages

SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
# Branch -> when NVIDIA ended it (docs.nvidia.com/datacenter/tesla, state of 2026-11). All others below 580 were short-lived ones.
ENDED = {470: "in July 2024", 535: "in June 2026", 550: "in June 2025", 570: "in February 2026"}
OLDEST_SUPPORTED = 580
VERSION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})+)")


def asked_before(context: Context) -> Finding | None:
    """These explain why no module is loaded; with one loaded they have nothing to say."""
    skip = no_driver_wanted(context)
    if skip:
        return skip
    if context.is_wsl:
        return Finding(SKIP, "WSL2: the driver is Windows'.")
    return Finding(OK, "the module is loaded") if context.loaded_version else None


def module_built(context: Context) -> Finding:
    done = asked_before(context)
    if done:
        return done
    if context.disk_version:
        return Finding(OK, f"nvidia {context.disk_version} is built for kernel {context.kernel}")
    paths = glob.glob(context.path("lib/modules/*/**/nvidia.ko*"), recursive=True)
    others = sorted({path.split("/lib/modules/", 1)[1].split("/", 1)[0] for path in paths})
    if others and context.kernel not in others:
        return Finding(FAIL, f"There is no nvidia module for kernel {context.kernel}; there is one for {', '.join(others)}.")
    return Finding(SKIP, "No nvidia module is installed (see D02).")


def headers(context: Context) -> Finding:
    done = asked_before(context)
    if done:
        return done
    dkms = [name for name in context.packages or {} if "nvidia" in name and ("dkms" in name or "kernel-source" in name)]
    if not dkms:
        return Finding(SKIP, "No package builds a module here.")
    if os.path.exists(context.path(f"lib/modules/{context.kernel}/build")):
        return Finding(OK, f"headers of kernel {context.kernel}")
    return Finding(FAIL, f"{dkms[0]} cannot build its module: the headers of kernel {context.kernel} are not installed.")


def secure_boot(context: Context) -> Finding:
    done = asked_before(context)
    if done:
        return done
    if not os.path.isdir(context.path("sys/firmware/efi")):
        return Finding(OK, "no UEFI, so no Secure Boot")
    try:
        with open(context.path(SECURE_BOOT), "rb") as stream:
            on = stream.read(5)[4:5] == b"\x01"
    except FileNotFoundError:
        return Finding(OK, "the firmware knows no Secure Boot")
    except OSError:
        return Finding(UNKNOWN, "Whether Secure Boot is on cannot be seen.")
    if not on:
        return Finding(OK, "Secure Boot is off")
    if "unsigned-module" in _nvidia_text.messages(context.kernel_log or ""):
        return Finding(FAIL, "Secure Boot is on, and the kernel refused the module: it is not signed with an enrolled key.")
    if context.disk_version:
        return Finding(FAIL, "Secure Boot is on and the installed module is not loaded: it is probably not signed with an enrolled key.")
    return Finding(INFO, "Secure Boot is on: the driver's module will have to be signed.")


def unsupported(context: Context) -> Finding:
    skip = no_driver_wanted(context)
    if skip:
        return skip
    if context.kernel_log is None:
        # Cards that answer are supported; only their absence needs the log.
        listed = len(context.smi.gpus)
        if listed and listed >= len(context.pci_gpus or []):
            return Finding(OK, "every GPU answers")
        return Finding(UNKNOWN, "The kernel log cannot be seen.", "Run with become: true, or add the user to the group systemd-journal.")
    match = re.search(r"NVIDIA GPU (\S+) \(PCI ID: (\w+:\w+)\)(?:.|\n){0,400}?NVIDIA (\S+) driver release", context.kernel_log)
    if match and context.loaded_version in (None, match.group(3)):
        return Finding(FAIL, f"The driver {match.group(3)} does not support GPU {match.group(1)} ({match.group(2)}), says the kernel log.")
    return Finding(OK, "the driver complains about no card")


def mismatch_pending(context: Context) -> Finding:
    loaded, installed = context.loaded_version, context.disk_version
    if not loaded:
        return Finding(SKIP, "No module is loaded.")
    if context.smi.status == 18:
        return Finding(SKIP, "It has come true already (see D07).")
    if not installed:
        return Finding(SKIP, "modinfo does not know the installed module.")
    if installed != loaded:
        return Finding(WARN, f"The driver was upgraded to {installed}, but {loaded} is loaded: running models live, the next container fails.")
    return Finding(OK, f"{loaded} is loaded and installed")


def driver_eol(context: Context) -> Finding:
    version = context.driver["version"]
    if not version:
        return Finding(SKIP, "No driver answers.")
    branch = version_key(version)[0]
    if branch >= OLDEST_SUPPORTED:
        return Finding(OK, f"branch {branch} is supported")
    return Finding(WARN, f"The driver branch {branch} ended {ENDED.get(branch, 'long ago')}.")


def several_installs(context: Context) -> Finding:
    packages = driver_packages(context)
    branches = sorted({match.group(1) for name in packages for match in [re.match(r"^nvidia-(?:driver|kernel-\w+|dkms|utils)-(\d{3})\b", name)] if match})
    if len(branches) > 1:
        return Finding(FAIL, f"Packages of {len(branches)} driver branches are installed: {', '.join(branches)}.")
    if os.path.exists(context.path("usr/bin/nvidia-uninstall")) and any(name.startswith(("nvidia-driver", "libnvidia-compute")) for name in packages):
        return Finding(FAIL, "A driver from the .run installer and one from packages are installed over each other.")
    return Finding(OK, "one driver") if packages else Finding(SKIP, "No package of a driver is installed.")


def holds(context: Context) -> Finding:
    packages = driver_packages(context)
    loose = sorted(name for name, (dummy, held) in packages.items() if not held)
    if not packages or len(loose) == len(packages):
        return Finding(SKIP, "No package of the driver is held.")
    if loose:
        return Finding(
            WARN, f"{len(packages) - len(loose)} packages of the driver are held, these are not: {', '.join(loose[:6])}{' ...' if len(loose) > 6 else ''}."
        )
    return Finding(OK, f"all {len(packages)} packages of the driver are held")


def persistence(context: Context) -> Finding:
    skip = no_answer(context)
    if skip:
        return skip
    off = [str(gpu["index"]) for gpu in context.smi.gpus if gpu["persistence_mode"] == "Disabled"]
    if off:
        return Finding(WARN, f"Persistence mode is off on GPU {', '.join(off)}.")
    return Finding(OK, "persistence mode is on")


def cuda_toolkits(context: Context) -> list[tuple[str, str]]:
    """CUDA toolkits on the host as (version, where)."""
    found = []
    for name in context.listing("usr/local"):
        if not name.startswith("cuda-"):
            continue
        text = context.text(f"usr/local/{name}/version.json") or context.text(f"usr/local/{name}/version.txt") or ""
        match = VERSION.search(text) or VERSION.search(name)
        if match and (text or os.path.exists(context.path(f"usr/local/{name}/bin/nvcc"))):
            found.append((match.group(1), f"/usr/local/{name}"))
    package = (context.packages or {}).get("nvidia-cuda-toolkit")
    if package:
        match = VERSION.search(package[0])
        found.append((match.group(1) if match else package[0], "package nvidia-cuda-toolkit"))
    return found


def cudnns(context: Context) -> list[tuple[str, str]]:
    """cuDNN on the host as (version, where)."""
    found = []
    places = ["usr/include", "usr/include/x86_64-linux-gnu", "usr/include/aarch64-linux-gnu", "usr/local/cuda/include"]
    for place in places:
        text = context.text(place + "/cudnn_version.h") or context.text(place + "/cudnn.h") or ""
        numbers = [match.group(1) for part in ("MAJOR", "MINOR", "PATCHLEVEL") for match in [re.search(rf"#define CUDNN_{part} (\d+)", text)] if match]
        if numbers:
            found.append((".".join(numbers), "/" + place))
    for name, (version, dummy) in (context.packages or {}).items():
        match = VERSION.search(version)
        if re.match(r"^libcudnn\d+", name) and "-dev" not in name and "-headers" not in name and match:
            found.append((match.group(1), "package " + name))
    return found


def judge_extra(context: Context, key: str, title: str, found: t.Sequence[tuple[str, str]]) -> Finding:
    """Software that the image brings itself: only worth a verdict when somebody asks for it."""
    listed = ", ".join(f"{version} ({where})" for version, where in found)
    wanted = context.options.require.get(key)
    if wanted is None:
        if found:
            return Finding(INFO, f"{title} {listed} is on the host. Containers do not use it: the image brings its own.", "Nothing to do.")
        return Finding(OK, f"no {title} on the host, and none is needed: the image brings its own")
    if not found:
        return Finding(FAIL, f"{title}{' ' + wanted if wanted else ''} is asked for, and there is none.")
    if wanted and not any(version_key(version) >= version_key(wanted) for version, dummy in found):
        return Finding(FAIL, f"{title} {wanted} or newer is asked for; found {listed}.")
    return Finding(OK, f"{title} {listed}")


def cuda_toolkit(context: Context) -> Finding:
    return judge_extra(context, "cuda_toolkit", "CUDA toolkit", cuda_toolkits(context))


def cudnn(context: Context) -> Finding:
    return judge_extra(context, "cudnn", "cuDNN", cudnns(context))


DETECT: t.Mapping[str, Detect] = {
    "D03": module_built,
    "D04": headers,
    "D05": secure_boot,
    "D06": unsupported,
    "D08": mismatch_pending,
    "D11": driver_eol,
    "D12": several_installs,
    "D13": holds,
    "D14": persistence,
    "D17": cuda_toolkit,
    "D18": cudnn,
}

__all__ = ["DETECT", "cuda_toolkits", "cudnns"]
