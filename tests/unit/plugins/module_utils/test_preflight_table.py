# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight.table import report, table


def verdict(name, status, message="", remedy="", ignored=False, reason=""):
    return {
        "id": name,
        "name": "check_" + name.lower(),
        "severity": "fail",
        "status": "skip" if ignored else status,
        "found": status,
        "message": message,
        "remedy": remedy,
        "ignored": ignored,
        "reason": reason,
    }


def result(*verdicts, gpus=("Tesla T4",)):
    return {"verdicts": [verdict("A01", "ok"), *verdicts], "gpus": [{"name": name} for name in gpus], "driver": {"version": "595.71.05"}, "seconds": 0.5}


DEAD = "192.0.2.1: connection refused"
FLEET = [
    ("gpu1", result(gpus=("Tesla T4", "Tesla T4"))),
    ("gpu2", result(verdict("D10", "fail", "The driver 570.1 is too old.", "Upgrade the driver."), verdict("H03", "warn", DEAD, "Take it out."))),
    ("gpu3", result(verdict("H03", "warn", DEAD, "Take it out."), verdict("E01", "unknown", "The kernel log cannot be seen."))),
    ("gpu4", result(verdict("D10", "fail", "The driver 570.1 is too old.", "Upgrade.", ignored=True, reason="it is replaced on Monday"))),
    ("gpu5", {"unreachable": True, "msg": "No route to host"}),
    ("gpu6", {"failed": True, "msg": "python3: not found"}),
]


def test_every_host_has_a_state():
    document = report(FLEET)
    assert (document["passed"], document["ok"], document["warn"], document["fail"], document["unreachable"]) == (
        False,
        ["gpu1", "gpu4"],
        ["gpu3"],
        ["gpu2", "gpu6"],
        ["gpu5"],
    )
    assert [entry["state"] for entry in document["hosts"]] == ["ok", "fail", "warn", "ok", "unreachable", "fail"]
    assert json.loads(json.dumps(document)) == document


def test_a_fleet_without_findings_is_fine():
    document = report(FLEET[:1])
    assert document["passed"]
    assert table(document).splitlines() == ["host", "gpu1  ok", "", "gpu1: 2 x Tesla T4, driver 595.71.05", "", "1 host: 1 ok."]


def test_the_table():
    assert table(report(FLEET)).splitlines() == [
        "host             D10  H03",
        "gpu1  ok         .    .",
        "gpu2  FAIL       FAIL warn",
        "gpu3  warn       .    warn",
        "gpu4  ok         ign  .",
        "gpu5  UNREACHABLE",
        "gpu6  FAIL",
        "",
        "FAIL D10 check_d10",
        "     gpu2: The driver 570.1 is too old.",
        "     -> Upgrade the driver.",
        "",
        "warn H03 check_h03",
        "     gpu2, gpu3: 192.0.2.1: connection refused",
        "     -> Take it out.",
        "",
        "ign  D10 check_d10",
        "     gpu4: The driver 570.1 is too old.",
        "     ignored: it is replaced on Monday",
        "",
        "UNREACHABLE gpu5",
        "     No route to host",
        "",
        "FAIL gpu6",
        "     python3: not found",
        "",
        "gpu1: 2 x Tesla T4, driver 595.71.05",
        "gpu2: 1 x Tesla T4, driver 595.71.05",
        "gpu3: 1 x Tesla T4, driver 595.71.05",
        "gpu4: 1 x Tesla T4, driver 595.71.05",
        "",
        "Could not be seen on at least one host: E01.",
        "",
        "6 hosts: 2 ok, 1 warn, 2 fail, 1 unreachable. To go on despite a finding: gpu_preflight_ignore: {ID: reason}.",
    ]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_many_findings_stay_within_the_width(width):
    many = [verdict(f"Z{number:02d}", "fail", "Something long was found here that has to be wrapped. " * 4, "Do this. " * 20) for number in range(40)]
    text = table(report([(f"a-host-with-a-name-that-is-long-{number}", result(*many)) for number in range(3)]), width)
    assert max(len(line) for line in text.splitlines()[:-1]) <= width
    assert all(f"Z{number:02d}" in text for number in range(40))


def test_no_host():
    assert table(report([])) == "No GPU host was checked."
