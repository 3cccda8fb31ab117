# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Section D, what runs: the driver from the kernel module up to cuInit."""

from __future__ import annotations

import os
import stat
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _nvidia
from ansible_collections.llmops.dify_xinference.plugins.module_utils._command import NOT_FOUND, TIMED_OUT
from ansible_collections.llmops.dify_xinference.plugins.module_utils._cuda import version_key
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._context import CUINIT_TIMEOUT, Context
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._core import FAIL, OK, SKIP, UNKNOWN, WARN, Detect, Finding

# Exit statuses of nvidia-smi (manual page of 550.163.01; 18 is not in it, but real) and what helps.
SMI_STATUSES = {
    4: ("was refused access to the GPUs", "Look at SELinux labels and at the permissions of /dev/nvidia*."),
    6: ("found no GPU", "Look into the kernel log for NVRM lines: the driver may not support this card."),
    8: ("says that a card lacks its power cable", "Connect the GPU's power cable."),
    9: (
        "cannot reach the driver: the kernel module is not loaded",
        "Install the driver, or see why nvidia.ko is not loaded (dkms status, Secure Boot, nouveau).",
    ),
    10: ("says that the kernel has trouble with a GPU's interrupts", "Look into the kernel log for NVRM lines, then reboot."),
    12: ("does not find libnvidia-ml.so", "Install the driver's libraries at the same version as the kernel module."),
    15: ("says that a GPU has fallen off the bus", "Power-cycle the host; look for Xid 79 in the kernel log."),
    16: ("says that a GPU needs a reset", "Stop what runs on it and reset it (nvidia-smi -r), or reboot."),
    18: (
        "says that driver and library do not match: the driver was upgraded under the loaded module",
        "Reboot; then hold the driver packages so that unattended upgrades leave them alone.",
    ),
}
DEVICE_NODES = ("nvidiactl", "nvidia-uvm", "nvidia0")
CUINIT_CODES = {
    100: ("no device", "See the findings about the driver and the device nodes."),
    802: ("the system is not yet initialised", "Start nvidia-fabricmanager at exactly the driver's version."),
    803: ("driver and library do not match", "Reboot after a driver upgrade."),
    804: ("forward compatibility is not supported on this card", "Remove cuda-compat, or use a newer driver."),
    999: ("unknown error", "Look into the kernel log for NVRM lines; recreate containers after a driver change."),
}


def no_driver_wanted(context: Context) -> Finding | None:
    """Why the questions about a driver do not apply, when they do not."""
    if context.cpu_only:
        return Finding(SKIP, "The image is a CPU build.")
    if context.pci_gpus == []:
        return Finding(SKIP, "There is no GPU (see C01).")
    return None


def no_answer(context: Context, smi_too: bool = True) -> Finding | None:
    """Why a question to the driver has no answer of its own: another check says the same already."""
    skip = no_driver_wanted(context)
    if skip:
        return skip
    if not context.is_wsl and context.loaded_version is None and context.smi.status != 0:
        return Finding(SKIP, "The kernel module is not loaded (see D02).")
    if smi_too and context.smi_failed:
        return Finding(SKIP, "nvidia-smi fails as a whole (see D07).")
    return None


def nouveau(context: Context) -> Finding:
    if os.path.isdir(context.gpu_path("sys/module/nouveau")):
        return Finding(FAIL, "The nouveau module is loaded and owns the GPU.")
    if not os.path.isdir(context.gpu_path("sys/module")):
        return Finding(UNKNOWN, "/sys/module cannot be seen.")
    return Finding(OK, "nouveau is not loaded")


def module_loaded(context: Context) -> Finding:
    skip = no_driver_wanted(context)
    if skip:
        return skip
    if context.is_wsl:
        return Finding(SKIP, "WSL2: the driver is Windows'.")
    loaded = context.driver["loaded_version"]
    if loaded is None:
        return Finding(FAIL, "The NVIDIA kernel module is not loaded (/proc/driver/nvidia/version).")
    return Finding(OK, f"nvidia {loaded} is loaded")


def smi(context: Context) -> Finding:
    skip = no_answer(context, smi_too=False)
    if skip:
        return skip
    answer = context.smi
    words = f' It says: "{answer.noise[0]}"' if answer.noise else ""
    if answer.status == 0:
        return Finding(OK, f"nvidia-smi lists {len(answer.gpus)} GPUs")
    if answer.status == 14:
        return Finding(
            WARN, f"nvidia-smi says that the infoROM of a GPU is corrupted.{words}", "The GPU works; have it looked at in the next maintenance window."
        )
    if answer.status == TIMED_OUT:
        return Finding(
            FAIL,
            f"nvidia-smi did not answer within {_nvidia.SMI_TIMEOUT:.0f} s: the driver or a GPU hangs.",
            "Look for Xid lines in the kernel log, then reboot.",
        )
    if answer.status == NOT_FOUND:
        return Finding(FAIL, f"There is no {context.options.nvidia_smi}.", "Install the driver's utilities at the same version as the kernel module.")
    meaning, remedy = SMI_STATUSES.get(answer.status, ("failed", ""))
    return Finding(FAIL, f"nvidia-smi {meaning} (exit status {answer.status}).{words}", remedy)


