# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Ask Xinference itself about a model before Dify is told of it.

Dify's own validation remembers a uid for five minutes, whatever URL and key come with it, so it accepts wrong ones;
and its words name a symptom, not the cause.
"""

from __future__ import annotations

import re
import typing as t
import urllib.parse

from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import JsonClient, ServerUnreachable, shorten

# Dify's model type -> Xinference's model_type
KINDS = {"llm": ("LLM",), "text-embedding": ("embedding",), "rerank": ("rerank",), "speech2text": ("audio",), "tts": ("audio",)}
DIFY_TYPES = {"LLM": "llm", "llm": "llm", "embedding": "text-embedding", "rerank": "rerank"}

AUDIO_ABILITIES = {"speech2text": "audio2text", "tts": "text2audio"}
UNREACHABLE = "cannot be reached from this host"
HANGS = "took the request, but gave no answer"

# Seconds. A server that is launching models answers late; one that hangs is waited for twice, once per run.
TIMEOUT = 30.0
RETRIES = 1

_UID = re.compile(r"uid: (\S+?)[\"'}\s]*$")


def dify_type(model_type: str, abilities: t.Sequence[str] = ()) -> str | None:
    """Dify's word for a kind of Xinference model; ``None`` for kinds Dify's provider cannot use (image, video)."""
    if model_type == "audio":
        return next((kind for kind, ability in AUDIO_ABILITIES.items() if ability in abilities), None)
    return DIFY_TYPES.get(model_type)


def probe(client: JsonClient, uid: str, model_type: str, api_key: str | None = None) -> str | None:
    """Why this model cannot be registered, in one sentence, or ``None`` when it can."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    where = client.base_url
    try:
        answer = client.request("GET", "/v1/models/" + urllib.parse.quote(uid, safe=""), headers=headers)
    except ServerUnreachable as error:
        if error.timed_out:
            return (
                f"Xinference at {where} {HANGS} within {client.timeout:.0f} s: it hangs, or is busy. Look at its log, and restart it if it stays so; "
                "Dify itself would wait 40 s for each model."
            )
        return (
            f"Xinference at {where} {UNREACHABLE} ({shorten(error.reason, 160)}). Check that it runs, listens on that address "
            "(not only on 127.0.0.1), and that the firewall lets this host and its containers in."
        )
    if answer.status in (401, 403):
        given = "refused the API key" if api_key else "wants an API key"
        return f"Xinference at {where} {given} (HTTP {answer.status}). Give a key of that server that may list and use models."
    if answer.status == 503:
        return f"model {uid!r} is still loading on {where}. Wait until it is ready (role xinference_models does), then run again."
    if answer.status == 400:
        named = _UID.search(shorten(answer.text, 2000))
        if named and named.group(1) != uid and named.group(1).startswith(uid + "-"):
            return f"model {uid!r} is still loading on {where}. Wait until it is ready (role xinference_models does), then run again."
        return f"Xinference at {where} runs no model with uid {uid!r}. Launch it there first, or correct the uid."
    if not answer.ok or not isinstance(answer.json, dict):
        return f"Xinference at {where} answered HTTP {answer.status} for model {uid!r}: {shorten(answer.text, 160)}"
    kind = str(answer.json.get("model_type") or "")
    expected = KINDS.get(model_type, ())
    if expected and kind and kind not in expected:
        return f"model {uid!r} on {where} is of kind {kind}, which cannot serve as {model_type} (that takes {' or '.join(expected)})."
    abilities = answer.json.get("model_ability")
    needed = AUDIO_ABILITIES.get(model_type)
    # Older servers name no abilities of audio models; only a server that does is believed.
    if needed and abilities and needed not in abilities:
        return f"model {uid!r} on {where} can {', '.join(abilities)}, but {model_type} takes {needed}."
    return None


class Prober:
    """:func:`probe` for many models: a server that did not answer is not waited for again.

    :param connect: (server URL) -> client for it.
    """

    def __init__(self, connect: t.Callable[[str], JsonClient]) -> None:
        self.connect = connect
        self._dead: dict[str, str] = {}

    def __call__(self, server_url: str, uid: str, model_type: str, api_key: str | None = None) -> str | None:
        if server_url not in self._dead:
            problem = probe(self.connect(server_url), uid, model_type, api_key)
            if not problem or not (UNREACHABLE in problem or HANGS in problem):
                return problem
            self._dead[server_url] = problem
        return self._dead[server_url]


__all__ = ["Prober", "dify_type", "probe"]
