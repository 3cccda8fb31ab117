"""What the nvidia-smi stand-in replays: healthy hosts and broken ones. Values are ours, formats are the driver's."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is installed and running.\n\n"
)


@dataclass(frozen=True)
class Card:
    """A kind of GPU. memory values in MiB, power in W; device and subsystem as PCI prints them (device before vendor)."""

    name: str
    brand: str
    architecture: str
    compute_cap: str
    device: str
    subsystem: str
    pci_class: str
    memory_total: int
    memory_reserved: int
    power_draw: float
    power_limit: float
    link_gen: int
    temperature: int
    pstate: str
    clocks: tuple[int, int, int]
    max_clocks: tuple[int, int, int]
    ecc: bool
    mig: bool = False
    fan: int | None = None
    fabric: bool = False


RTX_4090 = Card(
    "NVIDIA GeForce RTX 4090", "GeForce", "Ada Lovelace", "8.9", "2684", "889D1043", "0x030000",
    24564, 452, 18.42, 450.0, 4, 34, "P8", (210, 210, 405), (3120, 3120, 10501), ecc=False, fan=0,
)  # fmt: skip
TESLA_T4 = Card(
    "Tesla T4", "NVIDIA", "Turing", "7.5", "1EB8", "12A210DE", "0x030200",
    15360, 436, 9.11, 70.0, 3, 38, "P8", (300, 300, 405), (1590, 1590, 5001), ecc=True,
)  # fmt: skip
H100 = Card(
    "NVIDIA H100 80GB HBM3", "NVIDIA", "Hopper", "9.0", "2330", "16C110DE", "0x030200",
    81559, 633, 69.80, 700.0, 5, 31, "P0", (345, 345, 2619), (1980, 1980, 2619), ecc=True, mig=True, fabric=True,
)  # fmt: skip


@dataclass(frozen=True)
class Profile:
    """One host: its cards by PCI address, its driver, and what is wrong with it.

    module_version is that of the loaded kernel module, None when it is not loaded. exit_status and stdout make every
    call end so; hang_seconds makes it wait; cuinit is what CUDA answers, whatever nvidia-smi says; lost names the indexes of GPUs that fell off the bus.
    """

    card: Card
    addresses: tuple[str, ...]
    driver_version: str
    cuda_version: str
    module_version: str | None = None
    nvswitches: tuple[str, ...] = ()
    lost: tuple[int, ...] = ()
    exit_status: int | None = None
    stdout: str = ""
    hang_seconds: int = 0
    cuinit: int = 0
    processes: tuple[dict[str, Any], ...] = field(default_factory=tuple)


_4090 = Profile(RTX_4090, ("0000:01:00.0",), "595.71.05", "13.2", "595.71.05")
_T4 = Profile(TESLA_T4, ("0000:3b:00.0", "0000:af:00.0"), "595.71.05", "13.2", "595.71.05")
_H100 = Profile(
    H100,
    tuple(f"0000:{bus}:00.0" for bus in ("18", "2a", "3a", "5d", "9a", "ab", "ba", "db")),
    "590.48.01",
    "13.1",
    "590.48.01",
    nvswitches=tuple(f"0000:{bus}:00.0" for bus in ("05", "06", "07", "08")),
)

PROFILES: dict[str, Profile] = {
    "rtx4090x1": _4090,
    "t4x2": _T4,
    "h100x8": _H100,
    # Broken ones, each after the way it shows.
    "no-driver": replace(_4090, module_version=None, exit_status=9, stdout=NO_DRIVER),
    "mismatch": replace(
        _4090,
        module_version="595.45.04",
        exit_status=18,
        stdout="Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 595.71\n",
        cuinit=803,
    ),
    # nvidia-smi looks fine; CUDA says system not ready.
    "no-fabric-manager": replace(_H100, cuinit=802),
    "lost": replace(_T4, lost=(1,)),
    "hang": replace(_4090, hang_seconds=600),
    "old-driver": replace(_T4, driver_version="570.124.04", cuda_version="12.8", module_version="570.124.04"),
}


def smi_profile(profile: Profile) -> dict[str, Any]:
    """The profile as the stand-in reads it: every field's value, without unit, by its name in --query-gpu."""
    failure: dict[str, Any] = {}
    if profile.hang_seconds:
        failure["hang_seconds"] = profile.hang_seconds
    if profile.exit_status is not None:
        failure.update(exit_status=profile.exit_status, stdout=profile.stdout)
    gpus = [
        {
            "brand": profile.card.brand,
            "architecture": profile.card.architecture,
            "lost": index in profile.lost,
            # What is absent is printed as [N/A].
            "fields": {k: v for k, v in {**_identity(profile.card, index, address), **_readings(profile.card)}.items() if v is not None},
        }
        for index, address in enumerate(profile.addresses)
    ]
    return {
        "standin": "STAND-IN: replayed by the fleet's nvidia-smi; there is no GPU in this host.",
        "driver_version": profile.driver_version,
        "cuda_version": profile.cuda_version,
        "failure": failure,
        "gpus": gpus,
        "processes": list(profile.processes),
    }


