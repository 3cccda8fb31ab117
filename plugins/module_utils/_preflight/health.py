# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Section E: the health of the GPUs."""

from __future__ import annotations

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _nvidia
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._core import OK, SKIP, UNKNOWN, WARN, Check, Context, Finding


def mig_mode(context: Context) -> Finding:
    gpus = context.smi.gpus
    if not gpus:
        return Finding(SKIP, "No GPU answers.")
    pending = [str(gpu["index"]) for gpu in gpus if gpu["mig_mode_pending"] in ("Enabled", "Disabled") and gpu["mig_mode_pending"] != gpu["mig_mode"]]
    if pending:
        return Finding(WARN, f"A change of MIG mode is pending on GPU {', '.join(pending)}.", "Reset the GPU, or reboot.")
    enabled = [gpu["index"] for gpu in gpus if gpu["mig_mode"] == "Enabled"]
    if not enabled:
        return Finding(OK, "MIG is not in use")
    status, out, dummy = context.run([context.options.nvidia_smi, "-L"], _nvidia.SMI_TIMEOUT)
    if status != 0:
        return Finding(UNKNOWN, "nvidia-smi -L gave no list of MIG instances.")
    counts = _nvidia.count_mig_devices(out)
    empty = [str(index) for index in enabled if not counts.get(index)]
    if empty:
        return Finding(WARN, f"MIG is on without instances on GPU {', '.join(empty)}: CUDA sees no device there.")
    return Finding(OK, f"MIG is on, with {sum(counts.values())} instances")


CHECKS = (Check("E10", "mig_mode", "warn", "Create MIG instances or switch MIG off, then restart nvidia-cdi-refresh.", mig_mode),)
