# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The client, the modules' decisions and the stand-in against exchanges recorded with real servers 0.13.3, 3.2.1 and 4.1.0."""

from __future__ import annotations

import base64
import importlib.util
import json
import pathlib
import re
from typing import Any

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _xinference_drift as drifting
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _xinference_setup as setting_up
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import JsonClient
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference import (
    ABSENT,
    LOADING,
    READY,
    LoginFailed,
    Xinference,
    seconds_of_token,
    trimmed,
    words_of,
)

HERE = pathlib.Path(__file__).resolve().parent
RECORDINGS = HERE / "recordings" / "xinference"
STANDIN = HERE.parent / "integration" / "targets" / "setup_xinference_standin" / "files" / "xinference_standin.py"


def recorded(name: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((RECORDINGS / f"{name}.json").read_text(encoding="utf-8"))
    return entries


def body_of(response: dict[str, Any]) -> bytes:
    return json.dumps(response["json"]).encode() if "json" in response else str(response.get("text") or "").encode()


class Replay:
    """A transport that answers from a recording: the n-th time a request is made, the n-th answer (then the last again)."""

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        self.answers: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self.sent: list[tuple[str, str, Any]] = []
        self.answer_everything = False  # whatever is asked: for a recording of one exchange
        for entry in entries:
            self.answers.setdefault((entry["request"]["method"], entry["request"]["path"]), []).append(entry["response"])

    def __call__(self, method: str, url: str, data: bytes | None, headers: dict[str, str], timeout: float) -> tuple[int, list[tuple[str, str]], bytes]:
        path = url.removeprefix("http://replay")
        self.sent.append((method, path, json.loads(data) if data else None))
        answers = self.answers.get((method, path))
        if self.answer_everything:
            answers = next(iter(self.answers.values()))
        assert answers, f"the recording has no {method} {path}"
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return answer["status"], list(answer["headers"].items()), body_of(answer)


def client_on(entries: list[dict[str, Any]], **account: Any) -> tuple[Xinference, Replay]:
    replay = Replay(entries)
    return Xinference(JsonClient("http://replay", replay, sleep=lambda seconds: None), **account), replay


def nth(name: str, *numbers: int) -> list[dict[str, Any]]:
    entries = recorded(name)
    return [entries[number] for number in numbers]


@pytest.mark.parametrize(
    ("recording", "number", "uid", "state"),
    [
        ("launch_410_sync", 2, "emb", READY),
        ("cluster_410_empty_noauth", 11, "nope", ABSENT),
        ("launch_410_async_failure", 1, "af", LOADING),  # 503
        ("launch_410_async_failure", 6, "af", ABSENT),
        ("kill_model_process_410", 6, "emb", LOADING),  # 400, but it names emb-rep0: being made again
        ("v0133_launch", 37, "as1", LOADING),  # 400, but it names as1-1-0
        ("v0133_launch", 161, "as1", ABSENT),
        ("v321_all", 7, "nope", ABSENT),
        ("v321_all", 24, "emb", LOADING),
    ],
)
def test_state_of_a_uid(recording: str, number: int, uid: str, state: str) -> None:
    client, _replay = client_on(nth(recording, number))
    assert client.look(uid).state == state


def test_every_recorded_look_has_a_state() -> None:
    """No look at a uid, in any recording without a login problem, leaves the client without a verdict."""
    count = 0
    for path in sorted(RECORDINGS.glob("*.json")):
        for entry in recorded(path.stem):
            match = re.fullmatch(r"/v1/models/([^/?%]+)", entry["request"]["path"])
            skip = entry["response"]["status"] in (401, 403, 429)
            if entry["request"]["method"] == "GET" and match and match.group(1) not in ("instances", "prompts", "families") and not skip:
                client, _replay = client_on([entry])
                assert client.look(match.group(1)).state in (READY, LOADING, ABSENT)
                count += 1
    assert count > 50


def test_errors_are_trimmed_and_lose_the_address() -> None:
    entries = [entry for entry in recorded("launch_410_errors") if entry.get("note") == "unknown embedding model"]
    client, _replay = client_on(entries)
    answer = client.launch({"model_uid": "e1", "model_name": "no-such-model"}, wait_ready=True, timeout=5)
    assert answer is not None
    words = words_of(answer)
    assert words == "Embedding model no-such-model not found, available models: 47 others"


def test_the_nearest_names_are_told() -> None:
    flood = "[address=127.0.0.1:21384, pid=30997] Embedding model bge-m4 not found, available models: dict_keys(['bge-m3', 'bge-large-en', 'jina'])"
    assert trimmed(flood) == "Embedding model bge-m4 not found, available models: 3 others, the nearest are bge-m3"


def test_a_token_says_how_long_it_lives() -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": 1300, "iat": 1000}).encode()).decode().rstrip("=")
    assert seconds_of_token(f"e30.{claims}.x") == 300
    assert seconds_of_token("opaque") == 1800
    entries = nth("auth_410_api_keys_and_ban", 0)
    entries[0]["response"]["json"]["access_token"] = f"e30.{claims}.x"
    clock = [0.0]
    replay = Replay([*entries, {"request": {"method": "GET", "path": "/v1/models"}, "response": {"status": 200, "headers": {}, "json": {"data": []}}}])
    client = Xinference(JsonClient("http://replay", replay, sleep=lambda seconds: None), "admin", "secret", clock=lambda: clock[0])
    for clock[0] in (0.0, 199.0, 201.0):  # renewed at two thirds of its life, before it expires
        client.models()
    assert [path for _method, path, _body in replay.sent] == ["/token", "/v1/models", "/v1/models", "/token", "/v1/models"]


def test_expired_token_is_one_clear_error() -> None:
    refused = [entry for entry in recorded("auth_410_api_keys_and_ban") if entry["response"]["status"] == 401 and entry["request"]["path"] == "/v1/models"]
    client, replay = client_on(refused[:1], api_key="eyJ-expired")
    with pytest.raises(LoginFailed, match="wrong, revoked or expired"):
        client.models()
    assert len(replay.sent) == 1


def test_the_reason_of_a_failed_launch() -> None:
    client, _replay = client_on(nth("launch_410_async_failure", 3))
    assert client.failure_of("af") == "Failed to download model 'bge-m3' (size: None, format: pytorch) after multiple retries"


def test_login_once_and_a_401_is_final() -> None:
    entries = nth("auth_410_default_first_run", 31, 2)
    client, replay = client_on(entries, username="admin", password="wrong")
    with pytest.raises(LoginFailed, match=r"Incorrect username or password.*not tried again"):
        client.models()
    assert [path for _method, path, _body in replay.sent] == ["/token"]


def test_banned_address_is_named() -> None:
    banned = [entry for entry in recorded("auth_410_api_keys_and_ban") if entry["response"]["status"] == 429]
    client, _replay = client_on(banned[:1], api_key="xf-good")
    with pytest.raises(LoginFailed, match="banned for 3600 s, for good credentials too.*wait that long or restart"):
        client.models()


def test_old_server_login_and_list() -> None:
    entries = recorded("v0133_auth_config")
    client, replay = client_on([entries[11], entries[56]], username="admin", password="secret")
    models = client.models()
    assert set(models) == {"emb", "llm"}
    assert [method for method, _path, _body in replay.sent] == ["POST", "GET"]
    # It has no model_engine: what is not shown is not compared.
    body = {"model_type": "LLM", "model_name": "tiny-llm", "model_engine": "transformers", "quantization": "none", "replica": 1}
    assert drifting.visible_drift(body, models["llm"]) == []


def test_engine_is_echoed_as_it_was_written() -> None:
    client, _replay = client_on(nth("launch_410_sync", 19))
    record = client.look("llm").record
    assert drifting.visible_drift({"model_engine": "Transformers", "model_size_in_billions": "0.1"}, record) == []
    assert drifting.visible_drift({"model_engine": "vllm"}, record) == [("model_engine", "vllm", "transformers")]


def test_registration_filled_in_by_the_server_is_no_difference() -> None:
    entries = recorded("registrations_410")
    for sent, read in ((entries[9], entries[20]), (entries[10], entries[18])):
        wanted = json.loads(sent["request"]["json"]["model"])
        assert drifting.contains(read["response"]["json"], wanted)
    assert not drifting.contains(entries[18]["response"]["json"], dict(wanted, dimensions=64))


def test_missing_registration() -> None:
    client, _replay = client_on(nth("registrations_410", 19))
    assert client.registration("embedding", "nope") is None


def test_autostart_entry_is_in_step() -> None:
    client, _replay = client_on(nth("restart_410_before", 5))
    entry = (client.autostart() or {})["emb"]
    body = recorded("restart_410_before")[2]["request"]["json"]["launch"]
    assert drifting.same_launch(entry["launch"], body)
    assert not drifting.same_launch(entry["launch"], dict(body, model_engine="vllm"))
    assert drifting.same_launch({"envs": {"HF_TOKEN": "******"}}, {"envs": {"HF_TOKEN": "x"}})


@pytest.mark.parametrize(
    ("recording", "number", "auth", "phase"),
    [
        ("auth_410_default_first_run", 17, True, setting_up.FIRST_ADMIN),
        ("auth_410_default_first_run", 30, True, setting_up.LOGIN),
        ("v321_all", 12, False, setting_up.NO_ACCOUNTS),
        ("v321_all", 12, True, setting_up.FROM_FILE),  # the route is missing
    ],
)
def test_phase_of_the_setup(recording: str, number: int, auth: bool, phase: str) -> None:
    response = nth(recording, number)[0]["response"]
    assert setting_up.phase_of(auth, response["status"], response["json"]) == phase


# ---- the stand-in of the integration targets is held to the same recordings ---------------------------------------


def load_standin() -> Any:
    spec = importlib.util.spec_from_file_location("xinference_standin", STANDIN)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def without_address(content: Any) -> Any:
    text = re.sub(r"\[address=[^\]]*\] ", "", json.dumps(content))
    return json.loads(re.sub(r"dict_keys\(\[.*?\]\)", "dict_keys([])", text))


STORY = [
    # (recording, number, what the stand-in is to have first: requests)
    ("cluster_410_empty_noauth", 9, []),
    ("cluster_410_empty_noauth", 11, []),
    ("cluster_410_empty_noauth", 17, []),
    ("cluster_410_empty_noauth", 18, []),
    ("launch_410_async_failure", 0, []),
    ("launch_410_async_failure", 41, []),
    ("launch_410_cancel", 14, [("POST", "/v1/models?wait_ready=false", {"model_uid": "cd", "model_name": "bge-m3", "model_type": "embedding"})]),
    ("launch_410_cancel", 16, [("POST", "/v1/models?wait_ready=false", {"model_uid": "cd", "model_name": "bge-m3", "model_type": "embedding"})]),
    ("launch_410_sync", 28, [("POST", "/v1/models", {"model_uid": "emb", "model_name": "bge-m3", "model_type": "embedding"})]),
    ("registrations_410", 9, []),
    ("registrations_410", 19, []),
    ("registrations_410", 21, []),
    ("auth_410_default_first_run", 9, []),
    ("auth_410_default_first_run", 17, []),
    ("auth_410_default_first_run", 24, []),
    ("auth_410_default_first_run", 26, []),
    ("auth_410_default_first_run", 34, "login"),
]


@pytest.mark.parametrize(("recording", "number", "before"), STORY)
def test_standin_answers_as_the_real_one(recording: str, number: int, before: Any) -> None:
    module = load_standin()
    standin = module.Standin(auth=recording.startswith("auth"))
    token = None
    if before == "login":
        admin = {"username": "admin", "password": "long-enough"}
        standin.handle("POST", "/v1/admin/setup", dict(admin, setup_token=module.TOKEN))
        token = standin.handle("POST", "/token", admin)[1]["access_token"]
        before = []
    for method, path, body in before:
        assert standin.handle(method, path, body)[0] == 200
    entry = nth(recording, number)[0]
    status, content = standin.handle(entry["request"]["method"], entry["request"]["path"], entry["request"].get("json"), token)
    assert status == entry["response"]["status"]
    assert without_address(content) == without_address(entry["response"]["json"])