def _identity(card: Card, index: int, address: str) -> dict[str, Any]:
    domain, bus, rest = address.split(":")
    number = int(bus, 16)
    return {
        "index": index,
        "name": card.name,
        "uuid": f"GPU-{int(card.device, 16):08x}-0000-4000-8000-{number:012x}",
        "serial": f"16{number:011d}" if card.ecc else None,
        "pci.bus_id": f"0000{domain}:{bus}:{rest}".upper(),
        "pci.domain": f"0x{domain}",
        "pci.bus": f"0x{bus}".replace(bus, bus.upper()),
        "pci.device": "0x00",
        "pci.baseClass": "0x3",
        "pci.subClass": "0x0" if card.pci_class.startswith("0x0300") else "0x2",
        "pci.device_id": f"0x{card.device}10DE",
        "pci.sub_device_id": f"0x{card.subsystem}",
        "compute_cap": card.compute_cap,
        "persistence_mode": "Enabled",
        "mig.mode.current": "Disabled" if card.mig else None,
        "mig.mode.pending": "Disabled" if card.mig else None,
        "vbios_version": "96.00.89.00.01",
        "inforom.checksum_validation": "valid",
        "display_attached": "No",
        "display_active": "Disabled",
        "addressing_mode": "HMM",
        "accounting.mode": "Disabled",
        "accounting.buffer_size": 4000,
        "compute_mode": "Default",
        "gsp.mode.current": "Enabled",
        "gsp.mode.default": "Enabled",
    }


def _readings(card: Card) -> dict[str, Any]:
    draw, limit = f"{card.power_draw:.2f}", f"{card.power_limit:.2f}"
    values: dict[str, Any] = {
        "memory.total": card.memory_total,
        "memory.reserved": card.memory_reserved,
        "memory.used": 1,
        "memory.free": card.memory_total - card.memory_reserved - 1,
        "utilization.gpu": 0,
        "utilization.memory": 0,
        "temperature.gpu": card.temperature,
        "power.draw": draw,
        "power.draw.average": draw,
        "power.draw.instant": draw,
        "power.limit": limit,
        "enforced.power.limit": limit,
        "power.default_limit": limit,
        "power.max_limit": limit,
        "pstate": card.pstate,
        "fan.speed": card.fan,
        "pcie.link.gen.current": card.link_gen,
        "pcie.link.gen.gpucurrent": card.link_gen,
        "pcie.link.gen.max": card.link_gen,
        "pcie.link.gen.gpumax": card.link_gen,
        "pcie.link.width.current": 16,
        "pcie.link.width.max": 16,
        "gpu_recovery_action": "None",
        "clocks_event_reasons.supported": "0x00000000000001FF",
        "clocks_event_reasons.active": "0x0000000000000001",
        "clocks_event_reasons.gpu_idle": "Active",
    }
    for kind, clocks in (("current", card.clocks), ("max", card.max_clocks)):
        values.update({f"clocks.{kind}.{unit}": clock for unit, clock in zip(("graphics", "sm", "memory"), clocks, strict=True)})
    for reason in ("sw_power_cap", "hw_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown", "sw_thermal_slowdown", "sync_boost"):
        values[f"clocks_event_reasons.{reason}"] = "Not Active"
    if card.ecc:
        values.update({"ecc.mode.current": "Enabled", "ecc.mode.pending": "Enabled"})
        values.update({f"ecc.errors.{kind}.{period}.total": 0 for kind in ("corrected", "uncorrected") for period in ("volatile", "aggregate")})
    if card.mig:
        values.update({"remapped_rows.correctable": 0, "remapped_rows.uncorrectable": 0, "remapped_rows.pending": "No", "remapped_rows.failure": "No"})
    if card.fabric:
        values.update({"fabric.state": "Completed", "fabric.status": "Success", "fabric.cliqueId": 0})
    return values
