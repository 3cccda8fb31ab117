# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real_xinference: runs a real Xinference on this machine (2.2 GB of packages once, then minutes)")
