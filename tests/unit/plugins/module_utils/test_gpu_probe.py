# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _gpu_probe as probe

DAEMON = "docker: Error response from daemon: "
CLI = DAEMON + "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: error running hook #0: "
CLI += "exit status 1, stdout: , stderr: Auto-detected mode as 'legacy'\nnvidia-container-cli: "

# What was seen of Docker 20.10 to 29.8 and of the toolkit 1.13 to 1.20.
MESSAGES = [
    (DAEMON + 'could not select device driver "" with capabilities: [[gpu]].', "toolkit_missing"),
    (DAEMON + 'could not select device driver "nvidia" with capabilities: [[gpu]].', "toolkit_missing"),
    (DAEMON + "failed to discover GPU vendor from CDI: no known GPU vendor found", "toolkit_missing"),
    (DAEMON + "AMD CDI spec not found", "toolkit_after_docker"),
    (DAEMON + "unknown or invalid runtime name: nvidia", "runtime_unknown"),
    (DAEMON + "Unknown runtime specified nvidia.", "runtime_unknown"),
    (DAEMON + "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=all", "cdi_unresolvable"),
    (DAEMON + 'could not select device driver "cdi" with capabilities: [].', "cdi_off"),
    (CLI + "initialization error: nvml error: driver not loaded: unknown.", "driver_not_loaded"),
    (CLI + "initialization error: nvml error: driver/library version mismatch: unknown.", "driver_mismatch"),
    ("nvidia-container-cli: initialization error: nvml error: driver/library version mismatch: unknown.", "driver_mismatch"),
    (CLI + "initialization error: load library failed: libnvidia-ml.so.1: cannot open shared object file", "driver_library_missing"),
    (CLI + "requirement error: unsatisfied condition: cuda>=12.8, please update your driver to a newer version: unknown.", "driver_too_old"),
    (CLI + "requirement error: invalid expression: unknown.", "condition_unmet"),
    (CLI + "device error: 3: unknown device: unknown.", "device_unknown"),
    (CLI + "container error: cgroup subsystem devices not found: unknown.", "cgroup_v2_unsupported"),
    (CLI + "mount error: failed to add device rules: bpf_prog_query(BPF_CGROUP_DEVICE) failed", "cgroup_v2_unsupported"),
    (CLI + "mount error: something new", "toolkit_error"),
    (DAEMON + "error gathering device information: open /run/nvidia-persistenced/socket: no such file or directory", "persistenced_dead"),
    (DAEMON + "error: invoking the NVIDIA Container Runtime Hook directly (e.g. specifying the docker --gpus flag) is not supported.", "hook_in_cdi_mode"),
    (DAEMON + "failed to fulfil mount request: open /usr/lib/x86_64-linux-gnu/libcuda.so.535.161.08: no such file or directory", "cdi_stale"),
    (DAEMON + 'exec: "nvidia-container-runtime": executable file not found in $PATH', "runtime_missing"),
    (DAEMON + "fork/exec /usr/bin/nvidia-container-runtime: no such file or directory", "runtime_missing"),
    ("Failed to initialize NVML: Insufficient Permissions", "permission"),
    ("Failed to initialize NVML: Unknown Error", "nvml_lost"),
    (DAEMON + 'exec: "python3": executable file not found in $PATH: unknown.', "no_python"),
    (DAEMON + "pull access denied for nobody/nothing, repository does not exist", "image_missing"),
    (DAEMON + "manifest for xprobe/xinference:v9 not found: manifest unknown", "image_missing"),
    ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?", "docker_unreachable"),
    ("docker: not found", "docker_unreachable"),
    (DAEMON + "something that nobody has seen", "unclassified"),
    ("", "unclassified"),
]


def answer(**found):
    return "some noise\n" + probe.MARK + json.dumps(found) + "\n"


@pytest.mark.parametrize(("text", "cause"), MESSAGES)
def test_every_message_has_its_cause_and_a_remedy(text, cause):
    verdict = probe.classify(125, text, 1)
    assert verdict.cause == cause
    assert verdict.status != probe.OK and verdict.message and verdict.remedy
    assert "{" not in verdict.message


def test_every_cause_is_met_by_a_message():
    assert {cause.cause for cause in probe.CAUSES} <= {cause for text, cause in MESSAGES}


def test_the_detail_is_told():
    assert "wants CUDA 12.8," in probe.classify(125, CLI + "requirement error: unsatisfied condition: cuda>=12.8, please", 1).message


@pytest.mark.parametrize(("code", "cause"), [(code, entry[0]) for code, entry in probe.CU_RESULTS.items()] + [(719, "cuda_error")])
def test_codes_of_cuinit(code, cause):
    verdict = probe.classify(0, answer(init=code, cuda=13020), 1)
    assert (verdict.status, verdict.cause, verdict.cuda) == (probe.FAIL, cause, "13.2")
    assert str(code) in verdict.message and verdict.remedy


def test_counts():
    assert probe.classify(0, answer(init=0, counted=0, count=8, cuda=13020), 8) == (
        probe.OK, "", "CUDA 13.2 sees 8 GPUs in the container.", "", 8, "13.2",
    )  # fmt: skip
    assert probe.classify(0, answer(init=0, counted=0, count=7, cuda=13020), 8).cause == "too_few"
    assert probe.classify(0, answer(init=0, counted=0, count=1, cuda=13020), None).status == probe.OK
    assert probe.classify(0, answer(init=0, counted=0, count=0, cuda=13020), None).cause == "no_device"
    assert probe.classify(0, answer(init=0, counted=100, count=0, cuda=13020), 1).cause == "no_device"


def test_a_container_without_libcuda_is_no_success():
    assert probe.classify(0, answer(library="libcuda.so.1: cannot open shared object file"), 1).cause == "no_libcuda"


def test_time_and_garbage():
    assert probe.classify(124, "docker did not end within 120 s", 1).cause == "hang"
    assert probe.classify(0, probe.MARK + "{broken}", 1).cause == "garbled"


def test_gpus_are_asked_for_as_compose_does():
    assert probe.gpu_request(["all"]) == "driver=nvidia,count=all"
    assert probe.gpu_request(["0", "GPU-1"]) == 'driver=nvidia,"device=0,GPU-1"'
    assert [probe.wanted_count(["all"], 4), probe.wanted_count(["0", "1"], 4), probe.wanted_count(["all"], None)] == [4, 2, None]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"Runtime": "nvidia"}, True),
        ({"DeviceRequests": [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}]}, True),
        ({"DeviceRequests": [{"Driver": "", "Capabilities": [["gpu"]]}]}, True),
        ({"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=all"]}]}, True),
        ({"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["vendor.com/net=0"]}]}, False),
        ({"Runtime": "runc", "DeviceRequests": None}, False),
    ],
)
def test_which_containers_have_gpus(config, expected):
    assert probe.has_gpus({"HostConfig": config}) is expected
    assert probe.has_gpus({}) is False


def test_a_remembered_answer_counts_under_the_same_circumstances_only():
    wanted = {"image": "a:1", "driver": "595.71.05"}
    assert probe.same_probe({**wanted, "at": 1}, wanted)
    assert not probe.same_probe({"image": "a:1"}, wanted)
    assert not probe.same_probe({**wanted, "driver": "580.95.05"}, wanted)
    assert not probe.same_probe({}, {})
