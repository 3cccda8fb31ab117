# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Dify's console API: who we are (admin key or login), and what its answers mean.

Rules that the real servers taught:

* The version comes with every answer (``X-Version``), before any login.
* The admin key is preferred: no lockout, no cookies (a stray ``access_token`` cookie would shadow the key), no CSRF.
* A login is sent once per client and never repeated: more than five refusals lock the account for a day. A session that
  ends meanwhile is renewed with its refresh token instead. A session that was kept saves the login and, with it, the
  question for the version.
* An error comes in two shapes (``{code, message}`` and ``{"error": {type, message}}``), a missing route as HTML.
* ``400 Failed to request plugin daemon`` means *not now*, and is the only 4xx asked again.
"""

from __future__ import annotations

import base64
import time
import typing as t
import urllib.parse

from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_versions import Capabilities, capabilities
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import JsonClient, Response, shorten

CONSOLE = "/console/api"
WORKSPACE = "/workspaces/current"
DAEMON_DOWN = "Failed to request plugin daemon"
RETRY_STATUSES = (502, 503, 504)

# Errors that concern the whole conversation, not one model. A lack of rights concerns one: an editor may enable a model,
# and whatever is right already needs nothing.
FATAL_CODES = ("unauthorized", "not_setup", "not_init_validated", "authentication_failed", "email_code_login_limit", "email_or_password_mismatch")

# Seconds. A hung model server holds a registration for 40 s (10 s x 4 tries in the plugin).
TIMEOUT = 120.0

# What to do next, by what Dify said. Looked up by error code first, then by HTTP status.
HINTS: dict[str | int, str] = {
    "not_setup": "Dify has no administrator yet: run llmops.dify_xinference.dify_setup first.",
    "not_init_validated": "Dify waits for its INIT_PASSWORD: give dify_setup the same init_password as the .env holds.",
    "email_code_login_limit": "The account is locked after too many wrong passwords (24 hours by default). Unlock it with: "
    "docker compose exec redis redis-cli del login_error_rate_limit:<e-mail> (the container knows its password as REDISCLI_AUTH)",
    "authentication_failed": "Check the e-mail address and password. A lost one is replaced with: docker compose exec api "
    "flask reset-password --email <e-mail> --new-password <new> --password-confirm <new>. "
    "Do not just try again: six refusals lock the account for a day.",
    "forbidden": "The account must be owner or administrator of the workspace.",
    401: "Check the admin key (ADMIN_API_KEY of the api container) and the workspace id, or the e-mail address and password.",
    403: "The account must be owner or administrator of the workspace.",
    429: "Dify counts requests from this address; wait, then run again.",
    500: "Look at the api container's log: docker compose logs --tail 50 api",
    DAEMON_DOWN: "Dify's plugin daemon does not answer. Look at: docker compose ps plugin_daemon, and docker compose logs --tail 50 plugin_daemon",
}
HINTS["unauthorized"] = HINTS[401]
HINTS["email_or_password_mismatch"] = HINTS["account_not_found"] = HINTS["authentication_failed"]


class DifyError(Exception):
    """Dify answered, and the answer was no.

    Attributes: ``status`` (HTTP), ``code`` (Dify's own word, or ``not_found_route`` for an HTML 404), ``message``
    (its words, one line), ``method``, ``path`` (without secrets), ``hint`` (what to do next, may be empty).
    """

    def __init__(self, response: Response, path: str) -> None:
        self.status = response.status
        self.method = response.method
        self.path = path
        self.code, self.message = error_of(response)
        hint = HINTS[DAEMON_DOWN] if self.daemon_down else HINTS.get(self.code) or HINTS.get(self.status)
        if self.status == 401 and "expired" in self.message:
            hint = "The session has ended, and this Dify cannot renew it. Run again: whatever is done already is found as it is."
        if path.endswith("/login") and self.code in ("unauthorized", "error"):
            hint = HINTS["authentication_failed"]  # 0.6 calls a wrong password unauthorized
        self.hint = str(hint or "")
        stop = "" if self.message.endswith((".", "!", "?", "…")) else "."
        super().__init__(f"{self.method} {path}: HTTP {self.status} {self.code}: {self.message}" + (f"{stop} {self.hint}" if self.hint else ""))

    @property
    def daemon_down(self) -> bool:
        return self.status == 400 and DAEMON_DOWN in self.message


class DifyUsageError(Exception):
    """The call cannot work as asked (nothing to authenticate with, a version that lacks the feature); nothing was sent."""


def error_of(response: Response) -> tuple[str, str]:
    """Dify's error word and sentence, from either of its two error shapes, or from a page that is no JSON at all."""
    body = response.json
    if isinstance(body, dict):
        if isinstance(body.get("error"), dict):
            error = body["error"]
            return str(error.get("type") or "error"), shorten(str(error.get("message") or ""))
        message = body.get("message") or body.get("error") or body.get("errors") or body.get("data") or ""
        return str(body.get("code") or "error"), shorten(str(message))
    if response.status == 404:
        return "not_found_route", "no such route on this server; is the URL right, and Dify's version what you expect?"
    return "no_json", shorten(response.text, 200) or "empty answer"


class Cookies:
    """The few cookies Dify sets. ``__Host-`` names (set behind https) count as the plain ones when looked up."""

    def __init__(self, values: dict[str, str] | None = None) -> None:
        self._values: dict[str, str] = dict(values or {})

    def take(self, response: Response) -> None:
        for header in response.header_all("Set-Cookie"):
            name, separator, value = header.split(";", 1)[0].partition("=")
            if separator:
                self._values[name.strip()] = value.strip()

    def get(self, name: str) -> str | None:
        return self._values.get(name) or self._values.get("__Host-" + name)

    def header(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self._values.items())

    def values(self) -> dict[str, str]:
        return dict(self._values)

    def __bool__(self) -> bool:
        return bool(self._values)


class DifyClient:
    """One authenticated conversation with one Dify workspace.

    :param http: base URL, transport and timeouts.
    :param admin_key: value of ``ADMIN_API_KEY``; used whenever this Dify honours it.
    :param email: administrator's e-mail, with ``password``; used when there is no usable admin key.
    :param workspace_id: saves the look-up; default is the oldest workspace of the installation.
    :param daemon_wait: seconds to go on asking while the plugin daemon is down, in all: a daemon that stays away must not
        hold up every model again.
    :param session: what an earlier client handed to ``keep``; tried before a login, and given up for one when Dify refuses it.
    :param keep: called with the session after a login or a renewal. It is as good as the password until it ends.
    """

    def __init__(
        self,
        http: JsonClient,
        admin_key: str | None = None,
        email: str | None = None,
        password: str | None = None,
        workspace_id: str | None = None,
        daemon_wait: float = 90.0,
        sleep: t.Callable[[float], None] = time.sleep,
        session: dict[str, t.Any] | None = None,
        keep: t.Callable[[dict[str, t.Any]], None] | None = None,
    ) -> None:
        self.http = http
        self.admin_key = admin_key
        self.email = email
        self.password = password
        self.workspace_id = workspace_id
        self.daemon_wait = daemon_wait
        self.sleep = sleep
        self.requests = 0
        self.session = session
        self.keep = keep
        # A Dify that was upgraded since says so with its first answer.
        self.version: str | None = session["version"] if session else None
        self._headers: dict[str, str] | None = None
        self._cookies = Cookies()
        self._login_tried = False
        self._by_key = False
        self._resumed = False
        self._refresh_token: str | None = None
        self._asked_workspace = workspace_id
        self._checked_workspace: str | None = None

    # -- version -----------------------------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        if self.version is None:
            self.setup_state()
        return capabilities(self.version or "")

    def setup_state(self) -> dict[str, t.Any]:
        """GET /setup: ``{"step": "not_started"|"finished", ...}``. Needs no account; also learns the version."""
        answer = self._plain("GET", "/setup")
        if not isinstance(answer.json, dict) or "step" not in answer.json:
            raise DifyUsageError(
                f"{answer.url} did not answer like Dify (HTTP {answer.status}: {shorten(answer.text, 120)}). Is the URL that of Dify's console?"
            )
        return answer.json

    # -- requests without an account: setup and init ---------------------------------------------------------------------

    def _plain(self, method: str, path: str, json: t.Any = None) -> Response:
        headers = {"Cookie": self._cookies.header()} if self._cookies else {}
        answer = self._send(method, CONSOLE + path, json=json, headers=headers)
        self._cookies.take(answer)
        if not answer.ok:
            raise DifyError(answer, CONSOLE + path)
        return answer

    def init_state(self) -> str:
        """``finished`` (or no INIT_PASSWORD set) or ``not_started``; told per cookie session."""
        return str((self._plain("GET", "/init").json or {}).get("status"))

    def init(self, init_password: str) -> None:
        """Prove INIT_PASSWORD. The proof lives in the session cookie, so ``setup`` must follow on this same client."""
        self._plain("POST", "/init", json={"password": init_password})

    def setup(self, email: str, name: str, password: str, language: str | None = None) -> None:
        """Create the first administrator. The password is plain here, whatever the version."""
        body = {"email": email, "name": name, "password": password}
        if language and self.version and capabilities(self.version).setup_language:
            body["language"] = language
        self._plain("POST", "/setup", json=body)

    # -- authentication ------------------------------------------------------------------------------------------------

    def login(self) -> None:
        """Log in once. Raises :class:`DifyError`, and refuses a second try on the same client."""
        if self._login_tried:
            raise DifyUsageError("the login was already refused in this run; it is not repeated, because Dify locks the account")
        if not (self.email and self.password):
            raise DifyUsageError("neither a usable admin_key nor email and password were given")
        able = self.capabilities
        self._login_tried = True
        self._cookies = Cookies()
        password = base64.b64encode(self.password.encode()).decode() if able.login_base64 else self.password
        body = {"email": self.email, "password": password, "remember_me": True}
        path = CONSOLE + "/login"
        answer = self._send("POST", path, json=body)
        self._cookies.take(answer)
        data = answer.json if isinstance(answer.json, dict) else {}
        if not answer.ok or data.get("result") != "success":
            raise DifyError(answer, path)
        self._take_session(able, data.get("data"))
        self._check_workspace()

    def _check_workspace(self) -> None:
        """A login works in the workspace that its account was last in; another one than was asked for must not be changed.

        The admin key needs no such check: its workspace travels with every request.
        """
        wanted = self._asked_workspace
        if not wanted or self._checked_workspace == wanted:
            return
        self._checked_workspace = wanted
        listed = (self.call("GET", "/workspaces") or {}).get("workspaces") or []
        current: dict[str, t.Any] = next((item for item in listed if item.get("current")), {})
        if current.get("id") != wanted:
            self._checked_workspace = None
            if any(item.get("id") == wanted for item in listed):
                advice = "another one of its workspaces. Switch to it in Dify's console as that account"
            else:
                advice = "which is none of its workspaces. Give one of them"
            raise DifyUsageError(
                f"{self.email} works in workspace {current.get('name')} ({current.get('id')}), not in {wanted}, {advice}, "
                "or use an admin key, which works in any. Nothing was changed."
            )
        self._keep_session()

    def _take_session(self, able: Capabilities, data: t.Any) -> None:
        """Keep what a login or a renewal brought; the three generations carry it in three ways."""
        if able.login_tokens == "cookies":
            csrf = self._cookies.get("csrf_token")
            if not csrf:
                raise DifyUsageError("Dify accepted the login but set no csrf_token cookie")
            self._headers = {"X-CSRF-Token": csrf, "Cookie": self._cookies.header()}
            self._refresh_token = self._cookies.get("refresh_token")
        else:
            pair = data if isinstance(data, dict) else {"access_token": data}
            if not pair.get("access_token"):
                raise DifyUsageError("Dify accepted the login but sent no token")
            self._headers = {"Authorization": f"Bearer {pair['access_token']}"}
            self._refresh_token = pair.get("refresh_token")
        self._keep_session()

    def _keep_session(self) -> None:
        if self.keep:
            session = {"version": self.version, "headers": self._headers, "cookies": self._cookies.values(), "refresh_token": self._refresh_token}
            self.keep({**session, "workspace_id": self._checked_workspace})

    def _resume(self, session: dict[str, t.Any]) -> None:
        """Go on with a session of an earlier run. Whether it still lives, the first request tells."""
        self.session = None
        self._resumed = True
        self._headers = dict(session["headers"])
        self._cookies = Cookies(session["cookies"])
        self._refresh_token = session["refresh_token"]
        self._checked_workspace = session.get("workspace_id")
        self._check_workspace()

    def _renew(self) -> bool:
        """After a 401: whether it is worth sending the request once more, with other credentials than before."""
        able = self.capabilities
        if self._by_key:
            if able.admin_key:
                return False
            # The key was sent before the version was known, and this one does not honour it.
            self._by_key, self._headers = False, None
            return True
        return self._refresh(able) or self._forget_resumed()

    def _forget_resumed(self) -> bool:
        """Whether the session that was refused is an earlier run's, which a login of this run replaces."""
        if not (self._resumed and self.email and self.password):
            return False
        self._resumed, self._headers, self._cookies = False, None, Cookies()
        return True

    def _refresh(self, able: Capabilities) -> bool:
        """Renew the session with its refresh token; whether that worked."""
        if not (able.refresh and self._refresh_token):
            return False
        path = CONSOLE + "/refresh-token"
        if able.refresh == "cookies":
            answer = self._send("POST", path, json={}, headers={"Cookie": self._cookies.header()})
            self._cookies.take(answer)
        else:
            answer = self._send("POST", path, json={"refresh_token": self._refresh_token})
        self._refresh_token = None  # a used one is dead
        if not answer.ok:
            return False
        self._take_session(able, (answer.json or {}).get("data"))
        return True

    def _authentication(self) -> dict[str, str]:
        if self._headers is not None:
            return self._headers
        if self.admin_key and not self.workspace_id and (self.version is None or self.capabilities.admin_key):
            # Needs only the key, whatever the version; and its answer says which version that is.
            self.workspace_id = self._find_workspace()
        # With a workspace id the version need not be asked for: every answer carries it.
        if self.admin_key and (self.version is None or self.capabilities.admin_key):
            self._by_key = True
            self._headers = {"Authorization": f"Bearer {self.admin_key}", "X-WORKSPACE-ID": str(self.workspace_id)}
        elif self.admin_key and not self.email:
            raise DifyUsageError(f"Dify {self.version} does not honour ADMIN_API_KEY on its console API (1.9.2 to 1.10.1); give email and password")
        elif self.session:
            self._resume(self.session)
        else:
            self.login()
        return self._headers or {}

    def _find_workspace(self) -> str:
        path = CONSOLE + "/all-workspaces?page=1&limit=100"
        answer = self._send("GET", path, headers={"Authorization": f"Bearer {self.admin_key}"})
        if not answer.ok:
            raise DifyError(answer, path)
        # A 404 page or a proxy's answer is no list; the oldest workspace is the one that dify_setup made.
        found = sorted((answer.json or {}).get("data") or [], key=lambda item: item.get("created_at") or 0)
        if not found:
            raise DifyUsageError("Dify has no workspace yet: run llmops.dify_xinference.dify_setup first")
        return str(found[0]["id"])

    # -- authenticated requests ------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, json: t.Any = None, data: bytes | None = None, headers: dict[str, str] | None = None) -> t.Any:
        """Decoded body of a console request (``None`` for 204), below /console/api. Raises :class:`DifyError`."""
        pause = 2.0
        renewed = False
        while True:
            send = {**self._authentication(), **(headers or {})}
            answer = self._send(method, CONSOLE + path, json=json, data=data, headers=send)
            if answer.ok:
                return answer.json
            error = DifyError(answer, CONSOLE + path)
            if error.status == 401 and not renewed and self._renew():
                renewed = True
                continue
            if not error.daemon_down or self.daemon_wait <= 0:
                raise error
            self.sleep(pause)
            self.daemon_wait -= pause
            pause = min(pause * 1.5, 10.0)

    def workspace(self, method: str, path: str, json: t.Any = None, **query: str) -> t.Any:
        """:meth:`call` below /workspaces/current, with query parameters."""
        encoded = "?" + urllib.parse.urlencode(query) if query else ""
        return self.call(method, WORKSPACE + path + encoded, json=json)

    def upload(self, path: str, field: str, filename: str, content: bytes, media_type: str, fields: dict[str, str] | None = None) -> t.Any:
        """POST one file as multipart/form-data (plugin packages, documents)."""
        boundary = "llmops-dify-xinference-4f6b2c1d9a"
        while boundary.encode() in content:
            boundary += "x"
        body = b""
        for name, value in (fields or {}).items():
            body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{filename}"\r\nContent-Type: {media_type}\r\n\r\n'.encode()
        body += content + f"\r\n--{boundary}--\r\n".encode()
        return self.call("POST", path, data=body, headers={"Content-Type": f"multipart/form-data; boundary={boundary}"})

    def service_api(self, method: str, path: str, token: str, json: t.Any = None) -> t.Any:
        """A request as an application would send it (/v1, with an application's own key)."""
        answer = self._send(method, "/v1" + path, json=json, headers={"Authorization": f"Bearer {token}"})
        if not answer.ok:
            raise DifyError(answer, "/v1" + path)
        return answer.json

    def _send(self, method: str, path: str, json: t.Any = None, data: bytes | None = None, headers: dict[str, str] | None = None) -> Response:
        self.requests += 1
        answer = self.http.request(method, path, json=json, data=data, headers=headers, retry_statuses=RETRY_STATUSES)
        version = answer.header("X-Version")
        if version:
            self.version = version
        return answer

    # -- provider models ---------------------------------------------------------------------------------------------

    @staticmethod
    def provider_path(provider: str) -> str:
        return f"/model-providers/{provider}"

    def providers(self) -> list[dict[str, t.Any]]:
        """Every model provider of the workspace, with the form its models are registered by."""
        return list((self.workspace("GET", "/model-providers") or {}).get("data") or [])

    def models(self, provider: str) -> list[dict[str, t.Any]]:
        return list((self.workspace("GET", self.provider_path(provider) + "/models") or {}).get("data") or [])

    def credentials(self, provider: str, model: str, model_type: str) -> dict[str, t.Any]:
        answer = self.workspace("GET", self.provider_path(provider) + "/models/credentials", model=model, model_type=model_type)
        return answer if isinstance(answer, dict) else {}

    def default_model(self, model_type: str) -> dict[str, str] | None:
        """``{"provider": id, "model": name}`` or ``None``. Asking may store a first choice (Dify's own side effect)."""
        found = (self.workspace("GET", "/default-model", model_type=model_type) or {}).get("data")
        if not found:
            return None
        return {"provider": str((found.get("provider") or {}).get("provider")), "model": str(found.get("model"))}


__all__ = ["CONSOLE", "FATAL_CODES", "TIMEOUT", "WORKSPACE", "Cookies", "DifyClient", "DifyError", "DifyUsageError", "error_of"]
