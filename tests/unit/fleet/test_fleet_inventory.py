# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
import tarfile
from io import BytesIO

import pytest

from tests.fleet import seed
from tests.fleet.config import Settings
from tests.fleet.inventory import inventory, ssh_config
from tests.fleet.layout import Layout, parse_layout
from tests.fleet.shell import FleetError


@pytest.fixture
def settings() -> Settings:
    return Settings.from_environment({"HOME": "/home/u", "FLEET_STATE": "/state"})


@pytest.fixture
def layout(settings: Settings) -> Layout:
    data = {
        "hosts": {
            "svc": {"image": "debian13", "role": "services"},
            "gpu1": {"image": "ubuntu2404", "gpus": "t4x2", "groups": ["gpu_hosts"], "vars": {"own": 1}},
            "gpu2": {"image": "debian13", "gpus": "t4x2", "groups": ["gpu_hosts"], "vars": {"gpu_preflight_root": "/x"}},
            "dify1": {"image": "debian12", "groups": ["dify_hosts"]},
        },
        "vars": {"fleet_services_address": "mine"},
        "group_vars": {"gpu_hosts": {"docker_package_source": "docker"}},
    }
    return parse_layout(data, settings.subnet)


def test_inventory(layout: Layout, settings: Settings) -> None:
    data = inventory(layout, settings, {"fleet_services_address": "10.0.0.1", "fleet_other": 1})["all"]
    assert list(data["hosts"]) == ["gpu1", "gpu2", "dify1"], "the services host is no host of the roles"
    assert data["hosts"]["gpu1"] == {"ansible_host": "10.213.77.11", "gpu_preflight_root": "/opt/llmops-standin/root", "own": 1}
    assert data["hosts"]["gpu2"]["gpu_preflight_root"] == "/x", "the layout's own value wins"
    assert data["children"]["gpu_hosts"] == {"hosts": {"gpu1": {}, "gpu2": {}}, "vars": {"docker_package_source": "docker"}}
    assert data["vars"]["fleet_services_address"] == "mine"
    assert data["vars"]["fleet_other"] == 1
    assert data["vars"]["ansible_ssh_private_key_file"] == "/state/id_ed25519"


def test_ssh_config_knows_every_host(layout: Layout, settings: Settings) -> None:
    text = ssh_config(layout, settings)
    assert "Host svc\n    HostName 10.213.77.10\n" in text
    assert text.count("HostName") == 4


def test_settings_from_the_environment() -> None:
    settings = Settings.from_environment({"HOME": "/home/u", "XDG_CACHE_HOME": "/c", "FLEET_NAME": "another-long-name", "FLEET_SUBNET": "10.1.0.0/24"})
    assert str(settings.socket) == "/c/llmops-fleet/engine/docker.sock"
    assert settings.subnet == ipaddress.IPv4Network("10.1.0.0/24")
    assert len(settings.bridge) <= 15
    with pytest.raises(FleetError, match="FLEET_SUBNET"):
        Settings.from_environment({"HOME": "/", "FLEET_SUBNET": "10.1.0.1/24"})


def test_seed(layout: Layout) -> None:
    files = seed.seed_files(layout.hosts["gpu1"], "ssh-ed25519 KEY\n", "10.0.0.1")
    with tarfile.open(fileobj=BytesIO(seed.seed_archive(files, {"/opt/link": "target"}))) as archive:
        members = {member.name: member for member in archive}
    key = members["home/ops/.ssh/authorized_keys"]
    assert (key.mode, key.uid) == (0o600, 1000)
    assert (members["home/ops/.ssh"].mode, members["home/ops/.ssh"].uid) == (0o700, 1000)
    assert members["opt/link"].linkname == "target"
    assert members["usr/bin/nvidia-smi"].mode == 0o755
    assert "etc/apt/sources.list.d/llmops-standin-ubuntu.sources" in members


def test_a_host_without_gpus_has_no_nvidia_smi_and_without_services_no_proxy(layout: Layout) -> None:
    assert list(seed.seed_files(layout.hosts["dify1"], "KEY", None)) == ["/home/ops/.ssh/authorized_keys"]
