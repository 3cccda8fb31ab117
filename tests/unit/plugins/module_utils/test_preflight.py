# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks as a whole, and the first that anybody meets."""

from __future__ import annotations

import os

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight import driver, host, network
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._context import Context, Docker, Options
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._core import Check, verdict
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight.catalog import ABSENT, CATALOG
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight.run import CHECKS, IDS, reasons_of
from ansible_collections.llmops.dify_xinference.tests.unit.plugins.module_utils.preflight_world import Machine


def test_a_healthy_host_raises_no_alarm(healthy):
    verdicts, result = healthy.verdicts()
    assert result["failures"] == []
    assert [entry for entry in verdicts.values() if entry["status"] in ("fail", "warn")] == []
    # What a made-up host cannot show: a kernel log, a route, a server to compare the clock with.
    assert {entry["id"] for entry in verdicts.values() if entry["status"] == "unknown"} <= {"A14", "B08", "C09", "E01", "F06", "H08", "H10"}
    assert result["gpus"][0]["compute_capability"] == "8.9"
    assert result["driver"] == {"version": "580.95.05", "loaded_version": "580.95.05", "library_version": "580.95.05", "cuda": "13.0"}


def test_without_a_driver_every_finding_names_its_cause(machine):
    machine.card("0000:01:00.0", "0x2684")
    machine.smi = (9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n")
    machine.cuinit = (100, "")
    verdicts, result = machine.verdicts()
    assert result["failures"] == ["D02"]
    # The others would only say the same in other words.
    assert {verdicts[name]["status"] for name in ("D07", "D09", "D15", "D16")} == {"skip"}
    assert "see D02" in verdicts["D07"]["message"]
    assert verdicts["D10"]["status"] == "unknown"
    # The card is known from the bus, so the image is judged without any driver.
    assert verdicts["C03"]["status"] == "ok"


def test_a_driver_that_is_too_old_for_the_image(healthy):
    healthy.driver("550.163.01")
    healthy.smi = (0, "")
    healthy.gpu(0, "01", driver="550.163.01")
    verdicts, result = healthy.verdicts()
    assert result["failures"] == ["D10"]
    assert verdicts["D10"]["message"] == "The driver 550.163.01 is too old for the image v4.1.0: CUDA 13.0 needs 580 or newer."
    assert "xinference_version" in verdicts["D10"]["remedy"]
    assert healthy.verdicts(image_version="v1.9.0")[1]["failures"] == []


def test_a_card_that_is_too_old_for_the_image(healthy):
    healthy.smi = (0, "")
    healthy.gpu(0, "01", name="Tesla V100-PCIE-16GB", cc="7.0")
    assert healthy.verdicts()[1]["failures"] == ["C03"]
    assert healthy.verdicts(image_version="v2.1.0")[1]["failures"] == []


def test_library_and_module_that_do_not_match(healthy):
    healthy.smi = (18, "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.178\n")
    verdicts, result = healthy.verdicts()
    assert result["failures"] == ["D07"]
    assert "see D07" in verdicts["D09"]["message"]
    assert "Reboot" in verdicts["D07"]["remedy"]
    assert "Driver/library version mismatch" in verdicts["D07"]["message"]


def test_a_lost_gpu(healthy):
    healthy.card("0000:02:00.0", "0x2684")
    healthy.gpu(1, "02", memory="[GPU is lost], [GPU is lost], [GPU is lost]")
    verdicts, result = healthy.verdicts()
    assert result["failures"] == ["D09"]
    assert "GPU 1 at 0000:02:00.0: [GPU is lost]" in verdicts["D09"]["message"]


def test_a_gpu_that_newer_drivers_leave_out(healthy):
    healthy.card("0000:02:00.0", "0x2684")
    verdicts, result = healthy.verdicts()
    assert result["failures"] == ["D09"]
    assert "missing: 0000:02:00.0" in verdicts["D09"]["message"]


def test_fewer_gpus_than_wanted(healthy):
    assert healthy.verdicts(min_gpus=2)[1]["failures"] == ["C01", "D09"]


@pytest.mark.parametrize(
    ("status", "check"),
    [(124, "did not answer within"), (127, "There is no nvidia-smi"), (15, "fallen off the bus"), (12, "libnvidia-ml"), (99, "exit status 99")],
)
def test_exit_statuses_of_nvidia_smi(healthy, status, check):
    healthy.smi = (status, "")
    entry = healthy.verdicts()[0]["D07"]
    assert entry["status"] == "fail"
    assert check in entry["message"]
    assert entry["remedy"]


def test_a_corrupted_inforom_is_a_warning(healthy):
    healthy.smi = (14, "WARNING: infoROM is corrupted at gpu 0000:01:00.0\n" + healthy.smi[1])
    verdicts, result = healthy.verdicts()
    assert result["failures"] == []
    assert verdicts["D07"]["status"] == "warn"


def test_missing_device_nodes(healthy):
    os.unlink(healthy.root / "dev/nvidia-uvm")
    verdicts, result = healthy.verdicts()
    assert result["failures"] == ["D15"]
    assert "/dev/nvidia-uvm" in verdicts["D15"]["message"]


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [((0, "802 0\n"), "fail", "fabricmanager"), ((100, ""), "unknown", "libcuda1"), ((-11, ""), "unknown", ""), ((124, ""), "fail", "Xid")],
)
def test_cuinit_tells_what_nvidia_smi_hides(healthy, answer, status, words):
    healthy.cuinit = answer
    entry = healthy.verdicts()[0]["D16"]
    assert entry["status"] == status
    assert words in entry["remedy"]


