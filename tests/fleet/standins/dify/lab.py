# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Dify of one version for tests of what talks to Dify: set up, with the plugin, counting requests, failing on demand.

    lab = Lab(tmp_path, "1.9.2")                # a new instance with an owner and (from 1.0 on) the Xinference plugin
    lab.url, lab.admin_key, lab.email, lab.password
    with lab.counted() as requests: ...         # what clients sent meanwhile, "GET /console/api/..."
    lab.console.delete_model("qwen3-chat", "llm")   # what a person does in the web console; never counted
    lab.daemon_down(seconds=2); lab.xinference.fault = "hung"; lab.wait_for_xinference(0.1); lab.marketplace.fault = 403
    lab.expire_sessions(); lab.lock_out(); lab.member("normal")
    lab.become("1.16.1")                        # upgraded, with what 0.15 -> 1.x leaves behind
    lab.close()

Every instance has a database of its own, in memory: a new one costs milliseconds.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import threading
import uuid
from collections.abc import Iterator
from typing import Any

from tests.fleet.standins.dify import build
from tests.fleet.standins.dify.dify_standin import VERSION
from tests.fleet.standins.dify.dify_standin.accounts import LOGIN_TRIES
from tests.fleet.standins.dify.dify_standin.http import Request
from tests.fleet.standins.dify.testing import ADMIN_KEY, World

_WORKSPACE = "/console/api/workspaces/current"