def count(context: Context) -> Finding:
    skip = no_answer(context)
    if skip:
        return skip
    answer = context.smi
    # The exit status stays 0 with a lost GPU: only its cells, or its absence, tell.
    broken = [gpu for gpu in answer.gpus if gpu["faults"]]
    if broken:
        listed = "; ".join(f"GPU {gpu['index']} at {gpu['bus_id']}: {', '.join(gpu['faults'])}" for gpu in broken)
        return Finding(FAIL, f"{len(answer.gpus) - len(broken)} of {len(answer.gpus)} GPUs are usable; {listed}.")
    if context.pci_gpus is not None:
        missing = sorted({gpu["bus_id"] for gpu in context.pci_gpus} - {gpu["bus_id"] for gpu in answer.gpus})
        if missing:
            return Finding(FAIL, f"{len(answer.gpus)} of {len(context.pci_gpus)} GPUs answer; missing: {', '.join(missing)}.")
    if len(answer.gpus) < context.options.min_gpus:
        return Finding(
            FAIL,
            f"nvidia-smi lists {len(answer.gpus)} GPUs, {context.options.min_gpus} are wanted.",
            "Lower gpu_preflight_min_gpus, or look for the missing card.",
        )
    if context.pci_gpus is None and not context.is_wsl:
        return Finding(UNKNOWN, f"nvidia-smi lists {len(answer.gpus)} GPUs, but the PCI bus cannot be seen to compare.")
    return Finding(OK, f"all {len(answer.gpus)} GPUs answer")


def driver_vs_image(context: Context) -> Finding:
    needs, tag = context.needs, context.options.image_version
    if not tag:
        return Finding(SKIP, "No image was named.")
    if context.cpu_only:
        return Finding(SKIP, "The image is a CPU build.")
    if needs is None:
        return Finding(UNKNOWN, f"What the image tag {tag} needs is in no table.", "Compare the image's NVIDIA_REQUIRE_CUDA with the host yourself.")
    if context.pci_gpus == []:
        return Finding(SKIP, "There is no GPU (see C01).")
    version = context.driver["version"]
    if version is None:
        return Finding(UNKNOWN, f"The driver's version is not known; the image {tag} needs {needs.min_driver} or newer (CUDA {needs.cuda}).")
    if version_key(version) < version_key(needs.min_driver):
        return Finding(
            FAIL,
            f"The driver {version} is too old for the image {tag}: CUDA {needs.cuda} needs {needs.min_driver} or newer.",
            f"Install driver {needs.min_driver} or newer, or set xinference_version to an older image.",
        )
    return Finding(OK, f"driver {version} (CUDA {context.driver['cuda']}) runs the image {tag} (CUDA {needs.cuda}, driver {needs.min_driver} or newer)")


def device_nodes(context: Context) -> Finding:
    skip = no_answer(context, smi_too=False)
    if skip:
        return skip
    if context.is_wsl:
        return Finding(SKIP, "WSL2: the device is /dev/dxg.")
    missing, closed = [], []
    for name in DEVICE_NODES:
        try:
            found = os.stat(context.gpu_path("dev/" + name))
        except OSError:
            missing.append("/dev/" + name)
            continue
        if context.options.root == "/" and not stat.S_ISCHR(found.st_mode):
            missing.append(f"/dev/{name} (it is no device)")
        elif found.st_mode & 0o006 != 0o006:
            closed.append(f"/dev/{name} ({stat.S_IMODE(found.st_mode):04o})")
    if missing:
        return Finding(FAIL, f"Missing: {', '.join(missing)}. CUDA fails without them, even though nvidia-smi may work.")
    if closed:
        return Finding(
            WARN, f"Not open to everyone, as containers without root need it: {', '.join(closed)}.", "Set NVreg_DeviceFileMode=0666 for the nvidia module."
        )
    return Finding(OK, "the device nodes are there")


def cuinit(context: Context) -> Finding:
    skip = no_answer(context)
    if skip:
        return skip
    status, out = context.cuinit
    if status == 100:
        return Finding(
            UNKNOWN,
            "libcuda.so.1 is not on this host, so CUDA itself was not asked.",
            "Install the driver's compute libraries (libcuda1), which containers need as well.",
        )
    if status == TIMED_OUT:
        return Finding(FAIL, f"cuInit did not return within {CUINIT_TIMEOUT:.0f} s.", "Look for Xid lines in the kernel log, then reboot.")
    words = out.split()
    if not words or not all(word.isdecimal() for word in words):
        return Finding(UNKNOWN, f"cuInit gave no answer (exit status {status}).")
    if words[0] != "0":
        meaning, remedy = CUINIT_CODES.get(int(words[0]), ("see the CUDA driver API's error codes", ""))
        return Finding(FAIL, f"cuInit returns {words[0]}: {meaning}.", remedy)
    found, listed = int(words[-1]) if len(words) > 1 else None, context.smi.gpus
    # With MIG, and with a lost GPU, the two count different things.
    comparable = not any(gpu["mig_mode"] == "Enabled" or gpu["faults"] for gpu in listed)
    if found is not None and comparable and found < len(listed):
        return Finding(
            FAIL, f"CUDA sees {found} devices, nvidia-smi lists {len(listed)}.", "Unset CUDA_VISIBLE_DEVICES; look for NVRM lines in the kernel log."
        )
    return Finding(OK, f"cuInit works, {found} devices" if found is not None else "cuInit works")


DETECT: t.Mapping[str, Detect] = {
    "D01": nouveau,
    "D02": module_loaded,
    "D07": smi,
    "D09": count,
    "D10": driver_vs_image,
    "D15": device_nodes,
    "D16": cuinit,
}

__all__ = ["DETECT", "SMI_STATUSES", "no_answer", "no_driver_wanted"]
