# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Knowledge bases: the console's calls and the service API's; both work on the same rows."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any

from .api_roles import ADMIN, EDIT
from .checks import Checks
from .errors import failure, invalid, not_found, not_implemented
from .http import Request, Response, reply
from .rag import RETRIEVAL
from .routes_apps import key_item, new_key
from .security import is_uuid
from .storage import Row

if TYPE_CHECKING:
    from .api import Api


def register(api: Api) -> None:
    if "datasets" not in api.generation.groups:
        return
    console = "/console/api/datasets"
    api.route("GET", f"{console}/api-keys", list_keys)
    api.route("POST", f"{console}/api-keys", create_key, roles=ADMIN)
    api.route("DELETE", f"{console}/api-keys/<key>", delete_key, roles=ADMIN)
    api.route("POST", "/console/api/files/upload", upload_file, roles=EDIT)
    api.route("POST", f"{console}/init", init, roles=EDIT)
    for base, auth in ((console, "console"), ("/v1/datasets", "dataset")):
        created = 201 if auth == "console" else 200
        api.route("GET", base, list_datasets, auth)
        api.route("POST", base, lambda api, request, created=created: reply(create(api, request), created), auth, EDIT)
        api.route("GET", f"{base}/<dataset>", read, auth)
        api.route("PATCH", f"{base}/<dataset>", update, auth, EDIT)
        api.route("DELETE", f"{base}/<dataset>", delete, auth, EDIT)
        api.route("GET", f"{base}/<dataset>/documents", list_documents, auth)
        api.route("DELETE", f"{base}/<dataset>/documents/<document>", delete_document, auth, EDIT)
        api.route("POST", f"{base}/<dataset>/hit-testing", retrieve, auth)
    api.route("POST", f"{console}/<dataset>/documents", add_documents, roles=EDIT)
    api.route("GET", f"{console}/<dataset>/indexing-status", indexing_status)
    api.route("GET", f"{console}/<dataset>/batch/<batch>/indexing-status", indexing_status)
    api.route("POST", "/v1/datasets/<dataset>/retrieve", retrieve, "dataset")
    api.route("GET", "/v1/datasets/<dataset>/documents/<batch>/indexing-status", indexing_status, "dataset")
    for name in ("create-by-text", "create_by_text"):
        api.route("POST", f"/v1/datasets/<dataset>/document/{name}", create_by_text, "dataset")


def _get(api: Api, request: Request, dataset: str) -> Row:
    sql = "SELECT * FROM datasets WHERE id = ? AND tenant_id = ?"
    row = api.db.one(sql, dataset, request.values["tenant"]) if is_uuid(dataset) else None
    if row is None:
        raise not_found("Dataset not found.")
    return row


def _detail(api: Api, row: Row) -> dict[str, Any]:
    counts = api.db.one(
        "SELECT COUNT(*) AS n, COALESCE(SUM(word_count), 0) AS words, SUM(CASE WHEN indexing_status = 'completed' THEN 1 ELSE 0 END) AS ready "
        "FROM documents WHERE dataset_id = ?",
        row["id"],
    ) or {"n": 0, "words": 0, "ready": 0}
    author = api.accounts.get(row["created_by"]) or {"name": None}
    provider, model = row["embedding_model_provider"], row["embedding_model"]
    available = not model or bool(api.providers.model(row["tenant_id"], provider, model, "text-embedding"))
    return {
        "id": row["id"],
        "name": row["name"],
        "description": row["description"],
        "provider": "vendor",
        "permission": row["permission"],
        "data_source_type": row["data_source_type"],
        "indexing_technique": row["indexing_technique"],
        "app_count": 0,
        "document_count": counts["n"],
        "word_count": int(counts["words"]),
        "created_by": row["created_by"],
        "author_name": author["name"],
        "created_at": int(row["created_at"]),
        "updated_by": row["created_by"],
        "updated_at": int(row["updated_at"]),
        "embedding_model": model,
        "embedding_model_provider": provider,
        "embedding_available": available,
        "retrieval_model_dict": json.loads(row["retrieval_model"]),
        "summary_index_setting": None,
        "tags": [],
        "doc_form": "text_model" if counts["n"] else None,
        "external_knowledge_info": None,
        "external_retrieval_model": None,
        "doc_metadata": [],
        "built_in_field_enabled": False,
        "pipeline_id": None,
        "runtime_mode": "general",
        "chunk_structure": None,
        "icon_info": None,
        "is_published": False,
        "total_documents": counts["n"],
        "total_available_documents": int(counts["ready"] or 0),
        "enable_api": True,
        "is_multimodal": False,
    }


