"""The fields of --query-gpu, as drivers 590 and 595 know them, with the unit each is printed in."""

from __future__ import annotations

import re
from typing import Dict, List, NamedTuple, Optional

# In the order in which the driver lists them; what stands in brackets is the unit.
_KNOWN = """
timestamp; driver_version; kmd_version; vgpu_driver_capability.heterogenous_multivGPU; count; name; serial;
uuid; pci.bus_id; pci.domain; pci.bus; pci.device; pci.baseClass; pci.subClass; pci.device_id;
pci.sub_device_id; vgpu_device_capability.fractional_multiVgpu;
vgpu_device_capability.heterogeneous_timeSlice_profile; vgpu_device_capability.heterogeneous_timeSlice_sizes;
vgpu_device_capability.homogeneous_placements; vgpu_device_capability.mig_timeSlicing;
vgpu_device_capability.mig_timeSlicing_mode; pcie.link.gen.current; pcie.link.gen.gpucurrent; pcie.link.gen.max;
pcie.link.gen.gpumax; pcie.link.gen.hostmax; pcie.link.width.current; pcie.link.width.max; index; display_mode;
display_attached; display_active; persistence_mode; addressing_mode; accounting.mode; accounting.buffer_size;
driver_model.current; driver_model.pending; vbios_version; inforom.img; inforom.oem; inforom.ecc; inforom.pwr;
inforom.checksum_validation; gpu_recovery_action; gom.current; gom.pending; fan.speed [%]; pstate;
clocks_event_reasons.supported; clocks_event_reasons.active; clocks_event_reasons.gpu_idle;
clocks_event_reasons.applications_clocks_setting; clocks_event_reasons.sw_power_cap;
clocks_event_reasons.hw_slowdown; clocks_event_reasons.hw_thermal_slowdown;
clocks_event_reasons.hw_power_brake_slowdown; clocks_event_reasons.sw_thermal_slowdown;
clocks_event_reasons.sync_boost; clocks_event_reasons_counters.sw_power_cap [us];
clocks_event_reasons_counters.sync_boost [us]; clocks_event_reasons_counters.sw_thermal_slowdown [us];
clocks_event_reasons_counters.hw_thermal_slowdown [us];
clocks_event_reasons_counters.hw_power_brake_slowdown [us]; memory.total [MiB]; memory.reserved [MiB];
memory.used [MiB]; memory.free [MiB]; compute_mode; compute_cap; utilization.gpu [%]; utilization.memory [%];
utilization.encoder [%]; utilization.decoder [%]; utilization.jpeg [%]; utilization.ofa [%];
encoder.stats.sessionCount; encoder.stats.averageFps; encoder.stats.averageLatency; dramEncryption.mode.current;
dramEncryption.mode.pending; ecc.mode.current; ecc.mode.pending; ecc.errors.corrected.volatile.device_memory;
ecc.errors.corrected.volatile.dram; ecc.errors.corrected.volatile.register_file;
ecc.errors.corrected.volatile.l1_cache; ecc.errors.corrected.volatile.l2_cache;
ecc.errors.corrected.volatile.texture_memory; ecc.errors.corrected.volatile.cbu;
ecc.errors.corrected.volatile.sram; ecc.errors.corrected.volatile.total;
ecc.errors.corrected.aggregate.device_memory; ecc.errors.corrected.aggregate.dram;
ecc.errors.corrected.aggregate.register_file; ecc.errors.corrected.aggregate.l1_cache;
ecc.errors.corrected.aggregate.l2_cache; ecc.errors.corrected.aggregate.texture_memory;
ecc.errors.corrected.aggregate.cbu; ecc.errors.corrected.aggregate.sram; ecc.errors.corrected.aggregate.total;
ecc.errors.uncorrected.volatile.device_memory; ecc.errors.uncorrected.volatile.dram;
ecc.errors.uncorrected.volatile.register_file; ecc.errors.uncorrected.volatile.l1_cache;
ecc.errors.uncorrected.volatile.l2_cache; ecc.errors.uncorrected.volatile.texture_memory;
ecc.errors.uncorrected.volatile.cbu; ecc.errors.uncorrected.volatile.sram;
ecc.errors.uncorrected.volatile.total; ecc.errors.uncorrected.aggregate.device_memory;
ecc.errors.uncorrected.aggregate.dram; ecc.errors.uncorrected.aggregate.register_file;
ecc.errors.uncorrected.aggregate.l1_cache; ecc.errors.uncorrected.aggregate.l2_cache;
ecc.errors.uncorrected.aggregate.texture_memory; ecc.errors.uncorrected.aggregate.cbu;
ecc.errors.uncorrected.aggregate.sram; ecc.errors.uncorrected.aggregate.total;
ecc.errors.uncorrected.volatile.sram.parity; ecc.errors.uncorrected.volatile.sram.secded;
ecc.errors.uncorrected.aggregate.sram.parity; ecc.errors.uncorrected.aggregate.sram.secded;
ecc.errors.uncorrected.aggregate.sram.thresholdExceeded; ecc.errors.uncorrected.aggregate.sram.l2;
ecc.errors.uncorrected.aggregate.sram.sm; ecc.errors.uncorrected.aggregate.sram.mcu;
ecc.errors.uncorrected.aggregate.sram.pcie; ecc.errors.uncorrected.aggregate.sram.other;
retired_pages.single_bit_ecc.count; retired_pages.double_bit.count; retired_pages.pending;
remapped_rows.correctable; remapped_rows.correctable_inactive; remapped_rows.uncorrectable;
remapped_rows.uncorrectable_inactive; remapped_rows.pending; remapped_rows.failure; remapped_rows.histogram.max;
remapped_rows.histogram.high; remapped_rows.histogram.partial; remapped_rows.histogram.low;
remapped_rows.histogram.none; temperature.gpu; temperature.gpu.tlimit; temperature.memory; power.management;
power.draw [W]; power.draw.average [W]; power.draw.instant [W]; power.limit [W]; enforced.power.limit [W];
power.default_limit [W]; power.min_limit [W]; power.max_limit [W]; module.power.draw.average [W];
module.power.draw.instant [W]; module.power.limit [W]; module.enforced.power.limit [W];
module.power.default_limit [W]; module.power.min_limit [W]; module.power.max_limit [W]; edpp_multiplier [%];
clocks.current.graphics [MHz]; clocks.current.sm [MHz]; clocks.current.memory [MHz]; clocks.current.video [MHz];
clocks.applications.graphics [MHz]; clocks.applications.memory [MHz];
clocks.default_applications.graphics [MHz]; clocks.default_applications.memory [MHz]; clocks.max.graphics [MHz];
clocks.max.sm [MHz]; clocks.max.memory [MHz]; mig.mode.current; mig.mode.pending; gsp.mode.current;
gsp.mode.default; c2c.mode; protected_memory.total [MiB]; protected_memory.used [MiB];
protected_memory.free [MiB]; fabric.state; fabric.status; fabric.cliqueId; fabric.clusterUuid;
fabric.health.summary; fabric.health.bandwidth; fabric.health.route_recovery_in_progress;
fabric.health.route_unhealthy; fabric.health.access_timeout_recovery; fabric.health.incorrect_configuration;
fabric.health.partition_assigned; platform.chassis_serial_number; platform.slot_number; platform.tray_index;
platform.host_id; platform.peer_type; platform.module_id; platform.gpu_fabric_guid; hostname;
"""
_FROM_595 = """
kmd_version; remapped_rows.correctable_inactive; remapped_rows.uncorrectable_inactive;
fabric.health.partition_assigned;
"""
_UNTIL_594 = """
power_smoothing.delayed_power_smoothing_supported; power_smoothing.primary_power_floor [W];
power_smoothing.secondary_power_floor [W]; power_smoothing.min_primary_floor_activation_offset [W];
power_smoothing.min_primary_floor_activation_point [W]; power_smoothing.window_multiplier [ms];
power_smoothing.curr_profile.secondary_power_floor [W];
power_smoothing.curr_profile.primary_floor_act_window_multiplier;
power_smoothing.curr_profile.primary_floor_tar_window_multiplier;
power_smoothing.curr_profile.primary_floor_act_offset [W];
power_smoothing.admin_override.secondary_power_floor [W];
power_smoothing.admin_override.primary_floor_act_window_multiplier;
power_smoothing.admin_override.primary_floor_tar_window_multiplier;
power_smoothing.admin_override.primary_floor_act_offset [W];
"""
ALIASES = {
    "gpu_name": "name",
    "gpu_uuid": "uuid",
    "gpu_serial": "serial",
    "gpu_bus_id": "pci.bus_id",
    "clocks.gr": "clocks.current.graphics",
    "clocks.sm": "clocks.current.sm",
    "clocks.mem": "clocks.current.memory",
    "clocks.video": "clocks.current.video",
    "clocks.max.gr": "clocks.max.graphics",
    "clocks.max.mem": "clocks.max.memory",
}
# What a lost GPU still says: the driver knows these without asking it.
KEPT_WHEN_LOST = frozenset(
    "timestamp driver_version kmd_version count index name uuid serial pci.bus_id pci.domain pci.bus pci.device pci.baseClass "
    "pci.subClass pci.device_id pci.sub_device_id compute_cap mig.mode.current mig.mode.pending persistence_mode".split()
)
DEPRECATED = "[Requested functionality has been deprecated]"
ALWAYS_DEPRECATED = frozenset(
    "display_mode power.management clocks.applications.graphics clocks.applications.memory clocks.default_applications.graphics "
    "clocks.default_applications.memory".split()
)


class Field(NamedTuple):
    """A field's name and the unit it is printed in, e.g. MiB; None when it has no unit."""

    name: str
    unit: Optional[str]


def _parse(text: str) -> List[Field]:
    fields = []
    for entry in text.replace("\n", " ").split(";"):
        found = re.match(r"(\S+)(?: \[(\S+)\])?\Z", entry.strip())
        if found:
            fields.append(Field(found.group(1), found.group(2)))
    return fields


def known_fields(driver_version: str) -> Dict[str, Field]:
    """Field by name, for a driver such as 595.71.05."""
    branch = int(driver_version.split(".")[0])
    later = {field.name for field in _parse(_FROM_595)}
    fields = [field for field in _parse(_KNOWN) if branch >= 595 or field.name not in later]
    if branch < 595:
        fields += _parse(_UNTIL_594)
    return {field.name: field for field in fields}


def find(name: str, driver_version: str) -> Optional[Field]:
    """The field of this name or alias, None when the driver does not know it."""
    return known_fields(driver_version).get(ALIASES.get(name, name))