def test_nouveau(healthy):
    (healthy.root / "sys/module/nouveau").mkdir()
    assert healthy.verdicts()[1]["failures"] == ["D01"]


def test_mig_without_instances(healthy):
    healthy.smi = (0, "")
    healthy.gpu(0, "01", name="NVIDIA H100 80GB HBM3", cc="9.0", mig="Enabled")
    healthy.listing = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-0)\n"
    assert healthy.verdicts()[0]["E10"]["status"] == "warn"
    healthy.listing += "  MIG 1g.10gb     Device  0: (UUID: MIG-0)\n"
    assert healthy.verdicts()[0]["E10"]["status"] == "ok"


def test_what_cannot_be_seen_is_unknown(tmp_path):
    machine = Machine(tmp_path)
    for path in ("etc/os-release", "proc/meminfo"):
        os.unlink(tmp_path / path)
    (tmp_path / "sys/module").rmdir()
    machine.smi = (0, "")
    (tmp_path / "etc/docker").mkdir(parents=True)
    (tmp_path / "etc/docker/daemon.json").write_text("{")
    verdicts = machine.verdicts(docker_root="")[0]
    for name in ("A01", "A05", "A06", "B01", "C01", "C06", "C10", "D01", "E01"):
        assert verdicts[name]["status"] == "unknown", verdicts[name]


@pytest.mark.parametrize(
    ("name", "path"),
    [("A18", "etc/apt/sources.list.d/a.list"), ("A19", "etc/apt/apt.conf.d/50x"), ("H07", "etc/ufw/ufw.conf")],
)
def test_a_file_that_may_not_be_read_is_not_fine(healthy, monkeypatch, name, path):
    healthy.write(path, "")
    assert healthy.verdicts()[0][name]["status"] == "ok"
    # Root reads everything, so the answer is played.
    monkeypatch.setattr(Context, "hidden", lambda self, *paths: ["/" + entry for entry in paths if entry == path])
    assert healthy.verdicts()[0][name]["status"] == "unknown"


def test_too_little_disk(healthy):
    entry = healthy.verdicts(docker_space_gib=10**9)[0]["B01"]
    assert entry["status"] == "fail"
    assert "GiB free" in entry["message"]


def test_an_ignored_finding_is_shown_and_does_not_count(healthy):
    (healthy.root / "sys/module/nouveau").mkdir()
    verdicts, result = healthy.verdicts(ignored=["D01"])
    assert result["failures"] == []
    assert (verdicts["D01"]["status"], verdicts["D01"]["ignored"]) == ("skip", True)
    verdicts, result = healthy.verdicts(ignored=[{"id": "D01", "reason": "it is a test"}])
    assert (verdicts["D01"]["found"], verdicts["D01"]["reason"], verdicts["D01"]["remedy"]) == ("fail", "it is a test", CATALOG["D01"].remedy)


def test_a_cpu_image_needs_no_gpu(machine):
    machine.smi = (127, "")
    assert machine.verdicts(image_version="v4.1.0-cpu")[1]["failures"] == []


def test_a_check_that_breaks_hides_no_other(healthy):
    broken = Check("Z01", "broken", "fail", "", "", "", lambda context: 1 / 0)
    entry = verdict(broken, Context(Options()), {})
    assert entry["status"] == "unknown"
    assert "ZeroDivisionError" in entry["message"]


def test_every_check_has_an_id_of_its_own_and_a_remedy():
    assert len(set(IDS)) == len(IDS)
    for check in CHECKS:
        assert check.severity in ("fail", "warn", "info")
        assert check.remedy or check.severity == "info"


def test_statuses_have_a_remedy():
    assert all(remedy for meaning, remedy in driver.SMI_STATUSES.values())


