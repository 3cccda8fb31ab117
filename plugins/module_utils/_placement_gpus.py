# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""The GPUs that a server sees, and who takes how much of them. Pure."""

from __future__ import annotations

import typing as t

# Left free on every GPU: the driver's own memory and what fragments. A margin of this collection.
RESERVE_GIB = 0.5


class Device(t.NamedTuple):
    """One GPU, with its ``number`` for the server. ``worker``: its address in a cluster, else empty. ``problem``: why it takes nothing."""

    worker: str
    number: int
    name: str
    total: float
    used: float
    problem: str = ""

    @property
    def words(self) -> str:
        return f"GPU {self.number}" + (f" of {self.worker}" if self.worker else "") + f" ({self.name}, {self.total:.1f} GiB)"


def same_worker(worker: str, named: str) -> bool:
    """Whether a launch that names a worker means this one: by its address, and by its port where both have one."""
    if not named:
        return False
    (host, _colon, port), (other, _other, other_port) = worker.partition(":"), named.partition(":")
    return host == other and (not port or not other_port or port == other_port)


class Claim(t.NamedTuple):
    uid: str
    gib: float
    llm: bool


class Table:
    """Who takes what. ``claims``: device -> claims; ``foreign``: device -> GiB of processes that are not ours."""

    def __init__(self, devices: t.Sequence[Device]) -> None:
        self.devices = list(devices)
        self.usable = [device for device in devices if not device.problem]
        self.claims: dict[Device, list[Claim]] = {device: [] for device in devices}
        self.foreign: dict[Device, float] = {device: 0.0 for device in devices}

    def room(self, device: Device, without: str = "") -> float:
        taken = sum(claim.gib for claim in self.claims[device] if claim.uid != without)
        return device.total - RESERVE_GIB - self.foreign[device] - taken

    def alone(self, device: Device, uid: str = "") -> bool:
        return not self.foreign[device] and all(claim.uid == uid for claim in self.claims[device])

    def take(self, uid: str, devices: t.Iterable[Device], gib: float, llm: bool) -> None:
        for device in devices:
            self.claims[device].append(Claim(uid, gib, llm))

    def words(self, device: Device) -> str:
        if device.problem:
            return f"{device.words}: {device.problem}"
        takers = [f"{claim.uid} takes {claim.gib:.1f}" for claim in self.claims[device]]
        if self.foreign[device]:
            takers.append(f"processes that were not launched from here take {self.foreign[device]:.1f}")
        return f"{device.words}: {max(self.room(device), 0):.1f} GiB free" + ("; " + ", ".join(takers) if takers else "")


def devices_of(worker: str, gpus: t.Sequence[t.Mapping[str, t.Any]], visible: t.Any = "all") -> list[Device]:
    """The GPUs that the server's container sees, numbered as it numbers them: in PCI order, from 0.

    ``gpus``: as ``gpu_preflight`` returns them. ``visible``: what the container is given, ``all`` or indexes and UUIDs.
    """
    wanted = None if visible is None else [str(entry).strip() for entry in (visible if isinstance(visible, (list, tuple)) else str(visible).split(","))]
    if wanted is not None and [entry.lower() for entry in wanted] == ["all"]:
        wanted = None
    elif wanted is not None and [entry.lower() for entry in wanted] in (["none"], ["[]"]):
        wanted = []
    result: list[Device] = []
    for gpu in sorted(gpus, key=lambda entry: (str(entry.get("bus_id") or ""), int(entry.get("index") or 0))):
        parts = [part for part in gpu.get("mig_devices") or [] if wanted is None or str(part.get("uuid")) in wanted]
        whole = wanted is None or str(gpu.get("index")) in wanted or str(gpu.get("uuid")) in wanted
        if not whole and not parts:
            continue
        name = str(gpu.get("name") or "GPU")
        total = (gpu.get("memory_total_mib") or 0) / 1024
        used = (gpu.get("memory_used_mib") or 0) / 1024
        problem = ""
        if gpu.get("faults"):
            problem = f"broken, nvidia-smi says {', '.join(gpu['faults'])}"
        elif str(gpu.get("mig_mode")) == "Enabled":
            memory = (parts[0].get("memory_total_mib") or 0) / 1024 if len(parts) == 1 else 0
            name, total, used = name + " MIG", memory or total, 0.0
            # CUDA shows a process one instance only, and Xinference picks GPUs by number.
            problem = "" if memory else "MIG is on; give the container one instance by its UUID, or switch MIG off"
        elif not total:
            problem = "its memory is unknown"
        result.append(Device(worker, len(result), name, total, used, problem))
    return result


__all__ = ["RESERVE_GIB", "Claim", "Device", "Table", "devices_of", "same_worker"]
