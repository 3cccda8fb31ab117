"""A cluster of Xinference: a supervisor and a worker converge, nothing changes twice, and a killed supervisor comes back.

For make test-all: two hosts of their own take minutes. Joining, leaving and the other faults: tests/chaos.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.chaos.conftest import key_of, unchanged
from tests.chaos.serving import Server, seconds_until_serving
from tests.fleet import Fleet, images
from tests.fleet.checks.playbook import Run
from tests.fleet.suite import player, suite_fleet

pytestmark = pytest.mark.long

HOSTS = ["head", "node1"]
CALLS_PER_HOST = 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Fleet]:
    """Beside the fleet of the other checks, on a subnet of its own."""
    with suite_fleet("cluster", "cluster.yml", only=["xprobe/xinference"]) as made:
        images.ensure_models()
        yield made


@pytest.fixture(scope="module")
def converge(cluster: Fleet) -> Callable[[], Run]:
    """``site.yml`` on the cluster alone."""
    play = player(cluster, "cluster", expected=0)
    return lambda: play("site.yml", "-vvv", "--limit", ",".join(HOSTS))


@pytest.fixture(scope="module")
def server(cluster: Fleet, converge: Callable[[], Run]) -> Server:
    converge()
    return Server(f"http://{cluster.address('head')}:9997", {"embed": "embedding", "rerank": "rerank"}, key_of(cluster, "head"))


def test_the_models_of_a_cluster_serve(server: Server) -> None:
    assert not server.missing()


def test_nothing_of_it_answers_beyond_the_clusters_address(cluster: Fleet, server: Server) -> None:
    for host in HOSTS:
        listening = cluster.ssh(host, "sudo ss -ltnH | awk '{print $4}'", check=True).stdout.split()
        ours = [entry for entry in listening if entry.rpartition(":")[2] in ("9997", "9998", "9999")]
        assert ours and all(entry.startswith(cluster.address(host) + ":") for entry in ours), (host, listening)
    assert Server(server.url, {}).ask("GET", "/v1/models")[0] == 401


def test_second_run_changes_nothing_and_is_cheap(cluster: Fleet, server: Server, converge: Callable[[], Run]) -> None:
    second = converge()
    unchanged(second, HOSTS)
    for host in HOSTS:
        calls = second.module_calls(cluster.address(host))
        print(f"{host}: {calls} module calls")
        assert 0 < calls <= CALLS_PER_HOST


def test_a_killed_supervisor_comes_back_with_its_models(cluster: Fleet, server: Server) -> None:
    since = time.monotonic()
    cluster.ssh("head", "sudo kill -9 $(sudo docker inspect -f '{{.State.Pid}}' xinference)", check=True)
    print(f"\neverything serves again after {seconds_until_serving(server, since):.0f} s")
