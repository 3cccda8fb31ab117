# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Which calls bring Dify's registered models to the wanted list: pure, no I/O.

Facts behind the rules (run against Dify 1.9.2 and 1.16.1): a create is not idempotent, so credentials carry one fixed
name; a secret is read back masked, so it is compared by its mask and by a fingerprint kept on the host; an instance
upgraded from 0.15 shows its server URL as ciphertext while the model says ``active``. Before 1.8 there are no credential
records, and one call creates and updates.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._difference import Difference
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_schema import MODEL_TYPES, as_text

HIDDEN_VALUE = "[__HIDDEN__]"  # sent instead of a secret that shall stay as it is
CREDENTIAL_NAME = "ansible"
SECRET_FIELDS = frozenset(["api_key"])

# Fields Dify's Xinference provider requires; its own defaults are shown in the UI but not filled in by the API.
XINFERENCE_DEFAULTS = {"invoke_timeout": "60", "max_retries": "3"}
# Computed by the provider when it validates; never ours to compare.
DERIVED_FIELDS = frozenset(["completion_type", "support_function_call", "support_vision", "context_length", "max_tokens", "audio_model_name"])

_MASKED = re.compile(r"^(\*{20}|.{6}\*+.{2})$", re.DOTALL)
# Base64 of "HYBRID:", how Dify's ciphertext begins.
_CIPHERTEXT = "SFlCUklEO"


class WantedModel(t.NamedTuple):
    """One model as Dify shall know it. ``credentials``: every value a string, secrets in clear.

    ``abilities``: what the model server says the model can do, as far as known. Dify derives flags (tool calls, vision)
    from them when it registers a model, and never again.
    """

    model: str
    model_type: str
    credentials: dict[str, str]
    abilities: tuple[str, ...] = ()
    absent: bool = False

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
    records: bool = True  # whether this Dify keeps credential records (>= 1.8)

    @classmethod
    def read(cls, answer: dict[str, t.Any], entry: dict[str, t.Any] | None, records: bool = True) -> FoundModel:
        """From GET .../models/credentials and this model's entry of GET .../models (or ``None``)."""
        return cls(
            credentials=dict(answer.get("credentials") or {}),
            credential_id=answer.get("current_credential_id"),
            credential_name=answer.get("current_credential_name"),
            available=list(answer.get("available_credentials") or []),
            listed=entry is not None,
            disabled=(entry or {}).get("status") == "disabled",
            records=records,
        )

    @property
    def attached(self) -> bool:
        return self.credential_id is not None if self.records else bool(self.credentials)

    @property
    def anything(self) -> bool:
        return self.listed or self.attached or bool(self.available)

    def named(self, name: str) -> str | None:
        """Id of the available credential of that name; of several the same one for every controller that looks."""
        return min((str(item.get("credential_id")) for item in self.available if item.get("credential_name") == name), default=None)

    def doubles(self, name: str) -> list[str]:
        """Ids of further credentials of that name: two controllers at once can make two (Dify checks, then writes)."""
        ids = sorted(str(item.get("credential_id")) for item in self.available if item.get("credential_name") == name)
        keep = self.credential_id if self.credential_id in ids else self.named(name)
        return [item for item in ids if item != keep]


class Known(t.NamedTuple):
    """What is known beside the model itself.

    ``remembered``: field -> fingerprint of the secret last registered from this host; ``abilities``: those it was
    registered with, sorted and joined by commas; ``secrets``: names of secret fields; ``form``: fields of the provider's
    form, where it was read: what Dify stores beside them it computed itself.
    """

    salt: str = ""
    remembered: dict[str, str] = {}
    abilities: str | None = None
    secrets: frozenset[str] = SECRET_FIELDS
    form: frozenset[str] | None = None


NOTHING_KNOWN = Known()


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
    masked: tuple[str, ...] = ()  # fields that Dify showed masked, as the wanted values would be
    remove: tuple[str, ...] = ()  # credentials of our name that are one too many
    broken: bool = False  # what is stored cannot be relied on: an upgrade left ciphertext in it

    @property
    def changes(self) -> bool:
        return self.kind != "none"


def mask(value: str) -> str:
    """A secret as Dify (0.14 and later) shows it: 20 stars up to 8 characters, else the first 6, 12 stars, the last 2."""
    return "*" * 20 if len(value) <= 8 else value[:6] + "*" * 12 + value[-2:]


def masks(value: str) -> tuple[str, ...]:
    """Every way a Dify shows a secret: 0.6 writes a star for each hidden character."""
    return (mask(value),) if len(value) <= 8 else (mask(value), value[:6] + "*" * (len(value) - 8) + value[-2:])


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


