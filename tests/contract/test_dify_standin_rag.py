# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Knowledge bases and chat of the stand-in. Held by reading Dify's controllers, not by recordings: so the collection's
own check of a RAG question has to run through it, and the calls that reach Xinference are looked at."""

from __future__ import annotations

import json
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify import DifyClient, DifyError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_rag import RagCheck
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import JsonClient, open_url_transport

from tests.fleet.standins.dify import build, testing
from tests.fleet.standins.dify.dify_standin.http import Request

PROVIDER = "langgenius/xinference/xinference"
MODELS = {"llm": "qwen3-chat", "text-embedding": "bge-m3", "rerank": "bge-reranker"}
PASSWORD = "Sup3r-Pass!"


def ask(world: testing.World, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """Straight into the application; header names with ``_`` for ``-``."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    route, _mark, query = path.partition("?")
    values = dict(part.split("=", 1) for part in query.split("&") if part)
    response = world.api(Request(method, route, values, sent, json.dumps(body).encode() if body is not None else b""))
    return response.status, json.loads(response.body) if response.body.startswith((b"{", b"[")) else response.body.decode()


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[testing.World]:
    """A set-up stand-in with the plugin, three models and their defaults, and a worker."""
    world = testing.World(tmp_path, build.plugin_package("0.0.16"))
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.05):
            world.index()

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    assert ask(world, "POST", "/console/api/setup", {"email": "a@example.com", "name": "A", "password": PASSWORD})[0] == 201
    identifier = world.daemon.upload(_package_request(), "")["unique_identifier"]
    console = console_headers(world)
    assert ask(world, "POST", f"{W}/plugin/install/pkg", {"plugin_unique_identifiers": [identifier]}, **console)[0] == 200
    world.finish_installations()
    for kind, uid in MODELS.items():
        credentials = {"server_url": world.xinference_url, "model_uid": uid, "invoke_timeout": "60", "max_retries": "3"}
        body = {"model": uid, "model_type": kind, "credentials": credentials}
        assert ask(world, "POST", f"{W}/model-providers/{PROVIDER}/models/credentials", body, **console)[0] == 201
        assert ask(world, "GET", f"{W}/default-model?model_type={kind}", **console)[1]["data"]["model"] == uid
    world.xinference.calls.clear()
    yield world
    stop.set()
    worker.join()
    world.close()


W = "/console/api/workspaces/current"


def _package_request() -> Request:
    body = b'--m\r\nContent-Disposition: form-data; name="dify_pkg"; filename="p"\r\n\r\n' + build.plugin_package() + b"\r\n--m--\r\n"
    return Request("POST", "/", {}, {"content-type": "multipart/form-data; boundary=m"}, body)


def console_headers(world: testing.World) -> dict[str, str]:
    tenant = world.api.db.query("SELECT id FROM tenants")[0]["id"]
    return {"authorization": f"Bearer {testing.ADMIN_KEY}", "x_workspace_id": tenant}


def test_the_collections_own_question_is_answered(world: testing.World) -> None:
    client = DifyClient(JsonClient(world.api_url, open_url_transport(validate_certs=True)), admin_key=testing.ADMIN_KEY)
    result = RagCheck(client, index_timeout=20).run()
    assert result["chat"]["answer"] == "The lamp is Old Marigold."
    assert result["embedding"]["segments"] == 2
    assert result["rerank"]["top_passage"].startswith("The lighthouse of Port Amberley")
    assert result["chat"]["sources"]
    paths = [path for _method, path, _body in world.xinference.calls]
    assert {"/v1/embeddings", "/v1/rerank", "/v1/chat/completions"} <= set(paths)
    prompt = next(body for _method, path, body in world.xinference.calls if path == "/v1/chat/completions")["messages"]
    assert "Old Marigold" in prompt[0]["content"]
    assert prompt[-1]["role"] == "user"
    for table in ("apps", "datasets", "documents", "document_segments", "upload_files", "api_tokens", "app_model_configs"):
        assert world.api.db.query(f"SELECT * FROM {table}") == [], table


