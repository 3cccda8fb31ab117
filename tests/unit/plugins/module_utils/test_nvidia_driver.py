# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _nvidia_driver as driver


def card(device="1eb8", arch="turing", name="Tesla T4", kind="gpu", bus="0000:3b:00.0"):
    return {"bus_id": bus, "kind": kind, "device_id": device, "arch": arch, "compute_capability": None, "name": name}


T4 = card()
P100 = card("15f8", None, None)
V100 = card("1db4", None, None)
B200 = card("2901", "blackwell", "NVIDIA B200")
H100 = card("2330", "hopper", "NVIDIA H100 80GB HBM3")
NEXT = card("3fff", None, None)
SWITCH = card("22a3", None, None, "nvswitch")
UBUNTU = driver.Found("ubuntu", "24.04", "6.8.0-45-generic", [T4], False, False, "", {})
DEBIAN = driver.Found("debian", "13", "6.12.48+deb13-amd64", [T4], False, False, "", {})
INSTALLED = {
    "nvidia-open-580": ("580.95.05-1", True),
    "libcuda1": ("580.95.05-1", True),
    "nvidia-driver-cuda": ("580.95.05-1", True),
    "nvidia-container-toolkit": ("1.20.0-1", True),
}


def test_ubuntu_gets_its_own_signed_modules():
    found = driver.plan(UBUNTU, driver.Wish())
    assert (found.branch, found.modules, found.source) == (580, "open", "distribution")
    assert found.packages == ["linux-modules-nvidia-580-server-open-generic", "nvidia-headless-no-dkms-580-server-open", "nvidia-utils-580-server"]


def test_debian_gets_nvidias_repository_because_its_own_driver_is_too_old():
    found = driver.plan(DEBIAN, driver.Wish(minimum="580"))
    assert (found.source, found.packages) == ("nvidia", ["nvidia-open-580", "linux-headers-6.12.48+deb13-amd64"])
    assert "too old for the image" in driver.plan(DEBIAN, driver.Wish(source="distribution", minimum="580")).refusal
    own = driver.plan(DEBIAN, driver.Wish(source="distribution"))
    assert (own.branch, own.packages[0]) == (550, "nvidia-open-kernel-dkms") and "ended" in own.messages[0]


@pytest.mark.parametrize(
    ("cards", "wish", "branch", "modules"),
    [
        ([T4], {}, 580, "open"),
        ([P100], {}, 580, "proprietary"),
        ([T4, V100], {}, 580, "proprietary"),
        ([B200], {}, 580, "open"),
        ([T4], {"minimum": "590"}, 595, "open"),
        ([T4], {"branch": "595", "modules": "proprietary"}, 595, "proprietary"),
        ([T4], {"version": "595.91.07-1"}, 595, "open"),
        ([NEXT], {}, 580, "open"),
    ],
)
def test_branch_and_modules_follow_the_cards(cards, wish, branch, modules):
    found = driver.plan(DEBIAN._replace(cards=cards), driver.Wish(**wish))
    assert (found.refusal, found.branch, found.modules) == ("", branch, modules)


