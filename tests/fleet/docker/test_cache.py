"""Eight hosts and one image set: what leaves the upstream, measured there; and what hosts do when the cache is down."""

from __future__ import annotations

import json

from tests.fleet import Fleet
from tests.fleet.docker.conftest import IMAGES
from tests.fleet.suite import Play

CLIENTS = ["old", "new", "n1", "n2", "n3", "n4", "n5", "n6"]


def count(fleet: Fleet) -> int:
    """Bytes that left the upstream registry since it was asked last, by the firewall's own counter."""
    rule = "OUTPUT -p tcp --sport 5000 -j ACCEPT"
    read = "sudo iptables -nvxL OUTPUT | awk '/spt:5000/{print $2}'; sudo iptables -Z OUTPUT"
    found = fleet.ssh("svc", f"sudo iptables -C {rule} 2>/dev/null || sudo iptables -I {rule}; {read}", check=True)
    return int(found.stdout)


def test_eight_hosts_cost_the_uplink_one_download(fleet: Fleet, play: Play, engines: None) -> None:
    variables = {"image_set": list(IMAGES), "cache_url": f"http://{fleet.address('cache')}:5000"}
    count(fleet)
    play("tests/fleet/docker/cache.yml", "--limit", "n1", "-e", json.dumps({**variables, "phase": "direct"}))
    one = count(fleet)
    play("tests/fleet/docker/cache.yml", "-e", json.dumps({**variables, "phase": "filled"}))
    play("tests/fleet/docker/cache.yml", "-e", json.dumps({**variables, "phase": "pull"}))
    eight = count(fleet)
    print(f"\nbytes that left the upstream: one host without the cache {one}, eight hosts with it {eight}: {eight / one:.3f} times")
    assert eight <= 1.05 * one
    again = play("tests/fleet/docker/cache.yml", "-e", json.dumps({**variables, "phase": "filled"}))
    assert all(host.changed == 0 for host in again.recap.values()), again.recap


def test_hosts_go_on_without_the_cache(fleet: Fleet, play: Play) -> None:
    fleet.ssh("cache", "sudo systemctl stop docker-registry", check=True)
    play("tests/fleet/docker/cache.yml", "--limit", "n1,n2", "-e", json.dumps({"image_set": list(IMAGES), "phase": "pull"}))
    assert count(fleet) > 0


def test_the_cache_stays_below_its_limit(fleet: Fleet) -> None:
    command = "sudo -u docker-registry /usr/bin/python3 /usr/local/sbin/registry-cache-prune --storage /var/lib/docker-registry --max-bytes 20000000 --young 0"
    fleet.ssh("cache", f"sudo systemctl start docker-registry; {command}", check=True)
    size = int(fleet.ssh("cache", "sudo du -sb /var/lib/docker-registry | cut -f1", check=True).stdout)
    assert size < 20_000_000
