"""Files of a GPU host: the nvidia-smi stand-in, its profile, and the /proc, /sys and /dev paths that checks read.

A container cannot have another /proc or /sys, so those lie under STANDIN_ROOT; gpu_preflight_root points there.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.fleet.shell import FleetError
from tests.fleet.standins.nvidia.libcuda import build as build_libcuda
from tests.fleet.standins.nvidia.profiles import PROFILES, Profile, smi_profile

STANDIN_ROOT = "/opt/llmops-standin/root"
LIBRARY = "/usr/lib/llmops-standin"
NVSWITCH_DEVICE = "22a3"
_HERE = Path(__file__).resolve().parent
_PROGRAM = f"""#!/usr/bin/python3
# STAND-IN of nvidia-smi: replays /etc/llmops-standin/nvidia.json. It never talks to a GPU.
import sys

sys.path.insert(0, "{LIBRARY}")
from smi.cli import main

sys.exit(main(sys.argv[1:]))
"""


def profile(name: str) -> Profile:
    """The profile of this name; raises FleetError naming those that exist."""
    if name not in PROFILES:
        raise FleetError(f"There is no GPU profile {name!r}; a layout's `gpus` can be {', '.join(PROFILES)}.")
    return PROFILES[name]


def files(name: str) -> dict[str, tuple[bytes, int]]:
    """Absolute path -> (content, mode) of everything a host with this profile has."""
    chosen = profile(name)
    result: dict[str, tuple[bytes, int]] = {
        "/usr/bin/nvidia-smi": (_PROGRAM.encode(), 0o755),
        "/etc/llmops-standin/nvidia.json": ((json.dumps(smi_profile(chosen), indent=1) + "\n").encode(), 0o644),
    }
    for source in sorted((_HERE / "smi").glob("*.py")):
        result[f"{LIBRARY}/smi/{source.name}"] = (source.read_bytes(), 0o644)
    if chosen.module_version is not None:
        # The toolkit's stand-in binds it into containers, where the truth is asked.
        result[f"{LIBRARY}/libcuda.so.1"] = (build_libcuda(len(chosen.addresses) - len(chosen.lost), chosen.cuda_version, chosen.cuinit), 0o644)
    for path, text in _device_files(chosen).items():
        result[f"{STANDIN_ROOT}/{path}"] = (text.encode(), 0o666 if path.startswith("dev/") else 0o444)
    return result


def links(name: str) -> dict[str, str]:
    """Absolute path -> target of the symbolic links: which kernel driver each card is bound to."""
    chosen = profile(name)
    if chosen.module_version is None:
        return {}
    return {f"{STANDIN_ROOT}/sys/bus/pci/devices/{address}/driver": "../../drivers/nvidia" for address in chosen.addresses}


def _device_files(chosen: Profile) -> dict[str, str]:
    card = chosen.card
    found: dict[str, str] = {}
    for address in chosen.addresses:
        found.update(_pci(address, card.device.lower(), card.pci_class, card.subsystem.lower()))
    for address in chosen.nvswitches:
        found.update(_pci(address, NVSWITCH_DEVICE, "0x068000", "000010de"))
    if chosen.module_version is None:
        # A loaded nouveau would be a second finding; here simply no driver is loaded.
        found["sys/module/README"] = "STAND-IN: no nvidia module is loaded on this host.\n"
        return found
    version = chosen.module_version
    found["sys/module/nvidia/version"] = f"{version}\n"
    found["sys/bus/pci/drivers/nvidia/module"] = "nvidia\n"
    found["proc/driver/nvidia/version"] = (
        f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build  (stand-in@fleet)\n"
        "GCC version:  gcc version 14.2.0 (Debian 14.2.0-19)\n"
    )
    found["dev/nvidiactl"] = found["dev/nvidia-uvm"] = ""
    for index, address in enumerate(chosen.addresses):
        found[f"dev/nvidia{index}"] = ""
        found[f"proc/driver/nvidia/gpus/{address}/information"] = f"Model: \t\t {card.name}\nBus Location: \t {address}\n"
    for address in chosen.nvswitches:
        found[f"proc/driver/nvidia-nvswitch/devices/{address}"] = ""
    return found


def _pci(address: str, device: str, pci_class: str, subsystem: str) -> dict[str, str]:
    base = f"sys/bus/pci/devices/{address}"
    values = {
        "vendor": "0x10de",
        "device": f"0x{device}",
        "class": pci_class,
        "subsystem_vendor": f"0x{subsystem[4:]}",
        "subsystem_device": f"0x{subsystem[:4]}",
        "numa_node": "0",
        "current_link_width": "16",
        "max_link_width": "16",
        "resource": "0x00000000f0000000 0x00000000f0ffffff 0x0000000000040200",
        "aer_dev_fatal": "TOTAL_ERR_FATAL 0",
        "aer_dev_nonfatal": "TOTAL_ERR_NONFATAL 0",
    }
    return {f"{base}/{name}": f"{value}\n" for name, value in values.items()}
