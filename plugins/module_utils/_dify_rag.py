# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""One question answered through Dify by retrieval: every model is called the way users' applications call it.

A temporary knowledge base (embedding) with one document, a retrieval (rerank), a temporary chat application on top of
it (LLM), asked through the service API. Everything made is deleted again, also what an interrupted run left behind.

Source of the routes and fields: Dify's own controllers at 1.16.1 (console/datasets, console/app, service_api).
"""

from __future__ import annotations

import time
import typing as t
import urllib.parse
import uuid

from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify import DifyClient, DifyError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import ServerUnreachable
from ansible_collections.llmops.dify_xinference.plugins.module_utils._wait import WaitTimeout, wait_for

PREFIX = "llmops-verify"
DOCUMENT = (
    "The lighthouse of Port Amberley was built in 1874 by Eleanor Finch. Its lamp is named Old Marigold.\n\n"
    "The bakery of Port Amberley opens at six in the morning and sells rye bread.\n"
)
QUESTION = "What is the name of the lamp of the lighthouse of Port Amberley?"
EXPECTED_PASSAGE = "Old Marigold"
TYPES = ("llm", "text-embedding", "rerank")


class RagFailed(Exception):
    """One layer did not do its part. ``layer``: defaults, embedding, rerank or chat; ``partial``: what was measured until then."""

    def __init__(self, layer: str, message: str, partial: dict[str, t.Any]) -> None:
        super().__init__(message)
        self.layer = layer
        self.partial = partial


def retrieval_settings(rerank: dict[str, str] | None, top_k: int = 2) -> dict[str, t.Any]:
    """How passages are looked for: by vector, then ordered by the rerank model where there is one."""
    return {
        "search_method": "semantic_search",
        "reranking_enable": rerank is not None,
        "reranking_mode": "reranking_model",
        "reranking_model": {
            "reranking_provider_name": rerank["provider"] if rerank else "",
            "reranking_model_name": rerank["model"] if rerank else "",
        },
        "top_k": top_k,
        "score_threshold_enabled": False,
        "score_threshold": None,
    }


def application_settings(llm: dict[str, str], dataset_id: str, rerank: dict[str, str] | None, max_tokens: int) -> dict[str, t.Any]:
    """The model-config of a chat application with one knowledge base, with every block Dify's validator looks for."""
    off = {"enabled": False}
    retrieval = retrieval_settings(rerank)
    return {
        "model": {"provider": llm["provider"], "name": llm["model"], "mode": "chat", "completion_params": {"max_tokens": max_tokens, "temperature": 0}},
        "pre_prompt": "Answer from the given context in one short sentence.",
        "prompt_type": "simple",
        "chat_prompt_config": {},
        "completion_prompt_config": {},
        "user_input_form": [],
        "dataset_query_variable": "",
        "opening_statement": "",
        "suggested_questions": [],
        "suggested_questions_after_answer": off,
        "more_like_this": off,
        "speech_to_text": off,
        "text_to_speech": off,
        "sensitive_word_avoidance": off,
        "retriever_resource": {"enabled": True},
        "agent_mode": {"enabled": False, "max_iteration": 5, "strategy": "function_call", "tools": []},
        "dataset_configs": {
            "retrieval_model": "multiple",
            "datasets": {"datasets": [{"dataset": {"enabled": True, "id": dataset_id}}]},
            **{key: retrieval[key] for key in ("reranking_enable", "reranking_mode", "reranking_model", "top_k", "score_threshold_enabled", "score_threshold")},
        },
        "file_upload": {"image": off},
    }


