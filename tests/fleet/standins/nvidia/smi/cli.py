"""Command line of the nvidia-smi stand-in: reads the profile, refuses what it does not know with exit status 2."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, Dict, List, Optional, Tuple

from . import fields as field_table
from . import table, xml

PROFILE = "/etc/llmops-standin/nvidia.json"
# A test makes this file in a container to take its GPUs away as a systemctl daemon-reload does; a restart brings them back.
LOST = "/dev/shm/llmops-standin-nvml-lost"
BAD_ARGUMENT = 2
GPU_LOST = 15
_APP_FIELDS = ("timestamp", "gpu_name", "gpu_bus_id", "gpu_serial", "gpu_uuid", "pid", "process_name", "used_gpu_memory")


class Refused(Exception):
    """An argument that is not answered; the text goes to stdout, as nvidia-smi does it."""


def main(argv: List[str]) -> int:
    """Answer as nvidia-smi would; returns its exit status."""
    if os.path.exists(LOST):
        sys.stdout.write("Failed to initialize NVML: Unknown Error\n")
        return 255
    with open(os.environ.get("LLMOPS_STANDIN_NVIDIA", PROFILE), encoding="utf-8") as stream:
        profile = json.load(stream)
    failure = profile.get("failure") or {}
    if failure.get("hang_seconds"):
        time.sleep(failure["hang_seconds"])
    if "exit_status" in failure:
        sys.stdout.write(failure["stdout"])
        return int(failure["exit_status"])
    try:
        return _answer(_options(argv), profile)
    except Refused as error:
        sys.stdout.write("{}\n".format(error))
        return BAD_ARGUMENT


def _options(argv: List[str]) -> Dict[str, str]:
    """Options by their long name; --name=value and, for those that take one, the next word."""
    short = {"-L": "--list-gpus", "-q": "--query", "-x": "--xml-format", "-i": "--id", "-h": "--help"}
    plain = ("--list-gpus", "--query", "--xml-format", "--version", "--help", "--help-query-gpu", "--help-query-compute-apps")
    with_value = ("--id", "--query-gpu", "--query-compute-apps", "--format")
    found: Dict[str, str] = {}
    words = list(argv)
    while words:
        word = words.pop(0)
        if word == "-qx":
            words[:0] = ["-q", "-x"]
            continue
        name, equals, value = word.partition("=")
        name = short.get(name, name)
        if name in plain and not equals:
            found[name] = ""
        elif name in with_value and (equals or words):
            found[name] = value if equals else words.pop(0)
        else:
            raise Refused('Option "{}" is not recognized. (STAND-IN of nvidia-smi: it answers {}.)'.format(word, ", ".join(plain + with_value)))
    return found


def _answer(options: Dict[str, str], profile: Dict[str, Any]) -> int:
    out = sys.stdout.write
    if "--help" in options:
        out("STAND-IN of nvidia-smi. It replays {}.\n".format(PROFILE))
        return 0
    if "--version" in options:
        driver = profile["driver_version"]
        rows = [("NVIDIA-SMI version", driver), ("NVML version", ".".join(driver.split(".")[:2])), ("DRIVER version", driver)]
        out("".join("{:<20}: {}\n".format(*row) for row in rows) + "{:<20}: {}\n".format("CUDA Version", profile["cuda_version"]))
        return 0
    if "--help-query-gpu" in options:
        out('List of valid properties to query for the switch "--query-gpu":\n\n')
        out("".join('"{}"\n'.format(name) for name in field_table.known_fields(profile["driver_version"])))
        return 0
    if not profile["gpus"]:
        out("No devices were found\n")
        return 6
    gpus = _selected(profile["gpus"], options.get("--id"))
    if "--list-gpus" in options:
        out("".join("GPU {index}: {name} (UUID: {uuid})\n".format(**gpu["fields"]) for gpu in gpus))
        return 0
    if "--query-gpu" in options:
        out(_query(options["--query-gpu"], options.get("--format"), gpus, profile))
        return 0
    if "--query-compute-apps" in options:
        out(_query_apps(options["--query-compute-apps"], options.get("--format"), gpus, profile))
        return 0
    if "--query" in options:
        if "--xml-format" not in options:
            raise Refused("STAND-IN of nvidia-smi: -q is answered with -x only.")
        out(xml.render(profile, gpus))
        return 0
    out(table.render({**profile, "gpus": gpus}))
    return GPU_LOST if any(gpu.get("lost") for gpu in gpus) else 0


def _selected(gpus: List[Dict[str, Any]], wanted: Optional[str]) -> List[Dict[str, Any]]:
    if wanted is None:
        return gpus
    chosen = []
    for word in wanted.split(","):
        match = [gpu for gpu in gpus if word in (str(gpu["fields"]["index"]), gpu["fields"]["uuid"], gpu["fields"]["pci.bus_id"])]
        if not match:
            raise Refused("No devices were found")
        chosen += match
    return chosen


def _format(text: Optional[str]) -> Tuple[bool, bool]:
    """(with header, with units) of --format."""
    parts = (text or "").split(",")
    if "csv" not in parts or set(parts) - {"csv", "noheader", "nounits"}:
        raise Refused('"--format=" value "{}" is not valid: it has to be csv[,noheader][,nounits].'.format(text or ""))
    return "noheader" not in parts, "nounits" not in parts


def _query(names: str, form: Optional[str], gpus: List[Dict[str, Any]], profile: Dict[str, Any]) -> str:
    wanted = []
    for name in names.split(","):
        field = field_table.find(name.strip(), profile["driver_version"])
        if field is None:
            # One unknown field fails the whole query, on stdout.
            raise Refused('Field "{}" is not a valid field to query.\n'.format(name.strip()))
        wanted.append(field)
    header, units = _format(form)
    rows = [[_heading(field.name, field.unit, units) for field in wanted]] if header else []
    rows += [[_cell(field, gpu, profile, units) for field in wanted] for gpu in gpus]
    return "".join(", ".join(row) + "\n" for row in rows)


def _heading(name: str, unit: Optional[str], units: bool) -> str:
    # nounits takes the units out of the cells; the header keeps them.
    return "{} [{}]".format(name, unit) if unit else name


def _cell(field: field_table.Field, gpu: Dict[str, Any], profile: Dict[str, Any], units: bool) -> str:
    if field.name in field_table.ALWAYS_DEPRECATED:
        return field_table.DEPRECATED
    if gpu.get("lost") and field.name not in field_table.KEPT_WHEN_LOST:
        return "[GPU is lost]"
    if field.name == "timestamp":
        return _timestamp()
    if field.name in ("driver_version", "kmd_version"):
        return str(profile["driver_version"])
    if field.name == "count":
        return str(len(profile["gpus"]))
    value = gpu["fields"].get(field.name)
    if value is None:
        return "N/A" if field.name.startswith("fabric.") else "[N/A]"
    return "{} {}".format(value, field.unit) if field.unit and units else str(value)


def _query_apps(names: str, form: Optional[str], gpus: List[Dict[str, Any]], profile: Dict[str, Any]) -> str:
    wanted = ["used_gpu_memory" if name.strip() == "used_memory" else name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in _APP_FIELDS:
            raise Refused('Field "{}" is not a valid field to query.\n'.format(name))
    header, units = _format(form)
    by_uuid = {gpu["fields"]["uuid"]: gpu["fields"] for gpu in gpus}
    rows = [[_heading(name, "MiB" if name == "used_gpu_memory" else None, units) for name in wanted]] if header else []
    for process in profile.get("processes", []):
        fields = by_uuid.get(process["gpu_uuid"])
        if fields is None:
            continue
        cells = {
            "timestamp": _timestamp(),
            "gpu_name": fields["name"],
            "gpu_bus_id": fields["pci.bus_id"],
            "gpu_serial": fields.get("serial") or "[N/A]",
            "gpu_uuid": fields["uuid"],
            "pid": str(process["pid"]),
            "process_name": process["process_name"],
            "used_gpu_memory": "{}{}".format(process["used_gpu_memory"], " MiB" if units else ""),
        }
        rows.append([cells[name] for name in wanted])
    return "".join(", ".join(row) + "\n" for row in rows)


def _timestamp() -> str:
    now = time.time()
    return time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(now)) + ".{:03d}".format(int(now * 1000) % 1000)
