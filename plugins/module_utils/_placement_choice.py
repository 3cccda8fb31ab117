# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Which GPUs one model could have, and what to say when there are none. Pure."""

from __future__ import annotations

import math
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._model_memory import (
    SHARE_OPTION,
    Memory,
    engine_of,
    estimate,
    kind_of,
    shape_of,
    tokens_of,
)
from ansible_collections.llmops.dify_xinference.plugins.module_utils._placement_gpus import Device, Table, same_worker


def count_of(model: t.Mapping[str, t.Any]) -> int | None:
    """GPUs of one replica as declared; ``None`` when it is for us to say."""
    gpus = model.get("gpus") or []
    if gpus:
        return max(len(gpus) // int(model.get("replica") or 1), 1)
    text = str(model.get("n_gpu") or "auto").lower()
    return (int(text) or None) if text.isdigit() else None


def divides(model: t.Mapping[str, t.Any], count: int) -> str:
    """Why an LLM cannot be split over ``count`` GPUs; empty when it can, or when nobody knows."""
    if count == 1 or kind_of(model) != "llm" or engine_of(model) not in SHARE_OPTION:
        return ""
    shape = shape_of(model)[0]
    if shape is None or shape.heads % count == 0:
        return ""
    good = [str(number) for number in range(1, 17) if shape.heads % number == 0]
    return f"{count} GPUs cannot share its {shape.heads} attention heads evenly, as tensor parallelism needs: n_gpu has to be one of {', '.join(good)}"


def counts_to_try(model: t.Mapping[str, t.Any], most: int) -> list[int]:
    """How many GPUs each replica may get, fewest first. Only LLMs are spread without being told."""
    count = count_of(model)
    if count is not None:
        return [count]
    if kind_of(model) != "llm":
        return [1]
    return [number for number in (1, 2, 4, 8, 16) if number <= max(most, 1) and not divides(model, number)]


class Wish(t.NamedTuple):
    """A model that needs a place: its estimate for a number of GPUs, and its position in the declaration."""

    model: t.Dict[str, t.Any]
    position: int

    @property
    def uid(self) -> str:
        return str(self.model.get("uid"))

    @property
    def llm(self) -> bool:
        return kind_of(self.model) == "llm"

    @property
    def replicas(self) -> int:
        return max(int(self.model.get("replica") or 1), 1)


def least(memory: Memory, device: Device, devices: t.Sequence[Device] = ()) -> float:
    """What has to be free on a device: the need, or a share of the whole GPU, which has two decimals.

    The share is one number for all of ``devices``: what the smallest of them needs is taken on the larger ones as well.
    """
    if memory.share is None:
        return memory.needed
    if memory.declared_share:
        return memory.share * device.total
    smallest = min([entry.total for entry in devices] or [device.total])
    return math.ceil(memory.needed / smallest * 100 - 1e-9) / 100 * device.total


def fits(table: Table, memory: Memory, device: Device, devices: t.Sequence[Device] = ()) -> bool:
    if memory.share is not None and memory.needed > memory.share * device.total:
        return False  # the engine would not start with its own share
    # A GPU that is named twice serves two replicas.
    times = max(sum(other == device for other in devices), 1)
    return least(memory, device, devices) * times <= table.room(device) + 1e-9


def choose(table: Table, wish: Wish, memory: Memory, number: int) -> list[Device] | None:
    """``number`` devices of one worker for a model, or ``None``. LLMs: empty ones first, smallest first, all alike if possible."""

    def rank(device: Device) -> tuple[t.Any, ...]:
        claims = table.claims[device]
        if wish.llm:
            return (bool(claims), device.total if not claims else -table.room(device))
        beside_llm = any(claim.llm for claim in claims)
        return (beside_llm, not claims, -table.room(device) if beside_llm else 0)

    order = {device: place for place, device in enumerate(table.devices)}
    workers = list(dict.fromkeys(device.worker for device in table.usable))
    if wish.model.get("worker_ip"):
        wanted = str(wish.model["worker_ip"])
        workers = [worker for worker in workers if not worker or same_worker(worker, wanted)]
    best: tuple[t.Any, list[Device]] | None = None
    for worker in workers:
        good = [device for device in table.usable if device.worker == worker and fits(table, memory, device)]
        good.sort(key=lambda device: (*rank(device), order[device]))
        alike: dict[tuple[str, float], list[Device]] = {}
        for device in good:
            alike.setdefault((device.name, device.total), []).append(device)
        groups = [group for group in alike.values() if len(group) >= number]
        if not groups and memory.share is None:
            groups = [good]  # an engine that takes a share wants GPUs of one size
        for group in groups:
            if len(group) >= number:
                chosen = group[:number]
                key = ([rank(device) for device in chosen], min(order[device] for device in chosen))
                if best is None or key < best[0]:
                    best = (key, sorted(chosen, key=order.__getitem__))
    return best[1] if best else None


def seek(table: Table, wish: Wish, memory: Memory, count: int, pinned: t.Sequence[Device] = ()) -> list[Device] | None:
    """A place with ``count`` GPUs for each replica: the pinned one if it has room, or the best one."""
    if not pinned:
        return choose(table, wish, memory, count * wish.replicas)
    return list(pinned) if all(fits(table, memory, device, pinned) for device in pinned) else None


def advice(table: Table, wish: Wish, number: int, pinned: t.Sequence[Device]) -> list[str]:
    """What would fit instead, most useful first."""
    model = wish.model
    result = []

    def possible(changes: dict[str, t.Any], count: int = number) -> Memory | None:
        trial = Wish({**model, **changes}, wish.position)
        memory = estimate(trial.model, count)
        return memory if memory is not None and seek(table, trial, memory, count, pinned) else None

    if wish.llm and model.get("memory_gib") is None:
        options = dict(model.get("options") or {})
        key = {"sglang": "context_length", "llama.cpp": "n_ctx"}.get(engine_of(model), "max_model_len")
        if engine_of(model) in (*SHARE_OPTION, "llama.cpp"):
            for tokens in (65536, 32768, 16384, 8192, 4096, 2048):
                if tokens < tokens_of(model)[0] and possible({"options": {**options, key: tokens}}):
                    result.append(f"a shorter context (options.{key}: {tokens})")
                    break
        if str(model.get("format") or "pytorch").lower() == "pytorch":
            for words, changes in _SMALLER:
                memory = possible(changes)
                if memory:
                    result.append(f"{words}, about {memory.needed:.1f} GiB")
                    break
    if pinned:
        memory = estimate(model, number)
        free = choose(table, wish, memory, number * wish.replicas) if memory else None
        if free:
            result.append(f"other GPUs (gpus: [{', '.join(str(device.number) for device in free)}]), or no gpus, to have them chosen")
    elif wish.llm and count_of(model) is not None:
        for count in (2, 4, 8):
            if count > number and not divides(model, count) and possible({}, count):
                result.append(f"n_gpu: {count}")
                break
    return result


_SMALLER = (
    ("8-bit weights (format: fp8)", {"format": "fp8", "quantization": "fp8"}),
    ("4-bit weights (format: awq or gptq, quantization: Int4)", {"format": "awq", "quantization": "Int4"}),
)
# No memory at all: what is assumed of a remembered launch of unknown size.
NOTHING = Memory(0.0, 0.0, 0.0, None, False, False, "")


def refusal(table: Table, wish: Wish, memory: Memory, number: int, pinned: t.Sequence[Device] = ()) -> str:
    where = "does not fit on the GPUs that gpus names" if pinned else "fits on no GPU"
    count = f"{number} GPUs" if number > 1 else "a GPU"
    need = f"needs {memory.needed:.1f} GiB on " + ("each of " if number > 1 else "") + count + f" ({memory.words})"
    if wish.replicas > 1:
        need += f", for {wish.replicas} replicas"
    if memory.share is not None:
        engine = SHARE_OPTION[engine_of(wish.model)]
        need += f"; its engine may use {memory.share:.2f} of a GPU ({engine})"
    if not memory.certain:
        need += "; this is an estimate by rule, because its exact shape is not known"
    better = advice(table, wish, number, pinned)
    fit = "What would fit: " + "; ".join(better) if better else "Nothing smaller of it fits here: use another host, or remove one of the others"
    return (
        f"it {where}: it {need}. {'. '.join(table.words(device) for device in table.devices)}. {fit}. "
        "Its option memory_gib overrides the estimate, and xinference_placement: none leaves everything to the server."
    )


__all__ = ["NOTHING", "Wish", "choose", "count_of", "counts_to_try", "divides", "fits", "least", "refusal", "seek"]
