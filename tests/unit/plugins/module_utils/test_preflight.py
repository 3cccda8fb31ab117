# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight import _http_probe, apt, driver, host, network, toolkit
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._context import Context, Docker, Model, Options
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._core import Check, verdict
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight.catalog import ABSENT, CATALOG
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight.run import CHECKS, IDS, model_of, preflight, reasons_of

ROW = "{index}, GPU-{index}, 00000000:{bus}:00.0, {name}, {driver}, {memory}, {cc}, {mig}, {mig}, Enabled"
HEALTH = {
    "compute_mode": "Default",
    "display_active": "Disabled",
    "pcie.link.gen.current": "1",
    "pcie.link.gen.max": "4",
    "pcie.link.width.current": "16",
    "pcie.link.width.max": "16",
    "temperature.gpu": "34",
    "power.limit": "450.00",
    "power.default_limit": "450.00",
    "gpu_recovery_action": "None",
    "clocks_event_reasons.active": "0x0000000000000001",
}


class Machine:
    """A host made of files and of what its commands answer."""

    def __init__(self, root):
        self.root = root
        self.smi = (0, "")
        self.listing = ""
        self.cuinit = (0, "0 1\n")
        self.commands = {"dpkg --audit": (0, ""), "dpkg-query": (1, ""), "systemd-detect-virt": (1, "none\n")}
        self.health = {}
        self.asked = []
        self.write("etc/os-release", 'ID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\n')
        self.write("proc/meminfo", "MemTotal:       131072000 kB\nMemAvailable:   100000000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n")
        self.write("proc/sys/kernel/osrelease", "6.12.0\n")
        self.write("sys/fs/cgroup/cgroup.controllers", "cpu\n")
        self.write("proc/self/mountinfo", "1 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
        self.write("var/lib/dpkg/lock-frontend", "")
        (root / "etc/apt").mkdir(parents=True)
        (root / "sys/module").mkdir(parents=True)
        for name in ("nvidiactl", "nvidia-uvm", "nvidia0"):
            self.write("dev/" + name, "")
            os.chmod(root / "dev" / name, 0o666)

    def write(self, path, text):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def card(self, address, device, kind="0x030000", **more):
        values = {"vendor": "0x10de", "class": kind, "device": device, "numa_node": "0", "current_link_width": "16", "max_link_width": "16", **more}
        for name, value in values.items():
            self.write(f"sys/bus/pci/devices/{address}/{name}", value + "\n")
        self.write(f"sys/bus/pci/devices/{address}/resource", "0x00000000f0000000 0x00000000f0ffffff 0x0000000000040200\n")
        (self.root / f"sys/bus/pci/devices/{address}/driver").symlink_to("../../../drivers/nvidia")

    def driver(self, version, words="NVIDIA UNIX Open Kernel Module for x86_64"):
        self.write("proc/driver/nvidia/version", f"NVRM version: {words}  {version}  Release Build\n")

    def gpu(self, index, bus, name="NVIDIA GeForce RTX 4090", driver="580.95.05", cc="8.9", memory="24564, 1, 24080", mig="[N/A]"):
        self.smi = (self.smi[0], self.smi[1] + ROW.format(index=index, bus=bus, name=name, driver=driver, cc=cc, memory=memory, mig=mig) + "\n")

    def packages(self, **versions):
        lines = [
            f"{'hi' if version.startswith('held ') else 'ii'} \t{name.replace('_', '-')}\t{version.replace('held ', '')}" for name, version in versions.items()
        ]
        self.commands["dpkg-query"] = (0, "\n".join(lines) + "\n")

    def run(self, argv, timeout):
        self.asked.append((argv, timeout))
        if argv[0] == "nvidia-smi":
            if argv[1] == "-L":
                return 0, self.listing, ""
            if argv[1] == "-q":
                return 0, self.commands.get("nvidia-smi -q", (0, ""))[1], ""
            if argv[1] == "nvlink" or "compute-apps" in argv[1]:
                return (*self.commands.get("nvidia-smi " + argv[1].split("=")[0], (0, "")), "")
            fields = argv[1].split("=", 1)[1].split(",")[12:]
            values = {**dict.fromkeys(fields, "[N/A]"), **HEALTH, **self.health}
            tail = "".join(", " + values[field] for field in fields)
            # Only rows have health fields; everything else is printed as it is.
            text = "".join(line + (tail if line[:1].isdigit() else "") + "\n" for line in self.smi[1].splitlines())
            return self.smi[0], text, ""
        if argv[0].startswith(sys.executable[:1]) and "-c" in argv:
            return (*self.cuinit, "")
        words = " ".join(argv)
        for start, answer in self.commands.items():
            if words.startswith(start):
                return (*answer, "")
        return 127, "", ""

    def verdicts(self, ignored=(), **options):
        options = {"image_version": "v4.1.0", "docker_space_gib": 0.001, "docker_root": str(self.root), "docker_socket": "run/docker.sock", **options}
        result = preflight(Options(root=str(self.root), **options), reasons_of(list(ignored)), self.run, str(self.root))
        return {entry["id"]: entry for entry in result["verdicts"]}, result

    def failures(self, **options):
        return self.verdicts(**options)[1]["failures"]


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


# Section A


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", "ok"),
        ("deb [signed-by=/a.gpg] https://x/deb /\n", "fail"),
        ("# deb https://x/deb/ /\n", "ok"),
        ("deb [arch=amd64 signed-by=/b.asc] https://x/deb/ /\n", "ok"),
    ],
)
def test_one_repository_with_two_keys_stops_apt(healthy, text, status):
    healthy.write("etc/apt/sources.list.d/a.sources", "Types: deb\nURIs: https://x/deb/\nSuites: /\nSigned-By: /b.asc\n")
    healthy.write("etc/apt/sources.list.d/b.list", text)
    entry = healthy.verdicts()[0]["A18"]
    assert entry["status"] == status
    if status == "fail":
        assert "/etc/apt/sources.list.d/b.list" in entry["remedy"]


