# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Bring Dify's registered models and defaults to the wanted list: read, plan, act, read back; one verdict per model.

A run that finds nothing to do sends one request for the list of models, one per model, one per default. Only when
something is to change is the provider's form read as well: it says which fields are secret, required, or not there.
"""

from __future__ import annotations

import contextlib
import time
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._difference import Difference
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify import FATAL_CODES, DifyClient, DifyError, DifyUsageError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_defaults import Defaults
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_plan import (
    CREDENTIAL_NAME,
    SECRET_FIELDS,
    Action,
    FoundModel,
    Known,
    WantedModel,
    check_wanted,
    fingerprint,
    plan_model,
    plan_prune,
)
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_schema import OPTIONAL, ProviderSchema, fit
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_versions import XINFERENCE_PROVIDERS, provider_id
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import ServerUnreachable, shorten

# (wanted) -> why it cannot be registered, or None
Probe = t.Callable[[WantedModel], t.Optional[str]]

NO_RECORD = "Credential record not found"


class Memory(t.Protocol):
    """What the host keeps between runs: fingerprints of registered secrets, and what was registered from here."""

    salt: str

    def get(self, label: str) -> str | None: ...

    def put(self, label: str, value: str | None) -> None: ...

    def save(self) -> None: ...


class Registrar:
    """One provider's models in one workspace.

    :param probe: asked before a model is created or updated (also in check mode).
    :param memory: see :class:`Memory`.
    """

    def __init__(self, client: DifyClient, provider: str, probe: Probe, memory: Memory, check_mode: bool = False, name: str = CREDENTIAL_NAME) -> None:
        self.client = client
        self.provider = provider
        self.probe = probe
        self.memory = memory
        self.check_mode = check_mode
        self.name = name
        self.difference = Difference()
        self.results: list[dict[str, t.Any]] = []
        self.entries: dict[tuple[str, str], dict[str, t.Any]] = {}
        self.notes: list[str] = []
        self._schema: ProviderSchema | None = None
        self._defaults = Defaults(client, check_mode)

    # -- what is there ---------------------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        return self.client.provider_path(self.provider) + "/models"

    @property
    def records(self) -> bool:
        return self.client.capabilities.credential_records

    def _list(self) -> None:
        if self.client.version:
            self.provider = provider_id(self.provider, self.client.capabilities)
        asked = self.provider
        try:
            entries = self.client.models(asked)
        except DifyError:
            entries = None
            # With a key and a workspace nobody asked for the version before; this answer told it, and the provider's name.
            if provider_id(asked, self.client.capabilities) == asked:
                raise
        self.provider = provider_id(asked, self.client.capabilities)
        if entries is None or self.provider != asked:
            entries = self.client.models(self.provider)
        self.entries = {(str(entry["model"]), str(entry["model_type"])): entry for entry in entries}

    def _found(self, model: str, model_type: str) -> FoundModel:
        answer = self.client.credentials(self.provider, model, model_type)
        return FoundModel.read(answer, self.entries.get((model, model_type)), self.records)

    def schema(self) -> ProviderSchema:
        """The provider's form, read once. Raises :class:`DifyUsageError` when Dify lists no such provider."""
        if self._schema is None:
            listed = self.client.providers()
            for entry in listed:
                if entry.get("provider") == self.provider:
                    self._schema = ProviderSchema.read(entry)
                    break
            else:
                names = ", ".join(sorted(str(entry.get("provider")) for entry in listed)) or "none"
                raise DifyUsageError(
                    f"Dify {self.client.version} lists no provider {self.provider} (it lists: {names}). "
                    + ("Install its plugin first: module dify_plugin." if self.client.capabilities.plugins else "Its providers are built in.")
                )
        return self._schema

    # -- models ----------------------------------------------------------------------------------------------------------

    def present(self, wanted: t.Sequence[WantedModel], defaults: t.Iterable[str] = ()) -> None:
        """Every wanted model gets its verdict in ``results``; a bad one never stops the rest.

        ``defaults``: types whose default will be asked for. Where nobody knows Dify's version yet, one of them is asked
        for first: its answer brings the version, and with it the name of the provider, for no request more.
        """
        self._defaults.types = list(defaults)
        if self.client.version is None and self.provider in XINFERENCE_PROVIDERS:
            self._defaults.look_at_first()
        self._list()
        problems = check_wanted(wanted)
        touched = []
        for item in wanted:
            start = time.monotonic()
            action, problem = None, problems.get(item.key)
            try:
                if problem is None:
                    action, problem = self._one(self._usual(item))
            except ServerUnreachable as error:
                if error.method == "GET":
                    raise  # asked three times: Dify is gone, and every further model would wait for it as long
                problem = str(error)
            except DifyError as error:
                if error.code in FATAL_CODES:
                    raise
                if error.status == 400 and "Provider" in error.message and "does not exist" in error.message:
                    self.schema()  # says so, and what to do
                problem = str(error)
            self._verdict(item.model, item.model_type, action, problem, start, item.credentials.get("model_uid"))
            if action and action.changes and action.kind != "delete" and not problem:
                touched.append(item.key)
        if touched and not self.check_mode:
            self._prove(touched)

    def give_up(self, wanted: t.Sequence[WantedModel], why: str) -> None:
        """A verdict for every model that was not come to any more, when the conversation itself has ended."""
        told = {(item["model"], item["model_type"]) for item in self.results}
        for item in wanted:
            if item.key not in told:
                self._verdict(item.model, item.model_type, None, f"not looked at: {why}", time.monotonic(), item.credentials.get("model_uid"))

    def _usual(self, item: WantedModel) -> WantedModel:
        """Without the settings of ours that an older Xinference provider does not have (its form is not read for that)."""
        if self.provider not in XINFERENCE_PROVIDERS:
            return item
        fields = self.client.capabilities.xinference_fields
        return item._replace(credentials={name: value for name, value in item.credentials.items() if name in fields or name not in OPTIONAL})

    def _one(self, item: WantedModel) -> tuple[Action, str | None]:
        action = self._plan(item)
        if action.kind not in ("none", "delete", "enable"):
            # Something differs: now the provider's own form is worth a request. It may tell that nothing does.
            fitted, problem = fit(item.credentials, item.model_type, self.schema())
            if problem:
                return action, problem
            item = item._replace(credentials=fitted)
            action = self._plan(item)
        if action.kind in ("create", "update", "attach"):
            problem = self.probe(item)
            if problem:
                return action, problem
        if self.check_mode:
            return action, self._rehearse(action, item)
        if not action.changes:
            self._remember(item, action)
            return action, None
        self._defaults.look_before_changes()
        refused = None
        if action.kind == "create":
            self._claim(item, "registered")
        try:
            self._apply(action, item)
        except DifyError as error:
            # Two that register at once can end in a database error for one of them; reading back tells whether it was that.
            if action.kind != "create" or error.status != 500:
                if action.kind == "create":
                    self._claim(item, None)
                raise
            refused = error
        if action.kind == "delete":
            left = self._found(*item.key)._replace(listed=False)
            return action, "Dify accepted the removal, but still has its credentials" if left.anything else None
        action, problem = self._settle(action, item)
        if refused and problem:
            self._claim(item, None)
        return action, str(refused) if problem and refused else problem

    def _rehearse(self, action: Action, item: WantedModel) -> str | None:
        """In check mode: what Dify would say to the credentials. Xinference was asked by ourselves; other providers only Dify can ask."""
        if action.kind not in ("create", "update", "attach") or self.provider in XINFERENCE_PROVIDERS:
            return None
        body = {"model": item.model, "model_type": item.model_type, "credentials": item.credentials}
        answer = self._call("POST", "/credentials/validate", body) or {}
        return None if answer.get("result") == "success" else f"Dify would refuse it: {shorten(str(answer.get('error')), 300)}"

    def _settle(self, action: Action, item: WantedModel) -> tuple[Action, str | None]:
        """Trust the server's own words, not our intention: read back, and plan again from that."""
        after = self._plan(item, written=True)
        if after.kind == "attach":
            # Only the very first credential of a model attaches itself; beside another one it has to be chosen.
            self._switch(item, str(after.credential_id))
            after = self._plan(item, written=True)
        if after.remove and after.reasons == [f"{len(after.remove) + 1} credentials are called {self.name}"]:
            # Another controller wrote at the same time. Both keep the one that is attached.
            self._remove_credentials(item.model, item.model_type, after.remove)
            after = self._plan(item, written=True)
        self._remember(item, after)
        return action, f"Dify accepted the call, but afterwards {', '.join(after.reasons)}" if after.changes else None

    def _plan(self, item: WantedModel, written: bool = False) -> Action:
        """``written``: we just registered it, so what is remembered is what we sent, and the model is listed and enabled."""
        found = self._found(*item.key)
        remembered = {}
        for field, value in item.credentials.items():
            label = f"{item.label}#{field}"
            kept = fingerprint(self.memory.salt, label, value) if written else self.memory.get(self._key(label))
            if kept is not None:
                remembered[field] = kept
        known = Known(
            salt=self.memory.salt,
            remembered=remembered,
            abilities=None if written else self.memory.get(self._key(f"{item.label}#abilities")),
            secrets=self._schema.secrets | SECRET_FIELDS if self._schema else SECRET_FIELDS,
            form=frozenset(field.name for field in self._schema.of(item.model_type)) if self._schema and self._schema.fields else None,
        )
        if written:
            found = found._replace(listed=True, disabled=False)
        return plan_model(item, found, known, self.name)

    def _key(self, label: str) -> str:
        return f"{self.provider} {label}"

    def _claim(self, item: WantedModel, value: str | None) -> None:
        """Before 1.8 no credential carries our name; this note makes a model ours to prune.

        One that somebody made by hand and that was only brought in line stays theirs. It is written before the model is, so
        that a run that is killed in between does not leave a model that is nobody's.
        """
        if not self.records:
            self.memory.put(self._key(item.label), value)
            with contextlib.suppress(OSError):  # whoever saves at the end says so
                self.memory.save()

    def _remember(self, item: WantedModel, action: Action) -> None:
        for field in action.masked:
            label = f"{item.label}#{field}"
            self.memory.put(self._key(label), fingerprint(self.memory.salt, label, item.credentials[field]))
        if item.abilities:
            self.memory.put(self._key(f"{item.label}#abilities"), ",".join(sorted(item.abilities)))

    def _forget(self, label: str, fields: t.Iterable[str]) -> None:
        for name in (label, *(f"{label}#{field}" for field in (*fields, "abilities"))):
            self.memory.put(self._key(name), None)

    def _apply(self, action: Action, item: WantedModel) -> None:
        key = {"model": item.model, "model_type": item.model_type}
        if action.kind == "delete":
            self._delete(item.model, item.model_type)
            self._forget(item.label, item.credentials)
            return
        if not self.records and action.kind in ("create", "update"):
            if action.broken:
                self._delete(item.model, item.model_type)  # its row may bear the provider's old name, which no update finds
            self._call("POST", "", {**key, "credentials": action.credentials})
        elif action.kind == "create":
            self._create(key, item)
        elif action.kind in ("update", "attach"):
            # A spare credential may hold anything: its secrets are sent whole.
            credentials = action.credentials if action.kind == "update" else item.credentials
            try:
                self._call("PUT", "/credentials", {**key, "credential_id": action.credential_id, "credentials": credentials, "name": action.name})
            except DifyError as error:
                if NO_RECORD not in error.message:
                    raise
                # An instance upgraded from 0.15: the row carries the provider's old name and can only be replaced.
                self._delete(item.model, item.model_type)
                self._create(key, item)
            else:
                if action.switch:
                    self._switch(item, str(action.credential_id))
            self._remove_credentials(item.model, item.model_type, action.remove)
        if action.enable:
            self._call("PATCH", "/enable", key)

    def _create(self, key: dict[str, str], item: WantedModel) -> None:
        try:
            self._call("POST", "/credentials", {**key, "name": self.name, "credentials": item.credentials})
        except DifyError as error:
            if "already exists" not in error.message:
                raise  # else another controller was faster; reading back tells whether it wrote the same

    def _switch(self, item: WantedModel, credential_id: str) -> None:
        try:
            self._call("POST", "/credentials/switch", {"model": item.model, "model_type": item.model_type, "credential_id": credential_id})
        except DifyError as error:
            if "same credential" not in error.message:
                raise  # else another controller chose it meanwhile

    def _call(self, method: str, path: str, body: dict[str, t.Any]) -> t.Any:
        return self.client.workspace(method, self.path + path, json=body)

    def _delete(self, model: str, model_type: str) -> None:
        """Remove a model and every credential row: deleting the model alone leaves them behind."""
        self._call("DELETE", "", {"model": model, "model_type": model_type})
        if self.records:
            self._remove_credentials(model, model_type, [str(item["credential_id"]) for item in self._found(model, model_type).available])

    def _remove_credentials(self, model: str, model_type: str, ids: t.Iterable[str]) -> None:
        for credential_id in ids:
            try:
                self._call("DELETE", "/credentials", {"model": model, "model_type": model_type, "credential_id": credential_id})
            except DifyError as error:
                if NO_RECORD not in error.message:
                    raise  # else somebody else removed it, or it is a row that an upgrade from 0.15 left without an owner

    def _prove(self, touched: list[tuple[str, str]]) -> None:
        """The list once more: what was registered or enabled must be in it, and enabled."""
        self._list()
        for result in self.results:
            key = (result["model"], result["model_type"])
            if key not in touched:
                continue
            entry = self.entries.get(key)
            if entry is None or entry.get("status") == "disabled":
                says = "does not list the model" if entry is None else "still lists it as disabled"
                result.update(verdict="failed", changed=False, reason=f"Dify accepted the call, but {says}")

    def prune(self, wanted: t.Sequence[WantedModel]) -> None:
        """Remove models of ours that are not wanted any more: they carry our credential name, or the host remembers them."""
        keep = {item.key for item in wanted}
        ours = []
        others = [key for key in self.entries if key not in keep]
        if not self.records:
            if not getattr(self.memory, "path", True):
                self.notes.append(f"Dify {self.client.version} keeps no names of credentials; nothing is pruned without state_file, which remembers ours.")
            ours = [key for key in others if self._noted(key)]
        else:
            names = self._names(keep)
            # A Dify upgraded from before 1.8 gave our credentials a name of its own; the note of then is still here.
            ours = [key for key in {*others, *names} if key not in keep and (self._noted(key) or self._is_ours(key, names))]
        for action in plan_prune(ours, wanted):
            start = time.monotonic()
            problem = None
            try:
                if not self.check_mode:
                    self._delete(action.model, action.model_type)
                    self._forget(f"{action.model_type}/{action.model}", (*self.client.capabilities.xinference_fields,))
            except DifyError as error:
                problem = str(error)
            self._verdict(action.model, action.model_type, action, problem, start)

    def _names(self, keep: set[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, ...]]:
        """Credential names by model, models without an attached credential included; one request for all of them."""
        return {key: names for key, names in self.schema().credential_names.items() if key not in keep}

    def _noted(self, key: tuple[str, str]) -> bool:
        return self.memory.get(self._key(f"{key[1]}/{key[0]}")) is not None

    def _is_ours(self, key: tuple[str, str], names: dict[tuple[str, str], tuple[str, ...]]) -> bool:
        if key in names:
            return self.name in names[key]
        return self._found(*key).named(self.name) is not None

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

    def defaults(self, wanted: dict[str, str]) -> list[dict[str, t.Any]]:
        """Set the workspace's default models; returns one verdict per type. Types nobody names are left alone."""
        return self._defaults.bring(wanted, self.provider, self.results, self.difference)


__all__ = ["Memory", "Registrar"]
