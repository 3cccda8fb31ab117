# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""GPUs as nvidia-smi, sysfs and procfs tell of them: parsing only, no verdicts.

nvidia-smi prints its errors on standard output, among the rows and with exit status 0 as well, so every line is
proven to be a row before it counts as one. The traps are named where they are handled; all were seen on drivers
450 to 610.
"""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._command import Runner
from ansible_collections.llmops.dify_xinference.plugins.module_utils._cuda import cuda_of_driver
from ansible_collections.llmops.dify_xinference.plugins.module_utils._nvidia_names import GPU_NAMES
from ansible_collections.llmops.dify_xinference.plugins.module_utils._nvidia_pci_ids import PCI_DEVICES

# nvidia-smi may hang for minutes on a sick GPU.
SMI_TIMEOUT = 30.0

# One unknown field fails the whole query. These are known to every driver in use (470 to 610) ...
FIELDS = (
    "index",
    "uuid",
    "pci.bus_id",
    "name",
    "driver_version",
    "memory.total",
    "memory.used",
    "memory.free",
    "compute_cap",
    "mig.mode.current",
    "mig.mode.pending",
    "persistence_mode",
)
# ... and these tell of its health; the number is the first driver branch that knows the field.
HEALTH_FIELDS = {
    "compute_mode": 0,
    "display_active": 0,
    "pcie.link.gen.current": 0,
    "pcie.link.gen.max": 0,
    "pcie.link.width.current": 0,
    "pcie.link.width.max": 0,
    "temperature.gpu": 0,
    "power.limit": 0,
    "power.default_limit": 0,
    "ecc.errors.uncorrected.volatile.total": 0,
    "ecc.errors.uncorrected.aggregate.total": 0,
    "retired_pages.pending": 0,
    "remapped_rows.pending": 460,
    "remapped_rows.failure": 460,
    "fabric.state": 525,
    "fabric.status": 525,
    "clocks_event_reasons.active": 535,
    "gpu_recovery_action": 570,
}
_UNKNOWN_FIELD = re.compile(r'Field "([^"]+)" is not a valid field to query')
_NUMBER = re.compile(r"^-?[0-9]{1,15}(\.[0-9]{1,15})?$")
_VERSION = re.compile(r"^[0-9]{1,6}(\.[0-9]{1,6})+$")
_INDEX = re.compile(r"^[0-9]{1,6}$")
_BUS_ID = re.compile(r"^[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9A-Fa-f]$")
# Cells that say "this card has no such thing", as against "this card is broken".
_ABSENT_CELLS = ("N/A", "[N/A]", "[Not Supported]", "[Not Found]", "[Insufficient Permissions]", "[Requested functionality has been deprecated]", "")


class SmiAnswer(t.NamedTuple):
    """One look at the GPUs. ``noise`` are the lines that are no rows: errors and warnings, in nvidia-smi's words."""

    status: int
    gpus: t.List[t.Dict[str, t.Any]]
    noise: t.List[str]


def is_fault(cell: str) -> bool:
    """Whether a cell says that the card is broken: ``[GPU is lost]``, ``[Unknown Error]``, ``ERR!``."""
    return cell == "ERR!" or (cell.startswith("[") and cell not in _ABSENT_CELLS)


def number(cell: str) -> float | None:
    """The number in a cell, or ``None`` for everything that is not one."""
    return float(cell) if _NUMBER.match(cell) else None


def split_row(line: str, fields: t.Sequence[str]) -> dict[str, str] | None:
    """One CSV row as a mapping, or ``None`` when the line is no row.

    Nothing is quoted, so a comma in the product name would shift the columns: surplus cells go to ``name``.
    """
    cells = [cell.strip() for cell in line.split(", ")]
    surplus = len(cells) - len(fields)
    if surplus < 0 or (surplus and "name" not in fields):
        return None
    if surplus:
        at = list(fields).index("name")
        cells[at : at + surplus + 1] = [", ".join(cells[at : at + surplus + 1])]
    row = dict(zip(fields, cells))
    if not _BUS_ID.match(row.get("pci.bus_id", "")) or not _INDEX.match(row.get("index", "")):
        return None
    return row


def normal_bus_id(bus_id: str) -> str:
    """``00000000:65:00.0`` and ``0000:65:00.0`` are one card; the short lower-case form is the kernel's."""
    domain, rest = bus_id.lower().split(":", 1)
    return domain[-4:].rjust(4, "0") + ":" + rest


