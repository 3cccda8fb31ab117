"""Records one line per host and task, so that tests ask a result instead of reading a terminal's picture of it."""

from __future__ import annotations

import json
import os

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: fleet_record
type: aggregate
short_description: One JSON line per host and task
description:
  - Writes status, task, action and message of every result to the file named by E(FLEET_RECORD_FILE).
  - Results of tasks with C(no_log) are recorded without their message.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "fleet_record"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.path = os.environ.get("FLEET_RECORD_FILE", "")

    def _write(self, status: str, result) -> None:
        if not self.path:
            return
        # ansible-core 2.19 made these attributes public.
        task = getattr(result, "task", None) or result._task
        host = getattr(result, "host", None) or result._host
        content = getattr(result, "result", None) or result._result
        entry = {
            "status": status,
            "host": host.get_name(),
            "task": task.get_name(),
            "action": task.action,
            "changed": bool(content.get("changed")),
            "msg": "" if task.no_log else str(content.get("msg", "")),
        }
        with open(self.path, "a", encoding="utf-8") as record:
            record.write(json.dumps(entry) + "\n")

    def v2_runner_on_ok(self, result) -> None:
        self._write("ok", result)

    def v2_runner_on_skipped(self, result) -> None:
        self._write("skipped", result)

    def v2_runner_on_failed(self, result, ignore_errors: bool = False) -> None:
        self._write("ignored" if ignore_errors else "failed", result)

    def v2_runner_on_unreachable(self, result) -> None:
        self._write("unreachable", result)
