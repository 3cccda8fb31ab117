# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Bring the launched models back with no controller: this code, packed into one file on the host, run by systemd.

It launches what the state file of ``xinference_models`` says, with the same client and the same runner as the module.
It never writes that file, and ends nothing: the module decides what should run, the keeper only repeats it.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import sys
import time
import typing as t
import zipfile

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _xinference_plan as planning
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import JsonClient, ServerUnreachable, plain_transport
from ansible_collections.llmops.dify_xinference.plugins.module_utils._wait import WaitTimeout
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference import ABSENT, LOADING, LoginFailed, Xinference, XinferenceError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_files import Launched, UnreadableFile, read_json
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_look import NOTHING_FOUND, gather
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_run import Runner

PACKAGE = "ansible_collections.llmops.dify_xinference.plugins.module_utils"
# Everything that this file imports, directly or not; nothing of Ansible is among it.
PARTS = ("_difference", "_http", "_wait", "_xinference") + tuple(
    "_xinference_" + name for name in ("drift", "files", "keeper", "look", "model", "plan", "run")
)

# Exit statuses. LOGIN must not be tried again soon: ten wrong credentials ban the address for an hour.
OK, FAILURES, UNREACHABLE, LOGIN = 0, 1, 2, 3

START = f"""import sys

from {PACKAGE}._xinference_keeper import main

sys.exit(main(sys.argv[1:]))
"""


# ---- the file ---------------------------------------------------------------------------------------------------


def source_of(name: str) -> str:
    """The source of a module that can be imported here, also when it lies in the zip file of a running Ansible module."""
    spec = importlib.util.find_spec(name)
    source = spec.loader.get_source(name) if spec and spec.loader and hasattr(spec.loader, "get_source") else None
    if source is None:
        raise XinferenceError(f"the source of {name} is not at hand")
    return source.decode("utf-8") if isinstance(source, bytes) else str(source)  # Ansible's own loader returns bytes


def parts() -> dict[str, str]:
    """Path inside the zip file -> text."""
    folders = PACKAGE.split(".")
    files = {"/".join([*folders[: depth + 1], "__init__.py"]): "" for depth in range(len(folders))}
    files.update({"/".join([*folders, name + ".py"]): source_of(f"{PACKAGE}.{name}") for name in PARTS})
    files["__main__.py"] = START
    return files


