# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""One REST client for Xinference 0.13 … 4.x, told apart by what the server can do, not by its version.

Facts behind it were recorded against real servers 0.13.3, 3.2.1 and 4.1.0 (see tests/contract/recordings/xinference):

* Launching is not idempotent, and a launch whose client gave up goes on: a launch is sent once, then looked at.
* "Model not found" with a longer uid than the one asked for means that the name is taken: loading, recovering, ending.
* Ten wrong credentials from one address ban it for an hour: a 401 is never asked again, and a login happens once.
* Errors are told apart only by their text, which starts with a varying address: it is searched, never anchored.
"""

from __future__ import annotations

import base64
import difflib
import json
import re
import threading
import time
import typing as t
from urllib.parse import quote

from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import JsonClient, Response, ServerUnreachable, shorten

READY = "ready"
LOADING = "loading"
ABSENT = "absent"
FAILED = "failed"

# A token lives 30 minutes (XINFERENCE_ACCESS_TOKEN_EXPIRE_MINUTES) unless it says otherwise; it is renewed after two
# thirds of that, never after a 401.
TOKEN_SECONDS = 30 * 60
# How long an address is banned, unless XINFERENCE_RATE_LIMIT_IP_* say otherwise: the server does not tell.
BAN_SECONDS = 3600

_ADDRESS = re.compile(r"\[address=[^\]]*\]\s*")
_FLOOD = re.compile(r"dict_keys\(\[(.*?)(?:\]\)|$)", re.DOTALL)
_WANTED_NAME = re.compile(r"[Mm]odel ([^\s,]+)")
_NOT_FOUND = re.compile(r"not found in the model list, uid: (\S+)")


class XinferenceError(Exception):
    """The server said no. ``status`` is the HTTP status (0: none), ``detail`` the server's own words, trimmed."""

    def __init__(self, message: str, status: int = 0, detail: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.detail = detail


class LoginFailed(XinferenceError):
    """No credentials, wrong ones, or a banned address. Never ask again with the same ones."""


def words_of(response: Response, limit: int = 400) -> str:
    """The server's message: without the address of the process that said it, on one line, trimmed."""
    body = response.json
    text = body.get("detail") if isinstance(body, dict) else None
    if not isinstance(text, str):
        text = json.dumps(text) if text is not None else response.text
    return trimmed(text, limit)


def trimmed(text: str, limit: int = 400) -> str:
    """A message of the server for a reader: the names of all its models become the nearest ones."""
    text = _ADDRESS.sub("", text)
    wanted = _WANTED_NAME.search(text)

    def nearest(flood: re.Match[str]) -> str:
        names = re.findall(r"'([^']*)'", flood.group(1))
        near = difflib.get_close_matches(wanted.group(1), names, 3, 0.6) if wanted else []
        return f"{len(names)} others" + (f", the nearest are {', '.join(near)}" if near else "")

    return shorten(_FLOOD.sub(nearest, text), limit)


def seconds_of_token(token: str) -> float:
    """How long a token lives, from its own claims (``exp`` and ``iat``); the server's default where it does not say."""
    try:
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "==="))
        lifetime = float(claims["exp"]) - float(claims.get("iat") or time.time())
    except (IndexError, KeyError, TypeError, ValueError):
        return TOKEN_SECONDS
    return lifetime if lifetime > 0 else TOKEN_SECONDS


def state_of(uid: str, status: int, detail: str) -> str:
    """What ``GET /v1/models/UID`` says about a uid; raises XinferenceError for an answer that says nothing about it.

    200 is ready. 503 is loading. 400 is absent only when the text names exactly this uid: a replica's uid
    (``U-rep0``, before 3.2 ``U-0``, before 1.0 ``U-1-0``) means the name is taken. 500 comes from a replica that
    just died and is being made again.
    """
    if status == 200:
        return READY
    if status in (500, 503):
        return LOADING
    found = _NOT_FOUND.search(detail)
    if status == 400 and found:
        name = found.group(1)
        return ABSENT if name.rstrip(".,") == uid.rstrip(".,") else LOADING
    raise XinferenceError(f"Xinference gave no usable answer about {uid!r}: HTTP {status}: {detail}", status, detail)


