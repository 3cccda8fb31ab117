# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a bad request body is refused: by pydantic (1.16.1), by flask-restx (1.9.2), by flask-restful (older)."""

from __future__ import annotations

import re
from typing import Any

from .errors import invalid
from .http import HttpError, reply
from .security import is_uuid, valid_password

MODEL_TYPES = ("llm", "text-embedding", "rerank", "speech2text", "moderation", "tts")
# Older words for the same types, still taken by 1.16.1 (recorded for "embeddings").
MODEL_TYPE_ALIASES = {"text-generation": "llm", "embeddings": "text-embedding", "reranking": "rerank"}


def _pydantic(model: str, field: str, text: str, kind: str, value: Any) -> HttpError:
    shown = repr(value)
    if len(shown) > 50:
        shown = f"{shown[:25]}...{shown[-24:]}"
    return invalid(
        f"1 validation error for {model}\n{field}\n  {text} [type={kind}, input_value={shown}, "
        f"input_type={type(value).__name__}]\n    For further information visit https://errors.pydantic.dev/2.12/v/{kind}"
    )


class Checks:
    """Checks of one request body, failing with the text that pydantic gives (1.16.1)."""

    aliases = MODEL_TYPE_ALIASES

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

    def password(self, field: str, text: str) -> str:
        value = self.string(field) or ""
        if not valid_password(value):
            raise self.fail(field, text, "value_error", value)
        return value

    def email(self, field: str) -> str:
        value = self.string(field) or ""
        if not re.fullmatch(r"[\w.!#$%&'*+\-/=?^`{|}~]+@[\w-]+(\.[\w-]+)+", value):
            raise self.fail(field, f"Value error, {value} is not a valid email.", "value_error", value)
        return value

    def model_type(self, field: str = "model_type") -> str:
        value = self.required(field)
        value = self.aliases.get(value, value) if isinstance(value, str) else value
        if value not in MODEL_TYPES:
            names = "'llm', 'text-embedding', 'rerank', 'speech2text', 'moderation' or 'tts'"
            raise self.fail(field, f"Input should be {names}", "enum", value)
        return value


class _Reqparse(Checks):
    """The parsers of Flask's REST libraries: they know texts of their own for what is missing and for choices."""

    aliases: dict[str, str] = {}
    _TEXTS = {"missing": "Missing required parameter in the JSON body"}

    def fail(self, field: str, text: str, kind: str, value: Any) -> HttpError:
        if kind == "enum":
            text = self.choice(field, value)
        return self.refused(field, self._TEXTS.get(kind, text.removeprefix("Value error, ")))

    def choice(self, field: str, value: Any) -> str:
        raise NotImplementedError

    def refused(self, field: str, text: str) -> HttpError:
        raise NotImplementedError


class RestfulChecks(_Reqparse):
    def choice(self, field: str, value: Any) -> str:
        return f"{value} is not a valid choice"

    def refused(self, field: str, text: str) -> HttpError:
        return HttpError(reply({"code": "invalid_param", "message": text, "params": field}, 400))


class RestxChecks(_Reqparse):
    def choice(self, field: str, value: Any) -> str:
        return f"The value '{value}' is not a valid choice for '{field}'."

    def refused(self, field: str, text: str) -> HttpError:
        return HttpError(reply({"errors": {field: text}, "message": "Input payload validation failed"}, 400))


CHECKS: dict[str, type[Checks]] = {"pydantic": Checks, "flask-restx": RestxChecks, "flask-restful": RestfulChecks}
