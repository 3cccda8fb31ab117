# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service API of an app: chat, blocking or streamed, and the read-only model list of a dataset key."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any

from .checks import MODEL_TYPES, Checks
from .errors import failure, invalid, not_found
from .http import Request, Response, reply
from .routes_apps import get_app, get_config
from .routes_models import models_by_type

if TYPE_CHECKING:
    from .api import Api


def register(api: Api) -> None:
    if "service" not in api.generation.groups:
        return
    api.route("POST", "/v1/chat-messages", chat, "app")
    api.route("GET", "/v1/info", info, "app")
    api.route("GET", "/v1/workspaces/current/models/model-types/<model_type>", models, "dataset")


def models(api: Api, request: Request, model_type: str) -> Any:
    if model_type not in MODEL_TYPES:
        raise invalid(f"'{model_type}' is not a valid ModelType")
    return {"data": models_by_type(api, request.values["tenant"], model_type)}


def info(api: Api, request: Request) -> Any:
    row = get_app(api, request.values["tenant"], request.values["app_id"])
    return {"name": row["name"], "description": row["description"], "tags": [], "mode": row["mode"], "author_name": request.values["account"]["name"]}


def _conversation(api: Api, app: str, ident: str, user: str) -> tuple[str, list[dict[str, str]]]:
    if not ident:
        created = str(uuid.uuid4())
        api.db.insert("conversations", id=created, app_id=app, from_user=user, history="[]", created_at=time.time())
        return created, []
    row = api.db.one("SELECT * FROM conversations WHERE id = ? AND app_id = ? AND from_user = ?", ident, app, user)
    if row is None:
        raise not_found("Conversation Not Exists.")
    return ident, json.loads(row["history"])


def _usage(found: dict[str, Any]) -> dict[str, Any]:
    usage = found["usage"]
    price = {"unit_price": "0", "price_unit": "0", "price": "0"}
    prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    return {
        "prompt_tokens": prompt,
        **{f"prompt_{name}": value for name, value in price.items()},
        "completion_tokens": completion,
        **{f"completion_{name}": value for name, value in price.items()},
        "total_tokens": usage.get("total_tokens", prompt + completion),
        "total_price": "0",
        "currency": "USD",
        "latency": found["latency"],
    }


def chat(api: Api, request: Request) -> Response:
    row = get_app(api, request.values["tenant"], request.values["app_id"])
    if not row["enable_api"]:
        raise failure(403, "forbidden", "The app's API service has been disabled.")
    body = request.json
    user = body.get("user")
    if not user:
        raise invalid("Arg user must be provided.")
    checks = Checks("ChatRequestPayload", body)
    query = checks.string("query") or ""
    checks.mapping("inputs")
    conversation, history = _conversation(api, row["id"], body.get("conversation_id") or "", str(user))
    config = get_config(api, row)
    found = api.knowledge.answer(row["tenant_id"], config, query, history)
    history += [{"role": "user", "content": query}, {"role": "assistant", "content": found["answer"]}]
    api.db.execute("UPDATE conversations SET history = ? WHERE id = ?", json.dumps(history), conversation)
    metadata: dict[str, Any] = {"annotation_reply": None, "retriever_resources": [], "usage": _usage(found)}
    if (config.get("retriever_resource") or {}).get("enabled", True):
        metadata["retriever_resources"] = found["resources"]
    message = str(uuid.uuid4())
    common = {"task_id": str(uuid.uuid4()), "id": message, "message_id": message, "conversation_id": conversation}
    when = int(time.time())
    if body.get("response_mode") == "blocking":
        return reply({"event": "message", **common, "mode": "chat", "answer": found["answer"], "metadata": metadata, "created_at": when})
    # The real one streams piece by piece; here the answer is one piece.
    events = [
        {"event": "message", **common, "created_at": when, "answer": found["answer"], "from_variable_selector": None},
        {"event": "message_end", **common, "created_at": when, "metadata": metadata, "files": None},
    ]
    text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    return Response(200, text.encode(), "text/event-stream; charset=utf-8")
