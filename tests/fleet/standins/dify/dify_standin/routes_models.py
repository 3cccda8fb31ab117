# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Model providers, their models and credentials, default models."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .api_roles import ADMIN
from .checks import MODEL_TYPES, Checks
from .errors import invalid
from .http import HttpError, Request, Response, html, reply

if TYPE_CHECKING:
    from .api import Api

_BASE = "/console/api/workspaces/current"
_SUCCESS = {"result": "success"}


def register(api: Api) -> None:
    one = f"{_BASE}/model-providers/<path:provider>/models"
    api.route("GET", f"{_BASE}/model-providers", list_providers)
    api.route("POST", f"{one}/credentials/validate", validate)
    api.route("GET", f"{one}/credentials", read)
    api.route("PATCH", f"{one}/enable", lambda api, request, provider: enable(api, request, provider, True))
    api.route("PATCH", f"{one}/disable", lambda api, request, provider: enable(api, request, provider, False))
    api.route("GET", one, list_models)
    if api.generation.registration == "credentials":
        api.route("POST", f"{one}/credentials/switch", switch, roles=ADMIN)
        api.route("POST", f"{one}/credentials", create, roles=ADMIN)
        api.route("PUT", f"{one}/credentials", update, roles=ADMIN)
        api.route("DELETE", f"{one}/credentials", delete, roles=ADMIN)
        api.route("POST", one, use_credential, roles=ADMIN)
    else:
        api.route("POST", one, upsert, roles=ADMIN)
        api.router.only(f"{one}/credentials")  # only to be read
    api.route("DELETE", one, delete_model, roles=ADMIN)
    api.route("GET", f"{_BASE}/default-model", read_default)
    api.route("POST", f"{_BASE}/default-model", write_default, roles=ADMIN)
    api.route("GET", f"{_BASE}/models/model-types/<model_type>", by_type)
    api.route("GET", "/console/api/workspaces/<tenant>/model-providers/<path:provider>/icon_small/<language>", icon, "none")


def _icons(api: Api, tenant: str, name: str, declared: dict[str, Any]) -> dict[str, Any]:
    """The icon entries of an answer: addresses instead of the declared file names."""
    where = tenant if api.generation.plugins else "current"
    base = f"{api.settings.console_api_url}/console/api/workspaces/{where}/model-providers/{name}"
    found: dict[str, Any] = {"icon_small_dark": None}
    for kind in ("icon_small", "icon_large"):
        languages = declared.get(kind)
        found[kind] = {language: f"{base}/{kind}/{language}" for language in languages} if languages else None
    return found


def icon(api: Api, request: Request, tenant: str, provider: str, language: str) -> Response:
    response = html('<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16"><title>stand-in</title></svg>')
    response.content_type = "image/svg+xml"
    return response


def list_providers(api: Api, request: Request) -> Any:
    tenant, wanted = request.values["tenant"], request.query.get("model_type")
    if wanted and wanted not in MODEL_TYPES:
        api.checks("ParserModelList", dict(request.query)).model_type()
    found = api.providers.declarations(tenant).items()
    data = [_provider(api, tenant, name, declared) for name, declared in found if not wanted or wanted in declared["supported_model_types"]]
    return {"data": data}


def _provider(api: Api, tenant: str, name: str, declared: dict[str, Any]) -> dict[str, Any]:
    custom = _custom(api, tenant, name)
    found = {
        "tenant_id": tenant,
        "provider": name,
        "label": declared["label"],
        "description": declared["description"],
        **_icons(api, tenant, name, declared),
        "background": declared["background"],
        "help": declared["help"],
        "supported_model_types": declared["supported_model_types"],
        "configurate_methods": declared["configurate_methods"],
        "provider_credential_schema": declared["provider_credential_schema"],
        "model_credential_schema": declared["model_credential_schema"],
        "preferred_provider_type": "custom",
        "custom_configuration": custom,
        "system_configuration": {"enabled": False, "current_quota_type": None, "quota_configurations": []},
    }
    return api.generation.trim("provider", found)


