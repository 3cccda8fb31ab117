"""Whether models really serve, asked from outside, and how long they did not."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

PATIENCE = 900.0  # seconds; a machine with two cores that is busy needs minutes to start one server
STEADY = 3  # answers in a row that count as serving: the first one after a fault may come from what is about to go

ASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "LLM": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "What is Xinference?"}], "max_tokens": 8}),
    "embedding": ("/v1/embeddings", {"input": "one sentence"}),
    "rerank": ("/v1/rerank", {"query": "what", "documents": ["this", "that"]}),
}


class Server:
    """One REST API as its users see it. ``models``: uid -> type, of what is declared."""

    def __init__(self, url: str, models: Mapping[str, str], key: str = "") -> None:
        self.url = url
        self.models = dict(models)
        self.key = key

    def ask(self, method: str, path: str, body: Any = None, timeout: float = 30) -> tuple[int, Any]:
        """Status and JSON; status 0 with the error's words when nobody answers."""
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {self.key}"} if self.key else {})}
        request = urllib.request.Request(self.url + path, None if body is None else json.dumps(body).encode(), headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=timeout) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode("utf-8", "replace")
        except (OSError, ValueError) as error:
            return 0, str(error)

    def missing(self) -> dict[str, str]:
        """uid -> what is wrong with it; empty when every declared model is there and answers a real question."""
        wrong = {}
        for uid, kind in self.models.items():
            status, said = self.ask("GET", f"/v1/models/{uid}")
            if status == 200:
                path, body = ASKS[kind]
                status, said = self.ask("POST", path, {"model": uid, **body})
            if status != 200:
                wrong[uid] = f"{status} {str(said)[:200]}"
        return wrong

    def names(self) -> list[str]:
        """The uids that the server lists, each as often as it does."""
        status, said = self.ask("GET", "/v1/models")
        assert status == 200, said
        return [entry["id"] for entry in said["data"]]


def seconds_until_serving(server: Server, since: float, patience: float = PATIENCE, clock: Callable[[], float] = time.monotonic) -> float:
    """Seconds from ``since`` (of the monotonic clock) to the first of STEADY answers in a row; AssertionError when they do not come."""
    first = 0.0
    in_a_row = 0
    wrong: dict[str, str] = {}
    while clock() - since < patience:
        begun = clock()
        wrong = server.missing()
        if wrong:
            in_a_row = 0
        else:
            first = begun if not in_a_row else first
            in_a_row += 1
            if in_a_row == STEADY:
                return first - since
        time.sleep(1)
    raise AssertionError(f"after {patience:.0f} s: {wrong}")
