# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _gpu_probe as probe

from tests.fleet.standins.nvidia import libcuda

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the library is for x86-64")


@pytest.mark.parametrize(("init", "expected"), [(0, {"init": 0, "cuda": 13020, "counted": 0, "count": 2}), (802, {"init": 802, "cuda": 13020})])
def test_the_probes_own_program_reads_the_library(tmp_path, init, expected):
    path = tmp_path / "libcuda.so.1"
    path.write_bytes(libcuda.build(2, "13.2", init))
    program = probe.PROGRAM.replace('"libcuda.so.1"', repr(str(path)))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.partition(probe.MARK)[2]) == expected


def test_it_says_what_it_is():
    assert b"STAND-IN" in libcuda.build(1, "13.2")
