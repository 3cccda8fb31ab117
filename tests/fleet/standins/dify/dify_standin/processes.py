# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The processes of the stack: one function per container role."""

from __future__ import annotations

import dataclasses
import html as escape
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from .config import Settings
from .generations import generation
from .http import Application, Request, Response, html, make_server, reply
from .storage import Cache, Database, migrate, open_cache, open_database, schema_ready

INDEX_EVERY = 1.0


def version() -> str:
    return Settings.from_environment().version


def say(role: str, text: str) -> None:
    print(f"dify stand-in {version()} {role}: {text}", flush=True)


def _stop(_number: int, _frame: Any) -> None:
    """At once: every statement is committed already, and a container that lingers slows every test down."""
    sys.stdout.flush()
    os._exit(0)


def _serve(role: str, application: Application, address: str, port: int) -> None:
    server = make_server(application, address, port)
    say(role, f"listening on port {server.server_port}")
    try:
        server.serve_forever(poll_interval=0.2)
    finally:
        server.server_close()


def _wait(role: str, what: str, ready: Callable[[], Any], every: float = 1.0) -> None:
    """Until ``ready`` neither raises nor returns False; says once what is missing."""
    told = False
    while True:
        try:
            if ready() is not False:
                return
            reason = "not ready"
        except Exception as error:  # whatever the driver raises means: not yet
            reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        if not told:
            say(role, f"waiting for {what}: {reason}")
            told = True
        time.sleep(every)


def _stores(role: str, settings: Settings) -> tuple[Database, Cache]:
    settings.ensure_secret_key()
    database, cache = open_database(settings), open_cache(settings)
    _wait(role, "the database", lambda: database.query("SELECT 1"))
    _wait(role, "redis", cache.ping)
    if settings.vector_host:
        _wait(role, "pgvector", lambda: _ensure_vectors(settings))
    return database, cache


def _ensure_vectors(settings: Settings) -> None:
    """Signs in to pgvector and makes its extension, as Dify does with the first knowledge base. No vector is kept there."""
    there = dataclasses.replace(
        settings, db_type="postgresql", db_host=settings.vector_host, db_port=5432, db_username=settings.vector_user, db_password=settings.vector_password
    )
    database = open_database(there, settings.vector_database)
    try:
        database.execute("CREATE EXTENSION IF NOT EXISTS vector")
        database.query("SELECT '[1,2,3]'::vector")
    finally:
        database.close()


def _migrated(role: str, settings: Settings, database: Database, cache: Cache) -> None:
    if settings.migration_enabled:
        if migrate(database, cache, "dify", settings.migration_seconds, settings.version):
            say(role, "database migrated")
    else:
        _wait(role, "the migrated database", lambda: schema_ready(database, "dify", settings.version))


def api(settings: Settings) -> None:
    from .api import Api

    database, cache = _stores("api", settings)
    _migrated("api", settings, database, cache)
    _serve("api", Api(settings, database, cache), settings.bind_address, settings.port or 5001)


def worker(settings: Settings) -> None:
    """Indexes documents. The real one also runs workflows, mails and clean-ups, which nothing here asks for."""
    from .api import Api

    database, cache = _stores("worker", settings)
    _migrated("worker", settings, database, cache)
    knowledge = Api(settings, database, cache).knowledge
    say("worker", "ready")
    while True:
        try:
            if knowledge.index_waiting():
                continue
        except Exception as error:  # the database may be restarting
            say("worker", f"cannot read the queue: {error}")
        time.sleep(INDEX_EVERY)


def worker_beat(settings: Settings) -> None:
    database, cache = _stores("worker_beat", settings)
    _migrated("worker_beat", settings, database, cache)
    say("worker_beat", "ready (nothing is scheduled)")
    while True:
        time.sleep(60)


class Health(Application):
    """A process that only says that it is up."""

    def __init__(self, name: str, paths: dict[str, Any]) -> None:
        self.name = name
        self.paths = paths

    def __call__(self, request: Request) -> Response:
        if request.method == "GET" and request.path in self.paths:
            return reply(self.paths[request.path])
        text = f"The {self.name} stand-in of the test fleet does not implement {request.method} {request.path}."
        return reply({"code": "stand_in_not_implemented", "message": text, "status": 501}, 501)


def websocket(settings: Settings) -> None:
    _stores("websocket", settings)
    health = Health("websocket", {"/health": {"status": "ok", "version": settings.version, "stand_in": True}})
    _serve("websocket", health, settings.bind_address, settings.port or 5001)


def sandbox(settings: Settings) -> None:
    _serve("sandbox", Health("sandbox", {"/health": "ok"}), "0.0.0.0", settings.port or 8194)  # in a container


