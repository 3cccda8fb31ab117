# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Section C: GPU hardware, as far as it can be told without a driver."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._cuda import version_key
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._context import Context
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._core import FAIL, INFO, OK, SKIP, UNKNOWN, WARN, Detect, Finding

NO_BUS = "The PCI bus cannot be seen (/sys/bus/pci/devices)."
# Architectures whose only kernel module is the proprietary one, and those whose only one is the open one.
OLDER = "pre-Turing"
PROPRIETARY_ONLY = ("kepler", "maxwell", "pascal", "volta", OLDER)
OPEN_ONLY = ("blackwell",)


def no_gpu(context: Context) -> Finding | None:
    """Why a question about cards does not apply, or cannot be answered."""
    if context.pci_gpus is None:
        return Finding(SKIP, "WSL2: the GPU is Windows'.") if context.is_wsl else Finding(UNKNOWN, NO_BUS)
    return None if context.pci_gpus else Finding(SKIP, "There is no GPU.")


def gpu_present(context: Context) -> Finding:
    if context.cpu_only:
        return Finding(SKIP, "The image is a CPU build.")
    gpus, wanted = context.pci_gpus, context.options.min_gpus
    if gpus is None:
        if context.is_wsl and os.path.exists(context.gpu_path("dev/dxg")):
            return Finding(OK, "WSL2: the GPU is Windows' and shows as /dev/dxg.")
        return Finding(UNKNOWN, NO_BUS)
    if not gpus and wanted:
        return Finding(FAIL, "There is no NVIDIA GPU on the PCI bus.")
    if len(gpus) < wanted:
        return Finding(
            FAIL, f"There are {len(gpus)} NVIDIA GPUs on the PCI bus, {wanted} are wanted.", "Lower gpu_preflight_min_gpus, or look for the missing card."
        )
    return Finding(OK, f"{len(gpus)} NVIDIA GPUs on the PCI bus")


def gpu_identified(context: Context) -> Finding:
    nothing = no_gpu(context)
    if nothing:
        return Finding(SKIP, nothing.message)
    gpus = context.pci_gpus or []
    unknown = [gpu for gpu in gpus if gpu["name"] is None]
    if unknown:
        listed = ", ".join(f"{gpu['bus_id']} (10de:{gpu['device_id']})" for gpu in unknown)
        return Finding(UNKNOWN, f"Not in the table of PCI ids, so older than Turing or very new: {listed}.", "nvidia-smi tells what it is once a driver runs.")
    return Finding(OK, ", ".join(sorted({gpu["name"] for gpu in gpus})))


def capabilities(context: Context) -> dict[str, tuple[str, str]]:
    """bus id -> (name, compute capability), the driver's word before the table's."""
    found = {gpu["bus_id"]: (gpu["name"], gpu["compute_capability"]) for gpu in context.pci_gpus or [] if gpu["compute_capability"]}
    found.update({gpu["bus_id"]: (gpu["name"], gpu["compute_capability"]) for gpu in context.smi.gpus if gpu["compute_capability"]})
    return found


def architectures(context: Context) -> set[str]:
    """What is known of the cards' architectures, from the driver and else from the bus."""
    answering = {gpu["bus_id"]: gpu["arch"] for gpu in context.smi.gpus}
    on_the_bus = {gpu["bus_id"]: architecture_of(gpu) for gpu in context.pci_gpus or []}
    return {arch for arch in {**on_the_bus, **answering}.values() if arch}


def architecture_of(card: t.Mapping[str, t.Any]) -> str | None:
    """Of a card on the bus; the table begins with Turing, and so do the ids from 1e00 on."""
    if card["arch"] is None and re.match(r"^[01][0-9a-f]{3}$", card["device_id"]) and card["device_id"] < "1e00":
        return OLDER
    return t.cast("str | None", card["arch"])


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
    if context.pci_gpus == [] and not seen:
        return Finding(SKIP, "There is no GPU.")
    if not found or seen - set(found):
        return Finding(UNKNOWN, "The compute capability of at least one GPU is not known.")
    return Finding(OK, f"every GPU has compute capability {needs.min_cc} or newer, as CUDA {needs.cuda} needs")


