# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The API server (port 5001): authentication and dispatch; what each route does is in the routes_* modules."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable
from typing import Any

from . import accounts, routes_apps, routes_auth, routes_datasets, routes_models, routes_plugins, routes_service, routes_setup
from .checks import CHECKS, Checks
from .config import Settings
from .daemon_client import DaemonClient, Marketplace
from .errors import FORBIDDEN, NOT_INIT, NOT_SETUP, Internal, failure, missing_page, not_implemented, unauthorized
from .generations import generation
from .http import Application, HttpError, Request, Response, Router, reply
from .providers import Providers
from .rag import Knowledge
from .sessions import SESSIONS, is_admin_key
from .sources import make_source
from .storage import Cache, Database


class Api(Application):
    name = "api"

    def __init__(self, settings: Settings, database: Database, cache: Cache) -> None:
        self.settings = settings
        self.generation = generation(settings.version)
        self.db = database
        self.cache = cache
        self.daemon = DaemonClient(settings, self.generation)
        self.marketplace = Marketplace(settings)
        self.accounts = accounts.Accounts(settings, database, cache)
        self.session = SESSIONS[self.generation.session]
        self.providers = Providers(settings, database, cache, make_source(settings, self.generation, cache, self.daemon))
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
        if self.generation.remember_cookie:
            response.headers.append(("Set-Cookie", "remember_token=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/"))
        response.headers += [("X-Version", self.generation.version), ("X-Env", self.settings.deploy_env)]
        return response

    def checks(self, model: str, body: dict[str, Any]) -> Checks:
        """Checks of a body that fail as this version does."""
        return CHECKS[self.generation.checks](model, body)

    def failed(self, request: Request, error: Exception) -> Response:
        if not isinstance(error, Internal):
            super().failed(request, error)
        status = {"status": 500} if self.generation.status_in_500 else {}
        return reply({"message": "Internal Server Error", "code": "unknown", **status}, 500)

    def _answer(self, request: Request) -> Response:
        found = self.router.find(request.method, request.path)
        if found is None:
            if any(fnmatch.fnmatchcase(request.path, path) for path in self.generation.gone):
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
            self.session.enter(self, request)

    def require_setup(self) -> None:
        if not self.accounts.setup_at():
            if self.settings.init_password:
                raise failure(401, "not_init_validated", NOT_INIT)
            raise failure(401, "not_setup", NOT_SETUP)

    def enter(self, request: Request, account: dict[str, Any] | None, workspace: str | None) -> None:
        join = self.accounts.join(account["id"], workspace) if account else None
        if account is None or join is None:
            raise unauthorized("Invalid token.")
        request.values.update(account=account, tenant=join["tenant_id"], role=join["role"])

    def require_admin_key(self, request: Request) -> None:
        """For the calls that take the key alone (no ADMIN_API_KEY_ENABLE, no workspace)."""
        bearer = request.headers.get("authorization", "")
        if not bearer.startswith("Bearer "):
            raise unauthorized("Authorization header is missing.")
        if not is_admin_key(self, bearer[7:]):
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
        return self.generation.trim("health", {"pid": os.getpid(), "status": "ok", "version": self.generation.version})
