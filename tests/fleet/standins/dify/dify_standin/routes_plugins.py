# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plugins of the workspace: what the API adds to the daemon's answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .api_roles import ADMIN
from .checks import Checks
from .errors import invalid, plugin_error
from .http import HttpError, Request
from .security import new_id

if TYPE_CHECKING:
    from .api import Api

_BASE = "/console/api/workspaces/current/plugin"
_STRATEGY = {"strategy_setting": "latest", "upgrade_time_of_day": 8100, "upgrade_mode": "exclude", "exclude_plugins": [], "include_plugins": []}
_OLD_STRATEGY = {**_STRATEGY, "strategy_setting": "fix_only", "upgrade_time_of_day": 0}
_ALL = ""
_PERMISSION = {"install_permission": "everyone", "debug_permission": "everyone"}
_LATEST_SECONDS = 300


def register(api: Api) -> None:
    if not api.generation.plugins:
        return
    api.route("GET", f"{_BASE}/list", list_plugins)
    api.route("POST", f"{_BASE}/list/installations/ids", by_ids)
    api.route("POST", f"{_BASE}/list/latest-versions", latest)
    api.route("POST", f"{_BASE}/upload/pkg", upload)
    api.route("POST", f"{_BASE}/install/pkg", install)
    api.route("POST", f"{_BASE}/install/marketplace", install_marketplace)
    api.route("POST", f"{_BASE}/upgrade/marketplace", upgrade_marketplace)
    api.route("POST", f"{_BASE}/upgrade/github", upgrade_github)
    api.route("POST", f"{_BASE}/uninstall", uninstall)
    api.route("GET", f"{_BASE}/tasks", tasks)
    api.route("POST", f"{_BASE}/tasks/delete_all", delete_tasks)
    api.route("GET", f"{_BASE}/tasks/<task>", task)
    api.route("POST", f"{_BASE}/tasks/<task>/delete", delete_task)
    api.route("GET", f"{_BASE}/permission/fetch", lambda _api, _request: dict(_PERMISSION))
    if "auto-upgrade" in api.generation.groups:
        api.route("GET", f"{_BASE}/<category>/list", by_category)
        api.route("GET", f"{_BASE}/auto-upgrade/fetch", read_strategy)
        api.route("POST", f"{_BASE}/auto-upgrade/change", write_strategy, roles=ADMIN)
    if "preferences" in api.generation.groups:
        api.route("GET", f"{_BASE}/preferences/fetch", read_preferences)
        api.route("POST", f"{_BASE}/preferences/change", write_preferences, roles=ADMIN)


def _declared(api: Api, declaration: dict[str, Any]) -> dict[str, Any]:
    """A plugin's declaration with the keys that this version knows."""
    trim = api.generation.trim
    found = trim("declaration", declaration)
    found = {**found, "plugins": trim("declared plugins", declaration["plugins"])}
    return {**found, "model": trim("declared provider", declaration["model"])} if declaration["model"] else found


def _installed(api: Api, plugins: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**plugin, "declaration": _declared(api, plugin["declaration"])} for plugin in plugins]


def _listing(api: Api, request: Request) -> Any:
    query = {"page": request.query.get("page", "1"), "page_size": request.query.get("page_size", "256")}
    return api.daemon.management("GET", request.values["tenant"], "list", query=query)


def list_plugins(api: Api, request: Request) -> Any:
    found = _listing(api, request)
    return {"plugins": _installed(api, found["list"]), "total": found["total"]}


def by_category(api: Api, request: Request, category: str) -> Any:
    plugins = [plugin for plugin in _listing(api, request)["list"] if plugin["declaration"]["category"] == category]
    return {"plugins": _installed(api, plugins), "builtin_tools": [], "has_more": False}


def by_ids(api: Api, request: Request) -> Any:
    wanted = api.checks("ParserLatest", request.json).required("plugin_ids")
    found = api.daemon.management("POST", request.values["tenant"], "installation/fetch/batch", {"plugin_ids": wanted})
    return {"plugins": _installed(api, found)}


