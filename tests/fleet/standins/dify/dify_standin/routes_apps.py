# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Apps of the console: only ``chat`` ones, their model configuration and their API keys."""

from __future__ import annotations

import json
import secrets
import string
import time
import uuid
from typing import TYPE_CHECKING, Any

from .api_roles import ADMIN, EDIT
from .checks import Checks
from .errors import invalid, not_found, not_implemented
from .http import Request, Response, reply
from .security import is_uuid, new_id
from .storage import Row

if TYPE_CHECKING:
    from .api import Api

_MODES = ("chat", "agent-chat", "advanced-chat", "workflow", "completion")
_DEFAULTS: dict[str, Any] = {
    "opening_statement": None,
    "suggested_questions": [],
    "suggested_questions_after_answer": {"enabled": False},
    "speech_to_text": {"enabled": False},
    "text_to_speech": {"enabled": False},
    "retriever_resource": {"enabled": True},
    "annotation_reply": {"enabled": False},
    "more_like_this": {"enabled": False},
    "sensitive_word_avoidance": {"enabled": False, "type": "", "configs": []},
    "external_data_tools": [],
    "model": {},
    "user_input_form": [],
    "dataset_query_variable": None,
    "pre_prompt": None,
    "agent_mode": {"enabled": False, "strategy": None, "tools": [], "prompt": None},
    "prompt_type": "simple",
    "chat_prompt_config": {},
    "completion_prompt_config": {},
    "dataset_configs": {"retrieval_model": "multiple"},
    "file_upload": {"image": {"enabled": False, "number_limits": 3, "detail": "high", "transfer_methods": ["remote_url", "local_file"]}},
}


def register(api: Api) -> None:
    if "apps" not in api.generation.groups:
        return
    base = "/console/api/apps"
    api.route("GET", base, list_apps)
    api.route("POST", base, create, roles=EDIT)
    api.route("GET", f"{base}/<app>", read)
    api.route("DELETE", f"{base}/<app>", delete, roles=EDIT)
    api.route("POST", f"{base}/<app>/api-enable", enable, roles=ADMIN)
    api.route("POST", f"{base}/<app>/model-config", configure, roles=EDIT)
    api.route("GET", f"{base}/<app>/api-keys", list_keys)
    api.route("POST", f"{base}/<app>/api-keys", create_key, roles=EDIT)
    api.route("DELETE", f"{base}/<app>/api-keys/<key>", delete_key, roles=ADMIN)


def get_app(api: Api, tenant: str, app: str) -> Row:
    row = api.db.one("SELECT * FROM apps WHERE id = ? AND tenant_id = ?", app, tenant) if is_uuid(app) else None
    if row is None:
        raise not_found("App not found")
    return row


def get_config(api: Api, row: Row) -> dict[str, Any]:
    found = api.db.one("SELECT configs FROM app_model_configs WHERE id = ?", row["app_model_config_id"])
    return json.loads(found["configs"]) if found else dict(_DEFAULTS)


def _detail(api: Api, row: Row) -> dict[str, Any]:
    author = api.accounts.get(row["created_by"]) or {"name": None}
    return {
        "id": row["id"],
        "name": row["name"],
        "description": row["description"],
        "mode": row["mode"],
        "icon_type": row["icon_type"],
        "icon": row["icon"],
        "icon_background": row["icon_background"],
        "icon_url": None,
        "enable_site": bool(row["enable_site"]),
        "enable_api": bool(row["enable_api"]),
        "model_config": get_config(api, row),
        "workflow": None,
        "tracing": None,
        "use_icon_as_answer_icon": False,
        "max_active_requests": None,
        "created_by": row["created_by"],
        "created_at": int(row["created_at"]),
        "updated_by": row["created_by"],
        "updated_at": int(row["updated_at"]),
        "access_mode": None,
        "tags": [],
        "author_name": author["name"],
        "api_base_url": f"{api.settings.service_api_url}/v1",
        "deleted_tools": [],
    }


def list_apps(api: Api, request: Request) -> Any:
    page, limit = int(request.query.get("page", "1")), int(request.query.get("limit", "20"))
    rows = api.db.query("SELECT * FROM apps WHERE tenant_id = ? ORDER BY id DESC", request.values["tenant"])
    wanted = request.query.get("name", "").lower()
    rows = [row for row in rows if wanted in row["name"].lower() and request.query.get("mode", "all") in ("all", row["mode"])]
    shown = rows[(page - 1) * limit : page * limit]
    return {"page": page, "limit": limit, "total": len(rows), "has_more": page * limit < len(rows), "data": [_detail(api, row) for row in shown]}


