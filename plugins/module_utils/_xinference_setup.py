# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""The first administrator of a server and the key that others use it with, converging from any interruption."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import string
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._command import run_command
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import JsonClient, ServerUnreachable
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference import LoginFailed, Xinference, XinferenceError, words_of
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_files import read_json, write_json

_TOKEN = re.compile(r"Setup token:\s*(\S+)")

# What a server needs.
NO_ACCOUNTS = "no_accounts"  # authentication is switched off
FIRST_ADMIN = "first_admin"
LOGIN = "login"
FROM_FILE = "accounts_from_file"  # before 3.0: --auth-config, no accounts can be made over the API


def phase_of(auth: bool, status: int, body: t.Any) -> str:
    """What ``/v1/cluster/auth`` and ``/v1/admin/setup/status`` together say."""
    if not auth:
        return NO_ACCOUNTS
    if status == 404:
        return FROM_FILE
    return FIRST_ADMIN if isinstance(body, dict) and body.get("needs_setup") else LOGIN


def setup_token_in(log: str) -> str | None:
    """The setup token of 4.x; the last one counts, since a restart prints it again."""
    found = _TOKEN.findall(log)
    return found[-1] if found else None


def container_log(container: str) -> str:
    """What a container has written so far; empty when there is no Docker or no such container."""
    docker = shutil.which("docker")
    if not docker:
        return ""
    # Merged, since the token goes to stderr, as all of the server's log.
    status, log, _unused = run_command([docker, "logs", container], 60, merged=True)
    return log if status == 0 else ""


def accounts_lost(data_dir: str | None) -> bool:
    """Whether the server's database of accounts is gone, so that remembered credentials mean nothing (4.x: auth/auth.db)."""
    if not data_dir:
        return False
    return not any(os.path.exists(os.path.join(data_dir, path)) for path in ("auth.db", os.path.join("auth", "auth.db")))


class Outcome(t.NamedTuple):
    """What a set-up came to. ``ready``: an administrator exists, so the server may be opened to others.

    ``old_key_valid``: a rotated key is still valid, until somebody asks to revoke it.
    """

    changed: bool
    ready: bool
    auth: t.Optional[bool]
    reachable: bool
    api_key: str
    username: str
    done: t.List[str]
    old_key_valid: bool = False
    accounts_digest: str = ""


def file_key(kept: str) -> str:
    """A key as servers before 3.0 want it: ``sk-`` and 13 letters or digits; the one that is kept, when it is such a key."""
    if re.fullmatch(r"sk-[a-zA-Z0-9]{13}", kept):
        return kept
    return "sk-" + "".join(secrets.choice(string.ascii_letters + string.digits) for _unused in range(13))


def accounts_of(username: str, password: str, key_name: str, key: str, found: dict[str, t.Any]) -> dict[str, t.Any]:
    """The content of ``--auth-config`` (0.8 to 2.x): an administrator, and a user whose key can only look and infer.

    Passwords are in plain text: the server hashes them as it starts (source of 0.13.3, run against it). ``found``: the file as it
    is; the key that tokens are signed with is kept, and so is the password of the user, which nobody needs to know.
    """
    signing = str((found.get("auth_config") or {}).get("secret_key") or secrets.token_hex(32))
    reader = key_name if key_name != username else key_name + "-inference"
    old = [entry.get("password") for entry in found.get("user_config") or [] if entry.get("username") == reader]
    return {
        "auth_config": {"algorithm": "HS256", "secret_key": signing, "token_expire_in_minutes": 30},
        "user_config": [
            {"username": username, "password": password, "permissions": ["admin"], "api_keys": []},
            {
                "username": reader,
                "password": str(old[0]) if old and old[0] else secrets.token_urlsafe(24),
                "permissions": ["models:list", "models:read"],
                "api_keys": [key],
            },
        ],
    }


