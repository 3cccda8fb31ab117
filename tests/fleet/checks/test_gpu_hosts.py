"""GPU hosts after their installation: the toolkit's packages on a real apt, the truth probe, and the watchdog."""

from __future__ import annotations

import base64
import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fleet import Fleet
from tests.fleet.checks.playbook import Run
from tests.fleet.standins.nvidia.libcuda import build as build_libcuda
from tests.fleet.standins.nvidia.profiles import PROFILES, smi_profile
from tests.fleet.suite import Play

# Without a driver, and apart from the others: nothing runs on it.
APT = "broken"
GPU = "gpu1"
OLD, NEW = "1.19.1-1", "1.20.0-1"
PACKAGES = ("libnvidia-container-tools", "libnvidia-container1", "nvidia-container-toolkit", "nvidia-container-toolkit-base")
OTHER = "/etc/apt/sources.list.d/somebody-elses.list"
SERVICE = "llmops-gpu-watchdog.service"
LOST = "/dev/shm/llmops-standin-nvml-lost"


def toolkit(play: Play, *arguments: str) -> Run:
    return play("site.yml", "--limit", APT, "--tags", "toolkit", *arguments)


def versions(fleet: Fleet) -> dict[str, str]:
    """Version of each of the four packages, with a mark on those that are held."""
    out = fleet.ssh(APT, f"dpkg-query -W -f '${{Package}} ${{db:Status-Want}}-${{Version}}\\n' {' '.join(PACKAGES)}", check=True).stdout
    return dict(line.split() for line in out.splitlines())


def held(version: str) -> dict[str, str]:
    return {name: f"hold-{version}" for name in PACKAGES}


def started(fleet: Fleet) -> str:
    return fleet.ssh(APT, "systemctl show docker -p ExecMainStartTimestampMonotonic", check=True).stdout


def put(fleet: Fleet, host: str, path: str, content: bytes) -> None:
    """Replace a file in place, so that a container that has it sees the change as well."""
    fleet.ssh(host, f"echo {base64.b64encode(content).decode()} | base64 -d | sudo tee {path} >/dev/null", check=True)


@pytest.fixture(scope="module")
def apt_host(fleet: Fleet, first: Run, play: Play) -> Fleet:
    """The host with Docker and the toolkit; preflight left it out of the first run."""
    done = play("site.yml", "--limit", APT, "--tags", "docker,toolkit")
    assert done.recap[APT].failed == 0, done.messages(APT)
    assert versions(fleet) == held(NEW)
    return fleet


def test_packages_come_from_a_folder_and_go_back_to_an_older_pin(apt_host: Fleet, play: Play) -> None:
    before = started(apt_host)
    folder = apt_host.settings.cache / "www/apt/nvidia/stable/deb/amd64"
    wish = ("-e", f"nvidia_container_toolkit_deb_folder={folder}", "-e", f"nvidia_container_toolkit_version={OLD}")
    run = toolkit(play, *wish)
    assert run.recap[APT].failed == 0 and run.recap[APT].changed > 0, run.messages(APT)
    assert versions(apt_host) == held(OLD)
    again = toolkit(play, *wish)
    assert (again.recap[APT].failed, again.recap[APT].changed) == (0, 0), again.text[-2000:]
    assert started(apt_host) == before, "dockerd was restarted although it had found the hook before"


def test_a_wrong_key_is_refused_and_nothing_is_changed(apt_host: Fleet, play: Play) -> None:
    look = "sudo sh -c 'find /etc/apt /etc/docker -type f | sort | xargs sha256sum; dpkg-query -W'"
    before = apt_host.ssh(APT, look, check=True).stdout
    wrong = "C95B321B61E88C1809C4F759DDCAE044F796ECB0"
    run = toolkit(play, "-e", f"nvidia_container_toolkit_key_fingerprint={wrong}")
    assert run.recap[APT].failed == 1 and run.recap[APT].changed == 0
    said = run.messages(APT)
    assert wrong in said and "nothing was written" in said, said
    assert apt_host.ssh(APT, look, check=True).stdout == before


