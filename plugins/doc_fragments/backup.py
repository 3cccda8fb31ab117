# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # Which Dify of this host is meant.
    DOCUMENTATION = r"""
options:
  home:
    description: Folder that holds everything of Dify on this host.
    type: path
    required: true
  project:
    description: Name of the Compose project.
    type: str
    default: dify
"""

    KEY = r"""
options:
  key:
    description:
      - What backups are encrypted with, at least 12 characters. Without it none can be opened.
      - Needed wherever a backup is made or read.
    type: str
"""

    RETENTION = r"""
options:
  keep:
    description: How many of the newest backups of this host stay. At least one always stays.
    type: int
    default: 7
  keep_days:
    description: Days for which older ones stay as well.
    type: int
    default: 0
"""
