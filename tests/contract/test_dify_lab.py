# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab that the Dify modules are tested in: what it says it does to an instance, a client has to see."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.fleet.standins.dify import build
from tests.fleet.standins.dify.dify_standin.config import Settings
from tests.fleet.standins.dify.dify_standin.generations import GENERATIONS, generation
from tests.fleet.standins.dify.lab import Lab

W = "/console/api/workspaces/current"
MODELS = f"{W}/model-providers/langgenius/xinference/xinference/models"
CHAT = {"model": "qwen3-chat", "model_type": "llm"}
Make = Callable[..., Lab]


def send(lab: Lab, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, list[str]]:
    """One request of a client: (status, JSON, cookies set). Without headers it is signed with the admin key."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = sent or {"Authorization": f"Bearer {lab.admin_key}", "X-WORKSPACE-ID": lab.tenant}
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(lab.url + path, data, {"Content-Type": "application/json", **sent}, method=method)
    try:
        # An opener of its own: Ansible installs one for the whole process that keeps cookies.
        answer = urllib.request.build_opener().open(request, timeout=20)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        text = answer.read().decode()
        return answer.status, json.loads(text) if text else None, answer.headers.get_all("Set-Cookie") or []


def sign_in(lab: Lab, email: str, password: str) -> tuple[int, dict[str, str]]:
    """(status, headers of the session)."""
    body = {"email": email, "password": base64.b64encode(password.encode()).decode()}
    status, _answer, cookies = send(lab, "POST", "/console/api/login", body, Accept="*/*")
    jar = dict(cookie.split(";", 1)[0].split("=", 1) for cookie in cookies)
    return status, {"Cookie": "; ".join(f"{name}={value}" for name, value in jar.items()), "X_CSRF_Token": jar.get("csrf_token", "")}


def test_what_the_console_does_is_not_counted_and_is_seen(dify_lab: Make) -> None:
    lab = dify_lab()
    console = lab.console
    console.add_model(**CHAT, name="ansible")
    console.add_model("sec-chat", "llm", api_key="xinf-key")
    console.set_default("llm", "sec-chat")
    console.disable_model(**CHAT)
    with lab.counted() as requests:
        models = send(lab, "GET", MODELS)[1]["data"]
        default = send(lab, "GET", f"{W}/default-model?model_type=llm")[1]["data"]["model"]
    assert {model["model"]: model["status"] for model in models} == {"qwen3-chat": "disabled", "sec-chat": "active"}
    assert default == "sec-chat"
    assert requests == [f"GET {MODELS}", f"GET {W}/default-model"]

    console.enable_model(**CHAT)
    console.change_model("sec-chat", "llm", invoke_timeout="30")
    found = send(lab, "GET", f"{MODELS}/credentials?model=sec-chat&model_type=llm")[1]["credentials"]
    assert (found["invoke_timeout"], found["api_key"]) == ("30", "*" * 20)
    spare = console.detach_credential(**CHAT)
    assert console.models() == {("sec-chat", "llm"): "active"}
    found = send(lab, "GET", f"{MODELS}/credentials?model=qwen3-chat&model_type=llm")[1]
    assert found["current_credential_id"] is None
    assert [item["credential_id"] for item in found["available_credentials"]] == [spare]
    console.delete_model("sec-chat", "llm")
    assert console.models() == {}


def test_plugin_versions(dify_lab: Make) -> None:
    lab = dify_lab(plugin=None)
    assert lab.console.plugins() == []
    lab.console.install_plugin(build.plugin_package("0.0.15"))
    lab.console.install_plugin(build.plugin_package("0.0.14"))
    assert [plugin["version"] for plugin in lab.console.plugins()] == ["0.0.14"]
    lab.console.uninstall_plugin()
    assert lab.console.plugins() == []


def test_daemon_comes_back(dify_lab: Make) -> None:
    lab = dify_lab()
    lab.daemon_down(seconds=0.3)
    status, answer, _cookies = send(lab, "GET", f"{W}/plugin/list")
    assert (status, answer["message"][:32]) == (400, "Failed to request plugin daemon,")
    time.sleep(0.6)
    assert send(lab, "GET", f"{W}/plugin/list")[0] == 200


def test_faults_of_marketplace_and_xinference(dify_lab: Make) -> None:
    lab = dify_lab(marketplace_timeout=0.2)
    lab.wait_for_xinference(0.1)
    wanted = {"plugin_unique_identifiers": [lab.marketplace.identifier]}
    texts = {}
    for fault in (403, "hung", ""):
        lab.marketplace.fault = fault
        texts[fault] = send(lab, "POST", f"{W}/plugin/install/marketplace", wanted)[1]
    assert "Reached maximum retries (3)" in texts[403]["message"]
    assert "Reached maximum retries (3)" in texts["hung"]["message"]
    assert "task_id" in texts[""]

    body = {**CHAT, "credentials": {"server_url": lab.xinference_url, "model_uid": "qwen3-chat", "invoke_timeout": "60", "max_retries": "3"}}
    lab.xinference.fault = "hung"
    assert "Read timed out" in send(lab, "POST", f"{MODELS}/credentials", body)[1]["message"]
    lab.xinference.fault = ""
    lab.xinference_down()
    assert "Connection refused" in send(lab, "POST", f"{MODELS}/credentials", body)[1]["message"]
    lab.xinference_up()
    lab.xinference.loading.add("qwen3-chat")
    assert "status code: 503" in send(lab, "POST", f"{MODELS}/credentials", body)[1]["message"]
    lab.xinference.loading.clear()
    lab.xinference.guarded, lab.xinference.keys = None, {"new"}
    assert "status code: 401" in send(lab, "POST", f"{MODELS}/credentials", body)[1]["message"]
    lab.xinference.keys.add("")
    assert send(lab, "POST", f"{MODELS}/credentials", body)[0] == 201


def test_accounts_sessions_and_lockout(dify_lab: Make) -> None:
    lab = dify_lab()
    status, headers = sign_in(lab, lab.email, lab.password)
    assert status == 200
    assert send(lab, "GET", f"{W}/default-model?model_type=llm", **headers)[0] == 200
    lab.expire_sessions()
    assert send(lab, "GET", f"{W}/default-model?model_type=llm", **headers)[:2] == (
        401,
        {"code": "unauthorized", "message": "Token has expired.", "status": 401},
    )
    assert send(lab, "POST", "/console/api/refresh-token", {}, **headers)[0] == 401
    status, headers = sign_in(lab, *lab.member("normal"))
    assert status == 200
    assert send(lab, "POST", f"{W}/default-model", {"model_settings": []}, **headers)[0] == 403
    lab.lock_out()
    assert sign_in(lab, lab.email, lab.password)[0] == 429
    lab.unlock()
    assert sign_in(lab, lab.email, lab.password)[0] == 200


@pytest.mark.parametrize("version", GENERATIONS)
def test_every_version_has_its_console(dify_lab: Make, version: str) -> None:
    lab = dify_lab(version)
    console = lab.console
    console.add_model(**CHAT)
    console.add_model("bge-m3", "text-embedding")
    assert console.default("llm") == "qwen3-chat"
    console.change_model(**CHAT, invoke_timeout="30")
    console.disable_model(**CHAT)
    assert console.models() == {("qwen3-chat", "llm"): "disabled", ("bge-m3", "text-embedding"): "active"}
    console.delete_model(**CHAT)
    assert console.models() == {("bge-m3", "text-embedding"): "active"}
    assert send(lab, "GET", "/console/api/setup")[0] == 200
    assert lab.requests == ["GET /console/api/setup"]


def test_an_old_instance_is_upgraded(dify_lab: Make) -> None:
    lab = dify_lab("0.15.8")
    lab.console.add_model(**CHAT)
    lab.become("1.16.1")
    lab.console.install_plugin(build.plugin_package())
    assert lab.console.models() == {("qwen3-chat", "llm"): "active"}
    found = lab.console.credentials(**CHAT)
    assert found["credentials"]["server_url"].startswith("SFlCUklEO")
    lab.console.delete_model(**CHAT)
    lab.console.add_model(**CHAT, name="ansible")
    assert lab.console.credentials(**CHAT)["credentials"]["server_url"] == lab.xinference_url
    lab.console.delete_model(**CHAT)
    assert lab.console.models() == {}


def test_a_younger_instance_keeps_its_models(dify_lab: Make) -> None:
    lab = dify_lab("1.7.2")
    lab.console.add_model(**CHAT)
    lab.console.add_model("bge-m3", "text-embedding")
    lab.console.delete_model("bge-m3", "text-embedding")
    lab.become("1.16.1")
    # Before 1.8 the credentials went with the model.
    assert lab.console.credentials("bge-m3", "text-embedding")["available_credentials"] == []
    lab.console.change_model(**CHAT, invoke_timeout="30")
    assert lab.console.credentials(**CHAT)["credentials"]["invoke_timeout"] == "30"


def test_the_image_says_which_version_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.from_environment({"STANDIN_DIFY_VERSION": "1.9.2"}).version == "1.9.2"
    with pytest.raises(ValueError, match=r"no Dify 1\.8\.0: it can be 0\.6\.13,"):
        generation("1.8.0")


# -- what was seen on real servers and is in no recording ----------------------------------------------------------------------


@pytest.mark.parametrize("version", GENERATIONS)
def test_the_first_default_is_lost_up_to_1_13(dify_lab: Make, version: str) -> None:
    lab = dify_lab(version)
    lab.xinference.models.update({f"{uid}-2": model for uid, model in lab.xinference.models.items()})
    for uid, kind in (("qwen3-chat", "llm"), ("bge-m3", "text-embedding"), ("bge-reranker", "rerank"), ("whisper", "speech2text")):
        for name in (uid, f"{uid}-2"):
            lab.console.add_model(name, kind)
        body = {"model_settings": [{"model_type": kind, "provider": lab.provider, "model": f"{uid}-2"}]}
        lab.console.call("POST", "default-model", body)
        lost = version != "1.16.1" and kind != "speech2text"
        assert lab.console.default(kind) == (uid if lost else f"{uid}-2")
        lab.console.call("POST", "default-model", body)
        assert lab.console.default(kind) == f"{uid}-2"


@pytest.mark.parametrize(("version", "stale"), [("1.7.2", False), ("1.9.2", False), ("1.16.1", True)])
def test_a_provider_list_made_during_the_installation_stays(dify_lab: Make, version: str, stale: bool) -> None:
    lab = dify_lab(version, plugin=None)
    form = b'--m\r\nContent-Disposition: form-data; name="pkg"; filename="x"\r\n\r\n' + build.plugin_package() + b"\r\n--m--\r\n"
    identifier = lab.console.call("POST", "plugin/upload/pkg", raw=form, kind="multipart/form-data; boundary=m")["unique_identifier"]
    lab.daemon.gate.clear()
    task = lab.console.call("POST", "plugin/install/pkg", {"plugin_unique_identifiers": [identifier]})["task_id"]
    assert lab.console.call("GET", "model-providers") == {"data": []}
    lab.finish_installations()
    assert len(lab.console.call("GET", "model-providers")["data"]) == (0 if stale else 1)
    assert lab.console.call("GET", f"plugin/tasks/{task}")["task"]["status"] == "success"
    assert len(lab.console.call("GET", "model-providers")["data"]) == 1


@pytest.mark.parametrize(("version", "code"), [("1.7.2", "invalid_param"), ("1.9.2", "invalid_param"), ("1.16.1", "plugin_error")])
def test_an_unknown_package_is_not_installed(dify_lab: Make, version: str, code: str) -> None:
    body = {"plugin_unique_identifiers": [f"langgenius/xinference:9.9.9@{'0' * 64}"]}
    with pytest.raises(AssertionError, match=code):
        dify_lab(version, plugin=None).console.call("POST", "plugin/install/pkg", body)


def test_before_plugins_their_routes_are_a_web_page(dify_lab: Make) -> None:
    for version in ("0.6.13", "0.15.8"):
        request = urllib.request.Request(dify_lab(version).url + f"{W}/plugin/list")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.build_opener().open(request, timeout=10)
        with caught.value as answer:
            assert (answer.status, answer.headers["Content-Type"]) == (404, "text/html; charset=utf-8")


@pytest.mark.parametrize("version", GENERATIONS)
def test_init_password_and_language(dify_lab: Make, version: str) -> None:
    lab = dify_lab(version, setup=False, init_password="init-pass-1")
    new = {"email": lab.email, "name": "Admin", "password": lab.password}
    assert send(lab, "GET", "/console/api/init", Accept="*/*")[1] == {"status": "not_started"}
    assert send(lab, "POST", "/console/api/login", {"email": "a@example.com", "password": "x"}, Accept="*/*")[1]["code"] == "not_init_validated"
    assert send(lab, "POST", "/console/api/setup", new, Accept="*/*")[0] == 401
    assert send(lab, "POST", "/console/api/init", {"password": "wrong"}, Accept="*/*")[0] == 401
    status, _answer, cookies = send(lab, "POST", "/console/api/init", {"password": "init-pass-1"}, Accept="*/*")
    assert status == 201
    session = next(cookie.split(";")[0] for cookie in cookies if cookie.startswith("session="))
    assert send(lab, "POST", "/console/api/setup", {**new, "language": "de-DE"}, Cookie=session)[0] == 201
    language = lab.console.call("GET", "/console/api/account/profile")["interface_language"]
    assert language == ("de-DE" if version in ("1.9.2", "1.16.1") else "en-US")
    assert lab.console.call("POST", "/console/api/account/interface-language", {"interface_language": "zh-Hans"})["interface_language"] == "zh-Hans"
    assert lab.console.call("GET", "/console/api/account/profile")["interface_language"] == "zh-Hans"
