# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Model providers of a workspace: their declarations, registered models, stored credentials, defaults."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from . import security
from .config import Settings
from .errors import Internal, invalid
from .generations import generation
from .sources import CACHE_SECONDS, Source
from .storage import Cache, Database, Row

_KEY = "tenant_id = ? AND provider_name = ? AND model_name = ? AND model_type = ?"


# What an upgrade from before 1.0 leaves: model types in the words of old. Look-ups by today's word miss such rows, lists show them.
LEGACY_TYPES = {"llm": "text-generation", "text-embedding": "embeddings", "rerank": "reranking", "speech2text": "legacy-speech2text", "tts": "legacy-tts"}
_TODAY = {old: new for new, old in LEGACY_TYPES.items()}


class Providers:
    def __init__(self, settings: Settings, database: Database, cache: Cache, source: Source) -> None:
        self.settings = settings
        self.generation = generation(settings.version)
        self.db = database
        self.cache = cache
        self.source = source

    # -- declarations -------------------------------------------------------------------------------------------

    def declarations(self, tenant: str) -> dict[str, dict[str, Any]]:
        """Provider name -> declaration."""
        return self.source.declarations(tenant)

    def forget(self, tenant: str) -> None:
        self.source.forget(tenant)

    def name(self, provider: str) -> str:
        """The provider's name in rows and answers."""
        return self.source.name(provider)

    def declaration(self, tenant: str, provider: str) -> dict[str, Any]:
        found = self.declarations(tenant).get(self.name(provider))
        if found is None:
            raise invalid(f"Provider {provider} does not exist.")
        return found

    def _forms(self, tenant: str, provider: str) -> list[dict[str, Any]]:
        return self.declaration(tenant, provider)["model_credential_schema"]["credential_form_schemas"]

    def _secrets(self, tenant: str, provider: str) -> list[str]:
        return [form["variable"] for form in self._forms(tenant, provider) if form["type"] == "secret-input"]

    # -- credentials --------------------------------------------------------------------------------------------

    def validated(self, tenant: str, provider: str, model: str, model_type: str, sent: dict[str, Any]) -> dict[str, Any]:
        """The credentials as they are stored: schema fields only, plus what the plugin's validation adds (clear text)."""
        chosen: dict[str, Any] = {}
        for form in self._forms(tenant, provider):
            name = form["variable"]
            if any({**sent, "__model_type": model_type}.get(one["variable"]) != one["value"] for one in form["show_on"]):
                continue
            value = sent.get(name)
            if not value:
                if form["required"]:
                    raise invalid(f"Variable {name} is required")
                if form["default"]:
                    chosen[name] = form["default"]
                continue
            if not isinstance(value, str):
                text = f"Variable {name} should be string"
                raise Internal(text) if self.generation.number_is_500 else invalid(text)
            if form["options"] and value not in [one["value"] for one in form["options"]]:
                raise invalid(f"Variable {name} is not in options")
            chosen[name] = value.lower() == "true" if form["type"] == "switch" else value
        body = {"provider": provider, "model": model, "model_type": model_type, "credentials": chosen}
        return self.source.validate(tenant, body)

    def _sealed(self, tenant: str, provider: str, clear: dict[str, Any]) -> str:
        hidden = self._secrets(tenant, provider)
        sealed = {
            name: security.encrypt(self.settings.files, tenant, value) if name in hidden and value else value for name, value in clear.items()
        }
        return json.dumps(sealed)

    def _cache_key(self, credential: str) -> str:
        # Another key before 1.8: what an older version remembered is not met after an upgrade.
        return f"provider_model{'' if self.generation.registration == 'upsert' else '_credentials'}:id:{credential}"

    def opened(self, tenant: str, provider: str, credential: Row) -> dict[str, Any]:
        """Clear text by today's schema: what an older schema sealed stays sealed when the field is no secret any more."""
        key = self._cache_key(credential["id"])
        kept = self.cache.get(key)
        if kept is None:
            clear = json.loads(credential["encrypted_config"])
            for name in self._secrets(tenant, provider):
                if clear.get(name):
                    try:
                        clear[name] = security.decrypt(self.settings.files, tenant, clear[name])
                    except ValueError:
                        pass
            kept = json.dumps(clear)
            self.cache.set(key, kept, CACHE_SECONDS)
        return json.loads(kept)

    def masked(self, tenant: str, provider: str, credential: Row) -> dict[str, Any]:
        clear = self.opened(tenant, provider, credential)
        hidden = self._secrets(tenant, provider)
        stars = self.generation.mask_stars
        return {name: security.mask(value, stars) if name in hidden else value for name, value in clear.items()}

    def current(self, row: Row | None) -> Row | None:
        """The credential of a model's row, wherever it is filed."""
        if row is None or not row["credential_id"]:
            return None
        return self.db.one("SELECT * FROM provider_model_credentials WHERE id = ?", row["credential_id"])

    def credentials(self, tenant: str, provider: str, model: str, model_type: str) -> list[Row]:
        """All stored ones of a model, newest first."""
        sql = f"SELECT * FROM provider_model_credentials WHERE {_KEY} ORDER BY id DESC"
        return self.db.query(sql, tenant, self.name(provider), model, model_type)

    def filed(self, tenant: str, provider: str, model: str, model_type: str) -> list[Row]:
        """Like ``credentials``, with those that an upgrade left under the provider's short name."""
        short = self.db.query(
            f"SELECT * FROM provider_model_credentials WHERE {_KEY} ORDER BY id DESC", tenant, provider.rsplit("/", 1)[-1], model, model_type
        )
        found = self.credentials(tenant, provider, model, model_type)
        return found + [row for row in short if row["id"] not in {item["id"] for item in found}]

    def credential(self, tenant: str, provider: str, model: str, model_type: str, credential_id: str) -> Row:
        found = next((row for row in self.credentials(tenant, provider, model, model_type) if row["id"] == credential_id), None)
        if found is None:
            raise invalid("Credential record not found.")
        return found

    def _check_name(self, rows: list[Row], name: str, model: str, but: str = "") -> None:
        if any(row["credential_name"] == name and row["id"] != but for row in rows):
            raise invalid(f"Model credential with name '{name}' already exists for {model}.")

    @staticmethod
    def _next_name(rows: list[Row]) -> str:
        numbers = [int(match[1]) for row in rows if (match := re.fullmatch(r"API KEY (\d+)", row["credential_name"]))]
        return f"API KEY {max(numbers, default=0) + 1}"

    def create(self, tenant: str, provider: str, model: str, model_type: str, sent: dict[str, Any], name: str | None) -> None:
        self.declaration(tenant, provider)
        rows = self.credentials(tenant, provider, model, model_type)
        if name:
            self._check_name(rows, name, model)
        clear = self.validated(tenant, provider, model, model_type, sent)
        credential = self._insert(tenant, provider, model, model_type, clear, name or self._next_name(rows))
        if self.model(tenant, provider, model, model_type) is None:
            self._attach(tenant, provider, model, model_type, credential)

    def _insert(self, tenant: str, provider: str, model: str, model_type: str, clear: dict[str, Any], name: str) -> str:
        credential, when = security.new_id(), time.time()
        self.db.insert(
            "provider_model_credentials",
            id=credential,
            tenant_id=tenant,
            provider_name=self.name(provider),
            model_name=model,
            model_type=model_type,
            credential_name=name,
            encrypted_config=self._sealed(tenant, provider, clear),
            created_at=when,
            updated_at=when,
        )
        return credential

    def upsert(self, tenant: str, provider: str, model: str, model_type: str, sent: dict[str, Any]) -> None:
        """Before 1.8: a model has one set of credentials, named as the upgrade to 1.8 will name it."""
        self.declaration(tenant, provider)
        current = self.current(self.model(tenant, provider, model, model_type))
        clear = self.validated(tenant, provider, model, model_type, self._unhidden(tenant, provider, current, sent))
        if current is None:
            self._attach(tenant, provider, model, model_type, self._insert(tenant, provider, model, model_type, clear, "API_KEY1"))
        else:
            self._write(tenant, provider, current, clear, current["credential_name"])

    def _unhidden(self, tenant: str, provider: str, current: Row | None, sent: dict[str, Any]) -> dict[str, Any]:
        """What was sent, with the stored secret wherever the mark for "unchanged" stands."""
        wanted = dict(sent)
        kept = self.opened(tenant, provider, current) if current else {}
        for variable in self._secrets(tenant, provider):
            if wanted.get(variable) == security.HIDDEN:
                wanted[variable] = kept.get(variable)
        return wanted

    def _write(self, tenant: str, provider: str, row: Row, clear: dict[str, Any], name: str) -> None:
        self.db.execute(
            "UPDATE provider_model_credentials SET encrypted_config = ?, credential_name = ?, updated_at = ? WHERE id = ?",
            self._sealed(tenant, provider, clear),
            name,
            time.time(),
            row["id"],
        )
        self.cache.delete(self._cache_key(row["id"]))

    def update(
        self, tenant: str, provider: str, model: str, model_type: str, credential_id: str, sent: dict[str, Any], name: str | None
    ) -> None:
        self.declaration(tenant, provider)
        row = self.credential(tenant, provider, model, model_type, credential_id)
        if name:
            self._check_name(self.credentials(tenant, provider, model, model_type), name, model, but=credential_id)
        clear = self.validated(tenant, provider, model, model_type, self._unhidden(tenant, provider, row, sent))
        self._write(tenant, provider, row, clear, name or row["credential_name"])

    def delete_credential(self, tenant: str, provider: str, model: str, model_type: str, credential_id: str) -> None:
        """The active one of several leaves its model detached; the last one takes the model with it."""
        self.declaration(tenant, provider)
        self.credential(tenant, provider, model, model_type, credential_id)
        others = len(self.credentials(tenant, provider, model, model_type)) - 1
        active = self.model(tenant, provider, model, model_type)
        if active and active["credential_id"] == credential_id:
            if others:
                self.db.execute("UPDATE provider_models SET credential_id = NULL WHERE id = ?", active["id"])
            else:
                self.db.execute("DELETE FROM provider_models WHERE id = ?", active["id"])
        self.db.execute("DELETE FROM provider_model_credentials WHERE id = ?", credential_id)
        self.cache.delete(self._cache_key(credential_id))

    # -- models -------------------------------------------------------------------------------------------------

    def model(self, tenant: str, provider: str, model: str, model_type: str) -> Row | None:
        return self.db.one(f"SELECT * FROM provider_models WHERE {_KEY}", tenant, self.name(provider), model, model_type)

    def _attach(self, tenant: str, provider: str, model: str, model_type: str, credential: str) -> None:
        sql = f"DELETE FROM provider_models WHERE {_KEY} AND is_valid = ?"
        self.db.execute(sql, tenant, self.name(provider), model, LEGACY_TYPES.get(model_type, ""), False)
        self.db.insert(
            "provider_models",
            id=security.new_id(),
            tenant_id=tenant,
            provider_name=self.name(provider),
            model_name=model,
            model_type=model_type,
            credential_id=credential,
            is_valid=True,
            created_at=time.time(),
        )

    def switch(self, tenant: str, provider: str, model: str, model_type: str, credential_id: str, same_is_error: bool) -> None:
        self.declaration(tenant, provider)
        self.credential(tenant, provider, model, model_type, credential_id)
        row = self.model(tenant, provider, model, model_type)
        if row is None:
            self._attach(tenant, provider, model, model_type, credential_id)
        elif row["credential_id"] == credential_id and same_is_error:
            raise invalid("Can't add same credential")
        else:
            self.db.execute("UPDATE provider_models SET credential_id = ? WHERE id = ?", credential_id, row["id"])

    def delete_model(self, tenant: str, provider: str, model: str, model_type: str) -> None:
        """From 1.8 on the credentials stay: they show as ``can_added_models``.

        What an upgrade left behind goes on showing until the model is registered anew (recorded; why is not known).
        """
        self.declaration(tenant, provider)
        key = (tenant, self.name(provider), model)
        if self.generation.registration == "upsert":
            self.db.execute(f"DELETE FROM provider_model_credentials WHERE {_KEY}", *key, model_type)
        self.db.execute(f"DELETE FROM provider_models WHERE {_KEY}", *key, model_type)
        self.db.execute(f"UPDATE provider_models SET is_valid = ? WHERE {_KEY}", False, *key, LEGACY_TYPES.get(model_type, ""))

    def enable(self, tenant: str, provider: str, model: str, model_type: str, on: bool) -> None:
        key = (tenant, self.name(provider), model, model_type)
        if not self.db.execute(f"UPDATE provider_model_settings SET enabled = ? WHERE {_KEY}", on, *key):
            self.db.insert(
                "provider_model_settings",
                id=security.new_id(),
                tenant_id=tenant,
                provider_name=key[1],
                model_name=model,
                model_type=model_type,
                enabled=on,
                load_balancing_enabled=False,
            )

    def enabled(self, tenant: str, provider: str, model: str, model_type: str) -> bool:
        row = self.db.one(f"SELECT enabled FROM provider_model_settings WHERE {_KEY}", tenant, self.name(provider), model, model_type)
        return row is None or bool(row["enabled"])

    def registered(self, tenant: str, provider: str) -> list[Row]:
        """Rows of models, also detached ones, in the order of registration; one row per name and type (see ``LEGACY_TYPES``)."""
        sql = "SELECT * FROM provider_models WHERE tenant_id = ? AND provider_name = ? ORDER BY id"
        found: dict[tuple[str, str], Row] = {}
        for row in self.db.query(sql, tenant, self.name(provider)):
            row["model_type"] = _TODAY.get(row["model_type"], row["model_type"])
            found.setdefault((row["model_name"], row["model_type"]), row)
        return list(found.values())

    def shown(self, tenant: str, provider: str, model: str, model_type: str) -> Row | None:
        """The row that reading a model shows."""
        return next((row for row in self.registered(tenant, provider) if (row["model_name"], row["model_type"]) == (model, model_type)), None)

    def models(self, tenant: str, provider: str, model_type: str = "") -> list[dict[str, Any]]:
        """The models with a credential, by type and then by registration."""
        if self.name(provider) not in self.declarations(tenant):
            return []
        rows = [row for row in self.registered(tenant, provider) if row["credential_id"] and model_type in ("", row["model_type"])]
        return [self._described(tenant, provider, row) for row in sorted(rows, key=lambda row: row["model_type"])]

    def _described(self, tenant: str, provider: str, row: Row) -> dict[str, Any]:
        model, kind = row["model_name"], row["model_type"]
        credential = self.current(row)
        found = self.opened(tenant, provider, credential) if credential else {}
        features: list[str] | None = None
        properties: dict[str, Any] = {}
        if kind == "llm":
            words = {"support_function_call": "tool-call", "support_vision": "vision"}
            features = [word for field, word in words.items() if found.get(field)]
            properties = {"mode": found.get("completion_type", "chat"), "context_size": found.get("context_length", 2048)}
        elif kind == "text-embedding":
            properties = {"context_size": found.get("max_tokens", 512), "max_chunks": 1}
        described = {
            "model": model,
            "label": {"zh_Hans": model, "en_US": model},
            "model_type": kind,
            "features": features,
            "fetch_from": "customizable-model",
            "model_properties": properties,
            "deprecated": False,
            "status": "active" if self.enabled(tenant, provider, model, kind) else "disabled",
            "load_balancing_enabled": False,
            "has_invalid_load_balancing_configs": False,
        }
        return self.generation.trim("model", described)

    # -- defaults -----------------------------------------------------------------------------------------------

    def default(self, tenant: str, model_type: str) -> Row | None:
        """The stored default; with none stored, the first active model becomes it: reading writes (as in Dify)."""
        sql = "SELECT * FROM tenant_default_models WHERE tenant_id = ? AND model_type = ?"
        row = self.db.one(sql, tenant, model_type)
        known = self.declarations(tenant)
        if row is None:
            for provider in known:
                active = [model for model in self.models(tenant, provider, model_type) if model["status"] == "active"]
                if active:
                    self.set_default(tenant, model_type, provider, active[0]["model"])
                    row = self.db.one(sql, tenant, model_type)
                    break
        return row if row and row["provider_name"] in known else None

    def choose_default(self, tenant: str, model_type: str, provider: str, model: str) -> None:
        """What a client asks for; see ``Generation.lost_defaults`` for the bug of all versions up to 1.13.3."""
        sql = "SELECT id FROM tenant_default_models WHERE tenant_id = ? AND model_type = ?"
        if not self._usable_default(tenant, model_type, provider, model):
            if self.generation.default_checks_model:
                raise invalid(f"Model {model} does not exist.")
            return
        if model_type in self.generation.lost_defaults and not self.db.query(sql, tenant, model_type):
            return
        self.set_default(tenant, model_type, provider, model)

    def _usable_default(self, tenant: str, model_type: str, provider: str, model: str) -> bool:
        self.declaration(tenant, provider)
        return model in [entry["model"] for entry in self.models(tenant, provider, model_type) if entry["status"] == "active"]

    def set_default(self, tenant: str, model_type: str, provider: str, model: str) -> None:
        self.db.execute("DELETE FROM tenant_default_models WHERE tenant_id = ? AND model_type = ?", tenant, model_type)
        self.db.insert(
            "tenant_default_models",
            id=security.new_id(),
            tenant_id=tenant,
            provider_name=self.name(provider),
            model_name=model,
            model_type=model_type,
        )

    # -- use ----------------------------------------------------------------------------------------------------

    def usable(self, tenant: str, provider: str, model: str, model_type: str) -> dict[str, Any]:
        """Clear credentials of a registered, enabled model, for calling it; raises the API's error otherwise."""
        self.declaration(tenant, provider)
        credential = self.current(self.shown(tenant, provider, model, model_type))
        if credential is None:
            raise invalid(f"Model {model} credentials is not initialized.")
        if not self.enabled(tenant, provider, model, model_type):
            raise invalid(f"Model {model} is disabled.")
        return self.opened(tenant, provider, credential)
