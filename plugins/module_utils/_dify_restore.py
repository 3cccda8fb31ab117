# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Bring a backup of Dify back, or prove in a scratch project that it could be.

Everything is unpacked, loaded and compared in a folder beside what runs (``.restore``), with a database server of its own. Only
then the running stack is stopped and the two change places by renaming; what was there waits in ``.aside`` until the restored
stack is healthy, and takes its place again when it is not. An interrupted exchange is finished by the next call.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _backup_plan as plan
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _backup_store as store
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _secrets
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_seal import BackupError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._command import run_command
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify import DifyClient, DifyError, DifyUsageError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_backup import OURS
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_release import release_of
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_setup import WaitTimeout, wait_until_ready
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_stack import Database, Stack, containers, docker, remove_project
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import JsonClient, ServerUnreachable, open_url_transport

STAGE, ASIDE, READY, UNDOING, MARK = ".restore", ".aside", ".restore-ready", ".restore-undoing", ".all-aside"


def read(path: str, key: str, home: str) -> dict[str, t.Any]:
    """The manifest of a whole, undamaged backup that fits beside what is there."""
    manifest = store.read(path, key, "dify")
    needed = sum(part["unpacked"] for part in manifest["parts"])
    problem = plan.space_problem(int(needed * 1.2), store.free_bytes(home), home, f"Restoring {manifest['name']}")
    if problem:
        raise BackupError(problem)
    return manifest


class Scratch:
    """An unpacked backup, and the Compose project that checks it."""

    def __init__(self, home: str, folder: str, manifest: dict[str, t.Any], path: str, key: str, port: int) -> None:
        self.root = os.path.join(home, folder)
        self.manifest, self._path, self._key, self.port = manifest, path, key, port
        self.project = f"{manifest['project']}-{folder.strip('.')}"
        self.folder = os.path.join(self.root, "releases", manifest["version"], "docker")
        self.seconds: dict[str, float] = {}
        self._stack: Stack | None = None

    def _timed(self, name: str, begun: float) -> None:
        self.seconds[name] = round(time.monotonic() - begun, 2)

    def images(self, pull_timeout: float) -> None:
        """Have every image before anything is stopped."""
        begun = time.monotonic()
        for image in sorted({image for service in self.stack.services().values() for image in [service.get("image", "")] if image}):
            if run_command(["docker", "image", "inspect", image], 60)[0] != 0:
                docker("pull", "--quiet", image, timeout=pull_timeout, what=f"Nothing was changed. Pulling {image}, which the backup's release needs,")
        self._timed("images", begun)

    @property
    def stack(self) -> Stack:
        if self._stack is None:
            overrides = os.path.join(self.root, "scratch.yaml")
            if not os.path.exists(overrides):
                services = Stack(self.project, self.folder).services()
                with open(overrides, "w", encoding="utf-8") as handle:
                    handle.write(plan.drill_overrides(services, self.port))
            self._stack = Stack(self.project, self.folder, [overrides])
        return self._stack

    def unpack(self) -> None:
        """Files first; the release's link to its volumes is relative, so that it holds in both places."""
        begun = time.monotonic()
        remove_project(self.project)
        shutil.rmtree(self.root, ignore_errors=True)
        os.makedirs(self.root, mode=0o700)
        for part in self.manifest["parts"]:
            if part["kind"] == "tar":
                inside = os.path.join(self.root, "volumes") if part["name"].startswith("volume-") else self.root
                store.unpack_folders(self._path, part, self._key, inside)
        os.makedirs(os.path.join(self.root, "volumes"), exist_ok=True)
        os.symlink("../../../volumes", os.path.join(self.folder, "volumes"))
        self._timed("files", begun)

    def load(self, wait: float) -> None:
        """Fill a new database server below the scratch folder, and compare every table with the manifest."""
        begun = time.monotonic()
        parts = [part for part in self.manifest["parts"] if part["kind"] == "database"]
        if not parts:
            return
        service = plan.database_service(self.stack.services())
        if service is None:
            raise BackupError("The backup's release has no PostgreSQL service, and the backup has its dump: it was not made by this collection.")
        self.stack.up([service], wait, "Starting a database server beside the running one")
        server = next(container for container in containers(self.project) if container.service == service)
        database = Database(server.id, self.stack.env())
        for part in parts:
            if part["database"] not in database.existing():
                database.create(part["database"])
            store.unpack(self._path, part, self._key, database.load_command(part["database"]))
        found = {part["database"]: database.tables(part["database"]) for part in parts}
        problems = plan.table_problems(self.manifest["tables"], found)
        if problems:
            raise BackupError(f"The restored tables differ from the backup's: {'; '.join(problems[:5])}. The running stack was not touched.")
        self._timed("databases", begun)

    def serve(self, wait: float) -> dict[str, t.Any]:
        """Start the scratch stack on loopback and sign in. Returns what was seen."""
        begun = time.monotonic()
        wanted = [name for name in self.stack.services() if name not in plan.NOT_IN_A_DRILL]
        self.stack.up(wanted, wait, "Starting the scratch stack")
        secrets = _secrets.load(os.path.join(self.root, "secrets.json"))
        http = JsonClient(f"http://127.0.0.1:{self.port}", open_url_transport(), timeout=120)
        client = DifyClient(http, admin_key=secrets.get("ADMIN_API_KEY"))
        try:
            state = wait_until_ready(client, self.manifest["version"], wait)
            if state.get("step") != "finished":
                raise BackupError("The restored Dify asks for its first administrator: its accounts are not in the backup.")
            signed_in = "admin key"
            if not client.capabilities.admin_key:
                signed_in = "password"
                client.email, client.password = self._owner(), secrets.get("ADMIN_PASSWORD")
            models = [
                (provider["provider"], model)
                for provider in client.providers()
                for model in (client.models(provider["provider"]) if provider.get("custom_configuration", {}).get("status") == "active" else [])
            ]
            for provider, model in models:
                # Reading credentials decrypts them: with another workspace's key this fails.
                client.credentials(provider, model["model"], model["model_type"])
        except (DifyError, DifyUsageError, ServerUnreachable, WaitTimeout) as error:
            raise BackupError(f"The restored Dify does not answer as it should: {error}") from error
        self._timed("healthy", begun)
        return {"version": client.version, "signed_in_with": signed_in, "models": len(models), "services": sorted(wanted)}

    def _owner(self) -> str:
        service = plan.database_service(self.stack.services())
        server = next(container for container in containers(self.project) if container.service == service)
        database = Database(server.id, self.stack.env())
        owner = "SELECT a.email FROM accounts a JOIN tenant_account_joins j ON j.account_id = a.id WHERE j.role = 'owner' LIMIT 1"
        return database.sql(database.names[0], owner)[0][0]

    def remove(self) -> None:
        remove_project(self.project, grace=1)
        shutil.rmtree(self.root, ignore_errors=True)


