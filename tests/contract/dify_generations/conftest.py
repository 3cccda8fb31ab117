# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator

import pytest

from tests.contract.dify_generations.world import VERSIONS, Dify, table, verdicts
from tests.fleet.standins.dify.lab import Lab


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture()
def dify(dify_lab: Callable[..., Lab], version: str, tmp_path: pathlib.Path) -> Dify:
    """A Dify of that version with its owner and plugin, and nothing registered."""
    return Dify(dify_lab(version), version, tmp_path)


@pytest.fixture()
def ready(dify: Dify) -> Dify:
    outcome = dify.models()
    assert not outcome.failed, outcome.text
    return dify


@pytest.fixture(scope="session", autouse=True)
def summary() -> Iterator[None]:
    yield
    print(f"\n{table()}\n\n{verdicts()}")
