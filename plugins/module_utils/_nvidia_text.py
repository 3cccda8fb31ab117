# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Everything else that nvidia-smi, the kernel and Docker say about GPUs, read by its looks.

Each reader takes whatever text there is and never raises: nvidia-smi writes errors among its output, ends half-way when
a card falls off the bus, and changed its wording with driver 610 (KMD Version, CUDA UMD Version).
"""

from __future__ import annotations

import re
import typing as t
from xml.etree import ElementTree

from ansible_collections.llmops.dify_xinference.plugins.module_utils._nvidia import count_mig_devices, is_fault, normal_bus_id

Gpu = t.Dict[str, t.Any]

# What a line means, by its words: nvidia-smi, NVRM and fabric manager in the kernel log and journal, Docker.
MESSAGES: tuple[tuple[str, str], ...] = (
    ("mismatch", r"Driver/library version mismatch|driver/library version mismatch|NVRM: API mismatch"),
    ("no-driver", r"couldn't communicate with the NVIDIA driver|nvml error: driver not loaded"),
    ("no-library", r"couldn't find libnvidia-ml"),
    ("inforom", r"infoROM is corrupted"),
    ("no-devices", r"^No devices were found"),
    ("permission", r"Failed to initialize NVML: Insufficient Permissions"),
    ("nvml-lost", r"Failed to initialize NVML: Unknown Error"),
    ("lost", r"Unable to determine the device handle for GPU|GPU is lost|GPU has fallen off the bus"),
    ("unsupported", r"not supported by the\s+(?:NVRM:\s+)?NVIDIA \S+ driver release"),
    ("fabric-mismatch", r"fabric manager NVIDIA GPU driver interface version \S+ don't match"),
    ("fabric-useless", r"NV_WARN_NOTHING_TO_DO"),
    ("unsigned-module", r"Loading of unsigned module is rejected|nvidia.*Key was rejected by service"),
    ("docker-no-toolkit", r"could not select device driver|no known GPU vendor found|unknown or invalid runtime name: nvidia"),
    ("docker-late-toolkit", r"AMD CDI spec not found"),
    ("docker-no-cdi", r"unresolvable CDI devices"),
    ("docker-old-driver", r"unsatisfied condition: cuda"),
    ("docker-persistenced", r"nvidia-persistenced/socket: no such file"),
    ("nvlink-inactive", r"Link \d+: <inactive>"),
)
_MESSAGES = tuple((name, re.compile(pattern, re.MULTILINE)) for name, pattern in MESSAGES)
XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]+)\): ([0-9]{1,6})\b")
_TABLE_ROW = re.compile(r"^\|\s+([0-9]{1,9})\s+(\S.*?)\s+(?:On|Off|N/A)\s*\|\s+([0-9A-Fa-f]{8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9A-Fa-f])\s")
_TABLE_MEMORY = re.compile(r"([0-9]{1,12})MiB\s*/\s*([0-9]{1,12})MiB")
_TABLE_MIG = re.compile(r"^\|\s+([0-9]{1,9})\s+\d+\s+\d+\s+\d+\s+\|\s+\d+MiB")
_DRIVER = re.compile(r"(?:KMD Version|KMD version|Driver Version|DRIVER version)\s*:\s*(\d[\d.]*\d)")
_CUDA = re.compile(r"CUDA(?: UMD)? [Vv]ersion\s*:\s*(\d+\.\d+)")
_UNIT = re.compile(r"^(-?[0-9]{1,15}(?:\.[0-9]{1,15})?)(?: (?:MiB|W|%|MHz|C))?$")
_LIST_ROW = re.compile(r"^GPU ([0-9]{1,9}): (.+?) \(UUID: (GPU-[^)]+)\)", re.MULTILINE)


def messages(text: str) -> list[str]:
    """Names of what the text complains about, e.g. ``["mismatch"]``; Xids as ``xid-79``."""
    found = [name for name, pattern in _MESSAGES if pattern.search(text)]
    return found + sorted({"xid-" + number for dummy, number in XID.findall(text)})


def mebibytes(cell: str) -> int | None:
    """``81559 MiB`` or ``81559`` as a number; ``None`` for everything that is not one."""
    match = _UNIT.match(cell.strip())
    return int(float(match.group(1))) if match else None


def gpu(index: int | None, bus_id: str, name: str, memory: int | None, mig: str | None, faults: t.Iterable[str] = ()) -> Gpu:
    return {
        "index": index,
        "bus_id": normal_bus_id(bus_id) if ":" in bus_id else "",
        "name": name,
        "memory_total_mib": memory,
        "mig_mode": mig if mig in ("Enabled", "Disabled") else None,
        "mig_instances": 0,
        "mig_memory_mib": [],
        "faults": sorted(set(faults)),
    }


def read(text: str) -> dict[str, t.Any]:
    """Any of nvidia-smi's outputs as ``driver``, ``cuda``, ``gpus``, ``faults`` and ``format``."""
    if "<nvidia_smi_log" in text:
        return _finish("xml", text, *_read_xml(text))
    if "NVSMI LOG" in text:
        return _finish("query", text, _read_query(text))
    if re.search(r"^\| NVIDIA-SMI ", text, re.MULTILINE):
        return _finish("table", text, _read_table(text))
    header = next((line for line in text.splitlines() if re.match(r"^[a-z_.A-Z]+( \[\S+\])?, ?[a-z_.A-Z]+", line) and _columns(line)), None)
    if header:
        return _finish("csv", text, _read_csv(text, header))
    if _LIST_ROW.search(text):
        return _finish("list", text, _read_list(text))
    return _finish("text", text, [])


