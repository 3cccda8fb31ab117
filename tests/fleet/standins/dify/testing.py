# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stand-in's API, worker and plugin daemon in this process, on loopback, with a scripted Xinference and marketplace.

For contract tests: no container, no PostgreSQL, no Redis (sqlite3 in memory and a dict take their place).
"""

from __future__ import annotations

import dataclasses
import pathlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.fleet.standins.dify.dify_standin import packages
from tests.fleet.standins.dify.dify_standin.api import Api
from tests.fleet.standins.dify.dify_standin.config import Settings
from tests.fleet.standins.dify.dify_standin.daemon import Daemon
from tests.fleet.standins.dify.dify_standin.http import Application, Request, Response, Server, make_server, reply, start
from tests.fleet.standins.dify.dify_standin.sources import BuiltInSource
from tests.fleet.standins.dify.dify_standin.storage import MemoryCache, SqliteDatabase, migrate
from tests.fleet.standins.dify.dify_standin.upgrade import migrate_data_for_plugin
from tests.fleet.standins.dify.dify_standin.xinference import Plugin

ADMIN_KEY = "standin-admin-api-key"
DAEMON_KEY = "standin-daemon-key"


class FakeXinference(Application):
    """Answers as the scripted server of the recordings did; a test may change its mind about everything below.

    ``calls`` notes (method, path, JSON body); ``models``: uid -> description; ``keys``: accepted API keys; ``guarded``: the uids
    that ask for one (None: every path does); ``loading``: uids that are not ready; ``fault``: see ``FAULTS``.
    """

    KEY = "xinf-key"
    # "" none; "slow" answers after slow_seconds; "hung" keeps every caller until the fault is taken away; "broken" answers 500.
    FAULTS = ("", "slow", "hung", "broken")
    MODELS: dict[str, dict[str, Any]] = {
        "qwen3-chat": {"model_type": "LLM", "model_ability": ["chat", "tools"], "context_length": 32768},
        "sec-chat": {"model_type": "LLM", "model_ability": ["chat"], "context_length": 8192},
        "slow-chat": {"model_type": "LLM", "model_ability": ["chat"], "context_length": 8192},
        "bge-m3": {"model_type": "embedding", "max_tokens": 8192},
        "bge-reranker": {"model_type": "rerank"},
        "whisper": {"model_type": "audio"},
        "cosyvoice": {"model_type": "audio", "model_name": "CosyVoice"},
    }

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.models = {uid: dict(model) for uid, model in self.MODELS.items()}
        self.keys = {self.KEY}
        self.guarded: set[str] | None = {"sec-chat"}
        self.loading: set[str] = set()
        self.slow_seconds = 15.0
        self.fault = ""

    def __call__(self, request: Request) -> Response:
        self.calls.append((request.method, request.path, request.json))
        if self.fault == "slow":
            time.sleep(self.slow_seconds)
        while self.fault == "hung":
            time.sleep(0.05)
        if self.fault == "broken":
            return reply({"detail": "Internal Server Error"}, 500)
        uid = request.path.removeprefix("/v1/models/") if request.path.startswith("/v1/models/") else request.json.get("model", "")
        if (self.guarded is None or uid in self.guarded) and request.headers.get("authorization", "").removeprefix("Bearer ") not in self.keys:
            return reply({"detail": "Could not validate credentials"}, 401)
        if request.path == "/v1/models":
            return reply({"object": "list", "data": [{"id": uid, "object": "model", **model} for uid, model in self.models.items()]})
        if request.path.startswith("/v1/models/") and uid != "instances" and "/" not in uid:
            return self._model(uid)
        if request.path == "/v1/audio/transcriptions":
            return reply({"text": ""})
        if request.path not in ("/v1/embeddings", "/v1/rerank", "/v1/chat/completions"):
            return reply({"detail": "Not Found"}, 404)
        if uid not in self.models:
            return self._unknown(uid)
        if request.path == "/v1/embeddings":
            texts = request.json["input"]
            data = [{"index": number, "embedding": self.vector(text)} for number, text in enumerate(texts)]
            return reply({"data": data, "usage": {"total_tokens": sum(len(text.split()) for text in texts)}})
        if request.path == "/v1/rerank":
            words = set(request.json["query"].lower().split())
            scores = [len(words & set(text.lower().split())) / len(words) for text in request.json["documents"]]
            return reply({"results": [{"index": number, "relevance_score": score} for number, score in enumerate(scores)]})
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        return reply({"choices": [{"message": {"role": "assistant", "content": "The lamp is Old Marigold."}}], "usage": usage})

    def _model(self, uid: str) -> Response:
        if uid == "slow-chat":
            time.sleep(self.slow_seconds)
        if uid in self.loading:
            return reply({"detail": "launching, not yet ready"}, 503)
        return reply(self.models[uid]) if uid in self.models else self._unknown(uid)

    @staticmethod
    def _unknown(uid: str) -> Response:
        return reply({"detail": f"[address=127.0.0.1:1, pid=1] Model not found in the model list, uid: {uid}"}, 400)

    @staticmethod
    def vector(text: str) -> list[float]:
        """Counts of letters: texts that share words lie near each other."""
        return [float(text.lower().count(letter)) for letter in "abcdefghijklmnopqrstuvwxyz"]


class FakeMarketplace(Application):
    """Offers one package. ``fault``: a status that it answers with instead, or "hung"."""

    def __init__(self, package: bytes) -> None:
        self.package = package
        self.identifier, _declaration = packages.decode(package)
        self.fault: int | str = ""

    def __call__(self, request: Request) -> Response:
        while self.fault == "hung":
            time.sleep(0.05)
        if isinstance(self.fault, int):
            return reply({"code": self.fault}, self.fault)
        if request.path == "/api/v1/plugins/batch":
            plugin = {"plugin_id": packages.plugin_id(self.identifier), "latest_version": packages.version(self.identifier)}
            return reply({"data": {"plugins": [{**plugin, "latest_package_identifier": self.identifier, "status": "active"}]}})
        if request.query.get("unique_identifier") == self.identifier:
            return Response(200, self.package, "application/octet-stream")
        return reply({"code": 404}, 404)


class GatedDaemon(Daemon):
    """Its installations end when the test opens the gate."""

    def __init__(self, *values: Any) -> None:
        super().__init__(*values)
        self.gate = threading.Event()

    def prepare(self) -> None:
        self.gate.wait(30)


class Front(Application):
    """Before the API: ``requests`` notes what clients sent ("GET /console/api/setup"), and the API behind it can be exchanged."""

    def __init__(self, inner: Application) -> None:
        self.inner = inner
        self.requests: list[str] = []

    def __call__(self, request: Request) -> Response:
        self.requests.append(f"{request.method} {request.path}")
        return self.inner(request)


class World:
    """Everything running; ``close`` ends it. Addresses: ``api_url``, ``xinference_url``."""

    def __init__(self, storage: pathlib.Path, marketplace_package: bytes, xinference_port: int = 0, **settings: Any) -> None:
        self.xinference = FakeXinference()
        self.marketplace = FakeMarketplace(marketplace_package)
        self._servers: dict[str, Server] = {}
        self.xinference_port = self.open("xinference", self.xinference, xinference_port)
        self.marketplace_port = self.open("marketplace", self.marketplace)
        self.daemon_settings = Settings(
            server_key=DAEMON_KEY, plugin_storage=str(storage / "plugin_daemon"), xinference_retry_pause=0.0, plugin_install_seconds=0.0
        )
        daemon_database = SqliteDatabase()
        migrate(daemon_database, MemoryCache(), "dify_plugin")
        self.daemon = GatedDaemon(self.daemon_settings, daemon_database)
        self.daemon_port = self.open("daemon", self.daemon)
        self.settings = Settings(
            storage=str(storage / "app"),
            plugin_daemon_url=f"http://127.0.0.1:{self.daemon_port}",
            plugin_daemon_key=DAEMON_KEY,
            admin_api_key=ADMIN_KEY,
            admin_api_key_enable=True,
            marketplace_api_url=f"http://127.0.0.1:{self.marketplace_port}",
            marketplace_retry_pause=0.0,
            xinference_retry_pause=0.0,
            **settings,
        )
        self.database, self.cache = SqliteDatabase(), MemoryCache()
        migrate(self.database, self.cache, "dify", version=self.settings.version)
        self.api = Api(self.settings, self.database, self.cache)
        self.front = Front(self.api)
        self.api_port = self.open("api", self.front)

    def become(self, version: str) -> None:
        """The same instance (database, storage, address) as another version of Dify: what an upgrade with its migrations leaves."""
        upgrade = not self.api.generation.plugins
        self.settings = dataclasses.replace(self.settings, version=version)
        migrate(self.database, self.cache, "dify", version=version)
        self.api = Api(self.settings, self.database, self.cache)
        self.front.inner = self.api
        if upgrade and self.api.generation.plugins:
            migrate_data_for_plugin(self.database)

    @property
    def codes(self) -> list[Plugin]:
        """The code that calls Xinference to validate credentials: the daemon's, and before 1.0 the API's own."""
        source = self.api.providers.source
        return [self.daemon.plugin, source.code] if isinstance(source, BuiltInSource) else [self.daemon.plugin]

    def wait_for_xinference(self, seconds: float) -> None:
        """How long one of the four tries takes when Xinference hangs (10 s)."""
        for code in self.codes:
            code.timeout = seconds

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def xinference_url(self) -> str:
        return f"http://127.0.0.1:{self.xinference_port}"

    def open(self, name: str, application: Application, port: int = 0) -> int:
        server = make_server(application, "127.0.0.1", port)
        self._servers[name] = server
        start(server)
        return server.server_port

    def shut(self, name: str) -> None:
        """Stops one server, as a stopped container would."""
        server = self._servers.pop(name)
        server.shutdown()
        server.server_close()

    def index(self) -> int:
        """What the worker does once a second."""
        return self.api.knowledge.index_waiting()

    def finish_installations(self, seconds: float = 10.0) -> None:
        """Lets running installations end and waits for it."""
        self.daemon.gate.set()
        until = time.monotonic() + seconds
        while self.daemon.db.query("SELECT id FROM install_tasks WHERE status = 'running'"):
            if time.monotonic() > until:
                raise TimeoutError("an installation did not end")
            time.sleep(0.01)

    def close(self) -> None:
        self.daemon.gate.set()
        # Together: each notices only when it looks up the next time.
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.shut, list(self._servers)))