def module_is_open(context: Context) -> bool | None:
    """Whether the loaded module, or else the installed one, is the open one; ``None`` without a module."""
    loaded = context.gpu_text("proc/driver/nvidia/version")
    if loaded:
        return "Open Kernel Module" in loaded
    status, out = context.answer("modinfo", "-F", "license", "nvidia")
    return "MIT" in out if status == 0 and out.strip() else None


def module_flavour(context: Context) -> Finding:
    nothing = no_gpu(context)
    if nothing:
        return Finding(SKIP, nothing.message)
    is_open = module_is_open(context)
    if is_open is None:
        return Finding(SKIP, "There is no kernel module of NVIDIA's.")
    # A card that answers has the module it needs.
    answering = {gpu["bus_id"] for gpu in context.smi.gpus}
    silent = {architecture_of(gpu) or "" for gpu in context.pci_gpus or [] if gpu["bus_id"] not in answering}
    wrong = sorted(silent & set(PROPRIETARY_ONLY if is_open else OPEN_ONLY))
    if wrong:
        have, need = ("open", "proprietary") if is_open else ("proprietary", "open")
        return Finding(FAIL, f"The kernel module is the {have} one; {', '.join(wrong)} cards work with the {need} one only.")
    return Finding(OK, f"the {'open' if is_open else 'proprietary'} kernel module serves these cards")


def mixed_arch(context: Context) -> Finding:
    nothing = no_gpu(context)
    if nothing:
        return Finding(SKIP, nothing.message)
    found = architectures(context)
    if "kepler" in found and len(found) > 1:
        return Finding(WARN, f"No driver serves these cards together: {', '.join(sorted(found))} (Kepler's last branch is 470).")
    if found & set(PROPRIETARY_ONLY) and found & set(OPEN_ONLY):
        return Finding(WARN, f"No kernel module serves these cards together: {', '.join(sorted(found))}.")
    return Finding(OK, ", ".join(sorted(found)) or "of unknown architecture")


def vfio_bound(context: Context) -> Finding:
    nothing = no_gpu(context)
    if nothing:
        return nothing
    # nouveau has a check of its own.
    taken = [gpu for gpu in context.pci_gpus or [] if gpu["driver"] not in (None, "nvidia", "nouveau")]
    if taken:
        return Finding(FAIL, "; ".join(f"GPU {gpu['bus_id']} is bound to {gpu['driver']}" for gpu in taken) + ".")
    return Finding(OK, "no GPU is bound to a foreign driver")


def bar_sizes(context: Context) -> Finding:
    nothing = no_gpu(context)
    if nothing:
        return nothing
    without, unseen = [], []
    for gpu in context.pci_gpus or []:
        text = context.gpu_text(f"sys/bus/pci/devices/{gpu['bus_id']}/resource")
        rows = re.findall(r"^0x([0-9a-f]+) 0x([0-9a-f]+) 0x([0-9a-f]+)$", text or "", re.MULTILINE)
        if not rows:
            unseen.append(gpu["bus_id"])
        # The first two windows: registers and memory.
        elif any(int(start, 16) == 0 and int(flags, 16) & 0x200 for start, dummy, flags in rows[:2]):
            without.append(gpu["bus_id"])
    if without:
        return Finding(WARN, f"No address was assigned to a memory window of {', '.join(without)}.")
    if unseen:
        return Finding(UNKNOWN, f"The memory windows of {', '.join(unseen)} cannot be seen.")
    return Finding(OK, "all memory windows have addresses")


def pcie_width(context: Context) -> Finding:
    nothing = no_gpu(context)
    if nothing:
        return nothing
    narrow = [gpu for gpu in context.pci_gpus or [] if 0 < (gpu["link_width"] or 0) < (gpu["link_width_max"] or 0)]
    listed = ", ".join(f"{gpu['bus_id']} runs x{gpu['link_width']} of x{gpu['link_width_max']}" for gpu in narrow)
    # Two cards at eight lanes each are how desktop boards are made.
    if any(gpu["link_width"] < 8 for gpu in narrow):
        return Finding(WARN, f"Few PCIe lanes: {listed}.")
    return Finding(INFO, f"Not all PCIe lanes are in use: {listed}.") if narrow else Finding(OK, "all PCIe lanes are in use")