def gpu_facts(row: t.Mapping[str, str]) -> dict[str, t.Any]:
    """A row as facts: memory in MiB, what the card does not have or cannot say as ``None``, faults by their cells."""
    name = row.get("name", "")
    known = GPU_NAMES.get(name) or GPU_NAMES.get("NVIDIA " + name)
    capability = row.get("compute_cap", "")
    if not _NUMBER.match(capability):
        capability = known[1] if known else ""
    memory = {}
    for key in ("total", "used", "free"):
        value = number(row.get("memory." + key, ""))
        memory[key] = None if value is None else int(value)
    link = {key: number(row.get("pcie.link." + key, "")) for key in ("gen.current", "gen.max", "width.current", "width.max")}
    return {
        "index": int(row["index"]),
        "uuid": row.get("uuid") or None,
        "bus_id": normal_bus_id(row["pci.bus_id"]),
        "name": name,
        "arch": known[0] if known else None,
        "compute_capability": capability or None,
        "memory_total_mib": memory["total"],
        "memory_used_mib": memory["used"],
        "memory_free_mib": memory["free"],
        "mig_mode": row.get("mig.mode.current") or None,
        "mig_mode_pending": row.get("mig.mode.pending") or None,
        "persistence_mode": row.get("persistence_mode") or None,
        "driver_version": row["driver_version"] if _VERSION.match(row.get("driver_version", "")) else None,
        "pcie_gen": _whole(link["gen.current"]),
        "pcie_gen_max": _whole(link["gen.max"]),
        "pcie_width": _whole(link["width.current"]),
        "pcie_width_max": _whole(link["width.max"]),
        "temperature_c": _whole(number(row.get("temperature.gpu", ""))),
        "power_limit_w": number(row.get("power.limit", "")),
        "power_default_limit_w": number(row.get("power.default_limit", "")),
        "ecc_uncorrected": _whole(number(row.get("ecc.errors.uncorrected.volatile.total", ""))),
        "ecc_uncorrected_ever": _whole(number(row.get("ecc.errors.uncorrected.aggregate.total", ""))),
        "retired_pending": told(row, "retired_pages.pending"),
        "remap_pending": told(row, "remapped_rows.pending"),
        "remap_failure": told(row, "remapped_rows.failure"),
        "recovery_action": told(row, "gpu_recovery_action"),
        "throttle_bits": bits(row.get("clocks_event_reasons.active", "")),
        "compute_mode": told(row, "compute_mode"),
        "display_active": told(row, "display_active"),
        "fabric_state": told(row, "fabric.state"),
        "fabric_status": told(row, "fabric.status"),
        # Of the health fields only the temperature: a sick card answers the others with words of many kinds.
        "faults": sorted({cell for field, cell in row.items() if (field in FIELDS or field == "temperature.gpu") and is_fault(cell)}),
    }


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def told(row: t.Mapping[str, str], field: str) -> str | None:
    """What a cell says, or ``None`` when the card has no such thing or cannot say."""
    cell = row.get(field, "")
    return None if cell in _ABSENT_CELLS or is_fault(cell) else " ".join(cell.split())


def bits(cell: str) -> int:
    """A cell such as ``0x0000000000000008``; 0 for everything else."""
    return int(cell, 16) if re.match(r"^0x[0-9A-Fa-f]{1,16}$", cell) else 0


def parse_rows(text: str, fields: t.Sequence[str]) -> tuple[list[dict[str, t.Any]], list[str]]:
    """Rows as facts, and the lines that are no rows. Never raises, whatever the text."""
    gpus = []
    noise = []
    for line in text.splitlines():
        if not line.strip():
            continue
        row = split_row(line, fields)
        if row is None:
            noise.append(line.strip())
        else:
            gpus.append(gpu_facts(row))
    return gpus, noise


def query_fields(driver_version: str | None) -> list[str]:
    """What to ask a driver for; of a driver that is not known, everything."""
    branch = int((driver_version or "9999").split(".", maxsplit=1)[0])
    return list(FIELDS) + [name for name, first in HEALTH_FIELDS.items() if branch >= first]


def query_gpus(run: Runner, nvidia_smi: str = "nvidia-smi", driver_version: str | None = None) -> SmiAnswer:
    """Ask nvidia-smi for all GPUs; fields that this driver does not know are left out and asked again without."""
    fields = query_fields(driver_version)
    while True:
        status, out, err = run([nvidia_smi, "--query-gpu=" + ",".join(fields), "--format=csv,noheader,nounits"], SMI_TIMEOUT)
        unknown = _UNKNOWN_FIELD.search(out) or _UNKNOWN_FIELD.search(err)
        if status == 0 or not unknown or unknown.group(1) not in fields or len(fields) <= 4:
            break
        fields.remove(unknown.group(1))
    gpus, noise = parse_rows(out, fields)
    noise += [line.strip() for line in err.splitlines() if line.strip()]
    return SmiAnswer(status, gpus, noise)


