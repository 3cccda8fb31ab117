# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._ports import Listener, clashes, from_docker, from_proc

# Lines of a Linux 6.1's /proc/net/tcp: a listener on every address, one on loopback, and a connection.
PROC = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0000 100 0 0 10 0
   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0000 100 0 0 10 0
   2: 0100007F:0050 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 333 1 0000 100 0 0 10 0
"""
DOCKER = "dify\tdify-nginx-1\t0.0.0.0:80->80/tcp, [::]:80->80/tcp\nother\tshop-web-1\t127.0.0.1:9000-9001->9000-9001/tcp\n\tplain\t5432/tcp\n"


def test_listeners_of_the_kernel():
    assert from_proc(PROC) == [Listener("", 80, "111"), Listener("127.0.0.1", 8080, "222")]


def test_ports_that_docker_publishes():
    assert from_docker(DOCKER) == [
        ("dify", Listener("", 80, "dify-nginx-1")),
        ("dify", Listener("", 80, "dify-nginx-1")),
        ("other", Listener("127.0.0.1", 9000, "shop-web-1")),
        ("other", Listener("127.0.0.1", 9001, "shop-web-1")),
    ]


@pytest.mark.parametrize(
    ("wanted", "published", "holders"),
    [
        (("0.0.0.0", 80), "", ["111"]),
        (("0.0.0.0", 80), DOCKER, []),  # our own nginx, and Docker's proxy for it
        (("127.0.0.1", 80), "", ["111"]),  # one on every address holds each of them
        (("192.0.2.1", 8080), "", []),  # loopback is another address
        (("0.0.0.0", 8080), "", ["222"]),
        (("127.0.0.1", 9001), DOCKER, ["shop-web-1"]),
        (("0.0.0.0", 443), DOCKER, []),
    ],
)
def test_who_is_in_the_way(wanted, published, holders):
    assert [found.holder for found in clashes([wanted], from_proc(PROC), from_docker(published), "dify")] == holders
