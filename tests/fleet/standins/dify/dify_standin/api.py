# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The API server (port 5001): authentication and dispatch; what each route does is in the routes_* modules."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from typing import Any

from . import VERSION, accounts, routes_apps, routes_auth, routes_datasets, routes_models, routes_plugins, routes_service, routes_setup
from .config import Settings
from .daemon_client import DaemonClient, Marketplace
from .errors import FORBIDDEN, NOT_INIT, NOT_SETUP, failure, missing_page, not_implemented, unauthorized
from .http import Application, HttpError, Request, Response, Router, reply
from .providers import Providers
from .rag import Knowledge
from .security import Expired, jwt_decode, jwt_read
from .storage import Cache, Database


class Api(Application):
    name = "api"

    def __init__(self, settings: Settings, database: Database, cache: Cache) -> None:
        self.settings = settings
        self.db = database
        self.cache = cache
        self.daemon = DaemonClient(settings)
        self.marketplace = Marketplace(settings)
        self.accounts = accounts.Accounts(settings, database, cache)
        self.providers = Providers(settings, database, cache, self.daemon)
        self.knowledge = Knowledge(settings, database, self.providers)
        self.router = Router()
        for module in (routes_setup, routes_auth, routes_plugins, routes_models, routes_apps, routes_datasets, routes_service):
            module.register(self)

    # -- registration -------------------------------------------------------------------------------------------

    def route(self, method: str, path: str, handler: Callable[..., Any], auth: str = "console", roles: tuple[str, ...] = ()) -> None:
        """``handler(api, request, **path values)`` returns a Response or what is to be sent as JSON with 200.

        auth: ``none``, ``setup`` (only needs a finished setup), ``console`` (cookies, bearer or admin key),
        ``app`` or ``dataset`` (service API keys).
        """
        self.router.add(method, path, handler, auth=auth, roles=roles)

    def __call__(self, request: Request) -> Response:
        try:
            response = self._answer(request)
        except HttpError as error:
            response = error.response
        except Exception as error:  # one request must not end the server
            response = self.failed(request, error)
        response.headers += [("X-Version", VERSION), ("X-Env", self.settings.deploy_env)]
        return response

    def _answer(self, request: Request) -> Response:
        found = self.router.find(request.method, request.path)
        if found is None:
            if request.path in routes_plugins.GONE:
                return missing_page()
            if self.router.refuses(request.path):
                raise failure(405, "method_not_allowed", "The method is not allowed for the requested URL.")
            return not_implemented(request.method, request.path)
        route, values = found
        self._authenticate(request, route.options["auth"])
        roles = route.options["roles"]
        if roles and request.values["role"] not in roles:
            raise failure(403, "forbidden", FORBIDDEN)
        result = route.handler(self, request, **values)
        return result if isinstance(result, Response) else reply(result)

    # -- authentication -----------------------------------------------------------------------------------------

    def _authenticate(self, request: Request, auth: str) -> None:
        if auth == "none":
            return
        if auth in ("app", "dataset"):
            self._service_key(request, auth)
            return
        self.require_setup()
        if auth == "console":
            self._console(request)

    def require_setup(self) -> None:
        if not self.accounts.setup_at():
            if self.settings.init_password:
                raise failure(401, "not_init_validated", NOT_INIT)
            raise failure(401, "not_setup", NOT_SETUP)

    def _console(self, request: Request) -> None:
        bearer = request.headers.get("authorization", "")
        bearer = bearer[7:] if bearer.lower().startswith("bearer ") else ""
        names = accounts.cookie_names(self.settings)
        cookies = request.cookies
        # A cookie goes before the header: a stray one shadows the admin key (recorded, fixed after 1.16.1).
        token = cookies.get(names["access_token"]) or bearer
        if not token:
            raise unauthorized("Invalid Authorization token.")
        if self._is_admin_key(token) and self.settings.admin_api_key_enable:
            workspace = request.headers.get("x-workspace-id", "")
            if workspace:
                self._enter(request, self.accounts.owner(workspace), workspace)
                return
        payload = self._passport(token)
        sent, kept = request.headers.get("x-csrf-token", ""), cookies.get(names["csrf_token"], "")
        csrf = jwt_decode(sent, self.settings.secret_key, self.accounts.skew) if sent and sent == kept else None
        if csrf is None or csrf.get("sub") != payload["user_id"]:
            raise unauthorized("CSRF token is missing or invalid.")
        self._enter(request, self.accounts.get(payload["user_id"]), None)

    def _passport(self, token: str) -> dict[str, Any]:
        try:
            payload = jwt_read(token, self.settings.secret_key, self.accounts.skew)
        except Expired:
            raise unauthorized("Token has expired.") from None
        except ValueError:
            raise unauthorized("Invalid token.") from None
        if "user_id" not in payload:
            raise unauthorized("Invalid token.")
        return payload

    def _is_admin_key(self, token: str) -> bool:
        key = self.settings.admin_api_key
        return bool(key) and hmac.compare_digest(token.encode(), key.encode())

    def _enter(self, request: Request, account: dict[str, Any] | None, workspace: str | None) -> None:
        join = self.accounts.join(account["id"], workspace) if account else None
        if account is None or join is None:
            raise unauthorized("Invalid token.")
        request.values.update(account=account, tenant=join["tenant_id"], role=join["role"])

    def require_admin_key(self, request: Request) -> None:
        """For the calls that take the key alone (no ADMIN_API_KEY_ENABLE, no workspace)."""
        bearer = request.headers.get("authorization", "")
        if not bearer.startswith("Bearer "):
            raise unauthorized("Authorization header is missing.")
        if not self._is_admin_key(bearer[7:]):
            raise unauthorized("API key is invalid.")

    def _service_key(self, request: Request, kind: str) -> None:
        bearer = request.headers.get("authorization", "")
        scheme, _space, token = bearer.partition(" ")
        if scheme.lower() != "bearer":
            raise unauthorized("Authorization header must be provided and start with 'Bearer'")
        row = self.db.one("SELECT * FROM api_tokens WHERE token = ? AND type = ?", token.strip(), kind)
        if row is None:
            raise unauthorized("Access token is invalid")
        request.values.update(tenant=row["tenant_id"], account=self.accounts.owner(row["tenant_id"]), role="owner", app_id=row["app_id"])

    def health(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "status": "ok", "version": VERSION}