def test_an_upgrade_clears_conflicts_and_predecessors_and_keeps_daemon_json(apt_host: Fleet, play: Play) -> None:
    install = "sudo DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Options::=--force-confold install --yes nvidia-docker2"
    apt_host.ssh(APT, install, check=True)
    config = apt_host.ssh(APT, "sudo cat /etc/docker/daemon.json", check=True).stdout
    sources = apt_host.ssh(APT, "cat /etc/apt/sources.list.d/nvidia-container-toolkit.sources", check=True).stdout
    address = sources.partition("URIs: ")[2].partition("\n")[0]
    put(apt_host, APT, OTHER, f"deb [signed-by=/usr/share/keyrings/other.gpg] {address} /\n".encode())
    broken = apt_host.ssh(APT, "sudo apt-get -q update")
    assert broken.returncode != 0 and "Conflicting values set" in broken.stderr, "the test's conflict is none"
    before = started(apt_host)
    run = toolkit(play)
    assert run.recap[APT].failed == 0 and run.recap[APT].changed > 0, run.messages(APT)
    assert versions(apt_host) == held(NEW)
    assert apt_host.ssh(APT, f"test -e {OTHER}").returncode != 0
    assert apt_host.ssh(APT, "dpkg-query -W -f '${db:Status-Status}' nvidia-docker2").stdout == "config-files"
    assert apt_host.ssh(APT, "sudo cat /etc/docker/daemon.json", check=True).stdout == config
    assert apt_host.ssh(APT, "sudo apt-get -q update").returncode == 0
    again = toolkit(play)
    assert (again.recap[APT].failed, again.recap[APT].changed) == (0, 0), again.text[-2000:]
    assert started(apt_host) == before


def test_a_stale_cdi_specification_is_told_and_generated_anew(fleet: Fleet, first: Run, play: Play) -> None:
    spec = "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ncontainerEdits:\n  mounts:\n  - hostPath: /usr/lib/x86_64-linux-gnu/libcuda.so.535.161.08\n"
    fleet.ssh(GPU, "sudo mkdir -p /var/run/cdi", check=True)
    put(fleet, GPU, "/var/run/cdi/nvidia.yaml", spec.encode())
    run = play("site.yml", "--limit", GPU, "--tags", "toolkit")
    assert run.recap[GPU].failed == 0 and run.recap[GPU].changed == 1, run.text[-2000:]
    assert "is for driver 535.161.08" in run.said
    driver = PROFILES["rtx4090x1"].driver_version
    assert f"libcuda.so.{driver}" in fleet.ssh(GPU, "cat /var/run/cdi/nvidia.yaml", check=True).stdout


def test_cuda_is_asked_in_the_image_once(fleet: Fleet, first: Run, play: Play) -> None:
    stamp = json.loads(fleet.ssh(GPU, "sudo cat /var/lib/llmops/gpu-probe.json", check=True).stdout)
    assert stamp["verdict"]["status"] == "ok" and stamp["verdict"]["devices"] == 1
    # nvidia-smi goes on looking fine; only CUDA tells.
    profile = PROFILES["rtx4090x1"]
    path = "/usr/lib/llmops-standin/libcuda.so.1"
    try:
        put(fleet, GPU, path, build_libcuda(1, profile.cuda_version, init=802))
        fleet.ssh(GPU, "sudo rm /var/lib/llmops/gpu-probe.json", check=True)
        run = play("site.yml", "--limit", GPU, "--tags", "xinference")
        assert run.recap[GPU].failed == 1
        said = run.messages(GPU)
        assert "cuInit in the container returns 802" in said and "fabricmanager" in said, said
        assert fleet.ssh(GPU, "nvidia-smi -L").returncode == 0
    finally:
        put(fleet, GPU, path, build_libcuda(1, profile.cuda_version))
    run = play("site.yml", "--limit", GPU, "--tags", "xinference")
    assert (run.recap[GPU].failed, run.recap[GPU].changed) == (0, 0), run.messages(GPU)


def look(fleet: Fleet) -> dict:
    """One look of the watchdog; its verdict."""
    fleet.ssh(GPU, f"sudo systemctl start {SERVICE}", check=True, timeout=240)
    return json.loads(fleet.ssh(GPU, "cat /var/lib/llmops/gpu-watchdog/verdict.json", check=True).stdout)


def container_start(fleet: Fleet) -> str:
    return fleet.ssh(GPU, "sudo docker inspect -f '{{.State.StartedAt}}' xinference", check=True).stdout


def test_the_watchdog_restarts_the_container_that_lost_its_gpus_once(fleet: Fleet, first: Run) -> None:
    fleet.ssh(GPU, "sudo systemctl stop llmops-gpu-watchdog.timer", check=True)
    try:
        assert look(fleet)["status"] == "ok"
        before = container_start(fleet)
        fleet.ssh(GPU, f"sudo docker exec xinference touch {LOST}", check=True)
        lost = fleet.ssh(GPU, "sudo docker exec xinference nvidia-smi -L")
        assert (lost.returncode, lost.stdout) == (255, "Failed to initialize NVML: Unknown Error\n")
        assert look(fleet)["status"] == "warn"
        restarted = container_start(fleet)
        assert restarted != before
        assert look(fleet)["status"] == "ok"
        # Lost again at once: it waits.
        fleet.ssh(GPU, f"sudo docker exec xinference touch {LOST}", check=True)
        assert look(fleet)["status"] == "fail"
        assert container_start(fleet) == restarted
        fleet.ssh(GPU, f"sudo docker exec xinference rm {LOST}", check=True)
        numbers = fleet.ssh(GPU, "cat /var/lib/prometheus/node-exporter/llmops_gpu.prom", check=True).stdout
        assert 'llmops_gpu_container_restarts_total{container="xinference"} 1\n' in numbers
        assert 'llmops_gpu_container_ok{container="xinference"} 0\n' in numbers
    finally:
        fleet.ssh(GPU, "sudo systemctl start llmops-gpu-watchdog.timer", check=True)


