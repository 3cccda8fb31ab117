# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Section C: GPU hardware, as far as it can be told without a driver."""

from __future__ import annotations

import os

from ansible_collections.llmops.dify_xinference.plugins.module_utils._cuda import version_key
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._core import FAIL, OK, SKIP, UNKNOWN, Check, Context, Finding


def gpu_present(context: Context) -> Finding:
    if context.cpu_only:
        return Finding(SKIP, "The image is a CPU build.")
    gpus, wanted = context.pci_gpus, context.options.min_gpus
    if gpus is None:
        if context.is_wsl and os.path.exists(os.path.join(context.options.root, "dev/dxg")):
            return Finding(OK, "WSL2: the GPU is Windows' and shows as /dev/dxg.")
        return Finding(UNKNOWN, "The PCI bus cannot be seen (/sys/bus/pci/devices).")
    if not gpus and wanted:
        return Finding(FAIL, "There is no NVIDIA GPU on the PCI bus.")
    if len(gpus) < wanted:
        return Finding(
            FAIL, f"There are {len(gpus)} NVIDIA GPUs on the PCI bus, {wanted} are wanted.", "Lower gpu_preflight_min_gpus, or look for the missing card."
        )
    return Finding(OK, f"{len(gpus)} NVIDIA GPUs on the PCI bus")


def gpu_identified(context: Context) -> Finding:
    if not context.pci_gpus:
        return Finding(SKIP, "There is no GPU to identify.")
    unknown = [gpu for gpu in context.pci_gpus if gpu["name"] is None]
    if unknown:
        listed = ", ".join(f"{gpu['bus_id']} (10de:{gpu['device_id']})" for gpu in unknown)
        return Finding(UNKNOWN, f"Not in the table of PCI ids, so older than Turing or very new: {listed}.", "nvidia-smi tells what it is once a driver runs.")
    return Finding(OK, ", ".join(sorted({gpu["name"] for gpu in context.pci_gpus})))


def capabilities(context: Context) -> dict[str, tuple[str, str]]:
    """bus id -> (name, compute capability), the driver's word before the table's."""
    found = {gpu["bus_id"]: (gpu["name"], gpu["compute_capability"]) for gpu in context.pci_gpus or [] if gpu["compute_capability"]}
    found.update({gpu["bus_id"]: (gpu["name"], gpu["compute_capability"]) for gpu in context.smi.gpus if gpu["compute_capability"]})
    return found


def gpu_supported_by_image(context: Context) -> Finding:
    needs, tag = context.needs, context.options.image_version
    if not tag:
        return Finding(SKIP, "No image was named.")
    if needs is None:
        return Finding(UNKNOWN, f"What the image tag {tag} needs is in no table.", "Compare the image's NVIDIA_REQUIRE_CUDA with the host yourself.")
    if context.cpu_only:
        return Finding(SKIP, "The image is a CPU build.")
    found = capabilities(context)
    too_old = sorted({f"{name} (compute capability {cc})" for name, cc in found.values() if version_key(cc) < version_key(needs.min_cc)})
    if too_old:
        return Finding(FAIL, f"{', '.join(too_old)} cannot run the CUDA {needs.cuda} image {tag}, which needs {needs.min_cc}.")
    seen = {gpu["bus_id"] for gpu in context.pci_gpus or []} | {gpu["bus_id"] for gpu in context.smi.gpus}
    if not found or seen - set(found):
        return Finding(UNKNOWN, "The compute capability of at least one GPU is not known.")
    return Finding(OK, f"every GPU has compute capability {needs.min_cc} or newer, as CUDA {needs.cuda} needs")


def nvswitch(context: Context) -> Finding:
    if context.cards is None:
        return Finding(UNKNOWN, "The PCI bus cannot be seen (/sys/bus/pci/devices).")
    bridges = [card for card in context.cards if card["kind"] == "nvswitch"]
    try:
        bridges += [{"bus_id": name} for name in os.listdir(os.path.join(context.options.root, "proc/driver/nvidia-nvswitch/devices"))]
    except OSError:
        pass
    if bridges:
        return Finding(OK, "NVSwitch baseboard: CUDA needs a running fabric manager of exactly the driver's version.")
    return Finding(OK, "no NVSwitch")


CHECKS = (
    Check("C01", "gpu_present", "fail", 'Look at PCI passthrough, risers, power and the BIOS setting "Above 4G Decoding".', gpu_present),
    Check("C02", "gpu_identified", "info", "", gpu_identified),
    Check("C03", "gpu_supported_by_image", "fail", "Use an older image (v2.x and before bring CUDA 12), or another card.", gpu_supported_by_image),
    Check("C10", "nvswitch", "info", "", nvswitch),
)
