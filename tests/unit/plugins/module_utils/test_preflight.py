# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight import driver, host, network
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._core import Check, Context, Options, verdict
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight.run import CHECKS, IDS, preflight

ROW = "{index}, GPU-{index}, 00000000:{bus}:00.0, {name}, {driver}, {memory}, {cc}, {mig}, {mig}, Enabled"


class Machine:
    """A host made of files and of what its commands answer."""

    def __init__(self, root):
        self.root = root
        self.smi = (0, "")
        self.listing = ""
        self.cuinit = (0, "0\n")
        self.write("etc/os-release", 'ID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\n')
        self.write("proc/meminfo", "MemTotal:       131072000 kB\n")
        self.write("proc/sys/kernel/osrelease", "6.12.0\n")
        (root / "sys/module").mkdir(parents=True)
        for name in ("nvidiactl", "nvidia-uvm", "nvidia0"):
            self.write("dev/" + name, "")
            os.chmod(root / "dev" / name, 0o666)

    def write(self, path, text):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def card(self, address, device, kind="0x030000"):
        for name, value in (("vendor", "0x10de"), ("class", kind), ("device", device)):
            self.write(f"sys/bus/pci/devices/{address}/{name}", value + "\n")

    def driver(self, version):
        self.write("proc/driver/nvidia/version", f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Tue\n")

    def gpu(self, index, bus, name="NVIDIA GeForce RTX 4090", driver="580.95.05", cc="8.9", memory="24564, 1, 24080", mig="[N/A]"):
        self.smi = (self.smi[0], self.smi[1] + ROW.format(index=index, bus=bus, name=name, driver=driver, cc=cc, memory=memory, mig=mig) + "\n")

    def run(self, argv, timeout):
        if argv[0] == "nvidia-smi":
            return (0, self.listing, "") if argv[1] == "-L" else (*self.smi, "")
        return (*self.cuinit, "")

    def verdicts(self, ignored=(), **options):
        options = {"image_version": "v4.1.0", "docker_space_gib": 0.001, "docker_root": str(self.root), **options}
        result = preflight(Options(root=str(self.root), **options), ignored, self.run, str(self.root))
        return {entry["id"]: entry for entry in result["verdicts"]}, result


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def healthy(machine):
    machine.card("0000:01:00.0", "0x2684")
    machine.driver("580.95.05")
    machine.gpu(0, "01")
    return machine


def test_a_healthy_host_raises_no_alarm(healthy):
    verdicts, result = healthy.verdicts()
    assert result["failures"] == []
    assert {entry["status"] for entry in verdicts.values()} <= {"ok", "skip"}
    assert result["gpus"][0]["compute_capability"] == "8.9"
    assert result["driver"] == {"version": "580.95.05", "loaded_version": "580.95.05", "library_version": "580.95.05", "cuda": "13.0"}


def test_without_a_driver_every_finding_names_its_cause(machine):
    machine.card("0000:01:00.0", "0x2684")
    machine.smi = (9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n")
    machine.cuinit = (100, "")
    verdicts, result = machine.verdicts()
    assert result["failures"] == ["D02", "D07", "D09"]
    assert "kernel module is not loaded" in verdicts["D07"]["message"]
    assert verdicts["D10"]["status"] == verdicts["D16"]["status"] == "unknown"
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
    assert "D07" in result["failures"]
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
    [((0, "802\n"), "fail", "fabricmanager"), ((100, ""), "unknown", "libcuda1"), ((-11, ""), "unknown", ""), ((124, ""), "fail", "Xid")],
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
    verdicts, dummy = machine.verdicts(docker_root="")
    (tmp_path / "etc/docker").mkdir(parents=True)
    (tmp_path / "etc/docker/daemon.json").write_text("{")
    verdicts = machine.verdicts(docker_root="")[0]
    for name in ("A01", "A05", "B01", "C01", "C10", "D01"):
        assert verdicts[name]["status"] == "unknown", verdicts[name]


def test_too_little_disk(healthy):
    entry = healthy.verdicts(docker_space_gib=10**9)[0]["B01"]
    assert entry["status"] == "fail"
    assert "GiB free" in entry["message"]


def test_an_ignored_finding_is_shown_and_does_not_count(healthy):
    (healthy.root / "sys/module/nouveau").mkdir()
    verdicts, result = healthy.verdicts(ignored=["D01"])
    assert result["failures"] == []
    assert (verdicts["D01"]["status"], verdicts["D01"]["ignored"]) == ("skip", True)


def test_a_cpu_image_needs_no_gpu(machine):
    machine.smi = (127, "")
    assert machine.verdicts(image_version="v4.1.0-cpu")[1]["failures"] == []


def test_a_check_that_breaks_hides_no_other(healthy):
    broken = Check("Z01", "broken", "fail", "", lambda context: 1 / 0)
    entry = verdict(broken, Context(Options()), ())
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
    monkeypatch.setattr(network, "get_json", lambda connection, path: None)
    assert healthy.verdicts(ports=(9997,))[0]["H06"]["status"] == "warn"
    monkeypatch.setattr(network, "get_json", lambda connection, path: [{"Image": "nginx", "Ports": [{"PublicPort": 9997}]}])
    assert healthy.verdicts(ports=(9997,))[0]["H06"]["status"] == "fail"
    monkeypatch.setattr(network, "get_json", lambda connection, path: [{"Image": "xprobe/xinference:v4.1.0", "Ports": [{"PublicPort": 9997}]}])
    assert healthy.verdicts(ports=(9997,))[0]["H06"]["status"] == "ok"
