# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run costs the server when nothing is to do, counted where the requests arrive, and that progress costs no second call.

The server is the stand-in of the integration targets, which test_xinference_recordings.py holds to the real one.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import threading
from typing import Any

from tests.contract.test_xinference_recordings import load_standin

ROOT = pathlib.Path(__file__).resolve().parents[2]
TWENTY = [{"uid": f"m{number}x", "type": "embedding", "name": "bge-m3"} for number in range(20)]


class Server:
    def __init__(self, folder: pathlib.Path, **options: Any) -> None:
        module = load_standin()
        self.standin = module.Standin(**options)
        self.http = module.serve(self.standin, 0)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.folder = folder
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def play(self, models: list[dict[str, Any]], **arguments: Any) -> tuple[dict[str, Any], str, list[tuple[str, str]]]:
        """The result of one task, what the screen showed, and the requests that arrived."""
        self.standin.requests.clear()
        arguments = {"url": self.url, "models": models, "state_file": str(self.folder / "launched.json"), **arguments}
        tasks = [
            {"name": "Models", "llmops.dify_xinference.xinference_models": arguments, "register": "result", "ignore_errors": True},
            {"name": "Keep", "ansible.builtin.copy": {"content": "{{ result | to_json }}", "dest": str(self.folder / "result.json"), "mode": "0600"}},
        ]
        (self.folder / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        python = str(pathlib.Path(sys.executable).resolve())
        variables = dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(ROOT / "collections"), ANSIBLE_PYTHON_INTERPRETER=python)
        command = [str(pathlib.Path(sys.executable).with_name("ansible-playbook")), "-i", "gpu1,", "-c", "local", "play.yml"]
        done = subprocess.run(command, env=variables, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads((self.folder / "result.json").read_text()), done.stdout, list(self.standin.requests)


def test_twenty_running_models_cost_one_login_one_list_one_look_at_autostart(tmp_path: pathlib.Path) -> None:
    server = Server(tmp_path, auth=True, looks=0)
    module = load_standin()
    server.standin.handle("POST", "/v1/admin/setup", {"username": "admin", "password": "long-enough", "setup_token": module.TOKEN})
    account = {"username": "admin", "password": "long-enough"}
    first, _screen, _requests = server.play(TWENTY, concurrency=20, **account)
    assert first["changed"]
    again, screen, requests = server.play(TWENTY, **account)
    assert not again["changed"]
    assert requests == [("POST", "/token"), ("GET", "/v1/models"), ("GET", "/v1/autostart/models")]
    assert again["requests"] == 3
    assert "gpu1:" not in screen.replace("[gpu1]", "").split("PLAY RECAP")[0]  # nothing waited for, nothing told


def test_an_account_on_a_server_without_accounts_costs_no_more(tmp_path: pathlib.Path) -> None:
    server = Server(tmp_path, looks=0)
    server.play(TWENTY[:2])
    _result, _screen, requests = server.play(TWENTY[:2], username="admin", password="unused")
    assert [path for _method, path in requests] == ["/token", "/v1/models", "/v1/autostart/models"]


def test_one_more_for_a_model_whose_details_are_needed(tmp_path: pathlib.Path) -> None:
    server = Server(tmp_path, looks=0)
    models = [*TWENTY[:3], {"uid": "own", "type": "embedding", "register": {"model_name": "own", "dimensions": 8}}]
    server.play(models)
    _result, _screen, requests = server.play(models)
    assert [path for _method, path in requests] == ["/v1/models", "/v1/autostart/models", "/v1/model_registrations/embedding/own"]


def test_the_screen_shows_each_model_while_it_loads(tmp_path: pathlib.Path) -> None:
    """Several calls of the module, one result: as if there had been one."""
    server = Server(tmp_path, seconds=12)
    result, screen, requests = server.play([*TWENTY[:2], {"uid": "bad", "type": "embedding", "name": "no-such"}])
    lines = [line for line in screen.splitlines() if line.startswith("gpu1: ") and "ok=" not in line]
    assert lines, screen
    assert "m0x loading 80 % (" in lines[0]
    assert "m0x ready after" in lines[-1]
    assert "bad failed after" in lines[-1]
    assert len(lines) <= 4
    assert [(row["action"], row["state"], row["changed"]) for row in result["models"]] == [
        ("launch", "ready", True),
        ("launch", "ready", True),
        ("launch", "failed", False),
    ]
    assert result["pending"] == []
    assert not any(key in row for row in result["models"] for key in ("then", "sent", "trace", "progress"))
    assert result["requests"] == len(requests)
    assert [path for method, path in requests if method == "POST" and path.startswith("/v1/models")] == ["/v1/models?wait_ready=false"] * 3
