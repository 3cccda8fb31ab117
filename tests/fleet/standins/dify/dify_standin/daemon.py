# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plugin daemon (port 5002): packages, installations, install tasks, and the models behind them.

Package files lie in its storage folder, everything else in the database ``dify_plugin``. Its wire format towards the API
follows the real daemon's paths; the envelope is ours, as nothing but our API stand-in reads it.
"""

from __future__ import annotations

import datetime
import hmac
import json
import pathlib
import re
import threading
import time
from typing import Any

from . import packages
from .config import Settings
from .http import Application, HttpError, Request, Response, Router, reply
from .security import new_id
from .storage import Database, Row
from .xinference import CredentialsRefused, Plugin, PluginFailed


def _iso(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _fail(status: int, kind: str, message: str) -> HttpError:
    return HttpError(reply({"code": -status, "error_type": kind, "message": message, "data": None}))


def refused(message: str) -> HttpError:
    """An error that the API hands to its client as ``plugin_error``."""
    return _fail(400, "PluginError", message)


class Daemon(Application):
    name = "plugin_daemon"

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self.db = database
        self.plugin = Plugin(settings.xinference_retry_pause, settings.xinference_timeout)
        self.router = Router()
        base = "/plugin/<tenant>/management"
        add = self.router.add
        add("GET", f"{base}/list", self.list_plugins)
        add("GET", f"{base}/models", self.list_models)
        add("POST", f"{base}/install/upload/package", self.upload)
        add("POST", f"{base}/install/identifiers", self.install)
        add("POST", f"{base}/install/upgrade", self.upgrade)
        add("GET", f"{base}/install/tasks", self.list_tasks)
        add("POST", f"{base}/install/tasks/delete_all", self.delete_tasks)
        add("GET", f"{base}/install/tasks/<task>", self.get_task)
        add("POST", f"{base}/install/tasks/<task>/delete", self.delete_task)
        add("GET", f"{base}/fetch/manifest", self.manifest)
        add("POST", f"{base}/installation/fetch/batch", self.fetch_batch)
        add("POST", f"{base}/uninstall", self.uninstall)
        dispatch = "/plugin/<tenant>/dispatch"
        add("POST", f"{dispatch}/model/validate_model_credentials", self.validate)
        add("POST", f"{dispatch}/llm/invoke", self.invoke_llm)
        add("POST", f"{dispatch}/text_embedding/invoke", self.invoke_embedding)
        add("POST", f"{dispatch}/rerank/invoke", self.invoke_rerank)

    def started(self) -> None:
        """An install that a stopped daemon left running will never end by itself."""
        for task in self.db.query("SELECT * FROM install_tasks WHERE status = 'running'"):
            self._finish(task["id"], "failed", "the plugin daemon was restarted during the installation")

    def __call__(self, request: Request) -> Response:
        if request.path == "/health/check":
            self.db.query("SELECT 1")
            return reply({"status": "ok", "stand_in": True})
        if not hmac.compare_digest(request.headers.get("x-api-key", "").encode(), self.settings.server_key.encode()):
            return reply({"code": -401, "error_type": "Unauthorized", "message": "unauthorized", "data": None}, 401)
        found = self.router.find(request.method, request.path)
        if found is None:
            return reply({"code": -501, "error_type": "NotImplemented", "message": f"stand-in: {request.method} {request.path}"}, 501)
        route, values = found
        return reply({"code": 0, "message": "success", "data": route.handler(request, **values)})

    # -- packages -----------------------------------------------------------------------------------------------

    def upload(self, request: Request, tenant: str) -> Any:
        _name, content, _headers = request.files().get("dify_pkg", ("", b"", {}))
        if len(content) > self.settings.plugin_max_package_size:
            raise refused("File size exceeds the maximum allowed size")
        try:
            identifier, declaration = packages.decode(content)
            signed = packages.is_signed(content)
        except packages.PackageError as error:
            raise refused(str(error)) from error
        if self.settings.force_verifying_signature and not signed:
            raise refused("plugin verification has been enabled, and the plugin you want to install has a bad signature")
        self.settings.plugin_files.write(self._file(identifier), content)
        if not self._package(identifier):
            self.db.insert(
                "plugins",
                plugin_unique_identifier=identifier,
                plugin_id=packages.plugin_id(identifier),
                declaration=json.dumps(declaration),
                created_at=time.time(),
            )
        return {"unique_identifier": identifier, "manifest": declaration, "verification": None}

    def _file(self, identifier: str) -> str:
        return "plugin_packages/" + re.sub(r"[^\w.@:-]", "_", identifier)

    def _package(self, identifier: str) -> dict[str, Any] | None:
        row = self.db.one("SELECT declaration FROM plugins WHERE plugin_unique_identifier = ?", identifier)
        return json.loads(row["declaration"]) if row else None

    def _known(self, identifier: str) -> dict[str, Any]:
        declaration = self._package(identifier)
        if declaration is None or not self.settings.plugin_files.exists(self._file(identifier)):
            raise refused("plugin not found")
        return declaration

    def manifest(self, request: Request, tenant: str) -> Any:
        return self._known(request.query.get("plugin_unique_identifier", ""))

    # -- installations ------------------------------------------------------------------------------------------

    def _installed(self, tenant: str, plugin_id: str) -> Row | None:
        return self.db.one("SELECT * FROM plugin_installations WHERE tenant_id = ? AND plugin_id = ?", tenant, plugin_id)

    def _entity(self, row: Row) -> dict[str, Any]:
        identifier = row["plugin_unique_identifier"]
        return {
            "id": row["id"],
            "created_at": _iso(row["created_at"]),
            "updated_at": _iso(row["updated_at"]),
            "tenant_id": row["tenant_id"],
            "endpoints_setups": 0,
            "endpoints_active": 0,
            "runtime_type": row["runtime_type"],
            "source": row["source"],
            "meta": json.loads(row["meta"]),
            "plugin_id": row["plugin_id"],
            "plugin_unique_identifier": identifier,
            "version": packages.version(identifier),
            "checksum": identifier.split("@", 1)[1],
            "declaration": self._package(identifier),
        }

    def _installations(self, tenant: str) -> list[Row]:
        return self.db.query("SELECT * FROM plugin_installations WHERE tenant_id = ? ORDER BY id", tenant)

    def list_plugins(self, request: Request, tenant: str) -> Any:
        page, size = int(request.query.get("page", "1")), int(request.query.get("page_size", "256"))
        rows = self._installations(tenant)
        shown = [self._entity(row) for row in rows[(page - 1) * size : page * size]]
        for entity in shown:
            entity.update(name=entity["declaration"]["name"], installation_id=entity["id"])
        return {"list": shown, "total": len(rows)}

    def list_models(self, request: Request, tenant: str) -> Any:
        found = []
        for row in self._installations(tenant):
            declaration = self._package(row["plugin_unique_identifier"])
            if declaration and declaration["model"]:
                found.append({"plugin_id": row["plugin_id"], "declaration": declaration["model"]})
        return found

    def fetch_batch(self, request: Request, tenant: str) -> Any:
        wanted = request.json.get("plugin_ids") or []
        return [self._entity(row) for row in self._installations(tenant) if row["plugin_id"] in wanted]

    def uninstall(self, request: Request, tenant: str) -> Any:
        self.db.execute(
            "DELETE FROM plugin_installations WHERE tenant_id = ? AND id = ?", tenant, request.json.get("plugin_installation_id", "")
        )
        return True

    def install(self, request: Request, tenant: str) -> Any:
        """Compares the plugin id only: another installed version counts as installed, as the real daemon has it."""
        body = request.json
        identifiers = body.get("plugin_unique_identifiers") or []
        metas = body.get("metas") or [{} for _identifier in identifiers]
        for identifier in identifiers:
            self._known(identifier)
        todo = [
            (identifier, meta)
            for identifier, meta in zip(identifiers, metas, strict=True)
            if not self._installed(tenant, packages.plugin_id(identifier))
        ]
        if not todo:
            return {"all_installed": True, "task_id": ""}
        return {"all_installed": False, "task_id": self._start(tenant, todo, body.get("source", "package"), None)}

    def upgrade(self, request: Request, tenant: str) -> Any:
        body = request.json
        old, new = body.get("original_plugin_unique_identifier", ""), body.get("new_plugin_unique_identifier", "")
        if old == new:
            raise refused("original and new plugin unique identifier are the same")
        self._known(new)
        row = self._installed(tenant, packages.plugin_id(old))
        if row is None or row["plugin_unique_identifier"] != old:
            raise _fail(500, "InternalServerError", "plugin installation not found for this tenant")
        return {"all_installed": False, "task_id": self._start(tenant, [(new, body.get("meta") or {})], body.get("source", "package"), row)}

    # -- tasks --------------------------------------------------------------------------------------------------

    def _start(self, tenant: str, todo: list[tuple[str, dict[str, Any]]], source: str, replaced: Row | None) -> str:
        task, when = new_id(), time.time()
        plugins = []
        for identifier, _meta in todo:
            declaration = self._known(identifier)
            plugins.append(
                {
                    "plugin_unique_identifier": identifier,
                    "plugin_id": packages.plugin_id(identifier),
                    "status": "running",
                    "message": "",
                    "icon": declaration["icon"],
                    "labels": declaration["label"],
                    "source": source,
                }
            )
        self.db.insert(
            "install_tasks",
            id=task,
            tenant_id=tenant,
            status="running",
            total_plugins=len(plugins),
            completed_plugins=0,
            plugins=json.dumps(plugins),
            created_at=when,
            updated_at=when,
        )
        threading.Thread(target=self._work, args=(task, tenant, todo, source, replaced), daemon=True).start()
        return task

    def _work(self, task: str, tenant: str, todo: list[tuple[str, dict[str, Any]]], source: str, replaced: Row | None) -> None:
        self.prepare()
        message = self._planned_failure()
        try:
            if not message:
                for identifier, meta in todo:
                    self._put(tenant, identifier, source, meta, replaced)
        except Exception as error:  # the task must end
            message = f"failed to install: {error}"
        try:
            self._finish(task, "failed" if message else "success", message or "Installed")
        except Exception as error:  # the database went away; started() ends the task later
            print(f"install task {task}: {error}")

    def prepare(self) -> None:
        """The real daemon builds a Python environment here; this one only takes its time."""
        time.sleep(self.settings.plugin_install_seconds)

    def _planned_failure(self) -> str:
        """A test can make the next installation fail: the text in this file is its error."""
        path = pathlib.Path(self.settings.plugin_storage, "standin-fail-next-install")
        if not path.exists():
            return ""
        text = path.read_text(encoding="utf-8").strip()
        path.unlink()
        return text or "failed to init environment"

    def _put(self, tenant: str, identifier: str, source: str, meta: dict[str, Any], replaced: Row | None) -> None:
        when = time.time()
        if replaced:
            self.db.execute(
                "UPDATE plugin_installations SET plugin_unique_identifier = ?, source = ?, meta = ?, updated_at = ? WHERE id = ?",
                identifier,
                source,
                json.dumps(meta),
                when,
                replaced["id"],
            )
            return
        self.db.insert(
            "plugin_installations",
            id=new_id(),
            tenant_id=tenant,
            plugin_id=packages.plugin_id(identifier),
            plugin_unique_identifier=identifier,
            runtime_type="local",
            source=source,
            meta=json.dumps(meta),
            created_at=when,
            updated_at=when,
        )

    def _finish(self, task: str, status: str, message: str) -> None:
        row = self.db.one("SELECT * FROM install_tasks WHERE id = ?", task)
        if row is None:
            return
        plugins = [{**plugin, "status": status, "message": message} for plugin in json.loads(row["plugins"])]
        self.db.execute(
            "UPDATE install_tasks SET status = ?, completed_plugins = ?, plugins = ?, updated_at = ? WHERE id = ?",
            status,
            len(plugins) if status == "success" else 0,
            json.dumps(plugins),
            time.time(),
            task,
        )

    def _task(self, row: Row) -> dict[str, Any]:
        return {
            "id": row["id"],
            "created_at": _iso(row["created_at"]),
            "updated_at": _iso(row["updated_at"]),
            "status": row["status"],
            "total_plugins": row["total_plugins"],
            "completed_plugins": row["completed_plugins"],
            "plugins": json.loads(row["plugins"]),
        }

    def list_tasks(self, request: Request, tenant: str) -> Any:
        rows = self.db.query("SELECT * FROM install_tasks WHERE tenant_id = ? ORDER BY id DESC", tenant)
        return [self._task(row) for row in rows]

    def get_task(self, request: Request, tenant: str, task: str) -> Any:
        row = self.db.one("SELECT * FROM install_tasks WHERE tenant_id = ? AND id = ?", tenant, task)
        if row is None:
            raise _fail(500, "InternalServerError", "task not found")
        return self._task(row)

    def delete_task(self, request: Request, tenant: str, task: str) -> Any:
        self.db.execute("DELETE FROM install_tasks WHERE tenant_id = ? AND id = ?", tenant, task)
        return True

    def delete_tasks(self, request: Request, tenant: str) -> Any:
        self.db.execute("DELETE FROM install_tasks WHERE tenant_id = ? AND status <> 'running'", tenant)
        return True

    # -- models -------------------------------------------------------------------------------------------------

    def _guarded(self, step: Any, *values: Any) -> Any:
        try:
            return step(*values)
        except CredentialsRefused as error:
            raise _fail(400, "CredentialsValidateFailedError", str(error)) from error
        except PluginFailed as error:
            text = json.dumps({"error_type": error.kind, "message": error.text, "args": {}})
            raise _fail(500, "PluginInvokeError", text) from error
        except (KeyError, TypeError, ValueError, IndexError) as error:
            # A server that answers something else than Xinference's API.
            text = json.dumps({"error_type": type(error).__name__, "message": str(error), "args": {}})
            raise _fail(500, "PluginInvokeError", text) from error

    def validate(self, request: Request, tenant: str) -> Any:
        body = request.json
        return {"result": True, "credentials": self._guarded(self.plugin.validate, body["model_type"], body["credentials"], body["model"])}

    def invoke_llm(self, request: Request, tenant: str) -> Any:
        body = request.json
        return self._guarded(self.plugin.chat, body["credentials"], body["prompt_messages"], body.get("model_parameters") or {})

    def invoke_embedding(self, request: Request, tenant: str) -> Any:
        body = request.json
        return self._guarded(self.plugin.embed, body["credentials"], body["texts"])

    def invoke_rerank(self, request: Request, tenant: str) -> Any:
        body = request.json
        return self._guarded(self.plugin.rerank, body["credentials"], body["query"], body["docs"], body.get("top_n"))
