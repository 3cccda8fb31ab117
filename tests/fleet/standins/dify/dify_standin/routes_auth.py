# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sign-in, the signed-in account, workspaces, members."""

from __future__ import annotations

import json
import urllib.parse
import uuid
from typing import TYPE_CHECKING, Any

from .accounts import TIMEZONES
from .api_roles import ADMIN
from .errors import failure, invalid
from .http import Request, Response, reply
from .security import valid_password

if TYPE_CHECKING:
    from .api import Api


def register(api: Api) -> None:
    api.route("POST", "/console/api/login", login, "setup")
    if api.generation.session != "token":
        api.route("POST", "/console/api/refresh-token", lambda api, request: api.session.refresh(api, request), "none")
    api.route("POST", "/console/api/logout", lambda api, request: api.session.signed_out(api, request))
    api.route("GET", "/console/api/account/profile", profile)
    api.route("POST", "/console/api/account/interface-language", set_language)
    api.route("GET", "/console/api/workspaces", workspaces)
    api.route("GET", "/console/api/all-workspaces", all_workspaces, "none")
    api.route(api.generation.current_workspace, "/console/api/workspaces/current", current_workspace)
    api.router.only("/console/api/workspaces/current")
    api.route("POST", "/console/api/workspaces/info", rename_workspace, roles=ADMIN)
    if "members" not in api.generation.groups:
        return
    api.route("GET", "/console/api/workspaces/current/members", members)
    api.route("POST", "/console/api/workspaces/current/members/invite-email", invite, roles=ADMIN)
    api.route("GET", "/console/api/activate/check", check_activation, "none")
    api.route("POST", "/console/api/activate", activate, "none")


def login(api: Api, request: Request) -> Response:
    checks = api.checks("LoginPayload", request.json)
    mail = checks.email("email")
    account = api.accounts.sign_in(mail, checks.string("password") or "", request.client)
    return api.session.signed_in(api, account["id"])


def profile(api: Api, request: Request) -> Any:
    account = request.values["account"]
    found = {
        "avatar": None,
        "id": account["id"],
        "name": account["name"],
        "email": account["email"],
        "is_password_set": bool(account["password"]),
        "interface_language": account["interface_language"],
        "interface_theme": account["interface_theme"],
        "timezone": account["timezone"],
        "last_login_at": int(account["last_login_at"]),
        "last_login_ip": account["last_login_ip"],
        "created_at": int(account["created_at"]),
        "avatar_url": None,
    }
    return api.generation.trim("profile", found)


def set_language(api: Api, request: Request) -> Any:
    checks = api.checks("AccountInterfaceLanguagePayload", request.json)
    language = checks.string("interface_language") or ""
    if language not in TIMEZONES:
        raise checks.fail("interface_language", f"Value error, {language} is not a valid language.", "value_error", language)
    account = request.values["account"]
    api.db.execute("UPDATE accounts SET interface_language = ? WHERE id = ?", language, account["id"])
    request.values["account"] = {**account, "interface_language": language}
    return profile(api, request)


def workspaces(api: Api, request: Request) -> Any:
    return {
        "workspaces": [
            api.generation.trim(
                "workspace entry",
                {
                    "id": row["id"],
                    "name": row["name"],
                    "plan": "sandbox",
                    "status": row["status"],
                    "created_at": int(row["created_at"]),
                    "last_opened_at": int(row["last_opened_at"]),
                    "current": row["id"] == request.values["tenant"],
                },
            )
            for row in api.accounts.workspaces(request.values["account"]["id"])
        ]
    }


def all_workspaces(api: Api, request: Request) -> Any:
    api.require_admin_key(request)
    page, limit = int(request.query.get("page", "1")), int(request.query.get("limit", "20"))
    rows = api.db.query("SELECT * FROM tenants ORDER BY created_at DESC")
    shown = rows[(page - 1) * limit : page * limit]
    data = [{"id": row["id"], "name": row["name"], "status": row["status"], "created_at": int(row["created_at"])} for row in shown]
    return {"data": data, "has_more": page * limit < len(rows), "limit": limit, "page": page, "total": len(rows)}


