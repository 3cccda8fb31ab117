"""What a user gets for a mistake: what failed, what was found, what to do; and nothing is lost by it."""

from __future__ import annotations

import json

import pytest

from tests.fleet import Fleet
from tests.fleet.checks.playbook import Run
from tests.fleet.suite import Play

GOOD_MODEL = {"uid": "chat", "type": "LLM", "name": "tiny-llm", "engine": "transformers", "size": "0_1", "format": "pytorch", "quantization": "none"}

# name, playbook and host, variables, what the message has to say
MISTAKES = [
    pytest.param("models.yml", "gpu1", {"xinference_models": [{**GOOD_MODEL, "enigne": "vllm"}]}, ["enigne", "engine"], id="unknown option"),
    pytest.param("models.yml", "gpu1", {"xinference_models": "chat"}, ["xinference_models", "dictionary requested"], id="wrong type"),
    pytest.param("models.yml", "gpu1", {"xinference_models": [GOOD_MODEL, {"uid": "e1", "type": "embedding"}]}, ["e1", "name"], id="missing model name"),
    pytest.param("models.yml", "gpu1", {"xinference_admin_password": "not-the-right-one"}, ["password", "xinference_admin_password"], id="Xinference password"),
    pytest.param("site.yml", "dify1", {"dify_admin_password": "NotTheRight1"}, ["ADMIN_PASSWORD", "Leave the variable empty"], id="Dify password"),
    pytest.param("site.yml", "dify1", {"dify_env": {"LOG_LEVLE": "DEBUG"}}, ["LOG_LEVLE", "LOG_LEVEL"], id="unknown Dify setting"),
    pytest.param("site.yml", "dify1", {"docker_package_source": "snap"}, ["docker_package_source", "distribution"], id="unknown package source"),
]


def kept(fleet: Fleet, host: str) -> str:
    """What must survive a mistake: secrets, launches, settings, and since when everything runs."""
    files = "/opt/xinference/credentials.json /opt/xinference/launched.json /opt/dify/secrets.json /opt/dify/releases/*/docker/.env /etc/docker/daemon.json"
    return fleet.ssh(
        host,
        f"sudo sh -c 'sha256sum {files} 2>/dev/null'; sudo docker ps -q | xargs -r sudo docker inspect -f '{{{{.Name}}}} {{{{.State.StartedAt}}}}' | sort",
        check=True,
    ).stdout


@pytest.mark.parametrize(("playbook", "host", "variables", "said"), MISTAKES)
def test_a_mistake_gets_a_clear_error_and_loses_nothing(
    fleet: Fleet, play: Play, second: Run, playbook: str, host: str, variables: dict, said: list[str]
) -> None:
    before = kept(fleet, host)
    tags = ["--tags", "docker,dify"] if playbook == "site.yml" else []
    run = play(playbook, "--limit", host, *tags, "-e", json.dumps(variables))
    message = run.messages(host)
    assert run.rc == 2 and run.recap[host].failed == 1, run.text[-2000:]
    print(message)
    for words in said:
        assert words in message
    assert kept(fleet, host) == before


def test_a_dead_mirror_is_named_and_left_out(fleet: Fleet, first: Run) -> None:
    for host in ("gpu1", "gpu2", "dify1"):
        told = [result["msg"] for result in first.of(host, "ok") if "is left out (dead)" in result["msg"]]
        assert told and ":5999" in told[0], f"{host} was not told of the dead mirror"
        assert ":5999" not in fleet.ssh(host, "sudo cat /etc/docker/daemon.json").stdout
