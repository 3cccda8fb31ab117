# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules, run by Ansible, against a real Xinference 4.1.0 with authentication on: from its first start to removal.

The tests of this file are one story and depend on each other, because a server takes its time to start.
Leave them out with ``-m "not real_xinference"``.
"""

from __future__ import annotations

import json
import os
import pathlib
import stat
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.xinference_server import environment
from tests.contract.xinference_server.server import Server, tiny_models

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

pytestmark = pytest.mark.real_xinference


def untemplated(value: Any) -> Any:
    """Ansible would run a chat template as one of its own; in an inventory one writes ``!unsafe``."""
    if isinstance(value, dict):
        return {key: untemplated(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [untemplated(entry) for entry in value]
    return "{% raw %}" + value + "{% endraw %}" if isinstance(value, str) and "{%" in value else value


class Bench:
    """A server and the files of one host, and Ansible's modules run on it."""

    def __init__(self, server: Server, folder: pathlib.Path) -> None:
        self.server = server
        self.folder = folder
        self.credentials = folder / "credentials.json"
        self.state = folder / "launched.json"
        self.models = tiny_models(server.environment)

    def run(self, module: str, check: bool = False, **arguments: Any) -> dict[str, Any]:
        arguments = dict(untemplated(arguments), url=self.server.url, credentials_file=str(self.credentials))
        command = [str(pathlib.Path(sys.executable).with_name("ansible")), "localhost", "-c", "local", "-i", "localhost,"]
        # Not the environment's own link: Ansible takes an interpreter as words, and the checkout's folder may have spaces.
        python = {"ansible_python_interpreter": str(pathlib.Path(sys.executable).resolve())}
        command += ["-m", f"llmops.dify_xinference.{module}", "-a", json.dumps(arguments), "-e", json.dumps(python)]
        command += ["--check"] if check else []
        variables = dict(
            os.environ,
            ANSIBLE_COLLECTIONS_PATH=str(ROOT / "collections"),
            ANSIBLE_LOAD_CALLBACK_PLUGINS="1",
            ANSIBLE_STDOUT_CALLBACK="ansible.builtin.minimal",
            ANSIBLE_DEPRECATION_WARNINGS="0",
            ANSIBLE_CALLBACK_RESULT_FORMAT="json",
        )
        answer = subprocess.run(command, env=variables, cwd=self.folder, capture_output=True, text=True, timeout=900, check=False)
        output = answer.stdout
        assert " => {" in output, output + answer.stderr
        result, _end = json.JSONDecoder().raw_decode(output, output.index(" => {") + 4)
        result["secrets_shown"] = [secret for secret in self.secrets() if secret in output and module != "xinference_setup"]
        return dict(result, output=output, failed="FAILED!" in output)

    def converge(self, models: list[dict[str, Any]] | None = None, check: bool = False, **arguments: Any) -> dict[str, Any]:
        models = self.models if models is None else models
        result = self.run("xinference_models", check, models=models, state_file=str(self.state), wait_timeout=240, **arguments)
        assert result["secrets_shown"] == []
        result["by_uid"] = {row["uid"]: row for row in result.get("models", [])}
        return result

    def secrets(self) -> list[str]:
        if not self.credentials.exists():
            return []
        content = json.loads(self.credentials.read_text())
        return [content["admin"]["password"], *[entry["key"] for entry in content.get("api_keys", {}).values()]]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("xinference")
    server = Server(environment.ensure(), folder / "home", auth=True)
    server.start()
    yield Bench(server, folder)
    server.stop()


def setup(bench: Bench, **arguments: Any) -> dict[str, Any]:
    return bench.run("xinference_setup", log_file=str(bench.server.log), data_dir=str(bench.server.home), **arguments)


def actions(result: dict[str, Any]) -> dict[str, str]:
    return {uid: row["action"] for uid, row in result["by_uid"].items()}


def test_first_admin(bench: Bench) -> None:
    planned = setup(bench, check=True)
    assert (planned["changed"], planned["ready"]) == (True, False)
    assert not bench.credentials.exists()
    first = setup(bench)
    assert (first["changed"], first["ready"]) == (True, True), first
    assert first["api_key"].startswith("xf-")
    assert stat.S_IMODE(bench.credentials.stat().st_mode) == 0o600
    again = setup(bench)
    assert (again["changed"], again["api_key"]) == (False, first["api_key"])


def test_interrupted_setup_converges(bench: Bench) -> None:
    """Cut off after the account was made, and after a key was made that nobody wrote down."""
    content = json.loads(bench.credentials.read_text())
    lost = content["api_keys"].pop("dify")["key"]
    content["admin"]["confirmed"] = False
    bench.credentials.write_text(json.dumps(content))
    repaired = setup(bench)
    assert repaired["changed"]
    assert repaired["api_key"] not in ("", lost)
    assert not setup(bench)["changed"]


def test_wrong_password_is_one_clear_error(bench: Bench) -> None:
    result = setup(bench, password="certainly wrong")
    assert result["failed"]
    assert "Incorrect username or password" in result["msg"]
    assert "not tried again" in result["msg"]


def test_check_mode_changes_nothing(bench: Bench) -> None:
    planned = bench.converge(check=True)
    assert planned["changed"]
    assert actions(planned) == {"chat": "launch", "embed": "launch", "rerank": "launch"}
    assert not bench.state.exists()
    assert bench.run("xinference_info")["models"] == []


