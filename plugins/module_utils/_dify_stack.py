# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""A Compose project of Dify as it stands on a host: its containers, its databases, and how to hold it still for a moment."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _backup_plan as plan
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_seal import BackupError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._command import run_command
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_env import parse

PROJECT_LABEL = "com.docker.compose.project"
OVERRIDE = "docker-compose.override.yaml"
STOP_SECONDS = 30
LOCK = "/run/llmops-dify.lock"


class Container(t.NamedTuple):
    id: str
    service: str
    state: str
    image: str
    image_id: str
    folder: str


def docker(*arguments: str, timeout: float = 120, what: str = "") -> str:
    """Output of a Docker command. Raises :class:`BackupError` with what it said."""
    status, out, errors = run_command(["docker", *arguments], timeout)
    if status != 0:
        said = (errors or out).strip()[-600:] or ("timed out" if status == 124 else "no message")
        raise BackupError(f"{what or 'docker ' + ' '.join(arguments[:4])} failed ({status}): {said}")
    return out


@contextlib.contextmanager
def alone(seconds: float = 900) -> t.Iterator[None]:
    """One backup, restore or upgrade at a time on a host: what a killed play began goes on there, and is waited for."""
    until = time.monotonic() + seconds
    with open(LOCK, "a", encoding="utf-8") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > until:
                    raise BackupError(f"Another backup, restore or upgrade runs on this host for {seconds:.0f} s. Try again when it is done.") from error
                time.sleep(1)
        yield


