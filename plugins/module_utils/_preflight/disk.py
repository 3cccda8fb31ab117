# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Section B: room for images and models."""

from __future__ import annotations

import json
import os
import re
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._context import Context
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._core import (
    FAIL,
    INFO,
    OK,
    SKIP,
    UNKNOWN,
    WARN,
    Detect,
    Finding,
)

GIB = 1024**3
DEFAULT_DOCKER_ROOT = "/var/lib/docker"
DEFAULT_CONTAINERD_ROOT = "/var/lib/containerd"
# The images of Xinference and Dify have some 600,000 files.
INODES_WANTED = 1000000
# From here on a fresh Docker keeps images in containerd's folder.
CONTAINERD_STORE_SINCE = 29


def nearest_existing(path: str) -> str:
    """The path itself, or the closest parent that exists: that is where the new folder will be."""
    while not os.path.exists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def free_gib(path: str) -> float:
    """Free space for ordinary users, GiB."""
    found = os.statvfs(nearest_existing(path))
    return found.f_bavail * found.f_frsize / GIB


def daemon_data_root(context: Context) -> str | None:
    """data-root of daemon.json, empty when it names none; ``None`` when the file cannot be read."""
    text = context.daemon_json
    if text is None:
        return None
    try:
        document = json.loads(text or "{}")
    except ValueError:
        return None
    return str(document.get("data-root") or "") if isinstance(document, dict) else None


def docker_root(context: Context) -> str | None:
    """Docker's data folder; ``None`` when daemon.json may name another one but cannot be read."""
    if context.options.docker_root:
        return context.options.docker_root
    if context.docker.info.get("DockerRootDir"):
        return str(context.docker.info["DockerRootDir"])
    found = daemon_data_root(context)
    return None if found is None else found or DEFAULT_DOCKER_ROOT


def containerd_root(context: Context) -> str:
    match = re.search(r'^\s*root\s*=\s*["\']([^"\']+)', context.text("etc/containerd/config.toml") or "", re.MULTILINE)
    return match.group(1) if match else DEFAULT_CONTAINERD_ROOT


def uses_containerd_store(context: Context) -> bool:
    """Whether images lie in containerd's folder; of a Docker that is still to come, yes."""
    if context.docker.state == "ok":
        return ["driver-type", "io.containerd.snapshotter.v1"] in (context.docker.info.get("DriverStatus") or [])
    return context.docker.state == "absent"


def dockerroot_space(context: Context) -> Finding:
    path = docker_root(context)
    if path is None:
        return Finding(UNKNOWN, "/etc/docker/daemon.json is not readable, so Docker's data folder is not known.", "Run with become: true.")
    wanted, found = context.options.docker_space_gib, free_gib(path)
    if found < wanted:
        return Finding(FAIL, f"{path} has {found:.1f} GiB free, {wanted:.1f} GiB are needed for images.")
    return Finding(OK, f"{path} has {found:.1f} GiB free")


def containerd_space(context: Context) -> Finding:
    if context.options.docker_root or not uses_containerd_store(context):
        return Finding(SKIP, "Images lie in Docker's own data folder.")
    path, other = containerd_root(context), docker_root(context)
    if other and os.stat(nearest_existing(path)).st_dev == os.stat(nearest_existing(other)).st_dev:
        return Finding(SKIP, f"{path} is on the same file system as {other}.")
    wanted, found = context.options.docker_space_gib, free_gib(path)
    if found < wanted:
        return Finding(FAIL, f"Docker {CONTAINERD_STORE_SINCE} keeps images in {path}, which has {found:.1f} GiB free; {wanted:.1f} GiB are needed.")
    return Finding(OK, f"{path} has {found:.1f} GiB free")


def inodes(context: Context) -> Finding:
    path = docker_root(context)
    if path is None:
        return Finding(UNKNOWN, "Docker's data folder is not known (see B01).")
    found = os.statvfs(nearest_existing(path))
    # btrfs and others make inodes as they need them, and say 0.
    if found.f_files and found.f_favail < INODES_WANTED:
        return Finding(FAIL, f"{path} has {found.f_favail} free inodes, {INODES_WANTED} are needed for images.")
    return Finding(OK, f"{path} has {found.f_favail} free inodes" if found.f_files else f"{path} makes inodes as they are needed")


def has_models(path: str) -> bool:
    """Whether something was downloaded before, by Xinference or by the role model_weights."""
    for name in ("cache", "weights") if path else ():
        try:
            if os.listdir(os.path.join(path, name)):
                return True
        except OSError:
            continue
    return False


