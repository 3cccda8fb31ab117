# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Bring Dify's registered models and defaults to the wanted list: read, plan, act, read back; one verdict per model."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._difference import Difference
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify import DifyClient, DifyError, DifyUsageError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_plan import (
    CREDENTIAL_NAME,
    Action,
    FoundModel,
    WantedModel,
    check_wanted,
    fingerprint,
    plan_defaults,
    plan_model,
    plan_prune,
)
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import ServerUnreachable

# (wanted) -> why it cannot be registered, or None
Probe = t.Callable[[WantedModel], t.Optional[str]]

# Errors that concern the whole conversation, not one model.
FATAL_CODES = ("unauthorized", "not_setup", "not_init_validated", "forbidden", "authentication_failed", "email_code_login_limit")


class Memory(t.Protocol):
    """Fingerprints of registered secrets, kept on the host between runs."""

    salt: str

    def get(self, label: str) -> str | None: ...

    def put(self, label: str, value: str | None) -> None: ...


class Registrar:
    """One provider's models in one workspace.

    :param probe: asked before a model is created or updated (also in check mode).
    :param memory: see :class:`Memory`.
    """

    def __init__(self, client: DifyClient, provider: str, probe: Probe, memory: Memory, check_mode: bool = False, name: str = CREDENTIAL_NAME) -> None:
        self.client = client
        self.provider = provider
        self.path = client.provider_path(provider) + "/models"
        self.probe = probe
        self.memory = memory
        self.check_mode = check_mode
        self.name = name
        self.difference = Difference()
        self.results: list[dict[str, t.Any]] = []
        self.entries: dict[tuple[str, str], dict[str, t.Any]] = {}

    # -- models ----------------------------------------------------------------------------------------------------------

    def present(self, wanted: t.Sequence[WantedModel]) -> None:
        """Every wanted model gets its verdict in ``results``; a bad one never stops the rest."""
        self._list()
        # Asked after the first answer, which brought the version along.
        if not self.client.capabilities.credential_records:
            raise DifyUsageError(f"Dify {self.client.version} keeps no credential records (they came with 1.8.0); upgrade Dify to register models here")
        problems = check_wanted(wanted)
        for item in wanted:
            start = time.monotonic()
            action, problem = None, problems.get(item.key)
            try:
                if problem is None:
                    action, problem = self._one(item)
            except ServerUnreachable as error:
                problem = str(error)
            except DifyError as error:
                if error.code in FATAL_CODES:
                    raise
                problem = str(error)
            self._verdict(item.model, item.model_type, action, problem, start, item.credentials.get("model_uid"))

    def _list(self) -> None:
        self.entries = {(str(entry["model"]), str(entry["model_type"])): entry for entry in self.client.models(self.provider)}

    def _found(self, model: str, model_type: str) -> FoundModel:
        return FoundModel.read(self.client.credentials(self.provider, model, model_type), self.entries.get((model, model_type)))

    def _one(self, item: WantedModel) -> tuple[Action, str | None]:
        action = self._plan(item)
        if action.kind in ("create", "update", "attach"):
            problem = self.probe(item)
            if problem:
                return action, problem
        if self.check_mode or not action.changes:
            if not self.check_mode:
                self._remember(item)
            return action, None
        self._apply(action, item)
        # Trust the server's own words, not our intention: read back, and plan again from that.
        self._remember(item)
        after = self._plan(item, listed=True)
        if after.kind == "attach":
            # Only the very first credential of a model attaches itself; beside another one it has to be chosen.
            self._call("POST", "/credentials/switch", {"model": item.model, "model_type": item.model_type, "credential_id": after.credential_id})
            after = self._plan(item, listed=True)
        if after.changes:
            return action, f"Dify accepted the call, but afterwards {', '.join(after.reasons)}"
        return action, None

    def _plan(self, item: WantedModel, listed: bool = False) -> Action:
        found = self._found(*item.key)
        if listed:
            found = found._replace(listed=True, disabled=False)
        return plan_model(item, found, self.memory.get(item.label), self.memory.salt, self.name)

    def _remember(self, item: WantedModel) -> None:
        secret = item.credentials.get("api_key")
        self.memory.put(item.label, fingerprint(self.memory.salt, item.label, secret) if secret else None)

    def _apply(self, action: Action, item: WantedModel) -> None:
        key = {"model": item.model, "model_type": item.model_type}
        if action.kind == "create":
            self._create(key, item)
        elif action.kind in ("update", "attach"):
            # A spare credential may hold anything: its secrets are sent whole.
            credentials = action.credentials if action.kind == "update" else item.credentials
            try:
                self._call("PUT", "/credentials", {**key, "credential_id": action.credential_id, "credentials": credentials, "name": action.name})
            except DifyError as error:
                if "Credential record not found" not in error.message:
                    raise
                # An instance upgraded from 0.15: the row carries the provider's old name and can only be replaced.
                self._delete(item.model, item.model_type)
                self._create(key, item)
            else:
                if action.switch:
                    self._call("POST", "/credentials/switch", {**key, "credential_id": action.credential_id})
        if action.enable:
            self._call("PATCH", "/enable", key)

    def _create(self, key: dict[str, str], item: WantedModel) -> None:
        try:
            self._call("POST", "/credentials", {**key, "name": self.name, "credentials": item.credentials})
        except DifyError as error:
            if "already exists" not in error.message:
                raise  # else another controller was faster; reading back tells whether it wrote the same

    def _call(self, method: str, path: str, body: dict[str, t.Any]) -> t.Any:
        return self.client.workspace(method, self.path + path, json=body)

    def _delete(self, model: str, model_type: str) -> None:
        """Remove a model and every credential row: deleting the model alone leaves them behind."""
        key = {"model": model, "model_type": model_type}
        self._call("DELETE", "", key)
        for item in self._found(model, model_type).available:
            self._call("DELETE", "/credentials", {**key, "credential_id": item["credential_id"]})

    def prune(self, wanted: t.Sequence[WantedModel]) -> None:
        """Remove models that carry our credential name and are not wanted any more."""
        keep = {item.key for item in wanted}
        others = [(key, self._found(*key)) for key in sorted(self.entries) if key not in keep]
        for action in plan_prune(others, wanted, self.name):
            start = time.monotonic()
            problem = None
            try:
                if not self.check_mode:
                    self._delete(action.model, action.model_type)
                    self.memory.put(f"{action.model_type}/{action.model}", None)
            except DifyError as error:
                problem = str(error)
            self._verdict(action.model, action.model_type, action, problem, start)

    def _verdict(self, model: str, model_type: str, action: Action | None, problem: str | None, start: float, uid: str | None = None) -> None:
        kind = action.kind if action else "none"
        changed = bool(action and action.changes and not problem)
        if action and action.changes and action.difference is not None and not problem:
            self.difference.merge(f"{model_type}/{model}", action.difference)
        self.results.append(
            {
                "model": model,
                "model_type": model_type,
                "model_uid": uid,
                "action": kind,
                "changed": changed,
                "verdict": "failed" if problem else "ok",
                "reason": problem or ", ".join(action.reasons if action else []),
                "seconds": round(time.monotonic() - start, 2),
            }
        )

    # -- defaults --------------------------------------------------------------------------------------------------------

    def defaults(self, wanted: dict[str, str]) -> list[dict[str, t.Any]]:
        """Set the workspace's default models; returns one verdict per type. Types nobody names are left alone."""
        if not wanted:
            return []
        failed = {(item["model"], item["model_type"]) for item in self.results if item["verdict"] == "failed"}
        # Asking first also creates the right row where the first write of a type would go astray (<= 1.13.3).
        found = {model_type: self.client.default_model(model_type) for model_type in wanted}
        results = []
        for model_type in plan_defaults(wanted, found, self.provider):
            model = wanted[model_type]
            before = (found.get(model_type) or {}).get("model")
            problem = None
            if (model, model_type) in failed:
                problem = "the model itself could not be registered"
            elif not self.check_mode:
                problem = self._set_default(model_type, model)
            if not problem:
                self.difference.add(f"default/{model_type}", model, before if before != model else f"{model} of {(found[model_type] or {}).get('provider')}")
            verdict = {"changed": not problem, "verdict": "failed" if problem else "ok", "reason": problem or "was another one"}
            results.append({"model_type": model_type, "model": model, "before": before, **verdict})
        touched = {item["model_type"] for item in results}
        for model_type, model in wanted.items():
            if model_type not in touched:
                results.append({"model_type": model_type, "model": model, "before": model, "changed": False, "verdict": "ok", "reason": ""})
        return results

    def _set_default(self, model_type: str, model: str) -> str | None:
        body = {"model_settings": [{"model_type": model_type, "provider": self.provider, "model": model}]}
        tries = 2 if self.client.capabilities.default_model_first_write_bug else 1
        shown = None
        try:
            for _unused in range(tries):
                self.client.workspace("POST", "/default-model", json=body)
                shown = self.client.default_model(model_type)
                if shown == {"provider": self.provider, "model": model}:
                    return None
        except DifyError as error:
            return str(error)
        return f"Dify accepted the call, but still shows {(shown or {}).get('model')}"


__all__ = ["Memory", "Registrar"]