def test_memory_is_compared_with_the_largest_gpu(healthy):
    healthy.write("proc/meminfo", "MemTotal:       16000000 kB\n")
    assert healthy.verdicts()[0]["A05"]["status"] == "warn"
    healthy.write("proc/meminfo", "MemTotal:       1500000 kB\n")
    assert healthy.verdicts()[0]["A05"]["status"] == "fail"


def test_unsupported_systems():
    assert host.parse_os_release('ID="rocky"\nVERSION_ID="9.4"\n') == {"ID": "rocky", "VERSION_ID": "9.4"}


def test_a_taken_port_is_judged_by_who_has_it(healthy, monkeypatch):
    monkeypatch.setattr(network, "port_is_free", lambda port: False)
    monkeypatch.setattr(network, "is_xinference", lambda port: False)
    found = Docker("denied")
    monkeypatch.setattr(Context, "docker", property(lambda self: found))
    assert healthy.verdicts(ports=(9997,))[0]["H06"]["status"] == "warn"
    found = Docker("ok", "", {}, [{"Image": "nginx", "Ports": [{"PublicPort": 9997}]}], "29.0.0")
    assert healthy.verdicts(ports=(9997,))[0]["H06"]["status"] == "fail"
    found = Docker("ok", "", {}, [{"Image": "xprobe/xinference:v4.1.0", "Ports": [{"PublicPort": 9997}]}], "29.0.0")
    assert healthy.verdicts(ports=(9997,))[0]["H06"]["status"] == "ok"


def test_without_docker_a_taken_port_is_a_strangers(healthy, monkeypatch):
    monkeypatch.setattr(network, "port_is_free", lambda port: False)
    monkeypatch.setattr(network, "is_xinference", lambda port: False)
    assert healthy.failures(ports=(9997,)) == ["H06"]


@pytest.mark.parametrize(
    ("ignore", "reasons"),
    [
        ({}, {}),
        (None, {}),
        ({"D01": "why"}, {"D01": "why"}),
        (["D01", {"id": "D02", "reason": "why"}, {"id": "D07"}], {"D01": "", "D02": "why", "D07": ""}),
    ],
)
def test_what_is_ignored(ignore, reasons):
    assert reasons_of(ignore) == reasons


@pytest.mark.parametrize("ignore", ["D01", ["Z99"], {"Z99": "why"}, [{"reason": "why"}], [7]])
def test_what_cannot_be_ignored(ignore):
    with pytest.raises(ValueError, match=r"^ignore "):
        reasons_of(ignore)


def test_every_command_has_a_timeout(healthy):
    healthy.verdicts()
    assert len(healthy.asked) > 8
    assert all(0 < timeout <= 30 for dummy, timeout in healthy.asked)


def test_nothing_is_asked_twice(healthy):
    healthy.verdicts()
    words = [" ".join(argv) for argv, dummy in healthy.asked]
    assert sorted(words) == sorted(set(words))


def test_the_catalog_covers_the_known_checks():
    counts = {"A": 20, "B": 8, "C": 11, "D": 18, "E": 12, "F": 6, "G": 21, "H": 13}
    known = {f"{section}{number:02d}" for section, count in counts.items() for number in range(1, count + 1)}
    assert set(CATALOG) | set(ABSENT) == known
    assert not set(CATALOG) & set(ABSENT)


def test_a_supervisor_on_one_address_of_the_host_is_found(tmp_path):
    table = tmp_path / "tcp"
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    # 10.213.101.11:9997 listens; a connection from it does not, and another port is another port.
    table.write_text(head + "   0: 0B65D50A:270D 00000000:0000 0A x\n   1: 0B65D50A:270D 0C65D50A:C001 01 x\n   2: 00000000:0016 00000000:0000 0A x\n")
    assert network.listening_addresses(9997, str(table)) == ["10.213.101.11"]
    assert network.listening_addresses(9998, str(table)) == []
    assert network.listening_addresses(9997, str(tmp_path / "none")) == []


@pytest.mark.parametrize(
    ("container", "ours"),
    [
        ({"Image": "xprobe/xinference:v4.1.0", "Ports": [{"PublicPort": 9997}]}, True),
        ({"Image": "xprobe/xinference:v4.1.0", "Ports": [], "HostConfig": {"NetworkMode": "host"}}, True),
        ({"Image": "xprobe/xinference:v4.1.0", "Ports": [{"PublicPort": 80}], "HostConfig": {"NetworkMode": "bridge"}}, False),
        ({"Image": "nginx", "Ports": [], "HostConfig": {"NetworkMode": "host"}}, False),
    ],
)
def test_who_publishes_the_port(container, ours):
    assert network.published_by_xinference(9997, [container]) is ours
