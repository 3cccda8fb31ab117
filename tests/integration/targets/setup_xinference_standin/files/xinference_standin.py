# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stand-in for Xinference 4.1.0's REST API: models that load in a moment, and the answers of the real one.

It is no Xinference: it serves nothing. tests/contract/test_xinference_standin.py holds its answers to recordings of the real
server, and tests/contract/test_xinference_real.py runs the modules against that one.

Run it with ``python3 xinference_standin.py PORT [LOG]``; with LOG it asks for a login and writes its setup token there.
XINFERENCE_STANDIN_SECONDS is how long a model loads; without it a model is ready after two looks.
What it does not know is answered with 501.
"""

from __future__ import annotations

import http.server
import json
import os
import sys
import threading
import time
from urllib.parse import unquote, urlsplit

BUILT_IN = {"embedding": ["bge-m3", "bge-small-en-v1.5"], "rerank": ["bge-reranker-v2-m3"], "LLM": ["qwen2.5-instruct"]}
ENGINES = {"LLM": "transformers", "embedding": "sentence_transformers", "rerank": "sentence_transformers"}
WHERE = "[address=127.0.0.1:21384, pid=30997] "
TOKEN = "standin-setup-token"


class Refusal(Exception):
    def __init__(self, status, detail):
        super().__init__(detail)
        self.status = status
        self.detail = detail


def not_found(uid):
    return Refusal(400, f"{WHERE}Model not found in the model list, uid: {uid}")


class Standin:
    """State and behaviour, without HTTP. ``looks``: how often a loading model is looked at until it is ready.

    ``seconds``: how long loading takes by the clock, instead of ``looks``.
    """

    def __init__(self, auth=False, looks=2, replicas_route=True, autostart_route=True, seconds=0, version="4.1.0"):
        self.version = version
        self.auth = auth
        self.looks = looks
        self.seconds = seconds
        self.gpus = 0
        self.replicas_route = replicas_route  # False: a server before 1.14, which does not keep why a launch failed
        self.autostart_route = autostart_route  # False: a server before 2.12
        self.models = {}  # uid -> {"body", "left" (looks until it is ready), "error", "replicas"}
        self.registrations = {}
        self.autostart = {}
        self.queue = []  # launch requests that the server itself launches after a restart, one after the other
        self.admin = None
        self.tokens = set()
        self.keys = {}
        self.made = 0
        self.refused = 0
        self.requests = []
        self.lock = threading.Lock()

    def handle(self, method, path, body=None, token=None):
        """One request; returns (status, JSON)."""
        with self.lock:
            self.requests.append((method, path))
            self._let_time_pass()
            self._work_through_the_queue()
            try:
                return 200, self._route(method, path, body, token)
            except Refusal as refusal:
                return refusal.status, {"detail": refusal.detail}

    def restart(self):
        """What is left after a restart: accounts, registrations, autostart entries; models of those load again."""
        self.models = {}
        # The entries as they are now: one that is removed meanwhile is launched all the same, as by 3.2.1 and 4.1.0.
        entries = sorted(self.autostart.values(), key=lambda entry: (entry["priority"], entry["launch"]["model_uid"]))
        self.queue = [entry["launch"] for entry in entries]
        self.turn = None  # the uid that is being launched for the queue
        for entry in self.autostart.values():
            entry["state"] = {}
        self._work_through_the_queue()

    def _let_time_pass(self):
        for model in self.models.values():
            if self.seconds and model["left"] > 0 and time.monotonic() >= model["started"] + self.seconds:
                model["left"] = 0

    def _work_through_the_queue(self):
        while self.queue:
            uid = self.queue[0]["model_uid"]
            if uid not in self.models and self.turn != uid:
                self.models[uid] = self._started(self.queue[0])
                self.turn = uid
                if uid in self.autostart:
                    self.autostart[uid]["state"] = {"status": "launching"}
            if uid in self.models and self.models[uid]["left"] > 0:
                return
            self.queue.pop(0)
            if uid in self.autostart:
                self.autostart[uid]["state"] = {"status": "active"}

    # ---- who may ------------------------------------------------------------------------------------------------

    def _allow(self, method, path, token):
        if not self.auth:
            return
        if self.refused >= 10:
            raise Refusal(429, "Too many failed attempts. IP temporarily banned.")
        if token in self.tokens:
            return
        if token in self.keys:
            if method != "GET" or path.startswith(("/v1/autostart", "/v1/cluster")):
                raise Refusal(403, "API keys can only access model query and inference endpoints")
            return
        self.refused += 1 if token else 0
        raise Refusal(401, "Could not validate credentials")

    def _route(self, method, path, body, token):
        parts = [unquote(part) for part in urlsplit(path).path.strip("/").split("/")]
        open_routes = {"/status": {"uptime": 1, "workers": {"127.0.0.1:1": {}}}, "/v1/cluster/auth": {"auth": self.auth}}
        if method == "GET" and path in open_routes:
            return open_routes[path]
        if path == "/token":
            return self._login(body)
        if parts[:3] == ["v1", "admin", "setup"]:
            return self._setup(method, parts, body)
        self._allow(method, path, token)
        if parts == ["v1", "cluster", "version"]:
            return {"version": self.version}
        if parts == ["v1", "cluster", "devices"]:
            return self.gpus
        if method == "GET" and parts == ["v1", "cluster", "info"]:
            node = {"ip_address": "127.0.0.1:21384", "gpu_count": self.gpus, "gpu_vram_total": 0}
            return [dict(node, node_type="Supervisor"), dict(node, node_type="Worker", ip_address="127.0.0.1:31422")]
        if parts[:3] == ["v1", "admin", "keys"]:
            return self._keys(method, parts, body)
        if method == "GET" and parts == ["v1", "auth", "me"]:
            return {"id": 1, "username": self.admin["username"]}
        if method == "PUT" and parts == ["v1", "admin", "users", "1", "password"]:
            return self._change_password(body)
        if parts[:2] == ["v1", "models"]:
            return self._models(method, parts[2:], body, "wait_ready=false" not in path)
        if parts[:2] == ["v1", "model_registrations"]:
            return self._registrations(method, parts[2:], body)
        if parts[:3] == ["v1", "autostart", "models"] and self.autostart_route:
            return self._autostart(method, parts[3:], body)
        if not self.autostart_route and parts[:2] == ["v1", "autostart"]:
            raise Refusal(404, "Not Found")
        raise Refusal(501, f"the stand-in does not know {method} {path}")

    def _login(self, body):
        if not self.auth:
            raise Refusal(405, "Method Not Allowed")
        if self.admin and body == self.admin:
            self.tokens.add(f"jwt-{len(self.tokens)}")
            return {"access_token": sorted(self.tokens)[-1], "refresh_token": "-", "token_type": "bearer"}
        self.refused += 1
        raise Refusal(401, "Incorrect username or password")

    def _setup(self, method, parts, body):
        if not self.auth:
            raise Refusal(404, "Not Found")
        if parts[3:] == ["status"]:
            return {"needs_setup": self.admin is None, "initialized": self.admin is not None, "password_min_length": 8}
        if self.admin:
            raise Refusal(403, "Setup already completed; an account already exists.")
        if body.get("setup_token") != TOKEN:
            raise Refusal(403, "Invalid setup token.")
        if len(body["password"]) < 8:
            raise Refusal(400, "Password must be at least 8 characters")
        self.admin = {"username": body["username"], "password": body["password"]}
        return {"id": 1, "username": body["username"]}

    def _change_password(self, body):
        if "current_password" in body and body["current_password"] != self.admin["password"]:
            raise Refusal(403, "Current password is incorrect")
        if len(body["new_password"]) < 8:
            raise Refusal(400, "Password must be at least 8 characters")
        self.admin["password"] = body["new_password"]
        return {"ok": True}

    def _keys(self, method, parts, body):
        if method == "POST":
            if body["name"] in [entry["name"] for entry in self.keys.values()]:
                raise Refusal(409, "API key name already exists")
            number = 1 + max([entry["id"] for entry in self.keys.values()], default=0)
            self.made += 1
            key = f"xf-standin-{self.made}"
            self.keys[key] = {"id": number, "name": body["name"], "description": body.get("description")}
            return {"id": number, "key": key, "prefix": "xf-stan", "name": body["name"]}
        if method == "DELETE":
            self.keys = {key: entry for key, entry in self.keys.items() if entry["id"] != int(parts[3])}
            return {"ok": True}
        return list(self.keys.values())

    # ---- models -------------------------------------------------------------------------------------------------

    def _names(self, model_type):
        return BUILT_IN.get(model_type, []) + [name for kind, name in self.registrations if kind == model_type]

    def _problem(self, body):
        """What the server finds out after it has said yes to a launch that does not wait."""
        model_type = body.get("model_type", "LLM")
        if body["model_name"] not in self._names(model_type):
            kind = "Embedding model {0} not found, available models: dict_keys([{1}])"
            return kind.format(body["model_name"], ", ".join(repr(name) for name in self._names(model_type) * 50))
        if body.get("gpu_idx"):
            return f"Worker 127.0.0.1:1 cannot use the GPUs with these indexes: {body['gpu_idx']}."
        return None

    def _started(self, body):
        problem = self._problem(body)
        left = 10**9 if self.seconds else 1 if problem else self.looks
        return {"body": body, "left": left, "error": problem, "replicas": list(range(body.get("replica") or 1)), "started": time.monotonic()}

    def _shown(self, uid):
        body = self.models[uid]["body"]
        model_type = body.get("model_type", "LLM")
        spec = self.registrations.get((model_type, body["model_name"]), {})
        shown = {
            "model_type": model_type,
            "address": "127.0.0.1:42463",
            "accelerators": [],
            "model_name": body["model_name"],
            "model_engine": body.get("model_engine") or ENGINES[model_type],
            "model_format": body.get("model_format", "pytorch"),
            "quantization": body.get("quantization", "none"),
            "model_ability": {"LLM": ["generate", "chat"], "embedding": ["embed"], "rerank": ["rerank"]}[model_type],
            "replica": len(self.models[uid]["replicas"]),
        }
        if model_type == "LLM":
            shown["model_size_in_billions"] = body.get("model_size_in_billions", "0_5")
            shown["context_length"] = spec.get("context_length", 32768)
        if model_type == "embedding":
            shown.update(dimensions=spec.get("dimensions", 1024), max_tokens=spec.get("max_tokens", 8192))
        return shown

    def _alive(self, uid):
        model = self.models.get(uid)
        return model is not None and not (model["error"] and model["left"] <= 0)

    def _models(self, method, rest, body, wait_ready):
        if not rest:
            if method == "POST":
                return self._launch(body, wait_ready)
            ready = [uid for uid in self.models if self._alive(uid) and self.models[uid]["left"] <= 0]
            return {"object": "list", "data": [dict(self._shown(uid), id=uid) for uid in ready]}
        if rest[0] == "instances":
            return [self._instance(uid) for uid in self.models]
        uid = rest[0]
        if len(rest) == 1:
            return self._look(uid) if method == "GET" else self._terminate(uid)
        if rest[1] == "replicas" and self.replicas_route:
            return self._replicas(method, uid, rest[2:])
        if rest[1] == "progress" and self.replicas_route:
            return self._progress(uid)
        if rest[1] == "cancel":
            if not self._alive(uid):
                raise Refusal(500, f"{WHERE}Model {uid} has not been launched yet")
            del self.models[uid]
            return None
        raise Refusal(404, "Not Found")

    def _status(self, uid):
        model = self.models[uid]
        return "ERROR" if model["error"] else "READY" if model["left"] <= 0 else "CREATING"

    def _instance(self, uid):
        return {"model_name": self.models[uid]["body"]["model_name"], "model_uid": uid, "replica": 1, "status": self._status(uid)}

    def _launch(self, body, wait_ready):
        uid = body["model_uid"]
        if self._alive(uid):
            raise Refusal(400, f"{WHERE}Model is already in the model list, uid: {uid}")
        if body.get("model_type", "LLM") == "LLM" and not body.get("model_engine"):
            raise Refusal(400, "Invalid input. Please specify the `model_engine` field.")
        self.models[uid] = self._started(dict(body))
        if wait_ready:
            self.models[uid]["left"] = 0
            if self.models[uid]["error"]:
                raise Refusal(400, WHERE + self.models[uid]["error"])
        return {"model_uid": uid}

    def _look(self, uid):
        if not self._alive(uid):
            raise not_found(uid)
        model = self.models[uid]
        if model["left"] <= 0:
            return self._shown(uid)
        model["left"] -= 1
        raise Refusal(503, f"Model is loading, please retry later: {WHERE}Model {uid} is launching, not yet ready for inference")

    def _terminate(self, uid):
        if not self._alive(uid):
            raise not_found(uid)
        if self.models[uid]["left"] > 0:
            raise not_found(uid + "-rep0")
        del self.models[uid]

    def _progress(self, uid):
        if not self._alive(uid):
            return {"progress": 0.0, "stage": "pending", "download_files": [], "replicas": []}
        left = self.models[uid]["left"]
        return {"progress": 1.0 if left <= 0 else 0.8, "stage": "loading", "download_files": [], "replicas": []}

    def _replicas(self, method, uid, rest):
        if method == "GET":
            model = self.models.get(uid, {"replicas": []})
            error = model.get("error")
            return [{"replica_id": number, "status": self._status(uid), "error_message": error} for number in model["replicas"]]
        if not self._alive(uid):
            raise not_found(uid)
        replicas = self.models[uid]["replicas"]
        if method == "POST":
            replicas.append(max(replicas) + 1)
            return {"replica_id": replicas[-1], "replica_model_uid": f"{uid}-rep{replicas[-1]}"}
        replicas.remove(int(rest[0]))
        return {"remaining_replicas": len(replicas)}

    def _registrations(self, method, rest, body):
        if method == "POST":
            spec = json.loads(body["model"])
            if (rest[0], spec["model_name"]) in self.registrations:
                raise Refusal(400, f"{WHERE}Model {spec['model_name']} already registered")
            self.registrations[(rest[0], spec["model_name"])] = spec
            return None
        if len(rest) == 1:
            built_in = [{"model_name": name, "is_builtin": True} for name in BUILT_IN.get(rest[0], [])]
            return built_in + [{"model_name": name, "is_builtin": False} for kind, name in self.registrations if kind == rest[0]]
        key = (rest[0], rest[1])
        if method == "DELETE":
            self.registrations.pop(key, None)
            return None
        if key in self.registrations:
            return dict(self.registrations[key], cache_config=None, virtualenv=None, is_builtin=False)
        raise Refusal(400, f"{WHERE}Model {rest[1]} not found")

    def _autostart(self, method, rest, body):
        if method == "POST":
            launch = dict(body["launch"])
            if "envs" in launch:
                launch["envs"] = dict.fromkeys(launch["envs"], "******")
            entry = {"enabled": True, "priority": body.get("priority", 100), "max_retries": 3, "retry_interval_seconds": 30, "launch": launch}
            self.autostart[launch["model_uid"]] = entry
        if method == "DELETE":
            self.autostart.pop(rest[0], None)
        return {"models": list(self.autostart.values())}


def serve(standin, port):
    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            token = (self.headers.get("Authorization") or "").replace("Bearer ", "", 1) or None
            status, content = standin.handle(self.command, self.path, body, token)
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *arguments):
            pass

    return http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        with open(sys.argv[2], "w", encoding="utf-8") as log:
            log.write("FIRST-RUN SETUP REQUIRED\n  Setup token: " + TOKEN + "\n")
    serve(Standin(auth=len(sys.argv) > 2, seconds=float(os.environ.get("XINFERENCE_STANDIN_SECONDS", "0"))), int(sys.argv[1])).serve_forever()
