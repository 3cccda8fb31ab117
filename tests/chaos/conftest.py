"""Fleets for the faults, and the table of what each of them cost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.serving import Server, seconds_until_serving
from tests.fleet import Fleet
from tests.fleet import images as container_images
from tests.fleet.checks.playbook import ROOT, Run
from tests.fleet.suite import suite_fleet

TABLE = ROOT / ".cache" / "chaos" / "faults.md"


class Faults:
    """Does a fault and measures how long the declared models did not serve. One line each in the table."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, float]] = []

    def measure(self, server: str, fault: str, seen: Server, act: Callable[[], object]) -> float:
        assert not seen.missing(), "before the fault everything has to serve"
        since = time.monotonic()
        act()
        seconds = seconds_until_serving(seen, since)
        self.rows.append((server, fault, seconds))
        print(f"\n{server}: {fault}: everything serves again after {seconds:.0f} s")
        return seconds

    def table(self) -> str:
        lines = ["| server | fault | seconds until every declared model answers again |", "|---|---|---|"]
        return "\n".join([*lines, *(f"| {server} | {fault} | {seconds:.0f} |" for server, fault, seconds in self.rows)]) + "\n"


@pytest.fixture(scope="session")
def faults() -> Iterator[Faults]:
    """The table is printed at the end, and kept in .cache/chaos/faults.md; a run of one file keeps the other files' lines."""
    kept = Faults()
    yield kept
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    log = TABLE.with_suffix(".json")
    older = [tuple(row) for row in json.loads(log.read_text())] if log.exists() else []
    measured = {row[:2] for row in kept.rows}
    kept.rows = [row for row in older if row[:2] not in measured] + kept.rows
    log.write_text(json.dumps(kept.rows))
    TABLE.write_text(kept.table())
    print(f"\n{kept.table()}in {TABLE}")


def made(layout: str, images: list[str]) -> Iterator[Fleet]:
    """A fleet named after its layout."""
    with suite_fleet(f"chaos-{Path(layout).stem}", layout, only=images) as fleet:
        container_images.ensure_models()
        yield fleet


def key_of(fleet: Fleet, host: str) -> str:
    """The key for inference, as Dify gets it."""
    kept = fleet.ssh(host, "sudo cat /opt/xinference/credentials.json").stdout
    return str(json.loads(kept)["api_keys"]["dify"]["key"]) if kept else ""


def kill_a_model(fleet: Fleet, host: str, container: str, seen: Server) -> None:
    """kill -9 of the process of the model that was started last, from outside: the image has no pkill."""
    rows = [line.split(None, 2) for line in fleet.ssh(host, f"sudo docker top {container} -o pid,etimes,args", check=True).stdout.splitlines()[1:]]
    # Health checks come and go. 0.13 forks its models, with the words of who forked them, and in the same second as the others.
    others = ("urllib", "create_connection", "resource_tracker")
    ages = {int(pid): int(age) for pid, age, words in rows if not any(word in words for word in others)}
    assert len(ages) > 1, rows
    victim = min(ages, key=lambda pid: (ages[pid], -pid))
    fleet.ssh(host, f"sudo kill -9 {victim}", check=True)
    assert seen.missing(), f"{victim} was no model's process: {rows}"


def unchanged(run: Run, hosts: list[str]) -> None:
    """A run that found nothing to do."""
    assert run.rc == 0, run.text[-3000:]
    for host in hosts:
        assert run.recap[host].changed == 0, [entry["task"] for entry in run.results if entry["host"] == host and entry["changed"]]
