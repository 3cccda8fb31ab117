# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Section G: Docker, before anything is installed."""

from __future__ import annotations

import os
import shutil

from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._core import FAIL, OK, Check, Context, Finding


def snap_podman(context: Context) -> Finding:
    found = shutil.which("docker", path="/usr/bin:/usr/local/bin:/bin:/snap/bin")
    if found is None:
        return Finding(OK, "Docker is not installed yet")
    real = os.path.realpath(found)
    # A snap command is a link to /usr/bin/snap.
    if found.startswith("/snap/") or real.startswith("/snap/") or real == "/usr/bin/snap":
        return Finding(FAIL, f"{found} is from snap, which cannot use the host's NVIDIA hook.", "Save what you need, then snap remove docker.")
    if os.path.basename(real) == "podman" or os.path.exists("/usr/share/doc/podman-docker"):
        return Finding(FAIL, f"{found} is Podman's emulation.", "Remove podman-docker.")
    return Finding(OK, found)


CHECKS = (Check("G02", "snap_podman", "fail", "Install Docker Engine from the distribution or from Docker's repository.", snap_podman),)
