"""Dify's role on real hosts: nothing open on the way, faults that leave the running stack alone, a second run that touches nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fleet import Fleet
from tests.fleet.checks.playbook import Run
from tests.fleet.dify.conftest import SITE, running, secrets, watched
from tests.fleet.suite import Play


def test_nobody_else_can_claim_it_while_it_is_made(first: tuple[Run, dict[str, Any]]) -> None:
    _run, seen = first
    assert set(seen["open"]) == {"80"}, "only the web server is reachable"
    assert seen["states"].get("not_started/not_started"), "the watch never saw the set-up page, so it proves nothing"
    assert seen["claimable"] == []


def test_second_run_recreates_nothing_and_nobody_notices(fleet: Fleet, play: Play, first: tuple[Run, dict[str, Any]]) -> None:
    before, kept = running(fleet, "dify1"), secrets(fleet, "dify1")
    with watched(fleet, "dify1", 0.2) as seen:
        run = play(*SITE, "dify1", "--diff")
    assert run.recap["dify1"].changed == 0 and run.rc == 0, run.text[-3000:]
    assert running(fleet, "dify1") == before and secrets(fleet, "dify1") == kept
    assert set(seen["pages"]) == {"200"}, "a probe failed during a run that had nothing to do"


def test_one_changed_setting_recreates_only_those_who_read_it(fleet: Fleet, play: Play, first: tuple[Run, dict[str, Any]]) -> None:
    def ids() -> dict[str, str]:
        return {line.split()[0]: line.split()[1] for line in running(fleet, "dify1").splitlines()}

    before = ids()
    run = play(*SITE, "dify1", "-e", json.dumps({"dify_env": {"NGINX_CLIENT_MAX_BODY_SIZE": "200M"}}))
    assert run.rc == 0, run.messages("dify1")
    # The containers that read the whole .env see the change as well (env_file); the databases do not.
    anew = {name for name, number in ids().items() if before.get(name) != number}
    print(f"\nmade anew: {sorted(anew)}")
    assert "/dify-nginx-1" in anew and not anew & {"/dify-db_postgres-1", "/dify-redis-1", "/dify-weaviate-1", "/dify-ssrf_proxy-1"}
    page = fleet.ssh("svc", f"curl -s -o /dev/null -w '%{{http_code}}' http://{fleet.address('dify1')}/console/api/setup").stdout
    assert page == "200", "nginx does not find the new containers"


def test_new_containers_behind_the_same_nginx_are_found(fleet: Fleet, play: Play, first: tuple[Run, dict[str, Any]]) -> None:
    def started() -> str:
        return next(line for line in running(fleet, "dify1").splitlines() if line.startswith("/dify-nginx-1 "))

    assert play(*SITE, "dify1").rc == 0
    before = started()
    # The api and its like are made anew for this; nginx reads none of it, and resolves their names with every request.
    run = play(*SITE, "dify1", "-e", json.dumps({"dify_proxies": {"no_proxy": "models.example.com"}}))
    assert run.rc == 0, run.messages("dify1")
    print(f"\nnginx {'is the same' if started() == before else 'was made anew'}")
    page = fleet.ssh("svc", f"curl -s -o /dev/null -w '%{{http_code}}' http://{fleet.address('dify1')}/console/api/setup").stdout
    assert page == "200", "nginx does not find the new containers"
    assert play(*SITE, "dify1").rc == 0


# variables, what the message has to say
FAULTS = [
    pytest.param({"dify_env": {"LOG_LEVLE": "DEBUG"}}, ["LOG_LEVLE", "did you mean LOG_LEVEL"], id="unknown name"),
    pytest.param({"dify_port": 8099}, ["8099", "python3", "dify_port"], id="occupied port"),
    pytest.param(
        {"dify_version": "1.9.2", "dify_allow_version_change": True, "dify_release_checksum": "sha256:" + "0" * 64},
        ["sha256", "Nothing was unpacked"],
        id="wrong checksum",
    ),
    pytest.param(
        {"dify_version": "1.9.2", "dify_allow_version_change": True, "dify_release_url": "{{ fleet_services_url }}/archives/damaged.tar.gz"},
        ["cannot be unpacked", "damaged"],
        id="corrupt archive",
    ),
    pytest.param(
        {"dify_version": "1.9.2", "dify_allow_version_change": True, "dify_release_git": "{{ fleet_services_url }}/archives/none.git"},
        ["none.git", "dify_release_git"],
        id="no such repository",
    ),
    pytest.param({"dify_version": "1.9.2"}, ["Dify 1.16.1 is on this host", "upgrade.yml"], id="another release"),
    pytest.param({"dify_images": {"web": "{{ fleet_services_address }}:5998/langgenius/dify-web:1.16.1"}}, ["5998"], id="unreachable registry"),
    pytest.param({"dify_secrets": {"DB_PASSWORD": "AnotherOne12345"}}, ["DB_PASSWORD", "different value"], id="database password"),
    pytest.param({"dify_secrets": {"SANDBOX_API_KEY": "dify-sandbox"}}, ["SANDBOX_API_KEY", "public default"], id="public default"),
    pytest.param({"dify_version": "1.9.2", "dify_allow_version_change": True, "dify_space_gib": 100000}, ["GiB free", "dify_space_gib"], id="full disk"),
]


@pytest.mark.parametrize(("variables", "said"), FAULTS)
def test_a_fault_is_named_and_the_running_stack_left_alone(
    fleet: Fleet, play: Play, first: tuple[Run, dict[str, Any]], variables: dict, said: list[str]
) -> None:
    fleet.ssh("dify1", "sudo systemctl start occupant 2>/dev/null || sudo systemd-run --quiet --unit=occupant python3 -m http.server 8099", check=True)
    fleet.ssh("svc", "sudo sh -c 'head -c 2000 /srv/www/archives/dify-1.9.2.tar.gz > /srv/www/archives/damaged.tar.gz'", check=True)
    before, kept = running(fleet, "dify1"), secrets(fleet, "dify1")
    run = play(*SITE, "dify1", "-e", json.dumps(variables))
    fleet.ssh("dify1", "sudo systemctl stop occupant")
    fleet.ssh("svc", "sudo rm -f /srv/www/archives/damaged.tar.gz")
    message = run.messages("dify1")
    print(message[:1500])
    assert run.rc == 2 and run.recap["dify1"].failed == 1
    for words in said:
        assert words in message
    assert running(fleet, "dify1") == before and secrets(fleet, "dify1") == kept
    assert fleet.ssh("dify1", "ls -A /opt/dify/releases").stdout.split() == ["1.16.1"]


def test_a_service_that_does_not_get_healthy_is_named_with_its_last_words(fleet: Fleet, play: Play, first: tuple[Run, dict[str, Any]]) -> None:
    broken = {"dify_env": {"REDIS_PORT": 6999}, "dify_wait_timeout": 45}
    run = play(*SITE, "dify1", "-e", json.dumps(broken))
    message = run.messages("dify1")
    print(message[:2500])
    assert run.rc == 2 and "Not healthy:" in message and "worker" in message
    assert "Look further with" in message
    run = play(*SITE, "dify1")
    assert run.rc == 0, run.messages("dify1")


def test_an_older_release_is_installed_and_stays(fleet: Fleet, play: Play, docker: None) -> None:
    for times in (1, 2):
        run = play(*SITE, "dify2", "-e", "dify_version=1.9.2")
        assert run.rc == 0, run.messages("dify2")
    assert run.recap["dify2"].changed == 0, "the second run found something to do"


def test_what_cannot_run_here_is_rendered_as_upstream_wants_it(fleet: Fleet, play: Play, first: tuple[Run, dict[str, Any]]) -> None:
    before = running(fleet, "dify1")
    wanted = {
        "dify_registry_prefix": "registry.example.com/hub/",
        "dify_images": {"redis": "redis@sha256:" + "0" * 64},
        "dify_certbot_domain": "dify.example.com",
        "dify_certbot_email": "admin@example.com",
        "dify_env_known_names": ["S3_SECRET_KEY", "STORAGE_TYPE"],
        "dify_env": {"STORAGE_TYPE": "s3"},
        "dify_env_secrets": {"S3_SECRET_KEY": "NobodyShallReadThis1"},
    }
    run = play(*SITE, "dify1", "--check", "--diff", "-vvv", "-e", json.dumps({**wanted, "dify_env_secrets": {}}))
    assert run.rc == 0, run.messages("dify1")
    for words in (
        'image: "registry.example.com/hub/library/nginx:latest"',
        'image: "registry.example.com/hub/langgenius/dify-api:1.16.1"',
        'image: "redis@sha256:' + "0" * 64,
        "CERTBOT_DOMAIN",
        "collaboration,certbot",
        "STORAGE_TYPE",
    ):
        assert words in run.said, words
    assert running(fleet, "dify1") == before
    # Given in a file, as a vault would: a value on the command line is printed by -vvv itself.
    hidden = play(*SITE, "dify1", "--check", "--diff", "-e", json.dumps(wanted))
    assert hidden.rc == 0 and "NobodyShallReadThis1" not in hidden.text
