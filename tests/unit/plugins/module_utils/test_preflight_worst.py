# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks that no other test brings to the worst they can find; each is fine on the same host without its trouble."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight import _http_probe, disk, docker, host, network, toolkit
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._context import Context, Docker, Options
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight.catalog import CATALOG

MEMORY = "MemTotal: 131072000 kB\nMemAvailable: {} kB\nSwapTotal: 8000000 kB\nSwapFree: 100000 kB\nHugePages_Total: {}\nHugepagesize: 2048 kB\n"
# path -> text
FILES = {
    "A01": {"etc/os-release": 'ID="rocky"\nVERSION_ID="9.4"\n'},
    "A03": {"proc/sys/kernel/osrelease": "5.15.90.1-microsoft-standard-WSL2\n"},
    "A06": {"proc/meminfo": MEMORY.format(1000000, 0)},
    "A12": {"proc/meminfo": MEMORY.format(100000000, 30000)},
    "A20": {"etc/needrestart/conf.d/a.conf": "$nrconf{restart} = 'a';\n"},
    "G20": {"sys/fs/selinux/enforce": "1", "sys/fs/selinux/booleans/container_use_devices": "0 0"},
    "H07": {"etc/ufw/ufw.conf": "ENABLED=yes\n"},
    "H11": {"etc/environment": 'HTTPS_PROXY="http://proxy:3128"\n'},
}


@pytest.mark.parametrize("name", FILES)
def test_files(healthy, name):
    for path, text in FILES[name].items():
        healthy.write(path, text)
    assert healthy.verdicts()[0][name]["status"] == CATALOG[name].severity


def test_services_that_are_spared_are_fine(healthy):
    healthy.write("etc/needrestart/conf.d/a.conf", "$nrconf{restart} = 'a';\n$nrconf{override_rc}{qr(^docker)} = 0;\n")
    assert healthy.verdicts()[0]["A20"]["status"] == "ok"


UNITS = {
    "A09": "Id=docker.service\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\nLimitNOFILE=1024\n",
    "F06": "Id=nvidia-fabricmanager.service\nLoadState=loaded\nActiveState=failed\nUnitFileState=enabled\n",
    "H08": "Id=firewalld.service\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\n",
}


@pytest.mark.parametrize("name", UNITS)
def test_units(healthy, name):
    healthy.commands["systemctl show"] = (0, UNITS[name])
    assert healthy.verdicts()[0][name]["status"] == "warn"


def test_a_processor_that_the_toolkit_does_not_exist_for(healthy, monkeypatch):
    monkeypatch.setattr(host.platform, "machine", lambda: "ppc64le")
    assert healthy.verdicts()[0]["A02"]["status"] == "fail"


def test_cgroup_v1(healthy):
    os.unlink(healthy.root / "sys/fs/cgroup/cgroup.controllers")
    assert healthy.verdicts()[0]["A04"]["status"] == "warn"


def test_gpus_on_two_sockets(healthy):
    healthy.card("0000:81:00.0", "0x2684", numa_node="1")
    assert healthy.verdicts()[0]["A13"]["status"] == "info"


def test_a_small_disk_under_containerd(healthy):
    # What lies in /proc has no room for anything, and is a file system of its own.
    healthy.write("etc/containerd/config.toml", 'version = 2\nroot = "/proc/images"\n')
    entry = healthy.verdicts(docker_root="")[0]["B02"]
    assert (entry["status"], "/proc/images, which has 0.0 GiB free" in entry["message"]) == ("fail", True)


@pytest.mark.parametrize(("name", "files", "free", "flag"), [("B03", 10**7, 1000, 0), ("B07", 10**7, 10**7, os.ST_RDONLY)])
def test_file_systems(healthy, monkeypatch, name, files, free, flag):
    found = SimpleNamespace(f_bavail=10**9, f_frsize=4096, f_files=files, f_favail=free, f_flag=flag)
    monkeypatch.setattr(disk.os, "statvfs", lambda path: found)
    assert healthy.verdicts()[0][name]["status"] == "fail"


def test_models_on_a_spinning_disk(healthy):
    device = os.stat(healthy.root).st_dev
    healthy.write(f"sys/dev/block/{os.major(device)}:{os.minor(device)}/queue/rotational", "1\n")
    assert healthy.verdicts(model_path=str(healthy.root))[0]["B08"]["status"] == "info"


