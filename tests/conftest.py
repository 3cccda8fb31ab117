# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lets plain pytest import this checkout as ``ansible_collections.llmops.dify_xinference``, whatever its folder is called.

``collections/`` holds a link to the checkout under its collection name. A ``sys.path`` entry is not enough: the
``ansible`` package ships a regular ``ansible_collections`` package, which would hide ours, so ansible-core's own
import hook is used. ``ansible-test units`` installs that hook itself; then nothing is left to do here.
"""

from __future__ import annotations

import importlib.util
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
COLLECTION = "ansible_collections.llmops.dify_xinference"


def _importable() -> bool:
    try:
        return importlib.util.find_spec(COLLECTION) is not None
    except ModuleNotFoundError:
        return False


if not _importable():
    from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder

    for name in [name for name in sys.modules if name == "ansible_collections" or name.startswith("ansible_collections.")]:
        del sys.modules[name]
    _AnsibleCollectionFinder(paths=[str(ROOT / "collections")])._install()
