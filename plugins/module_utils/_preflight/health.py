# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Section E: the health of the GPUs, and whether they are free for the declared models."""

from __future__ import annotations

import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _nvidia, _nvidia_text, _placement
from ansible_collections.llmops.dify_xinference.plugins.module_utils._placement_gpus import devices_of
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight import xids
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._context import Context
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._core import FAIL, INFO, OK, SKIP, UNKNOWN, WARN, Detect, Finding
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight.driver import no_answer
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight.network import xinference_runs

# Of clocks_event_reasons.active: hardware slowdown, software and hardware thermal slowdown, power brake.
THROTTLE_BITS = {0x8: "hardware slowdown", 0x20: "heat (software)", 0x40: "heat (hardware)", 0x80: "power brake"}
# Below this, a display server or the driver itself.
USED_MIB = 500
Gpu = t.Mapping[str, t.Any]


def answering(context: Context) -> t.Union[Finding, t.List[Gpu]]:
    """The GPUs that answer, or why there are none."""
    nothing = no_answer(context)
    if nothing:
        return nothing
    gpus: list[Gpu] = [gpu for gpu in context.smi.gpus if not gpu["faults"]]
    return gpus or Finding(SKIP, "No GPU answers (see D09).")


def those(gpus: t.Iterable[Gpu]) -> str:
    return ", ".join(str(gpu["index"]) for gpu in gpus)


def xid(context: Context) -> Finding:
    if context.pci_gpus == []:
        return Finding(SKIP, "There is no GPU.")
    log = context.kernel_log
    if log is None:
        return Finding(UNKNOWN, "The kernel log cannot be seen.", "Run with become: true, or add the user to the group systemd-journal.")
    found: dict[tuple[str, int], str] = {}
    for line in log.splitlines():
        match = _nvidia_text.XID.search(line)
        if match:
            # The last one of each kind, with its time.
            found[(match.group(1), int(match.group(2)))] = line.split(" ", 1)[0]
    listed = {key: f"Xid {key[1]} on {key[0]} at {when}" + (f" ({xids.MEANINGS[key[1]]})" if key[1] in xids.MEANINGS else "") for key, when in found.items()}
    bad = [text for key, text in listed.items() if key[1] in xids.HARDWARE]
    if bad:
        return Finding(FAIL, "; ".join(bad) + ".")
    odd = [text for key, text in listed.items() if key[1] not in xids.IGNORED]
    if odd:
        return Finding(WARN, "; ".join(odd) + ".", "Restart the program that met it; if it comes back with another program, suspect the card.")
    return Finding(OK, "no Xid that matters since the start of the machine")


def ecc(context: Context) -> Finding:
    gpus = answering(context)
    if isinstance(gpus, Finding):
        return gpus
    bad = [gpu for gpu in gpus if gpu["ecc_uncorrected"]]
    if bad:
        return Finding(FAIL, "Uncorrected memory errors: " + ", ".join(f"GPU {gpu['index']}: {gpu['ecc_uncorrected']}" for gpu in bad) + ".")
    past = [gpu for gpu in gpus if gpu["ecc_uncorrected_ever"]]
    if past:
        return Finding(INFO, f"Uncorrected memory errors in the past of GPU {those(past)}, none since the start of the machine.")
    return Finding(OK, "no uncorrected memory errors")


def remap(context: Context) -> Finding:
    gpus = answering(context)
    if isinstance(gpus, Finding):
        return gpus
    failed = [gpu for gpu in gpus if gpu["remap_failure"] in ("Yes", "1")]
    if failed:
        return Finding(FAIL, f"A row of memory could not be remapped on GPU {those(failed)}.")
    pending = [gpu for gpu in gpus if "Yes" in (gpu["remap_pending"], gpu["retired_pending"])]
    if pending:
        return Finding(WARN, f"Bad memory waits for a reset to be taken out of use on GPU {those(pending)}.")
    return Finding(OK, "no memory waits to be taken out of use")


def recovery_action(context: Context) -> Finding:
    gpus = answering(context)
    if isinstance(gpus, Finding):
        return gpus
    bad = [gpu for gpu in gpus if gpu["recovery_action"] not in (None, "None")]
    if bad:
        return Finding(FAIL, "The driver asks for " + ", ".join(f"{gpu['recovery_action']} of GPU {gpu['index']}" for gpu in bad) + ".")
    return Finding(OK, "the driver asks for nothing")


def throttle(context: Context) -> Finding:
    gpus = answering(context)
    if isinstance(gpus, Finding):
        return gpus
    bad = {gpu["index"]: [word for bit, word in THROTTLE_BITS.items() if gpu["throttle_bits"] & bit] for gpu in gpus}
    listed = [f"GPU {index}: {', '.join(words)}" for index, words in bad.items() if words]
    return Finding(WARN, "Slowed down: " + "; ".join(listed) + ".") if listed else Finding(OK, "no GPU is slowed down")


def power_cap(context: Context) -> Finding:
    gpus = answering(context)
    if isinstance(gpus, Finding):
        return gpus
    low = [gpu for gpu in gpus if gpu["power_limit_w"] and gpu["power_default_limit_w"] and gpu["power_limit_w"] < gpu["power_default_limit_w"] - 1]
    if low:
        return Finding(
            INFO, "Power is limited: " + ", ".join(f"GPU {g['index']} {g['power_limit_w']:.0f} of {g['power_default_limit_w']:.0f} W" for g in low) + "."
        )
    return Finding(OK, "power is not limited")


