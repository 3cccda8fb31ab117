# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Calls that follow each other come to what one call comes to, whatever happens between them."""

from __future__ import annotations

import pathlib
import time
from typing import Any

from ansible_collections.llmops.dify_xinference.tests.unit.plugins.module_utils.xinference_world import World

EMBED = {"uid": "embed", "type": "embedding", "name": "bge-m3"}
CHAT = {"uid": "chat", "type": "LLM", "name": "qwen2.5-instruct", "engine": "transformers"}
BAD = {"uid": "bad", "type": "embedding", "name": "no-such"}
NOISE = ("seconds", "pending", "sent", "then", "trace", "progress")


def worlds(tmp_path: pathlib.Path, looks: int, **options: Any) -> tuple[World, World]:
    """Two servers alike: one for a single call, one for many."""
    pair = []
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
        world = World(tmp_path / name, **options)
        world.standin.looks = looks
        pair.append(world)
    return pair[0], pair[1]


def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in NOISE} for row in rows]


def compare(one: World, many: World, models: list[dict[str, Any]], calls_at_least: int = 2, **options: Any) -> list[dict[str, Any]]:
    """The final result of both, and the same state afterwards; returns what the calls returned."""
    for world in (one, many):
        world.launches.clear()
    single = one.call(models, **options).carry_out()
    calls = many.in_slices(models, **options)
    assert len(calls) >= calls_at_least
    assert plain(calls[-1]["models"]) == plain(single.rows)
    assert calls[-1]["diff"] == single.diff
    assert sorted(body["model_uid"] for body in many.launches) == sorted(body["model_uid"] for body in one.launches)
    assert many.standin.autostart == one.standin.autostart
    assert many.call(models, **options).carry_out().pending == []
    assert not any(row["changed"] for row in many.call(models, **options).carry_out().rows)
    return calls


def test_launches(tmp_path: pathlib.Path) -> None:
    one, many = worlds(tmp_path, looks=8)
    calls = compare(one, many, [CHAT, EMBED, {"uid": "own", "type": "embedding", "register": {"model_name": "own", "dimensions": 8}}])
    pending = [row for row in calls[0]["models"] if row.get("pending")]
    assert all(row["progress"]["percent"] >= 0 for row in pending if row["sent"])


def test_a_failure_among_them_is_kept_and_not_tried_again(tmp_path: pathlib.Path) -> None:
    one, many = worlds(tmp_path, looks=8)
    models = [BAD, EMBED, dict(BAD, uid="a/b"), dict(EMBED), CHAT]
    single = one.call(models).carry_out()
    calls = many.in_slices(models)
    assert len(calls) > 1
    assert plain(calls[-1]["models"]) == plain(single.rows)
    assert [row["failed"] for row in single.rows] == [True, False, True, True, False]
    assert [body["model_uid"] for body in many.launches].count("bad") == 1


def test_one_after_the_other(tmp_path: pathlib.Path) -> None:
    """What waits for its turn when a call ends is launched by a later one, once."""
    one, many = worlds(tmp_path, looks=8)
    compare(one, many, [dict(EMBED, uid=uid) for uid in ("a", "b", "c", "d")], concurrency=1, calls_at_least=4)


def test_replace_and_remove_and_scale(tmp_path: pathlib.Path) -> None:
    one, many = worlds(tmp_path, looks=0)
    for world in (one, many):
        world.converge([CHAT, EMBED, dict(EMBED, uid="old"), dict(EMBED, uid="more")])
        world.standin.looks = 8
    compare(one, many, [dict(CHAT, options={"max_model_len": 5}), EMBED, dict(EMBED, uid="more", replica=2)], prune="ours")


def test_somebody_elses_launch_that_turns_out_different(tmp_path: pathlib.Path) -> None:
    one, many = worlds(tmp_path, looks=8)
    for world in (one, many):
        world.standin.handle("POST", "/v1/models?wait_ready=false", {"model_uid": "embed", "model_name": "bge-small-en-v1.5", "model_type": "embedding"})
    compare(one, many, [EMBED])


def test_lost_race(tmp_path: pathlib.Path) -> None:
    one, many = worlds(tmp_path, looks=8)
    for world in (one, many):

        def other(method: str, path: str, world: World = world) -> None:
            if method == "POST" and path.startswith("/v1/models"):
                world.before = None
                world.standin.handle("POST", path, {"model_uid": "embed", "model_name": "bge-m3", "model_type": "embedding"})

        world.before = other
    calls = compare(one, many, [EMBED])
    assert calls[-1]["models"][0]["action"] == "wait"
    assert not calls[-1]["models"][0]["changed"]


def test_launch_that_fails_between_two_calls(tmp_path: pathlib.Path) -> None:
    world = World(tmp_path)
    world.standin.looks = 1000
    first = world.call([EMBED]).carry_out(1)
    assert first.pending == ["embed"]
    world.standin.models["embed"].update(error="out of memory", left=0)
    second = world.call([EMBED]).go_on({"models": first.rows, "diff": first.diff, "autostart": True}, 5)
    row = second.rows[0]
    assert (row["failed"], row["action"], row["changed"]) == (True, "launch", False)
    assert row["reason"] == "out of memory"
    assert len(world.launches) == 1


