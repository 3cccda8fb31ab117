"""A fleet of its own for Docker's checks: an old engine, a newer one, a cache, and hosts to fill it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fleet import Fleet
from tests.fleet.suite import Play, player, suite_fleet

# One image set of a host, small enough for a machine that holds it ten times.
IMAGES = ("busybox:latest", "redis:6-alpine", "nginx:latest")


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    with suite_fleet("docker", "docker.yml", only=["library/busybox", "library/redis", "library/nginx"]) as made:
        yield made


@pytest.fixture(scope="session")
def play(fleet: Fleet) -> Play:
    return player(fleet, "docker", expected=0)


@pytest.fixture(scope="session")
def engines(play: Play) -> None:
    """Docker on every host, without a mirror."""
    play("tests/fleet/docker/engines.yml")
