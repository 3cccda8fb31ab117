# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _gpu_watchdog as dog

LISTING = "GPU 0: Tesla T4 (UUID: GPU-00001eb8-0000-4000-8000-00000000003b)\nGPU 1: Tesla T4 (UUID: GPU-00001eb8-0000-4000-8000-0000000000af)\n"
LOST = "Failed to initialize NVML: Unknown Error\n"
CONFIG = dict(dog.DEFAULTS, containers=["xinference"])
NOW = 1_800_000_000.0


def look(**changes):
    found = dog.Look(NOW, "boot", 0, LISTING, 2, "595.71.05", "595.71.05", [], "cursor", {"xinference": (True, 0, LISTING)})
    return found._replace(**changes)


def lost(**changes):
    return look(**{"containers": {"xinference": (True, 255, LOST)}, **changes})


def statuses(decision):
    return {entry["id"]: entry["status"] for entry in decision.verdicts}


def test_a_healthy_host_is_left_alone():
    decision = dog.decide(look(), {}, CONFIG)
    assert decision.restarts == [] and statuses(decision) == {"host": "ok", "container": "ok"}
    assert decision.numbers == {"answering": 2, "expected": 2}


def test_a_container_that_alone_lost_its_gpus_is_restarted_once():
    decision = dog.decide(lost(), {}, CONFIG)
    assert decision.restarts == ["xinference"] and statuses(decision)["container_lost"] == "warn"
    again = dog.decide(lost(now=NOW + 60), decision.state, CONFIG)
    assert again.restarts == [] and statuses(again)["container_lost"] == "fail"
    assert dog.decide(look(now=NOW + 60), decision.state, CONFIG).restarts == []


def test_restarts_back_off_and_end():
    state, times = {}, []
    for minute in range(24 * 60):
        decision = dog.decide(lost(now=NOW + 60 * minute), state, CONFIG)
        state = decision.state
        if decision.restarts:
            times.append(minute)
    assert times == [0, 5, 15, 35], "five minutes, then doubled, at most four in a day"
    assert "left alone" in decision.verdicts[-1]["message"]
    assert dog.decide(lost(now=NOW + dog.DAY + 60), state, CONFIG).restarts == ["xinference"], "the next day counts anew"
    assert dog.decide(lost(), {}, dict(CONFIG, restart=False)).restarts == []


