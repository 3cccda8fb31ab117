# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Which models run already, where, and whether they may stay: a model is not launched again for a place that is only better.

Pure. What runs is known by the launch requests that are remembered on the host (``gpu_idx``, ``worker_ip``, shares).
"""

from __future__ import annotations

import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._model_memory import SHARE_OPTION, Memory, engine_of, estimate
from ansible_collections.llmops.dify_xinference.plugins.module_utils._placement_choice import NOTHING, Wish, count_of
from ansible_collections.llmops.dify_xinference.plugins.module_utils._placement_gpus import RESERVE_GIB, Device, Table, same_worker


def same_model(declared: t.Mapping[str, t.Any], remembered: t.Mapping[str, t.Any]) -> bool:
    """Whether a remembered launch is of the declared model, placement aside."""
    pairs = (("name", "model_name"), ("engine", "model_engine"), ("size", "model_size_in_billions"), ("format", "model_format"))
    for option, key in (*pairs, ("quantization", "quantization")):
        wanted, found = declared.get(option), remembered.get(key)
        if option == "name" and not wanted:
            wanted = (declared.get("register") or {}).get("model_name")
        if wanted is not None and found is not None and str(wanted).lower().replace(".", "_") != str(found).lower().replace(".", "_"):
            return False
    return True


def remembered_places(
    table: Table,
    models: t.Sequence[t.Mapping[str, t.Any]],
    running: t.Mapping[str, t.Mapping[str, t.Any]],
    leaving: bool,
) -> dict[str, tuple[list[Device], Memory]]:
    """Remembered places, and with them the memory of strangers: what is in use and not ours.

    A launch without GPUs in it is ours too, but nobody knows where it is: it counts among the strangers.
    """

    def at(worker: str, number: int) -> Device | None:
        there = [device for device in table.usable if device.number == number and (not device.worker or same_worker(device.worker, worker))]
        return there[0] if len(there) == 1 else None

    declared = {str(model.get("uid")): model for model in models if model.get("state") != "absent"}
    places: dict[str, tuple[list[Device], Memory]] = {}
    ours: dict[Device, float] = {device: 0.0 for device in table.devices}
    for uid, launch in running.items():
        indexes = launch.get("gpu_idx")
        indexes = [indexes] if isinstance(indexes, int) else list(indexes or [])
        found = [at(str(launch.get("worker_ip") or ""), int(index)) for index in indexes]
        if not found or any(device is None for device in found):
            continue
        there = [device for device in found if device is not None]
        model = _model_of(launch)
        if uid in declared:
            model["memory_gib"] = declared[uid].get("memory_gib")
        memory = estimate(model, max(len(there) // int(launch.get("replica") or 1), 1)) or NOTHING
        places[uid] = (there, memory)
        for device in there:
            if uid in declared or leaving:
                ours[device] += taken(memory, device)
    for device in table.devices:
        strangers = device.used - ours[device]
        table.foreign[device] = strangers if strangers > RESERVE_GIB else 0.0
    return places


def _model_of(launch: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """A remembered launch request as a declaration, as far as memory is concerned."""
    return {
        "type": launch.get("model_type"),
        "name": launch.get("model_name"),
        "engine": launch.get("model_engine"),
        "size": launch.get("model_size_in_billions"),
        "format": launch.get("model_format"),
        "quantization": launch.get("quantization"),
        "options": dict(launch),
    }


def as_launched(model: t.Mapping[str, t.Any], launch: t.Mapping[str, t.Any] | None) -> tuple[list[Device], float | None] | None:
    """The remembered place and share of a model, for a run that cannot look at the GPUs; ``None`` when the declaration wants another."""
    indexes = (launch or {}).get("gpu_idx")
    indexes = [indexes] if isinstance(indexes, int) else list(indexes or [])
    wanted = [int(index) for index in model.get("gpus") or []]
    count = count_of(model)
    if launch is None or not indexes or (wanted and wanted != indexes) or (count is not None and count * int(model.get("replica") or 1) != len(indexes)):
        return None
    option = SHARE_OPTION.get(engine_of(model), "")
    share = launch.get(option) if option not in (model.get("options") or {}) else None
    return [Device(str(launch.get("worker_ip") or ""), int(index), "", 0.0, 0.0) for index in indexes], share


def taken(memory: Memory, device: Device) -> float:
    return max(memory.needed, (memory.share or 0.0) * device.total)


def staying(wish: Wish, place: tuple[list[Device], Memory]) -> tuple[Memory, float | None, dict[Device, float]] | None:
    """What a model takes at its old place: (estimate, share that is ours, GiB by device); ``None`` when it has to move."""
    devices, before = place
    pinned = [int(index) for index in wish.model.get("gpus") or []]
    count = count_of(wish.model)
    if pinned and pinned != [device.number for device in devices]:
        return None
    if len(devices) % wish.replicas or (count is not None and count * wish.replicas != len(devices)):
        return None
    memory = estimate(wish.model, len(devices) // wish.replicas)
    if memory is None:
        return None
    ours = None
    if memory.share is not None and not memory.declared_share and before.declared_share:
        ours = before.share  # of an earlier run: it stays, or the model would be launched again for nothing
        memory = memory._replace(share=ours)
    if memory.share is not None and any(memory.needed > memory.share * device.total + 0.01 for device in devices):
        return None
    return memory, ours, {device: taken(memory, device) for device in devices}


__all__ = ["as_launched", "remembered_places", "same_model", "staying", "taken"]
