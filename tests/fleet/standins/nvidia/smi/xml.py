"""nvidia-smi -q -x: the elements that readers use, nested and named as drivers 570 (DTD v12) to 595 (v13) do."""

from __future__ import annotations

import time
from typing import Any, Dict, List, Tuple, Union
from xml.sax.saxutils import escape

# A value is a text, or a list of (name, value) for an element with children.
Value = Union[str, List[Tuple[str, Any]]]
_NA = "N/A"


def render(profile: Dict[str, Any], gpus: List[Dict[str, Any]]) -> str:
    """The whole document."""
    driver = profile["driver_version"]
    version = 13 if int(driver.split(".")[0]) >= 595 else 12
    head = ['<?xml version="1.0" ?>', '<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v{}.dtd">'.format(version), "<nvidia_smi_log>"]
    top: List[Tuple[str, Value]] = [
        ("timestamp", time.strftime("%a %b %e %H:%M:%S %Y")),
        ("driver_version", driver),
        ("cuda_version", profile["cuda_version"]),
        ("attached_gpus", str(len(profile["gpus"]))),
    ]
    lines = head + _lines(top, 1)
    for gpu in gpus:
        lines.append('\t<gpu id="{}">'.format(gpu["fields"]["pci.bus_id"]))
        lines += _lines(_gpu(gpu, profile, version), 2)
        lines.append("\t</gpu>")
    return "\n".join([*lines, "", "</nvidia_smi_log>"]) + "\n"


def _lines(elements: List[Tuple[str, Value]], depth: int) -> List[str]:
    lines = []
    indent = "\t" * depth
    for name, value in elements:
        if isinstance(value, list):
            lines += ["{}<{}>".format(indent, name), *_lines(value, depth + 1), "{}</{}>".format(indent, name)]
        else:
            lines.append("{}<{}>{}</{}>".format(indent, name, escape(value), name))
    return lines


def _gpu(gpu: Dict[str, Any], profile: Dict[str, Any], version: int) -> List[Tuple[str, Value]]:
    fields = gpu["fields"]
    lost = "GPU is lost" if gpu.get("lost") else None

    def text(name: str, unit: str = "", form: str = "{}") -> str:
        if name not in fields or fields[name] is None:
            return _NA
        return form.format(fields[name]) + (" " + unit if unit else "")

    def live(name: str, unit: str = "", form: str = "{}") -> str:
        return lost or text(name, unit, form)

    bus = fields["pci.bus_id"]
    elements: List[Tuple[str, Value]] = [
        ("product_name", fields["name"]),
        ("product_brand", gpu["brand"]),
        ("product_architecture", gpu["architecture"]),
        ("display_mode", "Requested functionality has been deprecated"),
        ("display_attached", text("display_attached")),
        ("display_active", text("display_active")),
        ("persistence_mode", text("persistence_mode")),
        ("addressing_mode", text("addressing_mode")),
        ("mig_mode", [("current_mig", text("mig.mode.current")), ("pending_mig", text("mig.mode.pending"))]),
        ("mig_devices", "\n\t\t\tNone\n\t\t"),
        ("accounting_mode", text("accounting.mode")),
        ("accounting_mode_buffer_size", text("accounting.buffer_size")),
        ("driver_model", [("current_dm", _NA), ("pending_dm", _NA)]),
        ("serial", text("serial")),
        ("uuid", fields["uuid"]),
        ("minor_number", str(fields["index"])),
        ("vbios_version", live("vbios_version")),
    ]
    if version < 13:
        deprecated = "Requested functionality has been deprecated"
        elements.append(("gpu_reset_status", [("reset_required", deprecated), ("drain_and_reset_recommended", deprecated)]))
    elements += [
        ("gpu_recovery_action", live("gpu_recovery_action")),
        ("gsp_firmware_version", profile["driver_version"]),
        ("pci", _pci(fields, bus, live)),
        ("fan_speed", live("fan.speed", "%")),
        ("performance_state", live("pstate")),
        ("fb_memory_usage", [(part, live("memory." + part, "MiB")) for part in ("total", "reserved", "used", "free")]),
        ("compute_mode", live("compute_mode")),
        ("utilization", [("gpu_util", live("utilization.gpu", "%")), ("memory_util", live("utilization.memory", "%"))]),
        ("ecc_mode", [("current_ecc", live("ecc.mode.current")), ("pending_ecc", live("ecc.mode.pending"))]),
        ("remapped_rows", _remapped(fields)),
        ("temperature", [("gpu_temp", live("temperature.gpu", "C")), ("memory_temp", live("temperature.memory", "C"))]),
        ("gpu_power_readings", _power(live)),
        ("clocks", [(name + "_clock", live("clocks.current." + field, "MHz")) for name, field in _CLOCKS]),
        ("max_clocks", [(name + "_clock", live("clocks.max." + field, "MHz")) for name, field in _CLOCKS[:3]]),
        ("fabric", [("state", live("fabric.state")), ("status", live("fabric.status"))]),
        ("processes", _processes(profile, fields["uuid"])),
    ]
    return elements


_CLOCKS = (("graphics", "graphics"), ("sm", "sm"), ("mem", "memory"), ("video", "video"))


def _pci(fields: Dict[str, Any], bus: str, live: Any) -> List[Tuple[str, Value]]:
    gen = [("max_link_gen", live("pcie.link.gen.max")), ("current_link_gen", live("pcie.link.gen.current"))]
    width = [("max_link_width", live("pcie.link.width.max", form="{}x")), ("current_link_width", live("pcie.link.width.current", form="{}x"))]
    return [
        ("pci_bus", bus.split(":")[1]),
        ("pci_device", bus.split(":")[2].split(".")[0]),
        ("pci_domain", bus.split(":")[0][-4:]),
        ("pci_device_id", fields["pci.device_id"][2:]),
        ("pci_bus_id", bus),
        ("pci_sub_system_id", fields["pci.sub_device_id"][2:]),
        ("pci_gpu_link_info", [("pcie_gen", gen), ("link_widths", width)]),
    ]


def _power(live: Any) -> List[Tuple[str, Value]]:
    names = {
        "average_power_draw": "power.draw.average",
        "instant_power_draw": "power.draw.instant",
        "current_power_limit": "enforced.power.limit",
        "requested_power_limit": "power.limit",
        "default_power_limit": "power.default_limit",
        "min_power_limit": "power.min_limit",
        "max_power_limit": "power.max_limit",
    }
    return [("power_state", live("pstate")), *((name, live(field, "W")) for name, field in names.items())]


def _remapped(fields: Dict[str, Any]) -> Value:
    if "remapped_rows.pending" not in fields:
        return _NA
    rows = {"corr": "correctable", "unc": "uncorrectable", "pending": "pending", "failure": "failure"}
    return [("remapped_row_" + name, str(fields["remapped_rows." + field])) for name, field in rows.items()]


def _processes(profile: Dict[str, Any], uuid: str) -> List[Tuple[str, Value]]:
    return [
        (
            "process_info",
            [
                ("gpu_instance_id", _NA),
                ("compute_instance_id", _NA),
                ("pid", str(process["pid"])),
                ("type", process.get("type", "C")),
                ("process_name", process["process_name"]),
                ("used_memory", "{} MiB".format(process["used_gpu_memory"])),
            ],
        )
        for process in profile.get("processes", [])
        if process["gpu_uuid"] == uuid
    ]
