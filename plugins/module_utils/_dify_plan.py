# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Which calls bring Dify's registered models to the wanted list: pure, no I/O.

Facts behind the rules (run against Dify 1.9.2 and 1.16.1): a create is not idempotent, so credentials carry one fixed
name; a secret is read back masked, so it is compared by its mask and by a fingerprint kept on the host; an instance
upgraded from 0.15 shows its server URL as ciphertext while the model says ``active``.
"""

from __future__ import annotations

import hashlib
import hmac
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._difference import Difference

HIDDEN_VALUE = "[__HIDDEN__]"  # sent instead of a secret that shall stay as it is
CREDENTIAL_NAME = "ansible"
MODEL_TYPES = ("llm", "text-embedding", "rerank", "speech2text", "tts", "moderation")
SECRET_FIELDS = ("api_key",)

# Fields Dify's Xinference provider requires; its own defaults are shown in the UI but not filled in by the API.
XINFERENCE_DEFAULTS = {"invoke_timeout": "60", "max_retries": "3"}
# Computed by the provider when it validates; never ours to compare.
DERIVED_FIELDS = frozenset(["completion_type", "support_function_call", "support_vision", "context_length", "max_tokens", "audio_model_name"])


class WantedModel(t.NamedTuple):
    """One model as Dify shall know it. ``credentials``: every value a string, secrets in clear."""

    model: str
    model_type: str
    credentials: dict[str, str]

    @property
    def key(self) -> tuple[str, str]:
        return self.model, self.model_type

    @property
    def label(self) -> str:
        return f"{self.model_type}/{self.model}"


class FoundModel(t.NamedTuple):
    """What Dify says about one (model, type). ``credentials`` is empty when nothing is attached."""

    credentials: dict[str, str]
    credential_id: str | None
    credential_name: str | None
    available: list[dict[str, str]]  # credential_id, credential_name
    listed: bool
    disabled: bool

    @classmethod
    def read(cls, answer: dict[str, t.Any], entry: dict[str, t.Any] | None) -> FoundModel:
        """From GET .../models/credentials and this model's entry of GET .../models (or ``None``)."""
        return cls(
            credentials=dict(answer.get("credentials") or {}),
            credential_id=answer.get("current_credential_id"),
            credential_name=answer.get("current_credential_name"),
            available=list(answer.get("available_credentials") or []),
            listed=entry is not None,
            disabled=(entry or {}).get("status") == "disabled",
        )

    def named(self, name: str) -> str | None:
        """Id of the available credential of that name."""
        for item in self.available:
            if item.get("credential_name") == name:
                return item.get("credential_id")
        return None


class Action(t.NamedTuple):
    """One model's fate: ``kind`` is none, create, update, attach, enable, delete (update and attach may enable too)."""

    kind: str
    model: str
    model_type: str
    reasons: list[str]
    credentials: dict[str, str] = {}
    credential_id: str | None = None
    name: str | None = None
    switch: bool = False
    enable: bool = False
    difference: Difference | None = None

    @property
    def changes(self) -> bool:
        return self.kind != "none"


def mask(value: str) -> str:
    """A secret as Dify (0.14 and later) shows it: 20 stars up to 8 characters, else the first 6, 12 stars, the last 2."""
    return "*" * 20 if len(value) <= 8 else value[:6] + "*" * 12 + value[-2:]


def fingerprint(salt: str, label: str, value: str) -> str:
    """What the host remembers of a secret it registered: enough to notice another one, useless to recover it."""
    return hmac.new(salt.encode(), f"{label}\0{value}".encode(), hashlib.sha256).hexdigest()


def check_wanted(models: t.Sequence[WantedModel]) -> dict[tuple[str, str], str]:
    """Reasons why an entry cannot be registered at all, by (model, type)."""
    problems: dict[tuple[str, str], str] = {}
    seen = set()
    for item in models:
        uid = item.credentials.get("model_uid")
        if item.key in seen:
            problems[item.key] = "it is listed twice; Dify knows one model by its name and type"
        elif not item.model:
            problems[item.key] = "its name is missing"
        elif uid is not None and any(character in uid for character in "/?#"):
            problems[item.key] = f"model_uid {uid!r} contains one of / ? #, which Dify's Xinference provider refuses; launch the model under another uid"
        seen.add(item.key)
    return problems


