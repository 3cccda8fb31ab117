# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Default models of a workspace: look, set, read back; one verdict per type.

Asking for a default makes Dify choose and store one where there is none, and registering the first model of a type does the
same. So what was there before is looked at before anything is changed, and the report tells who chose.
"""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._difference import Difference
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify import FATAL_CODES, DifyClient, DifyError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_plan import plan_defaults

Default = t.Optional[t.Dict[str, str]]


class Defaults:
    """:param types: those whose default will be asked for; to be set before anything is changed."""

    def __init__(self, client: DifyClient, check_mode: bool, types: t.Sequence[str] = ()) -> None:
        self.client = client
        self.check_mode = check_mode
        self.types = list(types)
        # As they were before anything was done.
        self._early: dict[str, Default] = {}

    def look_at_first(self) -> None:
        """Ask for the first type now: its answer is needed anyway, and brings Dify's version."""
        for model_type in self.types[:1]:
            self._early[model_type] = self.client.default_model(model_type)

    def look_before_changes(self) -> None:
        for model_type in self.types:
            if model_type not in self._early:
                with contextlib.suppress(DifyError):  # whoever sets the default will say so
                    self._early[model_type] = self.client.default_model(model_type)

    def bring(self, wanted: dict[str, str], provider: str, models: t.Sequence[dict[str, t.Any]], difference: Difference) -> list[dict[str, t.Any]]:
        """Set the defaults of ``provider`` that are another one. ``models``: the verdicts on its models; what changes goes to ``difference``."""
        failed = {(item["model"], item["model_type"]) for item in models if item["verdict"] == "failed"}
        found, problems = self._look(wanted, any(item["changed"] for item in models))
        to_set = plan_defaults({kind: model for kind, model in wanted.items() if kind not in problems}, found, provider)
        results = []
        for model_type, model in wanted.items():
            shown = self._early.get(model_type, found.get(model_type)) or {}
            problem, reason = problems.get(model_type), ""
            chosen = not problem and model_type not in to_set and shown != found.get(model_type)
            if chosen:
                reason = "there was none, and Dify chose it when the model was there"
                difference.add(f"default/{model_type}", model, shown.get("model"))
            elif model_type in to_set:
                reason = "was another one" if shown else "there was none"
                if (model, model_type) in failed:
                    problem = "the model itself could not be registered"
                elif not self.check_mode:
                    problem = self._set(model_type, model, provider)
                if not problem:
                    before = shown.get("model")
                    difference.add(f"default/{model_type}", model, before if before != model else f"{model} of {shown.get('provider')}")
            results.append(
                {
                    "model_type": model_type,
                    "model": model,
                    "before": shown.get("model"),
                    "changed": chosen or (model_type in to_set and not problem),
                    "verdict": "failed" if problem else "ok",
                    "reason": problem or reason,
                }
            )
        return results

    def _look(self, wanted: t.Iterable[str], changed: bool) -> tuple[dict[str, Default], dict[str, str]]:
        """The defaults as they are now, and why one could not be read. What was seen before counts while nothing was changed.

        Asking first also creates the right row where the first write of a type would go astray (<= 1.13.3).
        """
        found: dict[str, Default] = {}
        problems: dict[str, str] = {}
        for model_type in wanted:
            try:
                early = model_type in self._early and not changed
                found[model_type] = self._early[model_type] if early else self.client.default_model(model_type)
            except DifyError as error:
                if error.code in FATAL_CODES:
                    raise
                problems[model_type] = str(error)
        return found, problems

    def _set(self, model_type: str, model: str, provider: str) -> str | None:
        body = {"model_settings": [{"model_type": model_type, "provider": provider, "model": model}]}
        tries = 2 if self.client.capabilities.default_model_first_write_bug else 1
        shown = None
        try:
            for _unused in range(tries):
                self.client.workspace("POST", "/default-model", json=body)
                shown = self.client.default_model(model_type)
                if shown == {"provider": provider, "model": model}:
                    return None
        except DifyError as error:
            if error.status == 400 and "does not exist" in error.message:
                return f"no {model_type} model {model} is registered in Dify; register it, or name another default"
            return str(error)
        # 0.6 answers success for a model that it does not have.
        return f"Dify accepted the call, but still shows {(shown or {}).get('model')}; is {model} registered there?"


__all__ = ["Defaults"]
