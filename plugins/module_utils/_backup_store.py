# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""One backup is one folder: ``manifest.json``, ``manifest.hmac`` and one encrypted file per part.

It is written under a name that begins with a dot, and gets its own name last: what bears a backup's name is whole.
"""

from __future__ import annotations

import os
import shutil
import time
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _backup_plan as plan
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _backup_seal as sealing
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_seal import BackupError

MANIFEST, SIGNATURE = "manifest.json", "manifest.hmac"
UNFINISHED = ".unfinished-"


class Writer:
    """A backup in the making. ``finish`` gives it its name; whatever happens before leaves nothing behind."""

    def __init__(self, folder: str, product: str, host: str, key: str) -> None:
        sealing.check_key(key)
        self.folder, self.product, self.host, self._key = folder, product, host, key
        self.taken = time.time()
        self.name = plan.backup_name(product, host, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self.taken)))
        self.parts: list[dict[str, t.Any]] = []
        try:
            os.makedirs(folder, mode=0o711, exist_ok=True)
            for left in os.listdir(folder):
                if left.startswith(UNFINISHED + plan.backup_name(product, host, "")):
                    shutil.rmtree(os.path.join(folder, left))
            self.work = os.path.join(folder, UNFINISHED + self.name)
            os.mkdir(self.work, 0o700)
        except OSError as error:
            raise BackupError(f"{folder} cannot hold a backup: {error}") from error

    def add(self, name: str, producer: list[str], kind: str, unpacked: int = 0, **more: t.Any) -> None:
        """Encrypt a command's output into a part. ``unpacked``: bytes that restoring it takes."""
        file = f"{name}.enc"
        plain_size, plain_sha = sealing.seal(producer, os.path.join(self.work, file), self._key, f"Backing up {name}")
        entry = {"name": name, "file": file, "kind": kind, "unpacked": max(unpacked, plain_size)}
        self.parts.append({**entry, "plain_size": plain_size, "plain_sha256": plain_sha, **more})

    def add_folders(self, name: str, root: str, entries: list[str], excluded: t.Iterable[str] = (), **more: t.Any) -> None:
        """A tar of ``entries`` below ``root``, with numeric owners."""
        size = sum(tree_size(os.path.join(root, entry), [os.path.join(root, path) for path in excluded]) for entry in entries)
        leave_out = [f"--exclude={path}" for path in excluded]
        argv = ["tar", "--create", "--numeric-owner", "--anchored", f"--directory={root}", *leave_out, "--use-compress-program=gzip -1", "--", *entries]
        self.add(name, argv, "tar", size, **more)

    def finish(self, facts: dict[str, t.Any], reader: tuple[int, int] | None = None) -> dict[str, t.Any]:
        """Read every part back from the disk, sign the manifest and name the backup."""
        try:
            for part in self.parts:
                part["size"], part["sha256"] = sealing.sha256_of(os.path.join(self.work, part["file"]))
            salt = os.urandom(16)
            secret = sealing.authentication_key(self._key, salt)
            seal = {"cipher": sealing.CIPHER, "kdf": "pbkdf2-hmac-sha256", "iterations": sealing.ITERATIONS, "salt": salt.hex()}
            manifest = {
                "format": plan.FORMAT,
                "product": self.product,
                "host": self.host,
                "name": self.name,
                "taken": round(self.taken, 1),
                "parts": self.parts,
                "seal": {**seal, "key_check": sealing.key_check(secret)},
                **facts,
            }
            content = sealing.canonical(manifest)
            for file, text in ((MANIFEST, content), (SIGNATURE, sealing.signature(secret, content).encode() + b"\n")):
                with open(os.open(os.path.join(self.work, file), os.O_WRONLY | os.O_CREAT, 0o600), "wb") as handle:
                    handle.write(text)
                    os.fsync(handle.fileno())
            if reader:
                # All of it is encrypted: whoever fetches backups may own it.
                for file in os.listdir(self.work):
                    os.chown(os.path.join(self.work, file), *reader)
                os.chown(self.work, *reader)
            os.rename(self.work, os.path.join(self.folder, self.name))
        except OSError as error:
            raise BackupError(f"The backup cannot be finished in {self.folder}: {error}") from error
        return manifest

    def abandon(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)