def test_a_repository_that_is_switched_off_and_one_with_its_key_inside():
    text = "Types: deb\nURIs: https://x\nSuites: a b\nEnabled: no\n\nTypes: deb\nURIs: https://y\nSuites: a\nSigned-By:\n -----BEGIN\n .\n"
    assert [(entry.uri, entry.suite, entry.signed_by) for entry in apt.deb822_entries("f", text)] == [("https://y", "a", "-----BEGIN\n.")]


UPGRADES = 'APT::Periodic::Unattended-Upgrade "1";\n'


@pytest.mark.parametrize(
    ("more", "version", "status"),
    [
        ("", "580.95.05-1", "warn"),
        ("", "held 580.95.05-1", "ok"),
        ('Unattended-Upgrade::Package-Blacklist { "nvidia-"; "libnvidia-"; };\n', "580.95.05-1", "ok"),
        ('// Unattended-Upgrade::Package-Blacklist { "nvidia-"; };\n', "580.95.05-1", "warn"),
        ('APT::Periodic::Unattended-Upgrade "0";\n', "580.95.05-1", "ok"),
    ],
)
def test_nightly_upgrades_of_the_driver(healthy, more, version, status):
    healthy.packages(nvidia_driver_580=version)
    healthy.write("etc/apt/apt.conf.d/20auto-upgrades", UPGRADES)
    healthy.write("etc/apt/apt.conf.d/50more", more)
    assert healthy.verdicts()[0]["A19"]["status"] == status


def test_dpkg_that_was_interrupted(healthy):
    healthy.commands["dpkg --audit"] = (0, "The following packages are only half configured:\n nvidia-driver-580  NVIDIA driver\n")
    entry = healthy.verdicts()[0]["A17"]
    assert entry["status"] == "fail"
    assert "nvidia-driver-580" in entry["message"]


def test_who_holds_the_lock_of_dpkg(tmp_path):
    path = tmp_path / "lock"
    assert host.lock_holder(str(path)) == 0
    path.write_text("")
    assert host.lock_holder(str(path)) == 0
    code = "import fcntl,sys; f=open(sys.argv[1],'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        assert host.lock_holder(str(path)) == other.pid
        other.stdin.close()
    assert host.lock_holder(str(path)) == 0


