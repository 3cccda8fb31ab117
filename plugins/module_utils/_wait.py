# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Wait for a state, on a monotonic clock, and say at the end what was last seen."""

from __future__ import annotations

import time
import typing as t

State = t.TypeVar("State")


class WaitTimeout(Exception):
    """The state did not come in time. ``last`` is what the last look returned, ``waited`` the seconds spent."""

    def __init__(self, what: str, waited: float, last: t.Any) -> None:
        super().__init__(f"{what} did not happen within {waited:.0f} s; last seen: {last}")
        self.what = what
        self.waited = waited
        self.last = last


def wait_for(
    look: t.Callable[[], State],
    done: t.Callable[[State], bool],
    what: str,
    timeout: float,
    interval: float = 1.0,
    max_interval: float = 5.0,
    clock: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
) -> State:
    """Call ``look`` until ``done`` of its result; pauses grow from ``interval`` to ``max_interval`` seconds.

    ``look`` is called at least once, and once more at the deadline, so a state reached during the last pause counts.
    """
    start = clock()
    pause = interval
    while True:
        state = look()
        if done(state):
            return state
        waited = clock() - start
        if waited >= timeout:
            raise WaitTimeout(what, waited, state)
        sleep(min(pause, max(timeout - waited, 0.0)))
        pause = min(pause * 1.5, max_interval)


__all__ = ["WaitTimeout", "wait_for"]