def wait_for_others(project: str, seconds: float = 900) -> None:
    """Wait for Compose commands on the project that a killed play left running: two at once fail each other."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(_is_compose_of(number, project) for number in os.listdir("/proc") if number.isdigit()):
        time.sleep(1)


def _is_compose_of(number: str, project: str) -> bool:
    try:
        with open(f"/proc/{number}/cmdline", "rb") as handle:
            words = handle.read().decode("utf-8", "replace").split("\0")
    except OSError:
        return False
    # `docker compose` runs its plugin under the plugin's own name.
    return any(word.endswith(("docker-compose", "docker")) for word in words[:1]) and "compose" in words[:2] and project in words and "--project-name" in words


def containers(project: str) -> list[Container]:
    ids = docker("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={PROJECT_LABEL}={project}").split()
    if not ids:
        return []
    found = []
    for entry in json.loads(docker("inspect", *ids)):
        labels = entry["Config"]["Labels"]
        folder = labels.get(f"{PROJECT_LABEL}.working_dir", "")
        found.append(
            Container(entry["Id"], labels.get("com.docker.compose.service", ""), entry["State"]["Status"], entry["Config"]["Image"], entry["Image"], folder)
        )
    return found


def remove_project(project: str, grace: int = 10) -> None:
    """Stop and remove a project's containers and networks, by its label: it need not be known which release they came from.

    The database is stopped last, and gets the time it needs. ``grace``: seconds for the others, as Compose gives them.
    """
    found = containers(project)
    first = [container.id for container in found if container.service not in plan.DATABASES]
    if first:
        docker("stop", f"--time={grace}", *first, timeout=300)
    if len(found) > len(first):
        docker("stop", "--time=60", *[container.id for container in found if container.service in plan.DATABASES], timeout=300)
    if found:
        docker("rm", "--force", *[container.id for container in found], timeout=300)
    for network in docker("network", "ls", "--quiet", "--filter", f"label={PROJECT_LABEL}={project}").split():
        try:
            docker("network", "rm", network)
        except BackupError as error:
            # A removal of containers that was killed half-way leaves endpoints that Docker lists nowhere and keeps until it starts
            # anew (seen on 26.1); somebody else's container may be in it as well. Compose uses a network that is there again.
            if "active endpoints" not in str(error):
                raise


def wait_for_health(ids: list[str], seconds: float) -> None:
    """Docker calls a paused container unhealthy until its next check; whoever waits for health meanwhile would fail."""
    until = time.monotonic() + seconds
    while ids and time.monotonic() < until:
        states = docker("inspect", "--format", "{{if .State.Health}}{{.State.Health.Status}}{{end}}", *ids).split()
        if "unhealthy" not in states and "starting" not in states:
            return
        time.sleep(1)


class Stack:
    """One release folder under one project name."""

    def __init__(self, project: str, folder: str, more_files: t.Iterable[str] = ()) -> None:
        self.project, self.folder = project, folder
        files = [os.path.join(folder, "docker-compose.yaml")]
        if os.path.exists(os.path.join(folder, OVERRIDE)):
            files.append(os.path.join(folder, OVERRIDE))
        self._words = ["compose", "--project-name", project, "--project-directory", folder]
        for file in [*files, *more_files]:
            self._words += ["--file", file]

    def compose(self, *arguments: str, timeout: float = 600, what: str = "") -> str:
        return docker(*self._words, *arguments, timeout=timeout, what=what)

    def services(self) -> dict[str, dict[str, t.Any]]:
        return dict(json.loads(self.compose("config", "--format", "json")).get("services") or {})

    def env(self) -> dict[str, str]:
        with open(os.path.join(self.folder, ".env"), encoding="utf-8") as handle:
            return parse(handle.read())

    def up(self, services: list[str], wait: float, what: str) -> None:
        """Start services and wait for their health checks; an error names the services that are not well, with their last words."""
        try:
            arguments = ["up", "--detach", "--no-deps", "--quiet-pull", "--pull", "never", "--wait", "--wait-timeout", str(int(wait)), *services]
            self.compose(*arguments, timeout=wait + 120, what=what)
        except BackupError as error:
            sick = []
            for line in run_command(["docker", *self._words, "ps", "--all", "--format", "json"], 60)[1].splitlines():
                entry = json.loads(line) if line.startswith("{") else {}
                if entry and (entry.get("State") != "running" or entry.get("Health") not in ("", "healthy", None)):
                    sick.append(entry["Service"])
            logs = run_command(["docker", *self._words, "logs", "--no-color", "--tail", "5", *sick], 60)[1] if sick else ""
            raise BackupError(f"{error} Not healthy: {', '.join(sick) or 'unknown'}\n{logs[-1500:]}") from error


class Database:
    """The PostgreSQL server in a container; its image lets the superuser in over the socket without a password."""

    def __init__(self, container: str, env: dict[str, str]) -> None:
        self.container = container
        self.user = env.get("DB_USERNAME") or "postgres"
        self.names = [env.get("DB_DATABASE") or "dify", env.get("DB_PLUGIN_DATABASE") or "dify_plugin"]

    def sql(self, database: str, statement: str, timeout: float = 3600) -> list[list[str]]:
        argv = ["exec", self.container, "psql", "-X", "-A", "-t", "-q", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-U", self.user, "-d", database]
        out = docker(*argv, "-c", statement, timeout=timeout, what=f"Asking the database {database}")
        return [line.split("\t") for line in out.splitlines() if line]

    def existing(self) -> list[str]:
        there = {row[0] for row in self.sql("postgres", "SELECT datname FROM pg_database")}
        return [name for name in self.names if name in there]

    def size(self, database: str) -> int:
        return int(self.sql("postgres", f"SELECT pg_database_size('{_literal(database)}')")[0][0])

    def dump_command(self, database: str) -> list[str]:
        # A container in the middle of a migration may hold locks while it is paused: better no backup than a hanging one.
        options = ["--format=custom", "--compress=1", "--lock-wait-timeout=60000"]
        return ["docker", "exec", self.container, "pg_dump", f"--username={self.user}", *options, f"--dbname={database}"]

    def load_command(self, database: str) -> list[str]:
        return ["docker", "exec", "-i", self.container, "pg_restore", f"--username={self.user}", "--exit-on-error", f"--dbname={database}"]

    def create(self, database: str) -> None:
        self.sql("postgres", f'CREATE DATABASE "{_identifier(database)}"')

    def tables(self, database: str) -> dict[str, list[t.Any]]:
        """Table -> [rows, sum of the rows' checksums]: equal on both sides means equal content, in whatever order."""
        names = self.sql(
            database, "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2"
        )
        if not names:
            return {}
        each = [
            f"SELECT '{_literal(schema)}.{_literal(table)}', count(*), coalesce(sum(('x' || substr(md5(t::text), 1, 15))::bit(60)::bigint::numeric), 0)"
            f' FROM "{_identifier(schema)}"."{_identifier(table)}" t'
            for schema, table in names
        ]
        return {row[0]: [int(row[1]), row[2]] for row in self.sql(database, " UNION ALL ".join(each))}


def _literal(text: str) -> str:
    return text.replace("'", "''")


def _identifier(text: str) -> str:
    return text.replace('"', '""')


class Hold:
    """Writers paused, vector stores stopped, until ``release``, or until this process ends in whatever way.

    A child waits for the other end of a pipe to close: a killed play leaves no paused container behind.
    """

    def __init__(self, found: list[Container], stop: bool = False) -> None:
        """``stop``: end the writers instead of pausing them, for who will not let them go on (an upgrade)."""
        # A container that an interrupted run left paused counts as running, and is let go with the others.
        running = [container for container in found if container.state in ("running", "paused")]
        frozen = plan.freeze_plan(container.service for container in running)
        if stop:
            frozen = plan.Freeze([], frozen.stop + frozen.pause)
        self._paused = [container.id for container in running if container.service in frozen.pause]
        self._already = [container.id for container in running if container.state == "paused"]
        self._stopped = [container.id for container in running if container.service in frozen.stop]
        self.seconds = 0.0
        self._begun = time.monotonic()
        self._write = -1

    def take(self) -> None:
        reading, self._write = os.pipe()
        if os.fork() == 0:
            self._watch(reading)
        os.close(reading)
        self._begun = time.monotonic()
        if self._already:
            docker("unpause", *self._already)
        if self._paused:
            docker("pause", *self._paused, what="Pausing the services that write")
        if self._stopped:
            docker("stop", f"--time={STOP_SECONDS}", *self._stopped, timeout=300, what="Stopping the vector store")

    def _watch(self, reading: int) -> None:
        """In the child: wait for the parent's end, and let the services go on unless it has done so itself."""
        try:
            os.close(self._write)
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(null, stream)
            if os.read(reading, 1) == b"":
                self._resume()
        finally:
            os._exit(0)

    def _resume(self) -> list[str]:
        """Every container on its own: one that is gone must not keep the others waiting."""
        problems = []
        for word, ids in (("start", self._stopped), ("unpause", self._paused)):
            for container in ids:
                status, unused, errors = run_command(["docker", word, container], 120)
                if status != 0 and "is not paused" not in errors:
                    problems.append(errors.strip())
        return problems

    def settle(self) -> None:
        """Wait until the services that were held show as healthy again; for whom that takes long it is no error here."""
        wait_for_health(self._paused + self._stopped, 180)

    def leave(self) -> None:
        """Keep the services as they are now."""
        if self._write >= 0:
            self.seconds = time.monotonic() - self._begun
            os.write(self._write, b"k")
            os.close(self._write)
            self._write = -1

    def release(self) -> None:
        if self._write < 0:
            return
        problems = self._resume()
        self.leave()
        if problems:
            raise BackupError(f"Not every service goes on after the backup: {'; '.join(problems)}. Run site.yml.")


__all__ = [
    "LOCK",
    "OVERRIDE",
    "Container",
    "Database",
    "Hold",
    "Stack",
    "alone",
    "containers",
    "docker",
    "remove_project",
    "wait_for_health",
    "wait_for_others",
]
