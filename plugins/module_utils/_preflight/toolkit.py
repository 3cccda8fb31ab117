# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Section G, the container toolkit: how GPUs come into containers, and what takes them out again."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _docker_plan, _nvidia_toolkit
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._context import Context
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._core import FAIL, INFO, OK, SKIP, UNKNOWN, WARN, Detect, Finding
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight.docker import document_of, gpu_containers, not_asked, unit_of

PACKAGES = ("nvidia-container-toolkit", "nvidia-container-toolkit-base", "libnvidia-container-tools", "libnvidia-container1")
LEGACY = ("nvidia-docker2", "nvidia-container-runtime", "nvidia-docker")
# dockerd looks for these on its PATH at its start, and at no other time.
HOOKS = ("usr/bin/nvidia-cdi-hook", "usr/bin/nvidia-container-runtime-hook")
CDI_FOLDERS = ("etc/cdi", "var/run/cdi")


def toolkit_version(context: Context) -> str:
    """Upstream version of the toolkit's package, empty when it is not installed."""
    return (context.packages or {}).get(PACKAGES[0], ("", False))[0].split("-", 1)[0]


def absent(context: Context) -> Finding | None:
    """Why the toolkit need not be there."""
    if context.cpu_only or context.pci_gpus == []:
        return Finding(SKIP, "No GPU is going to be used.")
    if context.packages is None:
        return Finding(UNKNOWN, "There is no dpkg to ask for the toolkit.")
    if not toolkit_version(context) and not context.options.expect_installed:
        return Finding(SKIP, "The container toolkit is not installed yet.")
    return None


def unusable(context: Context) -> Finding | None:
    """Why a question to Docker about the toolkit has no answer of its own."""
    nothing = absent(context)
    if nothing:
        return nothing
    if not toolkit_version(context):
        return Finding(SKIP, "The container toolkit is not installed (see G08).")
    return not_asked(context)


def wrong(context: Context, message: str) -> Finding:
    """What the role nvidia_container_toolkit puts right by itself stops nobody who is about to run it."""
    return Finding(FAIL if context.options.expect_installed else WARN, message)


def toolkit(context: Context) -> Finding:
    nothing = absent(context)
    if nothing:
        return nothing
    found = {name: context.packages[name][0] for name in PACKAGES if name in (context.packages or {})} if context.packages else {}
    if PACKAGES[0] not in found:
        return Finding(FAIL, "The NVIDIA container toolkit is not installed: no container gets a GPU.")
    missing = [name for name in PACKAGES if name not in found]
    if missing or len(set(found.values())) > 1:
        listed = ", ".join(f"{name} {found.get(name, 'is missing')}" for name in PACKAGES)
        return wrong(context, f"The toolkit's packages do not belong together: {listed}.")
    return Finding(OK, f"toolkit {found[PACKAGES[0]]}")


def pending_restart(context: Context) -> Finding:
    unit, document = unit_of(context), document_of(context)
    if not unit.active:
        return Finding(SKIP, "Docker does not run.")
    changed = {}
    for hook in HOOKS:
        try:
            changed["/" + hook] = os.stat(context.path(hook)).st_ctime
        except OSError:
            pass
    late = _docker_plan.late_files(unit.started, changed, {})
    # An upgrade gives the file a new time as well; a Docker that knows the runtime found the toolkit at its start or after.
    restarted_since = "nvidia" in (context.docker.info.get("Runtimes") or {}) and bool(gpu_containers(context))
    if late and not restarted_since:
        return Finding(WARN, f"{late[0]} was installed after dockerd started: --gpus fails until Docker is restarted.")
    if context.docker.state == "ok" and not isinstance(document, Finding):
        keys = [key for key in _docker_plan.needs_restart_by_info(document, context.docker.info) if key != "data-root"]
        if keys:
            return Finding(WARN, f"daemon.json was changed, and only a restart applies {', '.join(keys)}.")
    return Finding(OK, "nothing waits for a restart of Docker")


def legacy(context: Context) -> Finding:
    if context.packages is None:
        return Finding(UNKNOWN, "There is no dpkg to ask.")
    found = [name for name in LEGACY if name in context.packages]
    return Finding(WARN, f"Installed, and obsolete: {', '.join(found)}.") if found else Finding(OK, "no nvidia-docker2")


def runtime_registered(context: Context) -> Finding:
    nothing = unusable(context)
    if nothing:
        return nothing
    if "nvidia" in (context.docker.info.get("Runtimes") or {}):
        return Finding(OK, "Docker knows the runtime nvidia")
    return Finding(WARN, "The toolkit is installed, and Docker does not know the runtime nvidia.")


def cdi_specs(context: Context) -> dict[str, str]:
    """CDI specifications of NVIDIA's: path to text."""
    found = {}
    for folder in CDI_FOLDERS:
        for name in context.listing(folder):
            text = context.text(f"{folder}/{name}") if name.endswith((".yaml", ".json", ".yml")) else None
            if text and "nvidia.com/gpu" in text:
                found[f"/{folder}/{name}"] = text
    return found


def cdi_devices(context: Context) -> Finding:
    nothing = unusable(context)
    if nothing:
        return nothing
    devices = [str(device.get("ID", "")) for device in context.docker.info.get("DiscoveredDevices") or [] if isinstance(device, dict)]
    if "nvidia.com/gpu=all" in devices or cdi_specs(context):
        return Finding(OK, f"{len(devices)} CDI devices")
    return Finding(INFO, "There is no CDI specification; Docker uses the toolkit's hook.")


def cdi_stale(context: Context) -> Finding:
    specs = cdi_specs(context)
    if not specs:
        return Finding(SKIP, "There is no CDI specification.")
    loaded = context.loaded_version
    for path, text in specs.items():
        named = sorted(set(re.findall(r"lib(?:cuda|nvidia-ml)\.so\.(\d{3}(?:\.\d+)+)", text)))
        if loaded and named and loaded not in named:
            return wrong(context, f"{path} is for driver {', '.join(named)}, and {loaded} is loaded: containers do not start.")
    if len(specs) > 1:
        return Finding(WARN, f"Several CDI specifications define the same devices: {', '.join(sorted(specs))}.")
    return Finding(OK, ", ".join(specs))


def nvml_bug_exposed(context: Context) -> Finding:
    nothing = unusable(context)
    if nothing:
        return nothing
    exposure = _nvidia_toolkit.exposure(context.docker.version, str(context.docker.info.get("CgroupDriver") or ""), bool(cdi_specs(context)), 0, False)
    running = gpu_containers(context)
    if exposure.exposed and running:
        return Finding(WARN, f"{exposure.reason} Here that is {', '.join(running)}.")
    # With nothing running the role sets cgroupfs, and nobody notices.
    return Finding(OK, "no container with GPUs runs yet" if exposure.exposed else exposure.reason)


DETECT: t.Mapping[str, Detect] = {
    "G07": pending_restart,
    "G08": toolkit,
    "G09": legacy,
    "G10": runtime_registered,
    "G11": cdi_devices,
    "G12": cdi_stale,
    "G13": nvml_bug_exposed,
}

__all__ = ["DETECT"]