def test_the_clock_is_compared_with_most_servers(healthy, monkeypatch):
    def answers(*offsets):
        found = {str(number): _http_probe.Answer(200, b"", False, "", offset) for number, offset in enumerate(offsets)}
        monkeypatch.setattr(_http_probe, "all_answers", lambda context: found)
        return healthy.verdicts()[0]["A14"]

    assert answers(7200.0, 7201.0, 0.0)["status"] == "warn"
    assert "7200 s behind" in answers(7200.0)["message"]
    assert answers(0.4, 7200.0, -0.3)["status"] == "ok"
    assert answers()["status"] == "unknown"


@pytest.mark.parametrize(
    ("date", "offset"), [("Tue, 24 Nov 2026 14:00:00 GMT", 100.0), ("yesterday", None), (None, None), ("Tue, 99 Nov 2026 14:00:00 GMT", None)]
)
def test_the_date_of_an_answer(date, offset):
    assert _http_probe.offset_of(date, 1795528700.0 - 1, 1795528700.0 + 1) == offset


def test_a_pending_reboot(healthy):
    healthy.write("run/reboot-required", "")
    healthy.write("run/reboot-required.pkgs", "linux-image-6.12\nlinux-image-6.12\n")
    assert healthy.verdicts()[0]["A16"]["message"] == "A reboot is pending for linux-image-6.12."


def test_declared_models_decide_how_much_memory_is_wanted(healthy):
    assert healthy.verdicts(models=(Model("m", 200.0),))[0]["A05"]["status"] == "warn"
    assert healthy.verdicts(models=(Model("m", 20.0),))[0]["A05"]["status"] == "ok"


# Section B


def test_declared_models_decide_how_much_disk_is_wanted(healthy):
    assert healthy.verdicts(models=(Model("m", 10.0**7),), model_path=str(healthy.root))[0]["B04"]["status"] == "fail"
    healthy.write("cache/weights", "")
    assert healthy.verdicts(models=(Model("m", 10.0**7),), model_path=str(healthy.root))[0]["B04"]["status"] == "warn"


@pytest.mark.parametrize(("kind", "status"), [("ext4", "ok"), ("xfs", "ok"), ("nfs4", "warn"), ("zfs", "warn"), ("fuse.sshfs", "warn")])
def test_file_systems(healthy, kind, status):
    healthy.write("proc/self/mountinfo", f"1 1 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / {healthy.root} rw shared:1 - {kind} /dev/sdb rw\n")
    assert healthy.verdicts()[0]["B06"]["status"] == status


def test_a_data_root_that_docker_does_not_use_yet(healthy, monkeypatch):
    monkeypatch.setattr(Context, "docker", property(lambda self: Docker("ok", "", {"DockerRootDir": "/var/lib/docker", "Images": 7}, [], "29.0.0")))
    healthy.write("etc/docker/daemon.json", '{"data-root": "/srv/docker"}')
    entry = healthy.verdicts()[0]["B05"]
    assert entry["status"] == "fail"
    assert "7 images" in entry["message"]


# Section C


@pytest.mark.parametrize(
    ("device", "words", "status"),
    [
        ("0x2684", "NVIDIA UNIX x86_64 Kernel Module", "ok"),
        ("0x2b85", "NVIDIA UNIX x86_64 Kernel Module", "fail"),
        ("0x2b85", "NVIDIA UNIX Open Kernel Module for x86_64", "ok"),
        ("0x1db1", "NVIDIA UNIX Open Kernel Module for x86_64", "fail"),
        ("0x1db1", "NVIDIA UNIX x86_64 Kernel Module", "ok"),
    ],
)
def test_the_module_that_a_card_needs(machine, device, words, status):
    machine.card("0000:01:00.0", device)
    machine.driver("580.95.05", words)
    machine.smi = (6, "No devices were found\n")
    assert machine.verdicts()[0]["C04"]["status"] == status


def test_a_card_that_belongs_to_a_virtual_machine(healthy):
    os.unlink(healthy.root / "sys/bus/pci/devices/0000:01:00.0/driver")
    (healthy.root / "sys/bus/pci/devices/0000:01:00.0/driver").symlink_to("../../drivers/vfio-pci")
    entry = healthy.verdicts()[0]["C06"]
    assert (entry["status"], entry["message"]) == ("fail", "GPU 0000:01:00.0 is bound to vfio-pci.")


