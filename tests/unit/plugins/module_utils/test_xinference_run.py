# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Carrying out plans, on the stand-in that tests/contract holds to recordings of the real server."""

from __future__ import annotations

import json
import pathlib
import re
import stat
import threading
from typing import Any

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import ServerUnreachable
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference import LoginFailed, XinferenceError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_files import UnreadableFile, read_json
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_setup import Setup, accounts_lost, setup_token_in
from ansible_collections.llmops.dify_xinference.tests.unit.plugins.module_utils.xinference_world import World

MODELS = [
    {"uid": "chat", "type": "LLM", "name": "qwen2.5-instruct", "engine": "transformers"},
    {"uid": "embed", "type": "embedding", "name": "bge-m3"},
    {"uid": "own", "type": "embedding", "register": {"model_name": "own", "dimensions": 8}},
]


@pytest.fixture
def world(tmp_path: pathlib.Path) -> World:
    return World(tmp_path)


def test_launch_then_nothing_then_restart_then_nothing(world: World) -> None:
    first = world.converge(MODELS)
    assert [(row["action"], row["state"], row["changed"]) for row in first.values()] == [("launch", "ready", True)] * 3
    world.standin.requests.clear()
    second = world.converge(MODELS)
    assert not any(row["changed"] for row in second.values())
    assert [method for method, _path in world.standin.requests] == ["GET"] * 3  # list, one registration, autostart entries
    world.standin.restart()
    third = world.converge(MODELS)
    assert [(row["action"], row["state"], row["changed"]) for row in third.values()] == [("wait", "ready", False)] * 3


def test_launched_file_is_private_and_readable(world: World) -> None:
    world.converge([MODELS[1]])
    assert stat.S_IMODE(world.state.stat().st_mode) == 0o600
    assert json.loads(world.state.read_text())["models"]["embed"]["launch"]["model_name"] == "bge-m3"


def test_one_bad_model_does_not_stop_the_rest(world: World) -> None:
    rows = world.converge([{"uid": "bad", "type": "embedding", "name": "no-such"}, *MODELS])
    assert rows["bad"]["failed"]
    assert "no-such not found" in rows["bad"]["reason"]
    assert [rows[uid]["state"] for uid in ("chat", "embed", "own")] == ["ready"] * 3
    assert "bad" not in world.standin.autostart


def test_old_server_says_why_only_in_the_answer_itself(tmp_path: pathlib.Path) -> None:
    world = World(tmp_path, replicas_route=False, autostart_route=False)
    rows = world.converge([{"uid": "bad", "type": "embedding", "name": "no-such"}, MODELS[1]])
    assert "no-such not found" in rows["bad"]["reason"]
    assert rows["embed"]["state"] == "ready"
    assert "/v1/models?wait_ready=false" not in world.posts()


def test_two_controllers_launch_once(world: World) -> None:
    """Between our look and our launch somebody else launches the same uid."""

    def other(method: str, path: str) -> None:
        if method == "POST" and path.startswith("/v1/models"):
            world.before = None
            world.standin.handle("POST", "/v1/models", {"model_uid": "embed", "model_name": "bge-m3", "model_type": "embedding"})

    world.before = other
    row = world.converge([MODELS[1]])["embed"]
    assert (row["action"], row["state"], row["changed"], row["failed"]) == ("wait", "ready", False, False)
    assert list(world.standin.models) == ["embed"]


def test_client_timeout_never_launches_again(world: World) -> None:
    def slow(method: str, path: str) -> None:
        if method == "POST" and path.startswith("/v1/models"):
            world.before = None
            world.standin.handle("POST", path, {"model_uid": "embed", "model_name": "bge-m3", "model_type": "embedding"})
            raise ServerUnreachable(method, path, "timed out", timed_out=True)

    world.before = slow
    assert world.converge([MODELS[1]])["embed"]["state"] == "ready"
    assert [path for path in world.posts() if path.startswith("/v1/models")] == ["/v1/models?wait_ready=false"]


