"""Plays that are killed somewhere during the first installation, and the run after them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.fleet import Fleet
from tests.fleet.checks.playbook import ROOT
from tests.fleet.dify.conftest import SITE, WIPE, secrets
from tests.fleet.suite import LOGS, Play

KILLS = int(os.environ.get("FLEET_DIFY_KILLS", "10"))
SEED = int(os.environ.get("FLEET_DIFY_SEED", "20260101"))


def kill_after(fleet: Fleet, seconds: float, host: str, log: Path) -> str:
    """Start a run, end it without a word after ``seconds``, and return the task that it was at."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    environment.update(ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), ANSIBLE_INJECT_FACT_VARS="false", ANSIBLE_NOCOLOR="1")
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(fleet.inventory), *SITE, host]
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    tasks = [line for line in log.read_text().splitlines() if line.startswith("TASK [")]
    return tasks[-1].strip("* ") if tasks else "before the first task"


def test_killed_installations_converge_with_the_same_secrets(fleet: Fleet, play: Play, docker: None) -> None:
    chance = random.Random(SEED)
    fleet.ssh("dify2", WIPE, check=True, timeout=300)
    first: dict[str, str] = {}
    for number in range(KILLS):
        seconds = chance.uniform(6, 50)
        task = kill_after(fleet, seconds, "dify2", LOGS / "dify" / f"kill-{number:02d}.log")
        # What was made once stays, whatever is killed later.
        found = secrets(fleet, "dify2")
        print(f"killed after {seconds:4.1f} s at: {task}; {len(found)} secrets")
        assert all(found.get(name) == value for name, value in first.items())
        first = found or first
        if number % 4 == 3:
            # From the start again: later kills would only find a finished stack.
            fleet.ssh("dify2", WIPE, check=True, timeout=300)
            first = {}
        time.sleep(1)
    run = play(*SITE, "dify2")
    assert run.rc == 0, run.messages("dify2")
    found = secrets(fleet, "dify2")
    assert found and all(found.get(name) == value for name, value in first.items())
    again = play(*SITE, "dify2")
    assert again.rc == 0 and again.recap["dify2"].changed == 0, again.text[-3000:]
