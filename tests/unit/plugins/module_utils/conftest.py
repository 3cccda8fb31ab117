# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.llmops.dify_xinference.tests.unit.plugins.module_utils.preflight_world import Machine


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def healthy(machine):
    machine.card("0000:01:00.0", "0x2684")
    machine.driver("580.95.05")
    machine.gpu(0, "01")
    return machine
