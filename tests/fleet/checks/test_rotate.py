"""New keys for every Xinference, while Dify goes on answering. For make test-all: two plays."""

from __future__ import annotations

import json

import pytest

from tests.chaos.serving import Server
from tests.fleet import Fleet
from tests.fleet.checks.playbook import Run
from tests.fleet.suite import Play

pytestmark = pytest.mark.long

GPU = ["gpu1", "gpu2"]
HOSTS = [*GPU, "dify1"]
LIMIT = ("--limit", ",".join(HOSTS))


def keys(fleet: Fleet) -> dict[str, str]:
    return {host: json.loads(fleet.ssh(host, "sudo cat /opt/xinference/credentials.json", check=True).stdout)["api_keys"]["dify"]["key"] for host in GPU}


def answer(fleet: Fleet, host: str, key: str) -> int:
    return Server(f"http://{fleet.address(host)}:9997", {}, key).ask("GET", "/v1/models")[0]


def test_the_old_key_ends_after_dify_has_answered_with_the_new_one(fleet: Fleet, first: Run, play: Play) -> None:
    before = keys(fleet)
    assert {answer(fleet, host, before[host]) for host in GPU} == {200}
    run = play("rotate.yml", *LIMIT)
    for host in HOSTS:
        assert run.recap[host].failed == 0, run.messages(host)
    after = keys(fleet)
    for host in GPU:
        assert after[host] != before[host]
        assert (answer(fleet, host, before[host]), answer(fleet, host, after[host])) == (401, 200), host
        assert before[host] not in run.text and after[host] not in run.text
    # It ends with a real answer of Dify, and finds nothing to do.
    again = play("site.yml", *LIMIT)
    for host in HOSTS:
        changed = [result["task"] for result in again.results if result["host"] == host and result["changed"]]
        assert (again.recap[host].failed, again.recap[host].changed) == (0, 0), (changed, again.messages(host))
    assert keys(fleet) == after
