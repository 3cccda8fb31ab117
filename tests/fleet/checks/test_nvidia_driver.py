"""The role nvidia_driver on a real apt: packages that switch the stand-in of the driver, on a host that has none."""

from __future__ import annotations

import shlex
from collections.abc import Callable

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


# Without the pin and the holds: only the list of the nightly upgrade is left to stop it.
NIGHT = f"""set -e
mv /etc/apt/preferences.d/llmops-nvidia-driver /root/pin; apt-mark unhold {" ".join(OURS)} >/dev/null
DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends unattended-upgrades >/dev/null
echo 'Unattended-Upgrade::Origins-Pattern {{ "site=ADDRESS"; }};' > /etc/apt/apt.conf.d/90site
unattended-upgrade --dry-run --debug > /tmp/with 2>&1
mv /etc/apt/apt.conf.d/52llmops-nvidia-driver /root/list
unattended-upgrade --dry-run --debug > /tmp/without 2>&1
for name in with without; do grep -cE "nvidia[a-z-]*=595" /tmp/$name || true; done"""
DAY = f"""mv /root/list /etc/apt/apt.conf.d/52llmops-nvidia-driver; mv /root/pin /etc/apt/preferences.d/llmops-nvidia-driver
rm /etc/apt/apt.conf.d/90site; apt-mark hold {" ".join(OURS)} >/dev/null; apt-get -qq purge unattended-upgrades >/dev/null"""


@pytest.mark.long
def test_the_nightly_upgrade_itself_leaves_it_alone(fleet: Fleet, play: Play) -> None:
    try:
        out = fleet.ssh(HOST, f"sudo sh -c {shlex.quote(NIGHT.replace('ADDRESS', fleet.services_address()))}", check=True, timeout=300).stdout
    finally:
        fleet.ssh(HOST, f"sudo sh -c {shlex.quote(DAY)}")
    with_list, without = map(int, out.split())
    assert without > 0, "it would not have tried another version anyway"
    assert with_list == 0
    held(fleet, OLD)


SWITCH = f"{STANDIN_ROOT}/sys/bus/pci/devices/0000:09:00.0"


@pytest.mark.long
def test_a_board_with_nvswitches_gets_its_fabric_manager_at_the_drivers_version(fleet: Fleet, play: Play) -> None:
    wish = ("-e", f"nvidia_driver_version={OLD}")
    make = f"mkdir -p {SWITCH} && cd {SWITCH} && echo 0x10de > vendor && echo 0x068000 > class && echo 0x22a3 > device"
    fleet.ssh(HOST, f"sudo sh -c '{make}'", check=True)
    try:
        run = driver(play, *wish)
        assert run.recap[HOST].failed == 0 and run.recap[HOST].changed > 0, run.messages(HOST)
        shown = fleet.ssh(HOST, "dpkg-query -W -f '${db:Status-Want} ${Version} ' nvidia-fabricmanager-580; systemctl is-active nvidia-fabricmanager").stdout
        assert shown.split() == ["hold", OLD, "active"]
        held(fleet, OLD)
        again = driver(play, *wish)
        assert (again.recap[HOST].failed, again.recap[HOST].changed) == (0, 0), again.text[-2000:]
    finally:
        name = "nvidia-fabricmanager-580"
        undo = f"rm -r {SWITCH}; systemctl disable --now nvidia-fabricmanager; apt-mark unhold {name}; apt-get -qq purge {name}"
        fleet.ssh(HOST, f"sudo sh -c '{undo}'")


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


# Each start has an id of its own, as a machine's has; a container's is the machine's.
BOOT = """[Unit]
DefaultDependencies=no
Before=ssh.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'cat /proc/sys/kernel/random/uuid > /run/boot-id; mount --bind /run/boot-id /proc/sys/kernel/random/boot_id'
[Install]
WantedBy=multi-user.target
"""


# There is no logind to ask for a shutdown either.
SHUTDOWN = "rm /usr/sbin/shutdown; printf '#!/bin/sh\\nexec systemctl --no-block --force reboot\\n' > /usr/sbin/shutdown; chmod 755 /usr/sbin/shutdown"
UNDO = """umount /proc/sys/kernel/random/boot_id; systemctl disable boot-id; rm /etc/systemd/system/boot-id.service
ln -sf /bin/systemctl /usr/sbin/shutdown"""


def reboot_by_itself(fleet: Fleet, run: Callable[[], Run]) -> Run:
    """Let the host come back when it shuts itself down."""
    container = fleet.settings.container(HOST)
    prepare = f"echo {shlex.quote(BOOT)} > /etc/systemd/system/boot-id.service; systemctl enable boot-id; {SHUTDOWN}"
    fleet.ssh(HOST, f"sudo sh -c {shlex.quote(prepare)}", check=True)
    fleet.engine.docker("update", "--restart=always", container)
    try:
        return run()
    finally:
        fleet.engine.docker("update", "--restart=no", container)
        fleet.ssh(HOST, f"sudo sh -c {shlex.quote(UNDO)}")


@pytest.mark.long
def test_an_upgrade_says_that_a_reboot_is_pending_and_ends_with_it(fleet: Fleet, play: Play) -> None:
    wish = ("-e", f"nvidia_driver_version={NEW}")
    run = driver(play, *wish)
    assert run.recap[HOST].failed == 0 and "has to be rebooted" in run.said, run.messages(HOST)
    held(fleet, NEW)
    mismatch = fleet.ssh(HOST, "nvidia-smi")
    assert mismatch.returncode == 18 and "Driver/library version mismatch" in mismatch.stdout
    allowed = (*wish, "-e", "nvidia_driver_reboot=true")
    fleet.ssh(HOST, "sudo docker run -d --rm --name serving --gpus all busybox sleep 900", check=True, timeout=300)
    try:
        waiting = driver(play, *allowed)
    finally:
        fleet.ssh(HOST, "sudo docker rm --force serving")
    assert waiting.recap[HOST].failed == 0 and "serving has its GPUs, so it is not done" in waiting.said, waiting.messages(HOST)
    assert fleet.ssh(HOST, "nvidia-smi").returncode == 18, "it was rebooted all the same"
    rebooted = reboot_by_itself(fleet, lambda: driver(play, *allowed))
    assert rebooted.recap[HOST].failed == 0 and rebooted.recap[HOST].changed == 1, rebooted.text[-3000:]
    assert fleet.ssh(HOST, "nvidia-smi -L").returncode == 0
    again = driver(play, *wish)
    assert (again.recap[HOST].failed, again.recap[HOST].changed) == (0, 0), again.text[-2000:]
    assert "has to be rebooted" not in again.said