class Console:
    """The owner at the web console, inside this process: neither counted nor stopped by a lockout or an expired session."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def call(self, method: str, path: str, body: Any = None, *, status: int = 0, raw: bytes = b"", kind: str = "application/json") -> Any:
        """One request; ``path`` below /console/api/workspaces/current, or from the root. Returns the JSON answered (None for none).

        :param status: what has to be answered; 0 for any success.
        :raises AssertionError: when something else is.
        """
        api = self._lab.api
        tokens = api.accounts.tokens(self._lab.owner)
        headers = {"content-type": kind, "x-csrf-token": tokens["csrf_token"]}
        headers["authorization"] = f"Bearer {tokens['access_token']}"
        headers["cookie"] = f"csrf_token={tokens['csrf_token']}; __Host-csrf_token={tokens['csrf_token']}"
        route, _mark, query = (path if path.startswith("/console/") else f"{_WORKSPACE}/{path}").partition("?")
        values = dict(part.split("=", 1) for part in query.split("&") if part)
        response = api(Request(method, route, values, headers, raw or (json.dumps(body).encode() if body is not None else b"")))
        fine = response.status == status if status else 200 <= response.status < 300
        if not fine:
            raise AssertionError(f"{method} {route}: {response.status} {response.body.decode()}")
        return json.loads(response.body) if response.body.startswith((b"{", b"[")) else None

    def _model(self, method: str, rest: str, model: str, model_type: str, **more: Any) -> Any:
        return self.call(method, f"model-providers/{self._lab.provider}/models{rest}", {"model": model, "model_type": model_type, **more})

    @property
    def _upserts(self) -> bool:
        return self._lab.api.generation.registration == "upsert"

    def models(self) -> dict[tuple[str, str], str]:
        """(name, type) -> status of every listed model."""
        found = self.call("GET", f"model-providers/{self._lab.provider}/models")["data"]
        return {(entry["model"], entry["model_type"]): entry["status"] for entry in found}

    def credentials(self, model: str, model_type: str) -> dict[str, Any]:
        """What is read of a model: ``credentials`` (secrets masked), from 1.8 on with ids and names."""
        return self.call("GET", f"model-providers/{self._lab.provider}/models/credentials?model={model}&model_type={model_type}")

    def add_model(self, model: str, model_type: str, name: str | None = None, **credentials: Any) -> None:
        """Registers a model; unset fields get what a person would leave there. ``name``: of the credential, from 1.8 on."""
        sent = {"server_url": self._lab.xinference_url, "model_uid": model, "invoke_timeout": "60", "max_retries": "3", **credentials}
        if self._upserts:
            self._model("POST", "", model, model_type, credentials=sent)
            return
        more = {"name": name} if name else {}
        self._model("POST", "/credentials", model, model_type, credentials=sent, **more)

    def delete_model(self, model: str, model_type: str) -> None:
        """The model goes; from 1.8 on its credentials stay behind, as in Dify."""
        self._model("DELETE", "", model, model_type)

    def disable_model(self, model: str, model_type: str) -> None:
        self._model("PATCH", "/disable", model, model_type)

    def enable_model(self, model: str, model_type: str) -> None:
        self._model("PATCH", "/enable", model, model_type)

    def change_model(self, model: str, model_type: str, **credentials: Any) -> None:
        """Saves the model's form with other values; secrets stay as they are unless given."""
        found = self.credentials(model, model_type)
        hidden = {name: "[__HIDDEN__]" for name, value in found["credentials"].items() if isinstance(value, str) and "*****" in value}
        sent = {**found["credentials"], **hidden, **credentials}
        if self._upserts:
            self._model("POST", "", model, model_type, credentials=sent)
            return
        self._model("PUT", "/credentials", model, model_type, credential_id=found["current_credential_id"], credentials=sent)

    def detach_credential(self, model: str, model_type: str) -> str:
        """Leaves the model without an active credential while another one (returned: its id) is stored. From 1.8 on."""
        found = self.credentials(model, model_type)
        spare = [item["credential_id"] for item in found["available_credentials"] if item["credential_id"] != found["current_credential_id"]]
        if not spare:
            self._lab.copy_credential(found["current_credential_id"], "spare")
            spare = [item["credential_id"] for item in self.credentials(model, model_type)["available_credentials"]]
            spare.remove(found["current_credential_id"])
        self._model("DELETE", "/credentials", model, model_type, credential_id=found["current_credential_id"])
        return str(spare[0])

    def default(self, model_type: str) -> str | None:
        """The default model of a type. As in Dify, looking chooses one where none is stored."""
        found = self.call("GET", f"default-model?model_type={model_type}")["data"]
        return found and found["model"]

    def set_default(self, model_type: str, model: str) -> None:
        self.default(model_type)  # up to 1.13.3 only a stored row can be changed
        self.call("POST", "default-model", {"model_settings": [{"model_type": model_type, "provider": self._lab.provider, "model": model}]})

    def install_plugin(self, package: bytes) -> str:
        """Uploads and installs a package, or changes the installed version to it; returns its unique identifier."""
        mark = "mark-of-the-lab"
        head = f'--{mark}\r\nContent-Disposition: form-data; name="pkg"; filename="x.difypkg"\r\n\r\n'.encode()
        form = head + package + f"\r\n--{mark}--\r\n".encode()
        identifier = self.call("POST", "plugin/upload/pkg", raw=form, kind=f"multipart/form-data; boundary={mark}")["unique_identifier"]
        name = identifier.split(":", 1)[0]
        installed = [plugin["plugin_unique_identifier"] for plugin in self.plugins() if plugin["plugin_id"] == name]
        if installed and identifier not in installed:
            more = {"repo": "x/y", "version": "0", "package": "x.difypkg"}
            self.call("POST", "plugin/upgrade/github", {"original_plugin_unique_identifier": installed[0], "new_plugin_unique_identifier": identifier, **more})
        else:
            self.call("POST", "plugin/install/pkg", {"plugin_unique_identifiers": [identifier]})
        self._lab.finish_installations()
        self._lab.api.providers.forget(self._lab.tenant)
        return str(identifier)

    def plugins(self) -> list[dict[str, Any]]:
        return self.call("GET", "plugin/list?page=1&page_size=100")["plugins"]

    def uninstall_plugin(self) -> None:
        for plugin in self.plugins():
            self.call("POST", "plugin/uninstall", {"plugin_installation_id": plugin["id"]})


