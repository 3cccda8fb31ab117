# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sections B to F: cards, modules and drivers, CUDA, health and NVSwitch."""

from __future__ import annotations

import os

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._context import Context, Docker, Model
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight.run import model_of


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