def tree_size(path: str, excluded: t.Iterable[str] = ()) -> int:
    """Bytes that a file or folder takes on the disk; links are not followed."""
    skipped = set(excluded)
    if not os.path.lexists(path) or path in skipped:
        return 0
    total = os.lstat(path).st_blocks * 512
    if os.path.isdir(path) and not os.path.islink(path):
        for name in os.listdir(path):
            total += tree_size(os.path.join(path, name), skipped)
    return total


def free_bytes(path: str) -> int:
    """Free space for a path that need not be there yet."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    state = os.statvfs(path)
    return state.f_bavail * state.f_frsize


def reader() -> tuple[int, int] | None:
    """User and group that became root: they may fetch a backup, all of which is encrypted."""
    return (int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"])) if os.environ.get("SUDO_UID", "0") != "0" else None


def newest(folder: str, product: str, host: str) -> str | None:
    """Path of the newest backup of a product and host in a folder."""
    names = [name for name in (os.listdir(folder) if os.path.isdir(folder) else []) if plan.complete(name, product, host)]
    return os.path.join(folder, max(names, key=lambda name: plan.complete(name, product, host) or "")) if names else None


def read(path: str, key: str, product: str) -> dict[str, t.Any]:
    """The manifest of a backup whose every byte has been checked. Raises :class:`BackupError`."""
    sealing.check_key(key)
    contents = []
    for file in (MANIFEST, SIGNATURE):
        try:
            with open(os.path.join(path, file), "rb") as handle:
                contents.append(handle.read())
        except OSError as error:
            raise BackupError(f"{path} is not a whole backup: {file} cannot be read ({error.strerror}). Nothing was changed.") from error
    manifest = sealing.open_manifest(contents[0], contents[1].decode("ascii", "replace"), key, path)
    problem = plan.manifest_problem(manifest, product)
    if problem:
        raise BackupError(f"{path} cannot be used: {problem}. Nothing was changed.")
    found: dict[str, tuple[int, str] | None] = {}
    for part in manifest["parts"]:
        place = os.path.join(path, part["file"])
        found[part["file"]] = sealing.sha256_of(place) if os.path.isfile(place) else None
    problems = plan.part_problems(manifest["parts"], found)
    if problems:
        raise BackupError(f"{path} is damaged: {'; '.join(problems)}. Nothing was changed; use another backup.")
    return manifest


def unpack(path: str, part: dict[str, t.Any], key: str, consumer: list[str]) -> None:
    """Give a part's content to a command, and compare what went there with what was written."""
    size, sha = sealing.unseal(os.path.join(path, part["file"]), consumer, key, f"Restoring {part['name']}")
    if (size, sha) != (part["plain_size"], part["plain_sha256"]):
        raise BackupError(f"{part['name']} of {path} did not come out as it went in; use another backup.")


def unpack_folders(path: str, part: dict[str, t.Any], key: str, root: str) -> None:
    os.makedirs(root, exist_ok=True)
    unpack(path, part, key, ["tar", "--extract", "--gzip", "--numeric-owner", "--same-permissions", "--same-owner", f"--directory={root}", "--file=-"])


def since(days: int) -> str:
    """The stamp of so many days ago; empty for none."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - days * 86400)) if days > 0 else ""


def retain(folder: str, product: str, host: str, keep: int, keep_days: int) -> list[str]:
    """Take away old backups of this product and host; returns their names."""
    oldest = since(keep_days)
    gone = plan.to_remove([name for name in os.listdir(folder) if os.path.isfile(os.path.join(folder, name, MANIFEST))], product, host, keep, oldest)
    for name in gone:
        shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
    return gone


__all__ = [
    "MANIFEST",
    "SIGNATURE",
    "UNFINISHED",
    "Writer",
    "free_bytes",
    "newest",
    "read",
    "reader",
    "retain",
    "since",
    "tree_size",
    "unpack",
    "unpack_folders",
]
