# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stand-in of Dify against every recorded exchange of the real ones: 0.6.13, 0.15.8, 1.7.2, 1.9.2, 1.16.1, and an upgrade.

The recordings of one version are replayed in the order in which they were made, on one stand-in, because later ones stand on
what earlier ones left. Compared are status, whole body, cookies with their attributes, and the recorded headers.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import pathlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.contract.dify_standin_replay import INIT_PASSWORD, OUTLINE, SHORT_TIMEOUT, Replay, bind_packages, load, names, port_like
from tests.fleet.standins.dify import build, testing
from tests.fleet.standins.dify.dify_standin import security
from tests.fleet.standins.dify.dify_standin.generations import GENERATIONS

_OLD = "setup login provider-list model-add model-read model-update default-model admin-api-key model-delete login-lockout".split()
# Order of recording, told by the times and ids in the files; and the port that the recorded server had in its addresses.
STORIES: dict[str, tuple[int, list[str]]] = {
    "0.6.13": (25013, [f"0.6.13-{scenario}" for scenario in _OLD]),
    # The upgrade goes on with the database of 0.15.8.
    "0.15.8": (
        25015,
        [f"0.15.8-{scenario}" for scenario in _OLD]
        + [f"upgrade-0.15.8-to-1.16.1-{scenario}" for scenario in ("models-after-upgrade", "repair-after-upgrade")],
    ),
    "1.7.2": (25017, [f"1.7.2-{scenario}" for scenario in [*_OLD[:2], "plugin", *_OLD[2:]]]),
    "1.9.2": (25019, [f"1.9.2-{scenario}" for scenario in ("setup", "login", "plugin", "models", "admin-api-key", "login-lockout")]),
    "1.16.1": (
        25001,
        [
            f"1.16.1-{scenario}"
            for scenario in (
                "setup",
                "login",
                "plugin-install-offline-pkg",
                "plugin-install-marketplace",
                "provider-list",
                "model-add",
                "model-read",
                "model-update",
                "model-credentials-multi",
                "model-delete",
                "model-enable-disable",
                "default-model",
                "old-style-upsert",
                "slow-xinference",
                "admin-api-key",
                "roles",
                "login-lockout",
                "plugin-uninstall-reinstall",
                "plugin-install-failure",
                "plugin-daemon-down",
                "plugin-upgrade-secret-url",
            )
        ],
    ),
}
ALONE = ["1.16.1-init-password"]


@dataclasses.dataclass
class Told:
    """A replayed story: recording -> findings."""

    world: testing.World
    findings: dict[str, list[str]]
    exchanges: int


@pytest.fixture(scope="module")
def packages() -> dict[str, bytes]:
    return {version: build.plugin_package(version, secret_url=version == "0.0.4") for version in ("0.0.4", "0.0.14", "0.0.15", "0.0.16")}


@pytest.fixture(scope="module")
def tell(tmp_path_factory: pytest.TempPathFactory, packages: dict[str, bytes]) -> Iterator[Callable[[str], Told]]:
    """Replays the story of a version, once."""
    patch = pytest.MonkeyPatch()
    # The recorded refresh fell into the second of the sign-in, which made the same CSRF token again.
    patch.setattr(security, "now", lambda: 1_900_000_000.0)
    told: dict[str, Told] = {}

    def get(version: str) -> Told:
        if version not in told:
            told[version] = _tell(version, tmp_path_factory.mktemp(f"dify-{version}"), packages)
        return told[version]

    yield get
    for story in told.values():
        story.world.close()
    patch.undo()


def _tell(version: str, folder: pathlib.Path, packages: dict[str, bytes]) -> Told:
    port, recordings = STORIES[version]
    address = f"http://127.0.0.1:{port}"
    world = testing.World(
        folder,
        packages["0.0.16"],
        xinference_port=port_like("97"),
        version=version,
        console_api_url=address,
        console_web_url=address,
        service_api_url=address,
    )
    world.wait_for_xinference(SHORT_TIMEOUT)
    world.xinference.slow_seconds = 2 * SHORT_TIMEOUT
    replay = Replay(world, packages)
    bind_packages(replay.names, packages)
    told = Told(world, {name: [] for name in recordings}, 0)
    try:
        for name in recordings:
            for number, recorded in enumerate(load(name)):
                _before(world, replay, name, number, recorded)
                findings = replay.exchange(name, number, recorded)
                told.findings[name] += [f"#{number} {recorded['request']['method']} {recorded['request']['path']}: {item}" for item in findings]
                told.exchanges += 1
    except BaseException:
        world.close()
        raise
    return told


