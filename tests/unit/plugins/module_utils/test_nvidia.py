# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _nvidia
from ansible_collections.llmops.dify_xinference.plugins.module_utils._cuda import cuda_of_driver, image_needs, version_key

H100 = "{i}, GPU-0000000{i}-0000-4000-8000-000000000000, 00000000:{bus}:00.0, NVIDIA H100 80GB HBM3, 580.95.05, {memory}, 9.0, Disabled, Disabled, Enabled"


def rows(*lines):
    return "\n".join(lines) + "\n"


def h100(index, bus, memory="81559, 0, 81022"):
    return H100.format(i=index, bus=bus, memory=memory)


def test_a_healthy_row_becomes_facts():
    gpus, noise = _nvidia.parse_rows(rows(h100(0, "1A")), _nvidia.FIELDS)
    assert noise == []
    told = {key: value for key, value in gpus[0].items() if value is not None and key != "throttle_bits"}
    assert [told] == [
        {
            "index": 0,
            "uuid": "GPU-00000000-0000-4000-8000-000000000000",
            "bus_id": "0000:1a:00.0",
            "name": "NVIDIA H100 80GB HBM3",
            "arch": "hopper",
            "compute_capability": "9.0",
            "memory_total_mib": 81559,
            "memory_used_mib": 0,
            "memory_free_mib": 81022,
            "mig_mode": "Disabled",
            "mig_mode_pending": "Disabled",
            "persistence_mode": "Enabled",
            "driver_version": "580.95.05",
            "faults": [],
        }
    ]


def test_a_lost_gpu_shows_in_its_cells_although_the_exit_status_is_0():
    lost = "[GPU is lost], [GPU is lost], [GPU is lost]"
    gpus = _nvidia.parse_rows(rows(h100(0, "1A"), h100(1, "1B", lost)), _nvidia.FIELDS)[0]
    assert [gpu["faults"] for gpu in gpus] == [[], ["[GPU is lost]"]]
    assert gpus[1]["memory_total_mib"] is None


@pytest.mark.parametrize("cell", ["N/A", "[N/A]", "[Not Supported]", "[Requested functionality has been deprecated]"])
def test_what_a_card_does_not_have_is_no_fault(cell):
    gpu = _nvidia.parse_rows(rows(h100(0, "1A", f"{cell}, {cell}, {cell}")), _nvidia.FIELDS)[0][0]
    assert gpu["faults"] == []
    assert gpu["memory_total_mib"] is None


def test_messages_among_the_rows_are_noise():
    text = rows("WARNING: infoROM is corrupted at gpu 0000:17:00.0", h100(0, "17"))
    gpus, noise = _nvidia.parse_rows(text, _nvidia.FIELDS)
    assert len(gpus) == 1
    assert noise == ["WARNING: infoROM is corrupted at gpu 0000:17:00.0"]


def test_a_comma_in_the_name_shifts_no_column():
    gpu = _nvidia.parse_rows(rows(h100(0, "1A").replace("H100 80GB HBM3", "H100, engineering, sample")), _nvidia.FIELDS)[0][0]
    assert gpu["name"] == "NVIDIA H100, engineering, sample"
    assert gpu["driver_version"] == "580.95.05"


def test_a_driver_that_does_not_know_a_field_is_asked_again_without_it():
    asked = []

    def run(argv, timeout):
        asked.append(argv[1])
        if "compute_cap" in argv[1]:
            return 2, 'Field "compute_cap" is not a valid field to query.\n', ""
        rest = ", [N/A]" * (asked[-1].count(",") - 10)
        return 0, "0, GPU-1, 00000000:01:00.0, GeForce GTX 1080, 470.256.02, 8119, 0, 8119, [N/A], [N/A], Disabled" + rest + "\n", ""

    answer = _nvidia.query_gpus(run, driver_version="470.256.02")
    assert len(asked) == 2
    # A driver whose version is known is not asked for what only newer ones know.
    assert "gpu_recovery_action" not in asked[0]
    assert answer.status == 0
    # Old drivers leave out the leading NVIDIA; the table knows the card under both names.
    assert answer.gpus[0]["compute_capability"] == "6.1"


