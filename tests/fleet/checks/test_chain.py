"""The whole chain on real hosts, in the order a user meets it. The tests of this file build on each other."""

from __future__ import annotations

import json
import re

import pytest

from tests.fleet import Fleet
from tests.fleet.checks.playbook import Run
from tests.fleet.suite import Play

GOOD = ["gpu1", "gpu2", "dify1"]
GPU = ["gpu1", "gpu2"]
BROKEN = "broken"
CALLS_PER_GPU_HOST = 20

# What Docker says on a host without the toolkit (recorded on Docker 26.1.5).
NO_GPU_DRIVER = 'could not select device driver "" with capabilities: [[gpu]]'
TRY_GPU = "sudo docker run --rm --gpus all busybox true"


def fingerprint(fleet: Fleet, host: str) -> str:
    """Packages, units and our folders: what a run would leave behind on a bare host."""
    command = "dpkg-query -W -f '${Package} ${Version}\\n' | sort; ls /opt /etc/docker /etc/apt/sources.list.d /etc/apt/keyrings 2>/dev/null"
    return fleet.ssh(host, f"{command}; true", check=True).stdout


def start_times(fleet: Fleet, host: str) -> str:
    """When the daemon and every container were started."""
    return fleet.ssh(
        host,
        "systemctl show docker -p ExecMainStartTimestampMonotonic;"
        " sudo docker ps -aq | xargs -r sudo docker inspect -f '{{.Name}} {{.State.StartedAt}} {{.RestartCount}}' | sort",
        check=True,
    ).stdout


def secrets_of(fleet: Fleet, host: str) -> set[str]:
    """Every secret that the roles made on a host."""
    found: set[str] = set()
    for path in ("/opt/xinference/credentials.json", "/opt/dify/secrets.json"):
        content = fleet.ssh(host, f"sudo cat {path} 2>/dev/null").stdout
        if content:
            found |= set(_strings(json.loads(content)))
    env = fleet.ssh(host, "sudo cat /opt/dify/releases/*/docker/.env 2>/dev/null").stdout
    found |= set(re.findall(r"^[A-Z_]*(?:KEY|PASSWORD|SECRET|TOKEN)=['\"]?([A-Za-z0-9_-]{16,})['\"]?$", env, re.M))
    # Addresses and names stand in those files too.
    return {text for text in found if re.fullmatch(r"[A-Za-z0-9_-]{16,}", text)}


def _strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _strings(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in _strings(inner)]
    return [value] if isinstance(value, str) else []


def test_check_mode_on_bare_hosts_tells_and_changes_nothing(fleet: Fleet, play: Play) -> None:
    before = {host: fingerprint(fleet, host) for host in GOOD}
    run = play("site.yml", "--check", "--diff")
    for host in GOOD:
        assert run.recap[host].failed == 0 and run.recap[host].unreachable == 0, run.text[-3000:]
        assert run.recap[host].changed > 0, f"{host}: a bare host would be changed, and check mode does not say so"
        assert fingerprint(fleet, host) == before[host]


def test_a_host_without_a_driver_gets_its_verdict_and_the_others_go_on(first: Run) -> None:
    assert first.recap[BROKEN].failed == 1
    said = first.messages(BROKEN)
    assert "D02" in said and "driver" in said, said
    for host in GOOD:
        assert first.recap[host].failed == 0 and first.recap[host].unreachable == 0, first.messages(host)
    assert first.rc == 2, "a failed host shows in the exit status"


def test_gpu_containers_fail_before_the_toolkit_and_run_after_it(fleet: Fleet, play: Play) -> None:
    # Preflight left `broken` out, so it is still bare: Docker and the toolkit come one after the other here.
    run = play("site.yml", "--limit", BROKEN, "--tags", "docker")
    assert run.recap[BROKEN].failed == 0, run.messages(BROKEN)
    before = fleet.ssh(BROKEN, TRY_GPU, timeout=300)
    assert before.returncode == 125 and NO_GPU_DRIVER in before.stderr, before.stderr
    run = play("site.yml", "--limit", BROKEN, "--tags", "toolkit")
    assert run.recap[BROKEN].failed == 0, run.messages(BROKEN)
    after = fleet.ssh(BROKEN, TRY_GPU, timeout=300)
    assert after.returncode == 0, after.stderr


def test_dify_answers_from_the_models(first: Run, fleet: Fleet) -> None:
    page = fleet.ssh("dify1", "sudo cat /var/lib/llmops/report/index.html").stdout
    found = re.search(r'<script type="application/json" id="report">(.*?)</script>', page, re.S)
    assert found, "no report in the status page"
    hosts = {entry["host"]: entry for entry in json.loads(found.group(1))}
    answers = hosts["dify1"]["verify"]
    assert answers["chat"]["answer"].strip()
    assert answers["embedding"] and answers["rerank"]
    assert hosts[BROKEN]["state"] == "FAILED"
    assert [model["state"] for model in hosts["gpu1"]["models"] + hosts["gpu2"]["models"]] == ["ready"] * 3


def test_second_run_changes_nothing(fleet: Fleet, first: Run, request: pytest.FixtureRequest) -> None:
    before = {host: start_times(fleet, host) for host in GOOD}
    second = request.getfixturevalue("second")
    for host in GOOD:
        recap = second.recap[host]
        changed = [result["task"] for result in second.results if result["host"] == host and result["changed"]]
        assert (recap.changed, recap.failed, recap.unreachable) == (0, 0, 0), (changed, second.messages(host))
        assert start_times(fleet, host) == before[host], f"{host}: something was restarted"


def test_second_run_is_cheap(fleet: Fleet, second: Run) -> None:
    for host in GPU:
        calls = second.module_calls(fleet.address(host))
        print(f"{host}: {calls} module calls")
        assert 0 < calls <= CALLS_PER_GPU_HOST


def test_no_secret_is_ever_printed(fleet: Fleet, first: Run, second: Run) -> None:
    for host in GOOD:
        secrets = secrets_of(fleet, host)
        assert secrets, f"{host}: the test found no secret to look for"
        for run in (first, second):
            printed = [secret[:3] + "…" for secret in secrets if secret in run.text]
            assert not printed, f"{host}: {len(printed)} secrets in the output, starting {printed}"


def test_no_secret_is_on_a_command_line(fleet: Fleet, first: Run) -> None:
    for host in GOOD:
        seen = fleet.ssh(host, "ps -ewwo args; sudo docker ps -a --no-trunc --format '{{.Names}} {{.Command}}'", check=True).stdout
        assert not [secret[:3] + "…" for secret in secrets_of(fleet, host) if secret in seen], host


def test_secrets_are_private(fleet: Fleet, first: Run) -> None:
    for host, path in [("gpu1", "/opt/xinference/credentials.json"), ("dify1", "/opt/dify/secrets.json"), ("dify1", "/opt/dify/releases/*/docker/.env")]:
        assert fleet.ssh(host, f"sudo sh -c 'stat -c %a {path}'").stdout.split() == ["600"], (host, path)
        assert fleet.ssh(host, f"cat {path}").returncode != 0, f"{host}: {path} can be read without root"
