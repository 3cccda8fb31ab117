# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _nvidia_toolkit as toolkit

WANTED = "1.20.0-1"
COMPLETE = "".join(f"hold installed {name}={WANTED}\n" for name in toolkit.PACKAGES)


def plan(text):
    return toolkit.plan_packages(toolkit.parse_dpkg(text), WANTED)


def test_a_complete_host_needs_nothing():
    assert plan(COMPLETE)[:4] == (True, [], [], [])


def test_a_bare_host_gets_all_four():
    found = plan("dpkg-query: no packages found matching nvidia-container-toolkit\n")
    assert found[:4] == (False, list(toolkit.PACKAGES), list(toolkit.PACKAGES), [])


def test_one_package_at_another_version_moves_all_four():
    found = plan(COMPLETE.replace(f"libnvidia-container1={WANTED}", "libnvidia-container1=1.19.1-1"))
    assert found.install == list(toolkit.PACKAGES) and found.hold == ["libnvidia-container1"]


def test_a_lost_hold_is_set_again_and_nothing_is_installed():
    found = plan(COMPLETE.replace("hold installed libnvidia-container-tools", "install installed libnvidia-container-tools"))
    assert (found.satisfied, found.install, found.hold) == (False, [], ["libnvidia-container-tools"])


def test_predecessors_are_removed_once():
    assert plan(COMPLETE + "install installed nvidia-docker2=2.14.0-1\n").remove == ["nvidia-docker2"]
    # Removed, not purged: its configuration file is daemon.json.
    assert plan(COMPLETE + "deinstall config-files nvidia-docker2=2.14.0-1\n").satisfied


def test_rpm_tells_the_same():
    rows = "".join(f"{name}={WANTED}\n" for name in toolkit.PACKAGES)
    assert toolkit.plan_packages(toolkit.parse_rpm(rows + "package nvidia-docker2 is not installed\n"), WANTED).satisfied
    assert toolkit.plan_packages(toolkit.parse_rpm("package nvidia-container-toolkit is not installed\n"), WANTED).install


YAML = 'cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: "0"\n  hostPath: /usr/lib/x86_64-linux-gnu/libcuda.so.{}\n'
JSON = '{{\n  "cdiVersion": "0.5.0",\n  "kind": "nvidia.com/gpu",\n  "x": "/usr/lib64/libnvidia-ml.so.{}"\n}}\n'


@pytest.mark.parametrize("text", [YAML, JSON])
def test_a_specification_tells_its_driver(text):
    assert toolkit.parse_spec("/p", text.format("535.161.08")) == toolkit.Spec("/p", "535.161.08")


@pytest.mark.parametrize("text", ["", "kind: amd.com/gpu\n", "kind: nvidia.com/gpu-operator\n", "\0\0"])
def test_what_is_no_specification_of_nvidia_is_none(text):
    assert toolkit.parse_spec("/p", text) is None


def spec(path, driver="595.71.05"):
    return toolkit.Spec(path, driver)


def test_specifications_are_judged_by_the_loaded_driver():
    run, etc = "/var/run/cdi/nvidia.yaml", "/etc/cdi/nvidia.yaml"
    assert toolkit.judge_specs([], "595.71.05").state == "none"
    assert toolkit.judge_specs([spec(run)], "595.71.05") == ("fresh", False, [], [])
    stale = toolkit.judge_specs([spec(run, "535.161.08")], "595.71.05")
    assert (stale.state, stale.refresh) == ("stale", [run]) and "535.161.08" in stale.messages[0]
    double = toolkit.judge_specs([spec(etc, "535.161.08"), spec(run)], "595.71.05")
    assert (double.state, double.double, double.refresh) == ("stale", True, [etc])
    assert "Delete /etc/cdi/nvidia.yaml" in double.messages[-1]


@pytest.mark.parametrize(("driver", "loaded"), [("", "595.71.05"), ("595.71.05", None)])
def test_what_cannot_be_compared_is_unknown_and_left_alone(driver, loaded):
    assert toolkit.judge_specs([spec("/etc/cdi/n.yaml", driver)], loaded)[:3] == ("unknown", False, [])


@pytest.mark.parametrize(
    ("version", "driver", "specs", "containers", "ours", "exposed", "defend"),
    [
        ("26.1.5", "systemd", False, 0, False, True, True),  # before anything runs
        ("26.1.5", "systemd", True, 3, False, True, False),  # containers were made under systemd
        ("26.1.5", "cgroupfs", False, 3, True, False, True),  # kept for ever
        ("26.1.5", "cgroupfs", False, 3, False, False, False),  # the host's own default
        ("29.2.0", "systemd", True, 3, False, False, False),
        ("29.2.0", "systemd", False, 3, False, True, False),  # no specification: it falls back to the hook
        ("29.1.5", "systemd", True, 0, False, True, True),
        ("", "", False, 0, False, False, False),
    ],
)
def test_who_can_lose_a_gpu(version, driver, specs, containers, ours, exposed, defend):
    found = toolkit.exposure(version, driver, specs, containers, ours)
    assert (found.exposed, found.defend) == (exposed, defend), found.reason
