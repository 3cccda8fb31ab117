# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every exchange that was recorded with a real server, of every version, put before the client's own method for it.

An exchange that the client has no method for must be in the list of what it never asks. So nothing recorded goes unread,
and a change of the client that no longer understands one of the servers fails here.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Callable

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _xinference_plan as planning
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference import (
    ABSENT,
    LOADING,
    READY,
    LoginFailed,
    Xinference,
    XinferenceError,
    words_of,
)

from tests.contract.test_xinference_recordings import RECORDINGS, client_on, recorded

ALL = sorted(path.stem for path in RECORDINGS.glob("*.json"))
UID = r"(?!instances|prompts|families|$)([^/?]+)"
# What the client never asks: what users of the models ask, the web page, and what tells nothing that another route does not.
NOT_OURS = re.compile(
    r"GET /(docs|metrics|openapi\.json|status|v1/(address|workers|supervisor|engines/.*|launch_history|system_settings|virtualenvs"
    r"|cluster/ui_config|autostart/models/summary|models/prompts|models/[^/]+/(events|reload|reload/config)|auth/me|admin/keys))(\?.*)?"
    r"|POST /v1/(embeddings|rerank|chat/completions|auth/refresh|admin/.*)"
    r"|(GET|DELETE) /v1/models/[^/]+/b"  # a uid with a slash, which the client refuses to launch
)


def launch(client: Xinference, body: Any, wait_ready: bool) -> None:
    answer = client.launch(body, wait_ready=wait_ready, timeout=5)
    assert answer is not None
    if answer.ok:
        assert answer.json["model_uid"]
    else:
        assert 0 < len(words_of(answer)) <= 400
        assert "[address=" not in words_of(answer)
        assert "dict_keys" not in words_of(answer)


def look(client: Xinference, uid: str) -> None:
    seen = client.look(uid)
    assert seen.state in (READY, LOADING, ABSENT)
    if seen.state == READY:
        assert seen.record["model_type"]
        assert planning.visible_drift({"model_type": seen.record["model_type"], "model_name": seen.record["model_name"]}, seen.record) == []


def instances(client: Xinference) -> None:
    assert all(entry["status"] for entry in client.instances().values())


def progress(client: Xinference, uid: str) -> None:
    shown = client.progress(uid)
    assert shown == {} or (shown["stage"] and 0 <= shown["percent"] <= 100)


def failure(client: Xinference, uid: str) -> None:
    replicas = client.replicas(uid)
    assert replicas is None or all("status" in entry for entry in replicas)
    assert isinstance(client.failure_of(uid), str)


def autostart(client: Xinference) -> None:
    entries = client.autostart()
    assert entries is None or all(uid != "None" for uid in entries)


def register(client: Xinference, model_type: str, body: Any) -> None:
    if isinstance(body.get("model"), str):
        client.register(model_type, {"model_name": "x"})