class Setup:
    """Brings one server to: an administrator that we can log in as, and one inference-only key.

    :param path: the credentials file; ``{"admin": {"username", "password"}, "api_keys": {NAME: {"id", "key"}}}``.
        While a rotation is under way it also holds ``admin.next_password`` and ``api_keys.NAME.previous``, so that a run
        that is cut off leaves nothing behind that nobody can log in with, and no key that nobody can revoke.
    :param username: of the administrator to create, or of one that exists when ``password`` is given.
    :param token: reads the setup token of 4.x (a callable, because it is needed once in a server's life).
    :param rotate: what to make anew: ``api_key``, ``password``. A key that was made anew while its predecessor still
        waits to be revoked is not made anew again: that rotation was cut off, and goes on.
    :param revoke_old_key: take the predecessor of a rotated key back.
    :param accounts_file: the file of ``--auth-config`` of a server before 3.0, to be written; its server reads it when it starts.
    :param new_password: what ``rotate`` of the password changes it to; generated when it is not given.
    """

    def __init__(
        self,
        http: JsonClient,
        path: str,
        username: str = "admin",
        password: str | None = None,
        key_name: str = "dify",
        data_dir: str | None = None,
        token: t.Callable[[], t.Optional[str]] = lambda: None,
        check_mode: bool = False,
        rotate: t.Collection[str] = (),
        revoke_old_key: bool = False,
        new_password: str | None = None,
        accounts_file: str | None = None,
    ) -> None:
        self.http = http
        self.path = path
        self.username = username
        self.password = password
        self.key_name = key_name
        self.data_dir = data_dir
        self.token = token
        self.check_mode = check_mode
        self.rotate = rotate
        self.revoke_old_key = revoke_old_key
        self.new_password = new_password
        self.accounts_file = accounts_file
        self.kept = read_json(path)
        self.done: list[str] = []

    def run(self) -> Outcome:
        """Raises XinferenceError with the next step in its text; a server that does not answer is an outcome, not an error."""
        if "password" in self.rotate and self.password and not self.new_password:
            raise XinferenceError(
                "the password is given (option password), so a generated one would be refused at the next run: "
                "give new_password too, and afterwards make it the given one"
            )
        if self.accounts_file:
            return self._by_file(self.accounts_file)
        try:
            auth = Xinference(self.http).auth_required()
        except ServerUnreachable:
            if self.rotate or self.revoke_old_key:
                raise
            return self._offline()
        status = self.http.request("GET", "/v1/admin/setup/status") if auth and not self._admin().get("confirmed") else None
        phase = phase_of(auth, status.status, status.json) if status else LOGIN if auth else NO_ACCOUNTS
        if phase == NO_ACCOUNTS:
            return Outcome(False, True, False, True, "", "", [])
        if phase == FROM_FILE:
            if self.password is None and not self._admin().get("password"):
                raise XinferenceError(
                    f"Xinference at {self.http.base_url} is older than 3.0 and takes its accounts from the file of --auth-config, not over its API: "
                    "give username and password of one of them, and an API key of that file to those who use the models"
                )
            if self.rotate:
                raise XinferenceError("before Xinference 3.0 accounts and keys are in the file of --auth-config: rotate them there, and restart the server")
            self._logged_in()
            return Outcome(bool(self.done), True, True, True, "", str(self._admin().get("username") or self.username), self.done)
        if phase == FIRST_ADMIN:
            self._create_admin()
            if self.check_mode:
                return Outcome(True, False, True, True, "", self.username, [*self.done, f"create the API key {self.key_name}"])
        client = self._logged_in()
        if "password" in self.rotate:
            client = self._change_password(client)
        key = self._key(client)
        old = self._old_key(client)
        return Outcome(bool(self.done), True, True, True, key, str(self._admin().get("username") or self.username), self.done, old)

    # ---- steps ----------------------------------------------------------------------------------------------

    def _admin(self) -> dict[str, t.Any]:
        return dict(self.kept.get("admin") or {})

    def _write(self, **values: t.Any) -> None:
        content = dict(self.kept, url=self.http.base_url, **values)
        if content != self.kept and not self.check_mode:
            write_json(self.path, content)
            self.kept = content

    def _offline(self) -> Outcome:
        """Nobody answers: what the file says still tells whether the server may be opened when it comes up."""
        lost = accounts_lost(self.data_dir)
        ready = bool(self._admin().get("confirmed")) and not lost
        keys = {} if lost else self.kept.get("api_keys") or {}
        key = str((keys.get(self.key_name) or {}).get("key") or "")
        todo = [] if ready else [f"create the first administrator {self.username}", f"create the API key {self.key_name}"]
        return Outcome(not ready, ready, None, False, key, self.username, todo)

    def _by_file(self, path: str) -> Outcome:
        """Accounts of a server before 3.0. One that does not have them yet gets them at its next start, so no login is tried here."""
        if self.rotate:
            raise XinferenceError(
                "before Xinference 3.0 keys and passwords are read when the server starts, so two keys are never valid at once: "
                f"to change the key, take api_keys.{self.key_name} out of {self.path} and run site.yml, which restarts the server with a new one"
            )
        admin = self._admin()
        username = self.username if self.password else str(admin.get("username") or self.username)
        password = str(self.password or admin.get("password") or secrets.token_urlsafe(24))
        keys = dict(self.kept.get("api_keys") or {})
        key = file_key(str((keys.get(self.key_name) or {}).get("key") or ""))
        found = read_json(path)
        wanted = accounts_of(username, password, self.key_name, key, found)
        # First what we have to know, then what the server is told.
        remembered = {"username": username, "password": password, "confirmed": True}
        if admin != remembered or (keys.get(self.key_name) or {}).get("key") != key:
            self._write(admin=remembered, api_keys=dict(keys, **{self.key_name: {"key": key, "name": self.key_name}}))
            self.done.append(f"remember the administrator {username} and the API key {self.key_name}")
        if found != wanted:
            self.done.append(f"write the accounts to {path}")
            if not self.check_mode:
                write_json(path, wanted)
        digest = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
        reachable, auth = True, None
        try:
            auth = Xinference(self.http).auth_required() or None
        except ServerUnreachable:
            reachable = False
        return Outcome(bool(self.done), True, auth, reachable, key, username, self.done, accounts_digest=digest)

    def _create_admin(self) -> None:
        self.done.append(f"create the first administrator {self.username}")
        if self.check_mode:
            return
        kept = self._admin()
        password = self.password or kept.get("password") or secrets.token_urlsafe(24)
        # Written first: if we are cut off after the server's yes, the next run still knows the password.
        # Keys of an earlier database are worth nothing.
        self._write(admin={"username": self.username, "password": password, "confirmed": False}, api_keys={})
        body = {"username": self.username, "password": password}
        token = self.token()
        if token:
            body["setup_token"] = token
        answer = self.http.request("POST", "/v1/admin/setup", json=body)
        words = words_of(answer)
        if answer.ok or (answer.status == 403 and "already" in words.lower()):
            return  # somebody else's set-up shows at the login
        hint = ""
        if answer.status == 403 and "setup token" in words.lower():
            found = "the one that was found is not the server's" if token else "none was found in the log"
            hint = (
                f": Xinference 4 prints a setup token in its log when it starts and wants it here; {found}. "
                "Give container, log_file or setup_token; `docker logs CONTAINER | grep 'Setup token'` shows it"
            )
        raise XinferenceError(f"creating the first administrator of {self.http.base_url}: HTTP {answer.status}: {words}{hint}", answer.status, words)

    def _logged_in(self) -> Xinference:
        kept = self._admin()
        username = self.username if self.password else kept.get("username")
        password = self.password or kept.get("password")
        coming = kept.get("next_password")
        if not password:
            raise XinferenceError(
                f"Xinference at {self.http.base_url} already has an administrator, and {self.path} does not hold its password: "
                "give username and password of that account"
            )
        client = Xinference(self.http, username, password)
        try:
            client.login()
        except LoginFailed as problem:
            if coming and problem.status == 401 and password != coming:  # the change was made, and its answer was lost
                self.password = None
                self.done.append(f"remember the new password of {username}")
                self._write(admin={"username": username, "password": coming, "confirmed": True})
                if self.check_mode:
                    self.kept["admin"] = {"username": username, "password": coming, "confirmed": True}
                return self._logged_in()
            if kept.get("confirmed") and problem.status == 401:
                status = self.http.request("GET", "/v1/admin/setup/status")
                if phase_of(True, status.status, status.json) == FIRST_ADMIN:  # its home was lost: it starts anew
                    self.kept = {}
                    self._create_admin()
                    return client if self.check_mode else self._logged_in()
            raise
        if not kept.get("confirmed") or kept.get("username") != username or kept.get("password") != password:
            if not self.done:
                self.done.append(f"remember the administrator {username}")
            self._write(admin={"username": username, "password": password, "confirmed": True})
        return client

    def _change_password(self, client: Xinference) -> Xinference:
        """A new password for the administrator, written down before it is sent; the one in the file stays until the server agreed."""
        admin = self._admin()
        username, password = str(admin["username"]), str(admin["password"])
        self.done.append(f"change the password of {username}")
        if self.check_mode:
            return client
        coming = str(self.new_password or admin.get("next_password") or secrets.token_urlsafe(24))
        self._write(admin=dict(admin, next_password=coming))
        me = client.fetch("/v1/auth/me")
        entries = [me] if isinstance(me, dict) else client.fetch("/v1/admin/users", []) or []
        number = next((entry["id"] for entry in entries if entry.get("username") == username and "id" in entry), None)
        if number is None:
            raise XinferenceError(f"Xinference at {self.http.base_url} does not tell the number of its account {username}: change its password in the web page")
        answer = client.call("PUT", f"/v1/admin/users/{int(number)}/password", {"current_password": password, "new_password": coming})
        if not answer.ok:
            raise client.error(f"changing the password of {username}", answer)
        self._write(admin={"username": username, "password": coming, "confirmed": True})
        self.password = None  # a given one was the old one
        changed = Xinference(self.http, username, coming)
        changed.login()
        return changed

    def _old_key(self, client: Xinference) -> bool:
        """Whether the predecessor of a rotated key is still valid; takes it back when that is asked for."""
        keys = dict(self.kept.get("api_keys") or {})
        entry = dict(keys.get(self.key_name) or {})
        previous = entry.get("previous")
        if not previous:
            return False
        if not self.revoke_old_key:
            return True
        self.done.append(f"revoke the old API key {self.key_name}")
        if self.check_mode:
            return True
        answer = client.call("DELETE", f"/v1/admin/keys/{int(previous['id'])}")
        if not answer.ok and answer.status != 404:
            raise client.error(f"revoking the old API key {self.key_name}", answer)
        entry.pop("previous")
        self._write(api_keys=dict(keys, **{self.key_name: entry}))
        return False

    def _key(self, client: Xinference) -> str:
        """The inference-only key, proven by one request; made anew when it is missing, refused, or to be rotated."""
        keys = dict(self.kept.get("api_keys") or {})
        kept = dict(keys.get(self.key_name) or {})
        key = str(kept.get("key") or "")
        rotate = "api_key" in self.rotate and not kept.get("previous")
        previous = kept.get("previous")
        if rotate and key and kept.get("id") is not None:
            previous = {"id": kept["id"], "key": key, "name": kept.get("name", self.key_name)}
        if key and not rotate:
            answer = self.http.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"})
            if answer.ok:
                return key
            if answer.status not in (401, 403):
                raise XinferenceError(f"trying the API key {self.key_name}: HTTP {answer.status}: {words_of(answer)}", answer.status)
        self.done.append(f"create the API key {self.key_name}" if not rotate else f"create a new API key {self.key_name}")
        if self.check_mode:
            return key if rotate else ""
        # Names are unique on the server, so two keys that are valid at once take turns with two names.
        names = [self.key_name, self.key_name + "-2"]
        name = names[1] if previous and previous.get("name", self.key_name) == self.key_name else names[0]
        # A key is shown once. One of ours that we cannot show is of a run that was cut off, or was taken from our file.
        for entry in client.fetch("/v1/admin/keys", []) or []:
            known = previous is not None and entry.get("id") == previous["id"]
            if entry.get("name") in names and entry.get("description") == _DESCRIPTION and not known:
                client.call("DELETE", f"/v1/admin/keys/{int(entry['id'])}")
        answer = client.call("POST", "/v1/admin/keys", {"name": name, "description": _DESCRIPTION})
        if not answer.ok or not isinstance(answer.json, dict) or not answer.json.get("key"):
            if answer.status == 409:
                raise XinferenceError(f"{self.http.base_url} has an API key {name} that this module did not make: choose another api_key_name", 409)
            raise client.error(f"creating the API key {name}", answer)
        keys[self.key_name] = {"id": answer.json.get("id"), "key": answer.json["key"], "name": name}
        if previous:
            keys[self.key_name]["previous"] = previous
        self._write(api_keys=keys)
        return str(answer.json["key"])


_DESCRIPTION = "made by llmops.dify_xinference"


__all__ = ["Outcome", "Setup", "accounts_lost", "accounts_of", "container_log", "file_key", "phase_of", "setup_token_in"]
