# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What has to be read out of every sample, written down by hand from the text itself.

A row is: format, driver, CUDA, memory of each GPU in MiB, MIG mode of each ("" for none), MIG instances in all, faults.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

OURS = Path(__file__).resolve().parent / "data" / "nvidia_smi" / "ours"
RECORDINGS = Path(os.environ["LLMOPS_NVIDIA_RECORDINGS"]) if os.environ.get("LLMOPS_NVIDIA_RECORDINGS") else None


class Wanted(NamedTuple):
    form: str
    driver: str | None
    cuda: str | None
    memory: list[int | None]
    mig: list[str]
    instances: int
    faults: list[str]
    # Columns of a CSV that has no header.
    fields: str = ""


def text(*faults: str, driver: str | None = None, cuda: str | None = None) -> Wanted:
    """A text without GPUs."""
    return Wanted("text", driver, cuda, [], [], 0, list(faults))


def same(form: str, driver: str | None, cuda: str | None, memory: int | None, count: int = 1, mig: str = "", instances: int = 0, *faults: str) -> Wanted:
    """GPUs that are all alike."""
    return Wanted(form, driver, cuda, [memory] * count, [mig] * count, instances, list(faults))


def bare(driver: str, memory: int | None, count: int, mig: str, columns: int, *faults: str) -> Wanted:
    """Rows of a CSV without a header; ``columns`` picks which fields were asked for."""
    return Wanted("rows", driver, None, [memory] * count, [mig] * count, 0, list(faults), FIELDS[columns])


_START = "index,uuid,pci.bus_id,name,driver_version,memory.total,memory.used,"
_LINKS = "fabric.state,fabric.status,pcie.link.gen.current,pcie.link.gen.max,pcie.link.width.current,pcie.link.width.max"
FIELDS = {
    19: f"{_START}memory.free,compute_cap,mig.mode.current,persistence_mode,ecc.mode.current,{_LINKS},gpu_recovery_action",
    18: f"{_START}memory.free,compute_cap,mig.mode.current,persistence_mode,ecc.mode.current,{_LINKS}",
    10: f"{_START}compute_cap,mig.mode.current,persistence_mode",
    9: "index,name,pci.bus_id,temperature.gpu,power.draw,power.limit,memory.used,memory.total,utilization.gpu,clocks.current.sm,ecc",
}

OWN: dict[str, Wanted] = {
    "table_595_mig.txt": Wanted("table", "590.44.01", "13.1", [40960, 40960], ["Enabled", "Disabled"], 2, []),
    "table_460.txt": same("table", "460.27.04", "11.2", 16280, 1, "", 0, "inforom"),
    "table_610_lost.txt": same("table", "610.43.02", "13.3", 48935, 2, "", 0, "lost"),
    "table_550_err.txt": Wanted("table", "550.90.07", "12.4", [46068, None], ["", ""], 0, ["lost", "gpu"]),
    "query_mig.txt": Wanted("query", "590.44.01", "13.1", [40960, None], ["Enabled", "Disabled"], 2, ["lost", "gpu"]),
    "query_610.txt": same("query", "610.43.02", "13.3", 48935),
    "mig.xml": same("xml", "590.44.01", "13.1", 40960, 1, "Enabled", 2),
    "windows_no_version.xml": same("xml", None, None, 6144),
    "list_mig.txt": same("list", None, None, None, 2, "", 2),
    "query_gpu_units.csv": Wanted("csv", "590.44.01", None, [40960, None], ["Enabled", "Disabled"], 0, ["lost", "gpu"]),
    "query_gpu_tight.csv": same("csv", None, None, None, 2),
    "compute_apps.csv": text(),
    "version.txt": text(driver="590.44.01", cuda="13.1"),
    "version_610.txt": text(driver="610.43.02", cuda="13.3"),
    "nvlink.txt": same("list", None, None, None, 3, "", 0, "nvlink-inactive"),
    "kernel.log": text("mismatch", "lost", "xid-13", "xid-79"),
    "unsupported.log": text("unsupported"),
    "fabric.log": text("fabric-mismatch"),
}

