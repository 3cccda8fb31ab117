# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sends the requests of a recording to the stand-in of Dify and says in what its answers differ from the recorded ones.

Ids, hashes, tokens and ciphertexts may differ but have to be used consistently; times only have to look alike.
"""

from __future__ import annotations

import base64
import http.client
import json
import pathlib
import re
import socket
from typing import Any

from tests.fleet.standins.dify import build, testing

RECORDINGS = pathlib.Path(__file__).parent / "recordings" / "dify"
ADMIN_PASSWORD = "Sup3r-Pass!"
INIT_PASSWORD = "init-pass-1"
SHORT_TIMEOUT = 0.2
PLACEHOLDERS = {
    "<admin-password>": ADMIN_PASSWORD,
    "<base64(admin-password)>": base64.b64encode(ADMIN_PASSWORD.encode()).decode(),
    "<INIT_PASSWORD>": INIT_PASSWORD,
    "<xinference-api-key>": testing.FakeXinference.KEY,
    "<wrong-api-key>": "wrong",
}
# Bearer tokens are redacted in the recordings; the notes say what they were. Else: the admin key on 1.9.2 and later and in
# admin-api-key, the session's token before.
BEARERS = {
    ("1.16.1-login", 11): "access",
    ("1.16.1-login", 12): "access",
    ("1.16.1-login", 14): "garbage",
    ("1.16.1-admin-api-key", 2): "wrong",
    ("1.7.2-login", 9): "garbage",
    ("0.15.8-login", 9): "garbage",
    ("0.6.13-login", 7): "garbage",
}
# Requests that show the refresh token that was used up before.
USED_UP = {("1.7.2-login", 4), ("0.15.8-login", 4)}
# Answers of which only the outline is compared, with the reason.
OUTLINE: dict[tuple[str, int], str] = {
    ("1.16.1-plugin-upgrade-secret-url", 0): "another version had been installed meanwhile",
    ("1.16.1-plugin-upgrade-secret-url", 18): "models that unrecorded steps had made",
}

_TIMES = {"created_at", "updated_at", "setup_at", "last_login_at", "last_opened_at", "pid"}
_TOKEN = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{64}\b")
_CIPHERTEXT = "SFlCUklEO"
_MADE_UP = ((re.compile(r"req_id: \w+"), "req_id: *"), (re.compile(r"object at 0x[0-9a-f]+"), "object at *"))
# What the placeholders of an answer stand for.
_SHAPES = {"<jwt>": re.compile(r"[\w-]+\.[\w-]+\.[\w-]+"), "<refresh_token>": re.compile(r"[0-9a-f]{64,}")}


def load(name: str) -> list[dict[str, Any]]:
    return json.loads((RECORDINGS / f"{name}.json").read_text(encoding="utf-8"))


def names() -> list[str]:
    return sorted(path.stem for path in RECORDINGS.glob("*.json"))


def port_like(ending: str) -> int:
    """A free port of five digits with this ending: the mask of an address shows its last characters."""
    for port in range(24000 + int(ending), 60000, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port ends with {ending}")


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
        if recorded in _SHAPES:
            return bool(_SHAPES[recorded].fullmatch(ours))
        if recorded.startswith(_CIPHERTEXT) and ours.startswith(_CIPHERTEXT):
            return self.known.setdefault(recorded, ours) == ours
        for made_up, mark in _MADE_UP:
            recorded, ours = made_up.sub(mark, recorded), made_up.sub(mark, ours)
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
    """Sends recorded requests as a client with a cookie jar, and with the tokens of the last sign-in, would."""

    def __init__(self, world: testing.World, packages: dict[str, bytes]) -> None:
        self.world = world
        self.packages = packages
        self.jar: dict[str, str] = {}
        self.access = ""
        self.refresh = ["", ""]
        self.names = Names({"29997": str(world.xinference_port), "25003": str(world.marketplace_port)})

    def sign_in_as_owner(self) -> None:
        """A sign-in that is not part of any recording."""
        owner = self.world.database.query("SELECT account_id FROM tenant_account_joins WHERE role = 'owner'")[0]["account_id"]
        self.jar = dict(self.world.api.accounts.tokens(owner))
        self.access = self.jar["access_token"]

    def exchange(self, name: str, number: int, recorded: dict[str, Any]) -> list[str]:
        request, wanted = recorded["request"], recorded["response"]
        self.names.known["<refresh_token>"] = self.refresh[0 if (name, number) in USED_UP else 1]
        headers, body = self._headers(name, number, request), None
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
            key, value = cookie.split(";", 1)[0].split("=", 1)
            self.jar[key] = value
        del self.names.known["<refresh_token>"]
        return self._compare(name, number, wanted, response, text, set_cookies)

    def _package(self, wanted: dict[str, Any]) -> bytes:
        return self.packages[wanted["json"]["manifest"]["version"]] if wanted["status"] == 200 else b"this is no zip file"

    def _headers(self, name: str, number: int, request: dict[str, Any]) -> dict[str, str]:
        headers = {}
        cookies = {key: self.jar[key] for key in request["cookies_sent"] if key in self.jar}
        if name.endswith("admin-api-key") and cookies:
            cookies = {"access_token": "stray"}
        if cookies:
            headers["Cookie"] = "; ".join(f"{key}={value}" for key, value in cookies.items())
        token = "key" if name.endswith("admin-api-key") or self.world.api.generation.session == "cookies" else "access"
        for key, value in request["headers"].items():
            if key == "X-CSRF-Token":
                value = self.jar["csrf_token"]
            elif key == "Authorization":
                kind = BEARERS.get((name, number), token)
                value = f"Bearer {({'access': self.access or self.jar.get('access_token', ''), 'key': testing.ADMIN_KEY}).get(kind, kind)}"
            headers[key] = self.names.translate(value)
        return headers

    def _learn_tokens(self, answer: Any) -> None:
        data = answer.get("data") if isinstance(answer, dict) else None
        if isinstance(data, dict) and "refresh_token" in data:
            self.access = data["access_token"]
            self.refresh = [self.refresh[1], data["refresh_token"]]
        elif isinstance(data, str) and data.count(".") == 2:
            self.access = data

    def _compare(
        self, name: str, number: int, wanted: dict[str, Any], response: http.client.HTTPResponse, text: str, set_cookies: list[str]
    ) -> list[str]:
        found = [] if response.status == wanted["status"] else [f"status: recorded {wanted['status']}, here {response.status} {text[:300]}"]
        for key, value in wanted["headers"].items():
            if response.headers.get(key) != value:
                found.append(f"header {key}: recorded {value!r}, here {response.headers.get(key)!r}")
        shown = [re.sub(r"^(\w+)=[^;]*; (.*)$", r"\1 [\2]", cookie) for cookie in set_cookies]
        dated = re.compile(r"Expires=[^;]+2\d[^;]+")
        if [dated.sub("", item) for item in shown] != [dated.sub("", item) for item in wanted["set_cookie_names"]]:
            found.append(f"cookies: recorded {wanted['set_cookie_names']}, here {shown}")
        if "json" not in wanted:
            return found if wanted["text"] == text else [*found, f"text: recorded {wanted['text']!r}, here {text!r}"]
        recorded = json.loads(json.dumps(wanted["json"]).replace("read timeout=10)", f"read timeout={SHORT_TIMEOUT:g})"))
        try:
            ours = json.loads(text)
        except ValueError:
            return [*found, f"no JSON: {text[:300]!r}"]
        self._learn_tokens(ours)
        if (name, number) in OUTLINE:
            self.names.differences(recorded, ours)  # learns the ids
            return found if outline(recorded) == outline(ours) else [*found, f"outline: recorded {outline(recorded)}, here {outline(ours)}"]
        return found + self.names.differences(recorded, ours)


def bind_packages(names_: Names, packages: dict[str, bytes]) -> None:
    """The recorded hashes of the plugin's versions -> the hashes of our packages."""
    text = "".join(path.read_text(encoding="utf-8") for path in RECORDINGS.glob("*.json"))
    for version, content in packages.items():
        for digest in set(re.findall(rf"langgenius/xinference:{re.escape(version)}@([0-9a-f]{{64}})", text)):
            names_.known[digest] = build.packages.checksum(content)
