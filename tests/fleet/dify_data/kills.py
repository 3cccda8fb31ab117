"""Kills: a play with all it started on the controller, at a moment; and a module's process on a host, in the middle of its work."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.fleet import Fleet
from tests.fleet.checks.playbook import ROOT
from tests.fleet.dify_data import data

# Runs on the host as root: waits for the Nth process that holds the lock of backups, restores and upgrades, and kills that one alone.
# A watcher that it forked holds the lock as well, and lives on: that is what it is for.
ON_THE_HOST = """
import os, re, signal, sys, time
wanted, delay, until, seen = int(sys.argv[1]), float(sys.argv[2]), time.monotonic() + 400, []

def parent(pid):
    return open(f'/proc/{pid}/stat').read().rsplit(')', 1)[1].split()[1]

def holders():
    found = []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            if any(os.readlink(f'/proc/{pid}/fd/{fd}') == '/run/llmops-dify.lock' for fd in os.listdir(f'/proc/{pid}/fd')):
                found.append(pid)
        except OSError:
            pass
    return [pid for pid in found if parent(pid) not in found]

def busy(pid):
    names = []
    for child in filter(str.isdigit, os.listdir('/proc')):
        try:
            if parent(child) == pid:
                words = open(f'/proc/{child}/cmdline').read().split(chr(0))
                tail = [word for word in words if not re.match('(/|-|[0-9a-f]{64})', word)]
                names.append(' '.join(tail)[:60])
        except OSError:
            pass
    return '; '.join(sorted(set(filter(None, names)))) or 'itself'

while time.monotonic() < until:
    for pid in holders():
        if pid not in seen:
            seen.append(pid)
        if len(seen) == wanted:
            time.sleep(delay)
            try:
                doing = busy(pid)
                os.kill(int(pid), signal.SIGKILL)
                print(f'killed in: {doing}')
            except (ProcessLookupError, FileNotFoundError):
                print('ended before')
            sys.exit()
    time.sleep(0.05)
print('nothing to kill')
"""


class Kill(NamedTuple):
    """``task``: what the play was at, empty when it ended before."""

    task: str
    seconds: float


def _tree(pid: int) -> list[int]:
    """A process and all that descend from it: the controller's workers have sessions of their own."""
    parents: dict[int, int] = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(entry)] = int(Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError):
            continue
    found, new = [pid], [pid]
    while new:
        new = [child for child, parent in parents.items() if parent in new and child not in found]
        found += new
    return found


def kill_play(fleet: Fleet, log: Path, seconds: float, *arguments: str) -> Kill:
    """Start a playbook and kill it with everything it started here after so many seconds."""
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(fleet.inventory), *arguments]
    # Otherwise a task's name is printed with its first result, which a task that was killed has not.
    environment = {**os.environ, "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "true"}
    begun = time.monotonic()
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            process.wait(seconds)
            return Kill("", time.monotonic() - begun)
        except subprocess.TimeoutExpired:
            for pid in _tree(process.pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            process.wait()
    tasks = re.findall(r"^TASK \[(.*?)\] \**$", log.read_text(), re.M)
    return Kill(tasks[-1] if tasks else "before the first task", time.monotonic() - begun)


@contextmanager
def kill_on_host(fleet: Fleet, host: str, number: int, delay: float) -> Iterator[list[str]]:
    """Kill the process of the ``number``-th module that works on Dify's data, ``delay`` seconds after it began. Yields what was hit."""
    said: list[str] = []

    def watch() -> None:
        command = [*fleet.ssh_command(host), f"sudo python3 -c '{ON_THE_HOST.replace(chr(39), chr(34))}' {number} {delay}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=450, check=False)
        said.append((done.stdout or done.stderr).strip())

    watcher = threading.Thread(target=watch)
    watcher.start()
    time.sleep(1)
    yield said
    watcher.join()


def go_back(fleet: Fleet, host: str, old: str, new: str, key: str) -> float:
    """Bring the old version back from the backup that the last upgrade made, by the module that does so after a failure. Returns seconds."""
    state = {"from": old, "to": new, "backup": data.newest_backup(fleet, host), "phase": "switching", "vector_store": "weaviate"}
    fleet.ssh(host, f"echo '{json.dumps(state)}' | sudo tee /opt/dify/.upgrade.json", check=True)
    arguments = json.dumps({"step": "roll_back", "home": "/opt/dify", "version": new, "key": key})
    program = str(Path(sys.executable).with_name("ansible"))
    command = [program, host, "-i", str(fleet.inventory), "-b", "-m", "llmops.dify_xinference.dify_upgrade", "-a", arguments]
    begun = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return time.monotonic() - begun