def _before(world: testing.World, replay: Replay, name: str, number: int, recorded: dict[str, Any]) -> None:
    """What happened around the recorded exchange besides the exchange itself."""
    answer = recorded["response"].get("json")
    task = answer.get("task") if isinstance(answer, dict) else None
    if isinstance(task, dict) and task["status"] != "running":
        world.finish_installations()
    elif "/install/" in recorded["request"]["path"] or "/upgrade/" in recorded["request"]["path"]:
        world.daemon.gate.clear()
    step = _STEPS.get((name, number))
    if step:
        step(world, replay)


def _activated_editor(world: testing.World, replay: Replay) -> None:
    """The recorder set the editor's password by another way than the activation that had failed."""
    world.api.accounts.set_password("editor@example.com", "Editor12345")


def _failing_installation(world: testing.World, replay: Replay) -> None:
    text = load("1.16.1-plugin-install-failure")[3]["response"]["json"]["task"]["plugins"][0]["message"]
    pathlib.Path(world.daemon_settings.plugin_storage, "standin-fail-next-install").write_text(text, encoding="utf-8")


def _all_down(world: testing.World, replay: Replay) -> None:
    world.shut("daemon")
    world.shut("marketplace")


def _a_day_later(world: testing.World, replay: Replay) -> None:
    for row in world.api.db.query("SELECT id FROM provider_model_credentials"):
        world.cache.delete(f"provider_model_credentials:id:{row['id']}")


def _upgraded(world: testing.World, replay: Replay) -> None:
    world.become("1.16.1")
    world.settings.console_api_url = "http://127.0.0.1:25001"
    replay.sign_in_as_owner()


_STEPS: dict[tuple[str, int], Callable[[testing.World, Replay], Any]] = {
    ("1.16.1-roles", 4): _activated_editor,
    ("1.16.1-plugin-uninstall-reinstall", 0): lambda _world, replay: replay.sign_in_as_owner(),
    ("1.16.1-plugin-install-failure", 2): _failing_installation,
    ("1.16.1-plugin-daemon-down", 0): _all_down,
    ("1.16.1-plugin-daemon-down", 6): lambda world, _replay: world.open("daemon", world.daemon, world.daemon_port),
    ("1.16.1-plugin-upgrade-secret-url", 17): _a_day_later,
    ("upgrade-0.15.8-to-1.16.1-models-after-upgrade", 0): _upgraded,
}


@pytest.mark.parametrize(("version", "name"), [(version, name) for version, (_port, recordings) in STORIES.items() for name in recordings])
def test_behaves_as_recorded(tell: Callable[[str], Told], version: str, name: str) -> None:
    findings = tell(version).findings[name]
    assert not findings, "\n".join(findings)


def test_init_password_behaves_as_recorded(tmp_path: pathlib.Path, packages: dict[str, bytes]) -> None:
    world = testing.World(tmp_path, packages["0.0.16"], init_password=INIT_PASSWORD)
    replay = Replay(world, packages)
    found = []
    try:
        for number, recorded in enumerate(load(ALONE[0])):
            if recorded["request"]["path"].endswith("/init") and recorded["request"]["cookies_sent"] and "session" not in replay.jar:
                replay.jar["session"] = ""
            found += [f"#{number}: {item}" for item in replay.exchange(ALONE[0], number, recorded)]
    finally:
        world.close()
    assert not found, "\n".join(found)


def test_every_recording_is_replayed(tell: Callable[[str], Told], capsys: pytest.CaptureFixture[str]) -> None:
    replayed = [name for _port, recordings in STORIES.values() for name in recordings] + ALONE
    assert sorted(replayed) == names()
    assert set(STORIES) == set(GENERATIONS)
    assert all(len(load(name)) > number for name, number in OUTLINE)
    exchanges = sum(tell(version).exchanges for version in STORIES) + sum(len(load(name)) for name in ALONE)
    assert exchanges == sum(len(load(name)) for name in names())
    with capsys.disabled():
        print(f"\nDify's stand-in: {len(replayed)} of {len(names())} recordings, {exchanges} exchanges, {len(OUTLINE)} by outline")


def test_a_hung_xinference_is_asked_four_times(tell: Callable[[str], Told]) -> None:
    asked = [path for _method, path, _body in tell("1.16.1").world.xinference.calls if path.endswith("/slow-chat")]
    assert len(asked) == 4


@pytest.mark.parametrize("version", STORIES)
def test_what_it_does_not_know_is_501(tell: Callable[[str], Told], version: str) -> None:
    world = tell(version).world
    for method, path in (("GET", "/console/api/no-such-thing"), ("PUT", "/console/api/setup"), ("POST", "/v1/workflows/run")):
        connection = http.client.HTTPConnection("127.0.0.1", world.api_port, timeout=10)
        connection.request(method, path)
        response = connection.getresponse()
        assert response.status == 501
        assert path in json.loads(response.read())["message"]
        connection.close()


def test_no_thread_is_left(tell: Callable[[str], Told]) -> None:
    tell("1.16.1")
    assert [thread.name for thread in threading.enumerate() if not thread.daemon] == ["MainThread"]