def _workspace(api: Api, tenant: str, role: str | None) -> dict[str, Any]:
    row = api.accounts.tenant(tenant)
    unset = ("in_trial", "trial_end_reason", "custom_config", "trial_credits", "trial_credits_used", "trial_credits_exhausted_at")
    found = {
        "id": row["id"],
        "name": row["name"],
        # The later ones say nothing where nothing is billed.
        "plan": None if api.generation.current_workspace == "POST" else row["plan"],
        "status": row["status"],
        "created_at": int(row["created_at"]),
        "role": role,
        **dict.fromkeys(unset),
        "next_credit_reset_date": None,
    }
    return api.generation.trim("workspace", found)


def current_workspace(api: Api, request: Request) -> Any:
    return _workspace(api, request.values["tenant"], request.values["role"])


def rename_workspace(api: Api, request: Request) -> Any:
    name = api.checks("WorkspaceInfoPayload", request.json).string("name")
    api.db.execute("UPDATE tenants SET name = ? WHERE id = ?", name, request.values["tenant"])
    return {"result": "success", "tenant": _workspace(api, request.values["tenant"], request.values["role"])}


def members(api: Api, request: Request) -> Any:
    rows = api.db.query(
        "SELECT a.*, j.role FROM accounts a JOIN tenant_account_joins j ON j.account_id = a.id WHERE j.tenant_id = ? ORDER BY j.id",
        request.values["tenant"],
    )
    fields = ("id", "name", "email", "role", "status")
    return {"accounts": [{**{field: row[field] for field in fields}, "created_at": int(row["created_at"])} for row in rows]}


def invite(api: Api, request: Request) -> Response:
    """No mail is sent: the link is in the answer, as with the real one."""
    body, tenant = request.json, request.values["tenant"]
    role, results = body.get("role"), []
    if role not in ("admin", "normal", "editor", "dataset_operator"):
        raise invalid("Invalid role")
    base = api.settings.console_web_url
    for mail in body.get("emails") or []:
        account = api.accounts.by_email(mail)
        member = account["id"] if account else api.accounts.create(mail, mail.split("@")[0], None, body.get("language") or "en-US", status="pending")
        if api.accounts.join(member, tenant):
            results.append({"status": "already_member", "email": mail, "message": "Account already in workspace."})
            continue
        api.accounts.add(tenant, member, role)
        token = str(uuid.uuid4())
        api.cache.set(f"member_invite:token:{token}", json.dumps({"email": mail, "workspace_id": tenant}), 72 * 3600)
        query = urllib.parse.urlencode({"email": mail, "token": token})
        results.append({"status": "success", "email": mail, "url": f"{base}/activate?{query}"})
    return reply({"result": "success", "invitation_results": results, "tenant_id": tenant}, 201)


def _invitation(api: Api, token: str) -> dict[str, Any] | None:
    kept = api.cache.get(f"member_invite:token:{token}")
    return json.loads(kept) if kept else None


def check_activation(api: Api, request: Request) -> Any:
    invitation = _invitation(api, request.query.get("token", ""))
    account = api.accounts.by_email(invitation["email"]) if invitation else None
    if invitation is None or account is None:
        return {"is_valid": False, "data": None}
    tenant = api.accounts.tenant(invitation["workspace_id"])
    data = {
        "workspace_name": tenant["name"],
        "workspace_id": tenant["id"],
        "email": account["email"],
        "account_status": account["status"],
        "requires_setup": account["status"] == "pending",
    }
    return {"is_valid": True, "data": data}


def activate(api: Api, request: Request) -> Any:
    body = request.json
    invitation = _invitation(api, str(body.get("token", "")))
    if invitation is None:
        raise failure(403, "already_activate", "Auth Token is invalid or account already activated, please check again.")
    password = body.get("password")
    if password is not None and not valid_password(str(password)):
        raise invalid("Password must contain letters and numbers, and the length must be greater than 8.")
    api.cache.delete(f"member_invite:token:{body['token']}")
    api.db.execute(
        "UPDATE accounts SET name = ?, interface_language = ?, timezone = ?, status = 'active' WHERE email = ?",
        body.get("name"),
        body.get("interface_language"),
        body.get("timezone"),
        invitation["email"].lower(),
    )
    if password:
        api.accounts.set_password(invitation["email"], str(password))
    return {"result": "success"}
