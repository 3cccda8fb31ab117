# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the plugin langgenius/xinference 0.0.15 does in the daemon: validates credentials and calls the models, for real.

Calls, time-outs, tries, error texts and the five-minute cache keyed by the model uid alone are the recorded ones
(tests/contract/recordings/dify: model-add, model-update, slow-xinference).
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import secrets
import socket
import threading
import time
import urllib.parse
from typing import Any

PARAMETER_TIMEOUT = 10.0
TRIES = 4
CACHE_SECONDS = 300.0


class CredentialsRefused(Exception):
    """Validation failed in a way that the plugin expects; the API shows the text as it is."""


class PluginFailed(Exception):
    """The plugin raised something else; the API shows it as PluginInvokeError with this type and text."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


@dataclasses.dataclass
class Answer:
    status: int
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


def call(method: str, url: str, api_key: str = "", body: bytes | None = None, kind: str = "application/json", timeout: float = 60.0) -> Answer:
    """One HTTP request; raises OSError (also for a malformed answer)."""
    parts = urllib.parse.urlsplit(url)
    maker = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = maker(parts.hostname or "", parts.port, timeout=timeout)
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    if body is not None:
        headers["Content-Type"] = kind
    try:
        connection.request(method, parts.path or "/", body=body, headers=headers)
        response = connection.getresponse()
        return Answer(response.status, response.read().decode("utf-8", "replace"))
    except http.client.HTTPException as error:
        raise OSError(str(error) or type(error).__name__) from error
    finally:
        connection.close()


def _cause(url: str, error: OSError, timeout: float, old: bool = False) -> str:
    """The text that the HTTP library gives for a failed call; ``old``: the one that Dify had before plugins."""
    parts = urllib.parse.urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    pool = "HTTPSConnectionPool" if parts.scheme == "https" else "HTTPConnectionPool"
    plain = pool.removesuffix("Pool")
    where = f"host='{parts.hostname}', port={port}"
    if isinstance(error, (TimeoutError, socket.timeout)):
        inner = f'ReadTimeoutError("{pool}({where}): Read timed out. (read timeout={timeout:g})")'
    elif isinstance(error, socket.gaierror):
        inner = f"NameResolutionError(\"{plain}({where}): Failed to resolve '{parts.hostname}' ({error})\")"
    elif isinstance(error, ConnectionResetError):
        inner = f"ProtocolError('Connection aborted.', {error!r})"
    elif old:
        inner = f"NewConnectionError('<urllib3.connection.{plain} object at {id(error):#x}>: Failed to establish a new connection: {error}')"
    else:
        inner = f'NewConnectionError("{plain}({where}): Failed to establish a new connection: {error}")'
    return f"{pool}({where}): Max retries exceeded with url: {parts.path} (Caused by {inner})"


class Plugin:
    """The plugin's model code; one instance per daemon, as its cache and lock are process-wide there too."""

    old = False

    def __init__(self, retry_pause: float = 1.0, timeout: float = PARAMETER_TIMEOUT) -> None:
        self.retry_pause = retry_pause
        self.timeout = timeout
        self._cache: dict[str, tuple[float, dict[str, Any]]] = {}
        self._lock = threading.Lock()

    # -- validation ---------------------------------------------------------------------------------------------

    def validate(self, model_type: str, credentials: dict[str, Any], model: str = "") -> dict[str, Any]:
        """The credentials with what validation adds; raises CredentialsRefused or PluginFailed."""
        if "endpoint_url" in credentials:
            return self._validate_endpoint(credentials, model)
        steps = {
            "llm": self._validate_llm,
            "text-embedding": self._validate_embedding,
            "rerank": self._validate_rerank,
            "speech2text": self._validate_speech,
            "tts": self._validate_tts,
        }
        if model_type not in steps:
            raise PluginFailed("KeyError", f"<ModelType.{model_type.replace('-', '_').upper()}: '{model_type}'>")
        found = dict(credentials)
        if any(sign in found["model_uid"] for sign in "/?#"):
            raise CredentialsRefused("model_uid should not contain /, ?, or #")
        steps[model_type](found)
        return found

    def _validate_endpoint(self, credentials: dict[str, Any], model: str) -> dict[str, Any]:
        """As a provider of any server with OpenAI's API asks: a short answer of the model. Read, not recorded; nothing is added."""
        url = f"{credentials['endpoint_url'].rstrip('/')}/chat/completions"
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "ping"}], "max_tokens": 5}).encode()
        try:
            answer = call("POST", url, credentials.get("api_key") or "", body, timeout=self.timeout)
        except OSError as error:
            raise CredentialsRefused(f"An error occurred during credentials validation: {_cause(url, error, self.timeout)}") from error
        if answer.status != 200:
            raise CredentialsRefused(f"Credentials validation failed with status code {answer.status} and response {answer.text}")
        return dict(credentials)

    def _validate_llm(self, found: dict[str, Any]) -> None:
        extra = self._parameters(found)
        abilities = extra.get("model_ability") or []
        if "chat" in abilities:
            found["completion_type"] = "chat"
        elif "generate" in abilities:
            found["completion_type"] = "completion"
        else:
            raise self.wrong_ability(f"xinference model ability {abilities} is not supported, check if you have the right model type")
        if "tools" in abilities:
            found["support_function_call"] = True
        if "vision" in abilities:
            found["support_vision"] = True
        # The plugin's own defaults for a server that does not tell: 2048 here, 512 for embeddings.
        if extra.get("context_length", 2048):
            found["context_length"] = extra.get("context_length", 2048)

    def wrong_ability(self, text: str) -> Exception:
        return PluginFailed("ValueError", text)

    def _validate_embedding(self, found: dict[str, Any]) -> None:
        extra = self._parameters(found)
        if extra.get("max_tokens", 512):
            found["max_tokens"] = extra.get("max_tokens", 512)
        self._expect_kind(found, "embedding", "a text embedding model")
        self.embed(found, ["ping"])

    def _validate_rerank(self, found: dict[str, Any]) -> None:
        found["server_url"] = found["server_url"].removesuffix("/")
        self._expect_kind(found, "rerank", "a rerank model")
        self.rerank(found, "Whose capital is it?", ["Paris is the capital of France.", "Lyon is a city."], None)

    def _validate_speech(self, found: dict[str, Any]) -> None:
        found["server_url"] = found["server_url"].removesuffix("/")
        self._expect_kind(found, "audio", "a speech to text model")
        mark = secrets.token_hex(8)
        sound = b"RIFF$\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00data\x00\x00\x00\x00"
        body = (
            f'--{mark}\r\nContent-Disposition: form-data; name="model"\r\n\r\n{found["model_uid"]}\r\n--{mark}\r\n'
            'Content-Disposition: form-data; name="file"; filename="demo.wav"\r\nContent-Type: audio/wav\r\n\r\n'
        ).encode()
        body += sound + f"\r\n--{mark}--\r\n".encode()
        self._post(found, "/v1/audio/transcriptions", body, f"multipart/form-data; boundary={mark}")

    def _validate_tts(self, found: dict[str, Any]) -> None:
        found["server_url"] = found["server_url"].removesuffix("/")
        extra = self._parameters(found)
        found["audio_model_name"] = extra.get("model_name", "")

    def _parameters(self, credentials: dict[str, Any]) -> dict[str, Any]:
        """GET /v1/models/<uid>, cached for five minutes by the uid alone: neither the address nor the key is part of it."""
        uid = credentials["model_uid"]
        with self._lock:
            until, value = self._cache.get(uid, (0.0, {}))
            if until < time.monotonic():
                value = self._ask_parameters(credentials)
                self._cache[uid] = (time.monotonic() + CACHE_SECONDS, value)
            return value

    def forget(self) -> None:
        """Drops the cache: a restarted daemon has none."""
        self._cache.clear()

    def _ask_parameters(self, credentials: dict[str, Any]) -> dict[str, Any]:
        url = f"{credentials['server_url'].rstrip('/')}/v1/models/{credentials['model_uid']}"
        start = "Xinference credentials validate failed: get xinference model extra parameter failed"
        for attempt in range(TRIES):
            try:
                answer = call("GET", url, credentials.get("api_key") or "", timeout=self.timeout)
                break
            except OSError as error:
                if attempt == TRIES - 1:
                    raise CredentialsRefused(f"{start}, url: {url}, error: {_cause(url, error, self.timeout, self.old)}") from error
                if not isinstance(error, (TimeoutError, socket.timeout)):
                    time.sleep(self.retry_pause)
        if answer.status != 200:
            raise CredentialsRefused(f"{start}, status code: {answer.status}, response: {answer.text}")
        return answer.json()

    def _expect_kind(self, credentials: dict[str, Any], kind: str, words: str) -> None:
        """The client's own look-up of the model, never cached: its kind decides."""
        url = f"{credentials['server_url'].rstrip('/')}/v1/models/{credentials['model_uid']}"
        try:
            answer = call("GET", url, credentials.get("api_key") or "", timeout=self.timeout)
        except OSError as error:
            raise CredentialsRefused(_cause(url, error, self.timeout, self.old)) from error
        if answer.status != 200:
            raise CredentialsRefused(f"Failed to get the model description, status code: {answer.status}, response: {answer.text}")
        if answer.json().get("model_type") != kind:
            raise CredentialsRefused(f"please check model type, the model you want to invoke is not {words}")

    # -- use ----------------------------------------------------------------------------------------------------

    def _post(self, credentials: dict[str, Any], path: str, body: bytes, kind: str = "application/json") -> Any:
        """One model call with the registered time-out and number of retries."""
        url = credentials["server_url"].rstrip("/") + path
        tries = int(credentials.get("max_retries") or 3) + 1
        for attempt in range(tries):
            try:
                answer = call("POST", url, credentials.get("api_key") or "", body, kind, float(credentials.get("invoke_timeout") or 60))
            except (TimeoutError, socket.timeout) as error:
                raise CredentialsRefused(f"{url}: no answer within {credentials.get('invoke_timeout') or 60} s") from error
            except OSError as error:
                if attempt == tries - 1:
                    raise CredentialsRefused(_cause(url, error, self.timeout, self.old)) from error
                time.sleep(self.retry_pause)
                continue
            if answer.status != 200:
                raise CredentialsRefused(f"{path} failed, status code: {answer.status}, response: {answer.text}")
            return answer.json()
        raise AssertionError("unreachable")

    def embed(self, credentials: dict[str, Any], texts: list[str]) -> dict[str, Any]:
        """POST /v1/embeddings -> {embeddings, tokens}."""
        body = json.dumps({"model": credentials["model_uid"], "input": texts}).encode()
        answer = self._post(credentials, "/v1/embeddings", body)
        data = sorted(answer["data"], key=lambda item: item["index"])
        return {"embeddings": [item["embedding"] for item in data], "tokens": (answer.get("usage") or {}).get("total_tokens", 0)}

    def rerank(self, credentials: dict[str, Any], query: str, documents: list[str], top_n: int | None) -> list[dict[str, Any]]:
        """POST /v1/rerank -> [{index, score}], best first."""
        body = {"model": credentials["model_uid"], "query": query, "documents": documents, "return_documents": True}
        if top_n:
            body["top_n"] = top_n
        answer = self._post(credentials, "/v1/rerank", json.dumps(body).encode())
        found = [{"index": item["index"], "score": item["relevance_score"]} for item in answer["results"]]
        return sorted(found, key=lambda item: -item["score"])

    def chat(self, credentials: dict[str, Any], messages: list[dict[str, str]], parameters: dict[str, Any]) -> dict[str, Any]:
        """POST /v1/chat/completions (or /v1/completions for a completion model) -> {answer, usage}."""
        body: dict[str, Any] = {"model": credentials["model_uid"], "stream": False, **parameters}
        if credentials.get("completion_type") == "completion":
            body["prompt"] = "\n".join(message["content"] for message in messages)
            answer = self._post(credentials, "/v1/completions", json.dumps(body).encode())
            text = answer["choices"][0]["text"]
        else:
            body["messages"] = messages
            answer = self._post(credentials, "/v1/chat/completions", json.dumps(body).encode())
            text = answer["choices"][0]["message"].get("content") or ""
        return {"answer": text, "usage": answer.get("usage") or {}}


class BuiltIn(Plugin):
    """The same code as it was inside the API before 1.0: no error of its own type gets out, and speech wants a key.

    :param speech: False where there is no text-to-speech yet.
    """

    old = True

    def __init__(self, retry_pause: float, timeout: float, speech: bool) -> None:
        super().__init__(retry_pause, timeout)
        self.speech = speech

    def wrong_ability(self, text: str) -> Exception:
        return CredentialsRefused(text)

    def _validate_tts(self, found: dict[str, Any]) -> None:
        if not self.speech:
            raise PluginFailed("AttributeError", "no text-to-speech")
        if not found.get("api_key"):
            raise CredentialsRefused("api_key is required")
        super()._validate_tts(found)
