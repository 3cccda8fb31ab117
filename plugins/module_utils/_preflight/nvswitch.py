# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Section F: NVSwitch machines, where nvidia-smi looks fine and CUDA fails with 802."""

from __future__ import annotations

import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _nvidia, _nvidia_text
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._context import Context
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._core import FAIL, OK, SKIP, UNKNOWN, WARN, Detect, Finding

NO_NVSWITCH = Finding(SKIP, "There is no NVSwitch.")


def manager_package(context: Context) -> tuple[str, str] | None:
    """The fabric manager's package and its upstream version."""
    for name, (version, dummy) in (context.packages or {}).items():
        if name.startswith("nvidia-fabricmanager") and "-dev" not in name:
            return name, version.split(":", 1)[-1].split("-", 1)[0]
    return None


def fm_version(context: Context) -> Finding:
    if not context.has_nvswitch:
        return NO_NVSWITCH
    if context.packages is None:
        return Finding(UNKNOWN, "There is no dpkg to ask for the fabric manager's version.")
    found, driver = manager_package(context), context.driver["version"]
    if found is None:
        # Installed from an archive: whether it runs is F02's question.
        if context.active("nvidia-fabricmanager"):
            return Finding(UNKNOWN, "The fabric manager is no package, so its version is not known.")
        return Finding(
            FAIL, "The fabric manager is not installed.", f"apt-get install nvidia-fabricmanager {driver or 'at the version of the driver'}, and hold it."
        )
    if driver and found[1] != driver:
        return Finding(FAIL, f"The fabric manager is {found[1]}, the driver {driver}: it refuses to start.")
    return Finding(OK, f"{found[0]} {found[1]}")


def fm_running(context: Context) -> Finding:
    if not context.has_nvswitch:
        return NO_NVSWITCH
    state = context.active("nvidia-fabricmanager")
    if state is None:
        return Finding(UNKNOWN, "systemd cannot be asked.")
    if context.units["nvidia-fabricmanager"].get("LoadState") != "loaded":
        return Finding(SKIP, "The fabric manager is not installed (see F01).")
    return Finding(OK, "the fabric manager runs") if state else Finding(FAIL, "The fabric manager does not run.")


def fabric_state(context: Context) -> Finding:
    if not context.has_nvswitch:
        return NO_NVSWITCH
    told = [gpu for gpu in context.smi.gpus if gpu["fabric_state"]]
    if not told:
        return Finding(UNKNOWN, "The GPUs do not tell of the fabric: the driver is older than 525, or does not answer.")
    # Driver 550 prints "state  Completed".
    bad = [gpu for gpu in told if not gpu["fabric_state"].endswith("Completed") or not (gpu["fabric_status"] or "Success").endswith("Success")]
    if bad:
        return Finding(FAIL, "Not in the fabric: " + ", ".join(f"GPU {g['index']} ({g['fabric_state']}, {g['fabric_status']})" for g in bad) + ".")
    return Finding(OK, "all GPUs have joined the fabric")


def nvlsm(context: Context) -> Finding:
    if not context.has_nvswitch or not any("B200" in (gpu["name"] or "") or "B300" in (gpu["name"] or "") for gpu in context.pci_gpus or []):
        return Finding(SKIP, "No board with NVLink 5.")
    if context.packages is None:
        return Finding(UNKNOWN, "There is no dpkg to ask for nvlsm.")
    return Finding(OK, "nvlsm is installed") if "nvlsm" in context.packages else Finding(FAIL, "nvlsm is not installed, which these boards need.")


def nvlink(context: Context) -> Finding:
    if not context.has_nvswitch:
        return NO_NVSWITCH
    if context.smi_failed:
        return Finding(SKIP, "nvidia-smi fails as a whole (see D07).")
    status, out = context.answer(context.options.nvidia_smi, "nvlink", "-s", timeout=_nvidia.SMI_TIMEOUT)
    if status != 0:
        return Finding(UNKNOWN, "nvidia-smi nvlink -s gave no answer.")
    down = _nvidia_text.inactive_links(out)
    if down:
        return Finding(WARN, "NVLinks are down: " + ", ".join(f"{count} of GPU {index}" for index, count in down.items()) + ".")
    return Finding(OK, "no NVLink is down")


def fm_useless(context: Context) -> Finding:
    if context.has_nvswitch or context.cards is None:
        return Finding(SKIP, "There is an NVSwitch." if context.has_nvswitch else "The PCI bus cannot be seen.")
    if context.units.get("nvidia-fabricmanager", {}).get("UnitFileState") == "enabled":
        return Finding(WARN, "The fabric manager is enabled, and there is no NVSwitch: it fails with NV_WARN_NOTHING_TO_DO.")
    return Finding(OK, "no fabric manager, and no NVSwitch") if context.units else Finding(UNKNOWN, "systemd cannot be asked.")


DETECT: t.Mapping[str, Detect] = {"F01": fm_version, "F02": fm_running, "F03": fabric_state, "F04": nvlsm, "F05": nvlink, "F06": fm_useless}

__all__ = ["DETECT"]
