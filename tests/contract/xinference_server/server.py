# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real Xinference process on the loopback address, with a home of its own."""

from __future__ import annotations

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

START_SECONDS = 240  # 10 s on an idle machine; far more where builds run beside it


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """``start`` and ``stop`` may be called again and again: the home, and with it accounts and registrations, stays."""

    def __init__(self, environment: pathlib.Path, home: pathlib.Path, auth: bool) -> None:
        self.environment = environment
        self.home = home
        self.auth = auth
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home.with_suffix(".log")
        self.tiny = environment / "tiny"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        variables = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
        variables.update(XINFERENCE_HOME=str(self.home), XINFERENCE_AUTH_ADVANCED="1" if self.auth else "0")
        variables.update(HF_HUB_OFFLINE="1", XINFERENCE_ENABLE_VIRTUAL_ENV="0")
        command = [str(self.environment / "venv" / "bin" / "xinference-local"), "-H", "127.0.0.1", "-p", str(self.port)]
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(command, env=variables, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(self.url + "/status", timeout=5):
                    return
            except (OSError, urllib.error.URLError):
                time.sleep(0.5)
        tail = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
        self.stop()
        raise RuntimeError(f"Xinference did not come up:\n{tail}")

    def stop(self) -> None:
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(30)
        except ProcessLookupError:
            pass
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process = None

    def post(self, path: str, body: dict[str, Any], token: str) -> Any:
        """What a user of the models sends; raises HTTPError."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers, method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


def tiny_models(tiny: pathlib.Path) -> list[dict[str, Any]]:
    """One model of each kind, in the form that ``xinference_models`` takes; each is launched in seconds on a CPU."""
    uri = "file://" + str(tiny)
    common = {"model_format": "pytorch", "model_hub": "huggingface", "model_id": None, "model_revision": None, "quantization": "none"}
    chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    llm = {
        "version": 2,
        "context_length": 2048,
        "model_name": "tiny-llm",
        "model_lang": ["en"],
        "model_ability": ["generate", "chat"],
        "model_description": "tiny",
        "model_family": "tiny-llm",
        "model_specs": [dict(common, model_size_in_billions="0_1", model_uri=uri + "/tiny-llm")],
        "chat_template": chat_template,
        "stop_token_ids": [2],
        "stop": ["<|im_end|>"],
        "architectures": ["Qwen2ForCausalLM"],
    }
    embedding = {
        "version": 2,
        "model_name": "tiny-embedding",
        "dimensions": 32,
        "max_tokens": 128,
        "language": ["en"],
        "model_specs": [dict(common, model_uri=uri + "/tiny-embedding")],
    }
    rerank = {
        "version": 2,
        "model_name": "tiny-reranker",
        "language": ["en"],
        "type": "normal",
        "max_tokens": 512,
        "model_specs": [dict(common, model_uri=uri + "/tiny-reranker")],
    }
    return [
        {"uid": "chat", "type": "LLM", "engine": "transformers", "size": "0_1", "format": "pytorch", "quantization": "none", "register": llm},
        {"uid": "embed", "type": "embedding", "register": embedding},
        {"uid": "rerank", "type": "rerank", "register": rerank},
    ]
