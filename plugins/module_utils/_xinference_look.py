# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Look at a server: what a plan needs to know of it, and what a plan and its result look like to the user."""

from __future__ import annotations

import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _xinference_plan as planning
from ansible_collections.llmops.dify_xinference.plugins.module_utils._difference import Difference
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference import ABSENT, LOADING, READY, Xinference
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_drift import VISIBLE
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_model import is_secret, without_secrets

NOTHING_FOUND = planning.Found({}, {}, {}, {}, None, False)


def gather(
    client: Xinference, wanted: list[dict[str, t.Any]], remembered: t.Collection[str] = (), kept: t.Optional[t.Dict[str, bool]] = None
) -> planning.Found:
    """Everything a plan needs: three requests, and one more for each model that does not run or declares a registration.

    ``remembered``: uids that are not declared but may have to go.
    """
    records = client.models()
    states = dict.fromkeys(records, READY)
    failures: dict[str, str] = {}
    declared = [model for model in wanted if not planning.problem_with(model)]
    missing = sorted({model["uid"] for model in declared} | set(remembered))
    missing = [uid for uid in missing if uid not in records]
    autostart = client.autostart()
    if missing:
        instances = client.instances()
        for uid in missing:
            look = client.look(uid)
            status = str(instances.get(uid, {}).get("status") or "")
            states[uid] = look.state
            if look.state == READY:  # it became ready since the list was made
                records[uid] = look.record
            elif look.state == ABSENT and (status == "CREATING" or planning.is_queued(uid, autostart or {})):
                states[uid] = LOADING
            elif look.state == ABSENT and status == "ERROR":
                failures[uid] = client.failure_of(uid) or "the server does not say why"
    registrations: dict[tuple[str, str], dict[str, t.Any] | None] = {}
    for model in declared:
        if model.get("register") and model.get("state") != "absent":
            key = (str(planning.type_of(model.get("type") or "LLM")), planning.name_of(model))
            if key not in registrations:
                registrations[key] = client.registration(*key)
    can_scale = False
    for model in declared:
        record = records.get(model["uid"], {})
        if model.get("replica") and record.get("replica") and model["replica"] != record["replica"]:
            can_scale = client.replicas(model["uid"]) is not None
            break
    return planning.Found(states, records, failures, registrations, autostart, can_scale, kept)


def difference_of(steps: list[planning.Step], found: planning.Found) -> Difference:
    """What the plan changes, for ``diff``; environment variables and other secrets are hidden."""
    difference = Difference()
    for step in steps:
        if step.action == planning.LAUNCH:
            shown = {key: value for key, value in without_secrets(step.body).items() if key != "model_uid"}
            difference.add(step.uid, shown, None)
        elif step.action == planning.REMOVE:
            record = found.records.get(step.uid, {})
            shown = {key: record[key] for key in VISIBLE if record.get(key) is not None}
            difference.add(step.uid, None, shown or step.state)
        elif step.action in (planning.REPLACE, planning.SCALE):
            for key, wanted, there in step.drift:
                # A secret that differs shows as such; one inside of something else shows as it was and as it is, both hidden.
                if is_secret(key) or without_secrets(wanted) == without_secrets(there):
                    difference.add(f"{step.uid}.{key}", wanted, there, secret=True)
                else:
                    difference.add(f"{step.uid}.{key}", without_secrets(wanted), without_secrets(there))
        if step.registration:
            difference.add(f"{step.uid}.registration", "as declared", None if step.registration == "create" else "differs")
        if step.autostart:
            there = None if not planning.comes_back(step.uid, found) else "differs" if step.autostart == "set" else "there"
            difference.add(f"{step.uid}.autostart", "as launched" if step.autostart == "set" else None, there)
    return difference


def row_of(step: planning.Step, record: dict[str, t.Any], **values: t.Any) -> dict[str, t.Any]:
    """One model's result; the same keys for every model and for xinference_info."""
    row: dict[str, t.Any] = {
        "uid": step.uid,
        "type": record.get("model_type") or step.body.get("model_type") or "",
        "name": record.get("model_name") or step.body.get("model_name") or "",
        "action": step.action,
        "changed": step.changed,
        "state": step.state,
        "reason": step.reason,
        "seconds": 0.0,
        "differs": [name for name, _wanted, _found in step.drift],
    }
    row.update(shown_of(record))
    row.update(values)
    return row


def shown_of(record: dict[str, t.Any]) -> dict[str, t.Any]:
    """What callers use of the server's description of a running model."""
    return {
        "address": record.get("address") or "",
        "accelerators": list(record.get("accelerators") or []),
        "abilities": list(record.get("model_ability") or []),
        "engine": record.get("model_engine") or "",
        "replica": int(record.get("replica") or 0),
        "context_length": record.get("context_length") or record.get("max_tokens") or 0,
        "dimensions": record.get("dimensions") or 0,
    }


def predicted(steps: list[planning.Step], found: planning.Found) -> list[dict[str, t.Any]]:
    """The rows of check mode: what would be done, and what it would lead to if the server agrees."""
    rows = []
    for step in steps:
        state = step.state
        if step.action in (planning.LAUNCH, planning.REPLACE, planning.WAIT):
            state = READY
        elif step.action == planning.REMOVE:
            state = ABSENT
        rows.append(row_of(step, found.records.get(step.uid, {}), state=state))
    return rows


__all__ = ["NOTHING_FOUND", "difference_of", "gather", "predicted", "row_of", "shown_of"]