def in_use(context: Context) -> Finding:
    gpus = answering(context)
    if isinstance(gpus, Finding):
        return gpus
    used = [gpu for gpu in gpus if (gpu["memory_used_mib"] or 0) > USED_MIB]
    if not used:
        return Finding(OK, "the GPUs are free")
    if xinference_runs(context):
        return Finding(OK, f"Xinference is running, and GPU {those(used)} holds its models")
    parts = []
    for gpu in used:
        owners = [f"pid {app['pid']} ({app['name']})" for app in context.apps or [] if app["bus_id"] == gpu["bus_id"]]
        parts.append(f"GPU {gpu['index']}: {gpu['memory_used_mib']} MiB" + (f" by {', '.join(owners[:3])}" if owners else ""))
    return Finding(WARN, "In use by something that is not Xinference: " + "; ".join(parts) + ".")


def free_memory(context: Context) -> Finding:
    declared = [model.declared for model in context.options.models if model.declared]
    if not declared:
        return Finding(SKIP, "No model is declared.")
    gpus = answering(context)
    if isinstance(gpus, Finding):
        return gpus
    # What Xinference holds already is what these models need.
    found = [{**gpu, "memory_used_mib": 0} for gpu in gpus] if xinference_runs(context) else list(gpus)
    placed = _placement.place(declared, devices_of("", found))
    refused = [report for report in placed["placements"] if report["uid"] in placed["refused"]]
    if refused:
        return Finding(WARN, "; ".join(f"{report['uid']} {report['reason']}" for report in refused) + ".")
    return Finding(OK, f"there is room for the {len(declared)} declared models, as far as their size is known")


def compute_mode(context: Context) -> Finding:
    gpus = answering(context)
    if isinstance(gpus, Finding):
        return gpus
    closed = [gpu for gpu in gpus if gpu["compute_mode"] not in (None, "Default")]
    if closed:
        return Finding(WARN, ", ".join(f"GPU {gpu['index']} is in compute mode {gpu['compute_mode']}" for gpu in closed) + ": two models cannot share it.")
    return Finding(OK, "several processes may share a GPU")


def mig_mode(context: Context) -> Finding:
    gpus = answering(context)
    if isinstance(gpus, Finding):
        return gpus
    pending = [gpu for gpu in gpus if gpu["mig_mode_pending"] in ("Enabled", "Disabled") and gpu["mig_mode_pending"] != gpu["mig_mode"]]
    if pending:
        return Finding(WARN, f"A change of MIG mode is pending on GPU {those(pending)}.", "Reset the GPU, or reboot.")
    enabled = [gpu for gpu in gpus if gpu["mig_mode"] == "Enabled"]
    if not enabled:
        return Finding(OK, "MIG is not in use")
    counts = mig_instances(context)
    if counts is None:
        return Finding(UNKNOWN, "nvidia-smi -L gave no list of MIG instances.")
    empty = [gpu for gpu in enabled if not counts.get(gpu["index"])]
    if empty:
        return Finding(WARN, f"MIG is on without instances on GPU {those(empty)}: CUDA sees no device there.")
    return Finding(OK, f"MIG is on, with {sum(counts.values())} instances")


def mig_instances(context: Context) -> dict[int, int] | None:
    """MIG instances by GPU index; empty when no GPU has MIG on, ``None`` when nvidia-smi does not tell."""
    listing = mig_listing(context)
    return None if listing is None else _nvidia.count_mig_devices(listing)


def mig_listing(context: Context) -> str | None:
    """``nvidia-smi -L``, asked only where MIG is on; ``None`` when nvidia-smi does not tell."""
    if not any(gpu["mig_mode"] == "Enabled" for gpu in context.smi.gpus):
        return ""
    status, out = context.answer(context.options.nvidia_smi, "-L", timeout=_nvidia.SMI_TIMEOUT)
    return out if status == 0 else None


def display(context: Context) -> Finding:
    gpus = answering(context)
    if isinstance(gpus, Finding):
        return gpus
    shown = [gpu for gpu in gpus if gpu["display_active"] == "Enabled"]
    return Finding(INFO, f"A desktop is on GPU {those(shown)}.") if shown else Finding(OK, "no desktop on a GPU")


def vgpu_license(context: Context) -> Finding:
    gpus = answering(context)
    if isinstance(gpus, Finding):
        return gpus
    licence = (context.details.get("vgpu_licence") or "").strip()
    if licence.startswith("Unlicensed"):
        return Finding(WARN, f"The vGPU has no licence ({licence}).")
    return Finding(OK, licence or "no vGPU")


DETECT: t.Mapping[str, Detect] = {
    "E01": xid,
    "E02": ecc,
    "E03": remap,
    "E04": recovery_action,
    "E05": throttle,
    "E06": power_cap,
    "E07": in_use,
    "E08": free_memory,
    "E09": compute_mode,
    "E10": mig_mode,
    "E11": display,
    "E12": vgpu_license,
}

__all__ = ["DETECT", "mig_instances", "mig_listing"]
