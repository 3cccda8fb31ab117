# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Where backups are kept besides the host they were made on: a bucket of an S3-compatible server, or a folder that rsync reaches.

A backup is sent with its manifest last and taken away with its manifest first: what has a manifest there is whole.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _backup_plan as plan
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_seal import BackupError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_store import MANIFEST, UNFINISHED, free_bytes
from ansible_collections.llmops.dify_xinference.plugins.module_utils._command import NOT_FOUND, Runner, run_command
from ansible_collections.llmops.dify_xinference.plugins.module_utils._s3 import Bucket

# What a name of a file in a backup may be: whatever a server lists is not a path on this host.
_FILE = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")
_DAY = 86400.0

Listing = t.Dict[str, t.Dict[str, int]]


class Target(t.Protocol):
    """``listing``: backup's name -> file -> size in bytes, for names that begin so. They raise :class:`BackupError`, or :class:`S3Error`, which is one."""

    where: str

    def listing(self, below: str) -> Listing: ...

    def send(self, folder: str, name: str, files: list[str]) -> None: ...

    def fetch(self, name: str, files: dict[str, int], folder: str) -> None: ...

    def remove(self, name: str, files: list[str]) -> None: ...


class InBucket:
    def __init__(self, bucket: Bucket) -> None:
        self._bucket, self.where = bucket, bucket.where

    def listing(self, below: str) -> Listing:
        found: Listing = {}
        for path, size in self._bucket.names(below).items():
            name, unused, file = path.partition("/")
            found.setdefault(name, {})[file] = size
        return found

    def send(self, folder: str, name: str, files: list[str]) -> None:
        for file in files:
            self._bucket.send(os.path.join(folder, file), f"{name}/{file}")

    def fetch(self, name: str, files: dict[str, int], folder: str) -> None:
        for file, size in files.items():
            self._bucket.fetch(f"{name}/{file}", os.path.join(folder, file), size)

    def remove(self, name: str, files: list[str]) -> None:
        for file in files:
            self._bucket.remove(f"{name}/{file}")


class ByRsync:
    """All of it by rsync itself, so that an account that may do nothing else (rrsync, a daemon's module) is enough."""

    def __init__(self, target: str, shell: str, run: Runner = run_command) -> None:
        self._target, self._shell, self._run = target.rstrip("/") + "/", shell, run
        self.where = target

    def _rsync(self, doing: str, *arguments: str) -> str:
        status, out, errors = self._run(["rsync", f"--rsh={self._shell}", "--timeout=120", *arguments], _DAY)
        if status == NOT_FOUND:
            raise BackupError(f"{doing}: rsync is not on this host; install the package rsync.")
        if status != 0:
            raise BackupError(f"{doing}: rsync with {self._target} ended with {status}: {(errors or out).strip()[-500:] or 'no message'}")
        return out

    def listing(self, below: str) -> Listing:
        out = self._rsync("Listing", "--list-only", "--recursive", f"--include=/{below}*/", f"--include=/{below}*/*", "--exclude=*", self._target)
        found: Listing = {}
        for line in out.splitlines():
            # -rw------- 1,234 2026/11/24 17:00:00 name/file
            words = line.split(None, 4)
            if len(words) != 5:
                continue
            name, slash, file = words[4].partition("/")
            if words[0].startswith("d") and not slash and name != ".":
                found.setdefault(name, {})
            elif words[0].startswith("-") and slash:
                found.setdefault(name, {})[file] = int(re.sub("[^0-9]", "", words[1]))
        return found

    def send(self, folder: str, name: str, files: list[str]) -> None:
        # In two goes: rsync has an order of its own. Who receives it owns it: all of it is encrypted.
        for some in (files[:-1], files[-1:]):
            self._rsync(f"Sending {name}", "--times", "--chmod=F600", *[os.path.join(folder, file) for file in some], f"{self._target}{name}/")

    def fetch(self, name: str, files: dict[str, int], folder: str) -> None:
        self._rsync(f"Fetching {name}", "--times", "--chmod=F600", "--recursive", "--no-links", f"{self._target}{name}/", f"{folder}/")

    def remove(self, name: str, files: list[str]) -> None:
        with tempfile.TemporaryDirectory() as nothing:
            for some in (f"/{name}/{MANIFEST}", f"/{name}/***"):
                keep = [] if some.endswith("***") else [f"--include=/{name}/"]
                self._rsync(f"Removing {name}", "--recursive", "--dirs", "--delete", *keep, f"--include={some}", "--exclude=*", f"{nothing}/", self._target)


