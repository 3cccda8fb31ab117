# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: task_seconds
type: aggregate
short_description: Write how long each task took, for the benches
description: One line of JSON per task in the file that E(TASK_SECONDS_FILE) names.
"""

import json
import os
import time

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_seconds"

    def __init__(self):
        super().__init__()
        self.started = {}

    def v2_playbook_on_task_start(self, task, is_conditional):
        self.started[task._uuid] = time.monotonic()

    def _over(self, result, ok):
        task = result._task
        line = {"task": task.get_name(), "seconds": time.monotonic() - self.started[task._uuid], "ok": ok, "changed": result._result.get("changed")}
        line["requests"] = result._result.get("requests")
        with open(os.environ["TASK_SECONDS_FILE"], "a", encoding="utf-8") as handle:
            handle.write(json.dumps(line) + "\n")

    def v2_runner_on_ok(self, result):
        self._over(result, True)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._over(result, False)
