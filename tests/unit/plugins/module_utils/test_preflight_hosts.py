# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sections A, G and H: the host, Docker with the toolkit, and the network."""

from __future__ import annotations

import subprocess
import sys

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight import _http_probe, apt, host, network, toolkit
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._context import Context, Docker, Model


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
