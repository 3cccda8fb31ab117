# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""What an Xid in the kernel log asks for. Source: NVIDIA's Xid catalog (docs.nvidia.com/deploy/xid-errors), as of 2025-10."""

from __future__ import annotations

from ansible_collections.llmops.dify_xinference.plugins.module_utils._gpu_watchdog import HARDWARE, IGNORED

# Those two are the watchdog's, which carries them to the host with it. HARDWARE: the GPU, its links or the machine have to be reset, or
# looked at; nothing new should start there. IGNORED: for the record. All others: the program that met them has to be started
# again, which has happened by now.

MEANINGS: dict[int, str] = {
    13: "a program's graphics engine exception",
    31: "a program's memory page fault",
    48: "a double-bit memory error",
    62: "the micro-controller stopped",
    64: "a row could not be remapped",
    74: "an NVLink error",
    79: "the GPU has fallen off the bus",
    94: "a contained memory error",
    95: "an uncontained memory error",
    119: "the GPU's system processor does not answer",
    120: "an error of the GPU's system processor",
    140: "an unrecovered memory error",
}

__all__ = ["HARDWARE", "IGNORED", "MEANINGS"]
