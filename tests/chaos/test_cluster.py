"""Faults of a cluster of Xinference 4.1.0, a supervisor and two workers. Nobody helps: no controller runs meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.chaos.conftest import Faults, key_of, kill_a_model, made, unchanged
from tests.chaos.serving import Server, seconds_until_serving
from tests.fleet import Fleet
from tests.fleet.suite import Play, player

HOSTS = ["head", "node1", "node2"]
NAME = "4.1.0, supervisor and two workers"


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    yield from made("cluster.yml", ["xprobe/xinference"])


@pytest.fixture(scope="module")
def play(fleet: Fleet) -> Play:
    return player(fleet, "chaos-cluster")


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
    faults.measure(NAME, "kill -9 of a model's process", server, lambda: kill_a_model(fleet, "node1", "xinference-worker", server))


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


def test_a_worker_leaves_and_a_new_one_joins(fleet: Fleet, server: Server, play: Play) -> None:
    """node2 goes, forgets all, and comes back as a stranger: registrations are told to it, so that a model runs there."""
    variables = fleet.inventory.parent / "models.json"
    wish = fleet.inventory.parent / "host_vars" / "node2.yml"
    wish.parent.mkdir(exist_ok=True)
    wish.write_text("xinference_state: absent\n")
    try:
        left = play("site.yml", "--limit", "node2", "-e", f"@{variables}")
        assert left.rc == 0 and left.recap["node2"].changed > 0, left.text[-3000:]
        # What ran there moves.
        assert seconds_until_serving(server, time.monotonic()) < 300
        unchanged(play("models.yml", "-e", f"@{variables}"), HOSTS)
    finally:
        wish.unlink()
    fleet.ssh("node2", "sudo rm -rf /opt/xinference", check=True)

    more = json.loads(variables.read_text())
    late = {**more["xinference_models"][0], "uid": "late", "worker_ip": fleet.address("node2")}
    more["xinference_models"].append(late)
    wider = variables.with_name("more-models.json")
    wider.write_text(json.dumps(more))
    joined = play("site.yml", "-e", f"@{wider}")
    assert joined.rc == 0, joined.text[-3000:]
    seen = Server(server.url, {**server.models, "late": "embedding"}, server.key)
    assert not seen.missing()
    assert "Model: late" in fleet.ssh("node2", "sudo docker top xinference-worker -o pid,args", check=True).stdout
    unchanged(play("site.yml", "-e", f"@{wider}"), HOSTS)
    gone = play("models.yml", "-e", f"@{variables}", "-e", "xinference_models_prune=true")
    assert gone.rc == 0 and sorted(server.names()) == sorted(server.models), gone.text[-3000:]


def test_afterwards_a_run_finds_nothing_to_do(fleet: Fleet, server: Server, play: Play) -> None:
    variables = fleet.inventory.parent / "models.json"
    unchanged(play("models.yml", "-e", f"@{variables}"), HOSTS)
    assert sorted(server.names()) == sorted(server.models)