def aer(context: Context) -> Finding:
    nothing = no_gpu(context)
    if nothing:
        return nothing
    counts: dict[str, int] = {}
    told = False
    for gpu in context.pci_gpus or []:
        text = "".join(context.gpu_text(f"sys/bus/pci/devices/{gpu['bus_id']}/aer_dev_{kind}") or "" for kind in ("fatal", "nonfatal"))
        told = told or bool(text)
        counts[gpu["bus_id"]] = sum(int(number) for number in re.findall(r"^TOTAL_ERR_\w+ (\d+)$", text, re.MULTILINE))
    bad = [f"{bus_id} ({number})" for bus_id, number in counts.items() if number]
    if bad:
        return Finding(WARN, f"PCIe errors that were not corrected: {', '.join(bad)}.")
    return Finding(OK, "no PCIe error is on record") if told else Finding(UNKNOWN, "The kernel counts no PCIe errors here.")


def nvswitch(context: Context) -> Finding:
    if context.cards is None and not context.has_nvswitch:
        return Finding(SKIP, "WSL2 has no NVSwitch.") if context.is_wsl else Finding(UNKNOWN, NO_BUS)
    if context.has_nvswitch:
        return Finding(INFO, "NVSwitch baseboard: CUDA needs a running fabric manager of exactly the driver's version.")
    return Finding(OK, "no NVSwitch")


# PCI Express: where the extended capabilities begin, the one of Access Control Services, its two bits that send traffic between devices up to the IOMMU.
EXTENDED, ACS, REDIRECTS = 0x100, 0x000D, 0b1100


def acs_redirects(config: bytes) -> bool:
    """Whether a bridge sends what its devices say to one another up to the IOMMU; ``config`` is its whole configuration space."""
    at, seen = EXTENDED, set()
    while EXTENDED <= at <= len(config) - 8 and at not in seen:
        seen.add(at)
        head = int.from_bytes(config[at : at + 4], "little")
        if head & 0xFFFF == ACS:
            return bool(int.from_bytes(config[at + 6 : at + 8], "little") & REDIRECTS)
        at = head >> 20
    return False


def bridges_above(context: Context, bus_id: str) -> list[str]:
    """Folders of the bridges between a card and the processor."""
    folder = os.path.dirname(os.path.realpath(context.gpu_path("sys/bus/pci/devices/" + bus_id)))
    found = []
    while re.match(r"^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$", os.path.basename(folder)):
        found.append(folder)
        folder = os.path.dirname(folder)
    return found


def iommu_acs(context: Context) -> Finding:
    nothing = no_gpu(context)
    if nothing:
        return nothing
    gpus = context.pci_gpus or []
    if len(gpus) < 2 or context.has_nvswitch:
        return Finding(SKIP, "There is one GPU only." if len(gpus) < 2 else "The GPUs talk over NVLink.")
    groups = context.gpu_path("sys/kernel/iommu_groups")
    if not os.path.isdir(groups) or not os.listdir(groups):
        return Finding(OK, "no IOMMU is in use")
    redirecting, unseen = set(), set()
    for folder in {folder for gpu in gpus for folder in bridges_above(context, gpu["bus_id"])}:
        try:
            with open(os.path.join(folder, "config"), "rb") as stream:
                config = stream.read(4096)
        except OSError:
            config = b""
        # Others than root get the first 64 bytes.
        if len(config) < 4096:
            unseen.add(os.path.basename(folder))
        elif acs_redirects(config):
            redirecting.add(os.path.basename(folder))
    if redirecting:
        return Finding(INFO, f"What {len(gpus)} GPUs say to one another goes through the IOMMU (ACS of {', '.join(sorted(redirecting))}).")
    if unseen:
        return Finding(UNKNOWN, f"The configuration space of {', '.join(sorted(unseen))} cannot be read.", "Run with become: true.")
    return Finding(OK, "no PCI bridge sends the GPUs' traffic through the IOMMU")


DETECT: t.Mapping[str, Detect] = {
    "C01": gpu_present,
    "C02": gpu_identified,
    "C03": gpu_supported_by_image,
    "C04": module_flavour,
    "C05": mixed_arch,
    "C06": vfio_bound,
    "C07": bar_sizes,
    "C08": pcie_width,
    "C09": aer,
    "C10": nvswitch,
    "C11": iommu_acs,
}

__all__ = ["DETECT", "architectures"]
