from __future__ import annotations

import copy
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.gpu.check import NO_GPU, ROOT
from tests.gpu.compare import Device, Truth, compare

GPU = {
    "index": 0,
    "bus_id": "0000:41:00.0",
    "name": "NVIDIA L40S",
    "uuid": "GPU-1",
    "compute_capability": "8.9",
    "memory_total_mib": 46068,
    "mig_mode": "[N/A]",
    "driver_version": "580.95.05",
    "faults": [],
}
RESULT: dict[str, Any] = {
    "gpus": [GPU],
    "pci_gpus": [{"bus_id": "0000:41:00.0"}],
    "driver": {"loaded_version": "580.95.05"},
    "cuda": "13.0",
    "verdicts": [{"id": name, "status": "ok", "message": ""} for name in ("D02", "D07", "D09", "D16")],
}
SMI = {
    "name": ["NVIDIA L40S"],
    "uuid": ["GPU-1"],
    "driver_version": ["580.95.05"],
    "memory.total": ["46068"],
    "compute_cap": ["8.9"],
    "mig.mode.current": ["[N/A]"],
}
TRUTH = Truth(0, "13.0", [Device("0000:41:00.0", "NVIDIA L40S", "GPU-1", "8.9", 45467)], 0, SMI, "580.95.05", 1)


def test_a_machine_on_which_everything_agrees() -> None:
    assert compare(RESULT, TRUTH) == []


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("name", "NVIDIA L40", "nvidia-smi says name"),
        ("compute_capability", "9.0", "libcuda says compute_capability 8.9"),
        ("memory_total_mib", 40000, "libcuda says 45467 MiB"),
        ("memory_total_mib", 80000, "libcuda says 45467 MiB"),
        ("bus_id", "0000:42:00.0", "libcuda has a device at 0000:41:00.0"),
        ("driver_version", "570.1", "nvidia-smi says driver_version"),
        ("faults", ["[GPU is lost]"], "D09 is ok"),
    ],
)
def test_a_wrong_fact_is_named(key: str, value: Any, words: str) -> None:
    result = copy.deepcopy(RESULT)
    result["gpus"][0][key] = value
    assert any(words in problem for problem in compare(result, TRUTH)), compare(result, TRUTH)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cuinit": 802, "devices": []}, "D16 is ok"),
        ({"smi_status": 18, "smi": {}}, "D07 is ok"),
        ({"loaded_version": None}, "D02 is ok"),
        ({"gpus_on_bus": 2}, "D09 is ok"),
        ({"cuda": "12.8"}, "libcuda speaks CUDA 12.8"),
    ],
)
def test_a_verdict_that_the_driver_contradicts_is_named(change: dict[str, Any], words: str) -> None:
    problems = compare(RESULT, TRUTH._replace(**change))
    assert any(words in problem for problem in problems), problems


def test_a_field_that_an_old_driver_does_not_know_proves_nothing() -> None:
    assert compare(RESULT, TRUTH._replace(smi={key: value for key, value in SMI.items() if key != "compute_cap"})) == []


def test_a_check_that_broke_is_a_problem() -> None:
    result = copy.deepcopy(RESULT)
    result["verdicts"].append({"id": "E01", "status": "unknown", "message": "The check itself failed: KeyError"})
    assert compare(result, TRUTH) == ["E01: The check itself failed: KeyError"]


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="there is a GPU here")
def test_a_machine_without_a_gpu_says_so() -> None:
    done = subprocess.run([str(ROOT / "tests" / "gpu" / "run.sh")], stdout=subprocess.PIPE, text=True, check=False, timeout=60)
    assert done.returncode == NO_GPU
    assert done.stdout.startswith("No GPU here: ")
    assert sys.version_info >= (3, 9)
