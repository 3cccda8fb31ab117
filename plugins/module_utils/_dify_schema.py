# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""What a model provider asks for, read from Dify's own provider list: pure, no I/O.

So any provider whose models are registered one by one can be driven, and a field that its form does not have (an API key
on Dify 0.6) is told before anything is sent: Dify itself drops it silently.
"""

from __future__ import annotations

import typing as t

MODEL_TYPES = ("llm", "text-embedding", "rerank", "speech2text", "tts", "moderation")


class Field(t.NamedTuple):
    """One field of the form.

    ``types``: model types it belongs to, empty for all. ``shown_with``: (field, value) of others beside which alone it is there.
    """

    name: str
    secret: bool
    required: bool
    default: str | None
    types: tuple[str, ...] = ()
    shown_with: tuple[tuple[str, str], ...] = ()


class ProviderSchema(t.NamedTuple):
    """A provider's entry of GET /model-providers."""

    provider: str
    types: tuple[str, ...]
    customizable: bool
    fields: tuple[Field, ...]
    # (model, type) -> names of its credentials, also of models that are attached to none (>= 1.8)
    credential_names: dict[tuple[str, str], tuple[str, ...]]

    @classmethod
    def read(cls, entry: dict[str, t.Any]) -> ProviderSchema:
        form = (entry.get("model_credential_schema") or {}).get("credential_form_schemas") or []
        custom = entry.get("custom_configuration") or {}
        names: dict[tuple[str, str], tuple[str, ...]] = {}
        for item in custom.get("custom_models") or []:
            given = tuple(str(one.get("credential_name")) for one in item.get("available_model_credentials") or [])
            names[(str(item.get("model")), str(item.get("model_type")))] = given
        return cls(
            provider=str(entry.get("provider")),
            types=tuple(entry.get("supported_model_types") or ()),
            customizable="customizable-model" in (entry.get("configurate_methods") or ()),
            fields=tuple(_field(item) for item in form),
            credential_names=names,
        )

    def of(self, model_type: str) -> list[Field]:
        return [field for field in self.fields if not field.types or model_type in field.types]

    @property
    def secrets(self) -> frozenset[str]:
        return frozenset(field.name for field in self.fields if field.secret)


def _field(item: dict[str, t.Any]) -> Field:
    conditions = [(str(one.get("variable")), str(one.get("value"))) for one in item.get("show_on") or []]
    default = item.get("default")
    return Field(
        name=str(item.get("variable")),
        secret=item.get("type") == "secret-input",
        required=bool(item.get("required")),
        default=None if default in (None, "") else as_text(default),
        types=tuple(value for name, value in conditions if name == "__model_type"),
        shown_with=tuple(one for one in conditions if one[0] != "__model_type"),
    )


def as_text(value: t.Any) -> str:
    """Dify takes text only: a number is a 400, or a 500 on 1.16."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def fit(credentials: dict[str, str], model_type: str, schema: ProviderSchema) -> tuple[dict[str, str], str | None]:
    """The credentials as this provider stores them, and why they cannot be registered, or ``None``.

    Defaults are filled in. Dify does that itself for fields that are not required, and stores them; for required ones it only
    shows them to people. Sent along, both are compared like everything else.
    """
    if not schema.customizable:
        return credentials, f"provider {schema.provider} takes one set of credentials for all its models, not one per model; set it in Dify itself"
    if schema.types and model_type not in schema.types:
        return credentials, f"provider {schema.provider} has no {model_type} models here; it has {', '.join(schema.types)}"
    if not schema.fields:
        return credentials, None
    fields = {field.name: field for field in schema.of(model_type)}
    unknown = sorted(set(credentials) - set(fields))
    # Settings that an older form lacks are dropped. A key is not: the model would be called without it.
    lost = [name for name in unknown if name not in OPTIONAL]
    if lost:
        return credentials, (
            f"provider {schema.provider} of this Dify has no field {', '.join(lost)}; it has {', '.join(sorted(fields))}"
            + (". Its Xinference provider cannot use a server that asks for a key: upgrade Dify" if lost == ["api_key"] else "")
        )
    fitted = {name: value for name, value in credentials.items() if name in fields}
    missing = [field for name, field in fields.items() if name not in fitted and (field.required or field.default is not None)]
    while missing:
        # A default may be what another field is shown with.
        shown = [field for field in missing if all(fitted.get(name) == value for name, value in field.shown_with)]
        for field in shown:
            if field.default is None:
                return credentials, f"provider {schema.provider} requires the field {field.name} for {model_type} models"
            fitted[field.name] = field.default
        missing = [field for field in missing if field.name not in fitted] if shown else []
    return fitted, None


# Fields that this collection adds by itself.
OPTIONAL = frozenset(["invoke_timeout", "max_retries"])


__all__ = ["MODEL_TYPES", "OPTIONAL", "Field", "ProviderSchema", "as_text", "fit"]
