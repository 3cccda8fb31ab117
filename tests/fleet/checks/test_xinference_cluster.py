"""A cluster of Xinference: a supervisor and a worker converge, nothing changes twice, and a killed supervisor comes back.

For make test-all: two hosts of their own take minutes. Joining, leaving and the other faults: tests/chaos.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.chaos.conftest import key_of, unchanged
from tests.chaos.serving import Server, seconds_until_serving
from tests.fleet import Fleet, images
from tests.fleet.checks.playbook import ROOT, Run, run_playbook
from tests.fleet.config import Settings

pytestmark = pytest.mark.long

HOSTS = ["head", "node1"]
CALLS_PER_HOST = 20
KEEP = os.environ.get("FLEET_KEEP") == "1"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Fleet]:
    """Beside the fleet of the other checks, on a subnet of its own."""
    settings = Settings.from_environment(
        {
            **os.environ,
            "FLEET_NAME": "cluster",
            "FLEET_SUBNET": os.environ.get("FLEET_CLUSTER_SUBNET", "10.213.81.0/24"),
            "FLEET_STATE": str(ROOT / ".cache" / "fleet-cluster"),
        }
    )
    made = Fleet(settings)
    made.prepare()
    if not KEEP:
        made.down()
    made.up(ROOT / "tests/fleet/layouts/cluster.yml")
    images.ensure(f"http://{made.services_address()}:5000", only=["xprobe/xinference"])
    images.ensure_models()
    yield made
    if not KEEP:
        made.down()


def converge(fleet: Fleet, name: str) -> Run:
    logs = ROOT / ".cache" / "fleet-logs"
    logs.mkdir(parents=True, exist_ok=True)
    run = run_playbook(fleet.inventory, "site.yml", "-vvv", "--limit", ",".join(HOSTS), log=logs / f"cluster-{name}.log")
    print(f"\n{name} run: exit status {run.rc} after {run.seconds:.0f} s; {run.recap}")
    return run


@pytest.fixture(scope="module")
def server(cluster: Fleet) -> Server:
    run = converge(cluster, "first")
    assert run.rc == 0, run.text[-3000:]
    return Server(f"http://{cluster.address('head')}:9997", {"embed": "embedding", "rerank": "rerank"}, key_of(cluster, "head"))


def test_the_models_of_a_cluster_serve(server: Server) -> None:
    assert not server.missing()


def test_nothing_of_it_answers_beyond_the_clusters_address(cluster: Fleet, server: Server) -> None:
    for host in HOSTS:
        listening = cluster.ssh(host, "sudo ss -ltnH | awk '{print $4}'", check=True).stdout.split()
        ours = [entry for entry in listening if entry.rpartition(":")[2] in ("9997", "9998", "9999")]
        assert ours and all(entry.startswith(cluster.address(host) + ":") for entry in ours), (host, listening)
    assert Server(server.url, {}).ask("GET", "/v1/models")[0] == 401


def test_second_run_changes_nothing_and_is_cheap(cluster: Fleet, server: Server) -> None:
    second = converge(cluster, "second")
    unchanged(second, HOSTS)
    for host in HOSTS:
        calls = second.module_calls(cluster.address(host))
        print(f"{host}: {calls} module calls")
        assert 0 < calls <= CALLS_PER_HOST


def test_a_killed_supervisor_comes_back_with_its_models(cluster: Fleet, server: Server) -> None:
    since = time.monotonic()
    cluster.ssh("head", "sudo kill -9 $(sudo docker inspect -f '{{.State.Pid}}' xinference)", check=True)
    print(f"\neverything serves again after {seconds_until_serving(server, since):.0f} s")
