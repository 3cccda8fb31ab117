# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stand-in that tests/contract holds to recordings of the real server, with a clock that only sleeping moves."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import threading
from typing import Any

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _xinference_run as running
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import JsonClient, ServerUnreachable
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference import Xinference
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_files import Launched
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_plan import plan

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

    def converge(self, models: list[dict[str, Any]], prune: str = "none", replace: str = "when_changed", **options: Any) -> dict[str, dict[str, Any]]:
        client = Xinference(self.http())
        launched = Launched(str(self.state))
        clock = Clock()

        def replan(uid: str) -> Any:
            again = [model for model in models if model["uid"] == uid]
            return plan(again, running.gather(client, again), launched.load(), replace)[0]

        found = running.gather(client, models, launched.load() if prune != "none" else ())
        steps = plan(models, found, launched.load(), replace, prune)
        runner = running.Runner(client, launched, replan=replan, clock=clock, sleep=clock.sleep, **dict({"wait_timeout": 60}, **options))
        return {row["uid"]: row for row in runner.run(steps, found)}

    def posts(self) -> list[str]:
        return [path for method, path in self.standin.requests if method == "POST"]
