# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""What a check is and how its verdict is made.

A check is data (a row of the catalog) plus one ``detect`` function. ``detect`` returns a :class:`Finding`; what it
cannot see is ``unknown``, never ``ok``. Checks only read.
"""

from __future__ import annotations

import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._context import Context

OK = "ok"
INFO = "info"
WARN = "warn"
FAIL = "fail"
UNKNOWN = "unknown"
SKIP = "skip"
# Worst first: the order of the table, and of what a status may stand for.
STATUSES = (FAIL, WARN, UNKNOWN, INFO, OK, SKIP)


class Finding(t.NamedTuple):
    """``status`` is one of :data:`STATUSES`; ``message`` says what was found; ``remedy``, when the check's own does not fit."""

    status: str
    message: str
    remedy: str = ""


Detect = t.Callable[[Context], Finding]


class Check(t.NamedTuple):
    """One check.

    ``severity`` (fail, warn, info) is the worst it can find; ``what`` is what it looks at, in the words of the documentation;
    ``remedy`` is the advice when a finding has none of its own; ``source`` is where the host's answer is read.
    """

    id: str
    name: str
    severity: str
    what: str
    remedy: str
    source: str
    detect: Detect


def verdict(check: Check, context: Context, ignored: t.Mapping[str, str]) -> dict[str, t.Any]:
    """Run one check; ``ignored`` maps ids to the reasons why their findings do not count.

    A check that breaks is ``unknown`` with the error, for one broken check must not hide the others.
    """
    try:
        finding = check.detect(context)
    except Exception as error:  # pylint: disable=broad-exception-caught
        finding = Finding(UNKNOWN, f"The check itself failed: {type(error).__name__}: {error}", "Report this as a bug.")
    status = finding.status
    is_ignored = check.id in ignored and status in (FAIL, WARN)
    return {
        "id": check.id,
        "name": check.name,
        "severity": check.severity,
        "status": SKIP if is_ignored else status,
        "found": status,
        "message": finding.message,
        # Advice for what is wrong is none for what could not be seen.
        "remedy": "" if status in (OK, SKIP) else (finding.remedy or ("" if status == UNKNOWN else check.remedy)),
        "ignored": is_ignored,
        "reason": ignored.get(check.id, "") if is_ignored else "",
    }


__all__ = ["Check", "Detect", "FAIL", "Finding", "INFO", "OK", "SKIP", "STATUSES", "UNKNOWN", "WARN", "verdict"]
