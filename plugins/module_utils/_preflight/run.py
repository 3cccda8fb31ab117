# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""All checks in the order of the deployment: nothing later can be judged better by running earlier."""

from __future__ import annotations

import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._command import Runner, run_command
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight import disk, docker, driver, hardware, health, host, network
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._core import FAIL, Context, Options, verdict

SECTIONS = (host, hardware, disk, driver, health, docker, network)
CHECKS = tuple(check for section in SECTIONS for check in section.CHECKS)
IDS = tuple(check.id for check in CHECKS)


def preflight(options: Options, ignored: t.Collection[str] = (), run: Runner = run_command, host_root: str = "/") -> dict[str, t.Any]:
    """Every verdict, and the facts they rest on: ``verdicts``, ``failures`` (ids), ``summary``, ``gpus``, ``driver``, ``image``."""
    context = Context(options, run, host_root)
    verdicts = [verdict(check, context, ignored) for check in CHECKS]
    summary: dict[str, int] = {}
    for entry in verdicts:
        summary[entry["status"]] = summary.get(entry["status"], 0) + 1
    needs = context.needs
    return {
        "verdicts": verdicts,
        "failures": [entry["id"] for entry in verdicts if entry["status"] == FAIL],
        "summary": summary,
        "gpus": context.smi.gpus,
        "pci_gpus": context.pci_gpus or [],
        "driver": context.driver,
        "cuda": context.driver["cuda"],
        "image": {"version": options.image_version, "cuda": needs.cuda, "min_driver": needs.min_driver, "min_compute_capability": needs.min_cc}
        if needs
        else {"version": options.image_version, "cuda": None, "min_driver": None, "min_compute_capability": None},
    }


__all__ = ["CHECKS", "IDS", "preflight"]
