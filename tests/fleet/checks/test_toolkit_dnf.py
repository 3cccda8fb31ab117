"""The role nvidia_container_toolkit with dnf: a real dnf and a real rpm, on a Debian whose apt and dpkg are out of the way.

The distribution is none of the RHEL family, and no archive of one is within reach; the tools are, and so is their way with
repositories, signatures, versions and configuration files.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet import Fleet, packages
from tests.fleet.checks.playbook import Run
from tests.fleet.rpmrepo import build, put
from tests.fleet.standins.nvidia import nvidia_ctk
from tests.fleet.suite import Play, player, suite_fleet

pytestmark = pytest.mark.long
HOST = "rpm1"
OLD, NEW = packages.NVIDIA_VERSIONS
NAMES = ("libnvidia-container-tools", "libnvidia-container1", "nvidia-container-toolkit", "nvidia-container-toolkit-base")
REPOSITORY = "/srv/rpm/rpm/x86_64"
OTHER = "/etc/yum.repos.d/somebody-elses.repo"
PROGRAMS = "docker.io docker-cli dnf python3-dnf rpm createrepo-c gpg"
# Every file that the role may touch, and every package.
LOOK = "sudo sh -c 'find /etc/yum.repos.d /etc/pki /etc/docker -type f | sort | xargs sha256sum; rpm -qa | sort'"


@pytest.fixture(scope="module")
def host() -> Iterator[Fleet]:
    with suite_fleet("dnf", "dnf.yml") as made:
        if made.ssh(HOST, "test -e /srv/rpm/ready").returncode != 0:
            prepare(made)
        yield made


def prepare(fleet: Fleet) -> None:
    install = f"apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends {PROGRAMS} >/dev/null"
    fleet.ssh(HOST, f"sudo sh -c '{install}'", check=True, timeout=600)
    build(fleet, HOST, packages.nvidia_packages(Path(nvidia_ctk.__file__).read_bytes()), REPOSITORY)
    serve = "systemd-run --quiet --unit=rpms python3 -m http.server 8124 --bind 127.0.0.1 --directory /srv/rpm"
    # Whoever looks for a package manager finds one, and Ansible asks the distribution's name as well.
    name = """printf 'ID="rocky"\\nID_LIKE="rhel centos fedora"\\nNAME="Rocky Linux"\\nVERSION_ID="9.4"\\n' > /etc/os-release
        echo 'Rocky Linux release 9.4 (Blue Onyx)' > /etc/redhat-release; rm -f /etc/debian_version"""
    hide = "mkdir -p /opt/hidden && mv /usr/bin/dpkg-query /usr/bin/dpkg /usr/bin/apt /usr/bin/apt-get /usr/bin/apt-cache /opt/hidden/"
    fleet.ssh(HOST, f"sudo sh -c {shlex.quote(f'set -e; {serve}; {hide}; {name}; mkdir -p /etc/yum.repos.d; touch /srv/rpm/ready')}", check=True)


@pytest.fixture(scope="module")
def play(host: Fleet) -> Play:
    return player(host, "dnf")


def toolkit(play: Play, version: str, *arguments: str) -> Run:
    return play("site.yml", "--limit", HOST, "--tags", "toolkit", "-e", f"nvidia_container_toolkit_version={version}", *arguments)


def versions(fleet: Fleet) -> set[str]:
    return set(fleet.ssh(HOST, f"rpm -q --qf '%{{NAME}} %{{VERSION}}-%{{RELEASE}}\\n' {' '.join(NAMES)}").stdout.splitlines())


def all_of(version: str) -> set[str]:
    return {f"{name} {version}" for name in NAMES}


def nothing_left(play: Play, version: str) -> None:
    again = toolkit(play, version)
    assert (again.recap[HOST].failed, again.recap[HOST].changed) == (0, 0), again.text[-2000:]


def test_check_mode_and_a_wrong_key_change_nothing(host: Fleet, play: Play) -> None:
    before = host.ssh(HOST, LOOK, check=True).stdout
    tried = toolkit(play, OLD, "--check", "--diff")
    assert tried.recap[HOST].failed == 0 and tried.recap[HOST].changed > 0, tried.messages(HOST)
    assert "Would install and hold" in tried.said and host.ssh(HOST, LOOK, check=True).stdout == before
    wrong = "C95B321B61E88C1809C4F759DDCAE044F796ECB0"
    refused = toolkit(play, OLD, "-e", f"nvidia_container_toolkit_key_fingerprint={wrong}")
    assert (refused.recap[HOST].failed, refused.recap[HOST].changed) == (1, 0)
    assert wrong in refused.messages(HOST) and host.ssh(HOST, LOOK, check=True).stdout == before


def test_four_packages_come_and_stay_at_their_version(host: Fleet, play: Play) -> None:
    put(host, HOST, OTHER, b"[nvidia]\nname=somebody's\nbaseurl=http://127.0.0.1:8124/rpm/$basearch\ngpgcheck=0\n\n[else]\nname=e\nbaseurl=file:///x\nenabled=0\n")
    run = toolkit(play, OLD)
    assert run.recap[HOST].failed == 0 and run.recap[HOST].changed > 0, run.messages(HOST)
    assert versions(host) == all_of(OLD)
    assert host.ssh(HOST, f"cat {OTHER}", check=True).stdout == "[else]\nname=e\nbaseurl=file:///x\nenabled=0\n"
    nothing_left(play, OLD)
    # The night's upgrade leaves them alone, though the repository has a newer version.
    assert NEW in "".join(host.ssh(HOST, f"ls {REPOSITORY}/x86_64", check=True).stdout)
    host.ssh(HOST, "sudo dnf --assumeyes upgrade", check=True)
    assert versions(host) == all_of(OLD)
    assert host.ssh(HOST, "sudo docker info --format '{{.Runtimes.nvidia.Path}}'", check=True).stdout == "nvidia-container-runtime\n"


def test_an_upgrade_removes_nvidia_docker2_and_keeps_daemon_json(host: Fleet, play: Play) -> None:
    host.ssh(HOST, f"sudo rpm --install {REPOSITORY}/noarch/nvidia-docker2-2.14.0-1.noarch.rpm", check=True)
    # What the roles own they would write anew; this is somebody's own.
    own = {**json.loads(host.ssh(HOST, "sudo cat /etc/docker/daemon.json", check=True).stdout), "max-concurrent-uploads": 7}
    put(host, HOST, "/etc/docker/daemon.json", json.dumps(own).encode())
    run = toolkit(play, NEW)
    assert run.recap[HOST].failed == 0 and run.recap[HOST].changed > 0, run.messages(HOST)
    assert versions(host) == all_of(NEW)
    assert host.ssh(HOST, "rpm -q nvidia-docker2").returncode != 0
    assert json.loads(host.ssh(HOST, "sudo cat /etc/docker/daemon.json", check=True).stdout) == own
    nothing_left(play, NEW)


def test_an_index_that_is_not_signed_is_refused_and_a_pin_goes_back(host: Fleet, play: Play) -> None:
    index = f"{REPOSITORY}/repodata/repomd.xml"
    genuine = host.ssh(HOST, f"cat {index}", check=True).stdout
    put(host, HOST, index, genuine.replace("<revision>", "<revision>1").encode())
    try:
        refused = toolkit(play, OLD)
    finally:
        put(host, HOST, index, genuine.encode())
    assert refused.recap[HOST].failed == 1 and versions(host) == all_of(NEW), refused.messages(HOST)
    run = toolkit(play, OLD)
    assert run.recap[HOST].failed == 0, run.messages(HOST)
    assert versions(host) == all_of(OLD)
    nothing_left(play, OLD)
