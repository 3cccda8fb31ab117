# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Dify client against exchanges recorded from real servers."""

from __future__ import annotations

import base64
import json
import pathlib
import re
import typing as t
import urllib.parse

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify import DifyClient, DifyError, DifyUsageError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_plan import DERIVED_FIELDS, FoundModel, WantedModel, plan_model
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_plugins import Identifier, PluginError, Plugins, pinned_settings
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_schema import ProviderSchema
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_setup import make_administrator
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import JsonClient

HERE = pathlib.Path(__file__).parent / "recordings" / "dify"
PASSWORD = "<admin-password>"
EMAIL = "admin@example.com"
PROVIDER = "langgenius/xinference/xinference"


def load(name: str) -> list[dict[str, t.Any]]:
    return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))


def names() -> list[str]:
    return sorted(path.stem for path in HERE.glob("*.json"))


def same_body(recorded: t.Any, sent: t.Any) -> bool:
    """Placeholders stand for what was taken out of the recording."""
    if isinstance(recorded, dict) and isinstance(sent, dict):
        return recorded.keys() == sent.keys() and all(same_body(value, sent[key]) for key, value in recorded.items())
    if isinstance(recorded, str) and recorded.startswith("<base64("):
        return sent == base64.b64encode(PASSWORD.encode()).decode()
    return recorded == sent or recorded in ("<INIT_PASSWORD>", "<admin-password>")


class Replay:
    """A transport that answers as the recording did, to the same method, path and body, in the recorded order."""

    def __init__(self, exchanges: list[dict[str, t.Any]], version: str) -> None:
        self.left = list(exchanges)
        self.version = version
        self.check_body = True
        self.check_query = True
        self.sent: list[tuple[str, str, dict[str, str], t.Any]] = []

    def __call__(self, method: str, url: str, data: bytes | None, headers: dict[str, str], timeout: float) -> tuple[int, list[tuple[str, str]], bytes]:
        path = url.split("//replay", 1)[1]
        try:
            body = json.loads(data) if data else None
        except ValueError:
            body = "(multipart)"
        self.sent.append((method, path, headers, body))
        for index, exchange in enumerate(self.left):
            request = exchange["request"]
            right_body = not self.check_body or same_body(request.get("json"), None if body == "(multipart)" else body)
            same_path = request["path"] == path or (not self.check_query and request["path"].split("?")[0] == path.split("?")[0])
            if request["method"] == method and same_path and right_body:
                del self.left[index]
                return self.answer(exchange["response"])
        raise AssertionError(f"not in the recording: {method} {path} {body}")

    def answer(self, response: dict[str, t.Any]) -> tuple[int, list[tuple[str, str]], bytes]:
        headers = [*response.get("headers", {}).items()]
        for cookie in response.get("set_cookie_names", []):
            name, _space, rest = cookie.partition(" ")
            headers.append(("Set-Cookie", f"{name}=value-of-{name}; {rest.strip('[]')}"))
        if not any(name == "X-Version" for name, _value in headers):
            headers.append(("X-Version", self.version))
        body = response["json"] if "json" in response else response.get("text", "")
        return response["status"], headers, body.encode() if isinstance(body, str) else json.dumps(body).encode()


def client_for(exchanges: list[dict[str, t.Any]], version: str, **options: t.Any) -> tuple[DifyClient, Replay]:
    replay = Replay(exchanges, version)
    client = DifyClient(JsonClient("http://replay", replay, sleep=lambda seconds: None), sleep=lambda seconds: None, **options)
    client.version = version
    return client, replay


def test_all_recordings_are_here() -> None:
    total = sum(len(load(name)) for name in names())
    print(f"\nDify's client: {len(names())} of {len(names())} recordings, {total} exchanges")
    assert len(names()) >= 61