def _finish(form: str, text: str, gpus: list[Gpu], driver: str | None = None, cuda: str | None = None, licence: str | None = None) -> dict[str, t.Any]:
    driver_match, cuda_match = _DRIVER.search(text), _CUDA.search(text)
    if form == "csv" and not driver:
        driver = next((entry["driver_version"] for entry in gpus if entry.get("driver_version")), None)
    return {
        "format": form,
        "driver": driver or (driver_match.group(1) if driver_match else None),
        "cuda": cuda or (cuda_match.group(1) if cuda_match else None),
        "gpus": gpus,
        "faults": messages(text),
        "vgpu_licence": licence,
    }


def _read_xml(text: str) -> tuple[list[Gpu], str | None, str | None, str | None]:
    try:
        root = ElementTree.fromstring(text[text.index("<nvidia_smi_log") :])
    except (ElementTree.ParseError, ValueError, LookupError):
        return [], None, None, None
    gpus = []
    licence = None
    for index, node in enumerate(root.findall("gpu")):
        total = (node.findtext("fb_memory_usage/total") or "").strip()
        entry = gpu(
            index,
            node.get("id") or node.findtext("pci/pci_bus_id") or "",
            (node.findtext("product_name") or "").strip(),
            mebibytes(total),
            (node.findtext("mig_mode/current_mig") or "").strip(),
            ["[" + total + "]" if not total.startswith("[") else total] if "lost" in total.lower() or "unknown error" in total.lower() else [],
        )
        entry["mig_memory_mib"] = [mebibytes(part.findtext("fb_memory_usage/total") or "") for part in node.findall("mig_devices/mig_device")]
        entry["mig_instances"] = len(entry["mig_memory_mib"])
        gpus.append(entry)
        licence = licence or node.findtext("vgpu_software_licensed_product/license_status")
    driver = root.findtext("kmd_version") or root.findtext("driver_version")
    cuda = root.findtext("cuda_umd_version") or root.findtext("cuda_version")
    return gpus, _version(driver), _version(cuda), licence


def _version(text: str | None) -> str | None:
    match = re.match(r"\s*(\d[\d.]*\d)", text or "")
    return match.group(1) if match else None


def _read_query(text: str) -> list[Gpu]:
    """``nvidia-smi -q``: a tree by indentation, four spaces a level, one block per GPU."""
    gpus: list[Gpu] = []
    path: list[str] = []
    for line in text.splitlines():
        head = re.match(r"^GPU ([0-9A-Fa-f]{8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9A-Fa-f])", line)
        if head:
            gpus.append(gpu(len(gpus), head.group(1), "", None, None))
            path = []
            continue
        if not gpus or not line.startswith("    "):
            continue
        depth = (len(line) - len(line.lstrip(" "))) // 4
        key, colon, value = (part.strip() for part in line.strip().partition(" : "))
        path = path[: depth - 1] + [key]
        where = "/".join(path)
        if where == "MIG Device":
            gpus[-1]["mig_instances"] += 1
        elif colon and where == "Product Name":
            gpus[-1]["name"] = value
        elif colon and where == "FB Memory Usage/Total":
            gpus[-1]["memory_total_mib"] = mebibytes(value)
        elif colon and where == "MIG Mode/Current":
            gpus[-1]["mig_mode"] = value if value in ("Enabled", "Disabled") else None
        if colon and value in ("GPU is lost", "Unknown Error"):
            gpus[-1]["faults"] = sorted({*gpus[-1]["faults"], f"[{value}]"})
    return gpus