class RagCheck:
    """The check as a whole; :meth:`run` returns what was measured or raises :class:`RagFailed`.

    :param index_timeout: seconds until the document must be embedded.
    :param max_tokens: longest answer of the chat model, in tokens.
    """

    def __init__(
        self,
        client: DifyClient,
        question: str = QUESTION,
        document: str = DOCUMENT,
        index_timeout: float = 300.0,
        max_tokens: int = 64,
        sleep: t.Callable[[float], None] = time.sleep,
        clock: t.Callable[[], float] = time.monotonic,
    ) -> None:
        self.client = client
        self.question = question
        self.document = document
        self.index_timeout = index_timeout
        self.max_tokens = max_tokens
        self.sleep = sleep
        self.clock = clock
        self.name = f"{PREFIX}-{uuid.uuid4().hex[:12]}"
        self.warnings: list[str] = []
        self.result: dict[str, t.Any] = {"models": {}, "leftovers_removed": 0}

    def run(self) -> dict[str, t.Any]:
        self.result["leftovers_removed"] = self.remove_everything()
        defaults = self._defaults()
        try:
            dataset_id = self._layer("embedding", lambda: self._embed(defaults["text-embedding"], defaults.get("rerank")))
            self._layer("rerank", lambda: self._retrieve(dataset_id, defaults.get("rerank")))
            self._layer("chat", lambda: self._ask(dataset_id, defaults["llm"], defaults.get("rerank")))
        finally:
            self.remove_everything()
        return self.result

    def _layer(self, layer: str, work: t.Callable[[], t.Any]) -> t.Any:
        try:
            return work()
        except (DifyError, ServerUnreachable, WaitTimeout) as error:
            raise RagFailed(layer, str(error), self.result) from error

    def _defaults(self) -> dict[str, dict[str, str]]:
        found = {}
        for model_type in TYPES:
            default = self._layer("defaults", lambda: self.client.default_model(model_type))  # noqa: B023 - called at once
            if default:
                found[model_type] = default
                self.result["models"][model_type] = default["model"]
        missing = [model_type for model_type in ("llm", "text-embedding") if model_type not in found]
        if missing:
            names = " and ".join(missing)
            raise RagFailed("defaults", f"Dify has no default model for {names}; set dify_default_models, or choose them in the console", self.result)
        return found

    def _embed(self, embedding: dict[str, str], rerank: dict[str, str] | None) -> str:
        start = self.clock()
        body = {"name": self.name, "description": "Temporary, made by llmops.dify_xinference verify; safe to delete", "permission": "only_me"}
        dataset_id = str(self.client.call("POST", "/datasets", json=body)["id"])
        upload = self.client.upload("/files/upload", "file", f"{self.name}.txt", self.document.encode(), "text/plain", {"source": "datasets"})
        answer = self.client.call(
            "POST",
            f"/datasets/{dataset_id}/documents",
            json={
                "data_source": {"info_list": {"data_source_type": "upload_file", "file_info_list": {"file_ids": [upload["id"]]}}},
                "indexing_technique": "high_quality",
                "process_rule": {
                    "mode": "custom",
                    "rules": {
                        "pre_processing_rules": [{"id": "remove_extra_spaces", "enabled": True}, {"id": "remove_urls_emails", "enabled": False}],
                        "segmentation": {"separator": "\n\n", "max_tokens": 200, "chunk_overlap": 0},
                    },
                },
                "doc_form": "text_model",
                "doc_language": "English",
                "embedding_model": embedding["model"],
                "embedding_model_provider": embedding["provider"],
                "retrieval_model": retrieval_settings(rerank),
            },
        )
        path = f"/datasets/{dataset_id}/batch/{answer['batch']}/indexing-status"

        def look() -> dict[str, t.Any]:
            return dict(((self.client.call("GET", path) or {}).get("data") or [{}])[0])

        last = wait_for(
            look,
            lambda seen: seen.get("indexing_status") in ("completed", "error", "paused"),
            "the embedding of the test document",
            self.index_timeout,
            interval=0.5,
            clock=self.clock,
            sleep=self.sleep,
        )
        if last.get("indexing_status") != "completed":
            why = last.get("error") or last.get("indexing_status")
            raise RagFailed("embedding", f"Dify could not index the test document with {embedding['model']}: {why}", self.result)
        self.result["embedding"] = {"model": embedding["model"], "segments": last.get("total_segments"), "seconds": round(self.clock() - start, 2)}
        return dataset_id

    def _retrieve(self, dataset_id: str, rerank: dict[str, str] | None) -> None:
        start = self.clock()
        answer = self.client.call("POST", f"/datasets/{dataset_id}/hit-testing", json={"query": self.question, "retrieval_model": retrieval_settings(rerank)})
        records = (answer or {}).get("records") or []
        if not records:
            raise RagFailed("rerank", "Dify found no passage for the question in a knowledge base that holds the answer", self.result)
        best = records[0]
        self.result["rerank"] = {
            "model": rerank["model"] if rerank else None,
            "top_score": best.get("score"),
            "top_passage": str((best.get("segment") or {}).get("content") or "")[:200],
            "passages": len(records),
            "seconds": round(self.clock() - start, 2),
        }

    def _ask(self, dataset_id: str, llm: dict[str, str], rerank: dict[str, str] | None) -> None:
        look = {"icon_type": "emoji", "icon": "🔎", "icon_background": "#E4FBCC"}
        app = self.client.call(
            "POST", "/apps", json={"name": self.name, "mode": "chat", "description": "Temporary, made by llmops.dify_xinference verify", **look}
        )
        path = f"/apps/{app['id']}"
        self.client.call("POST", path + "/model-config", json=application_settings(llm, dataset_id, rerank, self.max_tokens))
        token = str(self.client.call("POST", path + "/api-keys")["token"])
        start = self.clock()
        answer = self.client.service_api(
            "POST",
            "/chat-messages",
            token,
            json={"inputs": {}, "query": self.question, "user": PREFIX, "response_mode": "blocking", "conversation_id": "", "auto_generate_name": False},
        )
        seconds = round(self.clock() - start, 2)
        text = str((answer or {}).get("answer") or "").strip()
        metadata = (answer or {}).get("metadata") or {}
        if not text:
            raise RagFailed("chat", f"{llm['model']} answered with nothing", self.result)
        self.result["chat"] = {
            "model": llm["model"],
            "answer": text,
            "seconds": seconds,
            "sources": [str(item.get("document_name")) for item in metadata.get("retriever_resources") or []],
            "tokens": (metadata.get("usage") or {}).get("total_tokens"),
        }

    def remove_everything(self) -> int:
        """Delete every application and knowledge base that bears our name prefix; returns how many there were."""
        removed = 0
        query = urllib.parse.quote(PREFIX)
        for listing, item_path in ((f"/apps?page=1&limit=100&name={query}", "/apps/"), (f"/datasets?page=1&limit=100&keyword={query}", "/datasets/")):
            try:
                for item in (self.client.call("GET", listing) or {}).get("data") or []:
                    if str(item.get("name", "")).startswith(PREFIX + "-"):
                        self.client.call("DELETE", item_path + str(item["id"]))
                        removed += 1
            except (DifyError, ServerUnreachable) as error:
                # Cleaning up must not hide why the check itself failed; the next run tries again.
                self.warnings.append(f"temporary objects named {PREFIX}-* could not all be removed: {error}")
        return removed


__all__ = ["DOCUMENT", "EXPECTED_PASSAGE", "PREFIX", "QUESTION", "RagCheck", "RagFailed", "application_settings", "retrieval_settings"]