def test_the_time_of_all_calls_counts(tmp_path: pathlib.Path) -> None:
    world = World(tmp_path)
    world.standin.looks = 1000
    calls = world.in_slices([EMBED], 5.0)
    row = calls[-1]["models"][0]
    assert (row["failed"], row["state"], row["changed"]) == (True, "loading", True)
    assert 60 <= row["seconds"] < 70
    assert len(world.launches) == 1


def test_server_that_vanishes_between_two_calls(tmp_path: pathlib.Path) -> None:
    world = World(tmp_path)
    world.standin.looks = 8
    first = world.call([EMBED]).carry_out(1)
    world.down = True
    second = world.call([EMBED]).go_on({"models": first.rows, "diff": first.diff, "autostart": True}, 5)
    assert second.pending == ["embed"]
    assert second.rows[0]["seconds"] > first.rows[0]["seconds"]
    world.down = False
    third = world.call([EMBED]).go_on({"models": second.rows, "diff": second.diff, "autostart": True}, 60)
    assert (third.pending, third.rows[0]["state"], third.rows[0]["action"]) == ([], "ready", "launch")


def test_request_of_an_old_server_is_not_cut(tmp_path: pathlib.Path) -> None:
    """It says why a launch failed only in the answer to it: a call whose time is over waits for that answer, and launches no more."""
    world = World(tmp_path, replicas_route=False, autostart_route=False)
    world.real_time = True

    def slow(method: str, path: str) -> None:
        if method == "POST":
            time.sleep(0.3)

    world.before = slow
    calls = world.in_slices([BAD, EMBED], 0.1, concurrency=1)
    assert [call["pending"] for call in calls] == [["embed"], []]
    bad, embed = calls[-1]["models"]
    assert (bad["failed"], embed["state"], embed["action"]) == (True, "ready", "launch")
    assert bad["reason"].startswith("Embedding model no-such not found")
    assert world.posts() == ["/v1/models"] * 2


def test_llm_first_where_it_shares_a_gpu(tmp_path: pathlib.Path) -> None:
    world = World(tmp_path)
    world.standin.gpus = 1
    world.standin.looks = 3
    seen: list[str] = []

    def note(method: str, path: str) -> None:
        if method == "POST" and path.startswith("/v1/models"):
            seen.append("chat is ready" if world.standin.models.get("chat", {}).get("left") == 0 else "chat is not ready")

    world.before = note
    world.converge([EMBED, CHAT])
    assert seen == ["chat is not ready", "chat is ready"]


def test_twenty_running_models_cost_three_requests(tmp_path: pathlib.Path) -> None:
    world = World(tmp_path)
    models = [dict(EMBED, uid=f"m{number}x") for number in range(20)]
    world.converge(models)
    world.standin.requests.clear()
    rows = world.converge(models)
    assert {row["action"] for row in rows.values()} == {"keep"}
    assert [path for _method, path in world.standin.requests] == ["/v1/models", "/v1/autostart/models"]


def test_what_an_old_server_cannot_launch_is_refused_and_the_old_model_kept(tmp_path: pathlib.Path) -> None:
    world = World(tmp_path, replicas_route=False, autostart_route=False, version="0.13.3")
    world.standin.looks = 0
    world.converge([EMBED, CHAT])
    world.launches.clear()
    changed = [dict(EMBED, envs={"A": "1"}), CHAT, dict(EMBED, uid="new", model_path="/models/x")]
    planned = {row["uid"]: row for row in world.call(changed).predict().rows}
    rows = world.converge(changed)
    for found in (planned, rows):
        assert [found[uid]["action"] for uid in ("embed", "chat", "new")] == ["refuse", "keep", "refuse"]
        assert [found[uid]["failed"] for uid in ("embed", "chat", "new")] == [True, False, True]
        assert [found[uid]["state"] for uid in ("embed", "chat", "new")] == ["ready", "ready", "failed"]
        assert "envs: for this server, Xinference 0.13.3" in found["embed"]["reason"] and "1.8.1 or newer" in found["embed"]["reason"]
        assert "0.14.0 or newer" in found["new"]["reason"]
    assert world.launches == []
    assert world.standin.handle("GET", "/v1/models/embed", None, None)[0] == 200
    assert not world.converge([EMBED, CHAT])["embed"]["changed"], "what was refused is not remembered"


def test_a_server_that_is_new_enough_or_does_not_tell_its_version_is_asked(tmp_path: pathlib.Path) -> None:
    for number, version in enumerate(("1.8.1", "4.1.0", "0+unknown", "")):
        (tmp_path / str(number)).mkdir()
        world = World(tmp_path / str(number), version=version)
        world.standin.looks = 0
        rows = world.converge([dict(EMBED, envs={"A": "1"})])
        assert rows["embed"]["state"] == "ready", rows
    world.standin.requests.clear()
    world.converge([dict(EMBED, envs={"A": "1"})])
    assert ("GET", "/v1/cluster/version") not in world.standin.requests, "nobody asks when nothing is launched"