def in_order(files: t.Iterable[str]) -> list[str]:
    """The manifest last."""
    return sorted(files, key=lambda file: (file == MANIFEST, file))


def whole(listing: Listing, product: str, host: str) -> list[str]:
    """Names of the backups of a product and host that can be used, the newest first."""
    return sorted((name for name, files in listing.items() if MANIFEST in files and plan.complete(name, product, host)), reverse=True)


def torn(listing: Listing, product: str, host: str, but: str) -> list[str]:
    """What an interrupted sending or removing left of other backups than ``but``."""
    return sorted(name for name, files in listing.items() if MANIFEST not in files and plan.complete(name, product, host) and name != but)


def local_files(folder: str) -> dict[str, int]:
    """File -> size of a backup on this host."""
    if not os.path.isfile(os.path.join(folder, MANIFEST)):
        raise BackupError(f"{folder} is no whole backup: it has no {MANIFEST}.")
    return {name: os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder)}


def send(target: Target, folder: str, product: str, host: str, keep: int, oldest: str) -> dict[str, t.Any]:
    """Send one backup unless it is there, and take old ones away; only after the new one is whole there, by its sizes.

    ``oldest``: a stamp since which backups stay as well. Returns ``changed``, ``bytes`` (sent), ``removed``, ``backups``.
    """
    name, here = os.path.basename(folder.rstrip("/")), local_files(folder)
    if not plan.complete(name, product, host):
        raise BackupError(f"{folder} is not named as a backup of {product} on {host}.")
    below = plan.backup_name(product, host, "")
    sent = 0
    if target.listing(below).get(name) != here:
        files = in_order(here)
        target.send(folder, name, files)
        sent = sum(here.values())
    there = target.listing(below)
    if there.get(name) != here:
        wrong = sorted(file for file in here if there.get(name, {}).get(file) != here[file])
        raise BackupError(f"After sending {name} to {target.where} other sizes are listed there for {', '.join(wrong) or 'more files than it has'}. Try again.")
    gone = plan.to_remove(whole(there, product, host), product, host, keep, oldest) + torn(there, product, host, name)
    for old in gone:
        # The manifest first: what is left of an interruption is no backup any more.
        target.remove(old, list(reversed(in_order(there[old]))))
    return {"changed": bool(sent or gone), "bytes": sent, "removed": gone, "backups": [each for each in whole(there, product, host) if each not in gone]}


def fetch(target: Target, folder: str, product: str, host: str, wanted: str = "") -> dict[str, t.Any]:
    """Have a backup of the target in a folder of this host, the newest when none is named. It gets its name when all of it is there."""
    there = target.listing(plan.backup_name(product, host, ""))
    names = whole(there, product, host)
    name = wanted or (names[0] if names else "")
    if name not in names:
        listed = f"there are {', '.join(names[:5])}" if names else f"there is none of {product} on {host}"
        raise BackupError(f"{target.where} has no whole backup {wanted or 'at all'}: {listed}. Nothing was changed.")
    strange = [file for file in there[name] if not _FILE.match(file)]
    if strange:
        raise BackupError(f"{name} of {target.where} has a file {strange[0]!r}, which no backup has. Nothing was changed.")
    place = os.path.join(folder, name)
    # One without a manifest is what somebody left half copied: it is fetched anew.
    if os.path.isfile(os.path.join(place, MANIFEST)) and local_files(place) == there[name]:
        return {"changed": False, "backup": place, "bytes": 0, "backups": names}
    size = sum(there[name].values())
    problem = plan.space_problem(size, free_bytes(folder), folder, f"Fetching {name}")
    if problem:
        raise BackupError(problem)
    os.makedirs(folder, mode=0o711, exist_ok=True)
    work = os.path.join(folder, f"{UNFINISHED}{name}")
    shutil.rmtree(work, ignore_errors=True)
    os.mkdir(work, 0o700)
    try:
        target.fetch(name, there[name], work)
        if local_files(work) != there[name]:
            raise BackupError(f"{name} did not come whole from {target.where}. Nothing was changed; try again.")
        shutil.rmtree(place, ignore_errors=True)
        os.rename(work, place)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return {"changed": True, "backup": place, "bytes": size, "backups": names}


__all__ = ["ByRsync", "InBucket", "Listing", "Target", "fetch", "in_order", "local_files", "send", "torn", "whole"]
