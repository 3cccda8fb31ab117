"""A fleet of its own for the checks, on its own subnet, so that a running demo is left alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fleet import Fleet
from tests.fleet.checks.playbook import ROOT, Run, run_playbook
from tests.fleet.config import Settings

KEEP = os.environ.get("FLEET_KEEP") == "1"
NAME = os.environ.get("FLEET_CHECKS_NAME", "checks")
LAYOUT = ROOT / os.environ.get("FLEET_CHECKS_LAYOUT", "tests/fleet/layouts/checks.yml")

Play = Callable[..., Run]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is marked as long takes minutes: `make test-all` runs it, `make test` does not."""
    if os.environ.get("FLEET_LONG") == "1":
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: make test-all, or FLEET_LONG=1"))


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """Bare hosts, made anew. FLEET_KEEP=1 uses the ones that are up and leaves them up: for working on a later test."""
    settings = Settings.from_environment(
        {
            **os.environ,
            "FLEET_NAME": NAME,
            "FLEET_SUBNET": os.environ.get("FLEET_CHECKS_SUBNET", "10.213.78.0/24"),
            "FLEET_STATE": str(ROOT / ".cache" / f"fleet-{NAME}"),
        }
    )
    made = Fleet(settings)
    made.prepare()
    if not KEEP:
        made.down()
    made.up(LAYOUT)
    made.images()
    yield made
    if not KEEP:
        made.down()


@pytest.fixture(scope="session")
def play(fleet: Fleet) -> Play:
    """Run a playbook on the fleet: ``play("site.yml", "--check")``. Logs stay in .cache/fleet-logs."""
    logs = ROOT / ".cache" / "fleet-logs"
    logs.mkdir(parents=True, exist_ok=True)
    count = 0

    def run(playbook: str, *arguments: str) -> Run:
        nonlocal count
        count += 1
        log = logs / f"{count:02d}-{Path(playbook).stem}.log"
        run = run_playbook(fleet.inventory, playbook, *arguments, log=log)
        print(f"\n{log.name}: {' '.join([playbook, *arguments])}: exit status {run.rc} after {run.seconds:.0f} s; {run.recap}")
        return run

    return run


@pytest.fixture(scope="session")
def first(play: Play) -> Run:
    """The first run to the end, at -vvv."""
    return play("site.yml", "-vvv")


@pytest.fixture(scope="session")
def second(play: Play, first: Run) -> Run:
    """The run that must find nothing to do."""
    return play("site.yml", "-vvv", "--diff")
