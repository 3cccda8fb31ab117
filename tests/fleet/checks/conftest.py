"""A fleet of its own for the checks, on its own subnet, so that a running demo is left alone."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.fleet import Fleet
from tests.fleet.checks.playbook import Run
from tests.fleet.suite import Play, player, suite_fleet


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is marked as long takes minutes: `make test-all` runs it, `make test` does not."""
    if os.environ.get("FLEET_LONG") == "1":
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: make test-all, or FLEET_LONG=1"))


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    with suite_fleet("checks", "checks.yml", everything=True) as made:
        yield made


@pytest.fixture(scope="session")
def play(fleet: Fleet) -> Play:
    return player(fleet, "checks")


@pytest.fixture(scope="session")
def first(play: Play) -> Run:
    """The first run to the end, at -vvv."""
    return play("site.yml", "-vvv")


@pytest.fixture(scope="session")
def second(play: Play, first: Run) -> Run:
    """The run that must find nothing to do."""
    return play("site.yml", "-vvv", "--diff")