@pytest.mark.parametrize(("width", "status"), [("16", "ok"), ("8", "info"), ("4", "warn"), ("0", "ok"), ("-1", "ok")])
def test_pcie_lanes(healthy, width, status):
    healthy.write("sys/bus/pci/devices/0000:01:00.0/current_link_width", width)
    assert healthy.verdicts()[0]["C08"]["status"] == status


def test_memory_windows_without_an_address(healthy):
    healthy.write("sys/bus/pci/devices/0000:01:00.0/resource", "0x0000000000000000 0x0000000000000000 0x0000000000040200\n")
    assert healthy.verdicts()[0]["C07"]["status"] == "warn"


# Section D


def unloaded(machine):
    machine.card("0000:01:00.0", "0x2684")
    machine.smi = (9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n")
    return machine


def test_a_module_for_another_kernel(machine):
    unloaded(machine).write("lib/modules/6.1.0/updates/dkms/nvidia.ko.xz", "")
    verdicts, result = machine.verdicts()
    assert result["failures"] == ["D02", "D03"]
    assert verdicts["D03"]["message"] == "There is no nvidia module for kernel 6.12.0; there is one for 6.1.0."


def test_a_module_that_cannot_be_built(machine):
    unloaded(machine).packages(nvidia_dkms_580="580.95.05-1")
    assert machine.failures() == ["D02", "D04"]
    (machine.root / "lib/modules/6.12.0/build").mkdir(parents=True)
    assert machine.failures() == ["D02"]


def test_secure_boot(machine):
    unloaded(machine).write("sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", "\6\0\0\0\1")
    assert machine.verdicts()[0]["D05"]["status"] == "info"
    machine.commands["journalctl"] = (0, "2026-11-24T10:00:00+0000 host kernel: Loading of unsigned module is rejected\n")
    assert machine.failures() == ["D02", "D05"]


def test_a_card_that_the_driver_does_not_know(machine):
    lines = ("The NVIDIA GPU 0000:01:00.0 (PCI ID: 10de:2330)", "installed in this system is not supported by the", "NVIDIA 550.90.07 driver release.")
    log = "".join(f"NVRM: {line}\n" for line in lines)
    unloaded(machine).commands["journalctl"] = (0, log)
    entry = machine.verdicts()[0]["D06"]
    assert entry["status"] == "fail"
    assert "550.90.07 does not support GPU 0000:01:00.0" in entry["message"]


def test_an_upgrade_that_waits_for_a_reboot(healthy):
    healthy.commands["modinfo -F version"] = (0, "580.178.02\n")
    entry = healthy.verdicts()[0]["D08"]
    assert entry["status"] == "warn"
    assert "upgraded to 580.178.02, but 580.95.05 is loaded" in entry["message"]


def test_two_drivers(healthy):
    healthy.packages(nvidia_driver_570="570.1-1", nvidia_driver_580="580.95.05-1")
    assert healthy.failures() == ["D12"]
    healthy.packages(nvidia_driver_580="580.95.05-1")
    healthy.write("usr/bin/nvidia-uninstall", "")
    assert healthy.failures() == ["D12"]


def test_packages_that_are_held_by_halves(healthy):
    healthy.packages(nvidia_driver_580="held 580.95.05-1", libnvidia_compute_580="580.95.05-1")
    assert "libnvidia-compute-580" in healthy.verdicts()[0]["D13"]["message"]


def test_fewer_cuda_devices_than_gpus(healthy):
    healthy.cuinit = (0, "0 0\n")
    entry = healthy.verdicts()[0]["D16"]
    assert (entry["status"], entry["message"]) == ("fail", "CUDA sees 0 devices, nvidia-smi lists 1.")


def test_cuda_on_the_host_is_reported_and_not_wanted(healthy):
    healthy.write("usr/local/cuda-12.8/version.json", '{"cuda": {"name": "CUDA SDK", "version": "12.8.1"}}')
    healthy.write("usr/include/cudnn_version.h", "#define CUDNN_MAJOR 9\n#define CUDNN_MINOR 8\n#define CUDNN_PATCHLEVEL 0\n")
    verdicts, result = healthy.verdicts()
    assert (verdicts["D17"]["status"], verdicts["D18"]["status"]) == ("info", "info")
    assert "12.8.1 (/usr/local/cuda-12.8) is on the host. Containers do not use it" in verdicts["D17"]["message"]
    assert result["host_cuda"] == {
        "toolkit": [{"version": "12.8.1", "where": "/usr/local/cuda-12.8"}],
        "cudnn": [{"version": "9.8.0", "where": "/usr/include"}],
    }
    assert healthy.failures(require={"cuda_toolkit": "13.0", "cudnn": "9"}) == ["D17"]


def test_cuda_on_the_host_that_is_asked_for(healthy):
    assert healthy.failures() == []
    assert healthy.failures(require={"cuda_toolkit": "", "cudnn": ""}) == ["D17", "D18"]


# Section E


@pytest.mark.parametrize(("number", "status"), [(79, "fail"), (31, "warn"), (43, "ok"), (63, "ok")])
def test_xids(healthy, number, status):
    healthy.commands["journalctl"] = (0, f"2026-11-24T10:00:00+0000 h kernel: NVRM: Xid (PCI:0000:05:00): {number}, pid='<unknown>', words\n")
    entry = healthy.verdicts()[0]["E01"]
    assert entry["status"] == status
    assert status == "ok" or f"Xid {number} on 0000:05:00 at 2026-11-24T10:00:00+0000" in entry["message"]


@pytest.mark.parametrize(
    ("field", "cell", "name", "status"),
    [
        ("ecc.errors.uncorrected.volatile.total", "3", "E02", "fail"),
        ("ecc.errors.uncorrected.aggregate.total", "3", "E02", "info"),
        ("remapped_rows.failure", "Yes", "E03", "fail"),
        ("remapped_rows.pending", "Yes", "E03", "warn"),
        ("retired_pages.pending", "Yes", "E03", "warn"),
        ("gpu_recovery_action", "Drain P2P", "E04", "fail"),
        ("clocks_event_reasons.active", "0x0000000000000040", "E05", "warn"),
        ("clocks_event_reasons.active", "0x0000000000000004", "E05", "ok"),
        ("power.limit", "300.00", "E06", "info"),
        ("compute_mode", "Exclusive_Process", "E09", "warn"),
        ("display_active", "Enabled", "E11", "info"),
    ],
)
def test_health(healthy, field, cell, name, status):
    healthy.health = {field: cell}
    verdicts = healthy.verdicts()[0]
    assert verdicts[name]["status"] == status
    assert [entry["id"] for entry in verdicts.values() if entry["status"] in ("fail", "warn")] == ([name] if status in ("fail", "warn") else [])


def test_a_gpu_that_somebody_uses(healthy, monkeypatch):
    healthy.smi = (0, "")
    healthy.gpu(0, "01", memory="24564, 9000, 15000")
    healthy.commands["nvidia-smi --query-compute-apps"] = (0, "00000000:01:00.0, 6194, VLLM::Worker, one, 8999\n")
    assert "GPU 0: 9000 MiB by pid 6194 (VLLM::Worker, one)" in healthy.verdicts()[0]["E07"]["message"]
    monkeypatch.setattr(Context, "docker", property(lambda self: Docker("ok", "", {}, [{"Image": "xprobe/xinference:v4.1.0"}], "29.0.0")))
    assert healthy.verdicts()[0]["E07"]["status"] == "ok"


def declared(uid, gib, **more):
    return model_of({"uid": uid, "type": "LLM", "engine": "transformers", "memory_gib": gib, **more})


@pytest.mark.parametrize(
    ("models", "status", "words"),
    [
        ((declared("m", 20.0),), "ok", ""),
        ((declared("m", 40.0),), "warn", "m "),
        ((declared("m", 20.0, n_gpu=2),), "warn", "m "),
        ((declared("m", 40.0, n_gpu="cpu"),), "ok", ""),
        ((declared("a", 20.0), declared("b", 20.0)), "warn", "b "),
        ((), "skip", ""),
    ],
)
def test_models_that_do_not_fit(healthy, models, status, words):
    """One bad model stops no host: it is told here, and refused by the role that launches it."""
    entry = healthy.verdicts(models=models)[0]["E08"]
    assert entry["status"] == status
    assert entry["message"].startswith(words)


def test_a_declared_model_is_estimated():
    small = model_of({"uid": "chat", "type": "LLM", "engine": "transformers", "size": "7", "format": "pytorch", "quantization": "none"})
    assert 13 < small.disk_gib < 16
    assert model_of({}) == Model("?")


def test_mig_instances_are_listed_with_their_memory(healthy):
    healthy.smi = (0, "")
    healthy.gpu(0, "01", name="NVIDIA A100-SXM4-40GB", cc="8.0", mig="Enabled")
    healthy.listing = "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-0)\n  MIG 3g.20gb     Device  0: (UUID: MIG-7)\n"
    device = "<mig_devices><mig_device><fb_memory_usage><total>19968 MiB</total></fb_memory_usage></mig_device></mig_devices>"
    healthy.commands["nvidia-smi -q"] = (0, f'<nvidia_smi_log><gpu id="00000000:01:00.0">{device}</gpu></nvidia_smi_log>')
    assert healthy.verdicts()[1]["gpus"][0]["mig_devices"] == [{"name": "3g.20gb", "uuid": "MIG-7", "memory_total_mib": 19968}]


def test_a_vgpu_without_a_licence(healthy):
    licence = "<vgpu_software_licensed_product><license_status>Unlicensed (Unrestricted)</license_status></vgpu_software_licensed_product>"
    text = f"<nvidia_smi_log><gpu>{licence}</gpu></nvidia_smi_log>"
    healthy.commands["nvidia-smi -q"] = (0, text)
    assert healthy.verdicts()[0]["E12"]["status"] == "warn"


# Section F


@pytest.fixture
def switched(healthy):
    healthy.card("0000:05:00.0", "0x22a3", "0x068000")
    healthy.health = {"fabric.state": "Completed", "fabric.status": "Success"}
    healthy.packages(nvidia_fabricmanager_580="580.95.05-1")
    units = "Id=docker.service\nLoadState=not-found\n\nId=nvidia-fabricmanager.service\nLoadState=loaded\nActiveState=active\n"
    healthy.commands["systemctl show docker containerd"] = (0, units)
    return healthy


def test_a_healthy_nvswitch_machine(switched):
    verdicts, result = switched.verdicts()
    assert result["failures"] == []
    assert [verdicts[name]["status"] for name in ("C10", "F01", "F02", "F03", "F05")] == ["info", "ok", "ok", "ok", "ok"]


def test_a_fabric_manager_of_another_version(switched):
    switched.packages(nvidia_fabricmanager_580="580.82.07-1")
    assert switched.verdicts()[0]["F01"]["message"] == "The fabric manager is 580.82.07, the driver 580.95.05: it refuses to start."


def test_a_fabric_manager_that_does_not_run(switched):
    switched.commands["systemctl show docker containerd"] = (0, "Id=nvidia-fabricmanager.service\nLoadState=loaded\nActiveState=failed\n")
    assert switched.failures() == ["F02"]


def test_no_fabric_manager(switched):
    switched.commands["dpkg-query"] = (1, "")
    switched.commands["systemctl show docker containerd"] = (0, "Id=nvidia-fabricmanager.service\nLoadState=not-found\nActiveState=inactive\n")
    assert switched.failures() == ["F01"]


def test_gpus_outside_the_fabric(switched):
    switched.health = {"fabric.state": "In Progress", "fabric.status": "N/A"}
    assert switched.failures() == ["F03"]
    # Driver 550 words it so.
    switched.health = {"fabric.state": "state  Completed", "fabric.status": "status  Success"}
    assert switched.failures() == []


def test_links_that_are_down(switched):
    switched.commands["nvidia-smi nvlink"] = (0, "GPU 0: H100 (UUID: GPU-0)\n\t Link 0: 26.562 GB/s\n\t Link 1: <inactive>\n")
    assert switched.verdicts()[0]["F05"]["message"] == "NVLinks are down: 1 of GPU 0."


# Section G


TOOLKIT = dict.fromkeys(name.replace("-", "_") for name in toolkit.PACKAGES)


def test_a_toolkit_that_is_missing_counts_only_where_it_is_expected(healthy):
    assert healthy.verdicts()[0]["G08"]["status"] == "skip"
    verdicts, result = healthy.verdicts(expect_installed=True)
    assert result["failures"] == ["G01", "G08"]
    assert verdicts["G08"]["message"].startswith("The NVIDIA container toolkit is not installed")


def test_toolkit_packages_that_do_not_belong_together(healthy):
    healthy.packages(**{**TOOLKIT, **dict.fromkeys(TOOLKIT, "1.20.0-1"), "libnvidia_container1": "1.19.1-1"})
    entry = healthy.verdicts()[0]["G08"]
    # The role that comes next puts it right.
    assert entry["status"] == "warn"
    assert "libnvidia-container1 1.19.1-1" in entry["message"]
    assert healthy.verdicts(expect_installed=True)[0]["G08"]["status"] == "fail"


def test_nvidia_docker2(healthy):
    healthy.packages(nvidia_docker2="2.13.0-1")
    assert healthy.verdicts()[0]["G09"]["status"] == "warn"


@pytest.mark.parametrize(
    ("name", "docker", "packages", "daemon", "status"),
    [
        ("G03", {"ServerVersion": "20.10.24"}, {}, "", "fail"),
        ("G06", {"RegistryConfig": {"Mirrors": []}}, {}, '{"registry-mirrors": ["https://m"]}', "warn"),
        ("G07", {"LoggingDriver": "json-file"}, {}, '{"log-driver": "journald"}', "warn"),
        ("G10", {"Runtimes": {"runc": {}}}, dict.fromkeys(TOOLKIT, "1.20.0-1"), "", "warn"),
        ("G10", {"Runtimes": {"runc": {}, "nvidia": {}}}, dict.fromkeys(TOOLKIT, "1.20.0-1"), "", "ok"),
        ("G13", {"CgroupDriver": "systemd"}, dict.fromkeys(TOOLKIT, "1.17.8-1"), "", "warn"),
        ("G13", {"CgroupDriver": "systemd"}, dict.fromkeys(TOOLKIT, "1.20.0-1"), "", "ok"),
        ("G16", {"Driver": "vfs"}, {}, "", "fail"),
        ("G21", {"SecurityOptions": ["name=seccomp", "name=userns"]}, {}, "", "warn"),
    ],
)
def test_a_docker_that_is_there(healthy, monkeypatch, name, docker, packages, daemon, status):
    info = {"ServerVersion": "28.0.0", **docker}
    monkeypatch.setattr(Context, "docker", property(lambda self: Docker("ok", "", info, [], info["ServerVersion"])))
    monkeypatch.setattr(toolkit, "unit_of", lambda context: toolkit._docker_plan.Unit(True, True, 4e9, {}, []))
    healthy.packages(**packages)
    if daemon:
        healthy.write("etc/docker/daemon.json", daemon)
    assert healthy.verdicts()[0][name]["status"] == status


def test_a_toolkit_that_came_after_dockerd(healthy, monkeypatch):
    healthy.write("usr/bin/nvidia-container-runtime-hook", "")
    monkeypatch.setattr(toolkit, "unit_of", lambda context: toolkit._docker_plan.Unit(True, True, 1000.0, {}, []))
    assert "was installed after dockerd started" in healthy.verdicts()[0]["G07"]["message"]
    monkeypatch.setattr(toolkit, "unit_of", lambda context: toolkit._docker_plan.Unit(True, True, 4e9, {}, []))
    assert healthy.verdicts()[0]["G07"]["status"] == "ok"


@pytest.mark.parametrize("text", ["{", '{"registry-mirror": "https://m"}', '{"default-runtime": "nvidia"}', "[]"])
def test_a_daemon_json_that_stops_docker(healthy, text):
    healthy.write("etc/docker/daemon.json", text)
    assert healthy.failures() == ["G04"]


def test_a_cdi_specification_of_an_old_driver(healthy):
    healthy.write("etc/cdi/nvidia.yaml", "kind: nvidia.com/gpu\n- /usr/lib/libcuda.so.570.124.04\n")
    assert healthy.verdicts()[0]["G12"]["status"] == "warn"
    assert "G12" in healthy.failures(expect_installed=True)
    healthy.write("etc/cdi/nvidia.yaml", "kind: nvidia.com/gpu\n- /usr/lib/libcuda.so.580.95.05\n")
    assert healthy.verdicts()[0]["G12"]["status"] == "ok"
    healthy.write("var/run/cdi/nvidia.yaml", "kind: nvidia.com/gpu\n- /usr/lib/libcuda.so.580.95.05\n")
    assert healthy.verdicts()[0]["G12"]["status"] == "warn"


# Section H


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (_http_probe.Answer(200, b"-----BEGIN PGP SIGNED MESSAGE-----", False, "", 0.0), ""),
        (_http_probe.Answer(200, b"<html>", True, "", 0.0), "a web page instead of an index"),
        (_http_probe.Answer(404, b"", False, "", 0.0), "status 404"),
        (_http_probe.Answer(0, b"", False, "connection refused", None), "connection refused"),
    ],
)
def test_apt_repositories(healthy, monkeypatch, answer, words):
    url = "https://user:secret@apt.example.org/$(ID)/dists/$(CODENAME)/InRelease"
    asked = []
    monkeypatch.setattr(_http_probe, "ask", lambda url, fetch: asked.append(url) or answer)
    monkeypatch.setattr(network, "resolve", lambda name: ("", ["192.0.2.1"]))
    entry = healthy.verdicts(apt_repositories=(url,))[0]["H02"]
    assert asked == ["https://user:secret@apt.example.org/debian/dists/trixie/InRelease"]
    assert entry["status"] == ("fail" if words else "ok")
    assert words in entry["message"]
    assert "secret" not in entry["message"]


