# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Compare a launch request with what a server shows, with a launch that is remembered, and with an autostart entry."""

from __future__ import annotations

import json
import re
import typing as t

# The keys of a launch request that /v1/models shows again (section 5 of the recorded contract).
VISIBLE = ("model_type", "model_name", "model_engine", "model_format", "quantization", "model_size_in_billions", "replica")
MASKED = "******"


def _canonical(key: str, value: t.Any) -> str:
    text = str(value)
    if key == "model_engine":
        return text.lower()  # the server echoes the caller's spelling
    if key == "model_size_in_billions":
        return re.sub(r"_0$", "", text.replace(".", "_"))  # 0.5, "0_5"; 7, 7.0, "7"
    return text


def visible_drift(body: dict[str, t.Any], record: dict[str, t.Any]) -> list[tuple[str, t.Any, t.Any]]:
    """What differs between a launch request and what the server shows; what either does not say is not compared."""
    drift = []
    for key in VISIBLE:
        if body.get(key) is None or record.get(key) is None:
            continue
        if _canonical(key, body[key]) != _canonical(key, record[key]):
            drift.append((key, body[key], record[key]))
    wanted, shown = set(map(str, body.get("gpu_idx") or [])), set(map(str, record.get("accelerators") or []))
    several = int(body.get("replica") or 1) > 1  # then the server may show the GPUs of one replica
    if wanted and shown and (not shown <= wanted if several else shown != wanted):
        drift.append(("gpu_idx", body["gpu_idx"], record["accelerators"]))
    return drift


def hidden_drift(body: dict[str, t.Any], remembered: dict[str, t.Any] | None) -> list[tuple[str, t.Any, t.Any]]:
    """What differs from the launch that we remember, in what the server never shows. Nothing remembered: nothing known."""
    if remembered is None:
        return []
    keys = (set(body) | set(remembered)) - set(VISIBLE) - {"model_uid"}
    return [(key, body.get(key), remembered.get(key)) for key in sorted(keys) if _plain(body.get(key)) != _plain(remembered.get(key))]


def _plain(value: t.Any) -> str:
    return json.dumps(value, sort_keys=True)


def contains(found: t.Any, wanted: t.Any) -> bool:
    """Whether everything that is wanted is in what was found; what the server filled in by itself is ignored.

    A server shows every field that it knows. One that it does not show it dropped (0.13 knows no ``chat_template``), and
    registering the model anew would not change that.
    """
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(contains(found[key], value) for key, value in wanted.items() if key in found)
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(contains, found, wanted))
    return found == wanted or _canonical("", found) == _canonical("", wanted)


def same_launch(found: t.Any, wanted: t.Any) -> bool:
    """Like ``==``, where the server masks secrets of an autostart entry, and leaves out what is null."""
    if found == MASKED:
        return wanted is not None
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(same_launch(found.get(key), wanted.get(key)) for key in set(found) | set(wanted))
    return _plain(found) == _plain(wanted)


__all__ = ["MASKED", "VISIBLE", "contains", "hidden_drift", "same_launch", "visible_drift"]
