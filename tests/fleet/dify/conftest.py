"""A fleet of its own for Dify's role: two hosts with Docker, and the services host that looks on from outside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fleet import Fleet
from tests.fleet.checks.playbook import Run
from tests.fleet.suite import Play, player, suite_fleet

WATCH = Path(__file__).with_name("watch.py")
SITE = ("site.yml", "--tags", "dify", "--limit")

# A host as it was before Dify; Docker stays.
WIPE = (
    "sudo docker ps -aq | xargs -r sudo docker rm -f >/dev/null; sudo docker network prune -f >/dev/null;"
    " sudo rm -rf /opt/dify; sudo docker images -q | xargs -r sudo docker rmi -f >/dev/null 2>&1; true"
)


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    with suite_fleet("dify", "dify.yml", everything=True) as made:
        yield made


@pytest.fixture(scope="session")
def play(fleet: Fleet) -> Play:
    return player(fleet, "dify")


@pytest.fixture(scope="session")
def docker(play: Play) -> None:
    """Docker on both hosts: what comes after it is Dify's."""
    run = play("site.yml", "--tags", "docker")
    assert run.rc == 0, run.text[-3000:]


@contextmanager
def watched(fleet: Fleet, host: str, pause: float) -> Iterator[dict[str, Any]]:
    """What the services host sees of ``host`` meanwhile; filled in at the end."""
    seen: dict[str, Any] = {}
    fleet.ssh("svc", f"cat >/tmp/watch.py <<'END'\n{WATCH.read_text()}\nEND", check=True)
    fleet.ssh("svc", f"sudo systemd-run --quiet --unit=watch python3 /tmp/watch.py {fleet.address(host)} {pause} /tmp/watch.json", check=True)
    try:
        yield seen
    finally:
        fleet.ssh("svc", "sudo systemctl stop watch", check=True)
        seen.update(json.loads(fleet.ssh("svc", "cat /tmp/watch.json", check=True).stdout))
        print(f"\n{host} from outside: {json.dumps(seen)}")


def running(fleet: Fleet, host: str) -> str:
    """Which containers run, and since when."""
    command = "sudo docker ps -q --no-trunc | xargs -r sudo docker inspect -f '{{.Name}} {{.Id}} {{.State.StartedAt}}' | sort"
    return fleet.ssh(host, command, check=True).stdout


def secrets(fleet: Fleet, host: str) -> dict[str, str]:
    text = fleet.ssh(host, "sudo cat /opt/dify/secrets.json 2>/dev/null").stdout
    return json.loads(text) if text else {}


@pytest.fixture(scope="session")
def first(fleet: Fleet, play: Play, docker: None) -> tuple[Run, dict[str, Any]]:
    """The first run on a bare host, and what could be seen of it from outside, every 100 ms."""
    with watched(fleet, "dify1", 0.1) as seen:
        run = play(*SITE, "dify1")
    assert run.rc == 0, run.messages("dify1")
    return run, seen