# One line each: what nvidia-smi, the driver's services and Docker say when it goes wrong.
MESSAGES: dict[str, str] = {
    "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 590.44\n": "mismatch",
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that it is installed.\n\n": "no-driver",
    "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.\n": "no-library",
    "No devices were found\n": "no-devices",
    "Failed to initialize NVML: Insufficient Permissions\n": "permission",
    "Failed to initialize NVML: Unknown Error\n": "nvml-lost",
    "Unable to determine the device handle for GPU0000:81:00.0: Unknown Error\n": "lost",
    "request to query NVSwitch device information from NVSwitch driver failed with error:WARNING [NV_WARN_NOTHING_TO_DO]\n": "fabric-useless",
    "Loading of unsigned module is rejected\n": "unsigned-module",
    'docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]].\n': "docker-no-toolkit",
    "docker: Error response from daemon: failed to discover GPU vendor from CDI: no known GPU vendor found\n": "docker-no-toolkit",
    "docker: Error response from daemon: unknown or invalid runtime name: nvidia\n": "docker-no-toolkit",
    "docker: Error response from daemon: AMD CDI spec not found\n": "docker-late-toolkit",
    "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=all\n": "docker-no-cdi",
    "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13.0, please update your driver\n": "docker-old-driver",
    "nvidia-container-cli: initialization error: nvml error: driver/library version mismatch: unknown.\n": "mismatch",
    "nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown.\n": "no-driver",
    "open /run/nvidia-persistenced/socket: no such file or directory\n": "docker-persistenced",
}

_CARDS = {
    "geforce-rtx-2080-super__595.71.05": ("595.71.05", "13.2", 8192, "", 0),
    "geforce-rtx-4080-super__595.71.05": ("595.71.05", "13.2", 16376, "", 0),
    "h100-mig__590.48.01": ("590.48.01", "13.1", 81559, "Enabled", 4),
    "h200__590.48.01": ("590.48.01", "13.1", 143771, "Disabled", 0),
}
RECORDED: dict[str, Wanted] = {}
for _name, (_driver, _cuda, _memory, _mig, _count) in _CARDS.items():
    RECORDED.update(
        {
            f"csv/{_name}__q": same("query", _driver, _cuda, _memory, 1, _mig, _count),
            f"csv/{_name}__table": same("table", _driver, _cuda, _memory, 1, _mig, _count),
            f"csv/{_name}__query-gpu.csv": same("csv", _driver, None, _memory, 1, _mig),
            f"csv/{_name}__minimal-nounits.csv": bare(_driver, _memory, 1, _mig, 19),
            f"csv/{_name}__list-L": same("list", None, None, None, 1, "", _count),
            f"csv/{_name}__nvlink-s": same("list", None, None, None),
            f"csv/{_name}__version": text(driver=_driver, cuda=_cuda),
            f"csv/{_name}__compute-apps.csv": text(),
            f"csv/{_name}__compute-apps-load.csv": text(),
            f"csv/{_name}__topo-m": text(),
        }
    )
for _name, _driver, _cuda, _memory in (
    ("a100", "550.163.01", "12.4", 40960),
    ("b200", "560.35.03", "12.6", 196608),
    ("h100", "550.163.01", "12.4", 81920),
    ("h100_ecc_uncorrectable", "550.163.01", "12.4", 81920),
):
    RECORDED[f"mock-550/{_name}.L"] = same("list", None, None, None, 8)
    RECORDED[f"mock-550/{_name}.table"] = same("table", _driver, _cuda, _memory, 8, "Disabled")
    RECORDED[f"mock-550/{_name}.csv"] = bare(_driver, _memory, 8, "Disabled", 10 if "_" in _name else 18)
