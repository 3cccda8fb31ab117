# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes wrong on a real server, on purpose: the story of test_xinference_real.py goes on, and the same models serve again.

Seconds are printed as they are measured, for reading, never for judging.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import urllib.error
from typing import Any

import pytest

from tests.contract.xinference_server.bench import Bench, actions

pytestmark = pytest.mark.real_xinference

THOROUGH = os.environ.get("XINFERENCE_TEST_THOROUGH") == "1"
thorough = pytest.mark.skipif(not THOROUGH, reason="XINFERENCE_TEST_THOROUGH=1 (make test-all) runs this")


def serves(bench: Bench, uid: str) -> bool:
    try:
        return bool(bench.server.post("/v1/embeddings", {"model": uid, "input": "x"}, bench.key())["data"])
    except (urllib.error.URLError, OSError):
        return False


def one(bench: Bench, uid: str, **options: Any) -> list[dict[str, Any]]:
    return [dict(bench.models[1], uid=uid, **options)]


def test_two_controllers_at_once(bench: Bench) -> None:
    """Both succeed, and every model is there once."""
    models = [*bench.models[:2], *one(bench, "both")]
    processes = [bench.start("xinference_models", **bench.models_arguments(models)) for _controller in range(2)]
    results = [bench.finish(process, "xinference_models") for process in processes]
    for result in results:
        assert not result["failed"], result["output"]
        assert [row["state"] for row in result["models"]] == ["ready"] * 3
    assert sorted(actions(result)["both"] for result in results) == ["launch", "wait"] or "keep" in [actions(result)["both"] for result in results]
    assert sum(row["changed"] for result in results for row in result["models"]) == 1
    both = [row for row in bench.info()["models"] if row["uid"] == "both"]
    assert [row["replica"] for row in both] == [1]
    assert not bench.converge(models)["changed"]


def test_killed_process_of_a_model(bench: Bench) -> None:
    """The server makes it again; a run in between waits for that, and never launches a second one."""
    address = next(row["address"] for row in bench.info()["models"] if row["uid"] == "both")
    victims = bench.server.model_processes(address)
    assert len(victims) == 1
    began = time.monotonic()
    os.kill(victims[0], signal.SIGKILL)
    time.sleep(1)
    result = bench.converge(one(bench, "both"))
    assert not result["failed"], result["output"]
    assert result["by_uid"]["both"]["state"] == "ready"
    while not serves(bench, "both") and time.monotonic() < began + 240:
        time.sleep(1)
    assert serves(bench, "both")
    print(f"killed model process: serves again after {time.monotonic() - began:.0f} s, action {actions(result)['both']}")
    again = bench.converge(one(bench, "both"))
    assert not again["changed"]


@pytest.mark.parametrize("seconds", [3.0, pytest.param(1.5, marks=thorough), pytest.param(5.0, marks=thorough), pytest.param(8.0, marks=thorough)])
def test_interrupted_run_converges(bench: Bench, seconds: float) -> None:
    """Ansible and the module are killed on the way; the next run leaves one copy, and no uid that nobody can end."""
    uid = f"cut{int(seconds * 10)}x"
    bench.interrupt(one(bench, uid), seconds)
    result = bench.converge(one(bench, uid))
    assert not result["failed"], result["output"]
    assert result["by_uid"][uid]["replica"] == 1
    gone = bench.converge([{"uid": uid, "state": "absent"}])
    assert gone["by_uid"][uid]["state"] == "absent"
    assert uid not in bench.ready()
    assert not bench.converge([{"uid": uid, "state": "absent"}])["changed"]


@thorough
def test_interrupted_replacement_converges(bench: Bench) -> None:
    """The old one may have been ended already: the next run launches the new one, once."""
    bench.converge(one(bench, "swap"))
    bench.interrupt(one(bench, "swap", envs={"CHANGED": "1"}), 4.0)
    result = bench.converge(one(bench, "swap", envs={"CHANGED": "1"}))
    assert not result["failed"], result["output"]
    assert not bench.converge(one(bench, "swap", envs={"CHANGED": "1"}))["changed"]
    bench.converge([{"uid": "swap", "state": "absent"}])


@thorough
def test_bad_hub_is_one_clear_error_where_something_is_downloaded(bench: Bench) -> None:
    """A hub's name is not checked by the server until it has to be asked."""
    result = bench.converge([{"uid": "hub", "type": "embedding", "name": "bge-m3", "download_hub": "bogus"}, *one(bench, "both")])
    row = result["by_uid"]["hub"]
    assert row["failed"]
    assert 0 < len(row["reason"]) < 450
    assert result["by_uid"]["both"]["state"] == "ready"


def test_wrong_and_expired_tokens(bench: Bench) -> None:
    """Before 3.0 an account is asked for anyway; without accounts nobody looks at a key."""
    if not bench.server.auth:
        pytest.skip("this server has no accounts")
    nobody = str(bench.folder / "none.json")
    expired = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZG1pbiIsImV4cCI6MX0.AAAA"
    result = bench.run("xinference_models", credentials_file=nobody, api_key=expired, models=one(bench, "both"), state_file=str(bench.state))
    assert result["failed"]
    assert "wrong, revoked or expired" in result["msg"], result["msg"]
    result = bench.run("xinference_models", credentials_file=nobody, models=one(bench, "both"), state_file=str(bench.state))
    assert "asks for a login" in result["msg"], result["msg"]


def test_killed_server(bench: Bench) -> None:
    """SIGKILL, as when memory runs out. It is started again, and then the list is as declared with one run."""
    began = time.monotonic()
    for name in list(bench.server.processes):
        bench.server.kill(name)
    bench.server.start()
    up = time.monotonic() - began
    while bench.server.workers and len([node for node in bench.info(gather=["cluster"])["nodes"] if node["role"] == "worker"]) < bench.server.workers:
        time.sleep(3)
    result = bench.converge(one(bench, "both"))
    assert not result["failed"], result["output"]
    assert serves(bench, "both")
    print(f"killed server: up after {up:.0f} s, serves again after {time.monotonic() - began:.0f} s, action {actions(result)['both']}")
    assert not bench.converge(one(bench, "both"))["changed"]


def test_absent(bench: Bench) -> None:
    names = [model["uid"] for model in bench.models] + ["both", "theirs"]
    absent = [{"uid": uid, "state": "absent"} for uid in names]
    first = bench.converge(absent)
    assert first["changed"]
    assert not first["failed"], first["output"]
    again = bench.converge(absent)
    assert not again["changed"], again["models"]
    info = bench.info()
    assert [row["uid"] for row in info["models"] if row["autostart"] or row["state"] == "ready"] == []
    assert info["autostart"] == []


@thorough
def test_banned_address(bench: Bench) -> None:
    """Ten wrong keys; afterwards good credentials are refused too. The server is ended next, and the ban with it."""
    if not bench.server.auth or bench.server.old:
        pytest.skip("this server bans nobody")
    for number in range(12):
        with contextlib.suppress(urllib.error.HTTPError):
            bench.server.get("/v1/models", f"xf-wrong-{number}")
    result = bench.converge_failing()
    assert "banned for 3600 s" in result["msg"], result["msg"]
    assert "wait that long or restart" in result["msg"]


def test_unreachable_server(bench: Bench) -> None:
    """The last one: the server is ended."""
    bench.server.stop()
    planned = bench.converge(check=True)
    assert planned["changed"]
    assert not planned["reachable"]
    result = bench.converge_failing()
    assert bench.server.url in result["msg"]
    offline = bench.setup()
    assert (offline["reachable"], offline["changed"]) == (False, not bench.server.auth or bench.server.old)
    json.dumps(offline)