class Look(t.NamedTuple):
    """One look at one uid: ``state`` (READY, LOADING, ABSENT, FAILED), what the server shows, and its words."""

    state: str
    record: t.Dict[str, t.Any]
    detail: str


class Xinference:
    """A server, and at most one login.

    :param http: base URL, transport and timeout.
    :param username: account that may launch; from 3.0 on an API key can only look and infer.
    :param api_key: used as it is when no account is given (before 3.0 a key may launch).
    """

    def __init__(
        self,
        http: JsonClient,
        username: str | None = None,
        password: str | None = None,
        api_key: str | None = None,
        clock: t.Callable[[], float] = time.monotonic,
    ) -> None:
        self.http = http
        self.username = username
        self.password = password
        self.api_key = api_key
        self._clock = clock
        self._token: str | None = None
        self._token_until = 0.0
        self._open = False  # the server asks for no login
        self._lock = threading.Lock()
        self.requests = 0

    # ---- speaking -------------------------------------------------------------------------------------------

    def _send(self, method: str, path: str, body: t.Any = None, token: str | None = None, timeout: float | None = None) -> Response:
        self.requests += 1
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self.http.request(method, path, json=body, headers=headers, timeout=timeout)

    def auth_required(self) -> bool:
        """Whether the server asks for a login (the route is open to everybody on every version that has accounts)."""
        answer = self._send("GET", "/v1/cluster/auth")
        return bool(answer.ok and isinstance(answer.json, dict) and answer.json.get("auth"))

    def login(self) -> str | None:
        """The bearer token to send, logging in when there is none or it grows old; ``None`` when the server wants none."""
        with self._lock:
            if self._open:
                return None
            if not self.username:
                return self.api_key
            if self._token and self._clock() < self._token_until:
                return self._token
            answer = self._send("POST", "/token", {"username": self.username, "password": self.password})
            if answer.ok and isinstance(answer.json, dict) and answer.json.get("access_token"):
                self._token = str(answer.json["access_token"])
                self._token_until = self._clock() + seconds_of_token(self._token) * 2 / 3
                return self._token
            if answer.status in (401, 403, 429):
                raise self._login_failed(answer)
            # No such route: a server that runs without accounts. One that answers oddly is asked.
            if answer.status not in (404, 405) and self.auth_required():
                raise LoginFailed(
                    f"Xinference at {self.http.base_url} did not accept a login at /token: HTTP {answer.status}: {words_of(answer)}",
                    answer.status,
                    words_of(answer),
                )
            self._open = True
            return None

    def _login_failed(self, answer: Response) -> LoginFailed:
        words = words_of(answer)
        if answer.status == 429:
            wait = answer.header("Retry-After")
            seconds = int(wait) if wait and wait.isdigit() else BAN_SECONDS
            hint = (
                f"this address sent ten wrong credentials within five minutes and is banned for {seconds} s, for good credentials too. "
                "Find what sends them (an old API key, a wrong password), wait that long or restart the server, then run again"
            )
        elif answer.url.endswith("/token"):
            hint = f"check the password of {self.username!r}; it is not tried again, because ten wrong ones ban this address for an hour"
        elif not self.username and not self.api_key:
            hint = "this server asks for a login: give username and password, or credentials_file"
        elif not self.username and answer.status == 401:
            hint = "the API key or token is wrong, revoked or expired (a token lives 30 minutes); it is not tried again: ten wrong ones ban this address"
        elif not self.username:
            hint = "from Xinference 3.0 on an API key can only look and infer: give username and password, or credentials_file"
        elif answer.status == 401:
            hint = "the server no longer accepts the token of its own login (did it restart?): run again"
        else:
            hint = f"the account {self.username!r} may not do this"
        return LoginFailed(f"Xinference refused {answer.method} {answer.url}: HTTP {answer.status}: {words}: {hint}", answer.status, words)

    def call(self, method: str, path: str, body: t.Any = None, timeout: float | None = None) -> Response:
        """One request with the login. Raises LoginFailed on 401, 403 and 429; any other answer is returned."""
        answer = self._send(method, path, body, self.login(), timeout)
        if answer.status in (401, 403, 429):
            raise self._login_failed(answer)
        return answer

    def fetch(self, path: str, default: t.Any = None) -> t.Any:
        """The JSON of a GET; ``default`` where an older server lacks the route (404)."""
        answer = self.call("GET", path)
        if answer.ok:
            return answer.json
        if answer.status == 404:
            return default
        raise self.error("GET " + path, answer)

    def error(self, what: str, answer: Response) -> XinferenceError:
        words = words_of(answer)
        return XinferenceError(f"{what}: HTTP {answer.status}: {words}", answer.status, words)

    # ---- looking --------------------------------------------------------------------------------------------

    def models(self) -> dict[str, dict[str, t.Any]]:
        """uid -> what the list shows. Models that load are not in it, and it may be 3 s old."""
        body = self.fetch("/v1/models")
        if not isinstance(body, dict) or not isinstance(body.get("data"), list):
            raise XinferenceError(f"GET {self.http.base_url}/v1/models did not answer with a list of models: is this Xinference?")
        return {str(entry["id"]): entry for entry in body["data"] if isinstance(entry, dict) and entry.get("id")}

    def look(self, uid: str) -> Look:
        """The truth about one uid, fresher than the list."""
        answer = self.call("GET", "/v1/models/" + quote(uid, safe=""))
        detail = "" if answer.ok else words_of(answer)
        record = answer.json if answer.ok and isinstance(answer.json, dict) else {}
        return Look(state_of(uid, answer.status, detail), record, detail)

    def instances(self) -> dict[str, dict[str, t.Any]]:
        """uid -> its instance entry (``status``: CREATING, READY, ERROR …), kept in the server's memory only."""
        body = self.fetch("/v1/models/instances", [])
        return {str(entry["model_uid"]): entry for entry in body or [] if isinstance(entry, dict) and entry.get("model_uid")}

    def replicas(self, uid: str) -> list[dict[str, t.Any]] | None:
        """One entry per replica (``status``, ``error_message``, ``worker_address``); ``None`` before 1.14."""
        body = self.fetch(f"/v1/models/{quote(uid, safe='')}/replicas")
        return body if isinstance(body, list) else None

    def failure_of(self, uid: str) -> str:
        """Why the last launch of a uid failed, in the server's words; empty where it does not keep them."""
        texts = [str(entry["error_message"]) for entry in self.replicas(uid) or [] if entry.get("error_message")]
        return trimmed(texts[0]) if texts else ""

    def progress(self, uid: str) -> dict[str, t.Any]:
        """``stage`` and ``percent`` of a launch that is under way; empty before 1.5, and where nothing is known yet."""
        body = self.fetch(f"/v1/models/{quote(uid, safe='')}/progress")
        if not isinstance(body, dict) or not isinstance(body.get("progress"), (int, float)) or body.get("stage") == "pending":
            return {}
        return {"stage": str(body.get("stage") or "loading"), "percent": round(100 * min(max(float(body["progress"]), 0.0), 1.0))}

    def gpu_count(self) -> int | None:
        """How many GPUs the server has, on all workers; ``None`` when it does not say."""
        answer = self.call("GET", "/v1/cluster/devices")
        return int(answer.json) if answer.ok and isinstance(answer.json, int) else None

    def nodes(self) -> list[dict[str, t.Any]] | None:
        """Supervisor and workers with their GPUs; ``None`` when this login may not see them, or a worker just died."""
        try:
            body = self.fetch("/v1/cluster/info", [])
        except XinferenceError:
            return None
        nodes = [entry for entry in body or [] if isinstance(entry, dict)] if isinstance(body, list) else []
        return [
            {
                "role": str(entry.get("node_type") or "").lower(),
                "address": str(entry.get("ip_address") or ""),
                "gpus": int(entry.get("gpu_count") or 0),
                "gpu_memory_bytes": int(entry.get("gpu_vram_total") or 0),
            }
            for entry in nodes
        ]

    def custom_models(self, model_type: str) -> list[str]:
        """Names of the registrations of one type that are not built in."""
        body = self.fetch(f"/v1/model_registrations/{model_type}", [])
        return sorted(str(entry["model_name"]) for entry in body or [] if isinstance(entry, dict) and entry.get("is_builtin") is False)

    def version(self) -> str:
        """The server's version, or an empty text when this login may not see it."""
        try:
            body = self.fetch("/v1/cluster/version", {})
        except LoginFailed:
            return ""
        return str(body.get("version") or "") if isinstance(body, dict) else ""

    # ---- acting ---------------------------------------------------------------------------------------------

    def launch(self, body: dict[str, t.Any], wait_ready: bool, timeout: float) -> Response | None:
        """Send a launch, once. ``None``: the client gave up, the server goes on; look, never launch again."""
        path = "/v1/models" if wait_ready else "/v1/models?wait_ready=false"
        try:
            return self.call("POST", path, body, timeout=timeout)
        except ServerUnreachable as problem:
            if problem.timed_out:
                return None
            raise

    def terminate(self, uid: str) -> bool:
        """End a running model; ``False`` when it was not running (absent, or still loading)."""
        answer = self.call("DELETE", "/v1/models/" + quote(uid, safe=""))
        if answer.ok:
            return True
        if answer.status == 400:
            return False
        raise self.error(f"ending {uid}", answer)

    def cancel(self, uid: str) -> bool:
        """Stop a launch that is under way (1.5 and newer). Only for a loading model: a ready one would become a ghost."""
        answer = self.call("POST", f"/v1/models/{quote(uid, safe='')}/cancel", timeout=90)
        return answer.ok

    def scale_up(self, uid: str, timeout: float) -> None:
        answer = self.call("POST", f"/v1/models/{quote(uid, safe='')}/replicas", {}, timeout=timeout)
        if not answer.ok:
            raise self.error(f"adding a replica of {uid}", answer)

    def scale_down(self, uid: str, replica_id: int) -> None:
        answer = self.call("DELETE", f"/v1/models/{quote(uid, safe='')}/replicas/{replica_id}")
        if not answer.ok:
            raise self.error(f"removing replica {replica_id} of {uid}", answer)

    # ---- custom models --------------------------------------------------------------------------------------

    def registration(self, model_type: str, name: str) -> dict[str, t.Any] | None:
        """The whole specification of a model name, built-in or custom; ``None`` when there is none."""
        answer = self.call("GET", f"/v1/model_registrations/{model_type}/{quote(name, safe='')}")
        if answer.ok:
            return answer.json if isinstance(answer.json, dict) else None
        if answer.status in (400, 404) and "not found" in words_of(answer).lower():
            return None
        raise self.error(f"reading the registration of {name}", answer)

    def register(self, model_type: str, spec: dict[str, t.Any]) -> None:
        """Register a custom model for good (the server wants its JSON as a string)."""
        answer = self.call("POST", f"/v1/model_registrations/{model_type}", {"model": json.dumps(spec), "persist": True})
        if not answer.ok:
            raise self.error(f"registering {spec.get('model_name')}", answer)

    def unregister(self, model_type: str, name: str) -> None:
        """Take a registration away; the server answers the same for a missing and for a built-in one."""
        answer = self.call("DELETE", f"/v1/model_registrations/{model_type}/{quote(name, safe='')}")
        if not answer.ok:
            raise self.error(f"unregistering {name}", answer)

    # ---- coming back after a restart (2.12 and newer) ---------------------------------------------------------

    def autostart(self) -> dict[str, dict[str, t.Any]] | None:
        """uid -> its enabled autostart entry, secrets masked as ``******``; ``None`` where the server has none of this."""
        body = self.fetch("/v1/autostart/models")
        if not isinstance(body, dict):
            return None
        entries = [entry for entry in body.get("models") or [] if isinstance(entry, dict) and isinstance(entry.get("launch"), dict)]
        return {str(entry["launch"].get("model_uid")): entry for entry in entries}

    def autostart_set(self, launch: dict[str, t.Any], priority: int) -> None:
        answer = self.call("POST", "/v1/autostart/models", {"launch": launch, "priority": priority, "enabled": True})
        if not answer.ok:
            raise self.error(f"writing the autostart entry of {launch.get('model_uid')}", answer)

    def autostart_unset(self, uid: str) -> None:
        answer = self.call("DELETE", "/v1/autostart/models/" + quote(uid, safe=""))
        if not answer.ok and answer.status != 404:
            raise self.error(f"removing the autostart entry of {uid}", answer)


__all__ = ["ABSENT", "FAILED", "LOADING", "READY", "LoginFailed", "Look", "Xinference", "XinferenceError", "state_of", "trimmed", "words_of"]