@pytest.mark.parametrize(("answer", "status"), [(("", ["192.0.2.1"]), "ok"), (("", ["127.0.0.1"]), "fail"), (("Name or service not known", []), "fail")])
def test_names(healthy, monkeypatch, answer, status):
    monkeypatch.setattr(_http_probe, "ask", lambda url, fetch: _http_probe.Answer(200, b"", False, "", 0.0))
    monkeypatch.setattr(network, "resolve", lambda name: answer)
    assert healthy.verdicts(model_hubs=("https://hub.example.org/x",))[0]["H01"]["status"] == status


@pytest.mark.parametrize(("good", "status"), [(2, "ok"), (1, "warn"), (0, "fail")])
def test_mirrors(healthy, monkeypatch, good, status):
    def probe_all(urls, images, fetch, timeout, total):
        return [
            network._mirror.Verdict(url, "ok" if number < good else "dead", "" if number < good else "connection refused", 0.1)
            for number, url in enumerate(urls)
        ]

    monkeypatch.setattr(network._mirror, "probe_all", probe_all)
    monkeypatch.setattr(_http_probe, "ask", lambda url, fetch: _http_probe.Answer(200, b"", False, "", 0.0))
    entry = healthy.verdicts(mirrors=("http://192.0.2.1", "http://192.0.2.2"))[0]["H03"]
    assert entry["status"] == status
    assert status == "ok" or "http://192.0.2.2: connection refused" in entry["message"]


def test_networks_that_docker_would_take_away(healthy):
    head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
    healthy.write("proc/net/route", head + "eth0\t00000000\t0101A8C0\t3\t0\t0\t0\t00000000\ntun0\t000011AC\t0\t1\t0\t0\t0\t0000FFFF\n")
    healthy.write("sys/class/net/eth0/mtu", "1400\n")
    verdicts = healthy.verdicts()[0]
    assert "172.17.0.0/16 (tun0)" in verdicts["H09"]["message"]
    assert verdicts["H10"]["status"] == "warn"
    healthy.write("etc/docker/daemon.json", '{"bip": "10.9.0.1/24", "mtu": 1400}')
    verdicts = healthy.verdicts()[0]
    assert (verdicts["H09"]["status"], verdicts["H10"]["status"]) == ("ok", "ok")


# The whole


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
