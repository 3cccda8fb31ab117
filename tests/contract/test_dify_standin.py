# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stand-in of Dify 1.16.1 against every recorded exchange of the real one.

The scenarios are replayed in the order in which they were recorded, on one stand-in, because later ones stand on what
earlier ones left. Compared are status, whole body, cookies with their attributes, and the recorded headers; ids and
hashes may differ but have to be used consistently, times only have to look alike.
"""

from __future__ import annotations

import base64
import http.client
import json
import pathlib
import re
import threading
from typing import Any

import pytest

from tests.fleet.standins.dify import build, testing
from tests.fleet.standins.dify.dify_standin import security

RECORDINGS = pathlib.Path(__file__).parent / "recordings" / "dify"
# Order of recording, told by the times and ids in the files.
STORY = (
    "setup",
    "login",
    "plugin-install-offline-pkg",
    "plugin-install-marketplace",
    "provider-list",
    "model-add",
    "model-read",
    "model-update",
    "model-credentials-multi",
    "model-delete",
    "model-enable-disable",
    "default-model",
    "old-style-upsert",
    "slow-xinference",
    "admin-api-key",
    "roles",
    "login-lockout",
    "plugin-uninstall-reinstall",
    "plugin-install-failure",
    "plugin-daemon-down",
    "plugin-upgrade-secret-url",
)
ALONE = ("init-password",)
SHORT_TIMEOUT = 0.2
ADMIN_PASSWORD = "Sup3r-Pass!"
INIT_PASSWORD = "init-pass-1"
PLACEHOLDERS = {
    "<admin-password>": ADMIN_PASSWORD,
    "<base64(admin-password)>": base64.b64encode(ADMIN_PASSWORD.encode()).decode(),
    "<INIT_PASSWORD>": INIT_PASSWORD,
    "<xinference-api-key>": testing.FakeXinference.KEY,
    "<wrong-api-key>": "wrong",
}
# Bearer tokens are redacted in the recordings; the notes say what they were.
BEARERS = {("login", 11): "access", ("login", 12): "access", ("login", 14): "garbage", ("admin-api-key", 2): "wrong"}
# Answers of which only the outline is compared: what they list was made by steps that are not recorded.
OUTLINE = {
    ("plugin-upgrade-secret-url", 0): "another version had been installed meanwhile",
    ("plugin-upgrade-secret-url", 10): "the mask of an address depends on its port",
    ("plugin-upgrade-secret-url", 17): "the ciphertext is the real one's",
    ("plugin-upgrade-secret-url", 18): "models that unrecorded steps had made",
}
# Exchanges not replayed, with the reason.
SKIPPED: dict[tuple[str, int], str] = {}

_TIMES = {"created_at", "updated_at", "setup_at", "last_login_at", "last_opened_at", "pid"}
_TOKEN = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{64}\b")


def load(scenario: str) -> list[dict[str, Any]]:
    return json.loads((RECORDINGS / f"1.16.1-{scenario}.json").read_text(encoding="utf-8"))


class Names:
    """What stands here for the recorded ids, hashes and ports."""

    def __init__(self, known: dict[str, str]) -> None:
        self.known = known

    def translate(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self.translate(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.translate(item) for item in value]
        if not isinstance(value, str):
            return value
        if value in PLACEHOLDERS:
            return PLACEHOLDERS[value]
        for recorded, ours in self.known.items():
            value = value.replace(recorded, ours)
        return value

    def same_text(self, recorded: str, ours: str) -> bool:
        """Equal but for new ids, which are learnt."""
        recorded = re.sub(r"req_id: \w+", "req_id: *", recorded)
        ours = re.sub(r"req_id: \w+", "req_id: *", ours)
        if "<invite-token>" in recorded:
            self.known["<invite-token>"] = _TOKEN.findall(ours)[-1]
        for old, new in zip(_TOKEN.findall(recorded), _TOKEN.findall(ours), strict=False):
            self.known.setdefault(old, new)
        return self.translate(recorded) == ours

    def differences(self, recorded: Any, ours: Any, where: str = "", key: str = "") -> list[str]:
        if key in _TIMES and type(recorded) is type(ours):
            alike = not isinstance(recorded, str) or re.sub(r"\d", "0", recorded) == re.sub(r"\d", "0", ours)
            return [] if alike else [f"{where}: {recorded!r} looks other than {ours!r}"]
        if isinstance(recorded, dict) and isinstance(ours, dict):
            found = [f"{where}: lacks {name}" for name in recorded if name not in ours]
            found += [f"{where}: has {name} too" for name in ours if name not in recorded]
            for name in recorded.keys() & ours.keys():
                found += self.differences(recorded[name], ours[name], f"{where}.{name}", name)
            return found
        if isinstance(recorded, list) and isinstance(ours, list):
            found = [] if len(recorded) == len(ours) else [f"{where}: {len(recorded)} items recorded, {len(ours)} here"]
            for number, (left, right) in enumerate(zip(recorded, ours, strict=False)):
                found += self.differences(left, right, f"{where}[{number}]")
            return found
        if isinstance(recorded, str) and isinstance(ours, str):
            return [] if self.same_text(recorded, ours) else [f"{where}: recorded {self.translate(recorded)!r}, here {ours!r}"]
        return [] if type(recorded) is type(ours) and recorded == ours else [f"{where}: recorded {recorded!r}, here {ours!r}"]


def outline(value: Any) -> Any:
    """The shape: keys and types, lists by their first element."""
    if isinstance(value, dict):
        return {name: outline(item) for name, item in value.items() if name not in ("features", "meta")}
    if isinstance(value, list):
        return [outline(value[0])] if value else []
    return type(value).__name__


class Replay:
    """Sends recorded requests as a client with a cookie jar would."""

    def __init__(self, world: testing.World, packages: dict[str, bytes]) -> None:
        self.world = world
        self.packages = packages
        self.jar: dict[str, str] = {}
        self.names = Names({"29997": str(world.xinference_port), "25003": str(world.marketplace_port)})

    def exchange(self, scenario: str, number: int, recorded: dict[str, Any]) -> list[str]:
        request, wanted = recorded["request"], recorded["response"]
        headers, body = self._headers(scenario, number, request), None
        if "multipart" in request:
            mark = "mark"
            content = self._package(wanted)
            body = f'--{mark}\r\nContent-Disposition: form-data; name="pkg"; filename="x.difypkg"\r\n\r\n'.encode() + content + f"\r\n--{mark}--\r\n".encode()
            headers["Content-Type"] = f"multipart/form-data; boundary={mark}"
        elif request["json"] is not None:
            body = json.dumps(self.names.translate(request["json"])).encode()
            headers["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection("127.0.0.1", self.world.api_port, timeout=60)
        connection.request(request["method"], self.names.translate(request["path"]), body, headers)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        set_cookies = response.headers.get_all("Set-Cookie") or []
        for cookie in set_cookies:
            name, value = cookie.split(";", 1)[0].split("=", 1)
            self.jar[name] = value
        return self._compare(scenario, number, wanted, response, text, set_cookies)

    def _package(self, wanted: dict[str, Any]) -> bytes:
        return self.packages[wanted["json"]["manifest"]["version"]] if wanted["status"] == 200 else b"this is no zip file"

    def _headers(self, scenario: str, number: int, request: dict[str, Any]) -> dict[str, str]:
        headers = {}
        cookies = {name: self.jar[name] for name in request["cookies_sent"] if name in self.jar}
        if scenario == "admin-api-key" and cookies:
            cookies = {"access_token": "stray"}
        if cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        for name, value in request["headers"].items():
            if name == "X-CSRF-Token":
                value = self.jar["csrf_token"]
            elif name == "Authorization":
                kind = BEARERS.get((scenario, number), "key")
                value = {"access": self.jar.get("access_token", ""), "key": testing.ADMIN_KEY}.get(kind, kind)
                value = f"Bearer {value}"
            headers[name] = self.names.translate(value)
        return headers

    def _compare(
        self, scenario: str, number: int, wanted: dict[str, Any], response: http.client.HTTPResponse, text: str, set_cookies: list[str]
    ) -> list[str]:
        found = [] if response.status == wanted["status"] else [f"status: recorded {wanted['status']}, here {response.status} {text[:300]}"]
        for name, value in wanted["headers"].items():
            if response.headers.get(name) != value:
                found.append(f"header {name}: recorded {value!r}, here {response.headers.get(name)!r}")
        shown = [re.sub(r"^(\w+)=[^;]*; (.*)$", r"\1 [\2]", cookie) for cookie in set_cookies]
        dated = re.compile(r"Expires=[^;]+")
        if [dated.sub("", item) for item in shown] != [dated.sub("", item) for item in wanted["set_cookie_names"]]:
            found.append(f"cookies: recorded {wanted['set_cookie_names']}, here {shown}")
        if "json" not in wanted:
            return found if wanted["text"] == text else [*found, f"text: recorded {wanted['text']!r}, here {text!r}"]
        recorded = json.loads(json.dumps(wanted["json"]).replace("read timeout=10)", f"read timeout={SHORT_TIMEOUT:g})"))
        ours = json.loads(text)
        if (scenario, number) in OUTLINE:
            self.names.differences(recorded, ours)  # learns the ids
            return found if outline(recorded) == outline(ours) else [*found, f"outline: recorded {outline(recorded)}, here {outline(ours)}"]
        return found + self.names.differences(recorded, ours)


@pytest.fixture(scope="module")
def packages() -> dict[str, bytes]:
    return {version: build.plugin_package(version, secret_url=version == "0.0.4") for version in ("0.0.4", "0.0.14", "0.0.15", "0.0.16")}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, packages: dict[str, bytes]) -> Any:
    """The replay of all scenarios but those that need a world of their own; scenario -> findings."""
    patch = pytest.MonkeyPatch()
    # The recorded refresh fell into the second of the sign-in, which made the same CSRF token again.
    patch.setattr(security, "now", lambda: 1_900_000_000.0)
    address = "http://127.0.0.1:25001"
    world = testing.World(
        tmp_path_factory.mktemp("dify"), packages["0.0.16"], console_api_url=address, console_web_url=address, service_api_url=address
    )
    world.daemon.plugin.timeout = SHORT_TIMEOUT
    world.xinference.slow_seconds = 2 * SHORT_TIMEOUT
    replay = Replay(world, packages)
    _bind_packages(replay.names, packages)
    found: dict[str, list[str]] = {}
    administrator: dict[str, str] = {}
    try:
        for scenario in STORY:
            found[scenario] = []
            if scenario == "plugin-uninstall-reinstall":
                replay.jar = administrator
            for number, recorded in enumerate(load(scenario)):
                if (scenario, number) == ("roles", 4):
                    administrator = dict(replay.jar)
                if (scenario, number) not in SKIPPED:
                    _before(world, scenario, number, recorded)
                    differences = replay.exchange(scenario, number, recorded)
                    found[scenario] += [f"#{number} {recorded['request']['method']} {recorded['request']['path']}: {item}" for item in differences]
        yield world, found
    finally:
        world.close()
        patch.undo()


def _bind_packages(names: Names, packages: dict[str, bytes]) -> None:
    """The recorded hashes of the plugin's versions -> the hashes of our packages."""
    text = "".join((RECORDINGS / f"1.16.1-{scenario}.json").read_text(encoding="utf-8") for scenario in STORY)
    for version, content in packages.items():
        recorded = set(re.findall(rf"langgenius/xinference:{re.escape(version)}@([0-9a-f]{{64}})", text))
        for digest in recorded:
            names.known[digest] = build.packages.checksum(content)


