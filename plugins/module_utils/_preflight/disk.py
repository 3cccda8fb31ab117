# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Section B: room for images and models."""

from __future__ import annotations

import json
import os

from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._core import FAIL, OK, SKIP, UNKNOWN, Check, Context, Finding

GIB = 1024**3
DEFAULT_DOCKER_ROOT = "/var/lib/docker"


def nearest_existing(path: str) -> str:
    """The path itself, or the closest parent that exists: that is where the new folder will be."""
    while not os.path.exists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def free_gib(path: str) -> float:
    """Free space for ordinary users, GiB."""
    found = os.statvfs(nearest_existing(path))
    return found.f_bavail * found.f_frsize / GIB


def docker_root(context: Context) -> str | None:
    """Docker's data folder; ``None`` when daemon.json may name another one but cannot be read."""
    if context.options.docker_root:
        return context.options.docker_root
    path = os.path.join(context.host_root, "etc/docker/daemon.json")
    try:
        with open(path, encoding="utf-8-sig") as stream:
            document = json.load(stream)
    except FileNotFoundError:
        return DEFAULT_DOCKER_ROOT
    except (OSError, ValueError):
        return None
    found = document.get("data-root") if isinstance(document, dict) else None
    return str(found) if found else DEFAULT_DOCKER_ROOT


def dockerroot_space(context: Context) -> Finding:
    path = docker_root(context)
    if path is None:
        return Finding(UNKNOWN, "/etc/docker/daemon.json is not readable, so Docker's data folder is not known.", "Run with become: true.")
    wanted = context.options.docker_space_gib
    found = free_gib(path)
    if found < wanted:
        return Finding(FAIL, f"{path} has {found:.1f} GiB free, {wanted:.1f} GiB are needed for images.")
    return Finding(OK, f"{path} has {found:.1f} GiB free")


def model_space(context: Context) -> Finding:
    path, wanted = context.options.model_path, context.options.model_space_gib
    if not path or not wanted:
        return Finding(SKIP, "No model folder or size was given.")
    found = free_gib(path)
    if found < wanted:
        return Finding(FAIL, f"{path} has {found:.1f} GiB free, {wanted:.1f} GiB are needed for models.")
    return Finding(OK, f"{path} has {found:.1f} GiB free")


CHECKS = (
    Check(
        "B01",
        "dockerroot_space",
        "fail",
        "Free some space, or put Docker's data-root on a larger disk before the first pull (docker_daemon_options: {data-root: ...}).",
        dockerroot_space,
    ),
    Check("B04", "model_space", "fail", "Use a larger disk for the models, or share their folder.", model_space),
)
