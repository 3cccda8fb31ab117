# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import ipaddress

import pytest

from tests.fleet.layout import LayoutError, parse_layout

SUBNET = ipaddress.IPv4Network("10.9.8.0/24")
DATA = {
    "hosts": {
        "gpu1": {"image": "debian13", "gpus": "t4x2", "groups": ["gpu_hosts"], "vars": {"a": 1}},
        "dify1": {"image": "debian12", "groups": ["dify_hosts"]},
        "svc": {"image": "debian13", "role": "services"},
    },
    "vars": {"x": 1},
    "host_vars": {"gpu1": {"b": 2}},
}


def parse(gpu_hosts=None, **changes):
    data: dict = copy.deepcopy(DATA)
    for path, value in changes.items():
        *folders, last = path.split("__")
        place = data
        for folder in folders:
            place = place[folder]
        place[last] = value
    return parse_layout(data, SUBNET, gpu_hosts)


def test_the_services_host_comes_first_and_every_host_has_an_address():
    layout = parse()
    assert list(layout.hosts) == ["svc", "gpu1", "dify1"]
    assert layout.services is layout.hosts["svc"]
    assert [host.address for host in layout.hosts.values()] == ["10.9.8.12", "10.9.8.10", "10.9.8.11"]


def test_host_vars_are_merged_into_the_host():
    assert parse().hosts["gpu1"].vars == {"a": 1, "b": 2}


def test_a_given_address_is_kept_and_not_given_twice():
    layout = parse(hosts__dify1__address="10.9.8.10")
    assert layout.hosts["dify1"].address == "10.9.8.10"
    assert layout.hosts["gpu1"].address == "10.9.8.11"


def test_one_number_makes_more_gpu_hosts():
    layout = parse(gpu_hosts=3)
    gpus = [host for host in layout.hosts.values() if "gpu_hosts" in host.groups]
    assert [host.name for host in gpus] == ["gpu1", "gpu2", "gpu3"]
    assert {host.gpus for host in gpus} == {"t4x2"}
    assert len({host.address for host in layout.hosts.values()}) == 5


def test_one_number_makes_fewer_gpu_hosts():
    layout = parse(gpu_hosts=1, hosts__gpu7={"image": "debian13", "groups": ["gpu_hosts"]})
    assert [host.name for host in layout.hosts.values() if "gpu_hosts" in host.groups] == ["gpu1"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hosts": {}}, "at least one host"),
        ({"hosst": {}}, "hosst"),
        ({"hosts__gpu1__imagee": "x"}, "imagee"),
        ({"hosts__gpu1__image": "centos"}, "debian12, debian13, ubuntu2404"),
        ({"hosts__gpu1__role": "boss"}, "host, services"),
        ({"hosts__gpu1__groups": "gpu_hosts"}, "list of group names"),
        ({"hosts__gpu1__address": "10.1.1.1"}, "not in 10.9.8.0/24"),
        ({"hosts__Gpu": {"image": "debian13"}}, "lower-case"),
        ({"hosts__svc__image": "debian12"}, "debian13, not on debian12"),
        ({"hosts__dify1__role": "services", "hosts__dify1__image": "debian13"}, "at most one"),
        ({"host_vars": {"nobody": {}}}, "nobody"),
        ({"vars": ["x"]}, "mapping"),
        ({"gpu_hosts": 0}, "1 or more"),
    ],
)
def test_what_is_wrong_is_named(changes, words):
    with pytest.raises(LayoutError, match=words):
        parse(**changes)


def test_a_full_network_is_said():
    data = {"hosts": {f"h{number}": {"image": "debian13"} for number in range(10)}}
    with pytest.raises(LayoutError, match="FLEET_SUBNET"):
        parse_layout(data, ipaddress.IPv4Network("10.9.8.0/28"))
