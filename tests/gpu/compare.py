"""What the preflight says of a machine against what its driver says when asked in the plainest way. Pure."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional

# CUDA counts without what the driver keeps for itself: some percent on large cards, half a GiB on small ones.
RESERVED_SHARE = 0.06
RESERVED_MIB = 1100


class Device(NamedTuple):
    """One device as libcuda shows it; memory in MiB."""

    bus_id: str
    name: str
    uuid: str
    compute_capability: str
    memory_mib: int


class Truth(NamedTuple):
    """The driver's own words: libcuda's devices and version, nvidia-smi one column at a time, and the kernel's files."""

    cuinit: Optional[int]
    cuda: Optional[str]
    devices: List[Device]
    smi_status: int
    smi: Dict[str, List[str]]
    loaded_version: Optional[str]
    gpus_on_bus: Optional[int]


def compare(result: Dict[str, Any], truth: Truth) -> List[str]:
    """One sentence for everything that does not agree."""
    return facts_of_smi(result, truth) + facts_of_cuda(result, truth) + verdicts(result, truth)


def facts_of_smi(result: Dict[str, Any], truth: Truth) -> List[str]:
    problems = []
    gpus = result["gpus"]
    columns = {
        "name": [gpu["name"] for gpu in gpus],
        "uuid": [gpu["uuid"] for gpu in gpus],
        "driver_version": [gpu["driver_version"] for gpu in gpus],
        "memory.total": [None if gpu["memory_total_mib"] is None else str(gpu["memory_total_mib"]) for gpu in gpus],
        "compute_cap": [gpu["compute_capability"] for gpu in gpus],
        "mig.mode.current": [gpu["mig_mode"] for gpu in gpus],
    }
    for field, found in columns.items():
        wanted = truth.smi.get(field)
        # A driver that does not know a field says so for it alone; the facts then come from a table.
        if wanted is None:
            continue
        told = [None if cell in ("[N/A]", "N/A", "[Not Supported]") and field == "memory.total" else cell for cell in wanted]
        if found != told:
            problems.append(f"nvidia-smi says {field} {told}, the facts say {found}")
    if result["driver"]["loaded_version"] != truth.loaded_version:
        problems.append(f"the loaded module is {truth.loaded_version}, the facts say {result['driver']['loaded_version']}")
    if truth.gpus_on_bus is not None and len(result["pci_gpus"]) != truth.gpus_on_bus:
        problems.append(f"there are {truth.gpus_on_bus} GPUs on the bus, the facts say {len(result['pci_gpus'])}")
    return problems


def facts_of_cuda(result: Dict[str, Any], truth: Truth) -> List[str]:
    if truth.cuinit != 0:
        return []
    problems = []
    by_bus = {gpu["bus_id"]: gpu for gpu in result["gpus"]}
    if truth.cuda and result["cuda"] != truth.cuda:
        problems.append(f"libcuda speaks CUDA {truth.cuda}, the facts say {result['cuda']}")
    for device in truth.devices:
        gpu = by_bus.get(device.bus_id)
        if gpu is None:
            problems.append(f"libcuda has a device at {device.bus_id}, the facts do not")
            continue
        if gpu["mig_mode"] == "Enabled":
            continue
        for key, wanted in (("name", device.name), ("compute_capability", device.compute_capability), ("uuid", device.uuid)):
            if wanted and gpu[key] != wanted:
                problems.append(f"{device.bus_id}: libcuda says {key} {wanted}, the facts say {gpu[key]}")
        total = gpu["memory_total_mib"]
        # A GPU that shares the machine's memory has no number of its own in nvidia-smi.
        if total is not None and not 0 <= total - device.memory_mib <= max(RESERVED_MIB, RESERVED_SHARE * total):
            problems.append(f"{device.bus_id}: libcuda says {device.memory_mib} MiB, the facts say {total}")
    return problems


def verdicts(result: Dict[str, Any], truth: Truth) -> List[str]:
    status = {entry["id"]: entry["status"] for entry in result["verdicts"]}
    problems = [f"{entry['id']}: {entry['message']}" for entry in result["verdicts"] if entry["message"].startswith("The check itself failed")]
    expected: Dict[str, bool] = {"D02": truth.loaded_version is not None, "D07": truth.smi_status == 0}
    if truth.cuinit is not None:
        expected["D16"] = truth.cuinit == 0 and bool(truth.devices)
    if truth.gpus_on_bus is not None and truth.smi_status == 0:
        expected["D09"] = len(truth.smi.get("name", [])) >= truth.gpus_on_bus and not any(gpu["faults"] for gpu in result["gpus"])
    for name, fine in expected.items():
        if (status[name] == "ok") != fine:
            problems.append(f"{name} is {status[name]}, which does not agree with what the driver itself {'does' if fine else 'fails to do'}")
    return problems
