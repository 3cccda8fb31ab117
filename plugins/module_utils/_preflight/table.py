# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Verdicts of many hosts as one table to read, and as one document for programs. Pure."""

from __future__ import annotations

import textwrap
import typing as t

# Worst first; "ignored" is a finding that somebody took the responsibility for.
MARKS = {"fail": "FAIL", "warn": "warn", "ignored": "ign"}
WIDTH = 100
HOST_WIDTH = 24
UNREACHABLE = "unreachable"
Result = t.Mapping[str, t.Any]
Report = t.Dict[str, t.Any]


def kind_of(verdict: t.Mapping[str, t.Any]) -> str:
    return "ignored" if verdict.get("ignored") else str(verdict.get("status"))


def host_entry(host: str, result: Result) -> Report:
    """One host: ``state`` is ok, warn, fail or unreachable; ``findings`` are worth reading, ``unseen`` are ids."""
    if "verdicts" not in result:
        words = str(result.get("msg") or "It gave no answer.").strip()
        state = UNREACHABLE if result.get("unreachable") else "fail"
        return {"host": host, "state": state, "message": words, "findings": [], "unseen": [], "statuses": {}, "gpus": [], "driver": None, "seconds": None}
    verdicts = result["verdicts"]
    kinds = {kind_of(verdict) for verdict in verdicts}
    return {
        "host": host,
        "state": "fail" if "fail" in kinds else "warn" if "warn" in kinds else "ok",
        "message": "",
        "findings": [{**verdict, "kind": kind_of(verdict)} for verdict in verdicts if kind_of(verdict) in MARKS],
        "statuses": {verdict["id"]: verdict["status"] for verdict in verdicts},
        "unseen": [verdict["id"] for verdict in verdicts if verdict["status"] == "unknown"],
        "gpus": result.get("gpus") or [],
        "driver": (result.get("driver") or {}).get("version"),
        "seconds": result.get("seconds"),
    }


def report(results: t.Sequence[t.Tuple[str, Result]]) -> Report:
    """Everything as one document: ``hosts``, and the names of those that failed, warned, or could not be reached."""
    hosts = [host_entry(host, result) for host, result in results]
    by_state = {state: [entry["host"] for entry in hosts if entry["state"] == state] for state in ("ok", "warn", "fail", UNREACHABLE)}
    return {"version": 1, "passed": not by_state["fail"] and not by_state[UNREACHABLE], **by_state, "hosts": hosts}


def gpus_in_words(gpus: t.Sequence[t.Mapping[str, t.Any]]) -> str:
    """``2 x Tesla T4``, each kind with its number."""
    names = [str(gpu.get("name", "?")).replace("NVIDIA ", "").replace("GeForce ", "") for gpu in gpus]
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names)) or "-"


def wrapped(text: str, first: str, rest: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False) or [first.rstrip()]


def matrix(hosts: t.Sequence[Report], width: int) -> list[str]:
    """Hosts down, checks with a finding across; as many blocks as the width asks for."""
    ids = sorted({finding["id"] for entry in hosts for finding in entry["findings"]})
    left = min(HOST_WIDTH, max((len(entry["host"]) for entry in hosts), default=4))
    # Host, two spaces, the state's eleven, and five for each check.
    across = max(1, (width - left - 13) // 5)
    lines: list[str] = []
    for start in range(0, max(len(ids), 1), across):
        block = ids[start : start + across]
        if lines:
            lines.append("")
        lines.append((f"{'host':<{left}}  {'':<11}" + "".join(f"{name:<5}" for name in block)).rstrip())
        for entry in hosts:
            marks = {finding["id"]: MARKS[finding["kind"]] for finding in entry["findings"]}
            blank = "" if entry["message"] else "."
            cells = "".join(f"{marks.get(name, blank):<5}" for name in block)
            state = entry["state"] if entry["state"] in ("ok", "warn") else entry["state"].upper()
            lines.append(f"{entry['host'][:left]:<{left}}  {state:<11}{cells}".rstrip())
    return lines


def details(hosts: t.Sequence[Report], width: int) -> list[str]:
    """Each finding once, with the hosts that have it and what to do."""
    lines: list[str] = []
    for kind, mark in MARKS.items():
        by_id: dict[str, list[tuple[str, Report]]] = {}
        for entry in hosts:
            for finding in entry["findings"]:
                if finding["kind"] == kind:
                    by_id.setdefault(finding["id"], []).append((entry["host"], finding))
        for name in sorted(by_id):
            found = by_id[name]
            lines += ["", f"{mark:<4} {name} {found[0][1]['name']}"]
            for message in dict.fromkeys(finding["message"] for dummy, finding in found):
                names = ", ".join(host for host, finding in found if finding["message"] == message)
                lines += wrapped(f"{names}: {message}", "     ", "       ", width)
            for reason in dict.fromkeys(finding["reason"] for dummy, finding in found if kind == "ignored"):
                lines += wrapped(f"ignored: {reason or 'no reason was given'}", "     ", "       ", width)
            for remedy in dict.fromkeys(finding["remedy"] for dummy, finding in found if finding["remedy"] and kind != "ignored"):
                lines += wrapped(f"-> {remedy}", "     ", "        ", width)
    return lines


def table(document: Report, width: int = WIDTH) -> str:
    """The document as text, at most ``width`` columns wide where words allow."""
    hosts = document["hosts"]
    if not hosts:
        return "No GPU host was checked."
    lines = matrix(hosts, width) + details(hosts, width)
    for entry in hosts:
        if entry["message"]:
            lines += ["", f"{entry['state'].upper()} {entry['host']}", *wrapped(entry["message"], "     ", "     ", width)]
    lines.append("")
    for entry in hosts:
        if not entry["message"]:
            lines += wrapped(f"{entry['host']}: {gpus_in_words(entry['gpus'])}, driver {entry['driver'] or '-'}", "", "     ", width)
    unseen = sorted({name for entry in hosts for name in entry["unseen"]})
    if unseen:
        lines += ["", *wrapped(f"Could not be seen on at least one host: {', '.join(unseen)}.", "", "     ", width)]
    counts = ", ".join(f"{len(document[state])} {state}" for state in ("ok", "warn", "fail", UNREACHABLE) if document[state])
    lines += [
        "",
        f"{len(hosts)} host{'s' * (len(hosts) > 1)}: {counts}."
        + ("" if document["passed"] else " To go on despite a finding: gpu_preflight_ignore: {ID: reason}."),
    ]
    return "\n".join(lines)


__all__ = ["gpus_in_words", "host_entry", "matrix", "report", "table"]
