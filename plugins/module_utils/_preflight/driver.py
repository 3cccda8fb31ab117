# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Section D: the driver, from the kernel module up to cuInit."""

from __future__ import annotations

import os
import stat
import sys

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _nvidia
from ansible_collections.llmops.dify_xinference.plugins.module_utils._command import NOT_FOUND, TIMED_OUT
from ansible_collections.llmops.dify_xinference.plugins.module_utils._cuda import version_key
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._core import FAIL, OK, SKIP, UNKNOWN, WARN, Check, Context, Finding

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
# cuInit is asked in a process of its own: a sick driver hangs in it, and it may not be undone.
_CUINIT = "import ctypes,sys\ntry:\n l=ctypes.CDLL('libcuda.so.1')\nexcept OSError:\n sys.exit(100)\nprint(l.cuInit(0))\n"
CUINIT_TIMEOUT = 30.0
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
    if context.options.min_gpus == 0 and not context.pci_gpus:
        return Finding(SKIP, "There is no GPU, and none is wanted.")
    return None


def nouveau(context: Context) -> Finding:
    if os.path.isdir(os.path.join(context.options.root, "sys/module/nouveau")):
        return Finding(FAIL, "The nouveau module is loaded and owns the GPU.")
    if not os.path.isdir(os.path.join(context.options.root, "sys/module")):
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
    skip = no_driver_wanted(context)
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
    skip = no_driver_wanted(context)
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
    if answer.status not in (0, 14):
        return Finding(UNKNOWN, "nvidia-smi gave no list to count.")
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
    skip = no_driver_wanted(context)
    if skip:
        return skip
    if context.is_wsl:
        return Finding(SKIP, "WSL2: the device is /dev/dxg.")
    missing, closed = [], []
    for name in DEVICE_NODES:
        try:
            found = os.stat(os.path.join(context.options.root, "dev", name))
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
    skip = no_driver_wanted(context)
    if skip:
        return skip
    status, out, dummy = context.run([sys.executable, "-c", _CUINIT], CUINIT_TIMEOUT)
    if status == 100:
        return Finding(
            UNKNOWN,
            "libcuda.so.1 is not on this host, so CUDA itself was not asked.",
            "Install the driver's compute libraries (libcuda1), which containers need as well.",
        )
    if status == TIMED_OUT:
        return Finding(FAIL, f"cuInit did not return within {CUINIT_TIMEOUT:.0f} s.", "Look for Xid lines in the kernel log, then reboot.")
    code = out.strip()
    if not code.isdigit():
        return Finding(UNKNOWN, f"cuInit gave no answer (exit status {status}).")
    if code == "0":
        return Finding(OK, "cuInit works")
    meaning, remedy = CUINIT_CODES.get(int(code), ("see the CUDA driver API's error codes", ""))
    return Finding(FAIL, f"cuInit returns {code}: {meaning}.", remedy)


CHECKS = (
    Check("D01", "nouveau", "fail", "Blacklist nouveau (options nouveau modeset=0), update-initramfs -u, reboot.", nouveau),
    Check("D02", "module_loaded", "fail", "Install NVIDIA's driver and reboot; if it is installed: dkms status, Secure Boot, kernel headers.", module_loaded),
    Check("D07", "smi", "fail", "Look into the kernel log for NVRM lines.", smi),
    Check("D09", "count", "fail", "Look for Xid lines in the kernel log and power-cycle the host.", count),
    Check("D10", "driver_vs_image", "fail", "Upgrade the driver, or use an older image.", driver_vs_image),
    Check("D15", "device_nodes", "fail", "Run nvidia-modprobe -u -c0, or start nvidia-persistenced.", device_nodes),
    Check("D16", "cuinit", "fail", "Look into the kernel log for NVRM lines.", cuinit),
)
