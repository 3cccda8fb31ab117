"""Runs the preflight on this machine and compares it with nvidia-smi and libcuda. See run.sh."""

from __future__ import annotations

import ctypes
import glob
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, Optional, Tuple

ROOT = Path(__file__).resolve().parents[2]
NO_GPU = 3
FIELDS = ("name", "uuid", "driver_version", "memory.total", "compute_cap", "mig.mode.current")
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76

sys.path.insert(0, str(ROOT))
from tests.gpu.compare import Device, Truth, compare


def libcuda() -> Tuple[Optional[int], Optional[str], List[Device]]:
    """cuInit's code, the CUDA version and the devices; the code is None without a library."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None, None, []
    code = library.cuInit(0)
    version = ctypes.c_int(0)
    library.cuDriverGetVersion(ctypes.byref(version))
    cuda = f"{version.value // 1000}.{version.value % 1000 // 10}" if version.value else None
    count = ctypes.c_int(0)
    if code != 0 or library.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return code, cuda, []
    return code, cuda, [device(library, number) for number in range(count.value)]


def device(library: ctypes.CDLL, number: int) -> Device:
    handle = ctypes.c_int(0)
    library.cuDeviceGet(ctypes.byref(handle), number)
    name, bus = ctypes.create_string_buffer(256), ctypes.create_string_buffer(64)
    library.cuDeviceGetName(name, 256, handle)
    library.cuDeviceGetPCIBusId(bus, 64, handle)
    total = ctypes.c_size_t(0)
    library.cuDeviceTotalMem_v2(ctypes.byref(total), handle)
    parts = []
    for attribute in (CAPABILITY_MAJOR, CAPABILITY_MINOR):
        value = ctypes.c_int(0)
        library.cuDeviceGetAttribute(ctypes.byref(value), attribute, handle)
        parts.append(str(value.value))
    raw = (ctypes.c_ubyte * 16)()
    library.cuDeviceGetUuid(ctypes.byref(raw), handle)
    text = bytes(raw).hex()
    uuid = f"GPU-{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    return Device(bus.value.decode().lower(), name.value.decode(), uuid, ".".join(parts), total.value // 2**20)


def one_column(field: str) -> Tuple[int, Optional[List[str]]]:
    """One field of all GPUs: with a single column there is nothing to take apart."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=" + field, "--format=csv,noheader,nounits"], stdout=subprocess.PIPE, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 127, None
    return done.returncode, done.stdout.splitlines() if done.returncode == 0 else None


def ask_the_driver() -> Truth:
    columns: Dict[str, List[str]] = {}
    status = one_column("name")[0]
    for field in FIELDS:
        cells = one_column(field)[1]
        if cells is not None:
            columns[field] = [cell.strip() for cell in cells]
    try:
        match = re.search(r"\s(\d{3,}\.[\d.]+)\s", Path("/proc/driver/nvidia/version").read_text())
    except OSError:
        match = None
    classes = [Path(path).read_text().strip() for path in glob.glob("/sys/bus/pci/devices/*/class") if nvidia(Path(path).parent)]
    on_bus = len([kind for kind in classes if kind.startswith(("0x0300", "0x0302"))]) if Path("/sys/bus/pci/devices").is_dir() else None
    return Truth(*libcuda(), status, columns, match.group(1) if match else None, on_bus)


def nvidia(folder: Path) -> bool:
    return (folder / "vendor").read_text().strip() == "0x10de"


def preflight() -> dict:
    """The module's own code, without Ansible."""
    with tempfile.TemporaryDirectory() as name:
        parent = Path(name) / "ansible_collections" / "llmops"
        parent.mkdir(parents=True)
        (parent / "dify_xinference").symlink_to(ROOT)
        sys.path.insert(0, name)
        from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight import run

        return run.preflight(run.Options(image_version="v4.1.0"))


def main() -> int:
    truth = ask_the_driver()
    if not truth.gpus_on_bus and truth.smi_status != 0 and truth.cuinit != 0:
        words = "there is no libcuda.so.1" if truth.cuinit is None else f"cuInit returns {truth.cuinit}"
        print(f"No GPU here: none on the PCI bus, nvidia-smi ends with {truth.smi_status}, {words}. Nothing was tested.")
        return NO_GPU
    result = preflight()
    print(json.dumps({"gpus": result["gpus"], "driver": result["driver"], "cuda": result["cuda"], "summary": result["summary"]}, indent=1))
    for entry in result["verdicts"]:
        if entry["status"] in ("fail", "warn", "unknown"):
            print(f"{entry['status']:<8}{entry['id']} {entry['name']}: {entry['message']}")
    problems = compare(result, truth)
    for problem in problems:
        print("DISAGREES: " + problem)
    counted = f"{len(truth.devices)} devices of libcuda, {len(result['gpus'])} GPUs of nvidia-smi"
    print(f"{counted}, {len(problems)} disagreements, {result['seconds']} s on this machine.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