def plan_model(wanted: WantedModel, found: FoundModel, known: Known = NOTHING_KNOWN, name: str = CREDENTIAL_NAME) -> Action:
    """What to do about one wanted model."""
    if wanted.absent:
        return _plan_absent(wanted, found)
    if not found.attached:
        spare = found.named(name)
        if spare:
            # Detached in the UI, or an interrupted run: the credential is ours, put it right and attach it.
            reason = ["its credential exists, but is not attached"]
            created = _created(wanted, known.secrets)
            remove = tuple(found.doubles(name))
            return Action("attach", *wanted.key, reason, wanted.credentials, spare, name, switch=True, enable=found.disabled, difference=created, remove=remove)
        return Action(
            "create", *wanted.key, ["not registered"], wanted.credentials, None, name, enable=found.disabled, difference=_created(wanted, known.secrets)
        )

    difference = Difference()
    send = dict(wanted.credentials)
    masked = []
    reasons = []
    broken = False
    for field, value in wanted.credentials.items():
        stored = found.credentials.get(field)
        if stored is not None and as_text(stored) == value:
            continue  # a switch comes back as a boolean
        hidden = stored is not None and stored in masks(value)
        if hidden:
            masked.append(field)
            remembered = known.remembered.get(field)
            # The mask of a short secret says nothing; when nobody remembers it, it is written once.
            same = len(value) > 8 if remembered is None else remembered == fingerprint(known.salt, f"{wanted.label}#{field}", value)
            if same:
                send[field] = HIDDEN_VALUE
                continue
        if str(stored).startswith(_CIPHERTEXT):
            broken = True
            reasons.append(f"{field} is ciphertext, which an upgrade left (Dify 0.15, or plugin 0.0.4)")
            difference.add(field, value, "(ciphertext)")
        else:
            reasons.append(f"{field} differs")
            secret = hidden or field in known.secrets or bool(stored and _MASKED.match(str(stored)))
            # Both sides look alike when only the middle of a key differs; the difference must not vanish for that.
            difference.add(field, f"{value}\0" if secret else value, stored, secret=secret)
    for field in sorted(set(found.credentials) - set(wanted.credentials)):
        ours = field not in DERIVED_FIELDS if known.form is None else field in known.form
        if ours and found.credentials[field] not in (None, ""):
            reasons.append(f"{field} differs")
            difference.add(field, None, found.credentials[field], secret=field in known.secrets)
    if wanted.abilities and known.abilities is not None and known.abilities != ",".join(sorted(wanted.abilities)):
        # Dify computed its flags from the old ones; registering again makes it look anew.
        reasons.append("the model's abilities changed since it was registered")
        difference.add("abilities", sorted(wanted.abilities), known.abilities.split(","))
    remove = tuple(found.doubles(name))
    if remove:
        reasons.append(f"{len(remove) + 1} credentials are called {name}")
        difference.add("credentials", 1, len(remove) + 1)
    kind = "update" if difference.changed else "none"
    if found.disabled:
        difference.add("enabled", True, False)
        reasons.append("it is disabled")
        kind = "enable" if kind == "none" else kind
    # By its own name: a credential that somebody made by hand keeps the name they know it by.
    called = found.credential_name or name
    return Action(
        kind,
        *wanted.key,
        reasons,
        dict(wanted.credentials) if broken else send,
        found.credential_id,
        called,
        enable=found.disabled,
        difference=difference,
        masked=tuple(masked),
        remove=remove,
        broken=broken,
    )


def _plan_absent(wanted: WantedModel, found: FoundModel) -> Action:
    difference = Difference()
    difference.add("registered", False, found.anything)
    return Action("delete" if found.anything else "none", *wanted.key, ["shall be absent"] if found.anything else [], difference=difference)


def _created(wanted: WantedModel, secret_fields: t.Collection[str]) -> Difference:
    difference = Difference()
    for field, value in wanted.credentials.items():
        difference.add(field, value, None, secret=field in secret_fields)
    return difference


def plan_prune(ours: t.Iterable[tuple[str, str]], wanted: t.Iterable[WantedModel]) -> list[Action]:
    """Deletions of models of ours that nobody wants any more."""
    keep = {item.key for item in wanted}
    actions = []
    for key in sorted(set(ours) - keep):
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
    "SECRET_FIELDS",
    "XINFERENCE_DEFAULTS",
    "Action",
    "FoundModel",
    "Known",
    "WantedModel",
    "check_wanted",
    "fingerprint",
    "mask",
    "masks",
    "plan_defaults",
    "plan_model",
    "plan_prune",
]
