# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""What a model server cannot be without: accounts, keys, registrations, autostart entries, the launched models. No weights.

The server goes on while it is copied: its SQLite databases are copied through SQLite itself, whole at one moment.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _backup_plan as plan
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _backup_store as store
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_seal import BackupError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._command import run_command

FILES = ("compose.yml", "credentials.json", "launched.json")
DATA = "data"
# Found again on other ways: weights and environments by downloading, logs not at all.
LEFT_OUT = ("cache", "huggingface", "modelscope", "virtualenv", "logs", "weights", "wheels")
ASIDE = ".aside"
_SQLITE = b"SQLite format 3\0"


def _copy(source: str, target: str) -> None:
    """A file as it is; a database through SQLite; the companions of a database not at all."""
    if source.endswith(("-wal", "-shm", "-journal")):
        return
    with open(source, "rb") as handle:
        is_database = handle.read(len(_SQLITE)) == _SQLITE
    if is_database:
        reading, writing = sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=30), sqlite3.connect(target)
        try:
            reading.backup(writing)
        finally:
            reading.close()
            writing.close()
    else:
        shutil.copyfile(source, target)
    shutil.copystat(source, target)
    state = os.stat(source)
    os.chown(target, state.st_uid, state.st_gid)


def _stage(home: str, target: str) -> list[str]:
    entries = [name for name in FILES if os.path.isfile(os.path.join(home, name))]
    for name in entries:
        _copy(os.path.join(home, name), os.path.join(target, name))
    for folder, folders, files in os.walk(os.path.join(home, DATA)):
        inside = os.path.relpath(folder, home)
        if inside == DATA:
            folders[:] = [name for name in folders if name not in LEFT_OUT]
        os.makedirs(os.path.join(target, inside), exist_ok=True)
        for name in files:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                _copy(path, os.path.join(target, inside, name))
    return [*entries, DATA]


def create(home: str, folder: str, host: str, key: str, version: str, reader: tuple[int, int] | None) -> dict[str, t.Any]:
    if not os.path.isdir(os.path.join(home, DATA)):
        raise BackupError(f"{home} has no folder {DATA}: there is no Xinference to back up. Run site.yml first.")
    size = sum(store.tree_size(os.path.join(home, name)) for name in FILES)
    size += store.tree_size(os.path.join(home, DATA), [os.path.join(home, DATA, name) for name in LEFT_OUT])
    problem = plan.space_problem(2 * size, store.free_bytes(folder), folder, "The backup")
    if problem:
        raise BackupError(problem)
    writer = store.Writer(folder, "xinference", host, key)
    try:
        with tempfile.TemporaryDirectory(dir=writer.work) as staged:
            try:
                entries = _stage(home, staged)
            except (sqlite3.Error, OSError) as error:
                raise BackupError(f"{home} cannot be copied: {error}") from error
            writer.add_folders("home", staged, entries)
        manifest = writer.finish({"version": version}, reader)
    except BaseException:
        writer.abandon()
        raise
    return {**manifest, "path": os.path.join(folder, writer.name)}


def check(path: str, key: str, home: str) -> dict[str, t.Any]:
    """Unpack into a folder of its own, ask SQLite about every database, take it away. Nothing that runs is touched."""
    manifest = store.read(path, key, "xinference")
    with tempfile.TemporaryDirectory(dir=os.path.dirname(home.rstrip("/"))) as staged:
        _unpack(path, manifest, key, staged)
        manifest["databases"] = _databases(staged)
    return manifest


def _unpack(path: str, manifest: dict[str, t.Any], key: str, target: str) -> None:
    for part in manifest["parts"]:
        store.unpack_folders(path, part, key, target)


def _databases(folder: str) -> int:
    count = 0
    for parent, unused, files in os.walk(folder):
        for name in files:
            with open(os.path.join(parent, name), "rb") as handle:
                if handle.read(len(_SQLITE)) != _SQLITE:
                    continue
            connection = sqlite3.connect(os.path.join(parent, name))
            try:
                answer = connection.execute("PRAGMA integrity_check").fetchone()[0]
            finally:
                connection.close()
            if answer != "ok":
                raise BackupError(f"{name} of the backup is no whole database: {answer}. Nothing was changed.")
            count += 1
    return count


def restore(path: str, key: str, home: str, container: str) -> dict[str, t.Any]:
    """Put the backup in place of what is there, which waits in ``.aside``. The container is stopped; the role starts it."""
    aside, staged = os.path.join(home, ASIDE), os.path.join(home, ".restore")
    manifest = store.read(path, key, "xinference")
    undo(home, container)  # an interrupted restore
    os.makedirs(home, exist_ok=True)
    shutil.rmtree(staged, ignore_errors=True)
    try:
        _unpack(path, manifest, key, staged)
        manifest["databases"] = _databases(staged)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    run_command(["docker", "stop", "--time=30", container], 120)
    os.makedirs(os.path.join(aside, DATA), mode=0o700)
    for name in _entries(home):
        os.rename(os.path.join(home, name), os.path.join(aside, name))
    for name in _entries(staged):
        os.makedirs(os.path.dirname(os.path.join(home, name)), exist_ok=True)
        os.rename(os.path.join(staged, name), os.path.join(home, name))
    shutil.rmtree(staged)
    return manifest


def _entries(folder: str) -> list[str]:
    """What a restore exchanges, relative to the home: weights and environments stay where they are."""
    inside = os.path.join(folder, DATA)
    data = [os.path.join(DATA, name) for name in (os.listdir(inside) if os.path.isdir(inside) else []) if name not in LEFT_OUT]
    return [name for name in FILES if os.path.exists(os.path.join(folder, name))] + sorted(data)


def undo(home: str, container: str) -> bool:
    """What was there before ``restore`` comes back; False when nothing was put aside."""
    aside = os.path.join(home, ASIDE)
    if not os.path.isdir(aside):
        return False
    run_command(["docker", "stop", "--time=30", container], 120)
    for name in _entries(home):
        if os.path.lexists(os.path.join(aside, name)):
            place = os.path.join(home, name)
            shutil.rmtree(place) if os.path.isdir(place) and not os.path.islink(place) else os.unlink(place)
    for name in _entries(aside):
        os.rename(os.path.join(aside, name), os.path.join(home, name))
    shutil.rmtree(aside)
    run_command(["docker", "start", container], 120)
    return True


def commit(home: str) -> bool:
    there = os.path.isdir(os.path.join(home, ASIDE))
    shutil.rmtree(os.path.join(home, ASIDE), ignore_errors=True)
    return there


__all__ = ["check", "commit", "create", "restore", "undo"]
