# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""All checks, side by side, and the facts that their verdicts rest on."""

from __future__ import annotations

import concurrent.futures
import time
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _model_memory, _nvidia
from ansible_collections.llmops.dify_xinference.plugins.module_utils._command import Runner, run_command
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight import (
    disk,
    docker,
    driver,
    driver_install,
    hardware,
    health,
    host,
    network,
    nvswitch,
    toolkit,
)
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._context import Context, Model, Options
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._core import FAIL, Check, verdict
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight.catalog import CATALOG

SECTIONS = (host, disk, hardware, driver, driver_install, health, nvswitch, docker, toolkit, network)
DETECT = {name: detect for section in SECTIONS for name, detect in section.DETECT.items()}
CHECKS = tuple(Check(name, *entry, DETECT[name]) for name, entry in CATALOG.items())
IDS = tuple(CATALOG)
# Most of a check's time is waiting for a command or a server.
WORKERS = 24


def model_of(declared: t.Mapping[str, t.Any]) -> Model:
    """A declared model with what it takes on disk."""
    return Model(str(declared.get("uid") or declared.get("name") or "?"), _model_memory.disk_gib(declared) or 0.0, declared)


def reasons_of(ignore: t.Any) -> dict[str, str]:
    """Checks to ignore and why: a mapping of ids to reasons, or a list of ids and of mappings with ``id`` and ``reason``.

    Raises :class:`ValueError` with a sentence for what is neither, and for ids that no check has.
    """
    found: dict[str, str] = {}
    if isinstance(ignore, dict):
        found = {str(name): str(reason or "") for name, reason in ignore.items()}
    elif isinstance(ignore, (list, tuple)):
        for entry in ignore:
            if isinstance(entry, dict) and entry.get("id"):
                found[str(entry["id"])] = str(entry.get("reason") or "")
            elif isinstance(entry, str):
                found[entry] = ""
            else:
                raise ValueError(f"ignore has an entry that is neither an id nor a mapping with id and reason: {entry!r}.")
    elif ignore:
        raise ValueError(f"ignore has to be a mapping of ids to reasons, or a list, not {ignore!r}.")
    strangers = sorted(set(found) - set(IDS))
    if strangers:
        raise ValueError(f"ignore names checks that do not exist: {', '.join(strangers)}. The checks are {', '.join(IDS)}.")
    return found


def gpu_facts(context: Context) -> list[dict[str, t.Any]]:
    """What the driver says of the GPUs, with what only the bus and the MIG list know."""
    cards = {card["bus_id"]: card for card in context.pci_gpus or []}
    listing = health.mig_listing(context)
    memories = {gpu["bus_id"]: gpu["mig_memory_mib"] for gpu in context.details.get("gpus", [])}
    facts = []
    for gpu in context.smi.gpus:
        card = cards.get(gpu["bus_id"], {})
        facts.append(
            {
                **gpu,
                "arch": gpu["arch"] or card.get("arch"),
                "numa_node": card.get("numa_node"),
                "mig_devices": _nvidia.mig_devices(listing or "", gpu["index"], memories.get(gpu["bus_id"], [])),
                "mig_instances": None if listing is None else _nvidia.count_mig_devices(listing).get(gpu["index"], 0),
            }
        )
    return facts


def preflight(options: Options, ignored: t.Mapping[str, str] | None = None, run: Runner = run_command, host_root: str = "/") -> dict[str, t.Any]:
    """Every verdict, and the facts they rest on.

    ``ignored`` maps ids to the reasons why their findings do not count. Returns ``verdicts``, ``failures`` (ids),
    ``summary``, ``gpus``, ``pci_gpus``, ``driver``, ``cuda``, ``image``, ``host_cuda`` and ``seconds``.
    """
    started = time.monotonic()
    context = Context(options, run, host_root)
    with concurrent.futures.ThreadPoolExecutor(max_workers=WORKERS) as pool:
        verdicts = list(pool.map(lambda check: verdict(check, context, ignored or {}), CHECKS))
    summary: dict[str, int] = {}
    for entry in verdicts:
        summary[entry["status"]] = summary.get(entry["status"], 0) + 1
    needs = context.needs
    return {
        "verdicts": verdicts,
        "failures": [entry["id"] for entry in verdicts if entry["status"] == FAIL],
        "summary": summary,
        "gpus": gpu_facts(context),
        "pci_gpus": context.pci_gpus or [],
        "driver": context.driver,
        "cuda": context.driver["cuda"],
        "image": {
            "version": options.image_version,
            "cuda": needs.cuda if needs else None,
            "min_driver": needs.min_driver if needs else None,
            "min_compute_capability": needs.min_cc if needs else None,
        },
        "host_cuda": {
            "toolkit": [{"version": version, "where": where} for version, where in driver_install.cuda_toolkits(context)],
            "cudnn": [{"version": version, "where": where} for version, where in driver_install.cudnns(context)],
        },
        "seconds": round(time.monotonic() - started, 2),
    }


__all__ = ["CHECKS", "IDS", "Options", "model_of", "preflight", "reasons_of"]