@pytest.mark.parametrize("name", names())
def test_every_recorded_answer_is_understood(name: str) -> None:
    """An answer is data, or an error with a word and a sentence; no recorded one surprises the client."""
    for exchange in load(name):
        client, replay = client_for([exchange], name.split("-", 1)[0])
        client._headers = {}
        request = exchange["request"]
        status = exchange["response"]["status"]
        path = request["path"].replace("/console/api", "", 1) if request["path"].startswith("/console/api") else None
        if path is None:
            continue  # /health, /ping
        replay.check_body = False  # what matters here is the answer
        if 200 <= status < 300:
            answer = client.call(request["method"], path, json=request.get("json"))
            assert answer == exchange["response"].get("json")
        else:
            client.daemon_wait = 0
            with pytest.raises(DifyError) as caught:
                client.call(request["method"], path, json=request.get("json"))
            assert caught.value.status == status
            assert caught.value.code
            assert caught.value.message
            assert caught.value.daemon_down == ("Failed to request plugin daemon" in str(exchange["response"].get("json")))


READERS: list[tuple[str, t.Callable[[DifyClient, dict[str, str]], t.Any]]] = [
    (r"GET /setup", lambda client, query: client.setup_state()["step"]),
    (r"GET /init", lambda client, query: {"finished": 1, "not_started": 1}[client.init_state()]),
    (r"GET /all-workspaces", lambda client, query: client._find_workspace()),
    (r"GET \S+/model-providers", lambda client, query: [ProviderSchema.read(entry).fields for entry in client.providers()]),
    (r"GET \S+/models", lambda client, query: [entry["model"] + entry["status"] for entry in client.models(query["provider"])] or ["none"]),
    (r"GET \S+/models/credentials", lambda client, query: read_model(client.credentials(query["provider"], query["model"], query["model_type"]))),
    (r"GET \S+/default-model", lambda client, query: (client.default_model(query["model_type"]) or {"provider": "none"})["provider"]),
    (r"POST \S+/installations/ids", lambda client, query: Plugins(client).installed("langgenius/xinference") or "none"),
    (r"GET \S+/plugin/tasks/\S+", lambda client, query: task_end(Plugins(client, task_timeout=0), query["task"])),
    (r"GET \S+/(preferences|auto-upgrade)/fetch", lambda client, query: pinned_settings(Plugins(client).auto_upgrade() or {}, "langgenius/xinference")),
]


def read_model(answer: dict[str, t.Any]) -> t.Any:
    """What the plan makes of a model whose fields are exactly what was read: nothing to do, unless there is none, or an upgrade broke it."""
    found = FoundModel.read(answer, {"status": "active"}, "available_credentials" in answer)
    wanted = WantedModel("m", "llm", {name: str(value) for name, value in found.credentials.items() if name not in DERIVED_FIELDS})
    action = plan_model(wanted, found)
    assert action.kind in ("none", "create") if found.attached or not found.named("ansible") else action.kind == "attach"
    return action


def task_end(plugins: Plugins, task: str) -> str:
    """``installed``, or why not."""
    try:
        plugins._finish({"task_id": task})
    except PluginError as error:
        return str(error)
    return "installed"


def test_every_recorded_answer_that_a_module_reads_is_read_by_its_own_method() -> None:
    """Not only understood as JSON: each goes through the method, and what it feeds, that a run would put it through."""
    seen: dict[str, int] = {}
    for name in names():
        for exchange in load(name):
            method, path = exchange["request"]["method"], exchange["request"]["path"].removeprefix("/console/api")
            route, _mark, query = path.partition("?")
            reader = next(((pattern, read) for pattern, read in READERS if re.fullmatch(pattern, f"{method} {route}")), None)
            if reader is None or exchange["response"]["status"] != 200:
                continue
            values = dict(urllib.parse.parse_qsl(query))
            values["provider"] = route.partition("/model-providers/")[2].partition("/models")[0]
            values["task"] = route.rsplit("/", 1)[1]
            version = "1.16.1" if name.startswith("upgrade") else name.split("-", 1)[0]
            client, replay = client_for([exchange], version)
            client._headers, client.admin_key = {}, "k"
            replay.check_body = replay.check_query = False
            assert reader[1](client, values) is not False
            assert not replay.left, f"{name}: {method} {path} was not asked for"
            seen[reader[0]] = seen.get(reader[0], 0) + 1
    print("\nDify's client, recorded answers read by their own methods: " + ", ".join(f"{pattern} {count}" for pattern, count in seen.items()))
    assert set(seen) == {pattern for pattern, _read in READERS}
    assert sum(seen.values()) >= 180