def test_wait_for_a_launch_that_turns_out_different(world: World) -> None:
    world.standin.handle("POST", "/v1/models?wait_ready=false", {"model_uid": "embed", "model_name": "bge-small-en-v1.5", "model_type": "embedding"})
    row = world.converge([MODELS[1]])["embed"]
    assert (row["action"], row["state"], row["name"]) == ("replace", "ready", "bge-m3")


def test_replace_and_scale_and_remove(world: World) -> None:
    world.converge(MODELS)
    changed = [dict(MODELS[0], options={"max_model_len": 5}), dict(MODELS[1], replica=3), dict(MODELS[2], register={"model_name": "own", "dimensions": 9})]
    rows = world.converge(changed)
    assert {uid: row["action"] for uid, row in rows.items()} == {"chat": "replace", "embed": "scale", "own": "replace"}
    assert (rows["embed"]["replica"], rows["own"]["dimensions"]) == (3, 9)
    assert not any(row["changed"] for row in world.converge(changed).values())
    assert world.converge([dict(MODELS[1], replica=1)])["embed"]["replica"] == 1
    rows = world.converge([MODELS[0]], prune="ours", replace="never")
    assert {uid: row["action"] for uid, row in rows.items()} == {"chat": "leave", "embed": "remove", "own": "remove"}
    assert list(world.standin.models) == ["chat"]
    assert list(world.standin.autostart) == ["chat"]


def test_absent_stops_a_launch_without_leaving_a_ghost(world: World) -> None:
    world.standin.looks = 50
    world.converge([MODELS[1]], wait=False)
    row = world.converge([{"uid": "embed", "state": "absent"}])["embed"]
    assert (row["action"], row["state"]) == ("remove", "absent")
    assert world.standin.models == {}


def test_absent_while_the_server_works_through_its_autostart_entries(world: World) -> None:
    """It goes through the list it made at its start: what has not had its turn yet is launched although its entry is gone."""
    world.converge(MODELS)
    world.standin.looks = 6
    world.standin.restart()
    absent = [{"uid": model["uid"], "state": "absent"} for model in MODELS]
    rows = world.converge(absent)
    assert [(row["action"], row["state"]) for row in rows.values()] == [("remove", "absent")] * 3
    for _request in range(40):
        world.converge([])
    assert (world.standin.models, world.standin.autostart) == ({}, {})
    assert not any(row["changed"] for row in world.converge(absent).values())


def test_absent_of_what_waits_for_a_worker_does_not_wait(world: World) -> None:
    """That worker may never come; the server reads its entries again when one does."""
    world.converge([MODELS[1]])
    world.standin.models.clear()
    world.standin.autostart["embed"]["state"] = {"status": "waiting_worker"}
    row = world.converge([{"uid": "embed", "state": "absent"}])["embed"]
    assert (row["failed"], row["state"]) == (False, "absent")
    assert world.standin.autostart == {}


def test_still_loading_when_the_time_is_over(world: World) -> None:
    world.standin.looks = 1000
    row = world.converge([MODELS[1]])["embed"]
    assert (row["failed"], row["state"]) == (True, "loading")
    assert "within 60 s" in row["reason"]
    # Launched all the same, so a later run waits for it and never launches a second one.
    world.standin.looks = 1
    world.standin.models["embed"]["left"] = 1
    assert world.converge([MODELS[1]])["embed"]["action"] == "wait"


def test_server_that_vanishes_and_comes_back_while_a_model_loads(world: World) -> None:
    count = []

    def flap(method: str, path: str) -> None:
        if path == "/v1/models/embed" and any(path.startswith("/v1/models?") for path in world.posts()):
            count.append(1)
            if len(count) in (2, 3):
                raise ServerUnreachable(method, path, "connection reset")

    world.standin.looks = 5
    world.before = flap
    assert world.converge([MODELS[1]])["embed"]["state"] == "ready"
    assert len(count) > 3