def count_mig_devices(listing: str) -> dict[int, int]:
    """MIG instances per GPU index, from ``nvidia-smi -L`` (an instance is a line that begins with two spaces)."""
    counts: dict[int, int] = {}
    current = None
    for line in listing.splitlines():
        head = re.match(r"GPU ([0-9]{1,9}):", line)
        if head:
            current = int(head.group(1))
            counts[current] = 0
        elif current is not None and re.match(r"\s+MIG ", line):
            counts[current] += 1
    return counts


def mig_devices(listing: str, index: int, memories: t.Sequence[int | None]) -> list[dict[str, t.Any]]:
    """The MIG instances of one GPU from ``nvidia-smi -L``: ``name``, ``uuid``, and ``memory_total_mib`` in the order of ``-q``."""
    found: list[dict[str, t.Any]] = []
    current = None
    for line in listing.splitlines():
        head = re.match(r"GPU ([0-9]{1,9}):", line)
        instance = re.match(r"\s+MIG (\S+)\s+Device\s+[0-9]+: \(UUID: (MIG-[^)]+)\)", line)
        if head:
            current = int(head.group(1))
        elif instance and current == index:
            memory = memories[len(found)] if len(found) < len(memories) else None
            found.append({"name": instance.group(1), "uuid": instance.group(2), "memory_total_mib": memory})
    return found


def read_text(root: str, path: str) -> str | None:
    """A small file below ``root`` as text, or ``None`` when it cannot be read."""
    try:
        with open(os.path.join(root, path.lstrip("/")), "rb") as stream:
            return stream.read(65536).decode("utf-8", "replace")
    except OSError:
        return None


def pci_cards(root: str) -> list[dict[str, t.Any]] | None:
    """NVIDIA's GPUs and NVSwitches on the PCI bus, from sysfs; ``None`` when there is no PCI bus to look at.

    Works without a driver and without root. ``kind`` is ``gpu`` (class 0x0300, 0x0302) or ``nvswitch`` (class 0x0680).
    """
    base = os.path.join(root, "sys/bus/pci/devices")
    try:
        addresses = sorted(os.listdir(base))
    except OSError:
        return None
    cards = []
    for address in addresses:
        folder = "sys/bus/pci/devices/" + address
        if (read_text(root, folder + "/vendor") or "").strip() != "0x10de":
            continue
        kind = {"0x0300": "gpu", "0x0302": "gpu", "0x0680": "nvswitch"}.get((read_text(root, folder + "/class") or "").strip()[:6])
        if kind is None:
            continue
        device = (read_text(root, folder + "/device") or "").strip().replace("0x", "", 1).lower()
        known = PCI_DEVICES.get(device)
        cards.append(
            {
                "bus_id": address.lower(),
                "kind": kind,
                "device_id": device,
                "driver": _link_name(root, folder + "/driver"),
                "link_width": _number_of(root, folder + "/current_link_width"),
                "link_width_max": _number_of(root, folder + "/max_link_width"),
                "numa_node": _number_of(root, folder + "/numa_node"),
                "arch": known[0] if known else None,
                "compute_capability": (known[1] or None) if known else None,
                "name": known[2] if known else None,
            }
        )
    return cards


def _link_name(root: str, path: str) -> str | None:
    try:
        return os.path.basename(os.readlink(os.path.join(root, path)))
    except OSError:
        return None


def _number_of(root: str, path: str) -> int | None:
    text = (read_text(root, path) or "").strip()
    return int(text) if re.match(r"^-?[0-9]{1,9}$", text) else None


def loaded_driver(root: str) -> str | None:
    """Version of the loaded kernel module, from ``/proc/driver/nvidia/version``; ``None`` when it is not loaded."""
    text = read_text(root, "proc/driver/nvidia/version")
    # Proprietary and open modules word the line differently; both carry one dotted version after "Kernel Module".
    match = re.search(r"Kernel Module.*?\s(\d{3,}(?:\.\d+)+)\b", text or "")
    return match.group(1) if match else None


def driver_facts(loaded: str | None, gpus: t.Sequence[t.Mapping[str, t.Any]]) -> dict[str, t.Any]:
    """The driver as module (loaded) and as library (what nvidia-smi says), and the CUDA version it speaks."""
    library = next((gpu["driver_version"] for gpu in gpus if gpu["driver_version"]), None)
    version = library or loaded
    return {"version": version, "loaded_version": loaded, "library_version": library, "cuda": cuda_of_driver(version) if version else None}


__all__ = [
    "FIELDS",
    "HEALTH_FIELDS",
    "SmiAnswer",
    "bits",
    "count_mig_devices",
    "driver_facts",
    "gpu_facts",
    "is_fault",
    "loaded_driver",
    "mig_devices",
    "normal_bus_id",
    "number",
    "parse_rows",
    "pci_cards",
    "query_fields",
    "query_gpus",
    "read_text",
    "split_row",
    "told",
]
