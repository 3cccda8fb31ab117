# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Look at a server, and carry out a plan on it: what can go at once goes at once, one bad model never stops the rest."""

from __future__ import annotations

import concurrent.futures
import time
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _xinference_plan as planning
from ansible_collections.llmops.dify_xinference.plugins.module_utils._difference import Difference
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import ServerUnreachable
from ansible_collections.llmops.dify_xinference.plugins.module_utils._wait import WaitTimeout, wait_for
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference import (
    ABSENT,
    FAILED,
    LOADING,
    READY,
    Look,
    Xinference,
    XinferenceError,
    words_of,
)
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_files import Launched

NOTHING_FOUND = planning.Found({}, {}, {}, {}, None, False)


def gather(
    client: Xinference, wanted: list[dict[str, t.Any]], remembered: t.Collection[str] = (), kept: t.Optional[t.Dict[str, bool]] = None
) -> planning.Found:
    """Everything a plan needs: three requests, and one more for each model that does not run or declares a registration.

    ``remembered``: uids that are not declared but may have to go.
    """
    records = client.models()
    states = dict.fromkeys(records, READY)
    failures: dict[str, str] = {}
    declared = [model for model in wanted if not planning.problem_with(model)]
    missing = sorted({model["uid"] for model in declared} | set(remembered))
    missing = [uid for uid in missing if uid not in records]
    autostart = client.autostart()
    if missing:
        instances = client.instances()
        for uid in missing:
            look = client.look(uid)
            status = str(instances.get(uid, {}).get("status") or "")
            states[uid] = look.state
            if look.state == READY:  # it became ready since the list was made
                records[uid] = look.record
            elif look.state == ABSENT and (status == "CREATING" or planning.is_queued(uid, autostart or {})):
                states[uid] = LOADING
            elif look.state == ABSENT and status == "ERROR":
                failures[uid] = client.failure_of(uid) or "the server does not say why"
    registrations: dict[tuple[str, str], dict[str, t.Any] | None] = {}
    for model in declared:
        if model.get("register") and model.get("state") != "absent":
            key = (str(planning.type_of(model.get("type") or "LLM")), planning.name_of(model))
            if key not in registrations:
                registrations[key] = client.registration(*key)
    can_scale = False
    for model in declared:
        record = records.get(model["uid"], {})
        if model.get("replica") and record.get("replica") and model["replica"] != record["replica"]:
            can_scale = client.replicas(model["uid"]) is not None
            break
    return planning.Found(states, records, failures, registrations, autostart, can_scale, kept)


def difference_of(steps: list[planning.Step], found: planning.Found) -> Difference:
    """What the plan changes, for ``diff``; environment variables and other secrets are hidden."""
    difference = Difference()
    for step in steps:
        if step.action == planning.LAUNCH:
            shown = {key: "(hidden)" if planning.is_secret(key) else value for key, value in step.body.items() if key != "model_uid"}
            difference.add(step.uid, shown, None)
        elif step.action == planning.REMOVE:
            record = found.records.get(step.uid, {})
            shown = {key: record[key] for key in planning.VISIBLE if record.get(key) is not None}
            difference.add(step.uid, None, shown or step.state)
        elif step.action in (planning.REPLACE, planning.SCALE):
            for key, wanted, there in step.drift:
                difference.add(f"{step.uid}.{key}", wanted, there, secret=planning.is_secret(key))
        if step.registration:
            difference.add(f"{step.uid}.registration", "as declared", None if step.registration == "create" else "differs")
        if step.autostart:
            there = None if not planning.comes_back(step.uid, found) else "differs" if step.autostart == "set" else "there"
            difference.add(f"{step.uid}.autostart", "as launched" if step.autostart == "set" else None, there)
    return difference


def row_of(step: planning.Step, record: dict[str, t.Any], **values: t.Any) -> dict[str, t.Any]:
    """One model's result; the same keys for every model and for xinference_info."""
    row: dict[str, t.Any] = {
        "uid": step.uid,
        "type": record.get("model_type") or step.body.get("model_type") or "",
        "name": record.get("model_name") or step.body.get("model_name") or "",
        "action": step.action,
        "changed": step.changed,
        "state": step.state,
        "reason": step.reason,
        "seconds": 0.0,
        "differs": [name for name, _wanted, _found in step.drift],
    }
    row.update(shown_of(record))
    row.update(values)
    return row