def list_datasets(api: Api, request: Request) -> Any:
    page, limit = int(request.query.get("page", "1")), int(request.query.get("limit", "20"))
    rows = api.db.query("SELECT * FROM datasets WHERE tenant_id = ? ORDER BY created_at DESC", request.values["tenant"])
    rows = [row for row in rows if request.query.get("keyword", "").lower() in row["name"].lower()]
    shown = rows[(page - 1) * limit : page * limit]
    return {"data": [_detail(api, row) for row in shown], "has_more": page * limit < len(rows), "limit": limit, "total": len(rows), "page": page}


def _insert(api: Api, request: Request, name: str, body: dict[str, Any]) -> Row:
    tenant = request.values["tenant"]
    if api.db.one("SELECT id FROM datasets WHERE tenant_id = ? AND name = ?", tenant, name):
        raise failure(409, "dataset_name_duplicate", "The dataset name already exists. Please modify your dataset name.")
    technique = body.get("indexing_technique")
    if technique not in (None, "high_quality", "economy"):
        raise invalid("Invalid indexing technique.")
    provider = model = None
    if technique == "high_quality":
        provider, model = api.knowledge.embedding_model(tenant, body.get("embedding_model"), body.get("embedding_model_provider"))
        provider = api.providers.name(provider)
        api.providers.usable(tenant, provider, model, "text-embedding")
    dataset, when = str(uuid.uuid4()), time.time()
    api.db.insert(
        "datasets",
        id=dataset,
        tenant_id=tenant,
        name=name,
        description=body.get("description") or "",
        permission=body.get("permission") or "only_me",
        data_source_type=None,
        indexing_technique=technique,
        embedding_model=model,
        embedding_model_provider=provider,
        retrieval_model=json.dumps({**RETRIEVAL, **(body.get("retrieval_model") or {})}),
        created_by=request.values["account"]["id"],
        created_at=when,
        updated_at=when,
    )
    return _get(api, request, dataset)


def create(api: Api, request: Request) -> Any:
    checks = Checks("DatasetCreatePayload", request.json)
    name = checks.string("name", most=40) or ""
    if not name:
        raise checks.fail("name", "String should have at least 1 character", "string_too_short", name)
    return _detail(api, _insert(api, request, name, request.json))


def read(api: Api, request: Request, dataset: str) -> Any:
    return _detail(api, _get(api, request, dataset))


def update(api: Api, request: Request, dataset: str) -> Any:
    row, body = _get(api, request, dataset), request.json
    unknown = set(body) - {"name", "description", "permission", "retrieval_model"}
    if unknown:
        return not_implemented("PATCH", f"{request.path} with {', '.join(sorted(unknown))}")
    retrieval = {**json.loads(row["retrieval_model"]), **(body.get("retrieval_model") or {})}
    api.db.execute(
        "UPDATE datasets SET name = ?, description = ?, permission = ?, retrieval_model = ?, updated_at = ? WHERE id = ?",
        body.get("name") or row["name"],
        body.get("description", row["description"]),
        body.get("permission") or row["permission"],
        json.dumps(retrieval),
        time.time(),
        dataset,
    )
    return read(api, request, dataset)


def delete(api: Api, request: Request, dataset: str) -> Response:
    _get(api, request, dataset)
    for row in api.db.query("SELECT id FROM documents WHERE dataset_id = ?", dataset):
        api.knowledge.delete_document(row["id"])
    api.db.execute("DELETE FROM datasets WHERE id = ?", dataset)
    return Response(204)


# -- documents --------------------------------------------------------------------------------------------------


def upload_file(api: Api, request: Request) -> Response:
    files = request.files()
    if "file" not in files:
        raise failure(400, "no_file_uploaded", "Please upload your file.")
    name, content, headers = files["file"]
    row = api.knowledge.keep_file(request.values["tenant"], request.values["account"]["id"], name, content, headers.get("Content-Type", "text/plain"))
    fields = ("id", "name", "size", "extension", "mime_type", "created_by")
    return reply({**{field: row[field] for field in fields}, "created_at": int(row["created_at"]), "preview_url": None, "source_url": ""}, 201)


