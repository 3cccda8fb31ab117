# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Health, version, features, first set-up."""

from __future__ import annotations

import datetime
import hmac
from typing import TYPE_CHECKING, Any

from . import security
from .errors import ALREADY_SETUP, INIT_FAILED, NOT_INIT, failure, setup_error, setup_validation
from .http import HttpError, Request, Response, reply
from .security import EMAIL, jwt_decode, jwt_encode, valid_password

if TYPE_CHECKING:
    from .api import Api


def register(api: Api) -> None:
    api.route("GET", "/health", lambda api, _request: api.health(), "none")
    api.route("GET", "/console/api/ping", lambda _api, _request: {"result": "pong"}, "none")
    api.route("GET", "/console/api/version", version, "none")
    if api.generation.setup == "fastopenapi":
        api.route("GET", "/console/api/system-features", features, "none")
    api.route("GET", "/console/api/setup", setup_status, "none")
    api.route("POST", "/console/api/setup", set_up, "none")
    api.route("GET", "/console/api/init", init_status, "none")
    api.route("POST", "/console/api/init", init, "none")


def version(api: Api, request: Request) -> Any:
    """The real one asks CHECK_UPDATE_URL; without an answer it says the current version, as here."""
    features = {"can_replace_logo": False, "model_load_balancing_enabled": False}
    current = request.query.get("current_version", api.generation.version)
    return {"version": current, "release_date": "", "release_notes": "", "can_auto_update": False, "features": features}


def features(api: Api, request: Request) -> Any:
    return {
        "deployment_edition": "COMMUNITY",
        "enable_app_deploy": False,
        "sso_enforced_for_signin": False,
        "sso_enforced_for_signin_protocol": "",
        "enable_marketplace": api.settings.marketplace_enabled,
        "enable_email_code_login": False,
        "enable_email_password_login": True,
        "enable_social_oauth_login": False,
        "enable_collaboration_mode": False,
        "is_allow_register": False,
        "is_email_setup": False,
        "license": {"status": "none"},
        "branding": {"enabled": False, "application_title": "", "login_page_logo": "", "workspace_logo": "", "favicon": ""},
        "webapp_auth": {
            "enabled": False,
            "allow_sso": False,
            "sso_config": {"protocol": ""},
            "allow_email_code_login": False,
            "allow_email_password_login": False,
            "allow_public_access": True,
        },
        "plugin_installation_permission": {"plugin_installation_scope": "all", "restrict_to_marketplace_only": False},
        "enable_change_email": True,
        "enable_creators_platform": True,
        "enable_explore_banner": False,
        "enable_learn_app": True,
        "enable_step_by_step_tour": False,
        "rbac_enabled": False,
        "knowledge_fs_enabled": False,
    }


def setup_status(api: Api, request: Request) -> Any:
    when = api.accounts.setup_at()
    if when is None:
        return api.generation.trim("setup", {"step": "not_started", "setup_at": None})
    text = datetime.datetime.fromtimestamp(when, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    return {"step": "finished", "setup_at": text}


def _validated(api: Api, request: Request) -> bool:
    """Whether INIT_PASSWORD was given in this session, is not asked for, or no longer matters."""
    if not api.settings.init_password or api.accounts.setup_at():
        return True
    session = jwt_decode(request.cookies.get("session", ""), api.settings.secret_key)
    return bool(session and session.get("is_init_validated"))


class Flask:
    """Up to 1.11: first whether it may, then whether the values are right."""

    def check(self, api: Api, request: Request) -> None:
        if api.accounts.setup_at():
            raise failure(403, "already_setup", ALREADY_SETUP)
        if not _validated(api, request):
            raise failure(401, "not_init_validated", NOT_INIT)
        checks = api.checks("setup", request.json)
        checks.email("email")
        if len(checks.string("name") or "") > 30:
            raise checks.fail("name", "Length exceeds 30 characters", "too_long", None)
        checks.password("password", api.generation.password_text)

    def check_init(self, api: Api, request: Request) -> str:
        if api.accounts.setup_at():
            raise failure(403, "already_setup", ALREADY_SETUP)
        checks = api.checks("init", request.json)
        password = checks.string("password") or ""
        if len(password) > 30:
            raise checks.fail("password", "Length exceeds 30 characters", "too_long", None)
        return password

    def wrong_init(self) -> HttpError:
        return failure(401, "init_validate_failed", INIT_FAILED)


class FastOpenApi:
    """From 1.12 on: first the values, and errors of another shape."""

    def check(self, api: Api, request: Request) -> None:
        body = request.json
        mail, name, password = body.get("email"), body.get("name"), body.get("password")
        strings = all(isinstance(value, str) for value in (mail, name, password))
        if not strings or not EMAIL.match(str(mail)) or len(str(name)) > 30 or not name or not valid_password(str(password)):
            raise setup_validation()
        if api.accounts.setup_at():
            raise setup_error(403, "authorization_error", "Forbidden")
        if not _validated(api, request):
            raise setup_error(401, "authentication_error", "Unauthorized")

    def check_init(self, api: Api, request: Request) -> str:
        password = request.json.get("password")
        if not isinstance(password, str) or len(password) > 30:
            raise setup_validation()
        if api.accounts.setup_at():
            raise setup_error(403, "authorization_error", "Forbidden")
        return password

    def wrong_init(self) -> HttpError:
        return setup_error(401, "authentication_error", "Unauthorized")


_STYLES: dict[str, Flask | FastOpenApi] = {"flask": Flask(), "fastopenapi": FastOpenApi()}


def set_up(api: Api, request: Request) -> Response:
    _STYLES[api.generation.setup].check(api, request)
    body = request.json
    language = body.get("language") if api.generation.setup_language else None
    api.accounts.set_up(body["email"], body["name"], body["password"], language, request.client)
    return reply({"result": "success"}, 201)


def init_status(api: Api, request: Request) -> Any:
    return {"status": "finished" if _validated(api, request) else "not_started"}


def init(api: Api, request: Request) -> Response:
    style = _STYLES[api.generation.setup]
    password = style.check_init(api, request)
    right = hmac.compare_digest(password.encode(), api.settings.init_password.encode())
    session = jwt_encode({"is_init_validated": right, "exp": int(security.now()) + 86400}, api.settings.secret_key)
    response = reply({"result": "success"}, 201) if right else style.wrong_init().response
    response.headers.append(("Set-Cookie", f"session={session}; HttpOnly; Path=/"))
    return response