def plan_model(
    wanted: WantedModel,
    found: FoundModel,
    remembered: str | None = None,
    salt: str = "",
    name: str = CREDENTIAL_NAME,
    secret_fields: t.Collection[str] = SECRET_FIELDS,
) -> Action:
    """What to do about one wanted model. ``remembered``: fingerprint of the secrets last registered from this host."""
    if found.credential_id is None:
        spare = found.named(name)
        if spare:
            # Detached in the UI, or an interrupted run: the credential is ours, put it right and attach it.
            reason = "its credential exists, but is not attached"
            return Action(
                "attach", *wanted.key, [reason], wanted.credentials, spare, name, switch=True, enable=found.disabled, difference=_created(wanted, secret_fields)
            )
        return Action(
            "create", *wanted.key, ["not registered"], wanted.credentials, None, name, enable=found.disabled, difference=_created(wanted, secret_fields)
        )

    difference = Difference()
    send = dict(wanted.credentials)
    for field, value in wanted.credentials.items():
        stored = found.credentials.get(field)
        if field not in secret_fields:
            difference.add(field, value, stored)
            continue
        same = stored is not None and stored == mask(value)
        if same and remembered is not None:
            same = remembered == fingerprint(salt, wanted.label, value)
        elif same and len(value) <= 8:
            same = False  # the mask of a short secret says nothing, and nobody remembers it: write it once
        if same:
            send[field] = HIDDEN_VALUE
        else:
            # Both sides look alike when only the middle of a key differs; the difference must not vanish for that.
            difference.add(field, f"{value}\0", stored, secret=True)
    for field in sorted(set(found.credentials) - set(wanted.credentials) - DERIVED_FIELDS):
        if found.credentials[field] not in (None, ""):
            difference.add(field, None, found.credentials[field], secret=field in secret_fields)
    reasons = [f"{field} differs" for field in difference.names]
    kind = "update" if difference.changed else "none"
    if found.disabled:
        difference.add("enabled", True, False)
        reasons.append("it is disabled")
        kind = "enable" if kind == "none" else kind
    return Action(kind, *wanted.key, reasons, send, found.credential_id, found.credential_name or name, enable=found.disabled, difference=difference)


def _created(wanted: WantedModel, secret_fields: t.Collection[str]) -> Difference:
    difference = Difference()
    for field, value in wanted.credentials.items():
        difference.add(field, value, None, secret=field in secret_fields)
    return difference


def plan_prune(listed: t.Iterable[tuple[tuple[str, str], FoundModel]], wanted: t.Iterable[WantedModel], name: str = CREDENTIAL_NAME) -> list[Action]:
    """Deletions of models that nobody wants any more and that carry our credential name; others' models are left alone."""
    keep = {item.key for item in wanted}
    actions = []
    for key, found in listed:
        if key not in keep and found.named(name):
            difference = Difference()
            difference.add("registered", False, True)
            actions.append(Action("delete", *key, ["no longer wanted"], difference=difference))
    return actions


def plan_defaults(wanted: dict[str, str], found: dict[str, dict[str, str] | None], provider: str) -> list[str]:
    """Model types whose default must be set. ``wanted``: type -> model name, ``found``: type -> provider and model."""
    return [model_type for model_type, model in wanted.items() if model and (found.get(model_type) or {}) != {"provider": provider, "model": model}]


__all__ = [
    "CREDENTIAL_NAME",
    "DERIVED_FIELDS",
    "HIDDEN_VALUE",
    "MODEL_TYPES",
    "XINFERENCE_DEFAULTS",
    "Action",
    "FoundModel",
    "WantedModel",
    "check_wanted",
    "fingerprint",
    "mask",
    "plan_defaults",
    "plan_model",
    "plan_prune",
]
