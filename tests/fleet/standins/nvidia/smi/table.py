"""The table that plain nvidia-smi prints."""

from __future__ import annotations

import time
from typing import Any, Dict, List

_RULE = "+-----------------------------------------+------------------------+----------------------+"
_HEAD = (
    "| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |",
    "| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |",
    "|                                         |                        |               MIG M. |",
    "|=========================================+========================+======================|",
)
_PROCESSES = (
    "+-----------------------------------------------------------------------------------------+",
    "| Processes:                                                                              |",
    "|  GPU   GI   CI              PID   Type   Process name                        GPU Memory |",
    "|        ID   ID                                                               Usage      |",
    "|=========================================================================================|",
)


def render(profile: Dict[str, Any]) -> str:
    """The whole table as text."""
    driver, cuda = profile["driver_version"], profile["cuda_version"]
    lines = [time.strftime("%a %b %e %H:%M:%S %Y") + " " * 7, "+" + "-" * 89 + "+"]
    lines.append("| NVIDIA-SMI {:<23}Driver Version: {:<15}CUDA Version: {:<9}|".format(driver, driver, cuda))
    lines += [_RULE, *_HEAD]
    for gpu in profile["gpus"]:
        lines += [*_rows(gpu), _RULE]
    lines += ["", *_PROCESSES]
    processes = [_process(process, profile["gpus"]) for process in profile.get("processes", [])]
    lines += processes or ["|  {:<87}|".format("No running processes found")]
    lines.append(_PROCESSES[0])
    return "\n".join(lines) + "\n"


def _rows(gpu: Dict[str, Any]) -> List[str]:
    values = gpu["fields"]
    lost = gpu.get("lost", False)
    name = values["name"] if len(values["name"]) <= 27 else values["name"][:24] + "..."
    persistence = "On" if values["persistence_mode"] == "Enabled" else "Off"
    display = "On" if values.get("display_active") == "Enabled" else "Off"
    fan = "N/A" if values.get("fan.speed") is None else "{}%".format(values["fan.speed"])
    ecc = values.get("ecc.errors.uncorrected.volatile.total", "N/A")
    temperature, power, used = "{}C".format(values["temperature.gpu"]), "{:.0f}W".format(float(values["power.draw"])), values["memory.used"]
    utilization = "{}%".format(values["utilization.gpu"])
    memory = "{:>11} / {:>9} ".format("{}MiB".format(used), "{}MiB".format(values["memory.total"]))
    if lost:
        temperature = power = ecc = utilization = "ERR!"
        memory = " {:<23}".format("GPU is lost")
    limit = "{:.0f}W".format(float(values["power.limit"]))
    mig = values.get("mig.mode.current", "N/A")
    return [
        "|{:>4}  {:<27}    {:<3} |   {:<16} {:>3} |{:>21} |".format(values["index"], name, persistence, values["pci.bus_id"], display, ecc),
        "|{:>4}{:>6}    {:<3}{:>15} / {:>5} |{}|{:>8}{:>13} |".format(
            fan, temperature, values["pstate"], power, limit, memory, utilization, values.get("compute_mode", "Default")
        ),
        "|{:41}|{:24}|{:>21} |".format("", "", mig),
    ]


def _process(process: Dict[str, Any], gpus: List[Dict[str, Any]]) -> str:
    index = next(gpu["fields"]["index"] for gpu in gpus if gpu["fields"]["uuid"] == process["gpu_uuid"])
    memory = "{}MiB".format(process["used_gpu_memory"])
    return "|{:>5}   N/A  N/A {:>15} {:>6}   {:<36} {:>9} |".format(index, process["pid"], process.get("type", "C"), process["process_name"][:36], memory)