def test_an_unknown_field_that_was_not_asked_for_ends_the_asking():
    answer = _nvidia.query_gpus(lambda argv, timeout: (2, 'Field "kmd_version" is not a valid field to query.\n', ""))
    assert (answer.status, answer.gpus) == (2, [])


def test_mutated_output_never_raises():
    text = rows(h100(0, "1A"), h100(1, "1B", "[GPU is lost], [N/A], ERR!"), "No devices were found")
    generator = random.Random(20261122)
    for dummy in range(5000):
        data = bytearray(text.encode())
        for dummy2 in range(generator.randint(1, 6)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        _nvidia.parse_rows(data.decode("utf-8", "replace"), _nvidia.FIELDS)


def test_mig_instances_are_counted_per_gpu():
    listing = rows(
        "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)",
        "  MIG 3g.40gb     Device  0: (UUID: MIG-1)",
        "  MIG 1c.3g.40gb  Device  1: (UUID: MIG-2)",
        "GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-2)",
    )
    assert _nvidia.count_mig_devices(listing) == {0: 2, 1: 0}


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 10:11:16 UTC 2026", "580.95.05"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  595.45.04  Release Build  (root@host)", "595.45.04"),
        ("nothing of the kind", None),
    ],
)
def test_the_loaded_module_is_read_in_both_wordings(tmp_path, line, version):
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text(line + "\nGCC version:  gcc version 12.2.0\n")
    assert _nvidia.loaded_driver(str(tmp_path)) == version


def test_cards_on_the_bus_are_told_apart(tmp_path):
    for address, vendor, kind, device in (
        ("0000:01:00.0", "0x10de", "0x030000", "0x2684"),
        ("0000:01:00.1", "0x10de", "0x040300", "0x22ba"),  # the sound chip of the same card
        ("0000:02:00.0", "0x8086", "0x030000", "0x4680"),
        ("0000:03:00.0", "0x10de", "0x068000", "0x22a3"),
        ("0000:04:00.0", "0x10de", "0x030200", "0xffff"),
    ):
        folder = tmp_path / "sys/bus/pci/devices" / address
        folder.mkdir(parents=True)
        for name, value in (("vendor", vendor), ("class", kind), ("device", device)):
            (folder / name).write_text(value + "\n")
    cards = _nvidia.pci_cards(str(tmp_path))
    assert [(card["bus_id"], card["kind"], card["name"], card["compute_capability"]) for card in cards] == [
        ("0000:01:00.0", "gpu", "NVIDIA GeForce RTX 4090", "8.9"),
        ("0000:03:00.0", "nvswitch", None, None),
        ("0000:04:00.0", "gpu", None, None),
    ]


def test_no_bus_is_not_an_empty_bus(tmp_path):
    assert _nvidia.pci_cards(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("tag", "cuda", "driver", "capability"),
    [
        ("v4.1.0", "13.0", "580", "7.5"),
        ("v3.0.0", "13.0", "580", "7.5"),
        ("v2.12.0-aarch64", "12.9", "575", "5.0"),
        ("v1.17.0", "12.4", "550", "5.0"),
        ("v1.17.0-cu129", "12.9", "575", "5.0"),
        ("v1.9.0-cu128", "12.8", "570", "5.0"),
        ("v0.13.3", "12.4", "550", "5.0"),
        ("latest", "13.0", "580", "7.5"),
        ("v4.1.0-cpu", "", "", ""),
    ],
)
def test_what_an_image_needs(tag, cuda, driver, capability):
    assert image_needs(tag)[1:] == (cuda, driver, capability)


@pytest.mark.parametrize("tag", ["mine", "v0.9.1", "", "2024-nightly"])
def test_an_unknown_tag_is_not_guessed(tag):
    assert image_needs(tag) is None


def test_versions_compare_as_numbers():
    assert version_key("580.65.06") < version_key("580.105.08")
    assert cuda_of_driver("580.95.05") == "13.0"
    assert cuda_of_driver("591.00") == "13.1"
    assert cuda_of_driver("nonsense") is None
