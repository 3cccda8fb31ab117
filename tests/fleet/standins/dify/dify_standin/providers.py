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
from .daemon_client import DaemonClient
from .errors import invalid
from .storage import Cache, Database, Row

CACHE_SECONDS = 24 * 3600
_KEY = "tenant_id = ? AND provider_name = ? AND model_name = ? AND model_type = ?"


def full_name(provider: str) -> str:
    """``xinference`` -> ``langgenius/xinference/xinference``; a long name stays."""
    return provider if "/" in provider else f"langgenius/{provider}/{provider}"


class Providers:
    def __init__(self, settings: Settings, database: Database, cache: Cache, daemon: DaemonClient) -> None:
        self.settings = settings
        self.db = database
        self.cache = cache
        self.daemon = daemon

    # -- declarations -------------------------------------------------------------------------------------------

    def declarations(self, tenant: str) -> dict[str, dict[str, Any]]:
        """Long provider name -> declaration, kept for 24 h whatever happens in the daemon (see ``forget``)."""
        key = f"plugin_model_providers:tenant_id:{tenant}"
        kept = self.cache.get(key)
        if kept is None:
            found = self.daemon.management("GET", tenant, "models")
            kept = json.dumps({f"{item['plugin_id']}/{item['declaration']['provider']}": item["declaration"] for item in found})
            self.cache.set(key, kept, CACHE_SECONDS)
        return json.loads(kept)

    def forget(self, tenant: str) -> None:
        """Drops the list: on install and uninstall requests, and when a finished task is looked at."""
        self.cache.delete(f"plugin_model_providers:tenant_id:{tenant}")

    def declaration(self, tenant: str, provider: str) -> dict[str, Any]:
        found = self.declarations(tenant).get(full_name(provider))
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
        chosen = {}
        for form in self._forms(tenant, provider):
            name = form["variable"]
            value = sent.get(name)
            if not value:
                if form["required"]:
                    raise invalid(f"Variable {name} is required")
                continue
            if not isinstance(value, str):
                # 1.16.1 answers 500 here, where older ones named the field (recorded).
                raise TypeError(f"Variable {name} should be string")
            chosen[name] = value
        body = {"provider": provider, "model": model, "model_type": model_type, "credentials": chosen}
        return self.daemon.dispatch(tenant, "model/validate_model_credentials", body)["credentials"]

    def _sealed(self, tenant: str, provider: str, clear: dict[str, Any]) -> str:
        hidden = self._secrets(tenant, provider)
        sealed = {
            name: security.encrypt(self.settings.storage, tenant, value) if name in hidden and value else value for name, value in clear.items()
        }
        return json.dumps(sealed)

    def opened(self, tenant: str, provider: str, credential: Row) -> dict[str, Any]:
        """Clear text by today's schema: what an older schema sealed stays sealed when the field is no secret any more."""
        key = f"provider_model_credentials:id:{credential['id']}"
        kept = self.cache.get(key)
        if kept is None:
            clear = json.loads(credential["encrypted_config"])
            for name in self._secrets(tenant, provider):
                if clear.get(name):
                    try:
                        clear[name] = security.decrypt(self.settings.storage, tenant, clear[name])
                    except ValueError:
                        pass
            kept = json.dumps(clear)
            self.cache.set(key, kept, CACHE_SECONDS)
        return json.loads(kept)

    def masked(self, tenant: str, provider: str, credential: Row) -> dict[str, Any]:
        clear = self.opened(tenant, provider, credential)
        hidden = self._secrets(tenant, provider)
        return {name: security.mask(value) if name in hidden else value for name, value in clear.items()}

    def credentials(self, tenant: str, provider: str, model: str, model_type: str) -> list[Row]:
        """All stored ones of a model, newest first."""
        sql = f"SELECT * FROM provider_model_credentials WHERE {_KEY} ORDER BY id DESC"
        return self.db.query(sql, tenant, full_name(provider), model, model_type)

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
        credential, when = security.new_id(), time.time()
        self.db.insert(
            "provider_model_credentials",
            id=credential,
            tenant_id=tenant,
            provider_name=full_name(provider),
            model_name=model,
            model_type=model_type,
            credential_name=name or self._next_name(rows),
            encrypted_config=self._sealed(tenant, provider, clear),
            created_at=when,
            updated_at=when,
        )
        if self.model(tenant, provider, model, model_type) is None:
            self._attach(tenant, provider, model, model_type, credential)

    def update(
        self, tenant: str, provider: str, model: str, model_type: str, credential_id: str, sent: dict[str, Any], name: str | None
    ) -> None:
        self.declaration(tenant, provider)
        row = self.credential(tenant, provider, model, model_type, credential_id)
        if name:
            self._check_name(self.credentials(tenant, provider, model, model_type), name, model, but=credential_id)
        kept = self.opened(tenant, provider, row)
        wanted = dict(sent)
        for variable in self._secrets(tenant, provider):
            if wanted.get(variable) == security.HIDDEN:
                wanted[variable] = kept.get(variable)
        clear = self.validated(tenant, provider, model, model_type, wanted)
        self.db.execute(
            "UPDATE provider_model_credentials SET encrypted_config = ?, credential_name = ?, updated_at = ? WHERE id = ?",
            self._sealed(tenant, provider, clear),
            name or row["credential_name"],
            time.time(),
            credential_id,
        )
        self.cache.delete(f"provider_model_credentials:id:{credential_id}")

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
        self.cache.delete(f"provider_model_credentials:id:{credential_id}")

    # -- models -------------------------------------------------------------------------------------------------

    def model(self, tenant: str, provider: str, model: str, model_type: str) -> Row | None:
        return self.db.one(f"SELECT * FROM provider_models WHERE {_KEY}", tenant, full_name(provider), model, model_type)

    def _attach(self, tenant: str, provider: str, model: str, model_type: str, credential: str) -> None:
        self.db.insert(
            "provider_models",
            id=security.new_id(),
            tenant_id=tenant,
            provider_name=full_name(provider),
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
        """The credentials stay: they show as ``can_added_models``."""
        self.declaration(tenant, provider)
        self.db.execute(f"DELETE FROM provider_models WHERE {_KEY}", tenant, full_name(provider), model, model_type)

    def enable(self, tenant: str, provider: str, model: str, model_type: str, on: bool) -> None:
        key = (tenant, full_name(provider), model, model_type)
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
        row = self.db.one(f"SELECT enabled FROM provider_model_settings WHERE {_KEY}", tenant, full_name(provider), model, model_type)
        return row is None or bool(row["enabled"])

    def registered(self, tenant: str, provider: str) -> list[Row]:
        """Rows of models, also detached ones, in the order of registration."""
        sql = "SELECT * FROM provider_models WHERE tenant_id = ? AND provider_name = ? ORDER BY id"
        return self.db.query(sql, tenant, full_name(provider))

    def models(self, tenant: str, provider: str, model_type: str = "") -> list[dict[str, Any]]:
        """The models with a credential, by type and then by registration."""
        if full_name(provider) not in self.declarations(tenant):
            return []
        rows = [row for row in self.registered(tenant, provider) if row["credential_id"] and model_type in ("", row["model_type"])]
        return [self._described(tenant, provider, row) for row in sorted(rows, key=lambda row: row["model_type"])]

    def _described(self, tenant: str, provider: str, row: Row) -> dict[str, Any]:
        model, kind = row["model_name"], row["model_type"]
        credential = self.credential(tenant, provider, model, kind, row["credential_id"])
        found = self.opened(tenant, provider, credential)
        features: list[str] | None = None
        properties: dict[str, Any] = {}
        if kind == "llm":
            words = {"support_function_call": "tool-call", "support_vision": "vision"}
            features = [word for field, word in words.items() if found.get(field)]
            properties = {"mode": found.get("completion_type", "chat"), "context_size": found.get("context_length", 2048)}
        elif kind == "text-embedding":
            properties = {"context_size": found.get("max_tokens", 512), "max_chunks": 1}
        return {
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

    def set_default(self, tenant: str, model_type: str, provider: str, model: str) -> None:
        self.declaration(tenant, provider)
        names = [entry["model"] for entry in self.models(tenant, provider, model_type) if entry["status"] == "active"]
        if model not in names:
            raise invalid(f"Model {model} does not exist.")
        self.db.execute("DELETE FROM tenant_default_models WHERE tenant_id = ? AND model_type = ?", tenant, model_type)
        self.db.insert(
            "tenant_default_models",
            id=security.new_id(),
            tenant_id=tenant,
            provider_name=full_name(provider),
            model_name=model,
            model_type=model_type,
        )

    # -- use ----------------------------------------------------------------------------------------------------

    def usable(self, tenant: str, provider: str, model: str, model_type: str) -> dict[str, Any]:
        """Clear credentials of a registered, enabled model, for calling it; raises the API's error otherwise."""
        self.declaration(tenant, provider)
        row = self.model(tenant, provider, model, model_type)
        if row is None or not row["credential_id"]:
            raise invalid(f"Model {model} credentials is not initialized.")
        if not self.enabled(tenant, provider, model, model_type):
            raise invalid(f"Model {model} is disabled.")
        return self.opened(tenant, provider, self.credential(tenant, provider, model, model_type, row["credential_id"]))