def model_space(context: Context) -> Finding:
    path, wanted = context.options.model_path, context.options.model_space_gib
    unknown = [model.uid for model in context.options.models if not model.disk_gib]
    why = "models"
    if path and not wanted and context.options.models:
        wanted = sum(model.disk_gib for model in context.options.models) * 1.1
        why = "the declared models"
    if not path or not wanted:
        return Finding(SKIP, "No model folder or size is known.")
    found = free_gib(path)
    note = f" (and {', '.join(unknown)}, of unknown size)" if unknown else ""
    if found >= wanted:
        return Finding(OK, f"{path} has {found:.1f} GiB free, {wanted:.1f} GiB are needed for {why}{note}")
    # What was downloaded before counts as used space, and is not needed again.
    if has_models(path):
        return Finding(WARN, f"{path} has {found:.1f} GiB free, {wanted:.1f} GiB are needed for {why}{note}, of which some are there already.")
    return Finding(FAIL, f"{path} has {found:.1f} GiB free, {wanted:.1f} GiB are needed for {why}{note}.")


def data_root_moved(context: Context) -> Finding:
    if context.docker.state == "denied":
        return Finding(UNKNOWN, "Docker's socket is closed to this user.", "Run with become: true.")
    if context.docker.state != "ok":
        return Finding(SKIP, "Docker does not run.")
    wanted, running = daemon_data_root(context), str(context.docker.info.get("DockerRootDir", ""))
    if wanted is None:
        return Finding(UNKNOWN, "/etc/docker/daemon.json cannot be read.", "Run with become: true.")
    if wanted and running and wanted.rstrip("/") != running.rstrip("/"):
        images = context.docker.info.get("Images", "?")
        return Finding(FAIL, f"daemon.json says data-root {wanted}, Docker runs with {running}: its next start hides {images} images and all volumes.")
    return Finding(OK, running)


def mount_type(context: Context, path: str) -> str:
    """File system type of the mount that a path is on; empty when it cannot be told."""
    best, kind = -1, ""
    for line in (context.text("proc/self/mountinfo") or "").splitlines():
        left, dash, right = line.partition(" - ")
        fields = left.split()
        if len(fields) < 5 or not right:
            continue
        point = fields[4]
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= best:
            best, kind = len(point), right.split()[0]
    return kind


def fs_type(context: Context) -> Finding:
    path = docker_root(context)
    kind = mount_type(context, nearest_existing(path)) if path else ""
    if not path or not kind:
        return Finding(UNKNOWN, "The file system of Docker's data folder is not known.")
    if kind.startswith(("nfs", "cifs", "smb", "fuse", "9p", "overlay", "vfat", "ntfs")) or kind in ("zfs", "btrfs", "ramfs"):
        return Finding(WARN, f"{path} is on {kind}, which overlay2 does not work on, or not well.")
    return Finding(OK, f"{path} is on {kind}")


def readonly(context: Context) -> Finding:
    wanted = [path for path in (docker_root(context), context.options.model_path, "/etc", "/var") if path]
    found = sorted({path for path in wanted if os.statvfs(nearest_existing(path)).f_flag & os.ST_RDONLY})
    if found:
        return Finding(FAIL, f"Mounted read-only: {', '.join(found)}.")
    return Finding(OK, "nothing that is written is read-only")


def disk_speed(context: Context) -> Finding:
    if not context.options.model_path:
        return Finding(SKIP, "No model folder was named.")
    device = os.stat(nearest_existing(context.options.model_path)).st_dev
    base = f"sys/dev/block/{os.major(device)}:{os.minor(device)}"
    # Of a partition, the disk's.
    text = context.text(base + "/queue/rotational") or context.text(base + "/../queue/rotational")
    if text is None:
        return Finding(UNKNOWN, "What kind of disk the models are on cannot be told.")
    return Finding(INFO, f"{context.options.model_path} is on a spinning disk.") if text.strip() == "1" else Finding(OK, "no spinning disk")


DETECT: t.Mapping[str, Detect] = {
    "B01": dockerroot_space,
    "B02": containerd_space,
    "B03": inodes,
    "B04": model_space,
    "B05": data_root_moved,
    "B06": fs_type,
    "B07": readonly,
    "B08": disk_speed,
}

__all__ = ["DETECT", "has_models", "nearest_existing"]
