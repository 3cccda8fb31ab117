"""A fleet of its own for Dify's data: a model server, a Dify, and a bare host."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fleet import Fleet
from tests.fleet.checks.playbook import ROOT, Run, run_playbook
from tests.fleet.config import Settings

KEEP = os.environ.get("FLEET_KEEP") == "1"
LAYOUT = ROOT / "tests" / "fleet" / "layouts" / "data.yml"
LOGS = ROOT / ".cache" / "fleet-data-logs"

Play = Callable[..., Run]


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """Hosts made anew. FLEET_KEEP=1 uses the ones that are up, and leaves them up."""
    environment = {
        **os.environ,
        "FLEET_NAME": os.environ.get("FLEET_DATA_NAME", "data"),
        "FLEET_SUBNET": os.environ.get("FLEET_DATA_SUBNET", "10.213.86.0/24"),
        "FLEET_STATE": os.environ.get("FLEET_DATA_STATE", str(ROOT / ".cache" / "fleet-data")),
    }
    made = Fleet(Settings.from_environment(environment))
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
    """Run a playbook on the fleet; logs stay in .cache/fleet-data-logs."""
    LOGS.mkdir(parents=True, exist_ok=True)
    count = 0

    def run(playbook: str, *arguments: str, expected: int | None = 0) -> Run:
        nonlocal count
        count += 1
        log = LOGS / f"{count:02d}-{Path(playbook).stem}.log"
        run = run_playbook(fleet.inventory, playbook, *arguments, log=log)
        print(f"\n{log.name}: {' '.join([playbook, *arguments])[:200]}: exit status {run.rc} after {run.seconds:.0f} s")
        assert expected is None or run.rc == expected, run.text[-3000:]
        return run

    return run
