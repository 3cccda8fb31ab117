# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Carry out a plan on a server: what can go at once goes at once, one bad model never stops the rest."""

from __future__ import annotations

import concurrent.futures
import time
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _xinference_plan as planning
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
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_look import row_of


class SliceOver(Exception):
    """The time that this call may take is over, and the model is not ready: a later call goes on."""


class Runner:
    """Carries out steps.

    :param wait_timeout: seconds that one model may take to become ready.
    :param concurrency: how many models may be launched at the same time.
    :param replan: makes the step of one uid anew, after somebody else's launch of it has ended.
    :param keep: whether what is launched is to come back by itself after a restart.
    :param share_gpus: launch at the same time also what may meet on a GPU.
    :param slice_seconds: after how long to return with what is pending. A request that only its own answer explains (the
        launch on a server before 1.14) is never cut: then the call takes longer.
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
        share_gpus: bool = False,
        slice_seconds: float | None = None,
    ) -> None:
        self.client = client
        self.launched = launched
        self.wait = wait
        self.wait_timeout = wait_timeout
        self.concurrency = max(1, concurrency)
        self.replan = replan
        self.clock = clock
        self.sleep = sleep
        self.keep = keep
        self.share_gpus = share_gpus
        self._until = None if slice_seconds is None else clock() + slice_seconds
        self._keeps_errors = True
        self._has_autostart = False
        self._sent: dict[str, dict[str, t.Any]] = {}  # uid -> what its row says when it is ready
        self._waited: dict[str, float] = {}
        self._noted: set[str] = set()

    def run(
        self, steps: list[planning.Step], found: planning.Found, earlier: t.Optional[t.Dict[str, t.Dict[str, t.Any]]] = None
    ) -> list[dict[str, t.Any]]:
        """One row per step, in the order of the steps.

        ``earlier``: uid -> pending row of the call that this one goes on from. What that one launched is only waited for.
        """
        rows: dict[int, dict[str, t.Any]] = {}  # by step, not by uid: a uid that is declared twice has two verdicts
        self._has_autostart = found.autostart is not None
        self._noted = {uid for uid, entry in self.launched.entries().items() if entry.get("ending") or entry.get("failed")}
        self._waited = {uid: float(row.get("seconds") or 0) for uid, row in (earlier or {}).items()}
        self._sent = {uid: row["then"] for uid, row in (earlier or {}).items() if row.get("sent")}
        sent_before = set(self._sent)

        def attempt(step: planning.Step, work: t.Callable[[planning.Step], dict[str, t.Any]]) -> bool:
            begun = self.clock()
            if id(step) in rows:
                begun -= rows[id(step)]["seconds"]
            try:
                rows[id(step)] = work(step)
            except SliceOver:
                rows[id(step)] = self._pending(step)
            except (XinferenceError, ServerUnreachable, WaitTimeout) as problem:
                state = LOADING if isinstance(problem, WaitTimeout) else FAILED
                rows[id(step)] = row_of(step, {}, state=state, reason=str(problem), failed=True)
            rows[id(step)]["seconds"] = round(self.clock() - begun, 1)
            return not (rows[id(step)].get("failed") or rows[id(step)].get("pending"))

        for step in steps:
            if step.action in (planning.REFUSE, planning.KEEP, planning.LEAVE) and step.uid not in sent_before:
                if step.action == planning.REFUSE:
                    rows[id(step)] = row_of(step, found.records.get(step.uid, {}), failed=True)
                else:
                    attempt(step, lambda step: self._kept(step, found.records.get(step.uid, {})))
        # First what makes room and frees names, then what takes them.
        ends = [step for step in steps if step.action == planning.REMOVE]
        turns = [step.uid for step in ends if step.state == LOADING] if self._has_autostart else []
        if turns:
            # All wait before the first entry is removed: with the entry goes the sign that a turn is still to come.
            self._together(ends, lambda step: attempt(step, lambda step: self._turns_over(step, turns)))
        if any(rows[id(step)].get("pending") for step in ends if turns):
            rows.update({id(step): self._pending(step) for step in ends})
        else:
            self._together(ends, lambda step: attempt(step, self._remove))
        ways = [step for step in steps if step.action == planning.REPLACE and step.uid not in sent_before]
        self._together(ways, lambda step: attempt(step, self._make_way))
        ready = []
        for step in steps:
            row = rows.get(id(step), {})
            if step.uid in sent_before:
                ready.append(step)
            elif row.get("failed") or row.get("pending") or step.action not in (planning.LAUNCH, planning.REPLACE, planning.SCALE, planning.WAIT):
                continue
            elif not step.registration or attempt(step, self._register):
                ready.append(step)
        launches = [step for step in ready if step.action in (planning.LAUNCH, planning.REPLACE)]
        if launches:
            # An old server does not keep why a launch failed: there the request itself must wait for the answer.
            self._keeps_errors = self.client.replicas(launches[0].uid) is not None
        gpus = self.client.gpu_count() if launches and not self.share_gpus and planning.count_of_gpus_matters(ready) else None
        work = {planning.LAUNCH: self._launch, planning.REPLACE: self._launch, planning.SCALE: self._scale, planning.WAIT: self._await}
        self._together(
            ready,
            lambda step: attempt(step, self._ready if step.uid in sent_before else work[step.action]),
            planning.before(ready, gpus, self.share_gpus),
        )
        return [dict(row, failed=bool(row.get("failed"))) for row in (rows[id(step)] for step in steps)]

    def _together(self, steps: list[planning.Step], work: t.Callable[[planning.Step], t.Any], before: t.Optional[t.List[t.Set[int]]] = None) -> None:
        """As many at once as may be; what has to come after others waits for them without taking a place."""
        waiting = sorted(range(len(steps)), key=lambda number: planning.priority_of(steps[number].body))
        over: set[int] = set()
        running: dict[t.Any, int] = {}
        if not steps:
            return
        with concurrent.futures.ThreadPoolExecutor(max_workers=self.concurrency) as pool:
            while waiting or running:
                for number in [number for number in waiting if not before or before[number] <= over]:
                    if len(running) < self.concurrency:
                        waiting.remove(number)
                        running[pool.submit(work, steps[number])] = number
                for future in concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED).done:
                    over.add(running.pop(future))
                    future.result()

    # ---- a call that ends before its models are ready -----------------------------------------------------------

    def _check_slice(self) -> None:
        if self._until is not None and self.clock() >= self._until:
            raise SliceOver()

    def _pending(self, step: planning.Step) -> dict[str, t.Any]:
        """The row of a model that is not ready yet. ``then``: what its row says when it is; ``trace``: changed even if it fails."""
        sent = self._sent.get(step.uid)
        then = sent or {"action": step.action, "reason": step.reason, "changed": step.changed}
        progress = {}
        if sent or step.action == planning.WAIT:
            try:
                progress = self.client.progress(step.uid)
            except (XinferenceError, ServerUnreachable):
                pass  # only a picture; the verdict comes from elsewhere
        state = LOADING if sent or step.action == planning.WAIT else step.state
        row = row_of(step, {}, state=state, pending=True, sent=bool(sent), then=then, trace=self._left_a_trace(step), progress=progress)
        return dict(row, action=then["action"], changed=then["changed"])

    # ---- one model ------------------------------------------------------------------------------------------

    def _kept(self, step: planning.Step, record: dict[str, t.Any]) -> dict[str, t.Any]:
        if step.registration == "create":  # somebody took it away under the running model
            self._register(step)
        self._keep_in_step(step)
        if step.state == READY and step.uid in self._noted:  # an end that did not come to be, or a failure that is over
            self.launched.mark(step.uid, ending=None, failed=None)
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
            taken = "already registered" in problem.detail or "conflicts with existing model" in problem.detail  # the latter: 0.13
            there = self.client.registration(model_type, spec["model_name"]) if taken else None
            if not planning.contains(there, spec):
                raise
        return row_of(step, {})

    def _turns_over(self, step: planning.Step, uids: list[str]) -> dict[str, t.Any]:
        """After a restart: wait until the server has come to all of these, for it launches them whatever happens to their entries."""
        calm = [0]

        def look() -> int:
            entries = self.client.autostart() or {}
            coming = [uid for uid in uids if planning.turn_to_come(uid, entries) and self.client.look(uid).state == ABSENT]
            calm[0] = 0 if coming else calm[0] + 1
            return calm[0]

        try:
            # Twice in a row: from one turn to the next there is a moment without any.
            self._wait(look, lambda calm: calm > 1, "the server's turn for " + ", ".join(uids), self._left(step.uid), interval=0.5, max_interval=2)
        except WaitTimeout:
            pass  # then it is ended as it is found
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
            self._check_slice()
            # DELETE does not stop a launch. cancel does, but on a ready model it leaves a ghost: only when it is CREATING.
            creating = self.client.instances().get(uid, {}).get("status") == "CREATING"
            if not (creating and self.client.cancel(uid)):
                look = self._wait(lambda: self.client.look(uid), lambda seen: seen.state != LOADING, f"the end of the launch of {uid}", self._left(uid))
        if look.state == READY:
            self.client.terminate(uid)
        self._wait(lambda: self.client.look(uid).state, lambda state: state == ABSENT, f"the end of {uid}", 120)
        return row_of(step, {}, state=ABSENT)

    def _launch(self, step: planning.Step) -> dict[str, t.Any]:
        uid = step.uid
        self._check_slice()
        in_request = self.wait and not self._keeps_errors
        self.launched.remember(uid, step.body, self.keep)
        self._sent[uid] = {"action": step.action, "reason": step.reason, "changed": True}
        for attempt in (1, 2):
            answer = self.client.launch(step.body, wait_ready=in_request, timeout=self.wait_timeout if in_request else 120)
            words = "" if answer is None or answer.ok else words_of(answer)
            # A replica's name is taken although the model is not there: what a wrong cancel leaves. This refusal cleans it up.
            if attempt == 1 and "already in the model list" in words and f"uid: {uid}-" in words:
                continue
            break
        if "already in the model list" in words:
            then = {"action": planning.WAIT, "changed": bool(step.registration), "reason": "launched by somebody else at the same moment"}
            self._sent[uid] = then
            row = self._await(step)
            return row if row.get("failed") else dict(row, **then)
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
        if again.action == planning.REFUSE:
            return row_of(again, look.record, failed=True)
        self._keep_in_step(again)
        return row_of(again, look.record, state=READY, action=planning.WAIT, reason=step.reason + ", and came up")

    def _scale(self, step: planning.Step) -> dict[str, t.Any]:
        wanted = int(step.body["replica"])
        missing = wanted - int(self.client.look(step.uid).record.get("replica") or 0)
        for _count in range(missing):
            self._check_slice()
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

    def _left(self, uid: str) -> float:
        """Seconds that a model still has, after what earlier calls waited for it."""
        return max(self.wait_timeout - self._waited.get(uid, 0.0), 0.0)

    def _wait(self, look: t.Callable[[], t.Any], done: t.Callable[[t.Any], bool], what: str, timeout: float, **pauses: float) -> t.Any:
        def sliced() -> t.Any:
            state = look()
            if not done(state):
                self._check_slice()
            return state

        return wait_for(sliced, done, what, timeout, clock=self.clock, sleep=self._sleep, **pauses)

    def _sleep(self, seconds: float) -> None:
        """Never far beyond the end of this call's time."""
        self.sleep(seconds if self._until is None else min(seconds, max(self._until - self.clock(), 0.1)))

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

        done = (READY, FAILED)
        return t.cast(Look, self._wait(look, lambda seen: seen.state in done, f"model {uid} becoming ready", self._left(uid), interval=0.5, max_interval=2))


__all__ = ["Runner", "SliceOver"]
