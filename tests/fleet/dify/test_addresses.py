"""Containers that get another address while nobody runs a play: by hand, and with a reboot. nginx has to find them by itself."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.fleet import Fleet
from tests.fleet.checks.playbook import Run
from tests.fleet.dify.conftest import running

COMPOSE = "cd /opt/dify/releases/1.16.1/docker && sudo docker compose -p dify"
ADDRESS = "sudo docker inspect -f '{{{{(index .NetworkSettings.Networks \"dify_default\").IPAddress}}}}' dify-{service}-1"
PROBE = "curl -s -o /dev/null -m 3 -w '%{{http_code}}\\n' http://{address}{path}"
# What each of them answers by itself, through nginx.
PATHS = {"api": ("/console/api/setup", "200"), "web": ("/", "200"), "plugin_daemon": ("/e/", "401")}


def address(fleet: Fleet, service: str) -> str:
    return fleet.ssh("dify1", ADDRESS.format(service=service), check=True).stdout.strip()


def answer(fleet: Fleet, path: str) -> str:
    return fleet.ssh("svc", PROBE.format(address=fleet.address("dify1"), path=path)).stdout.strip()


def probes(fleet: Fleet, path: str, count: int) -> list[str]:
    """Answers to requests 50 ms apart, in one go from the services host."""
    command = PROBE.format(address=fleet.address("dify1"), path=path)
    return fleet.ssh("svc", f"for n in $(seq {count}); do {command}; sleep 0.05; done", check=True).stdout.split()


def wait_until_healthy(fleet: Fleet, service: str) -> None:
    for _number in range(120):
        said = fleet.ssh(
            "dify1", f"sudo docker inspect -f '{{{{if .State.Health}}}}{{{{.State.Health.Status}}}}{{{{else}}}}none{{{{end}}}}' dify-{service}-1"
        ).stdout
        if said.strip() in ("healthy", "none"):
            return
        time.sleep(0.5)
    raise AssertionError(f"{service} does not get healthy")


@pytest.mark.parametrize("service", PATHS)
def test_a_container_made_anew_by_hand_is_found(fleet: Fleet, first: tuple[Run, dict[str, Any]], service: str) -> None:
    path, wanted = PATHS[service]
    nginx = next(line for line in running(fleet, "dify1").splitlines() if line.startswith("/dify-nginx-1 "))
    assert answer(fleet, path) == wanted
    before = address(fleet, service)
    # The old address goes to somebody else, as it does when several containers are made anew.
    fleet.ssh("dify1", f"{COMPOSE} rm -sf {service}", check=True, timeout=120)
    taken = f"sudo docker network inspect dify_default | grep -q '\"{before}/'"
    filler = "sudo docker run -d --rm --label filler --network dify_default busybox:latest sleep 300 >/dev/null"
    fleet.ssh("dify1", f"for n in $(seq 20); do {taken} && break; {filler}; done; {taken} && {COMPOSE} up -d --no-deps {service}", check=True, timeout=300)
    try:
        wait_until_healthy(fleet, service)
        after = address(fleet, service)
        seen = probes(fleet, path, 60)
        print(f"\n{service}: {before} -> {after}; {seen.count(wanted)} of {len(seen)} probes answered from the moment it was healthy")
        assert after != before
        # Until a second after the change nginx may use what it knew.
        assert seen.count(wanted) >= 40 and set(seen[-20:]) == {wanted}, seen
        assert nginx in running(fleet, "dify1").splitlines(), "nginx was started again: it proves nothing"
    finally:
        fleet.ssh("dify1", "sudo docker rm -f $(sudo docker ps -q --filter label=filler)", timeout=120)


def test_a_reboot_needs_no_play(fleet: Fleet, first: tuple[Run, dict[str, Any]]) -> None:
    before = {service: address(fleet, service) for service in (*PATHS, "nginx")}
    fleet.reboot("dify1")
    begun = time.monotonic()
    while time.monotonic() < begun + 90 and any(answer(fleet, path) != wanted for path, wanted in PATHS.values()):
        time.sleep(1)
    print(f"\n{before} -> { ({service: address(fleet, service) for service in before}) }, {time.monotonic() - begun:.0f} s after the reboot")
    assert {path: answer(fleet, path) for path, _wanted in PATHS.values()} == dict(PATHS.values())
