# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""A consistent copy of everything a Dify on this host is: databases, files, plugins, vectors, release, settings, secrets.

Both databases and all files are read while nothing writes, so they fit each other. Not copied: Redis (caches, sessions, and
tasks that were not begun).
"""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _backup_plan as plan
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _backup_store as store
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_seal import BackupError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_release import release_of
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_stack import Container, Database, Hold, Stack, containers, docker

# Entries of Dify's home that are no part of a backup: ours while something goes on.
OURS = re.compile(r"^\.(restore|aside|unpack|upgrade)")


class Found(t.NamedTuple):
    """The running stack."""

    home: str
    version: str
    stack: Stack
    containers: list[Container]
    database: Database | None
    settings: list[str]  # entries below home
    volumes: list[str]  # entries below home/volumes


def look(home: str, project: str) -> Found:
    """Find out which release runs. Raises :class:`BackupError` where there is no running Dify."""
    found = containers(project)
    api = next((container for container in found if container.service == "api"), None)
    if api is None:
        raise BackupError(f"The project {project} has no container of the service api on this host: there is no Dify to back up. Run site.yml first.")
    folder = api.folder
    version = release_of(home, folder)
    if not version:
        raise BackupError(f"Dify runs from {folder}, which is not below {home}/releases; set dify_home to where it is.")
    stack = Stack(project, folder)
    env = stack.env()
    if (env.get("DB_TYPE") or "postgresql") != "postgresql":
        raise BackupError(f"DB_TYPE is {env['DB_TYPE']}; only PostgreSQL is backed up. Use that database's own means.")
    name = plan.database_service(container.service for container in found)
    server = next((container for container in found if name and container.service == name), None)
    if server is not None and server.state != "running":
        raise BackupError(f"The service {name} is {server.state}; start Dify (site.yml), then back it up.")
    settings = [entry for entry in sorted(os.listdir(home)) if entry not in ("releases", "volumes", "lost+found") and not OURS.match(entry)]
    volumes = os.path.join(home, "volumes")
    kept = [entry for entry in sorted(os.listdir(volumes)) if entry not in plan.NOT_COPIED]
    return Found(home, version, stack, found, Database(server.id, env) if server else None, [f"releases/{version}/docker", *settings], kept)


def needed_bytes(found: Found) -> int:
    """An upper bound of what a backup takes: nothing is counted on from compression."""
    total = sum(store.tree_size(os.path.join(found.home, "volumes", entry)) for entry in found.volumes)
    total += sum(store.tree_size(os.path.join(found.home, entry)) for entry in found.settings)
    if found.database:
        total += sum(found.database.size(name) for name in found.database.existing())
    return total


def create(found: Found, folder: str, host: str, key: str, hold: bool, reader: tuple[int, int] | None) -> dict[str, t.Any]:
    """Make a backup below ``folder``. Returns the manifest, with ``path`` and ``held`` (seconds in which nothing was written).

    ``hold``: leave the writers stopped at the end; after an error they run again in any case.
    """
    problem = plan.space_problem(needed_bytes(found), store.free_bytes(folder), folder, "The backup")
    if problem:
        raise BackupError(problem)
    writer = store.Writer(folder, "dify", host, key)
    pause = Hold(found.containers, stop=hold)
    try:
        pause.take()
        tables = _copy(found, writer)
        if hold:
            pause.leave()
        else:
            pause.release()
        facts = {
            "version": found.version,
            "project": found.stack.project,
            "tables": tables,
            "images": {container.service: {"image": container.image, "id": container.image_id} for container in found.containers},
            "not_included": [] if found.database else ["database: it is not part of the Compose project"],
            "held": round(pause.seconds, 2),
        }
        manifest = writer.finish(facts, reader)
        if not hold:
            pause.settle()
    except BaseException:
        writer.abandon()
        _start_again(found, pause, hold)
        raise
    return {**manifest, "path": os.path.join(folder, writer.name)}


def _start_again(found: Found, pause: Hold, hold: bool) -> None:
    try:
        pause.release()
        if hold:
            # Also those that an interrupted upgrade had stopped.
            docker("start", *[container.id for container in found.containers if container.service not in plan.ONE_SHOT])
            # It remembers addresses, and those that were stopped may have got others.
            docker("restart", *[container.id for container in found.containers if container.service == "nginx"])
    except BackupError:
        pass  # the error that led here says more


def _copy(found: Found, writer: store.Writer) -> dict[str, dict[str, list[t.Any]]]:
    tables = {}
    if found.database:
        for name in found.database.existing():
            writer.add(f"database-{name}", found.database.dump_command(name), "database", found.database.size(name), database=name)
            tables[name] = found.database.tables(name)
    writer.add_folders("settings", found.home, found.settings, [f"releases/{found.version}/docker/volumes"])
    for entry in found.volumes:
        writer.add_folders(f"volume-{entry}", os.path.join(found.home, "volumes"), [entry])
    return tables


__all__ = ["Found", "create", "look", "needed_bytes"]
