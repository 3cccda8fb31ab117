"""Faults of single servers: Xinference 4.1.0, which starts its models itself, and 0.13.3, whose models the keeper starts again.

Then interrupted plays, and two controllers at once. Nobody helps while a fault lasts: no controller runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.conftest import Faults, key_of, kill_a_model, made, unchanged
from tests.chaos.serving import Server
from tests.fleet import Fleet
from tests.fleet.checks.playbook import ROOT
from tests.fleet.suite import LOGS, Play, player

NAMES = {"alone": "4.1.0, standalone", "old": "0.13.3, standalone with the keeper"}
MODELS = {"alone": {"embed": "embedding", "rerank": "rerank"}, "old": {"embed": "embedding"}}
HOSTS = os.environ.get("CHAOS_HOSTS", "alone,old").split(",")  # one of them: for working on it
ALONE = pytest.mark.skipif("alone" not in HOSTS, reason="CHAOS_HOSTS leaves it out")
LIMIT = ["--limit", ",".join(HOSTS)]
KILL_MAIN = "sudo kill -9 $(sudo docker inspect -f '{{.State.Pid}}' xinference)"


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    yield from made("restarts.yml", ["xprobe/xinference", "xprobe/xinference:v0.13.3"])


@pytest.fixture(scope="module")
def play(fleet: Fleet) -> Play:
    return player(fleet, "chaos-restarts")


@pytest.fixture(scope="module")
def servers(fleet: Fleet, play: Play) -> dict[str, Server]:
    done = play("site.yml", *LIMIT)
    assert done.rc == 0, done.text[-3000:]
    unchanged(play("models.yml", *LIMIT), HOSTS)
    return {host: Server(f"http://{fleet.address(host)}:9997", MODELS[host], key_of(fleet, host)) for host in HOSTS}


def test_only_the_old_server_has_a_keeper(fleet: Fleet, servers: dict[str, Server]) -> None:
    state = {host: fleet.ssh(host, "systemctl is-active xinference-keeper; systemctl is-enabled xinference-keeper").stdout.split() for host in HOSTS}
    assert state.get("old", ["active", "enabled"]) == ["active", "enabled"], state
    if "alone" in HOSTS:
        assert state["alone"][0] == "inactive", state
        assert fleet.ssh("alone", "test -e /opt/xinference/keeper.pyz").returncode == 1


@pytest.mark.parametrize("host", HOSTS)
def test_a_models_process_is_killed(fleet: Fleet, servers: dict[str, Server], faults: Faults, host: str) -> None:
    seen = servers[host]
    faults.measure(NAMES[host], "kill -9 of a model's process", seen, lambda: kill_a_model(fleet, host, "xinference", seen))


@pytest.mark.parametrize("host", HOSTS)
def test_the_container_is_killed(fleet: Fleet, servers: dict[str, Server], faults: Faults, host: str) -> None:
    faults.measure(NAMES[host], "kill -9 of the container's main process", servers[host], lambda: fleet.ssh(host, KILL_MAIN, check=True))


@pytest.mark.parametrize("host", HOSTS)
def test_docker_is_restarted(fleet: Fleet, servers: dict[str, Server], faults: Faults, host: str) -> None:
    faults.measure(NAMES[host], "restart of Docker", servers[host], lambda: fleet.ssh(host, "sudo systemctl restart docker", check=True))


@pytest.mark.parametrize("host", HOSTS)
def test_the_host_is_rebooted(fleet: Fleet, servers: dict[str, Server], faults: Faults, host: str) -> None:
    faults.measure(NAMES[host], "reboot", servers[host], lambda: fleet.reboot(host))


def test_afterwards_a_run_finds_nothing_to_do(play: Play, servers: dict[str, Server]) -> None:
    unchanged(play("models.yml", *LIMIT), HOSTS)
    for host, server in servers.items():
        assert sorted(server.names()) == sorted(MODELS[host])


# ---- plays that are cut off --------------------------------------------------------------------------------------


def begin(fleet: Fleet, log: Path, playbook: str, *arguments: str) -> subprocess.Popen[bytes]:
    """A controller in a process group of its own, so that all of it can be killed."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    env.update(ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), ANSIBLE_INJECT_FACT_VARS="false", ANSIBLE_NOCOLOR="1", PYTHONUNBUFFERED="1")
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    with log.open("wb") as out:
        return subprocess.Popen(
            [program, "-i", str(fleet.inventory), playbook, *arguments],
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def forget_all(fleet: Fleet, host: str) -> None:
    """A host on which Xinference never was; Docker and the image stay."""
    fleet.ssh(host, "cd /opt/xinference && sudo docker compose down; sudo rm -rf /opt/xinference", check=True, timeout=300)


@ALONE
@pytest.mark.parametrize(
    ("task", "seconds"),
    [
        ("Start the container and wait until it is healthy", 3),
        ("Create what is missing of administrator and key", 0.3),
        ("Open the server", 2),
        ("Launch, keep and remove models", 1),
        ("Launch, keep and remove models", 8),
    ],
)
def test_a_play_that_is_killed_goes_on_where_it_was(fleet: Fleet, play: Play, servers: dict[str, Server], task: str, seconds: float) -> None:
    host = "alone"
    forget_all(fleet, host)
    log = LOGS / "chaos-restarts" / "killed.log"
    running = begin(fleet, log, "site.yml", "--limit", host, "--tags", "xinference,models")
    until = time.monotonic() + 900
    while f": {task}]" not in log.read_text(errors="replace"):
        assert running.poll() is None and time.monotonic() < until, log.read_text(errors="replace")[-2000:]
        time.sleep(0.2)
    time.sleep(seconds)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()

    done = play("site.yml", "--limit", host, "--tags", "xinference,models")
    assert done.rc == 0, done.text[-3000:]
    seen = Server(servers[host].url, MODELS[host], key_of(fleet, host))
    assert not seen.missing()
    assert sorted(seen.names()) == sorted(MODELS[host]), "a ghost, or a second copy"
    status, instances = seen.ask("GET", "/v1/models/instances")
    assert status == 200 and {entry["model_uid"] for entry in instances} <= set(MODELS[host]), instances
    unchanged(play("site.yml", "--limit", host, "--tags", "xinference,models"), [host])
    servers[host].key = seen.key


@ALONE
def test_two_controllers_at_once(fleet: Fleet, play: Play, servers: dict[str, Server]) -> None:
    host = "alone"
    nothing = play("models.yml", "--limit", host, "-e", '{"xinference_models": [], "xinference_models_prune": true}')
    assert nothing.rc == 0 and servers[host].names() == [], nothing.text[-2000:]
    logs = [LOGS / "chaos-restarts" / f"controller{number}.log" for number in (1, 2)]
    both = [begin(fleet, log, "models.yml", "--limit", host) for log in logs]
    assert [controller.wait(timeout=900) for controller in both] == [0, 0], [log.read_text(errors="replace")[-1500:] for log in logs]
    assert not servers[host].missing()
    assert sorted(servers[host].names()) == sorted(MODELS[host])
    unchanged(play("models.yml", "--limit", host), [host])


@pytest.mark.skipif(len(HOSTS) < 2, reason="one host has no order")
def test_a_change_of_settings_restarts_and_brings_the_models_back(fleet: Fleet, play: Play, servers: dict[str, Server]) -> None:
    """Both hosts serve, so they go one after the other, the second after the first one's models are back."""
    change = ["-e", '{"xinference_shm_size": "300mb"}']
    done = play("site.yml", "--tags", "xinference,models", *change)
    assert done.rc == 0, done.text[-3000:]
    steps = ("Start the container and wait until it is healthy", "Launch, keep and remove models")
    order = [entry["host"] for entry in done.results if entry["status"] == "ok" and entry["task"].endswith(steps)]
    assert order[-4:] in (["alone", "alone", "old", "old"], ["old", "old", "alone", "alone"]), order
    for host in HOSTS:
        assert not servers[host].missing()
    unchanged(play("site.yml", "--tags", "xinference,models", *change), HOSTS)