def test_cards_that_no_driver_serves_together(healthy):
    healthy.card("0000:02:00.0", "0x15f8")
    healthy.card("0000:03:00.0", "0x2901")
    assert "No kernel module serves these cards together" in healthy.verdicts()[0]["C05"]["message"]


def test_pcie_errors(healthy):
    healthy.write("sys/bus/pci/devices/0000:01:00.0/aer_dev_nonfatal", "Undefined 0\nTOTAL_ERR_NONFATAL 3\n")
    assert "0000:01:00.0 (3)" in healthy.verdicts()[0]["C09"]["message"]


def space(control, length=4096):
    """A bridge's configuration space: another capability, then Access Control Services."""
    config = bytearray(length)
    if length > 0x150:
        config[0x100:0x104] = (0x148 << 20 | 1 << 16 | 0x0001).to_bytes(4, "little")
        config[0x148:0x14C] = (1 << 16 | 0x000D).to_bytes(4, "little")
        config[0x14E:0x150] = control.to_bytes(2, "little")
    return bytes(config)


@pytest.mark.parametrize(("config", "status"), [(space(0b1101), "info"), (space(0b0001), "ok"), (space(0, 64), "unknown"), (bytes(4096), "ok")])
def test_gpus_that_talk_through_the_iommu(healthy, config, status):
    healthy.card("0000:02:00.0", "0x2684")
    assert healthy.verdicts()[0]["C11"]["message"] == "no IOMMU is in use"
    (healthy.root / "sys/kernel/iommu_groups/0").mkdir(parents=True)
    bridge = healthy.root / "sys/devices/pci0000:00/0000:00:01.0"
    bridge.mkdir(parents=True)
    (bridge / "config").write_bytes(config)
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (healthy.root / "sys/bus/pci/devices" / name).rename(bridge / name)
        (healthy.root / "sys/bus/pci/devices" / name).symlink_to(bridge / name)
    assert healthy.verdicts()[0]["C11"]["status"] == status


def test_persistence_mode_that_is_off(healthy):
    healthy.smi = (0, healthy.smi[1].replace(", Enabled", ", Disabled"))
    assert "on GPU 0" in healthy.verdicts()[0]["D14"]["message"]


def test_a_board_of_the_fifth_nvlink_without_its_subnet_manager(healthy):
    healthy.card("0000:02:00.0", "0x2901")
    healthy.card("0000:09:00.0", "0x22a3", kind="0x068000")
    healthy.packages(bash="5")
    assert healthy.verdicts()[0]["F04"]["status"] == "fail"
    healthy.packages(nvlsm="2025.03")
    assert healthy.verdicts()[0]["F04"]["status"] == "ok"


def test_docker_from_snap_and_podman(healthy, monkeypatch):
    monkeypatch.setattr(docker.shutil, "which", lambda name, path: "/snap/bin/docker")
    assert "from snap" in healthy.verdicts()[0]["G02"]["message"]
    monkeypatch.setattr(docker.shutil, "which", lambda name, path: "/usr/bin/docker")
    monkeypatch.setattr(docker.os.path, "realpath", lambda path: "/usr/bin/podman")
    assert "Podman" in healthy.verdicts()[0]["G02"]["message"]


def test_a_key_that_is_set_twice(healthy, monkeypatch):
    healthy.write("etc/docker/daemon.json", '{"hosts": ["fd://"]}')
    monkeypatch.setattr(docker, "unit_of", lambda context: docker._docker_plan.Unit(True, True, 4e9, {"hosts": "fd://"}, []))
    entry = healthy.verdicts()[0]["G05"]
    assert entry["status"] == "fail" and "hosts (fd://)" in entry["message"]


def running(monkeypatch, info, *containers):
    """A Docker that runs; each container is its name and what the engine says of its HostConfig."""
    told = {"ServerVersion": "28.0.0", **info}
    listed = [{"Id": name, "Names": ["/" + name], "Image": "busybox"} for name, config in containers]
    monkeypatch.setattr(Context, "docker", property(lambda self: Docker("ok", "", told, listed, told["ServerVersion"])))
    monkeypatch.setattr(docker.DockerHost, "get", lambda self, path, timeout=0: {"HostConfig": dict(containers)[path.split("/")[2]]})


GPUS = {"DeviceRequests": [{"Driver": "nvidia", "Capabilities": [["gpu"]]}]}