def _before(world: testing.World, scenario: str, number: int, recorded: dict[str, Any]) -> None:
    """What happened around the recorded exchange besides the exchange itself."""
    answer = recorded["response"].get("json")
    task = answer.get("task") if isinstance(answer, dict) else None
    if isinstance(task, dict) and task["status"] != "running":
        world.finish_installations()
    elif "/install/" in recorded["request"]["path"] or "/upgrade/" in recorded["request"]["path"]:
        world.daemon.gate.clear()
    if (scenario, number) == ("roles", 4):
        # The recorder set the editor's password by another way than the activation that had failed.
        world.api.accounts.set_password("editor@example.com", "Editor12345")
    elif (scenario, number) == ("plugin-install-failure", 2):
        text = load(scenario)[3]["response"]["json"]["task"]["plugins"][0]["message"]
        pathlib.Path(world.daemon_settings.plugin_storage, "standin-fail-next-install").write_text(text, encoding="utf-8")
    elif (scenario, number) == ("plugin-daemon-down", 0):
        world.shut("daemon")
        world.shut("marketplace")
    elif (scenario, number) == ("plugin-daemon-down", 6):
        world.open("daemon", world.daemon, world.daemon_port)
    elif (scenario, number) == ("plugin-upgrade-secret-url", 17):
        for row in world.api.db.query("SELECT id FROM provider_model_credentials"):
            world.cache.delete(f"provider_model_credentials:id:{row['id']}")


