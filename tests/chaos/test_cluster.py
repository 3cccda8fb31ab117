"""Faults of a cluster of Xinference 4.1.0, a supervisor and two workers. Nobody helps: no controller runs meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.chaos.conftest import Faults, Play, key_of, made, player, unchanged
from tests.chaos.serving import Server
from tests.fleet import Fleet

HOSTS = ["head", "node1", "node2"]
NAME = "4.1.0, supervisor and two workers"


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    yield from made("cluster.yml", ["xprobe/xinference"])


@pytest.fixture(scope="module")
def play(fleet: Fleet) -> Play:
    return player(fleet)


@pytest.fixture(scope="module")
def server(fleet: Fleet, play: Play) -> Server:
    # embed is pinned to the first worker, rerank goes where the supervisor puts it.
    models = [
        {"uid": "embed", "type": "embedding", "engine": "sentence_transformers", "n_gpu": "cpu", "worker_ip": fleet.address("node1")},
        {"uid": "rerank", "type": "rerank", "engine": "sentence_transformers", "n_gpu": "cpu"},
    ]
    for model, name in zip(models, ("tiny-embedding", "tiny-reranker")):
        model["register"] = f"{{{{ fleet_model_registrations['{name}'] }}}}"
    variables = fleet.inventory.parent / "models.json"
    variables.write_text(json.dumps({"xinference_models": models}))
    done = play("site.yml", "-e", f"@{variables}")
    assert done.rc == 0, done.text[-3000:]
    unchanged(play("models.yml", "-e", f"@{variables}"), HOSTS)
    return Server(f"http://{fleet.address('head')}:9997", {"embed": "embedding", "rerank": "rerank"}, key_of(fleet, "head"))


def test_a_models_process_is_killed(fleet: Fleet, server: Server, faults: Faults) -> None:
    # A model is a child of the worker with xoscar's own start line.
    kill = "sudo docker exec xinference-worker sh -c 'pkill -9 -f start_sub_pool || pkill -9 -f multiprocessing.spawn'"
    faults.measure(NAME, "kill -9 of a model's process", server, lambda: fleet.ssh("node1", kill, check=True))


@pytest.mark.parametrize("host", ["node1", "node2"])
def test_a_worker_is_killed(fleet: Fleet, server: Server, faults: Faults, host: str) -> None:
    # docker kill is a wish of a user, after which Docker leaves the container down: its main process is killed instead.
    kill = "sudo kill -9 $(sudo docker inspect -f '{{.State.Pid}}' xinference-worker)"
    faults.measure(NAME, f"kill -9 of the worker on {host}", server, lambda: fleet.ssh(host, kill, check=True))


def test_the_supervisor_is_killed(fleet: Fleet, server: Server, faults: Faults) -> None:
    kill = "sudo kill -9 $(sudo docker inspect -f '{{.State.Pid}}' xinference)"
    faults.measure(NAME, "kill -9 of the supervisor", server, lambda: fleet.ssh("head", kill, check=True))


def test_a_workers_host_is_rebooted(fleet: Fleet, server: Server, faults: Faults) -> None:
    faults.measure(NAME, "reboot of a worker's host", server, lambda: fleet.reboot("node1"))


def test_the_supervisors_host_is_rebooted(fleet: Fleet, server: Server, faults: Faults) -> None:
    faults.measure(NAME, "reboot of the supervisor's host", server, lambda: fleet.reboot("head"))


def test_afterwards_a_run_finds_nothing_to_do(fleet: Fleet, server: Server, play: Play) -> None:
    variables = fleet.inventory.parent / "models.json"
    unchanged(play("models.yml", "-e", f"@{variables}"), HOSTS)
    assert sorted(server.names()) == sorted(server.models)