def agent_backend(settings: Settings) -> None:
    health = Health("agent_backend", {"/health": {"status": "ok", "stand_in": True}, "/healthz": {"status": "ok", "stand_in": True}})
    _serve("agent_backend", health, "0.0.0.0", settings.port or 5050)  # in a container


def local_sandbox(settings: Settings) -> None:
    health = Health("local_sandbox", {"/health": {"status": "ok", "stand_in": True}, "/healthz": {"status": "ok", "stand_in": True}})
    _serve("local_sandbox", health, "0.0.0.0", settings.port or 5004)  # in a container


class WebConsole(Application):
    """Where Dify's web console would be: a page that says what this is."""

    name = "web"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __call__(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return html("<h1>405</h1>", 405)
        where = escape.escape(request.path)
        return html(
            "<!doctype html><html lang=en><meta charset=utf-8><title>Stand-in for Dify's web console</title>"
            "<style>body{font-family:sans-serif;max-width:42rem;margin:3rem auto;line-height:1.5}</style>"
            "<h1>Stand-in for Dify's web console</h1>"
            f"<p>This is not Dify. The test fleet of llmops.dify_xinference runs a stand-in of Dify {self.settings.version} here; "
            f"the real stack shows its console at this address (asked for: <code>{where}</code>).</p>"
            "<p>What answers behind it:</p><ul>"
            "<li><a href='/console/api/setup'>/console/api/setup</a>: whether the first administrator exists</li>"
            "<li><a href='/console/api/system-features'>/console/api/system-features</a></li>"
            f"<li><a href='/console/api/version?current_version={self.settings.version}'>/console/api/version</a></li>"
            "<li><code>/v1</code>: the service API, with the key of an app or of the knowledge bases</li></ul></html>"
        )


def web(settings: Settings) -> None:
    _serve("web", WebConsole(settings), "0.0.0.0", settings.port or 3000)  # in a container


def _ensure_database(settings: Settings, name: str) -> None:
    """The plugin daemon makes its own database, as the real one does."""
    if not settings.db_host:
        return
    if settings.db_type == "mysql":
        server = open_database(settings, "information_schema")
        server.execute(f"CREATE DATABASE IF NOT EXISTS `{name}`")
        server.close()
        return
    import psycopg2

    database = open_database(settings, "postgres")
    try:
        if not database.one("SELECT 1 AS found FROM pg_database WHERE datname = ?", name):
            try:
                database.execute(f'CREATE DATABASE "{name}"')
            except psycopg2.errors.DuplicateDatabase:
                pass
    finally:
        database.close()


def _debug_port(port: int) -> None:
    """The remote debugging port: open, as the real one, and hanging up at once."""
    listener = socket.create_server(("0.0.0.0", port))  # in a container

    def loop() -> None:
        while True:
            listener.accept()[0].close()

    threading.Thread(target=loop, daemon=True).start()


def plugin_daemon(settings: Settings) -> None:
    from .daemon import Daemon

    name = settings.db_database
    _wait("plugin_daemon", "the database", lambda: _ensure_database(settings, name))
    database, cache = open_database(settings, name), open_cache(settings)
    _wait("plugin_daemon", "redis", cache.ping)
    migrate(database, cache, "dify_plugin")
    daemon = Daemon(settings, database)
    daemon.started()
    _debug_port(5003)
    say("plugin_daemon", f"as {generation(settings.version).daemon}")
    _serve("plugin_daemon", daemon, "0.0.0.0", settings.port or 5002)  # in a container


def reset_password(settings: Settings, email: str, password: str) -> int:
    """``flask reset-password`` of the real image; the exit status."""
    from .accounts import Accounts

    database, cache = _stores("reset_password", settings)
    return 0 if Accounts(settings, database, cache).set_password(email, password) else 1


def migrate_data(settings: Settings) -> int:
    """``flask migrate-data-for-plugin`` of the real image; the exit status."""
    from .upgrade import migrate_data_for_plugin

    database, _cache = _stores("migrate_data_for_plugin", settings)
    say("migrate_data_for_plugin", f"{migrate_data_for_plugin(database)} models renamed")
    return 0


ROLES: dict[str, Callable[[Settings], None]] = {
    "api": api,
    "worker": worker,
    "worker_beat": worker_beat,
    "beat": worker_beat,
    "websocket": websocket,
    "web": web,
    "plugin_daemon": plugin_daemon,
    "sandbox": sandbox,
    "agent_backend": agent_backend,
    "local_sandbox": local_sandbox,
}


def run(role: str) -> None:
    """Runs until SIGTERM or SIGINT, which end the process at once."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    settings = Settings.from_environment()
    if role in ("api", "websocket"):
        settings.port = int(os.environ.get("DIFY_PORT") or 0)
    ROLES[role](settings)
