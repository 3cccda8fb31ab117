# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""What a server is and runs, for ``xinference_info``; what an old server or this login does not tell is empty."""

from __future__ import annotations

import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _xinference_plan as planning
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference import FAILED, LOADING, READY, LoginFailed, Xinference, XinferenceError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_files import Launched
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_look import gather, row_of, shown_of
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_model import MODEL_TYPES

NOBODY = "no-such-model"  # asked for to see whether a route is there


def models_of(client: Xinference, autostart: t.Collection[str], with_replicas: bool) -> list[dict[str, t.Any]]:
    """What runs, loads, or failed since the server's start."""
    records = client.models()
    instances = client.instances()
    rows = []
    for uid in sorted(set(records) | set(instances)):
        record = records.get(uid, {})
        instance = instances.get(uid, {})
        status = str(instance.get("status") or "")
        if not record and status not in ("CREATING", "ERROR"):
            continue  # ended
        row: dict[str, t.Any] = {
            "uid": uid,
            "type": record.get("model_type") or "",
            "name": record.get("model_name") or instance.get("model_name") or "",
            "state": READY if record else LOADING if status == "CREATING" else FAILED,
            "autostart": uid in autostart,
            "replicas": [],
            "error": "",
        }
        row.update(shown_of(record))
        if with_replicas:
            row["replicas"] = [
                {
                    "id": int(entry.get("replica_id") or 0),
                    "state": str(entry.get("status") or "").lower(),
                    "worker": entry.get("worker_address") or "",
                    "address": entry.get("model_address") or "",
                    "accelerators": [str(index) for index in entry.get("accelerators") or []],
                }
                for entry in client.replicas(uid) or []
            ]
            row["error"] = client.failure_of(uid) if row["state"] == FAILED else ""
        rows.append(row)
    return rows


def drift_of(client: Xinference, declared: list[dict[str, t.Any]], launched: Launched) -> list[dict[str, t.Any]]:
    """What ``xinference_models`` would do for a declared list, and why: its own plan."""
    found = gather(client, declared, (), launched.kept())
    return [
        {key: row[key] for key in ("uid", "action", "changed", "state", "reason", "differs")}
        for row in (row_of(step, found.records.get(step.uid, {})) for step in planning.plan(declared, found, launched.load()))
    ]


def capabilities_of(client: Xinference, autostart: bool) -> dict[str, bool]:
    """What the server can do, seen from whether the routes for it are there. Raises what the client raises."""
    return {
        "replicas": client.replicas(NOBODY) is not None,
        "progress": client.fetch(f"/v1/models/{NOBODY}/progress") is not None,
        "autostart": autostart,
    }


def report(client: Xinference, gather_also: t.Collection[str]) -> dict[str, t.Any]:
    """``gather_also``: ``cluster``, ``registrations``, ``replicas``. An API key sees no autostart entries and no cluster."""
    try:
        autostart = client.autostart()
        autostart_seen = autostart is not None
    except LoginFailed:
        autostart, autostart_seen = None, True  # the route is there, and closed to this login
    result: dict[str, t.Any] = {
        "auth": client.auth_required(),
        "models": models_of(client, autostart or {}, "replicas" in gather_also),
        "version": client.version(),
        "capabilities": capabilities_of(client, autostart_seen),
        "autostart": sorted(autostart or {}),
        "nodes": [],
        "gpus": 0,
        "registrations": {},
    }
    if "cluster" in gather_also:
        result["nodes"] = client.nodes() or []
        result["gpus"] = client.gpu_count() or 0
    if "registrations" in gather_also:
        for model_type in MODEL_TYPES:
            try:
                names = client.custom_models(model_type)
            except XinferenceError:
                continue  # a type that this version does not know
            if names:
                result["registrations"][model_type] = names
    return result


__all__ = ["drift_of", "report"]