def shown_of(record: dict[str, t.Any]) -> dict[str, t.Any]:
    """What callers use of the server's description of a running model."""
    return {
        "address": record.get("address") or "",
        "accelerators": list(record.get("accelerators") or []),
        "abilities": list(record.get("model_ability") or []),
        "engine": record.get("model_engine") or "",
        "replica": int(record.get("replica") or 0),
        "context_length": record.get("context_length") or record.get("max_tokens") or 0,
        "dimensions": record.get("dimensions") or 0,
    }


def predicted(steps: list[planning.Step], found: planning.Found) -> list[dict[str, t.Any]]:
    """The rows of check mode: what would be done, and what it would lead to if the server agrees."""
    rows = []
    for step in steps:
        state = step.state
        if step.action in (planning.LAUNCH, planning.REPLACE, planning.WAIT):
            state = READY
        elif step.action == planning.REMOVE:
            state = ABSENT
        rows.append(row_of(step, found.records.get(step.uid, {}), state=state))
    return rows


class Runner:
    """Carries out steps.

    :param wait_timeout: seconds that one model may take to become ready.
    :param concurrency: how many models may be launched at the same time.
    :param replan: makes the step of one uid anew, after somebody else's launch of it has ended.
    """

    def __init__(
        self,
        client: Xinference,
        launched: Launched,
        wait: bool = True,
        wait_timeout: float = 1800,
        concurrency: int = 4,
        replan: t.Callable[[str], planning.Step] | None = None,
        clock: t.Callable[[], float] = time.monotonic,
        sleep: t.Callable[[float], None] = time.sleep,
        keep: bool = True,
    ) -> None:
        self.client = client
        self.launched = launched
        self.wait = wait
        self.wait_timeout = wait_timeout
        self.concurrency = concurrency
        self.replan = replan
        self.clock = clock
        self.sleep = sleep
        self.keep = keep
        self._keeps_errors = True
        self._has_autostart = False

    def run(self, steps: list[planning.Step], found: planning.Found) -> list[dict[str, t.Any]]:
        """One row per step, in the order of the steps."""
        rows: dict[int, dict[str, t.Any]] = {}  # by step, not by uid: a uid that is declared twice has two verdicts
        started = self.clock()
        self._has_autostart = found.autostart is not None

        def attempt(step: planning.Step, work: t.Callable[[planning.Step], dict[str, t.Any]]) -> bool:
            begun = self.clock()
            try:
                rows[id(step)] = work(step)
            except (XinferenceError, ServerUnreachable, WaitTimeout) as problem:
                state = LOADING if isinstance(problem, WaitTimeout) else FAILED
                rows[id(step)] = row_of(step, {}, state=state, reason=str(problem), failed=True)
            rows[id(step)]["seconds"] = round(self.clock() - begun, 1)
            return not rows[id(step)].get("failed")

        for step in steps:
            if step.action in (planning.REFUSE, planning.KEEP, planning.LEAVE):
                if step.action == planning.REFUSE:
                    rows[id(step)] = row_of(step, {}, failed=True)
                else:
                    attempt(step, lambda step: self._kept(step, found.records.get(step.uid, {})))
        # First what makes room and frees names, then what takes them.
        self._together([[step] for step in steps if step.action == planning.REMOVE], lambda step: attempt(step, self._remove))
        self._together([[step] for step in steps if step.action == planning.REPLACE], lambda step: attempt(step, self._make_way))
        ready = []
        for step in steps:
            if rows.get(id(step), {}).get("failed") or step.action not in (planning.LAUNCH, planning.REPLACE, planning.SCALE, planning.WAIT):
                continue
            if not step.registration or attempt(step, self._register):
                ready.append(step)
        launches = [step for step in ready if step.action in (planning.LAUNCH, planning.REPLACE)]
        if launches:
            # An old server does not keep why a launch failed: there the request itself must wait for the answer.
            self._keeps_errors = self.client.replicas(launches[0].uid) is not None
        work = {planning.LAUNCH: self._launch, planning.REPLACE: self._launch, planning.SCALE: self._scale, planning.WAIT: self._await}
        self._together(planning.lanes(ready), lambda step: attempt(step, work[step.action]))
        self.seconds = self.clock() - started
        return [dict(row, failed=bool(row.get("failed"))) for row in (rows[id(step)] for step in steps)]

    def _together(self, groups: list[list[planning.Step]], work: t.Callable[[planning.Step], t.Any]) -> None:
        def walk(group: list[planning.Step]) -> None:
            for step in group:
                work(step)

        if not groups:
            return
        with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, self.concurrency)) as pool:
            for future in [pool.submit(walk, group) for group in groups]:
                future.result()

    # ---- one model ------------------------------------------------------------------------------------------

    def _kept(self, step: planning.Step, record: dict[str, t.Any]) -> dict[str, t.Any]:
        if step.registration == "create":  # somebody took it away under the running model
            self._register(step)
        self._keep_in_step(step)
        if not step.body and step.state == ABSENT:
            self.launched.forget(step.uid)
        reason = step.reason + ("; its autostart entry is written" if step.autostart == "set" else "")
        return row_of(step, record, reason=reason)

    def _keep_in_step(self, step: planning.Step) -> None:
        """The autostart entry follows what runs; only a model that became ready gets one."""
        if step.autostart == "set":
            if self._has_autostart:
                self.client.autostart_set(step.body, planning.priority_of(step.body))
            self.launched.remember(step.uid, step.body, self.keep)
        elif step.autostart == "unset":
            self._unset(step.uid)

    def _unset(self, uid: str) -> None:
        """Neither the server nor the keeper launches it again."""
        if self._has_autostart:
            self.client.autostart_unset(uid)
        self.launched.mark(uid, keep=False)

    def _register(self, step: planning.Step) -> dict[str, t.Any]:
        spec = dict(step.spec or {}, model_name=step.body["model_name"])
        model_type = step.body["model_type"]
        if step.registration == "replace":
            self.client.unregister(model_type, spec["model_name"])
        try:
            self.client.register(model_type, spec)
        except XinferenceError as problem:
            # Two models may share one registration, and two controllers may work at once.
            there = self.client.registration(model_type, spec["model_name"]) if "already registered" in problem.detail else None
            if not planning.contains(there, spec):
                raise
        return row_of(step, {})

    def _remove(self, step: planning.Step) -> dict[str, t.Any]:
        if step.autostart == "unset":
            self._unset(step.uid)
        self._end(step)
        self.launched.forget(step.uid)
        return row_of(step, {}, state=ABSENT)

    def _make_way(self, step: planning.Step) -> dict[str, t.Any]:
        """End a model that is launched anew; its old autostart entry first, or the server might launch the old one again."""
        if step.autostart == "set" and self._has_autostart:
            self.client.autostart_unset(step.uid)
        return self._end(step)

    def _end(self, step: planning.Step) -> dict[str, t.Any]:
        uid = step.uid
        self.launched.mark(uid, ending=True)  # the keeper must not launch it again meanwhile
        look = self.client.look(uid)
        if look.state == LOADING:
            # DELETE does not stop a launch. cancel does, but on a ready model it leaves a ghost: only when it is CREATING.
            creating = self.client.instances().get(uid, {}).get("status") == "CREATING"
            if not (creating and self.client.cancel(uid)):
                look = wait_for(
                    lambda: self.client.look(uid), lambda seen: seen.state != LOADING, f"the end of the launch of {uid}", self.wait_timeout, **self._clockwork()
                )
        if look.state == READY:
            self.client.terminate(uid)
        wait_for(lambda: self.client.look(uid).state, lambda state: state == ABSENT, f"the end of {uid}", 120, **self._clockwork())
        return row_of(step, {}, state=ABSENT)

    def _launch(self, step: planning.Step) -> dict[str, t.Any]:
        uid = step.uid
        in_request = self.wait and not self._keeps_errors
        self.launched.remember(uid, step.body, self.keep)
        for attempt in (1, 2):
            answer = self.client.launch(step.body, wait_ready=in_request, timeout=self.wait_timeout if in_request else 120)
            words = "" if answer is None or answer.ok else words_of(answer)
            # A replica's name is taken although the model is not there: what a wrong cancel leaves. This refusal cleans it up.
            if attempt == 1 and "already in the model list" in words and f"uid: {uid}-" in words:
                continue
            break
        if "already in the model list" in words:
            row = self._await(step)
            return dict(row, action=planning.WAIT, changed=bool(step.registration), reason="launched by somebody else at the same moment")
        if words:
            self.launched.mark(uid, failed=words)
            return row_of(step, {}, state=FAILED, reason=words, failed=True, changed=self._left_a_trace(step))
        if not self.wait:
            return row_of(step, {}, state=LOADING, reason=step.reason + "; not waited for")
        return self._ready(step)

    @staticmethod
    def _left_a_trace(step: planning.Step) -> bool:
        """Whether a launch that failed changed something all the same: an old model ended, a registration written."""
        return step.action == planning.REPLACE or bool(step.registration)

    def _ready(self, step: planning.Step) -> dict[str, t.Any]:
        look = self._until_ready(step.uid)
        if look.state != READY:
            self.launched.mark(step.uid, failed=look.detail)
            return row_of(step, {}, state=FAILED, reason=look.detail, failed=True, changed=self._left_a_trace(step))
        self._keep_in_step(step)
        return row_of(step, look.record, state=READY)

    def _await(self, step: planning.Step) -> dict[str, t.Any]:
        if not self.wait:
            return row_of(step, {}, state=LOADING, reason=step.reason + "; not waited for", changed=False)
        look = self._until_ready(step.uid, may_be_queued=True)
        if look.state != READY:
            return row_of(step, {}, state=FAILED, reason=look.detail, failed=True, changed=False)
        again = self.replan(step.uid) if self.replan and step.action == planning.WAIT else step
        if again.action == planning.REPLACE:
            self._make_way(again)
            if again.registration:
                self._register(again)
            return self._launch(again)
        if again.action == planning.SCALE:
            return self._scale(again)
        self._keep_in_step(again)
        return row_of(again, look.record, state=READY, action=planning.WAIT, reason=step.reason + ", and came up")

    def _scale(self, step: planning.Step) -> dict[str, t.Any]:
        wanted = int(step.body["replica"])
        missing = wanted - int(self.client.look(step.uid).record.get("replica") or 0)
        for _count in range(missing):
            self.client.scale_up(step.uid, self.wait_timeout)
        if missing < 0:
            # Ids are not renumbered when one goes; the newest go first.
            ids = sorted((int(entry["replica_id"]) for entry in self.client.replicas(step.uid) or []), reverse=True)
            for replica_id in ids[:-missing]:
                self.client.scale_down(step.uid, replica_id)
        self._keep_in_step(step)
        self.launched.remember(step.uid, step.body, self.keep)
        return row_of(step, self.client.look(step.uid).record, state=READY)

    # ---- waiting --------------------------------------------------------------------------------------------

    def _clockwork(self) -> dict[str, t.Any]:
        return {"clock": self.clock, "sleep": self.sleep}

    def _until_ready(self, uid: str, may_be_queued: bool = False) -> Look:
        """READY, or FAILED with the server's reason; raises WaitTimeout. The server may vanish and come back meanwhile."""
        gone = [0]

        def look() -> Look:
            try:
                seen = self.client.look(uid)
            except ServerUnreachable as problem:
                return Look(LOADING, {}, str(problem))
            if seen.state != ABSENT:
                gone[0] = 0
                return seen
            gone[0] += 1
            # Twice in a row: between the answer to a launch and its first trace there may be a gap.
            if gone[0] < 2 or self.client.instances().get(uid, {}).get("status") == "CREATING":
                return Look(LOADING, {}, seen.detail)
            if may_be_queued and planning.is_queued(uid, self.client.autostart() or {}):
                return Look(LOADING, {}, "the server has not come to it yet")
            return Look(FAILED, {}, self.client.failure_of(uid) or "the server gave up on it and does not say why; see its log")

        return wait_for(
            look,
            lambda seen: seen.state in (READY, FAILED),
            f"model {uid} becoming ready",
            self.wait_timeout,
            interval=0.5,
            max_interval=3,
            **self._clockwork(),
        )


__all__ = ["NOTHING_FOUND", "Runner", "difference_of", "gather", "predicted", "row_of", "shown_of"]
