# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Shows what happens to each model while ``xinference_models`` waits for it.

The module returns after some seconds with what is pending, and is called again with that result until nothing is. When
nothing has to be launched there is one call, as for any module.
"""

from __future__ import annotations

import time
import typing as t

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

MODULE = "llmops.dify_xinference.xinference_models"
FIRST_SLICE = 8.0  # seconds: long enough for what starts at once, short enough for a first word
NEXT_SLICE = 20.0
SILENCE = 30.0  # seconds after which the state is told again although it is the same


def words_of(row: dict[str, t.Any]) -> str:
    """What one pending model is at, without the time: ``downloading 42 %``."""
    if not row.get("sent") and row.get("action") in ("launch", "replace") and row.get("state") != "loading":
        return "waits for its turn"
    if row.get("action") == "remove":
        return "is being removed"
    progress = row.get("progress") or {}
    percent = progress.get("percent")
    return f"{progress.get('stage') or 'loading'}{f' {percent} %' if percent else ''}"


class Telling:
    """Decides what to tell: what changed since the last time, and after a while the same again.

    ``words``: what was told of each pending model; ``told``: models whose end was told.
    """

    def __init__(self, host: str, clock: t.Callable[[], float] = time.monotonic) -> None:
        self.host = host
        self.clock = clock
        self.words: dict[int, str] = {}
        self.told: set[int] = set()
        self.last = clock()

    def line(self, rows: list[dict[str, t.Any]]) -> str:
        """The line for these rows; empty when there is nothing to say."""
        if not self.words:  # what was so from the start is in the result, and no news
            self.told.update(number for number, row in enumerate(rows) if not row.get("pending") and row.get("action") in ("keep", "leave"))
        parts, news = [], False
        for number, row in enumerate(rows):
            if row.get("pending"):
                words = words_of(row)
                news = news or self.words.get(number) != words
                self.words[number] = words
                parts.append(f"{row['uid']} {words} ({row['seconds']:.0f} s)")
            elif number not in self.told:
                self.told.add(number)
                news = True
                verdict = "failed" if row.get("failed") else row.get("state") or "done"
                parts.append(f"{row['uid']} {verdict} after {row['seconds']:.0f} s")
        if not parts or not (news or self.clock() - self.last >= SILENCE):
            return ""
        self.last = self.clock()
        return f"{self.host}: " + ", ".join(parts)


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: t.Optional[str] = None, task_vars: t.Optional[dict[str, t.Any]] = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        at_once = self._task.check_mode or self._task.async_val or "continuation" in arguments
        if at_once or not boolean(arguments.get("wait", True), strict=False):
            return self._call(arguments, task_vars, self._task.async_val)
        result = self._call(dict(arguments, continuation={"slice": FIRST_SLICE}), task_vars)
        if not result.get("pending"):
            return result
        display = Display()
        telling = Telling(str((task_vars or {}).get("inventory_hostname") or "host"))
        warnings = list(result.get("warnings") or [])
        while True:
            line = telling.line(result.get("models") or [])
            if line and not self._task.no_log:
                display.display(line)
            if result.get("failed") or not result.get("pending"):
                break
            before = {key: result.get(key) for key in ("models", "diff", "autostart", "requests", "at")}
            result = self._call(dict(arguments, continuation={"slice": NEXT_SLICE, "before": before}), task_vars)
            warnings += [warning for warning in result.get("warnings") or [] if warning not in warnings]
            if "models" not in result:  # the host went away, or the module died
                break
        if warnings:
            result["warnings"] = warnings
        return result

    def _call(self, arguments: dict[str, t.Any], task_vars: t.Optional[dict[str, t.Any]], wrap_async: t.Any = False) -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", self._execute_module(module_name=MODULE, module_args=arguments, task_vars=task_vars, wrap_async=wrap_async))
