# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules, run by Ansible, against a real Xinference: from its first start to removal.

The same tests for every server. Which one is said by environment variables:

* ``XINFERENCE_TEST_VERSION``: 4.1.0 (default), 3.2.1 or 0.13.3
* ``XINFERENCE_TEST_AUTH``: 1 (default) or 0, with or without accounts
* ``XINFERENCE_TEST_WORKERS``: 0 (default) for one process, more for a supervisor and that many workers

The tests are one story and depend on each other, because a server takes its time to start. What goes wrong on purpose is in
test_xinference_real_faults.py, on the same server. Leave both out with ``-m "not real_xinference"``.
"""

from __future__ import annotations

import json
import re
import stat
import time

import pytest

from tests.contract.xinference_server.bench import Bench, actions
from tests.contract.xinference_server.server import ACCOUNTS

pytestmark = pytest.mark.real_xinference


def accounts_over_the_api(bench: Bench) -> None:
    if not bench.server.auth:
        pytest.skip("this server has no accounts")
    if bench.server.old:
        pytest.skip("before 3.0 accounts are in a file")


def test_accounts_of_a_file(bench: Bench) -> None:
    """Before 3.0, and without accounts at all."""
    if bench.server.auth and not bench.server.old:
        pytest.skip("this server makes its accounts over the API")
    if bench.server.auth:
        assert "takes its accounts from the file" in bench.setup()["msg"]
    given = {"username": "admin", "password": "file-password"} if bench.server.auth else {}
    first = bench.setup(**given)
    assert (first["changed"], first["ready"], first["auth"]) == (bench.server.auth, True, bench.server.auth), first
    assert bench.credentials.exists() == bench.server.auth
    assert not bench.setup()["changed"]


def test_accounts_that_the_module_writes(bench: Bench) -> None:
    """Before 3.0: the file of --auth-config is ours, and a server that was started with it takes the administrator and the key."""
    if not (bench.server.auth and bench.server.old):
        pytest.skip("for servers that take their accounts from a file")
    bench.server.stop()
    bench.credentials.unlink()
    made = bench.setup(accounts_file=str(bench.server.accounts))
    assert (made["changed"], made["ready"], made["reachable"]) == (True, True, False), made
    bench.server.start()
    again = bench.setup(accounts_file=str(bench.server.accounts))
    assert (again["changed"], again["reachable"], again["auth"], again["api_key"]) == (False, True, True, made["api_key"]), again
    assert bench.server.get("/v1/models", made["api_key"])["data"] == []
    with pytest.raises(OSError, match="403"):
        bench.server.post("/v1/models", {"model_name": "bge-m3", "model_type": "embedding"}, made["api_key"])
    with pytest.raises(OSError, match="401"):
        bench.server.get("/v1/models", ACCOUNTS["user_config"][0]["api_keys"][0])  # type: ignore[index]
    assert bench.info()["models"] == []


def test_first_admin(bench: Bench) -> None:
    accounts_over_the_api(bench)
    planned = bench.setup(check=True)
    assert (planned["changed"], planned["ready"]) == (True, False)
    assert not bench.credentials.exists()
    first = bench.setup()
    assert (first["changed"], first["ready"]) == (True, True), first
    assert first["api_key"].startswith("xf-")
    assert stat.S_IMODE(bench.credentials.stat().st_mode) == 0o600
    again = bench.setup()
    assert (again["changed"], again["api_key"]) == (False, first["api_key"])


def test_interrupted_setup_converges(bench: Bench) -> None:
    """Cut off after the account was made, and after a key was made that nobody wrote down."""
    accounts_over_the_api(bench)
    content = json.loads(bench.credentials.read_text())
    lost = content["api_keys"].pop("dify")["key"]
    content["admin"]["confirmed"] = False
    bench.credentials.write_text(json.dumps(content))
    repaired = bench.setup()
    assert repaired["changed"]
    assert repaired["api_key"] not in ("", lost)
    assert not bench.setup()["changed"]


def test_key_and_password_are_rotated(bench: Bench) -> None:
    accounts_over_the_api(bench)
    old_key, old_password = bench.key(), json.loads(bench.credentials.read_text())["admin"]["password"]
    rotated = bench.setup(rotate=["api_key", "password"])
    assert (rotated["changed"], rotated["old_key_valid"]) == (True, True), rotated
    for key in (old_key, bench.key()):
        assert bench.server.get("/v1/models", key)["data"] == []
    assert json.loads(bench.credentials.read_text())["admin"]["password"] != old_password
    assert bench.setup(revoke_old_key=True)["changed"]
    with pytest.raises(OSError, match="401"):
        bench.server.get("/v1/models", old_key)
    assert not bench.setup(revoke_old_key=True)["changed"]


def test_workers_are_there(bench: Bench) -> None:
    if not bench.server.workers:
        pytest.skip("this server runs its models itself")
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        nodes = [node for node in bench.info(gather=["cluster"])["nodes"] if node["role"] == "worker"]
        if len(nodes) == bench.server.workers:
            return
        time.sleep(3)
    raise AssertionError(f"{len(nodes)} workers after 240 s")


def test_wrong_password_is_one_clear_error(bench: Bench) -> None:
    if not bench.server.auth:
        pytest.skip("this server has no accounts")
    result = bench.setup(password="certainly wrong")
    assert result["failed"]
    assert "Incorrect username or password" in result["msg"]
    assert "not tried again" in result["msg"]


def test_check_mode_changes_nothing(bench: Bench) -> None:
    planned = bench.converge(check=True)
    assert planned["changed"]
    assert actions(planned) == {"chat": "launch", "embed": "launch", "rerank": "launch"}, planned["models"]
    assert not bench.state.exists()
    assert bench.info()["models"] == []


def test_bad_models_fail_and_the_others_serve(bench: Bench) -> None:
    chat = bench.models[0]
    # What is refused before anything is sent, what the server refuses, and what it finds out later.
    bad = {
        "no-such": ({"type": "embedding", "name": "no-such-model"}, "Embedding model no-such-model not found|not found, name: no-such-model"),
        "no-engine": ({"type": "LLM", "name": "qwen2.5-instruct"}, "engine is missing"),
        "a/b": ({"type": "embedding", "name": "bge-m3"}, "slash"),
        "x-rep1": ({"type": "embedding", "name": "bge-m3"}, "replica's name"),
        "strange": ({"type": "nonsense", "name": "bge-m3"}, "type 'nonsense' is unknown"),
        "zero": ({"type": "embedding", "name": "bge-m3", "n_gpu": "0"}, "n_gpu is 0"),
        "ghost": ({"type": "embedding", "name": "bge-m3", "replica": 0}, "replica is 0"),
        "engine": (dict(chat, engine="nonsense"), "cannot be run on engine|nonsense"),
        "quant": (dict(chat, quantization="Int99"), "Int99"),
        "path": ({"type": "embedding", "name": "tiny-embedding", "gpus": [7]}, "GPU"),
    }
    declared = [dict(model, uid=uid) for uid, (model, _words) in bad.items()]
    result = bench.converge([*bench.models, *declared])
    assert result["failed"]
    rows = result["by_uid"]
    assert [rows[uid]["state"] for uid in ("chat", "embed", "rerank")] == ["ready"] * 3, result["msg"]
    for uid, (_model, words) in bad.items():
        assert rows[uid]["failed"], uid
        assert re.search(words, rows[uid]["reason"]), (uid, rows[uid]["reason"])
        assert len(rows[uid]["reason"]) < 450
    assert result["msg"].startswith(f"{len(bad)} of {len(bad) + 3} models failed: ")
    assert rows["chat"]["abilities"] == ["generate", "chat"]
    assert stat.S_IMODE(bench.state.stat().st_mode) == 0o600


def test_the_key_of_dify_may_infer(bench: Bench) -> None:
    key = bench.key()
    assert len(bench.server.post("/v1/embeddings", {"model": "embed", "input": "x"}, key)["data"][0]["embedding"]) == 32
    ask = {"model": "chat", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
    assert bench.server.post("/v1/chat/completions", ask, key)["choices"]
    assert bench.server.post("/v1/rerank", {"model": "rerank", "query": "x", "documents": ["a", "b"]}, key)["results"]


def test_second_run_changes_nothing(bench: Bench) -> None:
    before = bench.state.read_text()
    result = bench.converge()
    assert not result["changed"]
    assert result["requests"] <= 3 + 3  # login, list, autostart entries; and one per declared registration
    assert set(actions(result).values()) == {"keep"}
    assert bench.state.read_text() == before


def test_model_type_in_another_case_is_the_same(bench: Bench) -> None:
    models = [dict(model, type=model["type"].swapcase()) for model in bench.models]
    assert not bench.converge(models)["changed"]


def test_models_come_back_after_a_restart(bench: Bench) -> None:
    """By the server's own entries where it has them, otherwise by the keeper, which is this collection's code without Ansible."""
    assert bench.run("xinference_keeper")["changed"]
    assert not bench.run("xinference_keeper")["changed"]
    bench.server.stop()
    bench.server.start()
    info = bench.info(gather=[])
    if info["capabilities"]["autostart"] and not bench.server.workers:
        result = bench.converge()  # it waits for what the server itself is loading
        assert "launch" not in actions(result).values(), result["models"]
        assert {row["uid"]: row["autostart"] for row in bench.info()["models"] if row["state"] == "ready"} == dict.fromkeys(("chat", "embed", "rerank"), True)
    else:
        kept = bench.run_keeper()
        assert kept.returncode == 0, kept.stdout + kept.stderr
        result = bench.converge()
        assert not result["changed"], result["models"]
    assert [row["state"] for row in result["models"]] == ["ready"] * 3
    assert info["version"] == bench.server.environment.version


def test_hidden_change_is_noticed(bench: Bench) -> None:
    """An environment variable cannot be read back from the server; its value must not be shown either. 0.13 knows none: a limit there."""
    hidden = {"request_limits": 7} if bench.server.old else {"envs": {"SOME_TOKEN": "a-very-secret-value"}}
    changed = [dict(model, **hidden) if model["uid"] == "embed" else model for model in bench.models]
    kept = bench.converge(changed, replace="never")
    assert not kept["changed"]
    assert actions(kept)["embed"] == "leave"
    planned = bench.converge(changed, check=True)
    assert actions(planned) == {"chat": "keep", "embed": "replace", "rerank": "keep"}, planned["models"]
    result = bench.converge(changed)
    assert not result["failed"], result["models"]
    assert result["by_uid"]["embed"]["differs"] == list(hidden), result["models"]
    assert "a-very-secret-value" not in result["output"]
    assert not bench.converge(changed)["changed"]
    bench.models = changed


def test_what_an_old_server_does_not_know_is_refused_before_the_model_is_ended(bench: Bench) -> None:
    if not bench.server.old:
        pytest.skip("this server knows environment variables")
    changed = [dict(model, envs={"SOME_NAME": "value"}) if model["uid"] == "embed" else model for model in bench.models]
    result = bench.converge(changed)
    assert result["failed"] and not result["changed"], result["models"]
    row = result["by_uid"]["embed"]
    assert (row["action"], row["state"]) == ("refuse", "ready") and "1.8.1 or newer" in row["reason"], row
    assert bench.ready() >= {"chat", "embed", "rerank"}
    assert not bench.converge()["changed"]


def test_changed_registration_is_replaced(bench: Bench) -> None:
    spec = dict(bench.models[1]["register"], max_tokens=64)
    bench.models = [dict(model, register=spec) if model["uid"] == "embed" else model for model in bench.models]
    result = bench.converge()
    assert actions(result) == {"chat": "keep", "embed": "replace", "rerank": "keep"}, result["models"]
    assert result["by_uid"]["embed"]["context_length"] == 64
    assert not bench.converge()["changed"]


def test_replicas_change_in_place(bench: Bench) -> None:
    more = [dict(model, replica=2) if model["uid"] == "rerank" else model for model in bench.models]
    result = bench.converge(more)
    assert actions(result)["rerank"] == ("replace" if bench.server.old else "scale"), result["models"]
    assert result["by_uid"]["rerank"]["replica"] == 2
    assert not bench.converge(more)["changed"]
    fewer = [dict(model, replica=1) if model["uid"] == "rerank" else model for model in bench.models]
    assert bench.converge(fewer)["by_uid"]["rerank"]["replica"] == 1


def test_prune_ends_ours_only(bench: Bench) -> None:
    foreign = bench.folder / "foreign.json"  # what is launched with another state file is somebody else's
    other = {"uid": "theirs", "type": "embedding", "name": "tiny-embedding"}
    bench.run("xinference_models", models=[other], state_file=str(foreign))
    result = bench.converge(bench.models[:2], prune="ours")
    done = actions(result)
    assert [done.pop(uid) for uid in ("chat", "embed", "rerank")] == ["keep", "keep", "remove"], result["models"]
    assert set(done.values()) == {"keep"}  # what never came up has nothing to end
    assert bench.ready() == {"chat", "embed", "theirs"}
    assert not bench.converge(bench.models[:2], prune="ours")["changed"]


def test_absent_while_loading(bench: Bench) -> None:
    slow = {"uid": "slow", "type": "embedding", "name": "tiny-embedding"}
    started = bench.converge([slow], wait=False)
    assert started["by_uid"]["slow"]["state"] == "loading"
    gone = bench.converge([{"uid": "slow", "state": "absent"}])
    assert gone["by_uid"]["slow"]["action"] == "remove", gone
    assert not bench.converge([{"uid": "slow", "state": "absent"}])["changed"]


