# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import pathlib
import ssl
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.contract.xinference_server.bench import Bench
    from tests.fleet.standins.dify.lab import Lab


@pytest.fixture(scope="session", autouse=True)
def one_tls_context() -> Iterator[None]:
    """Ansible reads the machine's certificates for every request, also for plain HTTP: two thirds of the time of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        patch.setattr("ansible.module_utils.urls.make_context", lambda *values, **options: context)
        yield


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A real Xinference, and one host's files; test_xinference_real.py tells the variables that say which server."""
    from tests.contract.xinference_server import environment
    from tests.contract.xinference_server.bench import Bench
    from tests.contract.xinference_server.server import Server

    version = os.environ.get("XINFERENCE_TEST_VERSION", environment.VERSION)
    if not environment.can_run(version):
        pytest.skip(f"Xinference {version} needs Python 3.10 or 3.11")
    folder = tmp_path_factory.mktemp("xinference")
    auth = os.environ.get("XINFERENCE_TEST_AUTH", "1") == "1"
    server = Server(environment.ensure(version), folder / "home", auth, int(os.environ.get("XINFERENCE_TEST_WORKERS", "0")))
    server.start()
    yield Bench(server, folder)
    server.stop()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real_xinference: runs a real Xinference on this machine (2.2 GB of packages once, then minutes)")


@pytest.fixture
def dify_lab(tmp_path: pathlib.Path) -> Iterator[Callable[..., Lab]]:
    """``dify_lab("1.16.1", setup=False, ...)``: a Dify of that version on loopback (see tests/fleet/standins/dify/lab.py), ended after the test."""
    from tests.fleet.standins.dify.lab import Lab

    labs: list[Lab] = []

    def make(*values: Any, **options: Any) -> Lab:
        labs.append(Lab(tmp_path / f"dify-{len(labs)}", *values, **options))
        return labs[-1]

    yield make
    for lab in labs:
        lab.close()