def test_service_api_of_knowledge_bases(world: testing.World) -> None:
    console = console_headers(world)
    _status, key = ask(world, "POST", "/console/api/datasets/api-keys", **console)
    assert key["token"].startswith("dataset-")
    service = {"authorization": f"Bearer {key['token']}"}
    status, dataset = ask(world, "POST", "/v1/datasets", {"name": "k", "indexing_technique": "high_quality"}, **service)
    assert (status, dataset["embedding_model"], dataset["embedding_model_provider"]) == (200, "bge-m3", PROVIDER)
    assert ask(world, "POST", "/v1/datasets", {"name": "k"}, **service)[0] == 409
    base = f"/v1/datasets/{dataset['id']}"
    body = {"name": "d", "text": "apples are red\nthe sky is blue", "indexing_technique": "high_quality", "process_rule": {"mode": "automatic"}}
    status, made = ask(world, "POST", f"{base}/document/create-by-text", body, **service)
    assert (status, made["document"]["indexing_status"]) == (200, "waiting")
    for _try in range(200):
        seen = ask(world, "GET", f"{base}/documents/{made['batch']}/indexing-status", **service)[1]["data"][0]
        if seen["indexing_status"] == "completed":
            break
        threading.Event().wait(0.05)
    assert (seen["indexing_status"], seen["completed_segments"]) == ("completed", 1)
    status, found = ask(world, "POST", f"{base}/retrieve", {"query": "apples"}, **service)
    assert found["records"][0]["segment"]["document"]["name"] == "d"
    assert 0 < found["records"][0]["score"] <= 1
    assert ask(world, "DELETE", f"{base}/documents/{made['document']['id']}", **service) == (204, "")
    assert ask(world, "DELETE", base, **service) == (204, "")
    assert ask(world, "GET", base, **service)[0] == 404
    assert ask(world, "DELETE", f"/console/api/datasets/api-keys/{key['id']}", **console)[0] == 204
    assert ask(world, "GET", "/v1/datasets", **service) == (401, {"code": "unauthorized", "message": "Access token is invalid", "status": 401})


def test_a_failing_embedding_ends_as_error_of_the_document(world: testing.World) -> None:
    console = console_headers(world)
    _status, dataset = ask(world, "POST", "/console/api/datasets", {"name": "k", "indexing_technique": "high_quality"}, **console)
    world.shut("xinference")
    file = world.api.knowledge.keep_file(console["x_workspace_id"], "", "d.txt", b"some text", "text/plain")
    info = {"info_list": {"data_source_type": "upload_file", "file_info_list": {"file_ids": [file["id"]]}}}
    status, made = ask(world, "POST", f"/console/api/datasets/{dataset['id']}/documents", {"data_source": info}, **console)
    assert status == 200
    for _try in range(200):
        seen = ask(world, "GET", f"/console/api/datasets/{dataset['id']}/batch/{made['batch']}/indexing-status", **console)[1]["data"][0]
        if seen["indexing_status"] == "error":
            break
        threading.Event().wait(0.05)
    assert "Connection refused" in seen["error"]


def test_chat_needs_a_user_and_reports_a_dead_model(world: testing.World) -> None:
    console = console_headers(world)
    status, app = ask(world, "POST", "/console/api/apps", {"name": "a", "mode": "chat"}, **console)
    assert (status, app["model_config"]["model"]["name"]) == (201, "qwen3-chat")
    key = ask(world, "POST", f"/console/api/apps/{app['id']}/api-keys", **console)[1]["token"]
    service = {"authorization": f"Bearer {key}"}
    body: dict[str, Any] = {"inputs": {}, "query": "hello", "response_mode": "blocking"}
    assert ask(world, "POST", "/v1/chat-messages", body, **service)[1]["message"] == "Arg user must be provided."
    status, answer = ask(world, "POST", "/v1/chat-messages", {**body, "user": "u"}, **service)
    assert (status, answer["mode"], answer["metadata"]["usage"]["total_tokens"]) == (200, "chat", 15)
    follow = {**body, "user": "u", "conversation_id": answer["conversation_id"]}
    ask(world, "POST", "/v1/chat-messages", follow, **service)
    assert len(world.xinference.calls[-1][2]["messages"]) == 3
    wrong = {**follow, "user": "someone else"}
    assert ask(world, "POST", "/v1/chat-messages", wrong, **service)[1]["message"] == "Conversation Not Exists."
    world.shut("xinference")
    assert ask(world, "POST", "/v1/chat-messages", {**body, "user": "u"}, **service)[1]["code"] == "completion_request_error"


def test_unsigned_package_is_refused_unless_told_otherwise(world: testing.World) -> None:
    body = b'--m\r\nContent-Disposition: form-data; name="pkg"; filename="p"\r\n\r\n' + build.plugin_package(signed=False) + b"\r\n--m--\r\n"
    headers = {name.replace("_", "-"): value for name, value in console_headers(world).items()}
    request = Request("POST", f"{W}/plugin/upload/pkg", {}, {**headers, "content-type": "multipart/form-data; boundary=m"}, body)
    answer = json.loads(world.api(request).body)
    assert answer["code"] == "plugin_error"
    assert "bad signature" in answer["message"]
    world.daemon_settings.force_verifying_signature = False
    assert world.api(request).status == 200


def test_the_collections_client_sees_a_wrong_admin_key(world: testing.World) -> None:
    client = DifyClient(JsonClient(world.api_url, open_url_transport(validate_certs=True)), admin_key="wrong")
    with pytest.raises(DifyError):
        client.call("GET", "/apps?page=1&limit=1")
