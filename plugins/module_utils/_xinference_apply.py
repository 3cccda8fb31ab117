# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""What the module ``xinference_models`` does: look, plan, carry out, in one call or in several that follow each other.

A call may be given a time slice. It then returns what is pending, and the next call, which is given that result, goes on
with the pending models only. What comes out at the end is what one call would have returned.
"""

from __future__ import annotations

import time
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _xinference_plan as planning
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import ServerUnreachable
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference import FAILED, LOADING, READY, Xinference, XinferenceError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_files import Launched
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_look import NOTHING_FOUND, difference_of, gather, predicted
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_model import needs_version, placement_warning, problem_on
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_run import Runner

Rows = t.List[t.Dict[str, t.Any]]
# What only calls that follow each other need to know of a row.
NOTES = ("pending", "sent", "then", "trace", "progress")


def merged(earlier: dict[str, t.Any], now: dict[str, t.Any]) -> dict[str, t.Any]:
    """The row of a model that was pending, after the next call."""
    row = dict(now, seconds=round(float(earlier.get("seconds") or 0) + float(now.get("seconds") or 0), 1))
    row["differs"] = earlier.get("differs") or now.get("differs") or []
    then = earlier["then"]
    half_done = then["action"] in (planning.REMOVE, planning.SCALE) or (then["action"] == planning.REPLACE and now["action"] == planning.LAUNCH)
    if not (earlier.get("sent") or half_done):
        return row  # nothing had been done for it yet
    row["action"] = then["action"]
    if now.get("pending"):
        row.update(then=then, trace=earlier.get("trace") or half_done, sent=earlier.get("sent") or now.get("sent"), changed=then["changed"])
    elif now.get("failed"):
        still_loading = now.get("state") == LOADING
        row["changed"] = bool(then["changed"] if still_loading or half_done else earlier.get("trace"))
    else:
        row.update(reason=then["reason"], changed=then["changed"])
    return row


def left_to_do(models: Rows, rows: Rows) -> Rows:
    """The declarations of what is pending; what is to be pruned has none, and becomes one."""
    declared: dict[str, dict[str, t.Any]] = {}
    for model in models:
        declared.setdefault(model["uid"], model)
    return [declared.get(row["uid"], {"uid": row["uid"], "state": "absent"}) for row in rows if row.get("pending")]


def going_on(steps: list[planning.Step], earlier: dict[str, dict[str, t.Any]]) -> list[planning.Step]:
    """A plan that launches nothing a second time: what an earlier call launched, or somebody else, is waited for."""
    result = []
    for step in steps:
        row = earlier[step.uid]
        if step.body and step.action != planning.REFUSE and (row.get("sent") or row["then"]["action"] == planning.WAIT):
            step = step._replace(action=planning.WAIT, reason=row["then"]["reason"])
        result.append(step)
    return result


class Outcome(t.NamedTuple):
    """``rows``: one per declared and per pruned model. ``warnings``: what the user should read, once."""

    rows: Rows
    diff: t.Dict[str, t.Any]
    autostart: bool
    reachable: bool
    warnings: t.List[str]

    @property
    def pending(self) -> list[str]:
        return [row["uid"] for row in self.rows if row.get("pending")]


class Converge:
    """One call. ``options``: ``replace``, ``prune``, ``autostart``, ``wait``, ``wait_timeout``, ``concurrency``, ``share_gpus``."""

    def __init__(
        self,
        client: Xinference,
        launched: Launched,
        models: Rows,
        options: dict[str, t.Any],
        clock: t.Callable[[], float] = time.monotonic,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self.client = client
        self.launched = launched
        self.models = models
        self.options = options
        self.clock = clock
        self.sleep = sleep
        self._version: str | None = None  # of the server; not asked yet

    def look(self, models: Rows, candidates: t.Collection[str] = ()) -> planning.Found:
        return gather(self.client, models, candidates, self.launched.kept())

    def plan(self, models: Rows, found: planning.Found, prune: str = "none") -> list[planning.Step]:
        steps = planning.plan(models, found, self.launched.load(), self.options["replace"], prune, self.options["autostart"])
        return steps if found is NOTHING_FOUND else self._launchable(steps)

    def _launchable(self, steps: list[planning.Step]) -> list[planning.Step]:
        """Refuse what this server is too old for, before the model that runs is ended for it."""
        doubtful = [step for step in steps if step.action in (planning.LAUNCH, planning.REPLACE) and needs_version(step.body)]
        if doubtful and self._version is None:
            try:
                self._version = self.client.version()
            except XinferenceError:
                self._version = ""  # then the launch itself tells
        result = []
        for step in steps:
            problem = problem_on(step.body, self._version or "") if step in doubtful else ""
            if problem:
                state = READY if step.state == READY else FAILED
                step = step._replace(action=planning.REFUSE, reason=problem, state=state, registration=None, autostart=None)
            result.append(step)
        return result

    def predict(self) -> Outcome:
        """Check mode: questions only. A server that does not answer counts as one without models."""
        try:
            found, reachable, warnings = self.look(self.models, self._candidates()), True, []
        except ServerUnreachable as problem:
            found, reachable, warnings = NOTHING_FOUND, False, [f"{problem}; planned as if it were up and had no models"]
        steps = self.plan(self.models, found, self.options["prune"])
        rows = [dict(row, failed=row["action"] == planning.REFUSE) for row in predicted(steps, found)]
        if reachable:
            warnings += self._warnings(steps)
        return Outcome(rows, difference_of(steps, found).diff(), found.autostart is not None, reachable, warnings)

    def carry_out(self, slice_seconds: float | None = None) -> Outcome:
        found = self.look(self.models, self._candidates())
        steps = self.plan(self.models, found, self.options["prune"])
        warnings = self._warnings(steps)
        rows = self._runner(self.models, slice_seconds).run(steps, found)
        return Outcome(rows, difference_of(steps, found).diff(), found.autostart is not None, True, warnings)

    def go_on(self, before: dict[str, t.Any], slice_seconds: float) -> Outcome:
        """The next call. ``before``: what the module returned from the one before it."""
        started = self.clock()
        passed = max(started - float(before.get("at") or started), 0.0)  # since the call before this one; one clock for a host
        earlier_rows: Rows = [dict(row, seconds=round(row["seconds"] + passed, 1)) if row.get("pending") else row for row in before["models"]]
        earlier = {row["uid"]: row for row in earlier_rows if row.get("pending")}
        models = left_to_do(self.models, earlier_rows)
        try:
            found = self.look(models)
        except ServerUnreachable:
            # It may be restarting; a single call would have gone on looking, too.
            if all(float(row.get("seconds") or 0) >= float(self.options["wait_timeout"]) for row in earlier.values()):
                raise
            self.sleep(min(slice_seconds, 5.0))
            lost = self.clock() - started
            rows = [dict(row, seconds=round(row["seconds"] + lost, 1)) if row.get("pending") else row for row in earlier_rows]
            return Outcome(rows, before.get("diff") or {}, bool(before.get("autostart")), True, [])
        steps = going_on(self.plan(models, found), earlier)
        rows_now = iter(self._runner(models, slice_seconds).run(steps, found, earlier))
        rows = [merged(row, next(rows_now)) if row.get("pending") else row for row in earlier_rows]
        diff_now, diff_before = difference_of(steps, found).diff(), before.get("diff") or {}
        diff = {side: dict(diff_now[side], **diff_before.get(side, {})) for side in ("before", "after")}
        return Outcome(rows, diff, found.autostart is not None, True, [])

    def _candidates(self) -> t.Collection[str]:
        return self.launched.load() if self.options["prune"] != "none" else ()

    def _runner(self, models: Rows, slice_seconds: float | None) -> Runner:
        def replan(uid: str) -> planning.Step:
            again = [model for model in models if model["uid"] == uid]
            return self.plan(again, self.look(again))[0]

        options = self.options
        return Runner(
            self.client,
            self.launched,
            options["wait"],
            options["wait_timeout"],
            options["concurrency"],
            replan,
            self.clock,
            self.sleep,
            options["autostart"],
            options["share_gpus"],
            slice_seconds,
        )

    def _warnings(self, steps: list[planning.Step]) -> list[str]:
        warnings = [warning for step in steps for warning in step.warnings]
        placed = [step.body for step in steps if step.body.get("worker_ip") and step.action in (planning.LAUNCH, planning.REPLACE)]
        if placed:
            nodes = self.client.nodes() or []
            workers = [node["address"] for node in nodes if node["role"] == "worker"]
            warnings += [warning for warning in (placement_warning(body, workers) for body in placed) if warning]
        return warnings


__all__ = ["Converge", "NOTES", "Outcome", "going_on", "left_to_do", "merged"]