def _files(api: Api, request: Request) -> list[Row]:
    info = ((request.json.get("data_source") or {}).get("info_list")) or {}
    idents = (info.get("file_info_list") or {}).get("file_ids") or []
    if info.get("data_source_type") != "upload_file" or not idents:
        raise invalid("Data source info is required")
    sql = "SELECT * FROM upload_files WHERE id = ? AND tenant_id = ?"
    rows = [api.db.one(sql, ident, request.values["tenant"]) for ident in idents]
    if None in rows:
        raise not_found("File not found")
    return [row for row in rows if row]


def _settle(api: Api, request: Request, row: Row) -> Row:
    """The first document of an empty knowledge base decides how it is indexed."""
    body = request.json
    if row["data_source_type"] is None:
        technique = body.get("indexing_technique") or row["indexing_technique"]
        if technique not in ("high_quality", "economy"):
            raise invalid("indexing_technique is required.")
        provider, model = row["embedding_model_provider"], row["embedding_model"]
        if technique == "high_quality" and not model:
            provider, model = api.knowledge.embedding_model(row["tenant_id"], body.get("embedding_model"), body.get("embedding_model_provider"))
        retrieval = json.dumps({**json.loads(row["retrieval_model"]), **(body.get("retrieval_model") or {})})
        api.db.execute(
            "UPDATE datasets SET data_source_type = 'upload_file', indexing_technique = ?, embedding_model = ?, embedding_model_provider = ?, "
            "retrieval_model = ? WHERE id = ?",
            technique,
            model,
            api.providers.name(provider) if provider else None,
            retrieval,
            row["id"],
        )
    return _get(api, request, row["id"])


def _add(api: Api, request: Request, row: Row, files: list[Row], source: str) -> tuple[list[dict[str, Any]], str]:
    rule = request.json.get("process_rule") or {"mode": "automatic", "rules": None}
    if rule.get("mode") not in ("automatic", "custom", "hierarchical"):
        raise invalid("Process rule mode is invalid")
    row = _settle(api, request, row)
    idents, batch = api.knowledge.add_documents(row, request.values["account"]["id"], files, rule, source)
    return [_document(api, api.db.query("SELECT * FROM documents WHERE id = ?", ident)[0]) for ident in idents], batch


def init(api: Api, request: Request) -> Any:
    files = _files(api, request)
    name = files[0]["name"][:37] + "..."
    if request.json.get("indexing_technique") not in ("high_quality", "economy"):
        raise invalid("Invalid indexing technique.")
    row = _insert(api, request, f"{name}{uuid.uuid4().hex[:4]}", request.json)
    documents, batch = _add(api, request, row, files, "web")
    return {"dataset": _detail(api, _get(api, request, row["id"])), "documents": documents, "batch": batch}


def add_documents(api: Api, request: Request, dataset: str) -> Any:
    row = _get(api, request, dataset)
    documents, batch = _add(api, request, row, _files(api, request), "web")
    return {"documents": documents, "batch": batch, "dataset": _detail(api, _get(api, request, dataset))}


def create_by_text(api: Api, request: Request, dataset: str) -> Any:
    checks = Checks("DocumentTextCreatePayload", request.json)
    name, text = checks.string("name") or "", checks.string("text") or ""
    row = _get(api, request, dataset)
    if not row["indexing_technique"] and not request.json.get("indexing_technique"):
        raise invalid("indexing_technique is required.")
    if request.json.get("doc_form", "text_model") != "text_model":
        return not_implemented("POST", f"{request.path} with doc_form {request.json['doc_form']}")
    file = api.knowledge.keep_file(row["tenant_id"], request.values["account"]["id"], name, text.encode(), "text/plain")
    documents, batch = _add(api, request, row, [file], "api")
    return {"document": documents[0], "batch": batch}


def _document(api: Api, row: Row) -> dict[str, Any]:
    shown = {"waiting": "queuing", "completed": "available", "error": "error"}
    hits = api.db.one("SELECT COALESCE(SUM(hit_count), 0) AS n FROM document_segments WHERE document_id = ?", row["id"]) or {"n": 0}
    return {
        "id": row["id"],
        "position": row["position"],
        "data_source_type": "upload_file",
        "data_source_info": {"upload_file_id": row["upload_file_id"]},
        "data_source_detail_dict": {"upload_file": {"id": row["upload_file_id"], "name": row["name"]}},
        "dataset_process_rule_id": None,
        "name": row["name"],
        "created_from": row["created_from"],
        "created_by": row["created_by"],
        "created_at": int(row["created_at"]),
        "tokens": row["tokens"],
        "indexing_status": row["indexing_status"],
        "error": row["error"],
        "enabled": True,
        "disabled_at": None,
        "disabled_by": None,
        "archived": False,
        "display_status": shown.get(row["indexing_status"], "indexing"),
        "word_count": row["word_count"] or 0,
        "hit_count": int(hits["n"]),
        "doc_form": "text_model",
        "doc_metadata": [],
        "summary_index_status": None,
        "need_summary": False,
    }