class Lab(World):
    """See the module. ``setup=False`` leaves the instance without owner, ``plugin=None`` without plugin.

    :param folder: for Dify's storage; a new one for every instance.
    :param version: of Dify.
    :param plugin: version of the plugin to install.
    :param settings: fields of ``Settings`` (``init_password``, ``console_web_url``, ``access_token_expire_minutes``, ...).
    """

    email = "admin@example.com"
    password = "Passw0rdOfThisTest"
    admin_key = ADMIN_KEY
    def __init__(
        self, folder: pathlib.Path, version: str = VERSION, *, setup: bool = True, plugin: str | None = build.PLUGIN_VERSION, **settings: Any
    ) -> None:
        super().__init__(folder, build.plugin_package("0.0.16"), version=version, **settings)
        self.console = Console(self)
        self.daemon.gate.set()  # installations end by themselves
        self._timers: list[threading.Timer] = []
        self._stop = threading.Event()
        threading.Thread(target=self._work, daemon=True).start()
        if setup:
            self.api.accounts.set_up(self.email, "Admin", self.password, None, "127.0.0.1")
            if plugin and self.api.generation.plugins:
                self.console.install_plugin(build.plugin_package(plugin))

    @property
    def version(self) -> str:
        return self.api.generation.version

    @property
    def provider(self) -> str:
        """``xinference`` before 1.0, then the long name."""
        return self.api.providers.name("xinference")

    @property
    def url(self) -> str:
        return self.api_url

    @property
    def owner(self) -> str:
        """The owner's account id."""
        return str(self.database.query("SELECT account_id FROM tenant_account_joins WHERE role = 'owner'")[0]["account_id"])

    @property
    def tenant(self) -> str:
        """The first workspace's id."""
        return str(self.database.query("SELECT id FROM tenants ORDER BY created_at")[0]["id"])

    # -- what clients did ---------------------------------------------------------------------------------------

    @property
    def requests(self) -> list[str]:
        """Everything that clients sent so far, "GET /console/api/setup"."""
        return self.front.requests

    @contextlib.contextmanager
    def counted(self) -> Iterator[list[str]]:
        """A list that holds, after the block, the requests of the block."""
        start, found = len(self.requests), []  # type: int, list[str]
        try:
            yield found
        finally:
            found.extend(self.requests[start:])

    # -- failures -----------------------------------------------------------------------------------------------

    def daemon_down(self, seconds: float | None = None) -> None:
        """The plugin daemon is gone; after ``seconds`` it comes back, with None when ``daemon_up`` is called."""
        self.shut("daemon")
        if seconds is not None:
            timer = threading.Timer(seconds, self.daemon_up)
            timer.daemon = True
            self._timers.append(timer)
            timer.start()

    def daemon_up(self) -> None:
        """A started daemon remembers no uid."""
        self.forget_uids()
        self.open("daemon", self.daemon, self.daemon_port)

    def marketplace_down(self) -> None:
        """Nothing listens there any more; for other faults set ``marketplace.fault``."""
        self.shut("marketplace")

    def xinference_down(self) -> None:
        """Nothing listens there any more; for other faults set ``xinference.fault``."""
        self.shut("xinference")
        self.forget_uids()

    def xinference_up(self) -> None:
        self.open("xinference", self.xinference, self.xinference_port)

    def forget_uids(self) -> None:
        """Drops the plugin's memory of uids (five minutes), so that a changed Xinference is noticed at once."""
        for code in self.codes:
            code.forget()

    def expire_sessions(self, refresh_too: bool = True) -> None:
        """As if an hour had passed: every access token handed out is expired, and the refresh tokens are gone."""
        self.api.accounts.skew += self.settings.access_token_expire_minutes * 60 + 1
        if refresh_too:
            self.cache.delete_prefix("refresh_token:")

    def lock_out(self, email: str = "") -> None:
        """As after six wrong passwords for the address."""
        self.cache.set(f"login_error_rate_limit:{email or self.email}", str(LOGIN_TRIES + 1), self.settings.login_lockout_duration)

    def unlock(self, email: str = "") -> None:
        """``redis-cli del login_error_rate_limit:<e-mail>``."""
        self.cache.delete(f"login_error_rate_limit:{email or self.email}")

    def member(self, role: str = "normal", email: str = "") -> tuple[str, str]:
        """One more account of the workspace: (e-mail, password). Roles: admin, editor, normal, dataset_operator."""
        email = email or f"{role}@example.com"
        self.api.accounts.add(self.tenant, self.api.accounts.create(email, role.title(), self.password, "en-US"), role)
        return email, self.password

    def second_workspace(self, name: str) -> str:
        """One more workspace of the owner, younger than the first; returns its id."""
        from tests.fleet.standins.dify.dify_standin import security

        first = self.database.query("SELECT * FROM tenants ORDER BY created_at")[0]
        tenant = str(uuid.uuid4())
        public = security.make_tenant_key(self.settings.files, tenant)
        later = {"id": tenant, "name": name, "encrypt_public_key": public, "created_at": first["created_at"] + 3600}
        self.database.insert("tenants", **{**first, **later})
        self.api.accounts.add(tenant, self.owner, "owner")
        return tenant

    def copy_credential(self, credential: str, name: str) -> None:
        """A second stored credential with the same content, without asking Xinference."""
        from tests.fleet.standins.dify.dify_standin.security import new_id

        row = self.database.query("SELECT * FROM provider_model_credentials WHERE id = ?", credential)[0]
        self.database.insert("provider_model_credentials", **{**row, "id": new_id(), "credential_name": name})

    # -- life ---------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._stop.wait(0.1):
            with contextlib.suppress(Exception):
                self.index()

    def close(self) -> None:
        self._stop.set()
        for timer in self._timers:
            timer.cancel()
        self.xinference.fault = ""
        self.marketplace.fault = ""
        super().close()
