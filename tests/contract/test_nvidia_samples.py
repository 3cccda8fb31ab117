# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every output of nvidia-smi is read as what it says, and nothing that it might print breaks a reader or a check.

``LLMOPS_FUZZ_CASES`` is how many mutated texts are tried; ``LLMOPS_NVIDIA_RECORDINGS`` is explained in
data/nvidia_smi/ours/README.md.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _nvidia, _nvidia_text
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._context import Context, Options
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._core import verdict
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight.run import CHECKS, gpu_facts

from tests.contract.nvidia_samples import FIELDS, MESSAGES, OURS, OWN, RECORDED, RECORDINGS, Wanted
from tests.fleet.standins.nvidia.profiles import PROFILES, smi_profile
from tests.fleet.standins.nvidia.smi import table, xml

CASES = int(os.environ.get("LLMOPS_FUZZ_CASES", "8000"))
SEED = 20261124


def text_of(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")


def read(text: str, wanted: Wanted) -> Wanted:
    """What the readers make of a text, in the form of what is wanted of it."""
    if wanted.fields:
        gpus = _nvidia.parse_rows(text, wanted.fields.split(","))[0]
        driver = next((gpu["driver_version"] for gpu in gpus if gpu["driver_version"]), None)
        modes = [gpu["mig_mode"] if gpu["mig_mode"] in ("Enabled", "Disabled") else "" for gpu in gpus]
        faults = _nvidia_text.messages(text) + ["gpu"] * any(gpu["faults"] for gpu in gpus)
        return Wanted("rows", driver, None, [gpu["memory_total_mib"] for gpu in gpus], modes, 0, faults, wanted.fields)
    found = _nvidia_text.read(text)
    gpus = found["gpus"]
    return Wanted(
        found["format"],
        found["driver"],
        found["cuda"],
        [gpu["memory_total_mib"] for gpu in gpus],
        [gpu["mig_mode"] or "" for gpu in gpus],
        sum(gpu["mig_instances"] for gpu in gpus),
        found["faults"] + ["gpu"] * any(gpu["faults"] for gpu in gpus),
    )


@pytest.mark.parametrize("name", OWN)
def test_our_samples(name: str) -> None:
    assert read(text_of(OURS / name), OWN[name]) == OWN[name]


def test_every_sample_has_its_values_written_down() -> None:
    assert {path.name for path in OURS.iterdir()} - {"README.md"} == set(OWN)


@pytest.mark.parametrize(("words", "name"), MESSAGES.items())
def test_messages(words: str, name: str) -> None:
    assert _nvidia_text.messages(words) == [name]


def test_processes() -> None:
    assert _nvidia_text.parse_apps(text_of(OURS / "compute_apps.csv")) == [
        {"bus_id": "0000:31:00.0", "pid": 4711, "name": "/opt/venv/bin/python3", "used_mib": 1266},
        {"bus_id": "0000:b1:00.0", "pid": 4712, "name": "VLLM::Worker, rank 1", "used_mib": 30212},
    ]


def test_links_that_are_down() -> None:
    assert _nvidia_text.inactive_links(text_of(OURS / "nvlink.txt")) == {0: 2}


@pytest.mark.parametrize("name", ["rtx4090x1", "t4x2", "h100x8", "lost", "old-driver"])
@pytest.mark.parametrize("render", ["table", "xml"])
def test_the_standin_is_read_as_its_profile(name: str, render: str) -> None:
    """Two readers and a printer that were written apart agree on every healthy and every lost card."""
    profile = smi_profile(PROFILES[name])
    found = _nvidia_text.read(rendered(profile, render))
    assert (found["driver"], found["cuda"]) == (profile["driver_version"], profile["cuda_version"])
    assert [gpu["memory_total_mib"] for gpu in found["gpus"]] == [None if gpu["lost"] else gpu["fields"]["memory.total"] for gpu in profile["gpus"]]
    assert [bool(gpu["faults"]) for gpu in found["gpus"]] == [gpu["lost"] for gpu in profile["gpus"]]


def rendered(profile: dict, kind: str) -> str:
    return table.render(profile) if kind == "table" else xml.render(profile, profile["gpus"])


@pytest.mark.skipif(RECORDINGS is None, reason="LLMOPS_NVIDIA_RECORDINGS names no folder with recordings")
def test_recordings() -> None:
    assert RECORDINGS is not None
    there = {str(path.relative_to(RECORDINGS)) for path in RECORDINGS.glob("*/*") if path.is_file()}
    assert there == set(RECORDED), "every recording has its values written down"
    wrong = {name: read(text_of(RECORDINGS / name), wanted) for name, wanted in RECORDED.items() if read(text_of(RECORDINGS / name), wanted) != wanted}
    print(f"\n{len(RECORDED) - len(wrong)} of {len(RECORDED)} recordings are read as what they say")
    assert wrong == {}


def corpus() -> list[bytes]:
    """Everything there is to mutate: our samples, the messages, what the stand-in prints, and recordings where there are."""
    texts = [(OURS / name).read_bytes() for name in OWN] + [words.encode() for words in MESSAGES]
    for name in ("rtx4090x1", "h100x8", "lost"):
        profile = smi_profile(PROFILES[name])
        texts += [rendered(profile, "table").encode(), rendered(profile, "xml").encode(), rows_of(name).encode()]
    if RECORDINGS is not None:
        texts += [(RECORDINGS / name).read_bytes() for name in RECORDED]
    return texts


def rows_of(name: str) -> str:
    """What the checks ask for, as the stand-in's profile answers it."""
    profile = smi_profile(replace(PROFILES[name]))
    lines = []
    for gpu in profile["gpus"]:
        cells = [str({**gpu["fields"], "driver_version": profile["driver_version"]}.get(field, "[N/A]")) for field in _nvidia.query_fields(None)]
        lines.append(", ".join(cells))
    return "\n".join(lines) + "\n"


def mutated(texts: list[bytes], count: int) -> Iterator[str]:
    """Bytes changed, taken out, put in or doubled, and texts cut short; the same ones every time."""
    generator = random.Random(SEED)
    for _case in range(count):
        data = bytearray(generator.choice(texts))
        for _step in range(generator.randint(1, 8)):
            at = generator.randrange(len(data) + 1)
            kind = generator.randrange(5)
            if kind == 0 and at < len(data):
                data[at] = generator.randrange(256)
            elif kind == 1:
                del data[at : at + generator.randint(1, 12)]
            elif kind == 2:
                data[at:at] = bytes(generator.randrange(256) for _ in range(generator.randint(1, 6)))
            elif kind == 3:
                data[at:at] = data[at : at + generator.randint(1, 200)]
            elif generator.random() < 0.2:
                del data[at:]
        yield data.decode("utf-8", "replace")


def answer(status: int, text: str, argv: list[str], timeout: float) -> tuple[int, str, str]:
    """Every command says the same."""
    return status, text, text


def test_nothing_raises_on_mutated_output(tmp_path: Path) -> None:
    started = time.monotonic()
    # The checks that read nvidia-smi, the kernel log and lists; each broken one would say that it failed itself.
    checks = [check for check in CHECKS if check.id[0] in "CDEF" or check.id == "A05"]
    for folder in ("sys/module", "proc/driver/nvidia", "sys/bus/pci/devices"):
        (tmp_path / folder).mkdir(parents=True)
    judged = 0
    for number, text in enumerate(mutated(corpus(), CASES)):
        _nvidia_text.read(text)
        _nvidia_text.parse_apps(text)
        _nvidia_text.inactive_links(text)
        _nvidia.count_mig_devices(text)
        for fields in FIELDS.values():
            _nvidia.parse_rows(text, fields.split(","))
        if number % 10:
            continue
        judged += 1
        status = (0, 14, 15)[number // 10 % 3]
        context = Context(Options(root=str(tmp_path), image_version="v4.1.0"), partial(answer, status, text), str(tmp_path))
        found = [verdict(check, context, {}) for check in checks]
        broken = [entry for entry in found if entry["message"].startswith("The check itself failed")]
        assert broken == [], f"case {number}: {broken}\n{text!r}"
        gpu_facts(context)
    print(f"\n{CASES} mutated texts read by all readers, {judged} of them judged by {len(checks)} checks: nothing raised ({time.monotonic() - started:.0f} s)")