def list_documents(api: Api, request: Request, dataset: str) -> Any:
    _get(api, request, dataset)
    page, limit = int(request.query.get("page", "1")), int(request.query.get("limit", "20"))
    rows = api.db.query("SELECT * FROM documents WHERE dataset_id = ? ORDER BY id DESC", dataset)
    rows = [row for row in rows if request.query.get("keyword", "").lower() in row["name"].lower()]
    shown = [_document(api, row) for row in rows[(page - 1) * limit : page * limit]]
    return {"data": shown, "has_more": page * limit < len(rows), "limit": limit, "total": len(rows), "page": page}


def delete_document(api: Api, request: Request, dataset: str, document: str) -> Response:
    row = _get(api, request, dataset)
    if not api.db.one("SELECT id FROM documents WHERE id = ? AND dataset_id = ?", document, row["id"]):
        raise not_found("Document Not Exists.")
    api.knowledge.delete_document(document)
    return Response(204)


def indexing_status(api: Api, request: Request, dataset: str, batch: str = "") -> Any:
    _get(api, request, dataset)
    rows = api.db.query("SELECT * FROM documents WHERE dataset_id = ? ORDER BY id", dataset)
    rows = [row for row in rows if batch in ("", row["batch"])]
    if not rows and batch:
        raise not_found("Documents not found.")
    return {"data": [_status(api, row) for row in rows]}


def _status(api: Api, row: Row) -> dict[str, Any]:
    sql = "SELECT COUNT(*) AS n, SUM(CASE WHEN status = 'completed' THEN 1 ELSE 0 END) AS done FROM document_segments WHERE document_id = ?"
    counts = api.db.one(sql, row["id"]) or {"n": 0, "done": 0}
    times = ("processing_started_at", "parsing_completed_at", "cleaning_completed_at", "splitting_completed_at", "completed_at", "stopped_at")
    return {
        "id": row["id"],
        "indexing_status": row["indexing_status"],
        **{name: int(row[name]) if row[name] else None for name in times},
        "paused_at": None,
        "error": row["error"],
        "completed_segments": int(counts["done"] or 0),
        "total_segments": counts["n"],
    }


# -- retrieval and keys -----------------------------------------------------------------------------------------


def retrieve(api: Api, request: Request, dataset: str) -> Any:
    row = _get(api, request, dataset)
    query = Checks("HitTestingPayload", request.json).string("query", most=250) or ""
    model = request.json.get("retrieval_model") or json.loads(row["retrieval_model"])
    records = []
    for segment, score in api.knowledge.retrieve(row, query, model):
        fields = ("id", "position", "document_id", "content", "word_count", "tokens", "index_node_hash", "hit_count", "status", "created_by")
        unset = dict.fromkeys(("answer", "index_node_id", "disabled_at", "disabled_by", "indexing_at", "error", "stopped_at"))
        document = {"id": segment["document_id"], "data_source_type": "upload_file", "name": segment["document_name"], "doc_type": None, "doc_metadata": None}
        found = {field: segment[field] for field in fields} | unset | {"keywords": [], "enabled": True, "document": document}
        found |= {"sign_content": segment["content"], "created_at": int(segment["created_at"]), "completed_at": int(segment["completed_at"])}
        records.append({"segment": found, "child_chunks": [], "score": score, "tsne_position": None, "files": [], "summary": None})
    return {"query": {"content": query}, "records": records}


def list_keys(api: Api, request: Request) -> Any:
    rows = api.db.query("SELECT * FROM api_tokens WHERE type = 'dataset' AND tenant_id = ? ORDER BY created_at", request.values["tenant"])
    return {"data": [key_item(row) for row in rows]}


def create_key(api: Api, request: Request) -> Any:
    if len(list_keys(api, request)["data"]) >= 10:
        raise invalid("Cannot create more than 10 API keys for this resource type.")
    return new_key(api, request.values["tenant"], "dataset", None)


def delete_key(api: Api, request: Request, key: str) -> Response:
    sql = "DELETE FROM api_tokens WHERE type = 'dataset' AND tenant_id = ? AND id = ?"
    if not api.db.execute(sql, request.values["tenant"], key):
        raise not_found("API key not found")
    return Response(204)
