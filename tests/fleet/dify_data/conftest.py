"""A fleet of its own for Dify's data: a model server, a Dify, and a bare host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fleet import Fleet
from tests.fleet.suite import Play, player, suite_fleet


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    with suite_fleet("data", "data.yml", everything=True) as made:
        yield made


@pytest.fixture(scope="session")
def play(fleet: Fleet) -> Play:
    return player(fleet, "data", expected=0)
