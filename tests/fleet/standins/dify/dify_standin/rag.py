# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Knowledge bases and chat: splitting, indexing, retrieval, answering. Every model call goes through the plugin daemon."""

from __future__ import annotations

import hashlib
import json
import math
import re
import secrets
import time
from typing import Any

from .config import Settings
from .errors import failure, invalid
from .http import HttpError
from .providers import Providers
from .security import new_id
from .storage import Database, Row

RETRIEVAL: dict[str, Any] = {
    "search_method": "semantic_search",
    "reranking_enable": False,
    "reranking_mode": None,
    "reranking_model": {"reranking_provider_name": "", "reranking_model_name": ""},
    "weights": None,
    "top_k": 4,
    "score_threshold_enabled": False,
    "score_threshold": None,
}
_AUTOMATIC_CHARACTERS = 2000
_BATCH = 16
_OLDEST_CLAIM = 300.0


def split(text: str, rule: dict[str, Any]) -> list[str]:
    """Segments of a text. ``automatic`` packs lines together; ``custom`` cuts at every separator, as Dify does."""
    segmentation = (rule.get("rules") or {}).get("segmentation") or {}
    if rule.get("mode") in ("custom", "hierarchical") and segmentation:
        separator = str(segmentation.get("separator") or "\n").replace("\\n", "\n")
        most = int(segmentation.get("max_tokens") or 500) * 4
        return [part for piece in text.split(separator) for part in _cut(piece.strip(), most) if part]
    found: list[str] = []
    for line in (part for piece in text.split("\n") for part in _cut(piece.strip(), _AUTOMATIC_CHARACTERS) if part):
        if found and len(found[-1]) + len(line) < _AUTOMATIC_CHARACTERS:
            found[-1] += f"\n{line}"
        else:
            found.append(line)
    return found


def _cut(text: str, most: int) -> list[str]:
    return [text[start : start + most] for start in range(0, len(text), most)]


def _cosine(left: list[float], right: list[float]) -> float:
    size = math.sqrt(sum(a * a for a in left)) * math.sqrt(sum(b * b for b in right))
    return sum(a * b for a, b in zip(left, right, strict=True)) / size if size else 0.0


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