def test_launches_overlap_but_not_beyond_the_bound(world: World) -> None:
    together: list[int] = []
    barrier = threading.Barrier(2, timeout=5)

    def meet(method: str, path: str) -> None:
        if method == "POST" and path.startswith("/v1/models?"):
            together.append(barrier.wait())

    world.before = meet  # two launches must be under way at once, or the barrier breaks
    world.converge([{"uid": uid, "type": "embedding", "name": "bge-m3"} for uid in ("a", "b", "c", "d")], concurrency=2)
    assert sorted(together) == [0, 0, 1, 1]


# ---- the first administrator ---------------------------------------------------------------------------------------


def set_up(world: World, **options: Any) -> Any:
    options.setdefault("token", lambda: setup_token_in("x\n  Setup token: old\n  Setup token: standin-setup-token\n"))
    return Setup(world.http(), str(world.credentials), **options).run()


@pytest.fixture
def guarded(tmp_path: pathlib.Path) -> World:
    return World(tmp_path, auth=True)


def test_setup_then_nothing(guarded: World) -> None:
    first = set_up(guarded)
    assert (first.changed, first.ready, first.api_key) == (True, True, "xf-standin-1")
    guarded.standin.requests.clear()
    second = set_up(guarded)
    assert (second.changed, second.api_key) == (False, first.api_key)
    assert len(guarded.standin.requests) == 3
    assert stat.S_IMODE(guarded.credentials.stat().st_mode) == 0o600


