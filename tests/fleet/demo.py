"""`make demo`: the embedded fleet, the whole chain on it, and what came out of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.fleet.config import DEFAULT_LAYOUT, REPOSITORY
from tests.fleet.fleet import Fleet
from tests.fleet.shell import FleetError

DIFY_HOST = "dify1"
REPORT = "/var/lib/llmops/report/index.html"
EMBEDDED = re.compile(r'<script type="application/json" id="report">(.*?)</script>', re.S)


class Stopwatch:
    """Names what goes on and keeps how long each part took."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, float]] = []
        self._name = ""
        self._since = 0.0

    def start(self, name: str) -> None:
        self.stop()
        self._name, self._since = name, time.monotonic()

    def stop(self) -> None:
        if self._name:
            self.parts.append((self._name, time.monotonic() - self._since))
            self._name = ""

    def table(self) -> str:
        width = max(len(name) for name, seconds in self.parts)
        rows = [f"  {name:<{width}}  {seconds:6.0f} s" for name, seconds in self.parts]
        return "\n".join([*rows, f"  {'all':<{width}}  {sum(seconds for name, seconds in self.parts):6.0f} s"])


def run(fleet: Fleet, arguments: list[str]) -> int:
    """Start the fleet, run site.yml (with further ansible-playbook arguments) and show the result."""
    watch = Stopwatch()
    watch.start("machine and host images")
    fleet.prepare()
    watch.start("hosts")
    fleet.up(DEFAULT_LAYOUT)
    watch.start("container images")
    fleet.images()
    watch.stop()
    rc = play(fleet, arguments, watch)
    print("\nHow long each part took")
    print(watch.table())
    if rc:
        print(f"\nsite.yml ended with exit status {rc}; the recap above names the host and the task. Run it again: it goes on from there.")
        return rc
    show(fleet)
    return 0


def play(fleet: Fleet, arguments: list[str], watch: Stopwatch) -> int:
    """site.yml with its output passed through; every play is one part on the watch."""
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(fleet.inventory), "site.yml", *arguments]
    print("\n" + " ".join(["ansible-playbook", *command[1:]]), flush=True)
    env = {**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "PYTHONUNBUFFERED": "1"}
    if sys.stdout.isatty():
        env["ANSIBLE_FORCE_COLOR"] = "1"
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as playing:
        assert playing.stdout is not None
        for line in playing.stdout:
            if line.startswith("PLAY ["):
                watch.start(line[len("PLAY [") : line.rindex("]")])
            elif line.startswith("PLAY RECAP"):
                watch.stop()
            print(line, end="", flush=True)
    watch.stop()
    return playing.returncode


def report(fleet: Fleet) -> tuple[str, list[dict]]:
    """The status page of the last run, and the data embedded in it."""
    page = fleet.ssh(DIFY_HOST, f"sudo cat {REPORT}").stdout
    found = EMBEDDED.search(page)
    if not found:
        raise FleetError(f"{DIFY_HOST}:{REPORT} holds no report; run site.yml to its end first.")
    return page, json.loads(found.group(1))


def show(fleet: Fleet) -> None:
    """Print the answer and the addresses, and keep the status page beside the inventory."""
    page, hosts = report(fleet)
    copy = fleet.inventory.parent / "report.html"
    copy.write_text(page)
    for host in hosts:
        if host["verify"]:
            print(f"\nAsked through Dify on {host['host']}: {host['verify']['question']}\nAnswer: {host['verify']['chat']['answer']}")
    print()
    for host in hosts:
        if host["dify_url"]:
            print(f"Dify        {host['dify_url']}  (a stand-in of Dify, on real PostgreSQL, Redis and nginx)")
        if host["xinference_url"]:
            print(f"Xinference  {host['xinference_url']}  (the real server, on CPU; {', '.join(model['uid'] for model in host['models'])})")
    found = [(host["host"], finding) for host in hosts for finding in host.get("preflight", [])]
    if found:
        print("\nPreflight (the whole table: ansible-playbook preflight.yml)")
    for name, finding in found:
        advice = f"ignored: {finding['reason'] or 'no reason was given'}" if finding["ignored"] else finding["remedy"]
        print(f"  {name:<8}{finding['kind']:<8}{finding['id']} {finding['message']}\n{'':<20}-> {advice}")
    print(f"\nStatus page file://{copy}")
    print(
        "\nThe hosts stay up: `python -m tests.fleet ssh dify1` and the like, from the virtual environment in .venv."
        "\nSecrets stay on the hosts: `sudo cat /opt/dify/secrets.json` there. `make clean` takes everything away again."
    )