def _available(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [{"credential_id": row["id"], "credential_name": row["credential_name"]} for row in rows]


def _custom(api: Api, tenant: str, name: str) -> dict[str, Any]:
    listed = api.providers.registered(tenant, name)
    models = [_custom_model(api, tenant, name, row["model_name"], row["model_type"], api.providers.current(row)) for row in listed]
    have = {(model["model"], model["model_type"]) for model in models}
    rows = api.db.query(
        "SELECT DISTINCT model_name, model_type FROM provider_model_credentials WHERE tenant_id = ? AND provider_name = ?", tenant, name
    )
    # Credentials whose model was removed are listed twice: at the end of the models, and as what can be added.
    orphans = sorted({(row["model_name"], row["model_type"]) for row in rows} - have)
    found = {
        "status": "active" if any(model["current_credential_id"] for model in models) else "no-configure",
        "current_credential_id": None,
        "current_credential_name": None,
        "available_credentials": [],
        "custom_models": models + [{**_custom_model(api, tenant, name, *orphan, None), "unadded_to_model_list": True} for orphan in orphans],
        "can_added_models": [{"model": model, "model_type": kind} for model, kind in orphans],
    }
    return api.generation.trim("custom configuration", found)


def _custom_model(api: Api, tenant: str, provider: str, model: str, kind: str, current: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "model": model,
        "model_type": kind,
        "credentials": None,
        "current_credential_id": current and current["id"],
        "current_credential_name": current and current["credential_name"],
        "available_model_credentials": _available(api.providers.filed(tenant, provider, model, kind)),
        "unadded_to_model_list": False,
    }


def _short(api: Api, tenant: str, name: str) -> dict[str, Any]:
    """The provider as it is nested in models and defaults."""
    declared = api.providers.declaration(tenant, name)
    found = {
        "provider": api.providers.name(name),
        "label": declared["label"],
        **_icons(api, tenant, api.providers.name(name), declared),
        "supported_model_types": declared["supported_model_types"],
        "models": [],
        "tenant_id": tenant,
        "provider_name": declared["provider_name"],
    }
    return api.generation.trim("nested provider", found)


def list_models(api: Api, request: Request, provider: str) -> Any:
    tenant = request.values["tenant"]
    models = api.providers.models(tenant, provider)
    return {"data": [{**model, "provider": _short(api, tenant, provider)} for model in models]}


def _target(api: Api, request: Request, model: str, query: bool = False) -> tuple[Checks, str, str]:
    checks = api.checks(model, dict(request.query) if query else request.json)
    return checks, checks.string("model") or "", checks.model_type()


def read(api: Api, request: Request, provider: str) -> Any:
    tenant = request.values["tenant"]
    _checks, model, kind = _target(api, request, "ParserGetCredentials", query=True)
    api.providers.declaration(tenant, provider)
    current = api.providers.current(api.providers.shown(tenant, provider, model, kind))
    masked = api.providers.masked(tenant, provider, current) if current else None
    balancing = {"enabled": False, "configs": []}
    if api.generation.registration == "upsert":
        return {"credentials": masked, "load_balancing": balancing}
    return {
        "credentials": masked or {},
        "current_credential_id": current and current["id"],
        "current_credential_name": current and current["credential_name"],
        "load_balancing": balancing,
        "available_credentials": _available(api.providers.credentials(tenant, provider, model, kind)),
    }


def upsert(api: Api, request: Request, provider: str) -> Any:
    checks, model, kind = _target(api, request, "models")
    api.providers.upsert(request.values["tenant"], provider, model, kind, checks.mapping("credentials"))
    return _SUCCESS


def create(api: Api, request: Request, provider: str) -> Response:
    checks, model, kind = _target(api, request, "ParserCreateCredential")
    name = checks.string("name", required=False, most=30)
    api.providers.create(request.values["tenant"], provider, model, kind, checks.mapping("credentials"), name)
    return reply(_SUCCESS, 201)


def update(api: Api, request: Request, provider: str) -> Any:
    checks, model, kind = _target(api, request, "ParserUpdateCredential")
    sent, credential = checks.mapping("credentials"), checks.uuid("credential_id") or ""
    name = checks.string("name", required=False, most=30)
    api.providers.update(request.values["tenant"], provider, model, kind, credential, sent, name)
    return _SUCCESS


def delete(api: Api, request: Request, provider: str) -> Response:
    checks, model, kind = _target(api, request, "ParserDeleteCredential")
    api.providers.delete_credential(request.values["tenant"], provider, model, kind, checks.uuid("credential_id") or "")
    return Response(204)


def switch(api: Api, request: Request, provider: str) -> Any:
    checks, model, kind = _target(api, request, "ParserSwitch")
    api.providers.switch(request.values["tenant"], provider, model, kind, checks.string("credential_id") or "", same_is_error=True)
    return _SUCCESS


def use_credential(api: Api, request: Request, provider: str) -> Any:
    """The console's way to switch. The upsert of before 1.8 comes here too: 200, and nothing happens (recorded)."""
    checks, model, kind = _target(api, request, "ParserPostModels")
    if request.json.get("config_from") == "custom-model":
        credential = checks.uuid("credential_id", required=False)
        if not credential:
            raise invalid("credential_id is required when configuring a custom-model")
        api.providers.switch(request.values["tenant"], provider, model, kind, credential, same_is_error=False)
    return _SUCCESS


def delete_model(api: Api, request: Request, provider: str) -> Response:
    _checks, model, kind = _target(api, request, "ParserDeleteModels")
    api.providers.delete_model(request.values["tenant"], provider, model, kind)
    return Response(204)


def enable(api: Api, request: Request, provider: str, on: bool) -> Any:
    _checks, model, kind = _target(api, request, "ParserDeleteModels")
    api.providers.declaration(request.values["tenant"], provider)
    api.providers.enable(request.values["tenant"], provider, model, kind, on)
    return _SUCCESS


def validate(api: Api, request: Request, provider: str) -> Any:
    checks, model, kind = _target(api, request, "ParserValidate")
    try:
        api.providers.validated(request.values["tenant"], provider, model, kind, checks.mapping("credentials"))
    except HttpError as error:
        return {"result": "error", "error": json.loads(error.response.body)["message"]}
    return api.generation.trim("validation", {"result": "success", "error": None})


def read_default(api: Api, request: Request) -> Any:
    tenant = request.values["tenant"]
    row = api.providers.default(tenant, api.checks("ParserGetDefault", dict(request.query)).model_type())
    if row is None:
        return {"data": None}
    return {"data": {"model": row["model_name"], "model_type": row["model_type"], "provider": _short(api, tenant, row["provider_name"])}}


def write_default(api: Api, request: Request) -> Any:
    """Entry by entry: those before a failing one stay, one without a provider is passed over."""
    for setting in api.checks("ParserPostDefault", request.json).required("model_settings"):
        checks = api.checks("Inner", setting)
        kind = checks.model_type()
        if not setting.get("provider"):
            continue
        api.providers.choose_default(request.values["tenant"], kind, setting["provider"], checks.string("model") or "")
    return _SUCCESS


def by_type(api: Api, request: Request, model_type: str) -> Any:
    if model_type not in MODEL_TYPES:
        raise invalid(f"'{model_type}' is not a valid ModelType")
    return {"data": models_by_type(api, request.values["tenant"], model_type)}


def models_by_type(api: Api, tenant: str, model_type: str) -> list[dict[str, Any]]:
    found = []
    for name, declared in api.providers.declarations(tenant).items():
        models = [model for model in api.providers.models(tenant, name, model_type) if model["status"] == "active"]
        if models:
            found.append(
                api.generation.trim(
                    "provider",
                    {
                        "tenant_id": tenant,
                        "provider": name,
                        "label": declared["label"],
                        **_icons(api, tenant, name, declared),
                        "status": "active",
                        "models": models,
                    },
                )
            )
    return found
