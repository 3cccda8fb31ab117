# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module tests need around them: the Dify stand-in in this process, and a few lines that answer like Xinference.

The Xinference here is scripted (uid, kind, key); the real server is met in the fleet.
"""

from __future__ import annotations

import contextlib
import http.server
import importlib
import io
import json
import pathlib
import sys
import threading
import time
import typing as t

STANDIN = pathlib.Path(__file__).resolve().parents[1] / "fleet" / "standins" / "dify"
COLLECTION = "ansible_collections.llmops.dify_xinference.plugins.modules"


class FakeXinference:
    """``models``: uid -> model_type; ``keys``: accepted API keys (empty: none asked for); ``loading``: uids not ready."""

    def __init__(self) -> None:
        self.models = {"chat": "LLM", "embed": "embedding", "rerank": "rerank"}
        self.keys: set[str] = set()
        self.loading: set[str] = set()
        self.calls: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: t.Any) -> None:
                pass

            def do_GET(self) -> None:
                self.answer(None)

            def do_POST(self) -> None:
                self.answer(json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}"))

            def answer(self, body: t.Any) -> None:
                outer.calls.append(self.path)
                status, data = outer.respond(self.path, body, self.headers.get("Authorization", ""))
                raw = json.dumps(data).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def respond(self, path: str, body: t.Any, authorization: str) -> tuple[int, t.Any]:
        if self.keys and authorization.removeprefix("Bearer ") not in self.keys:
            return 401, {"detail": "Could not validate credentials"}
        if path.startswith("/v1/models/"):
            uid = path.rsplit("/", 1)[1]
            if uid in self.loading:
                return 503, {"detail": "launching, not yet ready"}
            if uid not in self.models:
                return 400, {"detail": f"[address=127.0.0.1:1, pid=1] Model not found in the model list, uid: {uid}"}
            kind = self.models[uid]
            abilities = ["generate", "chat"] if kind == "LLM" else []
            return 200, {"model_type": kind, "model_ability": abilities, "context_length": 8192, "max_tokens": 512, "model_name": uid}
        if path == "/v1/embeddings":
            texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
            vectors = [[float("lamp" in text.lower()), float("bakery" in text.lower()), 0.1] for text in texts]
            data = [{"index": index, "embedding": vector, "object": "embedding"} for index, vector in enumerate(vectors)]
            return 200, {"object": "list", "data": data, "model": body["model"], "usage": {"prompt_tokens": 3, "total_tokens": 3}}
        if path == "/v1/rerank":
            results = [{"index": index, "relevance_score": 0.9 if "lamp" in text.lower() else 0.1} for index, text in enumerate(body["documents"])]
            return 200, {"id": "r", "results": sorted(results, key=lambda item: -item["relevance_score"])}
        if path == "/v1/chat/completions":
            text = str(body["messages"])
            answer = "Its lamp is named Old Marigold." if "Old Marigold" in text else "I do not know."
            choice = {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
            return 200, {"id": "c", "choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}}
        return 404, {"detail": "Not Found"}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Stack:
    """API, plugin daemon and worker of the stand-in, on free ports, with their state in memory."""

    def __init__(self, folder: pathlib.Path, init_password: str = "", marketplace_url: str = "http://127.0.0.1:9") -> None:
        if str(STANDIN) not in sys.path:
            sys.path.insert(0, str(STANDIN))
        config, web, storage = (importlib.import_module(f"dify_standin.{name}") for name in ("config", "http", "storage"))
        api, daemon = importlib.import_module("dify_standin.api"), importlib.import_module("dify_standin.daemon")
        self.admin_key = "admin-key-of-this-test-0123456789"
        self.settings = config.Settings(
            admin_api_key=self.admin_key,
            admin_api_key_enable=True,
            init_password=init_password,
            storage=str(folder / "app"),
            plugin_storage=str(folder / "plugins"),
            plugin_install_seconds=0.1,
            xinference_retry_pause=0.0,
            marketplace_api_url=marketplace_url,
            marketplace_retry_pause=0.0,
            plugin_daemon_key="k",
            server_key="k",
        )
        database, cache = storage.SqliteDatabase(), storage.MemoryCache()
        plugins = storage.SqliteDatabase()
        storage.migrate(database, cache, "dify")
        storage.migrate(plugins, storage.MemoryCache(), "dify_plugin")
        self.daemon = daemon.Daemon(self.settings, plugins)
        self.daemon.started()
        self._web = web
        self._daemon_server = web.make_server(self.daemon, "127.0.0.1", 0)
        self._daemon_port = self._daemon_server.server_port
        web.start(self._daemon_server)
        self.settings.plugin_daemon_url = f"http://127.0.0.1:{self._daemon_port}"
        self.api = api.Api(self.settings, database, cache)
        self.requests: list[str] = []
        server = web.make_server(self._counted, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.server_port}"
        web.start(server)
        self._server = server
        self._stop = threading.Event()
        threading.Thread(target=self._index, daemon=True).start()

    def _counted(self, request: t.Any) -> t.Any:
        self.requests.append(f"{request.method} {request.path}")
        return self.api(request)

    def _index(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(Exception):
                self.api.knowledge.index_waiting()
            time.sleep(0.1)

    def forget(self) -> None:
        """Drop the daemon's five-minute memory of uids, so that a test may change its mind about one."""
        self.daemon.plugin.forget()

    def close(self) -> None:
        self._stop.set()
        for server in (self._server, self._daemon_server):
            server.shutdown()
            server.server_close()


class Outcome(t.NamedTuple):
    failed: bool
    result: dict[str, t.Any]
    text: str


def run_module(name: str, check_mode: bool = False, /, **arguments: t.Any) -> Outcome:
    """One run of a module as Ansible would run it, in this process."""
    from ansible.module_utils.testing import patch_module_args

    module = importlib.import_module(f"{COLLECTION}.{name}")
    out = io.StringIO()
    options = {key: value for key, value in arguments.items() if value is not None}
    with patch_module_args({**options, "_ansible_check_mode": check_mode, "_ansible_diff": True}):
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            module.main()
    result = json.loads(out.getvalue())
    return Outcome(bool(result.get("failed")), result, out.getvalue())