def drill(home: str, path: str, key: str, port: int, wait: float, pull_timeout: float) -> dict[str, t.Any]:
    """Restore into a scratch project, prove it, take it away. Nothing of the running stack is read or written."""
    begun = time.monotonic()
    manifest = read(path, key, home)
    checked = round(time.monotonic() - begun, 2)
    scratch = Scratch(home, ".restore-drill", manifest, path, key, port)
    try:
        scratch.unpack()
        scratch.images(pull_timeout)
        scratch.load(wait)
        seen = scratch.serve(wait)
        total = round(time.monotonic() - begun, 2)
    finally:
        scratch.remove()
    tables = {name: sum(entry[0] for entry in found.values()) for name, found in manifest["tables"].items()}
    seconds = {"checked": checked, **scratch.seconds, "total": total}
    return {"backup": manifest["name"], "rows": tables, "rpo": round(time.time() - manifest["taken"]), "rto": seconds["total"], "seconds": seconds, **seen}


def prepare(home: str, project: str, path: str, key: str, port: int, wait: float, pull_timeout: float) -> dict[str, t.Any]:
    """Everything that can fail, beside the running stack. What comes of it lies in ``.restore`` until ``switch``."""
    begun = time.monotonic()
    stands = state(home)["state"]
    if stands not in ("none", "prepared"):
        raise BackupError(f"An earlier restore stands at {stands!r} in {home}; let it come to its end first (restore.yml does).")
    os.makedirs(home, mode=0o755, exist_ok=True)
    manifest = read(path, key, home)
    scratch = Scratch(home, STAGE, manifest, path, key, port)
    facts = {"backup": manifest["name"], "version": manifest["version"], "taken": manifest["taken"], "replaced": _running_version(home, project)}
    try:
        scratch.unpack()
        scratch.images(pull_timeout)
        scratch.load(wait)
        remove_project(scratch.project)
        os.unlink(os.path.join(scratch.root, "scratch.yaml"))
        _write(os.path.join(home, READY), facts)
    except BaseException:
        scratch.remove()
        raise
    return {**facts, "seconds": {**scratch.seconds, "total": round(time.monotonic() - begun, 2)}}


def _running_version(home: str, project: str) -> str:
    """Version of the stack that a restore replaces; empty where there is none."""
    api = next((container for container in containers(project) if container.service == "api"), None)
    return release_of(home, api.folder) if api else ""