class CutOff:
    """Ends everything at the n-th request, and no later one."""

    def __init__(self, request_number: int) -> None:
        self.left = request_number

    def pass_one(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("request_number", range(1, 7))
def test_setup_converges_after_any_interruption(guarded: World, request_number: int) -> None:
    """Cut off before the n-th request is answered, and, the server having done its part, right after it."""
    for after in (False, True):
        world = World(guarded.state.parent / str(after), auth=True)
        cut_off = CutOff(request_number)
        real = world.standin.handle
        if after:

            def handle(*arguments: Any, cut_off: CutOff = cut_off, real: Any = real) -> Any:
                answer = real(*arguments)
                cut_off.pass_one()
                return answer

            world.standin.handle = handle
        else:
            world.before = lambda method, path, cut_off=cut_off: cut_off.pass_one()
        try:
            set_up(world)
        except KeyboardInterrupt:
            pass
        world.before, world.standin.handle = None, real
        again = set_up(world)
        assert again.ready
        assert again.api_key in world.standin.keys
        assert len(world.standin.keys) == 1
        assert not set_up(world).changed


def test_setup_without_the_token_says_what_to_do(guarded: World) -> None:
    with pytest.raises(XinferenceError, match=r"none was found in the log.*docker logs"):
        set_up(guarded, token=lambda: None)
    assert set_up(guarded).ready


def test_setup_of_a_server_that_is_somebody_elses(guarded: World, tmp_path: pathlib.Path) -> None:
    set_up(guarded)
    guarded.credentials = tmp_path / "other.json"
    with pytest.raises(XinferenceError, match="give username and password"):
        set_up(guarded)
    password = read_json(str(tmp_path / "credentials.json"))["admin"]["password"]
    assert set_up(guarded, password=password).ready
    with pytest.raises(LoginFailed, match="not tried again"):
        set_up(guarded, password="wrong-one")


def test_setup_after_the_servers_data_was_lost(guarded: World, tmp_path: pathlib.Path) -> None:
    first = set_up(guarded)
    guarded.down = True
    home = tmp_path / "home"
    assert set_up(guarded, data_dir=None).ready
    offline = set_up(guarded, data_dir=str(home))  # nothing there: must not be opened when it comes up
    assert (offline.ready, offline.reachable, offline.api_key) == (False, False, "")
    (home / "auth").mkdir(parents=True)
    (home / "auth" / "auth.db").touch()
    assert not accounts_lost(str(home))
    guarded.down = False
    guarded.standin.admin, guarded.standin.keys = None, {}
    again = set_up(guarded)
    assert again.changed
    assert again.ready
    assert again.username == first.username


def test_setup_in_check_mode_sends_nothing(guarded: World) -> None:
    planned = set_up(guarded, check_mode=True)
    assert planned.changed
    assert not planned.ready
    assert guarded.posts() == []
    assert not guarded.credentials.exists()


def test_rotation_of_the_key_in_two_steps(guarded: World) -> None:
    first = set_up(guarded)
    planned = set_up(guarded, rotate=["api_key"], check_mode=True)
    assert (planned.changed, planned.api_key) == (True, first.api_key)
    second = set_up(guarded, rotate=["api_key"])
    assert (second.changed, second.old_key_valid) == (True, True)
    assert set(guarded.standin.keys) == {first.api_key, second.api_key}
    again = set_up(guarded, rotate=["api_key"])  # a rotation that was cut off goes on where it was
    assert (again.changed, again.api_key, again.old_key_valid) == (False, second.api_key, True)
    assert not set_up(guarded).changed
    assert set_up(guarded, revoke_old_key=True, check_mode=True).changed
    revoked = set_up(guarded, revoke_old_key=True)
    assert (revoked.changed, revoked.api_key, revoked.old_key_valid) == (True, second.api_key, False)
    assert set(guarded.standin.keys) == {second.api_key}
    assert not set_up(guarded, revoke_old_key=True).changed
    third = set_up(guarded, rotate=["api_key"])  # names are unique on the server: the two take turns
    set_up(guarded, revoke_old_key=True)
    assert set(guarded.standin.keys) == {third.api_key}
    assert not set_up(guarded).changed


def test_key_of_that_name_that_somebody_else_made(guarded: World) -> None:
    set_up(guarded)
    guarded.standin.keys["xf-theirs"] = {"id": 9, "name": "dify-2", "description": None}
    with pytest.raises(XinferenceError, match="choose another api_key_name"):
        set_up(guarded, rotate=["api_key"])
    assert "xf-theirs" in guarded.standin.keys


def test_rotation_of_the_password(guarded: World) -> None:
    set_up(guarded)
    old = read_json(str(guarded.credentials))["admin"]["password"]
    assert set_up(guarded, rotate=["password"], check_mode=True).changed
    assert guarded.standin.admin["password"] == old
    assert set_up(guarded, rotate=["password"]).changed
    kept = read_json(str(guarded.credentials))["admin"]
    assert kept == {"username": "admin", "password": guarded.standin.admin["password"], "confirmed": True}
    assert kept["password"] != old
    assert not set_up(guarded).changed
    with pytest.raises(XinferenceError, match="give new_password"):
        set_up(guarded, rotate=["password"], password=kept["password"])
    set_up(guarded, rotate=["password"], password=kept["password"], new_password="of-the-inventory")
    assert guarded.standin.admin["password"] == "of-the-inventory"


@pytest.mark.parametrize("request_number", range(1, 10))
@pytest.mark.parametrize("after", [False, True])
def test_rotation_converges_after_any_interruption(guarded: World, request_number: int, after: bool) -> None:
    first = set_up(guarded)
    cut_off = CutOff(request_number)
    real = guarded.standin.handle

    def handle(*arguments: Any) -> Any:
        if not after:
            cut_off.pass_one()
        answer = real(*arguments)
        if after:
            cut_off.pass_one()
        return answer

    guarded.standin.handle = handle
    try:
        set_up(guarded, rotate=["api_key", "password"])
    except KeyboardInterrupt:
        pass
    guarded.standin.handle = real
    second = set_up(guarded, rotate=["api_key"])
    assert (second.old_key_valid, second.api_key in guarded.standin.keys, first.api_key in guarded.standin.keys) == (True, True, True)
    assert len(guarded.standin.keys) == 2
    set_up(guarded, revoke_old_key=True)
    assert set(guarded.standin.keys) == {second.api_key}
    assert not set_up(guarded).changed
    set_up(guarded, rotate=["password"])  # one that was written down but never sent is used up
    assert read_json(str(guarded.credentials))["admin"] == {"username": "admin", "password": guarded.standin.admin["password"], "confirmed": True}


def test_server_without_accounts(world: World) -> None:
    outcome = set_up(world)
    assert (outcome.changed, outcome.ready, outcome.auth) == (False, True, False)


def test_broken_files_are_never_overwritten(world: World) -> None:
    world.state.write_text("{half")
    with pytest.raises(UnreadableFile, match=r"launched\.json"):
        world.converge([MODELS[1]])
    assert world.state.read_text() == "{half"


@pytest.mark.parametrize("words", ["Model {0} already registered", "Model name conflicts with existing model {0}"])
def test_two_models_of_one_registration(world: World, words: str) -> None:
    """The second one finds the name taken, by the first; 0.13 says that in other words."""
    real = world.standin.handle

    def handle(method: str, path: str, body: Any = None, token: Any = None) -> Any:
        status, content = real(method, path, body, token)
        if method == "POST" and path.startswith("/v1/model_registrations") and status == 400:
            content = {"detail": words.format("own")}
        return status, content

    world.standin.handle = handle
    rows = world.converge([MODELS[2], dict(MODELS[2], uid="again")])
    assert [row["state"] for row in rows.values()] == ["ready", "ready"]


def test_accounts_before_3_0_are_written_to_the_file_that_the_server_reads(tmp_path: pathlib.Path) -> None:
    world = World(tmp_path)
    world.down = True
    path = tmp_path / "accounts.json"
    planned = set_up(world, accounts_file=str(path), check_mode=True)
    assert planned.changed and planned.ready and not path.exists() and not world.credentials.exists()
    first = set_up(world, accounts_file=str(path))
    assert (first.changed, first.ready, first.reachable, first.auth) == (True, True, False, None)
    assert re.fullmatch("sk-[a-zA-Z0-9]{13}", first.api_key)
    content = json.loads(path.read_text())
    assert [(user["username"], user["permissions"], user["api_keys"]) for user in content["user_config"]] == [
        ("admin", ["admin"], []),
        ("dify", ["models:list", "models:read"], [first.api_key]),
    ]
    assert content["user_config"][0]["password"] == json.loads(world.credentials.read_text())["admin"]["password"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in (path, world.credentials)} == {0o600}
    again = set_up(world, accounts_file=str(path))
    assert (again.changed, again.api_key, again.accounts_digest) == (False, first.api_key, first.accounts_digest)
    # Cut off between the two files.
    path.unlink()
    repaired = set_up(world, accounts_file=str(path))
    assert (repaired.changed, repaired.api_key) == (True, first.api_key) and repaired.accounts_digest != first.accounts_digest
    given = set_up(world, accounts_file=str(path), password="another password")
    assert given.changed and given.accounts_digest != repaired.accounts_digest
    assert not set_up(world, accounts_file=str(path)).changed
    with pytest.raises(XinferenceError, match="take api_keys.dify out of"):
        set_up(world, accounts_file=str(path), rotate=["api_key"])


def test_the_user_of_the_key_is_never_the_administrator(tmp_path: pathlib.Path) -> None:
    world = World(tmp_path)
    world.down = True
    path = tmp_path / "accounts.json"
    set_up(world, accounts_file=str(path), username="dify")
    assert [user["username"] for user in json.loads(path.read_text())["user_config"]] == ["dify", "dify-inference"]
    assert not set_up(world, accounts_file=str(path), username="dify").changed
