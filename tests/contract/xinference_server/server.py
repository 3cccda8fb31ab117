# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real Xinference process on the loopback address, with a home of its own."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from typing import Any

from tests.contract.xinference_server.environment import Environment

START_SECONDS = 240  # 10 s on an idle machine; far more where builds run beside it


# Accounts of a server before 3.0.
ACCOUNTS = {
    "auth_config": {"algorithm": "HS256", "secret_key": "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7", "token_expire_in_minutes": 30},
    "user_config": [
        {"username": "admin", "password": "file-password", "permissions": ["admin"], "api_keys": ["sk-72tkvudyGLPMi"]},
        {"username": "reader", "password": "reader-password", "permissions": ["models:list", "models:read"], "api_keys": ["sk-ZOTLIY4gt9w11"]},
    ],
}


def _children_of(pid: int) -> list[int]:
    """All descendants of a process, sessions of their own included."""
    parents: dict[int, list[int]] = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                stat = (entry / "stat").read_text(encoding="utf-8")
                parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found: list[int] = []
    queue = [pid]
    while queue:
        for child in parents.get(queue.pop(), []):
            found.append(child)
            queue.append(child)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """``start`` and ``stop`` may be called again and again: the home, and with it accounts and registrations, stays.

    ``auth``: with accounts. From 3.0 on the first administrator is made over the API; before, ``accounts`` is the file.
    ``workers``: 0 is a server that runs models itself; more are processes of their own beside a supervisor.
    """

    def __init__(self, environment: Environment, home: pathlib.Path, auth: bool, workers: int = 0) -> None:
        self.environment = environment
        self.home = home
        self.auth = auth
        self.workers = workers
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home.with_suffix(".log")
        self.tiny = environment.tiny
        self.accounts = home.with_suffix(".accounts.json")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.worker_ports = [free_port() for _worker in range(workers)]
        self._supervisor_port = free_port()

    @property
    def old(self) -> bool:
        """Before 3.0: accounts come from a file, and there are no autostart entries."""
        return self.environment.version == "0.13.3"

    def _spawn(self, name: str, *arguments: str) -> None:
        variables = {key: value for key, value in os.environ.items() if "proxy" not in key.lower() and not key.startswith(("XINFERENCE_", "PYTHON"))}
        variables.update(XINFERENCE_HOME=str(self.home), XINFERENCE_AUTH_ADVANCED="1" if self.auth else "0")
        variables.update(HF_HUB_OFFLINE="1", XINFERENCE_ENABLE_VIRTUAL_ENV="0", XINFERENCE_MODEL_SRC="huggingface")
        # On a machine that is busy with other builds a worker answers late, and would lose its models for it.
        variables.update(XINFERENCE_HEALTH_CHECK_FAILURE_THRESHOLD="60", XINFERENCE_HEALTH_CHECK_TIMEOUT="60")
        if self.environment.path:
            variables["PYTHONPATH"] = self.environment.path
        command = [str(self.environment.programs / arguments[0]), *arguments[1:]]
        with open(self.log, "ab") as log:
            self.processes[name] = subprocess.Popen(command, env=variables, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    def start(self) -> None:
        where = ["-H", "127.0.0.1", "-p", str(self.port)]
        accounts: list[str] = []
        if self.auth and self.old:
            if not self.accounts.exists():
                self.accounts.write_text(json.dumps(ACCOUNTS))
            accounts = ["--auth-config", str(self.accounts)]
        if self.workers:
            self._spawn("supervisor", "xinference-supervisor", *where, "--supervisor-port", str(self._supervisor_port), *accounts)
        else:
            self._spawn("server", "xinference-local", *where, *accounts)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if any(process.poll() is not None for process in self.processes.values()):
                break
            try:
                with urllib.request.urlopen(self.url + "/status", timeout=5):
                    for number in range(self.workers):
                        self.start_worker(number)
                    return
            except (OSError, urllib.error.URLError):
                time.sleep(0.5)
        tail = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
        self.stop()
        raise RuntimeError(f"Xinference did not come up:\n{tail}")

    def start_worker(self, number: int) -> None:
        """It registers itself 15 to 25 s later."""
        arguments = ["-e", self.url, "-H", "127.0.0.1", "--worker-port", str(self.worker_ports[number])]
        self._spawn(f"worker{number}", "xinference-worker", *arguments)

    def kill(self, name: str) -> None:
        """End a process and all that it started with SIGKILL, as the kernel does when memory runs out."""
        process = self.processes.pop(name)
        for pid in [*_children_of(process.pid), process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(30)

    def stop(self) -> None:
        for name, process in list(self.processes.items()):
            family = _children_of(process.pid)  # before 4.0 its actors outlive it
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            for pid in [*family, process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            del self.processes[name]

    def model_processes(self, address: str) -> list[int]:
        """Process ids that listen on a model's address."""
        port = f"{int(address.rpartition(':')[2]):04X}"
        lines = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text(encoding="utf-8").splitlines()[1:]]
        inodes = {fields[9] for fields in lines if fields[1].endswith(":" + port) and fields[3] == "0A"}
        found = []
        for process in self.processes.values():
            for pid in _children_of(process.pid):
                with contextlib.suppress(OSError):
                    links = {os.readlink(link) for link in pathlib.Path(f"/proc/{pid}/fd").iterdir()}
                    if any(f"socket:[{inode}]" in links for inode in inodes):
                        found.append(pid)
        return found

    def get(self, path: str, token: str = "") -> Any:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with urllib.request.urlopen(urllib.request.Request(self.url + path, headers=headers), timeout=60) as answer:
            return json.load(answer)

    def post(self, path: str, body: dict[str, Any], token: str = "") -> Any:
        """What a user of the models sends; raises HTTPError."""
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers, method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


def tiny_models(environment: Environment) -> list[dict[str, Any]]:
    """One model of each kind, in the form that ``xinference_models`` takes; each is launched in seconds on a CPU."""
    uri = "file://" + str(environment.tiny)
    chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    llm: dict[str, Any] = {
        "version": 2,
        "context_length": 2048,
        "model_name": "tiny-llm",
        "model_lang": ["en"],
        "model_ability": ["generate", "chat"],
        "model_description": "tiny",
        "model_family": "tiny-llm",
        "chat_template": chat_template,
        "stop_token_ids": [2],
        "stop": ["<|im_end|>"],
    }
    embedding: dict[str, Any] = {"model_name": "tiny-embedding", "dimensions": 32, "max_tokens": 128, "language": ["en"]}
    rerank: dict[str, Any] = {"model_name": "tiny-reranker", "language": ["en"], "type": "normal"}
    if environment.version == "0.13.3":
        spec = {"model_format": "pytorch", "model_size_in_billions": "0_1", "quantizations": ["none"], "model_id": None, "model_uri": uri + "/tiny-llm"}
        llm.update(version=1, model_family="qwen2-instruct", model_specs=[spec])  # a family that it knows
        embedding.update(model_id=None, model_uri=uri + "/tiny-embedding")
        rerank.update(model_id=None, model_uri=uri + "/tiny-reranker")
    else:
        common = {"model_format": "pytorch", "model_hub": "huggingface", "model_id": None, "model_revision": None, "quantization": "none"}
        llm.update(model_specs=[dict(common, model_size_in_billions="0_1", model_uri=uri + "/tiny-llm")], architectures=["Qwen2ForCausalLM"])
        embedding.update(version=2, model_specs=[dict(common, model_uri=uri + "/tiny-embedding")])
        rerank.update(version=2, max_tokens=512, model_specs=[dict(common, model_uri=uri + "/tiny-reranker")])
    return [
        {"uid": "chat", "type": "LLM", "engine": "transformers", "size": "0_1", "format": "pytorch", "quantization": "none", "register": llm},
        {"uid": "embed", "type": "embedding", "register": embedding},
        {"uid": "rerank", "type": "rerank", "register": rerank},
    ]