def _read_table(text: str) -> list[Gpu]:
    gpus: list[Gpu] = []
    by_index: dict[int, Gpu] = {}
    open_block = False
    for line in text.splitlines():
        row = _TABLE_ROW.match(line)
        if row:
            gpus.append(gpu(int(row.group(1)), row.group(3), row.group(2), None, None))
            by_index[gpus[-1]["index"]] = gpus[-1]
            open_block = True
        elif line.startswith("+") or not line.startswith("|"):
            open_block = False
        instance = _TABLE_MIG.match(line)
        if instance and int(instance.group(1)) in by_index:
            by_index[int(instance.group(1))]["mig_instances"] += 1
        if not open_block:
            continue
        memory = _TABLE_MEMORY.search(line)
        if memory and gpus[-1]["memory_total_mib"] is None:
            gpus[-1]["memory_total_mib"] = int(memory.group(2))
        last = line.rstrip("| ").rsplit("|", 1)[-1].strip()
        if last in ("Enabled", "Disabled"):
            gpus[-1]["mig_mode"] = last
        if "GPU is lost" in line or "ERR!" in line:
            gpus[-1]["faults"] = sorted({*gpus[-1]["faults"], "[GPU is lost]" if "GPU is lost" in line else "ERR!"})
    return gpus


_ALIASES = {"gpu_bus_id": "pci.bus_id", "gpu_name": "name", "gpu_uuid": "uuid"}


def _columns(header: str) -> list[str]:
    """Column names of a CSV header, units taken off; empty when it does not name GPUs."""
    names = [re.sub(r" \[\S+\]$", "", cell.strip()) for cell in header.split(",")]
    names = [_ALIASES.get(name, name) for name in names]
    return names if "pci.bus_id" in names and "pid" not in names else []


def _read_csv(text: str, header: str) -> list[Gpu]:
    columns = _columns(header)
    gpus = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        row = dict(zip(columns, cells))
        if len(cells) != len(columns) or not re.match(r"^[0-9A-Fa-f]{8}:", row["pci.bus_id"]):
            continue
        index = int(row["index"]) if re.match(r"^[0-9]{1,9}$", row.get("index", "")) else None
        faults = [cell for name, cell in row.items() if name.startswith("memory.") and is_fault(cell)]
        entry = gpu(index, row["pci.bus_id"], row.get("name", ""), mebibytes(row.get("memory.total", "")), row.get("mig.mode.current"), faults)
        entry["driver_version"] = _version(row.get("driver_version"))
        gpus.append(entry)
    return gpus


def _read_list(text: str) -> list[Gpu]:
    counts = count_mig_devices(text)
    gpus = []
    for index, name, dummy in _LIST_ROW.findall(text):
        entry = gpu(int(index), "", name, None, None)
        entry["mig_instances"] = counts.get(int(index), 0)
        gpus.append(entry)
    return gpus


def parse_apps(text: str) -> list[dict[str, t.Any]]:
    """Rows of ``--query-compute-apps=gpu_bus_id,pid,process_name,used_gpu_memory``; a name may have commas."""
    rows = []
    for line in text.splitlines():
        match = re.match(r"^\s*([0-9A-Fa-f]{8}:[0-9A-Fa-f:.]+), ([0-9]{1,9}), (.*), (\S+(?: MiB)?)\s*$", line)
        if match:
            rows.append({"bus_id": normal_bus_id(match.group(1)), "pid": int(match.group(2)), "name": match.group(3), "used_mib": mebibytes(match.group(4))})
    return rows


def inactive_links(text: str) -> dict[int, int]:
    """``nvidia-smi nvlink -s``: GPU index to how many of its links are down, of GPUs that have links that are up."""
    counts: dict[int, list[int]] = {}
    current = None
    for line in text.splitlines():
        head = re.match(r"^GPU ([0-9]{1,9}):", line)
        link = re.match(r"^\s+Link \d+: (.+)$", line)
        if head:
            current = counts.setdefault(int(head.group(1)), [0, 0])
        elif link and current is not None:
            current[0 if "<inactive>" in link.group(1) else 1] += 1
    return {index: down for index, (down, up) in counts.items() if down and up}


__all__ = ["MESSAGES", "XID", "inactive_links", "mebibytes", "messages", "parse_apps", "read"]
