# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where model providers come from: plugins in the daemon (from 1.0 on), or the API itself (before)."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from . import packages
from .config import Settings
from .daemon_client import DaemonClient
from .errors import Internal, invalid
from .generations import Generation
from .storage import Cache
from .xinference import BuiltIn, CredentialsRefused, PluginFailed

CACHE_SECONDS = 24 * 3600
PROVIDER_FILE = pathlib.Path(__file__).with_name("xinference_provider.json")


class Source:
    """Provider name -> declaration, and the code that validates credentials."""

    def name(self, provider: str) -> str:
        """The name under which rows are stored and answers given."""
        raise NotImplementedError

    def declarations(self, tenant: str) -> dict[str, dict[str, Any]]:
        raise NotImplementedError

    def forget(self, tenant: str) -> None:
        """Drops what is remembered of the list."""

    def validate(self, tenant: str, body: dict[str, Any]) -> dict[str, Any]:
        """The credentials with what validation adds; raises the API's error."""
        raise NotImplementedError

    def dispatch(self, tenant: str, path: str, body: dict[str, Any]) -> Any:
        """One model call."""
        raise NotImplementedError


class PluginSource(Source):
    def __init__(self, generation: Generation, cache: Cache, daemon: DaemonClient) -> None:
        self.cache = cache
        self.daemon = daemon
        self.cached = generation.providers_cached

    def name(self, provider: str) -> str:
        """``xinference`` -> ``langgenius/xinference/xinference``; a long name stays."""
        return provider if "/" in provider else f"langgenius/{provider}/{provider}"

    def declarations(self, tenant: str) -> dict[str, dict[str, Any]]:
        """From 1.15 on kept for 24 h, whatever happens in the daemon (see ``forget``)."""
        key = f"plugin_model_providers:tenant_id:{tenant}"
        kept = self.cache.get(key) if self.cached else None
        if kept is None:
            found = self.daemon.management("GET", tenant, "models")
            kept = json.dumps({f"{item['plugin_id']}/{item['declaration']['provider']}": item["declaration"] for item in found})
            if self.cached:
                self.cache.set(key, kept, CACHE_SECONDS)
        return json.loads(kept)

    def forget(self, tenant: str) -> None:
        """On install and uninstall requests, and when a finished task is looked at."""
        self.cache.delete(f"plugin_model_providers:tenant_id:{tenant}")

    def validate(self, tenant: str, body: dict[str, Any]) -> dict[str, Any]:
        return self.daemon.dispatch(tenant, "model/validate_model_credentials", body)["credentials"]

    def dispatch(self, tenant: str, path: str, body: dict[str, Any]) -> Any:
        return self.daemon.dispatch(tenant, path, body)


class BuiltInSource(Source):
    """The provider ``xinference`` inside the API; its ``server_url`` is a secret."""

    # The older ones know no time-outs of Xinference, 0.6 no keys either, and no text-to-speech.
    OLDEST_TYPES = ("llm", "text-embedding", "rerank", "speech2text")

    def __init__(self, settings: Settings, generation: Generation) -> None:
        provider = json.loads(PROVIDER_FILE.read_text(encoding="utf-8"))
        forms = provider["model_credential_schema"]["credential_form_schemas"]
        forms[0]["type"] = "secret-input"
        oldest = bool(generation.provider_fields)
        if oldest:
            provider["model_credential_schema"]["credential_form_schemas"] = [form for form in forms if form["variable"] in generation.provider_fields]
            provider["supported_model_types"] = list(self.OLDEST_TYPES)
        self._declared = {provider["provider"]: packages.provider_declaration(provider)}
        self.code = BuiltIn(settings.xinference_retry_pause, settings.xinference_timeout, speech=not oldest)

    def name(self, provider: str) -> str:
        return provider

    def declarations(self, tenant: str) -> dict[str, dict[str, Any]]:
        return self._declared

    def validate(self, tenant: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            return self.code.validate(body["model_type"], body["credentials"])
        except CredentialsRefused as error:
            raise invalid(str(error)) from error
        except PluginFailed as error:
            raise Internal(error.text) from error


def make_source(settings: Settings, generation: Generation, cache: Cache, daemon: DaemonClient) -> Source:
    return PluginSource(generation, cache, daemon) if generation.plugins else BuiltInSource(settings, generation)
