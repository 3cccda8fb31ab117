# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stand-in that tests/contract holds to recordings of the real server, with a clock that only sleeping moves."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import threading
import time
from typing import Any

from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import JsonClient, ServerUnreachable
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference import Xinference
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_apply import Converge
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_files import Launched

STANDIN = pathlib.Path(__file__).resolve().parents[3] / "integration" / "targets" / "setup_xinference_standin" / "files" / "xinference_standin.py"


def load_standin() -> Any:
    spec = importlib.util.spec_from_file_location("xinference_standin", STANDIN)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Clock(threading.local):
    """Time passes only while one sleeps, and for each thread on its own: a quick one must not use up the time of the others."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class World:
    def __init__(self, folder: pathlib.Path, **options: Any) -> None:
        self.standin = load_standin().Standin(**options)
        self.state = folder / "launched.json"
        self.credentials = folder / "credentials.json"
        self.down = False
        self.before: Any = None  # called before each request is answered
        self.real_time = False
        self.launches: list[dict[str, Any]] = []  # bodies of the launches that were sent

    def transport(self, method: str, url: str, data: bytes | None, headers: dict[str, str], timeout: float) -> Any:
        path = url[len("http://standin") :]
        if self.down:
            raise ServerUnreachable(method, url, "refused")
        if self.before:
            self.before(method, path)
        if method == "POST" and path.split("?")[0] == "/v1/models" and data:
            self.launches.append(json.loads(data))
        token = headers.get("Authorization", "").replace("Bearer ", "") or None
        status, content = self.standin.handle(method, path, json.loads(data) if data else None, token)
        return status, [], json.dumps(content).encode()

    def http(self) -> JsonClient:
        return JsonClient("http://standin", self.transport, retries=0, sleep=lambda seconds: None)

    def call(self, models: list[dict[str, Any]], **options: Any) -> Converge:
        defaults = {"replace": "when_changed", "prune": "none", "autostart": True, "wait": True, "wait_timeout": 60, "concurrency": 4, "share_gpus": False}
        clock = Clock()
        clockwork = (time.monotonic, time.sleep) if self.real_time else (clock, clock.sleep)
        return Converge(Xinference(self.http()), Launched(str(self.state)), models, dict(defaults, **options), *clockwork)

    def converge(self, models: list[dict[str, Any]], **options: Any) -> dict[str, dict[str, Any]]:
        return {row["uid"]: row for row in self.call(models, **options).carry_out().rows}

    def in_slices(self, models: list[dict[str, Any]], seconds: float = 1.0, **options: Any) -> list[dict[str, Any]]:
        """What each call returned when every one of them may take that long."""
        calls: list[dict[str, Any]] = []
        while not calls or calls[-1]["pending"]:
            call = self.call(models, **options)
            outcome = call.go_on(calls[-1], seconds) if calls else call.carry_out(seconds)
            calls.append({"models": outcome.rows, "diff": outcome.diff, "pending": outcome.pending, "autostart": outcome.autostart})
            assert len(calls) < 200
        return calls

    def posts(self) -> list[str]:
        return [path for method, path in self.standin.requests if method == "POST"]