def test_a_proxy_that_docker_lacks(healthy, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    running(monkeypatch, {})
    assert healthy.verdicts()[0]["G19"]["status"] == "warn"
    running(monkeypatch, {"HttpsProxy": "http://proxy:3128"})
    assert healthy.verdicts()[0]["G19"]["status"] == "ok"


@pytest.mark.parametrize(
    ("version", "cgroups", "spec", "config", "status"),
    [
        # Whatever the toolkit's version: before 29.2 Docker gives GPUs by the hook.
        ("28.0.0", "systemd", True, GPUS, "warn"),
        ("28.0.0", "systemd", True, {}, "ok"),
        ("28.0.0", "cgroupfs", False, GPUS, "ok"),
        ("29.2.1", "systemd", True, GPUS, "ok"),
        ("29.2.1", "systemd", False, GPUS, "warn"),
    ],
)
def test_who_loses_gpus_to_a_reload_of_systemd(healthy, monkeypatch, version, cgroups, spec, config, status):
    healthy.packages(**dict.fromkeys((name.replace("-", "_") for name in toolkit.PACKAGES), "1.20.0-1"))
    if spec:
        healthy.write("var/run/cdi/nvidia.yaml", "kind: nvidia.com/gpu\n- /usr/lib/libcuda.so.580.95.05\n")
    running(monkeypatch, {"ServerVersion": version, "CgroupDriver": cgroups}, ("served", config), ("other", {}))
    verdicts = healthy.verdicts()[0]
    assert verdicts["G13"]["status"] == status
    assert status == "ok" or "Here that is served." in verdicts["G13"]["message"]
    assert verdicts["G18"]["status"] == ("info" if config else "ok")


@pytest.mark.parametrize(("name", "option", "status"), [("H04", "model_hubs", 503), ("H05", "package_indexes", 404)])
def test_servers_that_do_not_serve(healthy, monkeypatch, name, option, status):
    monkeypatch.setattr(_http_probe, "ask", lambda url, fetch: _http_probe.Answer(status, b"", False, "", 0.0))
    monkeypatch.setattr(network, "resolve", lambda name: ("", ["192.0.2.1"]))
    assert healthy.verdicts(**{option: ("https://hub.example.org/x",)})[0][name]["status"] == "fail"


def test_what_is_there_already_needs_no_server(healthy, monkeypatch):
    """An outage elsewhere is no reason to leave out a host that serves."""
    monkeypatch.setattr(_http_probe, "ask", lambda url, fetch: _http_probe.Answer(503, b"", False, "", 0.0))
    monkeypatch.setattr(network, "resolve", lambda name: ("", ["192.0.2.1"]))
    servers = {"apt_repositories": ("https://a.example.org/InRelease",), "model_hubs": ("https://b.example.org",), "model_path": str(healthy.root / "x")}
    (healthy.root / "x/weights").mkdir(parents=True)
    running(monkeypatch, {})
    healthy.packages(bash="5")
    assert healthy.failures(**servers) == ["H02", "H04"]
    healthy.write("x/weights/model", "")
    healthy.packages(nvidia_container_toolkit="1.20.0-1")
    verdicts, result = healthy.verdicts(**servers)
    assert (result["failures"], verdicts["H02"]["status"], verdicts["H04"]["status"]) == ([], "warn", "warn")


def test_addresses_without_a_route(healthy, monkeypatch):
    monkeypatch.setattr(_http_probe, "ask", lambda url, fetch: _http_probe.Answer(200, b"", False, "", 0.0))
    monkeypatch.setattr(network, "resolve", lambda name: ("", ["192.0.2.1", "2001:db8::1"]))
    assert healthy.verdicts(model_hubs=("https://hub.example.org/x",))[0]["H13"]["status"] == "info"


def test_what_takes_too_long_is_left_behind(monkeypatch):
    """A resolver knows no timeout; neither the check nor the end of the module waits for it."""
    monkeypatch.setattr(_http_probe, "TOTAL", 2.0)
    monkeypatch.setattr(_http_probe, "ask", lambda url, fetch: time.sleep(60) if "slow" in url else _http_probe.Answer(200, b"", False, "", 0.0))
    started = time.monotonic()
    found = _http_probe.all_answers(Context(Options(time_urls=("http://slow/", "http://quick/"))))
    assert time.monotonic() - started < 30
    assert "no answer within" in found["http://slow/"].problem and found["http://quick/"].status == 200
