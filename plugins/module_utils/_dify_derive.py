# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""From what the GPU hosts run to what Dify shall know: nothing is declared twice."""

from __future__ import annotations

import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_probe import dify_type

DEFAULT_TYPES = ("llm", "text-embedding", "rerank", "speech2text", "tts")


def derive(sources: t.Iterable[dict[str, t.Any]]) -> dict[str, t.Any]:
    """Registrations for Dify.

    ``sources``, in inventory order, one per GPU host: ``host``, ``declared`` (the host's ``xinference_models``),
    ``endpoint`` (``url``, ``api_key``; absent when the host failed), ``result`` (of ``xinference_models``, or of
    ``xinference_info``, which says the same of each model) and ``problem`` (why there is none, where that is known).

    Returns ``models`` (for the module ``dify_models``), ``defaults`` (the first model of each type), ``notes`` (what was
    left out and why) and ``complete`` (whether every host and model is in; only then may anything be pruned).
    """
    models: list[dict[str, t.Any]] = []
    notes: list[str] = []
    defaults: dict[str, str] = {}
    complete = True
    sources = list(sources)
    owner = _owners(sources)
    for source in sources:
        host = source["host"]
        endpoint, result = source.get("endpoint") or {}, source.get("result") or {}
        if not endpoint.get("url") or "models" not in result or result.get("reachable") is False:
            notes.append(f"{host} is left out: {source.get('problem') or 'its Xinference is not up'}")
            complete = False
            continue
        for item in result["models"]:
            kind = dify_type(str(item.get("type")), item.get("abilities") or ())
            uid = str(item.get("uid"))
            if item.get("state") == "absent":
                continue
            if item.get("state") != "ready":
                notes.append(f"{uid} on {host} is left out: it is {item.get('state')}")
                complete = False
            elif kind is None:
                notes.append(f"{uid} on {host} is left out: Dify's Xinference provider takes no {item.get('type')} models")
            else:
                # Dify tells models apart by name and type; a uid that several hosts use gets the host's name behind it.
                name = uid if owner.get(uid, host) == host else f"{uid}@{host}"
                model: dict[str, t.Any] = {"model": name, "model_type": kind, "model_uid": uid, "server_url": str(endpoint["url"]).rstrip("/")}
                if endpoint.get("api_key"):
                    model["api_key"] = endpoint["api_key"]
                abilities = [str(ability) for ability in item.get("abilities") or ()]
                if kind == "llm" and item.get("context_length"):
                    abilities.append(f"context_length={item['context_length']}")
                if abilities:
                    model["abilities"] = abilities
                models.append(model)
                if kind in DEFAULT_TYPES:
                    defaults.setdefault(kind, name)
    return {"models": models, "defaults": defaults, "notes": notes, "complete": complete}


def _owners(sources: list[dict[str, t.Any]]) -> dict[str, str]:
    """uid -> the first host that declares it, failed hosts included: a name must not change because a host is down."""
    owner: dict[str, str] = {}
    for source in sources:
        declared = [item.get("uid") or item.get("name") for item in source.get("declared") or []]
        running = [item.get("uid") for item in (source.get("result") or {}).get("models") or []]
        for uid in declared + running:
            if uid:
                owner.setdefault(str(uid), source["host"])
    return owner


__all__ = ["derive"]