def latest(api: Api, request: Request) -> Any:
    """Asks the marketplace, remembers its answers; an unreachable one leaves out what is not remembered."""
    found, todo = {}, []
    for plugin_id in api.checks("ParserLatest", request.json).required("plugin_ids"):
        kept = api.cache.get(f"plugin_service:latest_plugin:{plugin_id}")
        if kept:
            found[plugin_id] = json.loads(kept)
        else:
            todo.append(plugin_id)
    if todo and api.settings.marketplace_enabled:
        try:
            for plugin_id, plugin in api.marketplace.latest(todo).items():
                found[plugin_id] = plugin
                if plugin:
                    api.cache.set(f"plugin_service:latest_plugin:{plugin_id}", json.dumps(plugin), _LATEST_SECONDS)
        except HttpError:
            pass
    return {"versions": found}


def upload(api: Api, request: Request) -> Any:
    files = request.files()
    if "pkg" not in files:
        raise invalid("No file part")
    content = files["pkg"][1]
    if len(content) > api.settings.plugin_max_package_size:
        raise plugin_error("File size exceeds the maximum allowed size")
    found = api.daemon.upload(request.values["tenant"], content)
    return {**found, "manifest": _declared(api, found["manifest"])}


def _identifiers(api: Api, request: Request) -> list[str]:
    found = api.checks("ParserPluginIdentifiers", request.json).required("plugin_unique_identifiers")
    for identifier in found:
        if not isinstance(identifier, str) or "@" not in identifier or ":" not in identifier:
            raise invalid("Invalid plugin unique identifier")
    return found


def _started(api: Api, request: Request, answer: dict[str, Any]) -> Any:
    api.providers.forget(request.values["tenant"])
    return api.generation.trim("install", {**answer, "task": None})


def _install(api: Api, request: Request, identifiers: list[str], source: str) -> Any:
    metas = [api.generation.trim(f"{source} meta", {"plugin_unique_identifier": identifier}) for identifier in identifiers]
    body = {"plugin_unique_identifiers": identifiers, "source": source, "metas": metas}
    return _started(api, request, api.daemon.management("POST", request.values["tenant"], "install/identifiers", body))


def install(api: Api, request: Request) -> Any:
    return _install(api, request, _identifiers(api, request), "package")


def install_marketplace(api: Api, request: Request) -> Any:
    """A package that the daemon already has is not fetched again."""
    if not api.settings.marketplace_enabled:
        raise invalid("marketplace is not enabled")
    identifiers, tenant = _identifiers(api, request), request.values["tenant"]
    for identifier in identifiers:
        if not api.daemon.has_package(tenant, identifier):
            api.daemon.upload(tenant, api.marketplace.download(identifier))
    return _install(api, request, identifiers, "marketplace")


def _pair(api: Api, request: Request, model: str) -> tuple[str, str]:
    checks = api.checks(model, request.json)
    return checks.string("original_plugin_unique_identifier") or "", checks.string("new_plugin_unique_identifier") or ""


def _upgrade(api: Api, request: Request, old: str, new: str, source: str, meta: dict[str, Any]) -> Any:
    body = {"original_plugin_unique_identifier": old, "new_plugin_unique_identifier": new, "source": source, "meta": meta}
    return _started(api, request, api.daemon.management("POST", request.values["tenant"], "install/upgrade", body))


def upgrade_marketplace(api: Api, request: Request) -> Any:
    """Always asks the marketplace, also for a package that was uploaded by hand (recorded)."""
    old, new = _pair(api, request, "ParserMarketplaceUpgrade")
    if old == new:
        raise invalid("you should not upgrade plugin with the same plugin")
    api.daemon.upload(request.values["tenant"], api.marketplace.download(new))
    return _upgrade(api, request, old, new, "marketplace", {"plugin_unique_identifier": new})