class Knowledge:
    def __init__(self, settings: Settings, database: Database, providers: Providers) -> None:
        self.settings = settings
        self.db = database
        self.providers = providers

    # -- models -------------------------------------------------------------------------------------------------

    def embedding_model(self, tenant: str, model: str | None, provider: str | None) -> tuple[str, str]:
        """(provider, model) given or the default one; the API's own error when there is none."""
        if model and provider:
            return provider, model
        row = self.providers.default(tenant, "text-embedding")
        if row is None:
            text = "No Embedding Model available. Please configure a valid provider in the Settings -> Model Provider."
            raise failure(400, "provider_not_initialize", text)
        return row["provider_name"], row["model_name"]

    def _embed(self, tenant: str, provider: str, model: str, texts: list[str]) -> dict[str, Any]:
        credentials = self.providers.usable(tenant, provider, model, "text-embedding")
        found: dict[str, Any] = {"embeddings": [], "tokens": 0}
        for start in range(0, len(texts), _BATCH):
            body = {"provider": provider, "model": model, "credentials": credentials, "texts": texts[start : start + _BATCH]}
            answer = self.providers.source.dispatch(tenant, "text_embedding/invoke", body)
            found["embeddings"] += answer["embeddings"]
            found["tokens"] += answer["tokens"]
        return found

    # -- files and documents ------------------------------------------------------------------------------------

    def keep_file(self, tenant: str, account: str, name: str, content: bytes, kind: str) -> Row:
        """Stores an uploaded file where the storage is: in the folder that backups expect it in, or in the bucket."""
        ident = new_id()
        extension = name.rsplit(".", 1)[-1].lower() if "." in name else "txt"
        key = f"upload_files/{tenant}/{ident}.{extension}"
        self.settings.files.write(key, content)
        row = {
            "id": ident,
            "tenant_id": tenant,
            "storage_key": key,
            "name": name,
            "size": len(content),
            "extension": extension,
            "mime_type": kind,
            "hash": hashlib.sha3_256(content).hexdigest(),
            "created_by": account,
            "created_at": time.time(),
        }
        self.db.insert("upload_files", **row)
        return row

    def add_documents(self, dataset: Row, account: str, files: list[Row], rule: dict[str, Any], source: str) -> tuple[list[str], str]:
        """Rows for the worker to index; returns (document ids, batch)."""
        batch = time.strftime("%Y%m%d%H%M%S") + str(secrets.randbelow(900000) + 100000)
        row = self.db.one("SELECT COUNT(*) AS n FROM documents WHERE dataset_id = ?", dataset["id"])
        found = []
        for number, file in enumerate(files, start=(row or {"n": 0})["n"] + 1):
            found.append(new_id())
            self.db.insert(
                "documents",
                id=found[-1],
                tenant_id=dataset["tenant_id"],
                dataset_id=dataset["id"],
                position=number,
                batch=batch,
                name=file["name"],
                upload_file_id=file["id"],
                process_rule=json.dumps(rule),
                created_from=source,
                created_by=account,
                created_at=time.time(),
                indexing_status="waiting",
            )
        return found, batch

    def delete_document(self, document: str) -> None:
        row = self.db.one("SELECT f.storage_key, f.id FROM upload_files f JOIN documents d ON d.upload_file_id = f.id WHERE d.id = ?", document)
        self.db.execute("DELETE FROM document_segments WHERE document_id = ?", document)
        self.db.execute("DELETE FROM documents WHERE id = ?", document)
        if row:
            self.db.execute("DELETE FROM upload_files WHERE id = ?", row["id"])
            self.settings.files.delete(row["storage_key"])

    # -- indexing (in the worker) -------------------------------------------------------------------------------

    def index_waiting(self) -> int:
        """Indexes what waits, one document after the other; returns how many were handled.

        A document whose worker died is taken up again after five minutes.
        """
        sql = "SELECT * FROM documents WHERE indexing_status = 'waiting' OR (indexing_status = 'indexing' AND processing_started_at < ?) ORDER BY id"
        done = 0
        for row in self.db.query(sql, time.time() - _OLDEST_CLAIM):
            claim = "UPDATE documents SET indexing_status = 'indexing', processing_started_at = ? WHERE id = ? AND indexing_status = ?"
            if self.db.execute(claim, time.time(), row["id"], row["indexing_status"]):
                done += 1
                self._index_one(row)
        return done

    def _index_one(self, document: Row) -> None:
        try:
            self._index(document)
        except HttpError as error:
            self._index_failed(document, json.loads(error.response.body)["message"])
        except Exception as error:  # a document's error must not end the worker
            self._index_failed(document, f"{type(error).__name__}: {error}")

    def _index_failed(self, document: Row, message: str) -> None:
        sql = "UPDATE documents SET indexing_status = 'error', error = ?, stopped_at = ? WHERE id = ?"
        self.db.execute(sql, message, time.time(), document["id"])

    def _index(self, document: Row) -> None:
        dataset = self.db.one("SELECT * FROM datasets WHERE id = ?", document["dataset_id"])
        file = self.db.one("SELECT storage_key FROM upload_files WHERE id = ?", document["upload_file_id"])
        if dataset is None or file is None:
            raise ValueError("the knowledge base or the file is gone")
        text = self.settings.files.read(file["storage_key"]).decode("utf-8", errors="replace")
        pieces = split(text, json.loads(document["process_rule"]))
        if not pieces:
            raise ValueError("no text found in the document")
        found: dict[str, Any] = {"embeddings": [None] * len(pieces), "tokens": 0}
        if dataset["indexing_technique"] == "high_quality":
            found = self._embed(dataset["tenant_id"], dataset["embedding_model_provider"], dataset["embedding_model"], pieces)
        self.db.execute("DELETE FROM document_segments WHERE document_id = ?", document["id"])
        when = time.time()
        for number, (piece, vector) in enumerate(zip(pieces, found["embeddings"], strict=True), start=1):
            self.db.insert(
                "document_segments",
                id=new_id(),
                tenant_id=document["tenant_id"],
                dataset_id=dataset["id"],
                document_id=document["id"],
                position=number,
                content=piece,
                word_count=len(piece),
                tokens=len(piece) // 4 + 1,
                index_node_hash=hashlib.sha256(piece.encode()).hexdigest(),
                embedding=json.dumps(vector) if vector else None,
                hit_count=0,
                status="completed",
                created_by=document["created_by"],
                created_at=when,
                completed_at=when,
            )
        self.db.execute(
            "UPDATE documents SET indexing_status = 'completed', error = NULL, word_count = ?, tokens = ?, parsing_completed_at = ?, "
            "cleaning_completed_at = ?, splitting_completed_at = ?, completed_at = ? WHERE id = ?",
            len(text),
            found["tokens"],
            *(when,) * 3,
            time.time(),
            document["id"],
        )

    # -- retrieval ----------------------------------------------------------------------------------------------

    def retrieve(self, dataset: Row, query: str, model: dict[str, Any]) -> list[tuple[Row, float]]:
        """(segment, score), best first. Vectors are compared here: the stand-in has no vector store."""
        model = {**RETRIEVAL, **{name: value for name, value in model.items() if value is not None}}
        tenant = dataset["tenant_id"]
        sql = "SELECT s.*, d.name AS document_name FROM document_segments s JOIN documents d ON d.id = s.document_id WHERE s.dataset_id = ?"
        rows = self.db.query(f"{sql} AND s.status = 'completed' ORDER BY s.id", dataset["id"])
        if not rows:
            return []
        scores: dict[str, float] = {}
        method = model["search_method"]
        if method in ("semantic_search", "hybrid_search") and dataset["indexing_technique"] == "high_quality":
            vector = self._embed(tenant, dataset["embedding_model_provider"], dataset["embedding_model"], [query])["embeddings"][0]
            scores = {row["id"]: _cosine(vector, json.loads(row["embedding"])) for row in rows if row["embedding"]}
        if method != "semantic_search" or dataset["indexing_technique"] != "high_quality":
            words = _words(query)
            for row in rows:
                share = len(words & _words(row["content"])) / max(len(words), 1)
                if share:
                    scores[row["id"]] = max(scores.get(row["id"], 0.0), share)
        found = sorted(((row, scores[row["id"]]) for row in rows if row["id"] in scores), key=lambda item: -item[1])[: int(model["top_k"])]
        return self.reranked(tenant, query, found, model)

    def reranked(self, tenant: str, query: str, found: list[tuple[Row, float]], model: dict[str, Any]) -> list[tuple[Row, float]]:
        chosen = model.get("reranking_model") or {}
        name, provider = chosen.get("reranking_model_name"), chosen.get("reranking_provider_name")
        if model.get("reranking_enable") and name and provider and found:
            credentials = self.providers.usable(tenant, provider, name, "rerank")
            docs = [row["content"] for row, _score in found]
            body = {"provider": provider, "model": name, "credentials": credentials, "query": query, "docs": docs, "top_n": len(docs)}
            answer = self.providers.source.dispatch(tenant, "rerank/invoke", body)
            found = [(found[item["index"]][0], item["score"]) for item in answer]
        if model.get("score_threshold_enabled"):
            found = [item for item in found if item[1] >= float(model.get("score_threshold") or 0)]
        for row, _score in found:
            self.db.execute("UPDATE document_segments SET hit_count = hit_count + 1 WHERE id = ?", row["id"])
        return found[: int(model.get("top_k") or 4)]

    # -- chat ---------------------------------------------------------------------------------------------------

    def answer(self, tenant: str, config: dict[str, Any], query: str, history: list[dict[str, str]]) -> dict[str, Any]:
        """{answer, usage, resources, latency}: retrieves from the attached knowledge bases, then asks the LLM."""
        chosen = config.get("model") or {}
        provider, name = chosen.get("provider") or "", chosen.get("name") or ""
        credentials = self.providers.usable(tenant, provider, name, "llm")
        resources = self._context(tenant, config, query)
        system = config.get("pre_prompt") or ""
        if resources:
            context = "\n".join(resource["content"] for resource in resources)
            system = f"{system}\nAnswer with the help of what stands between the context tags.\n<context>\n{context}\n</context>".strip()
        messages = [{"role": "system", "content": system}] if system else []
        messages += [*history, {"role": "user", "content": query}]
        parameters = {key: value for key, value in (chosen.get("completion_params") or {}).items() if key != "stop" or value}
        body = {"provider": provider, "model": name, "credentials": credentials, "prompt_messages": messages, "model_parameters": parameters}
        started = time.monotonic()
        try:
            found = self.providers.source.dispatch(tenant, "llm/invoke", body)
        except HttpError as error:
            raise failure(400, "completion_request_error", json.loads(error.response.body)["message"]) from error
        return {**found, "resources": resources, "latency": time.monotonic() - started}

    def _context(self, tenant: str, config: dict[str, Any], query: str) -> list[dict[str, Any]]:
        settings = config.get("dataset_configs") or {}
        tools = (config.get("agent_mode") or {}).get("tools") or []
        entries = ((settings.get("datasets") or {}).get("datasets") or []) + tools
        wanted = [entry["dataset"]["id"] for entry in entries if isinstance(entry.get("dataset"), dict) and entry["dataset"].get("enabled", True)]
        found: list[tuple[Row, float, Row]] = []
        for ident in wanted:
            dataset = self.db.one("SELECT * FROM datasets WHERE id = ? AND tenant_id = ?", ident, tenant)
            if dataset is None:
                raise invalid("Dataset not found")
            model = {**json.loads(dataset["retrieval_model"]), "reranking_enable": False, "score_threshold_enabled": False}
            found += [(row, score, dataset) for row, score in self.retrieve(dataset, query, {**model, "top_k": settings.get("top_k")})]
        names = {row["id"]: dataset for row, _score, dataset in found}
        pairs = sorted(((row, score) for row, score, _dataset in found), key=lambda item: -item[1])
        pairs = self.reranked(tenant, query, pairs, {**settings, "top_k": settings.get("top_k") or 4})
        return [
            {
                "position": number,
                "dataset_id": row["dataset_id"],
                "dataset_name": names[row["id"]]["name"],
                "document_id": row["document_id"],
                "document_name": row["document_name"],
                "data_source_type": "upload_file",
                "segment_id": row["id"],
                "retriever_from": "api",
                "score": score,
                "hit_count": row["hit_count"],
                "word_count": row["word_count"],
                "segment_position": row["position"],
                "index_node_hash": row["index_node_hash"],
                "content": row["content"],
                "page": None,
                "doc_metadata": None,
                "title": None,
                "files": None,
                "summary": None,
            }
            for number, (row, score) in enumerate(pairs, start=1)
        ]
