# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Dify modules, run as Ansible runs them, against every generation of Dify that the stand-in copies.

``python -m pytest -s tests/contract/dify_generations`` prints what every version did, requests per run, and the verdict texts.
They are also in docs/dify-registration.md; ``DIFY_TABLE=write`` brings them up to date there, and without it test_the_table.py
compares.
"""

from __future__ import annotations

import pathlib
import re
from typing import Any

from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_versions import Capabilities, capabilities

from tests.contract.dify_client_stack import Outcome, run_module
from tests.fleet.standins.dify.dify_standin.generations import GENERATIONS
from tests.fleet.standins.dify.dify_standin.http import Application, Request, Response, reply
from tests.fleet.standins.dify.lab import Lab

VERSIONS = list(GENERATIONS)
KEY, OTHER_KEY, OTHER_KEY_SAME_MASK = "sk-0123456789abcdef", "sk-fedcba9876543210", "sk-fedXXXXXXXXXXX10"
MODELS = {"qwen3-chat": "llm", "bge-m3": "text-embedding", "bge-reranker": "rerank", "whisper": "speech2text", "cosyvoice": "tts"}
PROVIDER = "langgenius/xinference/xinference"
DEFAULTS = {"llm": "qwen3-chat", "text-embedding": "bge-m3", "rerank": "bge-reranker"}

# The table's rows, in its order.
ROWS = (
    "set-up, second run: requests",
    "plugin",
    "first run",
    "second run",
    "second run, a default of every type",
    "signed in by",
    "field changed in the UI",
    "model deleted in the UI",
    "model disabled in the UI",
    "credential detached in the UI",
    "default changed in the UI",
    "all of these at once, and a new key: one run",
    "key replaced",
    "key replaced by one with the same mask",
    "model that an administrator made by hand",
    "prune: ours only",
    "absent",
    "drift report",
    "two controllers at once",
    "killed at any request",
    "Xinference down, wrong uid",
    "Xinference hangs",
    "not an administrator",
    "lockout",
    "expired session",
    "plugin daemon down",
    "marketplace unreachable",
    "installation that fails, or only says success",
    "plugin removed in the UI",
    "after an upgrade from 0.15.8",
    "after an upgrade of the plugin from 0.0.4",
    "model of another provider",
)

# behaviour -> version -> what came out; and cause -> the words people read.
TABLE: dict[str, dict[str, str]] = {}
VERDICTS: dict[str, str] = {}


def note(version: str, behaviour: str, result: str) -> None:
    assert behaviour in ROWS, f"{behaviour!r} is no row of the table"
    TABLE.setdefault(behaviour, {})[version] = result


class Releases(Application):
    """Files by path, as GitHub serves those of a release."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def __call__(self, request: Request) -> Response:
        if request.path in self.files:
            return Response(200, self.files[request.path], "application/octet-stream")
        return reply({"message": "Not Found"}, 404)


class Dify:
    """The modules against one lab, on the path that its version is driven by."""

    def __init__(self, lab: Lab, version: str, folder: pathlib.Path) -> None:
        self.lab, self.version, self.folder = lab, version, folder
        self.able: Capabilities = capabilities(version)
        self.keyed = "api_key" in self.able.xinference_fields
        self.key = KEY
        self.state_file = folder / "registered.json"
        # An empty set: nobody needs a key, for a Dify that has no field for one.
        lab.xinference.guarded = None if self.keyed else set()
        lab.xinference.keys = {KEY}
        self.uids = [uid for uid, kind in MODELS.items() if kind != "tts" or self.keyed]

    @property
    def connection(self) -> dict[str, Any]:
        if self.able.admin_key:
            return {"url": self.lab.url, "admin_key": self.lab.admin_key, "workspace_id": self.lab.tenant}
        session = str(self.folder / "session.json")
        return {"url": self.lab.url, "admin_key": self.lab.admin_key, "email": self.lab.email, "password": self.lab.password, "session_file": session}

    def __call__(self, module: str, check_mode: bool = False, /, **arguments: Any) -> Outcome:
        return run_module(module, check_mode, **{**self.connection, **arguments})

    def wanted(self, *uids: str, **more: Any) -> list[dict[str, Any]]:
        key = {"api_key": self.key} if self.keyed else {}
        return [{"model_type": MODELS[uid], "model_uid": uid, "server_url": self.lab.xinference_url, **key, **more} for uid in uids or self.uids]

    def models(self, check_mode: bool = False, **more: Any) -> Outcome:
        self.lab.forget_uids()
        arguments = {"models": self.wanted(), "default_models": DEFAULTS, "state_file": str(self.state_file), **more}
        return self("dify_models", check_mode, **arguments)


def complete() -> bool:
    """Whether every row has a result for every version: only then is the table compared with the document."""
    return all(set(TABLE.get(behaviour, {})) == set(VERSIONS) for behaviour in ROWS)


def table() -> str:
    lines = ["| | " + " | ".join(VERSIONS) + " |", "|---|" + "---|" * len(VERSIONS)]
    lines += [f"| {behaviour} | " + " | ".join(TABLE.get(behaviour, {}).get(version, "") for version in VERSIONS) + " |" for behaviour in ROWS]
    return "\n".join(lines)


def verdicts() -> str:
    """The newest version's words, with documentation's addresses in them."""
    texts = []
    for cause, text in VERDICTS.items():
        text = re.sub(r"http://127\.0\.0\.1:\d+/api/v1\S*", "https://marketplace.example/...", text)
        text = re.sub(r"http://127\.0\.0\.1:\d+", "http://192.0.2.10:9997", text)
        text = re.sub(r"host='127\.0\.0\.1', port=\d+", "host='192.0.2.10', port=9997", text)
        text = text.replace("0.05)", "10)").replace("within 0 s", "within 30 s")  # patience is cut short in these tests
        text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "<workspace>", text)
        texts.append(f"- **{cause}**: `{text}`")
    return "\n".join(texts)


def actions(outcome: Outcome) -> dict[str, str]:
    return {item["model"]: item["action"] for item in outcome.result["models"] if item["action"] != "none"}


def reasons(outcome: Outcome) -> dict[str, str]:
    return {item["model"]: item["reason"] for item in outcome.result["models"] if item["verdict"] == "failed"}


def repaired_in_one_run(dify: Dify, behaviour: str, expected: dict[str, str], **more: Any) -> None:
    """Found in check mode, which changes nothing; repaired by one run; nothing left for the next."""
    predicted = dify.models(True, **more)
    assert (predicted.failed, actions(predicted), predicted.result["changed"]) == (False, expected, True), predicted.text
    assert actions(dify.models(True, **more)) == expected
    done = dify.models(**more)
    assert (done.failed, actions(done), done.result["diff"]) == (False, expected, predicted.result["diff"]), done.text
    again = dify.models(**more)
    assert (again.failed, again.result["changed"]) == (False, False), again.text
    assert not any(secret in outcome.text for outcome in (predicted, done, again) for secret in (KEY, OTHER_KEY, OTHER_KEY_SAME_MASK, dify.lab.password))
    note(dify.version, behaviour, ", ".join(sorted({*expected.values()})) or "set again")


def converges(dify: Dify) -> None:
    """A later run does what is left, and the one after it nothing."""
    assert not dify.models().failed
    assert not dify.models().result["changed"]


def signed_in(dify: Dify, password: str | None = None) -> dict[str, Any]:
    return {"admin_key": None, "workspace_id": None, "session_file": None, "email": dify.lab.email, "password": password or dify.lab.password}
