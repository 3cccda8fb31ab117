"""A fleet of its own for Docker's checks: an old engine, a newer one, a cache, and hosts to fill it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fleet import Fleet, images
from tests.fleet.checks.playbook import ROOT, Run, run_playbook
from tests.fleet.config import Settings

KEEP = os.environ.get("FLEET_KEEP") == "1"
LAYOUT = ROOT / "tests" / "fleet" / "layouts" / "docker.yml"
# One image set of a host, small enough for a machine that holds it ten times.
IMAGES = ("busybox:latest", "redis:6-alpine", "nginx:latest")
LOGS = ROOT / ".cache" / "fleet-docker-logs"

Play = Callable[..., Run]


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """Hosts made anew. FLEET_KEEP=1 uses the ones that are up, and leaves them up."""
    environment = {
        **os.environ,
        "FLEET_NAME": os.environ.get("FLEET_DOCKER_NAME", "docker"),
        "FLEET_SUBNET": os.environ.get("FLEET_DOCKER_SUBNET", "10.213.84.0/24"),
        "FLEET_STATE": str(ROOT / ".cache" / "fleet-docker"),
    }
    made = Fleet(Settings.from_environment(environment))
    made.prepare()
    if not KEEP:
        made.down()
    made.up(LAYOUT)
    images.ensure(f"http://{made.services_address()}:5000", only=["library/busybox", "library/redis", "library/nginx"])
    yield made
    if not KEEP:
        made.down()


@pytest.fixture(scope="session")
def play(fleet: Fleet) -> Play:
    """Run a playbook on the fleet; logs stay in .cache/fleet-docker-logs."""
    LOGS.mkdir(parents=True, exist_ok=True)
    count = 0

    def run(playbook: str, *arguments: str) -> Run:
        nonlocal count
        count += 1
        log = LOGS / f"{count:02d}-{Path(playbook).stem}.log"
        run = run_playbook(fleet.inventory, playbook, *arguments, log=log)
        print(f"\n{log.name}: {' '.join([playbook, *arguments])[:300]}: exit status {run.rc} after {run.seconds:.0f} s")
        assert run.rc == 0, run.text[-3000:]
        return run

    return run


@pytest.fixture(scope="session")
def engines(play: Play) -> None:
    """Docker on every host, without a mirror."""
    play("tests/fleet/docker/engines.yml")
