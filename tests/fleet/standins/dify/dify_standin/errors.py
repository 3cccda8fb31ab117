# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The error answers of Dify's API, as recorded: one shape for most of it, another for /setup and /init."""

from __future__ import annotations

import re
from typing import Any

from .http import HttpError, Response, html, reply
from .security import is_uuid

FORBIDDEN = "You don't have the permission to access the requested resource. It is either read-protected or not readable by the server."
NOT_SETUP = "Dify has not been initialized and installed yet. Please proceed with the initialization and installation process first."
NOT_INIT = "Init validation has not been completed yet. Please proceed with the init validation process first."
NOT_FOUND_PAGE = (
    "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n"
    "<p>The requested URL was not found on the server. If you entered the URL manually please check your spelling and try again.</p>\n"
)
MODEL_TYPES = ("llm", "text-embedding", "rerank", "speech2text", "moderation", "tts")
# Older words for the same types, still taken by 1.16.1 (recorded for "embeddings").
MODEL_TYPE_ALIASES = {"text-generation": "llm", "embeddings": "text-embedding", "reranking": "rerank"}


def failure(status: int, code: str, message: str) -> HttpError:
    return HttpError(reply({"code": code, "message": message, "status": status}, status))


def invalid(message: str) -> HttpError:
    """What the API makes of a ValueError: most provider, plugin and parameter errors."""
    return failure(400, "invalid_param", message)


def unauthorized(message: str) -> HttpError:
    return failure(401, "unauthorized", message)


def not_found(message: str) -> HttpError:
    return failure(404, "not_found", message)


def plugin_error(message: str) -> HttpError:
    return HttpError(reply({"code": "plugin_error", "message": message}, 400))


def internal() -> HttpError:
    return HttpError(reply({"message": "Internal Server Error", "code": "unknown", "status": 500}, 500))


def setup_error(status: int, kind: str, message: str, details: str = "") -> HttpError:
    """The shape of /setup and /init."""
    error: dict[str, Any] = {"type": kind, "message": message, "status": status}
    if details:
        error["details"] = details
    return HttpError(reply({"error": error}, status))


def setup_validation() -> HttpError:
    text = "Validation error for parameter 'payload'"
    return setup_error(422, "validation_error", text, text)


def missing_page() -> Response:
    return html(NOT_FOUND_PAGE, 404)


def not_implemented(method: str, path: str) -> Response:
    """Our own answer: the stand-in does not copy this call."""
    text = f"The Dify stand-in of the test fleet does not implement {method} {path}."
    return reply({"code": "stand_in_not_implemented", "message": text, "status": 501}, 501)


def _pydantic(model: str, field: str, text: str, kind: str, value: Any) -> HttpError:
    shown = repr(value)
    if len(shown) > 50:
        shown = f"{shown[:25]}...{shown[-24:]}"
    return invalid(
        f"1 validation error for {model}\n{field}\n  {text} [type={kind}, input_value={shown}, "
        f"input_type={type(value).__name__}]\n    For further information visit https://errors.pydantic.dev/2.12/v/{kind}"
    )


class Checks:
    """Checks of one request body, failing with the text that the API's own validation gives."""

    def __init__(self, model: str, body: dict[str, Any]) -> None:
        self.model = model
        self.body = body

    def fail(self, field: str, text: str, kind: str, value: Any) -> HttpError:
        return _pydantic(self.model, field, text, kind, value)

    def required(self, field: str) -> Any:
        if field not in self.body:
            raise self.fail(field, "Field required", "missing", self.body)
        return self.body[field]

    def string(self, field: str, required: bool = True, most: int = 0) -> str | None:
        value = self.required(field) if required else self.body.get(field)
        if value is None and not required:
            return None
        if not isinstance(value, str):
            raise self.fail(field, "Input should be a valid string", "string_type", value)
        if most and len(value) > most:
            raise self.fail(field, f"String should have at most {most} characters", "string_too_long", value)
        return value

    def uuid(self, field: str, required: bool = True) -> str | None:
        value = self.string(field, required)
        if value is not None and not is_uuid(value):
            raise self.fail(field, f"Value error, {value} is not a valid uuid.", "value_error", value)
        return value

    def mapping(self, field: str) -> dict[str, Any]:
        value = self.required(field)
        if not isinstance(value, dict):
            raise self.fail(field, "Input should be a valid dictionary", "dict_type", value)
        return value

    def email(self, field: str) -> str:
        value = self.string(field) or ""
        if not re.fullmatch(r"[\w.!#$%&'*+\-/=?^`{|}~]+@[\w-]+(\.[\w-]+)+", value):
            raise self.fail(field, f"Value error, {value} is not a valid email.", "value_error", value)
        return value

    def model_type(self, field: str = "model_type") -> str:
        value = self.required(field)
        value = MODEL_TYPE_ALIASES.get(value, value) if isinstance(value, str) else value
        if value not in MODEL_TYPES:
            names = "'llm', 'text-embedding', 'rerank', 'speech2text', 'moderation' or 'tts'"
            raise self.fail(field, f"Input should be {names}", "enum", value)
        return value