_ONE_LOST: list[int | None] = [81920, None, *[81920] * 6]
RECORDED.update(
    {
        "mock-550/h100.topo": text(),
        "mock-550/h100_ecc_uncorrectable.err": text(),
        "mock-550/h100_lost.err": text(),
        "mock-550/h100_lost.L": same("list", None, None, None, 8),
        "mock-550/h100_lost.table": Wanted("table", "550.163.01", "12.4", _ONE_LOST, ["Disabled"] * 8, 0, ["lost", "gpu"]),
        "mock-550/h100_lost.csv": Wanted("rows", "550.163.01", None, _ONE_LOST, ["Disabled"] * 8, 0, ["lost", "gpu"], FIELDS[10]),
        "xml/a100-sxm4-v12.xml": same("xml", "535.54.03", "12.2", 81920, 1, "Enabled", 4),
        "xml/gtx-1070-ti.xml": same("xml", None, None, 4096),
        "xml/quadro-p2000-v12.xml": same("xml", "525.125.06", "12.0", 5120),
        "xml/rtx-3060-v12.xml": same("xml", "570.124.04", "12.8", 12288),
        "xml/rtx-3080-v12.xml": same("xml", "536.40", "12.2", 10240),
        "xml/rtx-4000-sff-ada-v13.xml": same("xml", "595.84", "13.2", 20475),
        "health/journald.log": text(),
        "health/limits.bad.conf": text(),
        "health/lsmod.nvidia.out": text(),
        "health/lsmod.wsl.out": text(),
        "health/selinux.bad": text(),
        "health/nvidia-smi-inforom.out": same("table", "460.32.03", "11.2", 32510, 8, "", 0, "inforom"),
        "health/nvidia-smi-q.out": same("query", "460.32.03", "11.2", 40536, 8, "Disabled"),
        "health/nvidia-smi-query-gpu.csv": same("csv", None, None, None, 4),
        "health/nvlink.bad.out": same("list", None, None, None, 7, "", 0, "nvlink-inactive"),
        "errors/docker_29.3_no_toolkit.txt": text("docker-no-toolkit"),
        "errors/docker_29.3_toolkit_installed_after_dockerd.txt": text("docker-late-toolkit"),
        "errors/docker_cdi_unresolvable.txt": text("docker-no-cdi"),
        "errors/docker_legacy_no_toolkit.txt": text("docker-no-toolkit"),
        "errors/docker_nvml_mismatch.txt": text("mismatch"),
        "errors/docker_persistenced.txt": text("docker-persistenced"),
        "errors/docker_require_cuda.txt": text("docker-old-driver"),
        "errors/docker_unknown_runtime.txt": text("docker-no-toolkit"),
        "errors/gb10_unified.csv": text(),
        "errors/journal_fabricmanager_mismatch.txt": text("fabric-mismatch"),
        "errors/journal_fabricmanager_no_nvswitch.txt": text("fabric-useless"),
        "errors/kmsg_api_mismatch.txt": text("mismatch"),
        "errors/kmsg_unsupported_gpu.txt": text("unsupported"),
        "errors/kmsg_xid79.txt": text("lost", "xid-79"),
        "errors/nvidia-smi-table_one-gpu-lost_610.57.04.txt": same("table", "610.57.04", "13.3", 97887, 3, "", 0, "lost"),
        "errors/rc12_no_nvml.stdout": text("no-library"),
        "errors/rc14_inforom_csv.stdout": Wanted("rows", None, None, [32768], [""], 0, ["inforom"], FIELDS[9]),
        "errors/rc18_mismatch.stdout": text("mismatch"),
        "errors/rc255_container_lost.stdout": text("nvml-lost"),
        "errors/rc4_selinux.stdout": text("permission"),
        "errors/rc6_no_devices.stdout": text("no-devices"),
        "errors/rc9_no_driver.stdout": text("no-driver"),
        "errors/rc_gpu_lost.stdout": text("lost"),
    }
)