# Recorded outputs, each with the exit status it came with.
HOST_FAULTS = [
    (18, "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.178\n", "driver_mismatch"),
    (9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that ...\n", "smi_failed"),
    (12, "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.\n", "smi_failed"),
    (6, "No devices were found\n", "smi_failed"),
    (15, "Unable to determine the device handle for GPU0000:CB:00.0: Unknown Error\n", "gpu_lost"),
    (0, "Unable to determine the device handle for GPU1: 0000:34:00.0: Unknown Error\n" + LISTING, "gpu_lost"),
    (0, LISTING + "1, [GPU is lost], [GPU is lost]\n", "gpu_lost"),
    (0, LISTING.splitlines()[0] + "\n", "gpu_lost"),
    (124, "", "smi_failed"),
    (127, "", "smi_failed"),
    (255, LOST, "smi_failed"),
]


@pytest.mark.parametrize(("status", "text", "identity"), HOST_FAULTS)
def test_no_container_is_restarted_for_a_fault_of_the_host(status, text, identity):
    decision = dog.decide(lost(smi_status=status, smi_text=text), {}, CONFIG)
    assert decision.restarts == []
    assert statuses(decision)[identity] == "fail" and statuses(decision)["container_lost"] == "fail"
    assert all(entry["remedy"] for entry in decision.verdicts if entry["status"] == "fail")


def test_a_damaged_inforom_is_no_fault():
    assert dog.decide(lost(smi_status=14, smi_text="WARNING: infoROM is corrupted at gpu 0000:17:00.0\n" + LISTING), {}, CONFIG).restarts == ["xinference"]


def test_a_pending_driver_is_told():
    decision = dog.decide(look(on_disk="595.91.07"), {}, CONFIG)
    assert statuses(decision)["driver_mismatch"] == "warn" and decision.restarts == []


MISMATCH = "Failed to initialize NVML: Driver/library version mismatch"


@pytest.mark.parametrize("found", [(False, 0, ""), (True, 127, "exec: nvidia-smi not found"), (True, 18, MISMATCH)])
def test_what_a_restart_would_not_help_is_left_alone(found):
    assert dog.decide(look(containers={"xinference": found}), {}, CONFIG).restarts == []


def test_xids_are_parsed_as_the_kernel_writes_them():
    lines = [
        (1.0, "NVRM: Xid (PCI:0000:05:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."),
        (2.0, "NVRM: Xid (0000:3b:00): 31, pid=4, Ch 00000008"),
        (3.0, "NVRM: API mismatch: the client has the version 580.178.00, but"),
        (4.0, "usb 1-1: new device"),
    ]
    assert [found[:3] for found in dog.parse_xids(lines)] == [(1.0, "0000:05:00", 79), (2.0, "0000:3b:00", 31)]


def test_xids_count_until_the_next_boot():
    hard, soft, nothing = (NOW, "0000:05:00", 79, "fallen off"), (NOW, "0000:05:00", 31, "MMU fault"), (NOW, "0000:05:00", 43, "reset")
    first = dog.decide(look(xids=[hard, soft, soft, nothing]), {}, CONFIG)
    found = sorted((entry["status"], entry["message"].split(" on")[0]) for entry in first.verdicts if entry["id"] == "xid")
    assert found == [("fail", "Xid 79"), ("warn", "Xid 31")]
    later = dog.decide(look(now=NOW + 2 * dog.DAY), first.state, CONFIG)
    assert [entry["message"].split(" on")[0] for entry in later.verdicts if entry["id"] == "xid"] == ["Xid 79"]
    assert first.state["xids"]["31 0000:05:00"]["count"] == 2
    assert "xid" not in statuses(dog.decide(look(boot_id="next"), first.state, CONFIG))


def test_a_kernel_log_that_is_not_seen_is_unknown_and_never_fine(monkeypatch):
    assert statuses(dog.decide(look(blind="journalctl ends with 127"), {}, CONFIG))["kernel_log"] == "unknown"
    for status, seen in ((0, True), (1, True), (124, False), (127, False)):
        monkeypatch.setattr(dog, "run", lambda argv, timeout=30.0, status=status: (status, ""))
        assert (dog.kernel_messages("") == ([], "", "")) is seen


def test_metrics_are_what_node_exporter_reads():
    state = {"boot_id": "boot", "xids": {"79 0000:05:00": {"count": 3, "last": NOW, "words": "w"}}}
    seen = lost()
    text = dog.metrics(dog.decide(seen, state, CONFIG), seen)
    for line in text.splitlines():
        assert re.match(r'^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{([a-z_]+="[^"]*",?)+\})? -?[0-9.e+]+)$', line), line
    assert 'llmops_gpu_xid_total{xid="79",bus="0000:05:00"} 3\n' in text
    assert 'llmops_gpu_container_ok{container="xinference"} 0\n' in text
    assert 'llmops_gpu_container_restarts_total{container="xinference"} 1\n' in text
    assert 'llmops_gpu_trouble{kind="xid"} 2\n' in text
    assert f"llmops_gpu_watchdog_last_run_seconds {NOW:.0f}\n" in text


def test_the_program_needs_nothing_but_the_standard_library():
    with open(dog.__file__, encoding="utf-8") as stream:
        imports = re.findall(r"^(?:import|from) (\S+)", stream.read(), re.M)
    assert set(imports) <= {"__future__", "glob", "json", "os", "re", "subprocess", "sys", "tempfile", "time", "typing"}


def test_a_look_writes_verdict_state_and_metrics(tmp_path, monkeypatch):
    answers = {"nvidia-smi": (0, LISTING), "docker": (0, "true\n"), "journalctl": (0, "-- cursor: s=1\n"), "modinfo": (127, "")}
    monkeypatch.setattr(dog, "run", lambda argv, timeout=30.0: answers[argv[0]] if argv[:2] != ["docker", "exec"] else (255, LOST))
    calls = []
    real = dog.run
    monkeypatch.setattr(dog, "run", lambda argv, timeout=30.0: calls.append(list(argv)) or real(argv, timeout))
    settings = tmp_path / "settings.json"
    folders = {key: str(tmp_path / key.partition("_")[0]) for key in ("root", "state_dir", "metrics_dir")}
    settings.write_text(json.dumps({"containers": ["xinference"], **folders}))
    assert dog.main(["gpu-watchdog", str(settings)]) == 0
    assert ["docker", "restart", "--time", "60", "xinference"] in calls
    assert '"status": "warn"' in (tmp_path / "state/verdict.json").read_text()
    assert "restarts_total" in (tmp_path / "metrics/llmops_gpu.prom").read_text()
    calls.clear()
    dog.main(["gpu-watchdog", str(settings)])
    assert not [argv for argv in calls if argv[:2] == ["docker", "restart"]]
    # What was read before is not counted again.
    assert next(argv for argv in calls if argv[0] == "journalctl")[-1] == "--after-cursor=s=1"
    assert not list((tmp_path / "metrics").glob(".gpu*"))