def packed(files: dict[str, str]) -> bytes:
    """An executable zip file for ``python3 FILE``."""
    buffer = io.BytesIO()
    buffer.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), files[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def unpacked(path: str) -> dict[str, str]:
    """What a file made by :func:`packed` holds; empty when there is none, or when it is something else."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name).decode("utf-8", "replace") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return {}


# ---- running ----------------------------------------------------------------------------------------------------


class ReadOnly(Launched):
    """The state file as the keeper sees it: what is taken away while we work is not launched."""

    def remember(self, uid: str, launch: dict[str, t.Any], keep: bool = True) -> None:
        if self.wanted().get(uid) != launch:
            raise XinferenceError(f"{uid} was changed or taken away in the meantime")

    def mark(self, uid: str, **values: t.Any) -> None:
        pass

    def forget(self, uid: str) -> None:
        pass

    def wanted(self) -> dict[str, dict[str, t.Any]]:
        """uid -> launch request of what is to come back: what is being ended, and what never came up, is not."""
        return {uid: entry["launch"] for uid, entry in self.entries().items() if entry.get("keep", True) and not (entry.get("ending") or entry.get("failed"))}


def say(line: str) -> None:
    """One line for the log, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Keeper:
    """Compares the state file with the server, and launches what is missing.

    :param client: makes a client; called once per login, since credentials may change while we watch.
    :param timeout: seconds that the server may take to answer, and each model to become ready.
    :param say: takes one line for the log.
    """

    def __init__(
        self,
        client: t.Callable[[], Xinference],
        state_file: str,
        timeout: float = 1800,
        concurrency: int = 4,
        say: t.Callable[[str], None] = say,
        clock: t.Callable[[], float] = time.monotonic,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self.make_client = client
        self.client = client()
        self.launched = ReadOnly(state_file)
        self.timeout = timeout
        self.concurrency = concurrency
        self.say = say
        self.clock = clock
        self.sleep = sleep

    def wait_for_server(self) -> bool:
        """Whether the server answers within the timeout."""
        deadline = self.clock() + self.timeout
        told = False
        while True:
            try:
                self.client.auth_required()
                return True
            except ServerUnreachable as problem:
                if self.clock() >= deadline:
                    self.say(f"gave up waiting for the server: {problem}")
                    return False
                if not told:
                    self.say(f"waiting for the server: {problem}")
                    told = True
                self.sleep(3)

    def steps(self, skip: t.Collection[str] = ()) -> list[planning.Step]:
        """One step per model that is not there; raises what the client raises."""
        wanted = {uid: body for uid, body in self.launched.wanted().items() if uid not in skip}
        found = gather(self.client, [], wanted)
        steps = []
        for uid, body in wanted.items():
            state = found.states.get(uid, ABSENT)
            if state in (ABSENT, LOADING):
                action = planning.LAUNCH if state == ABSENT else planning.WAIT
                reason = "not running" if state == ABSENT else "a launch of it is under way"
                steps.append(planning.Step(uid, action, reason, state, body, [], None, None, None, []))
        return steps

    def run_once(self, skip: t.Collection[str] = ()) -> dict[str, str]:
        """Launch what is missing and wait for it; uid -> why it failed, empty for what serves."""
        steps = self.steps(skip)
        if not steps:
            return {}
        self.say("missing: " + ", ".join(f"{step.uid} ({step.reason})" for step in steps))
        runner = Runner(self.client, self.launched, True, self.timeout, self.concurrency, clock=self.clock, sleep=self.sleep)
        outcome = {}
        for row in runner.run(steps, NOTHING_FOUND):
            outcome[row["uid"]] = str(row["reason"]) if row["failed"] else ""
            self.say(f"{row['uid']}: {'failed: ' + row['reason'] if row['failed'] else 'ready'} after {row['seconds']:.0f} s")
        return outcome

    def converge(self) -> int:
        """Until everything serves: an exit status. A cluster whose workers are not back yet is waited for."""
        deadline = self.clock() + self.timeout
        if not self.wait_for_server():
            return UNREACHABLE
        while True:
            outcome = self.run_once()
            failed = {uid: reason for uid, reason in outcome.items() if reason}
            waiting = [reason for reason in failed.values() if "No available worker" in reason or "No available slot" in reason]
            if failed and len(waiting) == len(failed) and self.clock() < deadline:
                self.sleep(5)
                continue
            if not failed:
                self.say("all models that are to run serve")
            return FAILURES if failed else OK

    def watch(self, interval: float, rounds: int | None = None) -> int:
        """Compare every ``interval`` seconds, for ever (``rounds``: tests end it)."""
        pauses: dict[str, tuple[float, float]] = {}  # uid -> (when it may be tried again, pause after the next failure)
        reachable = True
        while rounds is None or rounds > 0:
            rounds = None if rounds is None else rounds - 1
            try:
                now = self.clock()
                outcome = self.run_once([uid for uid, (until, _pause) in pauses.items() if until > now])
                reachable = True
                for uid, reason in outcome.items():
                    pause = pauses.get(uid, (0.0, 60.0))[1]
                    if reason:
                        pauses[uid] = (self.clock() + pause, min(pause * 2, 900.0))
                    else:
                        pauses.pop(uid, None)
            except LoginFailed as problem:
                # The same credentials are not sent again soon; a rotation changes the file, and is noticed here.
                self.say(f"{problem}; next try in 10 minutes")
                self.sleep(600)
                self.client = self.make_client()
            except (ServerUnreachable, XinferenceError, UnreadableFile, WaitTimeout) as problem:
                if reachable:
                    self.say(str(problem))
                reachable = False
            self.sleep(interval)
        return OK


def main(arguments: t.Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Launch the models of the state file that are not running on an Xinference server.")
    parser.add_argument("--state-file", default="/opt/xinference/launched.json")
    parser.add_argument("--url", default="http://127.0.0.1:9997")
    parser.add_argument("--credentials-file", help="as llmops.dify_xinference.xinference_setup writes it; may be missing when the server asks for no login")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds that the server, and each model, may take")
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--watch", type=float, metavar="SECONDS", help="go on comparing, so often, instead of ending when all serve")
    parser.add_argument("--ca-path")
    parser.add_argument("--no-validate-certs", action="store_true")
    given = parser.parse_args(list(arguments))

    def client() -> Xinference:
        admin = (read_json(given.credentials_file).get("admin") or {}) if given.credentials_file else {}
        http = JsonClient(given.url, plain_transport(not given.no_validate_certs, given.ca_path), retries=0)
        return Xinference(http, admin.get("username"), admin.get("password"))

    try:
        if not os.path.exists(given.state_file):
            say(f"{given.state_file} is not there yet: nothing was launched on this host")
        keeper = Keeper(client, given.state_file, given.timeout, given.concurrency, say)
        return keeper.converge() if given.watch is None else keeper.watch(given.watch)
    except LoginFailed as problem:
        say(str(problem))
        return LOGIN
    except ServerUnreachable as problem:
        say(str(problem))
        return UNREACHABLE
    except (XinferenceError, UnreadableFile) as problem:
        say(str(problem))
        return FAILURES


__all__ = ["Keeper", "PARTS", "main", "packed", "parts", "unpacked"]
