# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Holds the nvidia-smi stand-in to the formats of the real one: shapes are compared, values are not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fleet.standins.nvidia.profiles import PROFILES, smi_profile

DATA = Path(__file__).resolve().parent / "data" / "nvidia_smi"
STANDIN = Path(__file__).resolve().parents[1] / "fleet" / "standins" / "nvidia"
START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from smi.cli import main; sys.exit(main(sys.argv[1:]))"
FIELDS = (DATA / "query_units.csv").read_text().splitlines()[0]


def fields_of(header: str) -> str:
    """The names of a CSV header as --query-gpu takes them: without blanks and units."""
    return ",".join(name.split(" ")[0] for name in header.split(", "))


def shape(text: str) -> str:
    """A text with everything that is a value made the same: numbers, identifiers, dates."""
    text = re.sub(r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}", "DATE", text)
    text = re.sub(r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", text)
    text = re.sub(r"\b[0-9A-F]{8}:[0-9A-F]{2}:[0-9A-F]{2}\.\d\b", "BUS", text)
    return re.sub(r" *\d+(\.\d+)*", " 9", text)


def widths(line: str) -> list[int]:
    """Where the bars of a table line stand."""
    return [position for position, character in enumerate(line) if character in "|+"]


@pytest.fixture
def smi(tmp_path):
    """Call the stand-in with a profile: (exit status, stdout). Nothing may come out of stderr."""

    def call(name, *arguments, processes=(), timeout=30):
        profile = tmp_path / "nvidia.json"
        profile.write_text(json.dumps(smi_profile(replace(PROFILES[name], processes=tuple(processes)))))
        done = subprocess.run(
            [sys.executable, "-c", START, str(STANDIN), *arguments],
            env={**os.environ, "LLMOPS_STANDIN_NVIDIA": str(profile)},
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        assert done.stderr == ""
        return done.returncode, done.stdout

    return call


@pytest.fixture
def process():
    uuid = smi_profile(PROFILES["rtx4090x1"])["gpus"][0]["fields"]["uuid"]
    return {"pid": 815, "process_name": "python3", "gpu_uuid": uuid, "used_gpu_memory": 503}


def test_query_with_units(smi):
    status, out = smi("rtx4090x1", "--query-gpu=" + fields_of(FIELDS), "--format=csv")
    assert status == 0
    assert out.splitlines()[0] == FIELDS
    assert shape(out) == shape((DATA / "query_units.csv").read_text())


def test_query_without_units_and_header(smi):
    status, out = smi("rtx4090x1", "--query-gpu", fields_of(FIELDS), "--format=csv,noheader,nounits")
    assert status == 0
    assert shape(out) == shape((DATA / "query_nounits.csv").read_text())


def test_an_alias_is_headed_by_the_fields_name(smi):
    assert smi("t4x2", "--query-gpu=gpu_name", "--format=csv")[1].splitlines()[0] == "name"


@pytest.mark.parametrize(("name", "known"), [("rtx4090x1", True), ("h100x8", False)])
def test_one_unknown_field_fails_the_whole_query_on_stdout(smi, name, known):
    """kmd_version came with driver 595; the H100 profile has 590."""
    status, out = smi(name, "--query-gpu=name,kmd_version", "--format=csv")
    if known:
        assert status == 0
    else:
        assert status == 2
        assert out.startswith('Field "kmd_version" is not a valid field to query.\n')
        assert "H100" not in out


def test_a_lost_gpu_does_not_change_the_status_of_a_query(smi):
    wanted = "index,uuid,pci.bus_id,name,driver_version,memory.total,memory.used,compute_cap,persistence_mode"
    status, out = smi("lost", "--query-gpu=" + wanted, "--format=csv,noheader,nounits")
    assert status == 0
    assert shape(out) == shape((DATA / "query_lost.csv").read_text())
    assert smi("lost", "-L")[0] == 0


def test_the_table_of_a_lost_gpu_ends_with_15(smi):
    status, out = smi("lost")
    assert status == 15
    expected = (DATA / "table_lost_rows.txt").read_text()
    assert expected in out


@pytest.mark.parametrize("name", ["no-driver", "mismatch"])
@pytest.mark.parametrize("arguments", [(), ("-L",), ("-q", "-x"), ("--query-gpu=name", "--format=csv")])
def test_a_broken_driver_says_so_on_stdout(smi, name, arguments):
    expected_status, first_line = json.loads((DATA / "exits.json").read_text())[name]
    status, out = smi(name, *arguments)
    assert (status, out.splitlines()[0]) == (expected_status, first_line)


def test_a_hanging_driver_does_not_answer(smi):
    begun = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        smi("hang", "-L", timeout=2)
    assert time.monotonic() - begun >= 2


def test_list(smi):
    assert shape(smi("rtx4090x1", "-L")[1]) == shape((DATA / "list.txt").read_text())
    assert len(smi("h100x8", "-L")[1].splitlines()) == 8


def test_version(smi):
    assert smi("rtx4090x1", "--version") == (0, (DATA / "version.txt").read_text())


def test_table(smi, process):
    status, out = smi("rtx4090x1", processes=[process])
    expected = (DATA / "table.txt").read_text()
    assert status == 0
    assert [widths(line) for line in out.splitlines()] == [widths(line) for line in expected.splitlines()]
    assert shape(out) == shape(expected)


def test_table_without_processes(smi):
    assert "|  No running processes found" + " " * 61 + "|\n" in smi("rtx4090x1")[1]


def test_compute_apps(smi, process):
    header = (DATA / "compute_apps.csv").read_text().splitlines()[0]
    status, out = smi("rtx4090x1", "--query-compute-apps=" + fields_of(header), "--format=csv", processes=[process])
    assert status == 0
    assert shape(out) == shape((DATA / "compute_apps.csv").read_text())
    assert smi("rtx4090x1", "--query-compute-apps=pid,used_memory", "--format=csv,noheader", processes=[process])[1] == "815, 503 MiB\n"


@pytest.mark.parametrize(("name", "count", "dtd"), [("rtx4090x1", 1, "v13"), ("h100x8", 8, "v12"), ("t4x2", 2, "v13")])
def test_xml(smi, name, count, dtd):
    status, out = smi(name, "-q", "-x")
    assert status == 0
    assert out.splitlines()[1] == f'<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_{dtd}.dtd">'
    root = ElementTree.fromstring(out)
    assert root.findtext("attached_gpus") == str(count)
    gpus = root.findall("gpu")
    assert len(gpus) == count
    for gpu in gpus:
        for path, pattern in json.loads((DATA / "elements.json").read_text()).items():
            if path != "comment":
                assert re.fullmatch(pattern, gpu.findtext(path) or ""), f"{path}: {gpu.findtext(path)}"
        assert (gpu.find("gpu_reset_status") is not None) == (dtd == "v12")


def test_all_queries_agree_about_the_same_gpu(smi):
    row = smi("t4x2", "--query-gpu=uuid,memory.total", "--format=csv,noheader")[1].splitlines()[1].split(", ")
    gpu = ElementTree.fromstring(smi("t4x2", "-q", "-x")[1]).findall("gpu")[1]
    assert row == [gpu.findtext("uuid"), gpu.findtext("fb_memory_usage/total")]


@pytest.mark.parametrize("arguments", [("--frobnicate",), ("-q",), ("--query-gpu=name", "--format=json"), ("--query-gpu=name",)])
def test_what_is_not_known_is_refused_with_2(smi, arguments):
    status, out = smi("t4x2", *arguments)
    assert status == 2
    assert out.strip()


def test_selection_by_id(smi):
    assert smi("t4x2", "-i", "1", "--query-gpu=index", "--format=csv,noheader") == (0, "1\n")
    assert smi("t4x2", "--id=7", "-L")[0] == 2
