"""Ten hosts with ten different faults and a healthy one: preflight.yml finds each, with the right id, and nothing else.

These hosts are a fleet of their own: bare ones, which cost a few seconds each.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fleet import Fleet
from tests.fleet.checks.playbook import Run, run_playbook
from tests.fleet.suite import LOGS, suite_fleet

# Host to what is found there, neither more nor less: id, status, and words of the message.
EXPECTED: dict[str, list[tuple[str, str, str]]] = {
    "healthy": [],
    "old-driver": [("D10", "fail", "570.124.04 is too old for the image v4.1.0"), ("D11", "warn", "branch 570 ended")],
    "mismatch": [("D07", "fail", "driver and library do not match")],
    "lost-gpu": [("D09", "fail", "GPU 1 at 0000:af:00.0: [GPU is lost]")],
    "no-toolkit": [("G08", "fail", "container toolkit is not installed")],
    "late-toolkit": [("G07", "warn", "was installed after dockerd started")],
    "apt-conflict": [("A18", "fail", "/etc/apt/sources.list.d/nvidia-docker.list")],
    "full-disk": [("B01", "fail", "/srv/small/docker has 0.0 GiB free")],
    "port-taken": [("H06", "fail", "9997 is taken by something that is not Xinference")],
    "dead-mirror": [("H03", "fail", "Connection refused")],
    # To the second that an HTTP date is exact to.
    "wrong-clock": [("A14", "warn", "s behind, compared with")],
}
# The host's commands, as root. What they do is the fault itself, not a picture of it.
DOCKER = "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends docker.io >/dev/null"
INJECTIONS = {
    "no-toolkit": DOCKER,
    # As people do who follow a page and only reload: the runtime is known, the hook is not.
    "late-toolkit": f"""{DOCKER}
        mkdir -p /tmp/debs && cd /tmp/debs
        for name in nvidia-container-toolkit nvidia-container-toolkit-base libnvidia-container-tools libnvidia-container1; do
          python3 -c "import sys, urllib.request as u; u.urlretrieve(sys.argv[1], sys.argv[2])" $APT/${{name}}_1.20.0-1_amd64.deb $name.deb
        done
        sleep 3 && dpkg -i ./*.deb >/dev/null && sync
        echo '{{"runtimes": {{"nvidia": {{"path": "nvidia-container-runtime"}}}}}}' > /etc/docker/daemon.json && systemctl reload docker""",
    "apt-conflict": """
        echo 'deb [signed-by=/usr/share/keyrings/a.gpg] https://nvidia.github.io/libnvidia-container/stable/deb/amd64 /' \
          > /etc/apt/sources.list.d/nvidia-docker.list
        printf 'Types: deb\\nURIs: https://nvidia.github.io/libnvidia-container/stable/deb/amd64/\\nSuites: /\\nSigned-By: /etc/apt/keyrings/b.asc\\n' \
          > /etc/apt/sources.list.d/nvidia-container-toolkit.sources""",
    "full-disk": "mkdir -p /srv/small && mount -t tmpfs -o size=8m tmpfs /srv/small && ! head -c 16M /dev/zero > /srv/small/full",
    "port-taken": "systemd-run --quiet --unit=somebody python3 -m http.server 9997",
    "wrong-clock": """
        printf '%s\\n' 'import http.server, time' 'H = http.server.SimpleHTTPRequestHandler' \
          'H.date_time_string = lambda self, timestamp=None, old=H.date_time_string: old(self, (timestamp or time.time()) + 7200)' \
          'http.server.ThreadingHTTPServer(("127.0.0.1", 8123), H).serve_forever()' > /opt/clock.py
        systemd-run --quiet --unit=clock python3 /opt/clock.py""",
}


@pytest.fixture(scope="module")
def faulty() -> Iterator[Fleet]:
    with suite_fleet("preflight", "faults.yml") as made:
        inject(made)
        yield made


def inject(fleet: Fleet) -> None:
    """Give the hosts their faults; with FLEET_KEEP=1 those that have theirs keep them."""
    apt = f"APT=http://{fleet.services_address()}/apt/nvidia/stable/deb/amd64"

    def one(item: tuple[str, str]) -> None:
        host, commands = item
        script = f"test -e /var/lib/fault && exit; set -e; {apt}; {commands}\ntouch /var/lib/fault"
        done = fleet.ssh(host, f"sudo bash -c {shlex.quote(script)}", timeout=600)
        assert done.returncode == 0, f"{host}: {done.stdout}{done.stderr}"

    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(one, INJECTIONS.items()))


def preflight(fleet: Fleet, tmp_path: Path, *arguments: str) -> tuple[Run, dict]:
    """Run the playbook; returns the run and the JSON that it wrote."""
    logs = LOGS / "preflight"
    logs.mkdir(parents=True, exist_ok=True)
    written = tmp_path / "preflight.json"
    run = run_playbook(fleet.inventory, "preflight.yml", "-e", f"gpu_preflight_json={written}", *arguments, log=logs / f"preflight{len(arguments)}.log")
    document = json.loads(written.read_text())
    return run, {entry["host"]: entry for entry in document["hosts"]} | {"": document}


@pytest.fixture(scope="module")
def found(faulty: Fleet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict]:
    return preflight(faulty, tmp_path_factory.mktemp("first"))


@pytest.mark.parametrize("host", EXPECTED)
def test_each_fault_is_found_and_no_other(found: tuple[Run, dict], host: str) -> None:
    findings = [entry for entry in found[1][host]["findings"] if entry["kind"] != "ignored"]
    assert [(entry["id"], entry["status"]) for entry in findings] == [row[:2] for row in EXPECTED[host]], findings
    for entry, (dummy, dummy2, words) in zip(findings, EXPECTED[host], strict=True):
        assert words in entry["message"]
        assert entry["remedy"]


def test_the_run_fails_where_a_check_failed(found: tuple[Run, dict]) -> None:
    run, hosts = found
    failing = {host for host, rows in EXPECTED.items() if any(row[1] == "fail" for row in rows)}
    assert run.rc == 2
    assert set(hosts[""]["fail"]) == failing == {host for host, recap in run.recap.items() if recap.failed}
    assert all(recap.changed == 0 and recap.unreachable == 0 for recap in run.recap.values())


def test_how_long_it_takes(found: tuple[Run, dict]) -> None:
    """Printed only: the hosts share one machine."""
    print("\nseconds on the hosts:", {host: entry["seconds"] for host, entry in found[1].items() if host})


def test_the_table_has_every_host_and_remedy(found: tuple[Run, dict]) -> None:
    run, hosts = found
    shown = next(result["msg"] for result in run.results if "D10" in result["msg"] and "healthy" in result["msg"])
    print("\n" + shown.replace("', '", "\n"))
    for host in EXPECTED:
        assert host in shown
        for entry in hosts[host]["findings"]:
            # What is ignored is shown with its reason, not with advice.
            assert (entry["reason"] or entry["remedy"]).split()[0] in shown


def test_without_root_and_in_check_mode_the_verdicts_are_the_same(faulty: Fleet, found: tuple[Run, dict], tmp_path: Path) -> None:
    """But for what cannot be seen without root, which is unknown and never fine."""
    hosts = preflight(faulty, tmp_path, "--check", "-e", "ansible_become=false")[1]
    for host in EXPECTED:
        with_root, without = found[1][host]["statuses"], hosts[host]["statuses"]
        changed = {name: (with_root[name], without[name]) for name in with_root if with_root[name] != without[name]}
        assert {after for dummy, after in changed.values()} <= {"unknown"}, f"{host}: {changed}"


def test_a_host_that_cannot_be_reached_is_in_the_table(faulty: Fleet, tmp_path: Path) -> None:
    one = ("--limit", "healthy,mismatch", "-e", json.dumps({"ansible_port": "{{ 1 if inventory_hostname == 'mismatch' else 22 }}"}))
    run, hosts = preflight(faulty, tmp_path, *one)
    assert run.rc == 2
    assert (hosts[""]["unreachable"], hosts[""]["ok"]) == (["mismatch"], ["healthy"])


def test_an_ignored_finding_stops_nothing_and_is_shown(faulty: Fleet, tmp_path: Path) -> None:
    reason = {"gpu_preflight_ignore": {"H06": "it is going to be moved", "A04": "x", "H10": "x"}}
    run, hosts = preflight(faulty, tmp_path, "--limit", "port-taken", "-e", json.dumps(reason))
    assert run.rc == 0
    assert ("H06", "ignored", "it is going to be moved") in [(entry["id"], entry["kind"], entry["reason"]) for entry in hosts["port-taken"]["findings"]]
    assert "it is going to be moved" in run.said