@pytest.mark.parametrize("scenario", STORY)
def test_behaves_as_recorded(story: Any, scenario: str) -> None:
    _world, found = story
    assert not found[scenario], "\n".join(found[scenario])


def test_init_password_behaves_as_recorded(tmp_path: pathlib.Path, packages: dict[str, bytes]) -> None:
    world = testing.World(tmp_path, packages["0.0.16"], init_password=INIT_PASSWORD)
    replay = Replay(world, packages)
    found = []
    try:
        for number, recorded in enumerate(load("init-password")):
            if recorded["request"]["path"].endswith("/init") and recorded["request"]["cookies_sent"] and "session" not in replay.jar:
                replay.jar["session"] = ""
            found += [f"#{number}: {item}" for item in replay.exchange("init-password", number, recorded)]
    finally:
        world.close()
    assert not found, "\n".join(found)


def test_every_recording_is_replayed() -> None:
    names = {path.name.removeprefix("1.16.1-").removesuffix(".json") for path in RECORDINGS.glob("1.16.1-*.json")}
    assert names == set(STORY) | set(ALONE)
    assert all(len(load(scenario)) > number for scenario, number in [*OUTLINE, *SKIPPED])


def test_a_hung_xinference_is_asked_four_times(story: Any) -> None:
    world, _found = story
    asked = [path for _method, path, _body in world.xinference.calls if path.endswith("/slow-chat")]
    assert len(asked) == 4


def test_what_it_does_not_know_is_501(story: Any) -> None:
    world, _found = story
    for method, path in (("GET", "/console/api/no-such-thing"), ("PUT", "/console/api/setup"), ("POST", "/v1/workflows/run")):
        connection = http.client.HTTPConnection("127.0.0.1", world.api_port, timeout=10)
        connection.request(method, path)
        response = connection.getresponse()
        assert response.status == 501
        assert path in json.loads(response.read())["message"]
        connection.close()


def test_no_thread_is_left(story: Any) -> None:
    names = [thread.name for thread in threading.enumerate() if not thread.daemon]
    assert names == ["MainThread"]