def upgrade_github(api: Api, request: Request) -> Any:
    """Only relays to the daemon, so it also works offline with an uploaded package."""
    old, new = _pair(api, request, "ParserGithubUpgrade")
    checks = api.checks("ParserGithubUpgrade", request.json)
    meta = {field: checks.string(field) for field in ("repo", "version", "package")}
    return _upgrade(api, request, old, new, "github", meta)


def uninstall(api: Api, request: Request) -> Any:
    body = {"plugin_installation_id": api.checks("ParserUninstall", request.json).string("plugin_installation_id")}
    api.daemon.management("POST", request.values["tenant"], "uninstall", body)
    api.providers.forget(request.values["tenant"])
    return {"success": True}


def tasks(api: Api, request: Request) -> Any:
    return {"tasks": [_task(api, found) for found in api.daemon.management("GET", request.values["tenant"], "install/tasks")]}


def _task(api: Api, found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "plugins": [api.generation.trim("task plugin", plugin) for plugin in found["plugins"]]}


def task(api: Api, request: Request, task: str) -> Any:
    """Looking at a finished task drops the cached provider list; nobody looking leaves it stale for a day."""
    found = api.daemon.management("GET", request.values["tenant"], f"install/tasks/{task}")
    if found["status"] in ("success", "failed"):
        api.providers.forget(request.values["tenant"])
    return {"task": _task(api, found)}


def delete_task(api: Api, request: Request, task: str) -> Any:
    api.daemon.management("POST", request.values["tenant"], f"install/tasks/{task}/delete")
    return {"success": True}


def delete_tasks(api: Api, request: Request) -> Any:
    api.daemon.management("POST", request.values["tenant"], "install/tasks/delete_all")
    return {"success": True}


def _strategy(api: Api, tenant: str, category: str, default: dict[str, Any]) -> dict[str, Any]:
    sql = "SELECT settings FROM tenant_plugin_auto_upgrade_strategies WHERE tenant_id = ? AND category = ?"
    row = api.db.one(sql, tenant, category)
    return json.loads(row["settings"]) if row else default


def _write_strategy(api: Api, tenant: str, category: str, checks: Checks, default: dict[str, Any]) -> None:
    sent = checks.mapping("auto_upgrade")
    if sent.get("strategy_setting") not in ("disabled", "fix_only", "latest"):
        text = "Input should be 'disabled', 'fix_only' or 'latest'"
        raise checks.fail("auto_upgrade.strategy_setting", text, "enum", sent.get("strategy_setting"))
    api.db.execute("DELETE FROM tenant_plugin_auto_upgrade_strategies WHERE tenant_id = ? AND category = ?", tenant, category)
    settings = json.dumps({field: sent.get(field, value) for field, value in default.items()})
    api.db.insert("tenant_plugin_auto_upgrade_strategies", id=new_id(), tenant_id=tenant, category=category, settings=settings)


def read_strategy(api: Api, request: Request) -> Any:
    category = request.query.get("category", "model")
    return {"category": category, "auto_upgrade": _strategy(api, request.values["tenant"], category, _STRATEGY)}


def write_strategy(api: Api, request: Request) -> Any:
    checks = api.checks("ParserAutoUpgradeChange", request.json)
    _write_strategy(api, request.values["tenant"], checks.string("category") or "", checks, _STRATEGY)
    return {"success": True}


def read_preferences(api: Api, request: Request) -> Any:
    """1.7-1.14: permissions and one strategy for all plugins in one answer."""
    upgrade = _strategy(api, request.values["tenant"], _ALL, _OLD_STRATEGY)
    return {"permission": dict(_PERMISSION), "auto_upgrade": upgrade}


def write_preferences(api: Api, request: Request) -> Any:
    _write_strategy(api, request.values["tenant"], _ALL, api.checks("preferences", request.json), _OLD_STRATEGY)
    return {"success": True}