@pytest.mark.parametrize(
    ("name", "note", "header"),
    [("0.6.13-login", "bearer", "Authorization"), ("0.15.8-login", "bearer", "Authorization"), ("1.7.2-login", "bearer", "Authorization")],
)
def test_login_of_token_versions(name: str, note: str, header: str) -> None:
    client, replay = client_for(load(name), name.split("-", 1)[0], email=EMAIL, password=PASSWORD)
    assert client.call("GET", "/account/profile")["email"] == EMAIL
    assert replay.sent[0][3]["password"] == PASSWORD  # plain
    assert replay.sent[1][2][header] == "Bearer <jwt>"
    assert client.requests == 2


@pytest.mark.parametrize(("name", "encoded"), [("1.9.2-login", False), ("1.16.1-login", True)])
def test_login_of_cookie_versions(name: str, encoded: bool) -> None:
    exchanges = load(name)
    if name.startswith("1.16.1"):  # this one was recorded with a language beside it, which a login does not need
        for exchange in exchanges:
            (exchange["request"].get("json") or {}).pop("language", None)
        exchanges = [e for e in exchanges if e["note"] != "PLAIN password (wrong encoding for this version)"]
    client, replay = client_for(exchanges, name.split("-", 1)[0], email=EMAIL, password=PASSWORD)
    replay.left = [e for e in replay.left if e["request"]["path"] != "/console/api/account/profile" or "X-CSRF-Token" in e["request"]["headers"]]
    assert client.call("GET", "/account/profile")["email"] == EMAIL
    assert replay.sent[0][3]["password"] == (base64.b64encode(PASSWORD.encode()).decode() if encoded else PASSWORD)
    headers = replay.sent[1][2]
    assert headers["X-CSRF-Token"] == "value-of-csrf_token"
    assert set(headers["Cookie"].split("; ")) == {f"{n}=value-of-{n}" for n in ("access_token", "refresh_token", "csrf_token")}


def test_host_prefixed_cookies_are_found() -> None:
    exchange = {
        "request": {"method": "POST", "path": "/console/api/login", "json": None},
        "response": {"status": 200, "json": {"result": "success"}, "set_cookie_names": ["__Host-access_token [Secure]", "__Host-csrf_token [Secure]"]},
    }
    exchange["request"]["json"] = {"email": EMAIL, "password": base64.b64encode(PASSWORD.encode()).decode(), "remember_me": True}
    client, _replay = client_for([exchange], "1.16.1", email=EMAIL, password=PASSWORD)
    client.login()
    assert client._headers is not None
    assert client._headers["X-CSRF-Token"] == "value-of-__Host-csrf_token"


@pytest.mark.parametrize("name", ["0.6.13-login", "0.15.8-login", "1.7.2-login", "1.9.2-login", "1.16.1-login"])
def test_refused_login_is_never_repeated_and_says_what_to_do(name: str) -> None:
    exchanges = [e for e in load(name) if e["response"]["status"] in (400, 401) and (e["request"].get("json") or {}).get("email") == EMAIL]
    refused = next(e for e in exchanges if str(e["note"]).startswith("wrong"))
    wrong = {**refused, "request": {**refused["request"], "json": {"email": EMAIL, "password": PASSWORD, "remember_me": True}}}
    if name.startswith("1.16.1"):
        wrong["request"]["json"]["password"] = base64.b64encode(PASSWORD.encode()).decode()
    client, replay = client_for([wrong], name.split("-", 1)[0], email=EMAIL, password=PASSWORD)
    with pytest.raises(DifyError, match="reset-password"):
        client.call("GET", "/account/profile")
    with pytest.raises(DifyUsageError, match="not repeated"):
        client.call("GET", "/account/profile")
    assert len(replay.sent) == 1
    assert PASSWORD not in replay.sent[0][1]


