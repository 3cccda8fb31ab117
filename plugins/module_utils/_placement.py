# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Fit declared models on the GPUs that were found: pure, deterministic, and never more on a GPU than it holds.

Order: what runs keeps its place, then what the user pins, then LLMs from the widest and largest down, then everything
else in the order of the declaration. LLMs look for an empty GPU, the smallest that is enough; embedding and rerank models
gather on one GPU, beside an LLM only when no other is left. A model that fits nowhere is refused with what it needs, what
each GPU has, who has it, and what would fit.

vLLM and SGLang take a fraction of the whole GPU whatever they need. Alone on a GPU such a model keeps its engine's
default; beside others it gets an explicit share, at least what it needs and at most what is left.
"""

from __future__ import annotations

import math
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._model_memory import (
    SHARE_OPTION,
    Memory,
    engine_of,
    estimate,
    share_of,
)
from ansible_collections.llmops.dify_xinference.plugins.module_utils._placement_choice import (
    NOTHING,
    Wish,
    choose,
    count_of,
    counts_to_try,
    divides,
    least,
    refusal,
    seek,
)
from ansible_collections.llmops.dify_xinference.plugins.module_utils._placement_gpus import Device, Table, same_worker
from ansible_collections.llmops.dify_xinference.plugins.module_utils._placement_kept import as_launched, remembered_places, same_model, staying, taken

# Options of a declared model that are for placement only and unknown to the module that launches.
OWN_OPTIONS = ("memory_gib",)

PLACED, KEPT, PINNED, LEFT, CPU, REFUSED = "placed", "kept", "pinned", "left", "cpu", "refused"


def _report(uid: str, model: t.Mapping[str, t.Any], action: str, reason: str, devices: t.Sequence[Device] = (), gib: float | None = None) -> dict[str, t.Any]:
    return {
        "uid": uid,
        "type": model.get("type") or "LLM",
        "action": action,
        "gpus": [device.number for device in devices],
        "worker": devices[0].worker if devices else "",
        "memory_gib": None if gib is None else round(gib, 1),
        "share": None,
        "reason": reason,
    }


def _problem(model: t.Mapping[str, t.Any]) -> str:
    """What makes a declaration unreadable for placement; empty when nothing does."""
    try:
        given = model.get("memory_gib")
        if given is not None and not 0 <= float(given) < math.inf:
            raise ValueError
    except (TypeError, ValueError):
        return f"memory_gib is {model.get('memory_gib')!r}: the GiB of GPU memory that one replica takes"
    try:
        gpus = [int(index) for index in model.get("gpus") or []]
        replicas = 1 if model.get("replica") is None else int(model["replica"])
    except (TypeError, ValueError):
        return f"gpus is {model.get('gpus')!r} and replica is {model.get('replica')!r}: indexes of GPUs, and a number of copies"
    if replicas < 1 or (gpus and len(gpus) % replicas):
        return f"gpus has {len(gpus)} entries for {replicas} replicas: it must be a multiple"
    return ""


def _order(wish: Wish) -> tuple[t.Any, ...]:
    """Pinned models first, then LLMs by width and need, then the others; the declaration decides between equals."""
    if wish.model.get("gpus"):
        return (0, 0, 0.0, wish.position)
    if not wish.llm:
        return (2, 0, 0.0, wish.position)
    memory = estimate(wish.model, 1)
    return (1, -(count_of(wish.model) or 0), -(memory.needed if memory else 0.0), wish.position)


class Plan:
    """One run of placement. ``reports``, ``chosen``: by position in the declaration; ``automatic``: whose share is ours to set."""

    def __init__(self, devices: t.Sequence[Device]) -> None:
        self.table = Table(devices)
        self.reports: dict[int, dict[str, t.Any]] = {}
        self.chosen: dict[int, tuple[list[Device], float | None]] = {}
        self.automatic: dict[str, tuple[Wish, Memory, list[Device]]] = {}

    def keep(
        self,
        wishes: t.Sequence[Wish],
        running: t.Mapping[str, t.Mapping[str, t.Any]],
        remembered: t.Mapping[str, tuple[list[Device], Memory]],
    ) -> None:
        """What runs where it may stay, stays. What changed looks for its old place first, when all that did not is counted."""
        changed = []
        for wish in wishes:
            launch = running.get(wish.uid)
            if launch is None:
                continue
            if (
                not wish.model.get("gpus")
                and count_of(wish.model) in (None, launch.get("n_gpu"))
                and not launch.get("gpu_idx")
                and same_model(wish.model, launch)
            ):
                # Pinning it now would be a change, and launch it again; the same goes for one that was launched on the CPU.
                self.reports[wish.position] = _report(wish.uid, wish.model, LEFT, "stays where the server put it when it was launched")
            elif wish.uid in remembered:
                stay = staying(wish, remembered[wish.uid])
                if stay is None:
                    continue
                memory, share, need = stay
                devices, before = remembered[wish.uid]
                entry = (wish, devices, memory, share, need)
                if all(need[device] <= taken(before, device) + 0.01 for device in devices):
                    self.stay(*entry)
                else:
                    changed.append(entry)
        for wish, devices, memory, share, need in changed:
            if all(need[device] <= self.table.room(device) for device in devices):
                self.stay(wish, devices, memory, share, need)

    def stay(self, wish: Wish, devices: list[Device], memory: Memory, share: float | None, need: dict[Device, float]) -> None:
        for device in devices:
            self.table.take(wish.uid, [device], need[device], wish.llm)
        self.reports[wish.position] = _report(wish.uid, wish.model, KEPT, "keeps its place: " + memory.words, devices, max(need.values()))
        self.chosen[wish.position] = (devices, share)

    def place_one(self, wish: Wish) -> None:
        model, position = wish.model, wish.position
        most = max(sum(device.worker == worker for device in self.table.usable) for worker in {device.worker for device in self.table.usable})
        number = count_of(model) or 1
        uneven = divides(model, number)
        if uneven:
            self.reports[position] = _report(wish.uid, model, REFUSED, uneven)
            return
        pinned = [int(index) for index in model.get("gpus") or []]
        if pinned:
            self.place_pinned(wish, pinned)
            return
        if estimate(model, 1) is None:
            self.reports[position] = _report(wish.uid, model, LEFT, "left to the server: its memory is unknown (its option memory_gib says it)")
            return
        if not wish.llm and wish.replicas > most:
            self.reports[position] = _report(wish.uid, model, LEFT, f"left to the server: {wish.replicas} replicas share {most} GPUs")
            return
        if number * wish.replicas > most:
            total = f"{number * wish.replicas} GPUs" + (f" ({wish.replicas} replicas)" if wish.replicas > 1 else "")
            why = f"it needs {total} on one host, and there are {most}: lower n_gpu or replica, or use another host"
            self.reports[position] = _report(wish.uid, model, REFUSED, why)
            return
        for count in counts_to_try(model, most // wish.replicas):
            memory = estimate(model, count)
            devices = choose(self.table, wish, memory, count * wish.replicas) if memory else None
            if memory and devices:
                self.settle(wish, memory, devices, PLACED)
                return
        number = counts_to_try(model, most // wish.replicas)[-1]
        self.reports[position] = _report(wish.uid, model, REFUSED, refusal(self.table, wish, estimate(model, number) or NOTHING, number))

    def place_pinned(self, wish: Wish, pinned: list[int]) -> None:
        """Explicit GPUs win over every choice of ours; they do not make a GPU larger."""
        model, position = wish.model, wish.position
        workers = sorted({device.worker for device in self.table.devices})
        wanted = str(model.get("worker_ip") or "")
        matching = [worker for worker in workers if same_worker(worker, wanted)] or (workers if len(workers) == 1 else [])
        if not matching:
            self.reports[position] = _report(wish.uid, model, LEFT, "left to the server: gpus without worker_ip says nothing about the worker")
            return
        there = {device.number: device for device in self.table.devices if device.worker == matching[0]}
        missing = [index for index in pinned if index not in there]
        if missing:
            have = ", ".join(str(index) for index in sorted(there)) or "none"
            self.reports[position] = _report(wish.uid, model, REFUSED, f"gpus names GPU {missing[0]}, and the server sees {have}")
            return
        devices = [there[index] for index in pinned]
        memory = estimate(model, count_of(model) or 1)
        broken = [device for device in devices if device.problem]
        if memory is None or broken:
            why = broken[0].words + ": " + broken[0].problem if broken else "its memory is unknown"
            self.reports[position] = _report(wish.uid, model, PINNED, f"on the GPUs that gpus names, unchecked: {why}", devices)
            return
        if seek(self.table, wish, memory, count_of(model) or 1, devices) is None:
            self.reports[position] = _report(wish.uid, model, REFUSED, refusal(self.table, wish, memory, count_of(model) or 1, devices))
            return
        self.settle(wish, memory, devices, PINNED)

    def settle(self, wish: Wish, memory: Memory, devices: list[Device], action: str) -> None:
        for device in devices:
            self.table.take(wish.uid, [device], least(memory, device, devices), wish.llm)
        if memory.share is not None and not memory.declared_share:
            self.automatic[wish.uid] = (wish, memory, devices)
        how = "on the GPUs that gpus names" if action == PINNED else "on the GPU with the best fit" if len(devices) == 1 else f"over {len(devices)} GPUs"
        self.reports[wish.position] = _report(
            wish.uid, wish.model, action, f"{how}: {memory.words}", devices, max(least(memory, device, devices) for device in devices)
        )
        self.chosen[wish.position] = (devices, None)


def shares(table: Table, automatic: dict[str, tuple[Wish, Memory, list[Device]]]) -> dict[str, float]:
    """The share of each model whose share is ours to set, where it is not alone; the claims in the table follow."""
    result: dict[str, float] = {}
    pending = list(automatic)
    for uid, (wish, memory, devices) in automatic.items():
        default = memory.share or 0.9
        if all(table.alone(device, uid) and default * device.total <= table.room(device, uid) for device in devices):
            share = default
        else:
            parts = []
            for device in devices:
                mine = least(memory, device, devices)
                together = sum(least(automatic[other][1], device, automatic[other][2]) for other in pending if device in automatic[other][2])
                spare = max(table.room(device), 0.0)
                parts.append((mine + spare * mine / together) / device.total)
            share = min([math.floor(part * 100 + 1e-9) / 100 for part in parts] + [default])
            result[uid] = share
        # One after the other: the spare room that this one took is not given out again.
        pending.remove(uid)
        for device in devices:
            table.claims[device] = [claim._replace(gib=share * device.total) if claim.uid == uid else claim for claim in table.claims[device]]
    return result


def _filled(model: t.Mapping[str, t.Any], report: dict[str, t.Any], place: tuple[list[Device], float | None] | None, share: float | None) -> dict[str, t.Any]:
    """The declaration as the module shall get it."""
    result = {key: value for key, value in model.items() if key not in OWN_OPTIONS}
    if report["action"] == REFUSED:
        result["refused"] = report["reason"]
        return result
    if place is None:
        return result
    devices, kept = place
    share = kept if kept is not None else share
    result["gpus"] = [device.number for device in devices]
    if devices[0].worker and not model.get("worker_ip"):
        result["worker_ip"] = devices[0].worker
    if share is not None:
        result["options"] = {**(model.get("options") or {}), SHARE_OPTION[engine_of(model)]: share}
        report["share"] = share
    elif share_of(model)[1]:
        report["share"] = share_of(model)[0]
    return result


def place(
    models: t.Sequence[t.Mapping[str, t.Any]],
    devices: t.Sequence[Device],
    running: t.Mapping[str, t.Mapping[str, t.Any]] | None = None,
    leaving: bool = False,
    mode: str = "auto",
) -> dict[str, t.Any]:
    """Where each declared model goes.

    :param models: as ``xinference_models`` takes them, with ``memory_gib``.
    :param devices: see :func:`devices_of`; none means that nothing is known, and everything is left to the server.
    :param running: uid -> the launch request that is remembered on the host (``gpu_idx``, ``worker_ip``, shares).
    :param leaving: whether models that are remembered and not declared are about to be ended.
    :param mode: ``auto``, or ``none`` to leave everything to the server.
    :returns: ``models`` (the declaration with ``gpus``, ``worker_ip`` and shares filled in, and ``refused`` on what must not
        be launched), ``placements`` (one report per model), ``gpus`` (what each GPU has and who takes it) and ``refused`` (uids).
    """
    plan = Plan(devices)
    active = mode != "none" and bool(plan.table.usable)
    wishes = []
    for position, model in enumerate(models):
        uid = str(model.get("uid"))
        problem = _problem(model)
        if model.get("state") == "absent":
            plan.reports[position] = _report(uid, model, LEFT, "is not to run")
        elif str(model.get("n_gpu")).lower() == "cpu":
            plan.reports[position] = _report(uid, model, CPU, "runs on the CPU, as declared")
        elif problem:
            plan.reports[position] = _report(uid, model, REFUSED, problem)
        elif mode != "none" and not devices and as_launched(model, (running or {}).get(uid)):
            plan.chosen[position] = as_launched(model, (running or {}).get(uid)) or ([], None)
            plan.reports[position] = _report(uid, model, KEPT, "keeps its place; no GPU is known now", plan.chosen[position][0])
        elif not active:
            why = (
                "placement is off" if mode == "none" else "; ".join(f"{device.words}: {device.problem}" for device in devices) or "no GPU is known on this host"
            )
            plan.reports[position] = _report(uid, model, LEFT, f"left to the server: {why}")
        else:
            wishes.append(Wish(dict(model), position))
    if wishes:
        remembered = remembered_places(plan.table, models, running or {}, leaving)
        plan.keep(wishes, running or {}, remembered)
        for wish in sorted((wish for wish in wishes if wish.position not in plan.reports), key=_order):
            plan.place_one(wish)
    given = shares(plan.table, plan.automatic)
    result = []
    for position, model in enumerate(models):
        result.append(_filled(model, plan.reports[position], plan.chosen.get(position), given.get(str(model.get("uid")))))
    placements = [plan.reports[position] for position in range(len(models))]
    return {
        "models": result,
        "placements": placements,
        "gpus": [
            {
                "worker": device.worker,
                "index": device.number,
                "name": device.name,
                "total_gib": round(device.total, 1),
                "others_gib": round(plan.table.foreign[device], 1),
                "free_gib": round(max(plan.table.room(device), 0.0), 1),
                "models": {claim.uid: round(claim.gib, 2) for claim in plan.table.claims[device]},
                "problem": device.problem,
            }
            for device in plan.table.devices
        ],
        "refused": [report["uid"] for report in placements if report["action"] == REFUSED],
    }


__all__ = ["place"]