@pytest.mark.parametrize(
    ("host", "wish", "words"),
    [
        ({"cards": [P100]}, {"branch": "595"}, "does not know 10de:15f8 (0000:3b:00.0, pre-Turing) any more; its last branch is 580"),
        ({"cards": [V100]}, {"minimum": "590"}, "No driver serves both the card and this image"),
        ({"cards": [B200]}, {"branch": "550"}, "its first branch is 570"),
        ({"cards": [B200, P100]}, {}, "No driver serves both"),
        ({"cards": [B200]}, {"modules": "proprietary"}, "The proprietary modules do not know"),
        ({"cards": [V100]}, {"modules": "open"}, "The open modules do not know"),
        ({"cards": [T4]}, {"branch": "570", "minimum": "580"}, "too old for the image"),
        ({"cards": [T4]}, {"branch": "580", "version": "595.91.07-1"}, "is not of branch 580"),
        ({"cards": [T4]}, {"source": "distribution", "branch": "580"}, "Debian 13 has branch 550 only"),
        ({"secure_boot": True}, {}, "Secure Boot is on"),
        ({"cards": []}, {}, "no NVIDIA GPU"),
        ({"cards": [SWITCH]}, {}, "no NVIDIA GPU"),
        ({"wsl": True}, {}, "WSL2"),
        ({"run_file": True}, {}, ".run installer"),
        ({"os_id": "rocky"}, {}, "not supported"),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_reason(host, wish, words):
    found = driver.plan(DEBIAN._replace(**host), driver.Wish(**wish))
    assert words in found.refusal and not found.packages


def test_secure_boot_is_fine_with_signed_modules_and_with_a_driver_that_is_there():
    assert not driver.plan(UBUNTU._replace(secure_boot=True), driver.Wish()).refusal
    assert not driver.plan(DEBIAN._replace(secure_boot=True), driver.Wish(key_enrolled=True)).refusal
    assert not driver.plan(DEBIAN._replace(secure_boot=True, packages=INSTALLED, loaded="580.95.05"), driver.Wish()).refusal


def test_a_driver_that_will_do_is_kept():
    found = driver.plan(DEBIAN._replace(packages=INSTALLED, loaded="580.95.05"), driver.Wish(minimum="580"))
    assert (found.satisfied, found.hold, found.release, found.reboot) == (True, [], [], "")
    newer = {name: ("595.91.07-1", True) for name in ("cuda-drivers", "libcuda1")}
    assert driver.plan(DEBIAN._replace(packages=newer, loaded="595.91.07"), driver.Wish()).branch == 595
    assert not driver.plan(DEBIAN._replace(packages=newer, loaded="595.91.07"), driver.Wish(branch="580")).satisfied


def test_another_version_is_an_upgrade_and_needs_a_reboot_afterwards():
    found = driver.plan(DEBIAN._replace(packages=INSTALLED, loaded="580.95.05"), driver.Wish(version="580.173.02-1", headers=False))
    assert (found.satisfied, found.packages) == (False, ["nvidia-open-580=580.173.02-1"])
    assert found.release == ["libcuda1", "nvidia-driver-cuda", "nvidia-open-580"], "and not the container toolkit's"
    later = {name: ("580.173.02-1", True) for name in INSTALLED}
    done = driver.plan(DEBIAN._replace(packages=later, loaded="580.95.05"), driver.Wish(version="580.173.02-1"))
    assert done.satisfied and "580.173.02 is installed and 580.95.05 is loaded" in done.reboot


def test_holds_are_the_drivers_and_nobody_elses():
    loose = {name: (version, False) for name, (version, dummy) in INSTALLED.items()}
    loose.update({"linux-image-generic": ("6.8", False), "nvidia-persistenced": ("580.95.05-1", False), "bash": ("5", False)})
    assert driver.plan(DEBIAN._replace(packages=loose), driver.Wish()).hold == ["libcuda1", "nvidia-driver-cuda", "nvidia-open-580", "nvidia-persistenced"]
    # Signed modules are built for one kernel: without its names a nightly kernel would come without them.
    assert "linux-image-generic" in driver.plan(UBUNTU._replace(packages=loose), driver.Wish()).hold


def test_the_fabric_manager_has_the_drivers_very_version():
    host = DEBIAN._replace(cards=[H100, SWITCH], packages=INSTALLED, loaded="580.95.05")
    lacking = driver.plan(host, driver.Wish())
    assert (lacking.satisfied, lacking.packages, lacking.fabric_manager) == (False, ["nvidia-fabricmanager-580=580.95.05-1"], True)
    other = driver.plan(host._replace(packages={**INSTALLED, "nvidia-fabricmanager-580": ("580.82.07-1", True)}), driver.Wish())
    assert other.packages == ["nvidia-fabricmanager-580=580.95.05-1"]
    assert driver.plan(host._replace(packages={**INSTALLED, "nvidia-fabricmanager-580": ("580.95.05-1", True)}), driver.Wish()).satisfied
    assert "nvlsm" in driver.plan(DEBIAN._replace(cards=[B200, SWITCH]), driver.Wish()).packages
    assert driver.plan(DEBIAN._replace(cards=[H100, SWITCH]), driver.Wish(branch="595")).packages[:3] == [
        "nvidia-driver-pinning-595", "nvidia-open", "nvidia-fabricmanager",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("version", "expected"), [("580.95.05-1", "580.95.05"), ("1:580.95.05-0ubuntu0.24.04.1", "580.95.05"), ("550.163.01-4", "550.163.01"), ("1.20.0-1", "")]
)
def test_upstreams_version(version, expected):
    assert driver.upstream(version) == expected