@pytest.mark.parametrize("name", ["0.15.8-login-lockout", "1.16.1-login-lockout"])
def test_lockout_says_how_to_lift_it(name: str) -> None:
    exchange = load(name)[-1]
    body = exchange["request"]["json"]
    version = name.split("-", 1)[0]
    password = base64.b64decode(body["password"]).decode() if version == "1.16.1" else body["password"]
    exchange["request"]["json"] = {"email": body["email"], "password": body["password"], "remember_me": True}
    client, _replay = client_for([exchange], version, email=body["email"], password=password)
    with pytest.raises(DifyError, match="login_error_rate_limit"):
        client.login()


def test_admin_key_finds_the_workspace_and_sends_no_cookies() -> None:
    client, replay = client_for(load("1.16.1-admin-api-key"), "1.16.1", admin_key="k")
    for exchange in replay.left:
        exchange["request"]["path"] = (
            exchange["request"]["path"].replace("/all-workspaces", "/all-workspaces?page=1&limit=100").replace("?page=1&limit=100?", "?")
        )
        if exchange["request"]["path"].count("?") > 1:
            exchange["request"]["path"] = "/console/api/all-workspaces?page=1&limit=100"
    replay.left = [e for e in replay.left if e["response"]["status"] != 401]
    assert client.models(PROVIDER)[0]["model"] == "qwen3-chat"
    assert client.workspace_id == "2c1f2286-a62d-4126-8a56-9ff13a6059ad"
    assert replay.sent[-1][2]["X-WORKSPACE-ID"] == client.workspace_id
    assert all("Cookie" not in headers for _method, _path, headers, _body in replay.sent)


def test_admin_key_is_not_tried_where_it_is_broken() -> None:
    client, replay = client_for([], "1.9.2", admin_key="k")
    with pytest.raises(DifyUsageError, match="does not honour ADMIN_API_KEY"):
        client.call("GET", "/apps")
    assert replay.sent == []


def test_init_and_setup_share_one_session() -> None:
    exchanges = [
        e for e in load("1.16.1-init-password") if e["note"] in ("right", "setup in the init session") or e["response"].get("json") == {"status": "not_started"}
    ]
    client, replay = client_for(exchanges, "1.16.1")
    make_administrator(client, EMAIL, "Admin", PASSWORD, None, "initpassword")
    assert [(method, path) for method, path, _headers, _body in replay.sent] == [
        ("GET", "/console/api/init"),
        ("POST", "/console/api/init"),
        ("POST", "/console/api/setup"),
    ]
    assert replay.sent[2][2]["Cookie"] == "session=value-of-session"


def test_setup_finished_by_someone_else_counts_as_done() -> None:
    exchanges = [e for e in load("1.16.1-setup") if e["note"] in ("setup again", "after setup")]
    client, _replay = client_for(exchanges, "1.16.1")
    make_administrator(client, EMAIL, "Admin", PASSWORD, None, None)


def test_a_daemon_that_is_down_is_waited_for() -> None:
    exchanges = load("1.16.1-plugin-daemon-down")
    client, replay = client_for(exchanges, "1.16.1")
    client._headers = {}
    assert client.workspace("GET", "/plugin/list")["plugins"][0]["plugin_id"] == "langgenius/xinference"
    assert len(replay.sent) == 2


def down_until(seconds: float) -> tuple[DifyClient, list[float]]:
    """A client whose plugin daemon is down for that long, and what it slept; nobody waits for real."""
    pauses: list[float] = []

    def transport(method: str, url: str, data: bytes | None, headers: dict[str, str], timeout: float) -> tuple[int, list[tuple[str, str]], bytes]:
        if sum(pauses) < seconds:
            return 400, [("X-Version", "1.16.1")], b'{"code": "invalid_param", "message": "Failed to request plugin daemon, url: plugin/x", "status": 400}'
        return 200, [("X-Version", "1.16.1")], b'{"data": []}'

    client = DifyClient(JsonClient("http://replay", transport), admin_key="k", workspace_id="w", sleep=pauses.append)
    return client, pauses


def test_a_daemon_down_for_a_minute_is_waited_for() -> None:
    client, pauses = down_until(60)
    assert client.models(PROVIDER) == []
    assert 60 <= sum(pauses) <= 70
    assert len(pauses) < 15