def test_bad_models_fail_and_the_others_serve(bench: Bench) -> None:
    bad = [
        {"uid": "no-such", "type": "embedding", "name": "no-such-model"},
        {"uid": "no-engine", "type": "LLM", "name": "qwen2.5-instruct"},
        {"uid": "a/b", "type": "embedding", "name": "bge-m3"},
    ]
    result = bench.converge([*bench.models, *bad])
    assert result["failed"]
    rows = result["by_uid"]
    assert [rows[uid]["state"] for uid in ("chat", "embed", "rerank")] == ["ready"] * 3, result["msg"]
    assert "Embedding model no-such-model not found" in rows["no-such"]["reason"]
    assert len(rows["no-such"]["reason"]) < 450
    assert "engine is missing" in rows["no-engine"]["reason"]
    assert "slash" in rows["a/b"]["reason"]
    assert result["msg"].startswith("3 of 6 models failed: ")
    assert rows["chat"]["abilities"] == ["generate", "chat"]
    assert stat.S_IMODE(bench.state.stat().st_mode) == 0o600


def test_the_key_of_dify_may_infer(bench: Bench) -> None:
    key = json.loads(bench.credentials.read_text())["api_keys"]["dify"]["key"]
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


def test_models_come_back_after_a_restart(bench: Bench) -> None:
    bench.server.stop()
    bench.server.start()
    result = bench.converge()  # it waits for what the server itself is loading
    assert [row["state"] for row in result["models"]] == ["ready"] * 3
    assert "launch" not in actions(result).values(), result["models"]
    info = bench.run("xinference_info")
    assert info["version"] == "4.1.0"
    assert {row["uid"]: row["autostart"] for row in info["models"]} == {"chat": True, "embed": True, "rerank": True}


def test_hidden_change_is_noticed(bench: Bench) -> None:
    """An environment variable cannot be read back from the server; its value must not be shown either."""
    changed = [dict(model, envs={"SOME_TOKEN": "a-very-secret-value"}) if model["uid"] == "embed" else model for model in bench.models]
    kept = bench.converge(changed, replace="never")
    assert not kept["changed"]
    assert actions(kept)["embed"] == "leave"
    planned = bench.converge(changed, check=True)
    assert actions(planned) == {"chat": "keep", "embed": "replace", "rerank": "keep"}
    result = bench.converge(changed)
    assert result["by_uid"]["embed"]["differs"] == ["envs"]
    assert "a-very-secret-value" not in result["output"]
    assert not bench.converge(changed)["changed"]
    bench.models = changed


def test_changed_registration_is_replaced(bench: Bench) -> None:
    spec = dict(bench.models[1]["register"], max_tokens=64)
    bench.models = [dict(model, register=spec) if model["uid"] == "embed" else model for model in bench.models]
    result = bench.converge()
    assert actions(result) == {"chat": "keep", "embed": "replace", "rerank": "keep"}
    assert result["by_uid"]["embed"]["context_length"] == 64
    assert not bench.converge()["changed"]


def test_replicas_change_in_place(bench: Bench) -> None:
    more = [dict(model, replica=2) if model["uid"] == "rerank" else model for model in bench.models]
    result = bench.converge(more)
    assert actions(result)["rerank"] == "scale"
    assert result["by_uid"]["rerank"]["replica"] == 2
    assert not bench.converge(more)["changed"]
    fewer = [dict(model, replica=1) if model["uid"] == "rerank" else model for model in bench.models]
    assert bench.converge(fewer)["by_uid"]["rerank"]["replica"] == 1


def test_prune_ends_ours_only(bench: Bench) -> None:
    foreign = bench.folder / "foreign.json"  # what is launched with another state file is somebody else's
    other = {"uid": "theirs", "type": "embedding", "name": "tiny-embedding"}
    bench.run("xinference_models", models=[other], state_file=str(foreign))
    result = bench.converge(bench.models[:2], prune="ours")
    assert actions(result) == {"chat": "keep", "embed": "keep", "rerank": "remove", "no-such": "keep"}
    assert {row["uid"] for row in bench.run("xinference_info")["models"] if row["state"] == "ready"} == {"chat", "embed", "theirs"}
    assert not bench.converge(bench.models[:2], prune="ours")["changed"]


def test_absent_while_loading(bench: Bench) -> None:
    slow = {"uid": "slow", "type": "embedding", "name": "tiny-embedding"}
    started = bench.converge([slow], wait=False)
    assert started["by_uid"]["slow"]["state"] == "loading"
    gone = bench.converge([{"uid": "slow", "state": "absent"}])
    assert gone["by_uid"]["slow"]["action"] == "remove", gone
    assert not bench.converge([{"uid": "slow", "state": "absent"}])["changed"]


def test_absent(bench: Bench) -> None:
    absent = [{"uid": model["uid"], "state": "absent"} for model in bench.models]
    result = bench.converge(absent)
    assert actions(result) == {"chat": "remove", "embed": "remove", "rerank": "keep"}
    assert not bench.converge(absent)["changed"]
    info = bench.run("xinference_info")
    assert [row["uid"] for row in info["models"] if row["autostart"] or row["state"] == "ready"] == ["theirs"]


def test_unreachable_server(bench: Bench) -> None:
    bench.server.stop()
    planned = bench.converge(check=True)
    assert planned["changed"]
    assert not planned["reachable"]
    result = bench.converge()
    assert result["failed"]
    assert bench.server.url in result["msg"]
    offline = setup(bench)
    assert (offline["reachable"], offline["ready"], offline["changed"]) == (False, True, False)