# (method, path) -> what the client does to make that request. It may raise XinferenceError: a refusal that it understood.
METHODS: list[tuple[str, Callable[[Xinference, re.Match[str], Any], Any]]] = [
    (r"GET /v1/models/?(\?.*)?", lambda client, found, body: client.models()),
    (r"GET /v1/models/instances(\?.*)?", lambda client, found, body: instances(client)),
    (rf"GET /v1/models/{UID}", lambda client, found, body: look(client, found[1])),
    (rf"GET /v1/models/{UID}/progress", lambda client, found, body: progress(client, found[1])),
    (rf"GET /v1/models/{UID}/replicas", lambda client, found, body: failure(client, found[1])),
    (r"POST /v1/models", lambda client, found, body: launch(client, body, True)),
    (r"POST /v1/models\?wait_ready=false", lambda client, found, body: launch(client, body, False)),
    (rf"DELETE /v1/models/{UID}", lambda client, found, body: client.terminate(found[1])),
    (rf"POST /v1/models/{UID}/cancel", lambda client, found, body: client.cancel(found[1])),
    (rf"POST /v1/models/{UID}/replicas", lambda client, found, body: client.scale_up(found[1], 5)),
    (rf"DELETE /v1/models/{UID}/replicas/(\d+)", lambda client, found, body: client.scale_down(found[1], int(found[2]))),
    (r"GET /v1/model_registrations/([^/]+)", lambda client, found, body: client.custom_models(found[1])),
    (r"GET /v1/model_registrations/([^/]+)/(.+)", lambda client, found, body: client.registration(found[1], found[2])),
    (r"POST /v1/model_registrations/([^/]+)", lambda client, found, body: register(client, found[1], body)),
    (r"DELETE /v1/model_registrations/([^/]+)/(.+)", lambda client, found, body: client.unregister(found[1], found[2])),
    (r"GET /v1/autostart/models", lambda client, found, body: autostart(client)),
    (r"POST /v1/autostart/models", lambda client, found, body: client.autostart_set(body["launch"], body.get("priority", 100))),
    (r"DELETE /v1/autostart/models/(.+)", lambda client, found, body: client.autostart_unset(found[1])),
    (r"GET /v1/cluster/auth", lambda client, found, body: client.auth_required()),
    (r"GET /v1/cluster/version", lambda client, found, body: client.version()),
    (r"GET /v1/cluster/devices", lambda client, found, body: client.gpu_count()),
    (r"GET /v1/cluster/info(\?.*)?", lambda client, found, body: client.nodes()),
    (r"GET /v1/admin/setup/status", lambda client, found, body: client.fetch("/v1/admin/setup/status")),
    (r"POST /token", lambda client, found, body: client.login()),
]


def shaped(content: Any, path: str) -> bool:
    """Whether a shortened answer still has the shape that the server gave it."""
    return isinstance(content, dict) if path == "/v1/models" else not isinstance(content, list) or all(isinstance(row, dict) for row in content)


def replay(entry: dict[str, Any]) -> str:
    """``understood``, ``refused`` (the client says why), ``raw`` (what no client of ours sends), ``shortened``, ``no answer`` or ``not ours``."""
    request = entry["request"]
    line = f"{request['method']} {request['path']}"
    body = request.get("json")
    if request["method"] == "POST" and request["path"] != "/token" and not isinstance(body, dict):
        return "raw"  # broken JSON, to see what the server says
    if entry["response"].get("status") is None:
        return "no answer"  # the recorder gave up waiting, on purpose
    if entry["response"].get("trimmed") and not shaped(entry["response"]["json"], request["path"]):
        return "shortened"  # the recorder kept a list of models as short rows
    for pattern, method in METHODS:
        found = re.fullmatch(pattern, line)
        if not found:
            continue
        # A request of ours may carry other parameters than the recorded one; the answer is what is tried here.
        client, transport = client_on([entry], **({"username": "admin", "password": "x"} if request["path"] == "/token" else {}))
        transport.answer_everything = True
        refusal: XinferenceError | None = None
        try:
            method(client, found, body)
        except XinferenceError as problem:
            refusal = problem
        if refusal is None:
            return "understood"
        status = entry["response"]["status"]
        assert isinstance(refusal, LoginFailed) == (status in (401, 403, 429))
        assert status >= 400
        assert len(str(refusal)) > 20
        assert "[address=" not in str(refusal)
        return "refused"
    assert NOT_OURS.fullmatch(line), f"{line} was recorded, and neither has the client a method for it, nor is it known that it needs none"
    return "not ours"


@pytest.mark.parametrize("name", ALL)
def test_every_exchange_is_understood(name: str) -> None:
    counts = Counter(replay(entry) for entry in recorded(name))
    assert counts.total() == len(recorded(name))
    print(f"{name}: {dict(counts)}")


def test_all_recordings_together(capsys: pytest.CaptureFixture[str]) -> None:
    counts: Counter[str] = Counter()
    for name in ALL:
        counts.update(replay(entry) for entry in recorded(name))
    with capsys.disabled():
        print(f"\n{len(ALL)} recordings, {counts.total()} exchanges: {dict(counts)}")
    assert counts["understood"] + counts["refused"] > 1200