def test_a_daemon_that_stays_away_holds_up_the_run_once() -> None:
    client, pauses = down_until(10_000)
    with pytest.raises(DifyError, match="docker compose logs --tail 50 plugin_daemon"):
        client.models(PROVIDER)
    assert 85 <= sum(pauses) <= 100
    waited = len(pauses)
    with pytest.raises(DifyError):
        client.models(PROVIDER)
    assert len(pauses) == waited, "the next model is not waited for again"


def test_key_sent_before_the_version_was_known_gives_way_to_a_login() -> None:
    """1.9.2 does not honour the key (recorded); its answer tells the version, and the login follows."""
    exchanges = [e for e in load("1.9.2-login") if e["response"]["status"] == 200]
    refused = load("1.9.2-admin-api-key")[1]
    refused["request"]["path"] = "/console/api/account/profile"
    there = {"workspaces": [{"id": "w", "name": "W", "current": True}]}
    exchanges.append({"request": {"method": "GET", "path": "/console/api/workspaces"}, "response": {"status": 200, "json": there}})
    client, replay = client_for([refused, *exchanges], "1.9.2", admin_key="k", workspace_id="w", email=EMAIL, password=PASSWORD)
    client.version = None
    assert client.call("GET", "/account/profile")["email"] == EMAIL
    assert [path.rsplit("/", 1)[1] for _method, path, _headers, _body in replay.sent] == ["profile", "login", "workspaces", "profile"]
    assert "Authorization" not in replay.sent[3][2]


@pytest.mark.parametrize("name", ["0.15.8-login", "1.7.2-login", "1.9.2-login", "1.16.1-login"])
def test_session_is_renewed_as_recorded(name: str) -> None:
    exchanges = load(name)
    renewal = next(e for e in exchanges if e["request"]["path"].endswith("/refresh-token") and e["response"]["status"] == 200)
    client, replay = client_for([renewal], name.split("-", 1)[0], email=EMAIL, password=PASSWORD)
    client._headers, client._refresh_token = {"Authorization": "Bearer old"}, "<refresh_token>"
    replay.check_body = False
    assert client._renew()
    assert client._headers != {"Authorization": "Bearer old"}


def test_plugin_is_installed_and_its_task_polled_to_the_end() -> None:
    exchanges = load("1.16.1-plugin-install-offline-pkg")
    client, replay = client_for(exchanges, "1.16.1")
    client._headers = {}
    plugins = Plugins(client, sleep=lambda seconds: None)
    replay.left = [e for e in replay.left if e["response"]["status"] != 400]
    identifier = plugins.upload("xinference.difypkg", b"zip")
    assert (identifier.plugin_id, identifier.version) == ("langgenius/xinference", "0.0.14")
    plugins.install(identifier, "package")
    states = [path for _method, path, _headers, _body in replay.sent if "/plugin/tasks/" in path]
    assert len(states) == 3
    assert (plugins.installed("langgenius/xinference") or {})["version"] == "0.0.14"


def test_install_over_another_version_is_told_by_comparing() -> None:
    exchanges = load("1.16.1-plugin-install-offline-pkg")
    start = next(i for i, e in enumerate(exchanges) if str(e["note"]).startswith("install newer version over older"))
    client, _replay = client_for(exchanges[start:], "1.16.1")
    client._headers = {}
    plugins = Plugins(client, sleep=lambda seconds: None)
    new = exchanges[start]["request"]["json"]["plugin_unique_identifiers"][0]
    plugins.install(Identifier.parse(new), "package")  # Dify says success
    assert (plugins.installed("langgenius/xinference") or {})["version"] == "0.0.14"


def test_failed_installation_tells_the_daemons_reason() -> None:
    exchanges = load("1.16.1-plugin-install-failure")
    start = next(e for e in exchanges if (e["response"].get("json") or {}).get("task_id"))
    client, _replay = client_for(exchanges, "1.16.1")
    client._headers = {}
    with pytest.raises(PluginError, match="could not install it: "):
        Plugins(client, sleep=lambda seconds: None)._finish(start["response"]["json"])
