# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re
import shutil

import pytest

from tests.fleet.standins.nvidia import driver_packages, driver_switch, libcuda
from tests.fleet.standins.nvidia.hostfiles import files


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host of the profile no-driver, below a folder."""
    for path, (content, dummy) in files("no-driver").items():
        place = tmp_path / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    for name in ("ROOT", "LIBRARY", "PROFILE", "DISK", "LOADED"):
        monkeypatch.setattr(driver_switch, name, str(tmp_path) + getattr(driver_switch, name))
    shutil.copy(libcuda.__file__, tmp_path / "usr/lib/llmops-standin/libcuda.py")
    return tmp_path


def failure(host):
    return json.loads((host / "etc/llmops-standin/nvidia.json").read_text())["failure"].get("exit_status")


def test_a_driver_is_loaded_when_none_is_and_an_upgrade_waits_for_the_boot(host):
    assert failure(host) == 9
    driver_switch.main(["library", "580.95.05"])
    assert failure(host) == 9
    driver_switch.main(["module", "580.95.05", "open"])
    assert failure(host) is None
    assert "Open Kernel Module for x86_64  580.95.05" in (host / "opt/llmops-standin/root/proc/driver/nvidia/version").read_text()
    driver_switch.main(["module", "580.173.02", "open"])
    driver_switch.main(["library", "580.173.02"])
    assert failure(host) == 18
    driver_switch.main(["boot"])
    assert failure(host) is None


def test_every_package_says_what_it_is():
    packages = driver_packages.driver_packages()
    assert {package.name for package in packages if package.version == "580.95.05-1"} >= {"nvidia-open-580", "cuda-drivers-580", "nvidia-fabricmanager-580"}
    for package in packages:
        assert re.search(r"^Description: STAND-IN: ", package.control(1), re.MULTILINE)
