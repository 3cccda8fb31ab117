"""The role nvidia_driver on a real apt: packages that switch the stand-in of the driver, on a host that has none."""

from __future__ import annotations

import pytest

from tests.fleet import Fleet
from tests.fleet.checks.playbook import Run
from tests.fleet.standins.nvidia.hostfiles import STANDIN_ROOT
from tests.fleet.suite import Play

HOST = "broken"
OLD, NEW = "580.95.05-1", "580.173.02-1"
OURS = ["nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-open-580", "nvidia-persistenced"]
SECURE_BOOT = f"{STANDIN_ROOT}/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
DEVICE = f"{STANDIN_ROOT}/sys/bus/pci/devices/0000:01:00.0/device"


def driver(play: Play, *arguments: str) -> Run:
    return play("driver.yml", "--limit", HOST, "-e", "nvidia_driver_manage=true", *arguments)


def packages(fleet: Fleet) -> str:
    return fleet.ssh(HOST, "dpkg-query -W; find /etc/apt /etc/modprobe.d -type f | sort", check=True).stdout


def held(fleet: Fleet, version: str) -> None:
    shown = fleet.ssh(HOST, f"dpkg-query -W -f '${{db:Status-Want}} ${{Package}} ${{Version}}\\n' {' '.join(OURS)}", check=True).stdout
    assert shown.splitlines() == [f"hold {name} {version}" for name in OURS]


def test_without_the_switch_nothing_is_done(fleet: Fleet, play: Play) -> None:
    run = play("driver.yml", "--limit", HOST)
    assert (run.recap[HOST].failed, run.recap[HOST].changed) == (0, 0) and "is left alone" in run.said


@pytest.mark.parametrize(
    ("prepare", "undo", "arguments", "words"),
    [
        (
            f"sudo mkdir -p $(dirname {SECURE_BOOT}) && printf '\\006\\000\\000\\000\\001' | sudo tee {SECURE_BOOT}",
            f"sudo rm -r {STANDIN_ROOT}/sys/firmware",
            (),
            "Secure Boot is on",
        ),
        (f"echo 0x15f8 | sudo tee {DEVICE}", f"echo 0x2684 | sudo tee {DEVICE}", ("-e", "nvidia_driver_branch=595"), "its last branch is 580"),
    ],
    ids=["secure-boot", "gpu-too-old"],
)
def test_what_cannot_work_is_refused_before_anything_is_changed(fleet: Fleet, play: Play, prepare: str, undo: str, arguments: tuple, words: str) -> None:
    before = packages(fleet)
    fleet.ssh(HOST, prepare, check=True)
    try:
        run = driver(play, *arguments)
    finally:
        fleet.ssh(HOST, undo, check=True)
    assert (run.recap[HOST].failed, run.recap[HOST].changed) == (1, 0)
    assert words in run.messages(HOST), run.messages(HOST)
    assert packages(fleet) == before


def test_a_driver_comes_and_stays(fleet: Fleet, play: Play) -> None:
    wish = ("-e", f"nvidia_driver_version={OLD}")
    before = packages(fleet)
    tried = driver(play, *wish, "--check", "--diff")
    assert tried.recap[HOST].failed == 0 and tried.recap[HOST].changed > 0
    assert packages(fleet) == before
    run = driver(play, *wish)
    assert run.recap[HOST].failed == 0 and run.recap[HOST].changed > 0, run.messages(HOST)
    held(fleet, OLD)
    assert "RTX 4090" in fleet.ssh(HOST, "nvidia-smi -L", check=True).stdout
    again = driver(play, *wish)
    assert (again.recap[HOST].failed, again.recap[HOST].changed) == (0, 0), again.text[-2000:]
    # The night's upgrade leaves it alone.
    assert "0 upgraded" in fleet.ssh(HOST, "sudo apt-get -q -s dist-upgrade | grep -E '^[0-9]+ upgraded|^Inst nvidia'").stdout


@pytest.mark.long
def test_the_driver_is_not_changed_under_what_is_served(fleet: Fleet, play: Play) -> None:
    if fleet.ssh(HOST, "command -v nvidia-ctk").returncode != 0:
        assert play("site.yml", "--limit", HOST, "--tags", "docker,toolkit").recap[HOST].failed == 0
    fleet.ssh(HOST, "sudo docker run -d --rm --name serving --gpus all busybox sleep 900", check=True, timeout=300)
    try:
        run = driver(play, "-e", f"nvidia_driver_version={NEW}")
        assert (run.recap[HOST].failed, run.recap[HOST].changed) == (1, 0)
        assert "serving has its GPUs" in run.messages(HOST)
        held(fleet, OLD)
    finally:
        fleet.ssh(HOST, "sudo docker rm --force serving")


@pytest.mark.long
def test_an_upgrade_says_that_a_reboot_is_pending_and_ends_with_it(fleet: Fleet, play: Play) -> None:
    wish = ("-e", f"nvidia_driver_version={NEW}")
    run = driver(play, *wish)
    assert run.recap[HOST].failed == 0 and "has to be rebooted" in run.said, run.messages(HOST)
    held(fleet, NEW)
    mismatch = fleet.ssh(HOST, "nvidia-smi")
    assert mismatch.returncode == 18 and "Driver/library version mismatch" in mismatch.stdout
    fleet.reboot(HOST)
    assert fleet.ssh(HOST, "nvidia-smi -L").returncode == 0
    again = driver(play, *wish)
    assert (again.recap[HOST].failed, again.recap[HOST].changed) == (0, 0), again.text[-2000:]
    assert "has to be rebooted" not in again.said