def _write(path: str, facts: dict[str, t.Any]) -> None:
    with open(path + ".new", "w", encoding="utf-8") as handle:
        json.dump(facts, handle)
        handle.flush()
        os.fsync(handle.fileno())
    os.rename(path + ".new", path)


def _read(path: str) -> dict[str, t.Any]:
    with open(path, encoding="utf-8") as handle:
        return dict(json.load(handle))


def _entries(folder: str) -> list[str]:
    return [name for name in sorted(os.listdir(folder)) if not OURS.match(name) and name != "lost+found"] if os.path.isdir(folder) else []


def _move(source: str, target: str) -> None:
    for name in _entries(source):
        os.rename(os.path.join(source, name), os.path.join(target, name))


def switch(home: str, project: str) -> None:
    """The restored files take the place of the running ones. May be called again after an interruption.

    All that is there goes aside, then the mark is set, then all that is prepared comes in: what is left to do shows in the folders.
    """
    stage, aside, ready = (os.path.join(home, name) for name in (STAGE, ASIDE, READY))
    facts = _read(ready)
    remove_project(project)
    os.makedirs(aside, mode=0o700, exist_ok=True)
    if not os.path.exists(os.path.join(aside, MARK)):
        _move(home, aside)
        _write(os.path.join(aside, MARK), facts)
    _move(stage, home)
    os.unlink(ready)
    shutil.rmtree(stage)


def undo(home: str, project: str, wait: float) -> bool:
    """What was there before ``switch`` comes back and is started; False when nothing was put aside (a host that had nothing)."""
    stage, aside, ready, failed = (os.path.join(home, name) for name in (STAGE, ASIDE, READY, ".restore-failed"))
    mark, undoing = os.path.join(aside, MARK), os.path.join(home, UNDOING)
    known = mark if os.path.exists(mark) else ready
    if os.path.exists(known) and not os.path.exists(undoing):
        _write(undoing, _read(known))
    replaced = ""
    if os.path.exists(undoing):
        replaced = str(_read(undoing).get("replaced") or "")
        remove_project(project)
        if os.path.exists(mark):
            os.makedirs(failed, mode=0o700, exist_ok=True)
            for name in _entries(home):
                os.rename(os.path.join(home, name), os.path.join(failed, f"{time.monotonic_ns()}-{name}"))
            os.unlink(mark)
        if os.path.isdir(aside):
            _move(aside, home)
            shutil.rmtree(aside)
    for leftover in (stage, failed):
        shutil.rmtree(leftover, ignore_errors=True)
    if os.path.exists(ready):
        os.unlink(ready)
    if replaced:
        start(home, project, replaced, wait)
    if os.path.exists(undoing):
        os.unlink(undoing)
    return bool(replaced)


def start(home: str, project: str, version: str, wait: float) -> None:
    """Start a version as its files say, and wait until it answers: no setting of the inventory's comes in between."""
    stack = Stack(project, os.path.join(home, "releases", version, "docker"))
    services = [name for name in stack.services() if name not in plan.ONE_SHOT]
    stack.up(services, wait, f"Starting Dify {version} as it was")
    if "nginx" in services:
        # It remembers addresses; containers that were only stopped may have got others.
        stack.compose("restart", "nginx")
        address = stack.compose("port", "nginx", stack.env().get("NGINX_PORT") or "80").strip().replace("0.0.0.0", "127.0.0.1")
        try:
            wait_until_ready(DifyClient(JsonClient(f"http://{address}", open_url_transport(), timeout=30)), version, wait)
        except WaitTimeout as error:
            raise BackupError(f"Dify {version} was started as it was, and does not answer at {address}: {error}") from error


def commit(home: str) -> bool:
    """The restored stack is healthy: what it replaced may go."""
    aside = os.path.join(home, ASIDE)
    there = os.path.isdir(aside)
    shutil.rmtree(aside, ignore_errors=True)
    return there


def state(home: str) -> dict[str, t.Any]:
    """Where an earlier restore stands, with what it was about.

    ``state``: ``none``; ``prepared`` (``switch`` may begin); ``switching`` (``switch`` goes on); ``switched`` (neither committed nor
    undone); ``undoing`` (``undo`` goes on).
    """
    ready, mark, undoing = os.path.join(home, READY), os.path.join(home, ASIDE, MARK), os.path.join(home, UNDOING)
    if os.path.exists(undoing):
        return {**_read(undoing), "state": "undoing"}
    if os.path.exists(ready):
        return {**_read(ready), "state": "switching" if os.path.isdir(os.path.join(home, ASIDE)) else "prepared"}
    if os.path.exists(mark):
        return {**_read(mark), "state": "switched"}
    return {"state": "none"}


__all__ = ["commit", "drill", "prepare", "read", "start", "state", "switch", "undo"]