def create(api: Api, request: Request) -> Response:
    checks = Checks("CreateAppPayload", request.json)
    name, mode = checks.string("name"), checks.required("mode")
    if mode not in _MODES:
        text = "Input should be 'chat', 'agent-chat', 'advanced-chat', 'workflow' or 'completion'"
        raise checks.fail("mode", text, "literal_error", mode)
    if mode != "chat":
        return not_implemented("POST", f"{request.path} with mode {mode}")
    tenant, account = request.values["tenant"], request.values["account"]["id"]
    config = json.loads(json.dumps(_DEFAULTS))
    default = api.providers.default(tenant, "llm")
    if default:
        config["model"] = {"provider": default["provider_name"], "name": default["model_name"], "mode": "chat", "completion_params": {}}
    app, when = str(uuid.uuid4()), time.time()
    body = request.json
    api.db.insert(
        "apps",
        id=app,
        tenant_id=tenant,
        name=name,
        description=body.get("description") or "",
        mode=mode,
        icon_type=body.get("icon_type"),
        icon=body.get("icon"),
        icon_background=body.get("icon_background"),
        app_model_config_id=_store(api, app, account, config),
        enable_site=True,
        enable_api=True,
        created_by=account,
        created_at=when,
        updated_at=when,
    )
    return reply(_detail(api, get_app(api, tenant, app)), 201)


def _store(api: Api, app: str, account: str, config: dict[str, Any]) -> str:
    ident = new_id()
    api.db.insert("app_model_configs", id=ident, app_id=app, configs=json.dumps(config), created_by=account, created_at=time.time())
    return ident


def read(api: Api, request: Request, app: str) -> Any:
    return _detail(api, get_app(api, request.values["tenant"], app))


def delete(api: Api, request: Request, app: str) -> Response:
    row = get_app(api, request.values["tenant"], app)
    for table in ("app_model_configs", "conversations", "api_tokens"):
        api.db.execute(f"DELETE FROM {table} WHERE app_id = ?", row["id"])  # names are ours
    api.db.execute("DELETE FROM apps WHERE id = ?", row["id"])
    return Response(204)


def enable(api: Api, request: Request, app: str) -> Any:
    row = get_app(api, request.values["tenant"], app)
    api.db.execute("UPDATE apps SET enable_api = ? WHERE id = ?", bool(request.json.get("enable_api")), row["id"])
    return read(api, request, app)


def configure(api: Api, request: Request, app: str) -> Any:
    """Replaces the model configuration; the model has to be a registered one."""
    tenant, body = request.values["tenant"], request.json
    row = get_app(api, tenant, app)
    model = body.get("model")
    if not isinstance(model, dict):
        raise invalid("model is required")
    known = api.providers.declarations(tenant)
    provider = api.providers.name(str(model.get("provider") or ""))
    if provider not in known:
        raise invalid(f"model.provider is required and must be in {list(known)!s}")
    if not model.get("name"):
        raise invalid("model.name is required")
    if model["name"] not in [entry["model"] for entry in api.providers.models(tenant, provider, "llm")]:
        raise invalid("model.name must be in the specified model list")
    if not isinstance(model.get("completion_params"), dict):
        raise invalid("model.completion_params is required")
    config = {**_DEFAULTS, **{name: value for name, value in body.items() if name in _DEFAULTS}, "model": {**model, "provider": provider}}
    stored = _store(api, row["id"], request.values["account"]["id"], config)
    api.db.execute("UPDATE apps SET app_model_config_id = ?, updated_at = ? WHERE id = ?", stored, time.time(), row["id"])
    return {"result": "success"}


# -- API keys ---------------------------------------------------------------------------------------------------


def key_item(row: Row) -> dict[str, Any]:
    used = row["last_used_at"]
    return {
        "id": row["id"],
        "type": row["type"],
        "token": row["token"],
        "last_used_at": int(used) if used else None,
        "created_at": int(row["created_at"]),
    }


def new_key(api: Api, tenant: str, kind: str, app: str | None) -> dict[str, Any]:
    letters = string.ascii_letters + string.digits
    row = {
        "id": str(uuid.uuid4()),
        "tenant_id": tenant,
        "app_id": app,
        "type": kind,
        "token": f"{kind}-" + "".join(secrets.choice(letters) for _count in range(24)),
        "last_used_at": None,
        "created_at": time.time(),
    }
    api.db.insert("api_tokens", **row)
    return key_item(row)


def list_keys(api: Api, request: Request, app: str) -> Any:
    row = get_app(api, request.values["tenant"], app)
    return {"data": [key_item(key) for key in api.db.query("SELECT * FROM api_tokens WHERE app_id = ? ORDER BY created_at", row["id"])]}


def create_key(api: Api, request: Request, app: str) -> Response:
    row = get_app(api, request.values["tenant"], app)
    if len(api.db.query("SELECT id FROM api_tokens WHERE app_id = ?", row["id"])) >= 10:
        raise invalid("Cannot create more than 10 API keys for this resource type.")
    return reply(new_key(api, row["tenant_id"], "app", row["id"]), 201)


def delete_key(api: Api, request: Request, app: str, key: str) -> Response:
    row = get_app(api, request.values["tenant"], app)
    if not api.db.execute("DELETE FROM api_tokens WHERE app_id = ? AND id = ?", row["id"], key):
        raise not_found("API key not found")
    return Response(204)
