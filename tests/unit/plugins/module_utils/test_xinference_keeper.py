# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keeper: what it launches, what it leaves alone, and that its file runs without Ansible."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import threading
from typing import Any

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _xinference_keeper as keeping
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import ServerUnreachable
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference import Xinference
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_files import Launched
from ansible_collections.llmops.dify_xinference.tests.unit.plugins.module_utils.xinference_world import Clock, World, load_standin

BODY = {"model_uid": "embed", "model_name": "bge-m3", "model_type": "embedding"}


@pytest.fixture
def world(tmp_path: pathlib.Path) -> World:
    return World(tmp_path, autostart_route=False)


def keeper_of(world: World, lines: list[str] | None = None, **account: Any) -> keeping.Keeper:
    clock = Clock()
    say = (lines if lines is not None else []).append
    return keeping.Keeper(lambda: Xinference(world.http(), **account), str(world.state), 60, say=say, clock=clock, sleep=clock.sleep)


def test_models_come_back_after_a_restart(world: World) -> None:
    launched = Launched(str(world.state))
    launched.remember("embed", BODY)
    launched.remember("left", dict(BODY, model_uid="left"), keep=False)
    launched.remember("failed", dict(BODY, model_uid="failed"))
    launched.mark("failed", failed="no such model")
    launched.remember("going", dict(BODY, model_uid="going"))
    launched.mark("going", ending=True)
    before = world.state.read_text()
    lines: list[str] = []
    assert keeper_of(world, lines).converge() == keeping.OK
    assert list(world.standin.models) == ["embed"]
    assert world.state.read_text() == before
    assert any(line.startswith("embed: ready after") for line in lines)
    world.standin.requests.clear()
    assert keeper_of(world).converge() == keeping.OK
    assert world.posts() == []


def test_old_state_file_without_notes_is_kept(world: World) -> None:
    world.state.write_text('{"models": {"embed": {"launch": {"model_uid": "embed", "model_name": "bge-m3", "model_type": "embedding"}}}}')
    assert keeper_of(world).converge() == keeping.OK
    assert list(world.standin.models) == ["embed"]


def test_notes_of_an_end_that_did_not_come_to_be_are_taken_away(world: World) -> None:
    model = {"uid": "embed", "type": "embedding", "name": "bge-m3"}
    world.converge([model])
    Launched(str(world.state)).mark("embed", ending=True)
    assert keeper_of(world).launched.wanted() == {}
    assert not world.converge([model])["embed"]["changed"]
    assert list(keeper_of(world).launched.wanted()) == ["embed"]


def test_waits_for_the_server(world: World) -> None:
    Launched(str(world.state)).remember("embed", BODY)
    count = []

    def starting(method: str, path: str) -> None:
        count.append(path)
        if len(count) < 4:
            raise ServerUnreachable(method, path, "refused")

    world.before = starting
    assert keeper_of(world).converge() == keeping.OK
    world.down = True
    assert keeper_of(world).converge() == keeping.UNREACHABLE


def test_taken_away_while_we_work(world: World) -> None:
    Launched(str(world.state)).remember("embed", BODY)

    def forget(method: str, path: str) -> None:
        if path == "/v1/models/embed":
            Launched(str(world.state)).forget("embed")

    world.before = forget
    assert keeper_of(world).converge() == keeping.FAILURES
    assert world.posts() == []


def test_watch_comes_back_again_and_again_and_is_patient_with_what_fails(world: World) -> None:
    launched = Launched(str(world.state))
    launched.remember("embed", BODY)
    launched.remember("bad", dict(BODY, model_uid="bad", model_name="no-such"))
    keeper = keeper_of(world)

    def ending(seconds: float) -> None:
        if seconds == 7:  # the pause between two rounds, not one of waiting for a model
            world.standin.models.pop("embed", None)

    keeper.sleep = ending
    keeper.watch(7, rounds=4)
    launched_bodies = [body["model_uid"] for body in world.launches]
    # Time does not pass here, so what failed is not tried again; what went away is, each round.
    assert sorted(launched_bodies) == ["bad", "embed", "embed", "embed", "embed"]


def test_refused_login_is_not_repeated(tmp_path: pathlib.Path) -> None:
    world = World(tmp_path, auth=True)
    Launched(str(world.state)).remember("embed", BODY)
    keeper = keeper_of(world, username="admin", password="wrong")
    waits: list[float] = []
    keeper.sleep = waits.append
    keeper.watch(5, rounds=3)
    assert world.standin.refused == 3
    assert waits == [600, 5] * 3


def test_the_file_is_the_same_every_time_and_holds_everything() -> None:
    assert keeping.packed(keeping.parts()) == keeping.packed(keeping.parts())


def test_the_file_runs_without_ansible(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "keeper.pyz"
    path.write_bytes(keeping.packed(keeping.parts()))
    assert keeping.unpacked(str(path)) == keeping.parts()
    assert keeping.unpacked(str(tmp_path / "nothing")) == {}
    module = load_standin()
    standin = module.Standin()
    server = module.serve(standin, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state = tmp_path / "launched.json"
    Launched(str(state)).remember("embed", BODY)
    command = [sys.executable, "-I", "-S", str(path), "--state-file", str(state), "--url", f"http://127.0.0.1:{server.server_address[1]}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    server.shutdown()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all models that are to run serve" in done.stdout
    assert list(standin.models) == ["embed"]