# A kernel message of this boot in a journal file of its own, for nobody may write into a container's kernel log.
XID = r"""set -e
DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends systemd-journal-remote >/dev/null
folder=/var/log/journal/$(cat /etc/machine-id); mkdir -p $folder
printf '%s\n' __REALTIME_TIMESTAMP=$(date +%s)000000 __MONOTONIC_TIMESTAMP=1000000 _TRANSPORT=kernel SYSLOG_IDENTIFIER=kernel \
  _BOOT_ID=$(tr -d - < /proc/sys/kernel/random/boot_id) _MACHINE_ID=$(cat /etc/machine-id) \
  'MESSAGE=NVRM: Xid (PCI:0000:01:00): 79, pid=1234, name=python3, GPU has fallen off the bus.' '' > /tmp/xid
/lib/systemd/systemd-journal-remote --output=$folder/xid.journal /tmp/xid
printf '#!/bin/sh\necho 595.91.07\n' > /usr/local/sbin/modinfo && chmod 755 /usr/local/sbin/modinfo"""
NO_XID = f"rm -f /var/log/journal/*/xid.journal /usr/local/sbin/modinfo /var/lib/llmops/gpu-watchdog/state.json; systemctl start {SERVICE}"


def test_an_xid_and_a_driver_that_waits_for_a_reboot_are_told(fleet: Fleet, first: Run, play: Play, tmp_path: Path) -> None:
    fleet.ssh(GPU, "sudo systemctl stop llmops-gpu-watchdog.timer", check=True)
    before = container_start(fleet)
    try:
        fleet.ssh(GPU, f"sudo sh -c {shlex.quote(XID)}", check=True, timeout=300)
        look(fleet)
        # The second look does not count it again.
        bad = {entry["id"]: entry for entry in look(fleet)["verdicts"] if entry["status"] in ("warn", "fail")}
        assert {name: entry["status"] for name, entry in bad.items()} == {"driver_mismatch": "warn", "xid": "fail"}, bad
        assert "Xid 79 on 0000:01:00, 1 times" in bad["xid"]["message"] and "Power-cycle" in bad["xid"]["remedy"]
        assert 'llmops_gpu_xid_total{xid="79",bus="0000:01:00"} 1\n' in fleet.ssh(GPU, "cat /var/lib/prometheus/node-exporter/llmops_gpu.prom").stdout
        assert container_start(fleet) == before
        written = tmp_path / "preflight.json"
        run = play("preflight.yml", "--limit", GPU, "-e", f"gpu_preflight_json={written}")
        found = json.loads(written.read_text())["hosts"][0]["statuses"]
        assert (run.rc, found["E01"], found["D08"]) == (2, "fail", "warn")
    finally:
        fleet.ssh(GPU, f"sudo sh -c {shlex.quote(NO_XID)}; sudo systemctl start llmops-gpu-watchdog.timer", check=True)


def test_a_lost_gpu_gets_a_verdict_and_no_restart(fleet: Fleet, first: Run, play: Play) -> None:
    fleet.ssh(GPU, "sudo systemctl stop llmops-gpu-watchdog.timer", check=True)
    path = "/etc/llmops-standin/nvidia.json"
    healthy = fleet.ssh(GPU, f"cat {path}", check=True).stdout.encode()
    before = container_start(fleet)
    try:
        put(fleet, GPU, path, json.dumps(smi_profile(replace(PROFILES["rtx4090x1"], lost=(0,)))).encode())
        fleet.ssh(GPU, f"sudo docker exec xinference touch {LOST}", check=True)
        found = look(fleet)
        assert found["status"] == "fail"
        assert [entry["id"] for entry in found["verdicts"] if entry["status"] == "fail"] == ["gpu_lost", "container_lost"]
        assert container_start(fleet) == before
        run = play("site.yml", "--limit", GPU, "--tags", "watchdog")
        assert "A GPU is lost" in run.said, "the report says nothing of it"
    finally:
        put(fleet, GPU, path, healthy)
        fleet.ssh(GPU, f"sudo docker exec xinference rm -f {LOST}; sudo systemctl start {SERVICE} llmops-gpu-watchdog.timer", check=True)
