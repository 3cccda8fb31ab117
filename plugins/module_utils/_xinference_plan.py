# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Decide what a declared set of models needs, and why: (wanted, found, remembered) -> one action per model.

Nothing here speaks to a server or to Ansible. Check mode is this plan without the doing.
"""

from __future__ import annotations

import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference import ABSENT, FAILED, LOADING, READY
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_drift import contains, hidden_drift, same_launch, visible_drift
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_model import (
    is_secret,
    launch_body,
    name_of,
    option_warnings,
    priority_of,
    problem_with,
    type_of,
)

# What happens to one uid.
KEEP = "keep"  # runs as declared
LAUNCH = "launch"
REPLACE = "replace"  # end it, launch it as declared
SCALE = "scale"  # only the number of replicas differs, and the server changes that in place
WAIT = "wait"  # somebody's launch of it is under way
REMOVE = "remove"
REFUSE = "refuse"  # the declaration is wrong; nothing is sent to the server
LEAVE = "leave"  # differs, but replace=never


class Step(t.NamedTuple):
    """What one model needs.

    ``drift``: (field, wanted, found) of what differs. ``body``: the launch request. ``registration``: ``None``,
    ``create`` or ``replace``. ``autostart``: ``None``, ``set`` or ``unset``.
    """

    uid: str
    action: str
    reason: str
    state: str
    body: t.Dict[str, t.Any]
    drift: t.List[t.Tuple[str, t.Any, t.Any]]
    registration: t.Optional[str]
    autostart: t.Optional[str]
    spec: t.Optional[t.Dict[str, t.Any]]
    warnings: t.List[str]

    @property
    def changed(self) -> bool:
        return self.action in (LAUNCH, REPLACE, SCALE, REMOVE) or bool(self.registration or self.autostart)


class Found(t.NamedTuple):
    """What is on the server. ``autostart`` is ``None`` where it has no such thing (before 2.12).

    ``states``: uid -> state, for every uid that is running or was asked about. ``registrations``: (type, name) ->
    specification or ``None``, for the models that declare one. ``kept``: the uids of the state file -> whether the keeper
    brings them back; it takes the place of autostart entries where the server has none (``None``: nobody looked).
    """

    states: t.Dict[str, str]
    records: t.Dict[str, t.Dict[str, t.Any]]
    failures: t.Dict[str, str]
    registrations: t.Dict[t.Tuple[str, str], t.Optional[t.Dict[str, t.Any]]]
    autostart: t.Optional[t.Dict[str, t.Dict[str, t.Any]]]
    can_scale: bool
    kept: t.Optional[t.Dict[str, bool]] = None


def is_queued(uid: str, entries: dict[str, dict[str, t.Any]]) -> bool:
    """Whether the server itself is about to launch an absent model.

    After a restart it works through the autostart entries one after the other, by priority; those that have not had
    their turn are absent and have no state yet. An entry that was ``active`` or is in ``error`` is nobody's business.
    """

    def status_of(entry: dict[str, t.Any]) -> t.Any:
        return (entry.get("state") or {}).get("status")

    if uid not in entries:
        return False
    status = status_of(entries[uid])
    if status is None:
        return any(status_of(entry) in ("launching", "waiting_model", "waiting_worker") for entry in entries.values())
    return status in ("launching", "waiting_model", "waiting_worker")


def turn_to_come(uid: str, entries: dict[str, dict[str, t.Any]]) -> bool:
    """Whether the server launches an absent model although its autostart entry is removed now.

    It works through the entries that it read when it began (source of 3.2.1 and 4.1.0), and those that have not had their
    turn keep the state they had: none, or ``waiting_worker`` from the seconds before its first worker was there. One that
    waits for a worker of its own looks the same; it costs a wait until nothing is being launched.
    """
    states = {name: (entry.get("state") or {}).get("status") for name, entry in entries.items()}
    if uid not in states:
        return False
    return states[uid] == "launching" or (states[uid] in (None, "waiting_worker") and "launching" in states.values())


def plan(
    wanted: list[dict[str, t.Any]],
    found: Found,
    remembered: dict[str, dict[str, t.Any]],
    replace: str = "when_changed",
    prune: str = "none",
    autostart: bool = True,
) -> list[Step]:
    """One step per declared model, in the order of the declaration, then one per model to prune.

    :param remembered: uid -> launch request of what we launched.
    :param replace: ``when_changed`` or ``never``.
    :param prune: ``none``, ``ours`` (what we launched and is not declared any more) or ``all``.
    :param autostart: whether declared models come back by themselves where the server can do that.
    """
    steps: list[Step] = []
    seen: set[str] = set()
    for model in wanted:
        uid = model.get("uid") if isinstance(model.get("uid"), str) else ""
        problem = problem_with(model) or (f"the uid {uid!r} is declared twice" if uid in seen else "")
        seen.add(str(uid))
        if problem:
            steps.append(Step(str(uid), REFUSE, problem, FAILED, {}, [], None, None, None, []))
        elif model.get("state") == "absent":
            steps.append(_absent(str(uid), found, remembered, "declared absent"))
        else:
            steps.append(_present(model, found, remembered.get(str(uid)), replace, autostart))
    if prune != "none":
        ours = set(remembered) if prune == "ours" else set(remembered) | set(found.states)
        for uid in sorted(ours - seen):
            step = _absent(uid, found, remembered, "not declared any more")
            if step.changed or uid in remembered:
                steps.append(step)
    return steps


def _absent(uid: str, found: Found, remembered: dict[str, dict[str, t.Any]], why: str) -> Step:
    state = found.states.get(uid, ABSENT)
    # A model that is ended comes back at the next restart while its autostart entry stays.
    unset = "unset" if comes_back(uid, found) else None
    if state in (READY, LOADING):
        return Step(uid, REMOVE, why, state, remembered.get(uid, {}), [], None, unset, None, [])
    return Step(uid, KEEP, "not running" + ("; its autostart entry is removed" if unset else ""), ABSENT, {}, [], None, unset, None, [])


def _present(model: dict[str, t.Any], found: Found, remembered: dict[str, t.Any] | None, replace: str, autostart: bool) -> Step:
    uid = model["uid"]
    body = launch_body(model)
    state = found.states.get(uid, ABSENT)
    record = found.records.get(uid, {})
    warnings = option_warnings(uid, model)
    registration = _registration(model, found)
    drift: list[tuple[str, t.Any, t.Any]] = []
    action, reason = LAUNCH, "not running"
    if state == LOADING:
        action, reason = WAIT, "a launch of it is under way"
    elif state == READY:
        drift = visible_drift(body, record) + hidden_drift(body, remembered)
        names = [name for name, _wanted, _found in drift]
        action, reason = KEEP, "runs as declared"
        if registration == "replace":
            action, reason = REPLACE, "its registration differs"
        elif names == ["replica"] and found.can_scale:
            action, reason = SCALE, f"{record.get('replica')} replicas instead of {body.get('replica')}"
        elif names:
            action, reason = REPLACE, "differs in " + ", ".join(names)
        if action == REPLACE and replace == "never":
            action, registration = LEAVE, None
            reason += "; left as it is, because replace is never"
            warnings.append(f"model {uid}: {reason}")
    elif found.failures.get(uid):
        reason = "not running; its last launch failed: " + found.failures[uid]
    return Step(uid, action, reason, state, body, drift, registration, _autostart(uid, body, found, autostart, action), model.get("register"), warnings)


def comes_back(uid: str, found: Found) -> bool:
    """Whether a model is launched again after a restart: by the server, or else by the keeper."""
    return uid in found.autostart if found.autostart is not None else (found.kept or {}).get(uid, False)


def _registration(model: dict[str, t.Any], found: Found) -> str | None:
    spec = model.get("register")
    if not spec:
        return None
    there = found.registrations.get((str(type_of(model.get("type") or "LLM")), name_of(model)))
    if there is None:
        return "create"
    return None if contains(there, spec) else "replace"


def _autostart(uid: str, body: dict[str, t.Any], found: Found, wanted: bool, action: str) -> str | None:
    if found.autostart is None:
        if found.kept is None or action in (LAUNCH, REPLACE, LEAVE):  # a launch is remembered as it is made
            return None
        return None if comes_back(uid, found) == wanted else "set" if wanted else "unset"
    entry = found.autostart.get(uid)
    if not wanted:
        return "unset" if entry else None
    if action == LEAVE:
        return None  # what runs is not what is declared: after a restart it should still be what runs
    same = entry is not None and same_launch(entry.get("launch"), body) and entry.get("priority") == priority_of(body)
    if action == REPLACE:
        return "set"  # the old entry goes before the old model does, or the server might launch that again in between
    masked = any(is_secret(key) for key in body)  # a rotated secret looks the same; what is launched anew is written anew
    return None if same and not (masked and action == LAUNCH) else "set"


def before(steps: list[Step], gpus: int | None = None, together: bool = False) -> list[set[int]]:
    """For each step the numbers of the steps that have to be over before it may start.

    Two launches never meet on a GPU that both are pinned to. An LLM takes what memory it finds, so what may land on its
    GPU comes after it; what runs on a CPU, or is pinned to another GPU, does not wait.

    :param gpus: how many GPUs the server has; ``None`` when it did not say.
    :param together: nothing waits for anything.
    """
    order = sorted(range(len(steps)), key=lambda number: priority_of(steps[number].body))
    result: list[set[int]] = [set() for _step in steps]
    if together or gpus == 0:
        return result
    for position, number in enumerate(order):
        if steps[number].action not in (LAUNCH, REPLACE):
            continue  # it is loading already
        for earlier in order[:position]:
            here, there = steps[number].body, steps[earlier].body
            if _on_cpu(here) or _on_cpu(there):
                continue
            pinned = bool(here.get("gpu_idx")) and bool(there.get("gpu_idx"))
            if (pinned and _may_meet(here, there)) or (not pinned and priority_of(there) < priority_of(here)):
                result[number].add(earlier)
    return result


def _on_cpu(body: dict[str, t.Any]) -> bool:
    return "n_gpu" in body and body["n_gpu"] is None


def _may_meet(one: dict[str, t.Any], other: dict[str, t.Any]) -> bool:
    """Whether two pinned launches may take the same GPU; the same number on two workers is not the same GPU."""
    apart = one.get("worker_ip") and other.get("worker_ip") and one["worker_ip"] != other["worker_ip"]
    return not apart and bool(set(one["gpu_idx"]) & set(other["gpu_idx"]))


def count_of_gpus_matters(steps: list[Step]) -> bool:
    """Whether the order of the launches depends on how many GPUs the server has."""
    return any(waits for waits in before(steps))


__all__ = [
    "Found",
    "Step",
    "before",
    "comes_back",
    "contains",
    "count_of_gpus_matters",
    "is_queued",
    "launch_body",
    "name_of",
    "plan",
    "priority_of",
    "problem_with",
    "turn_to_come",
    "type_of",
]
