# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""What a backup decides without touching anything: names, what is frozen, what fits, what may go, what differs."""

from __future__ import annotations

import re
import typing as t

FORMAT = "llmops-backup-1"
# Room that is left free beside what is written: logs and the database go on growing meanwhile.
MARGIN = 256 << 20
_NAME = re.compile(r"^(dify|xinference)-(.+)-(\d{8}T\d{6}Z)$")

# Who writes data, and is paused while it is copied: requests wait, none fails. What only reads or forwards goes on.
WRITERS = ("api", "api_websocket", "worker", "worker_beat", "plugin_daemon", "agent_backend")
BYSTANDERS = ("db", "db_postgres", "redis", "nginx", "web", "ssrf_proxy", "agent_ssrf_proxy", "sandbox", "local_sandbox", "certbot", "init_permissions")
DATABASES = ("db_postgres", "db")
# In a drill these stay away: they send mails, run schedules and call other systems.
ONE_SHOT = ("init_permissions",)
NOT_IN_A_DRILL = ("worker", "worker_beat", "certbot", *ONE_SHOT)
# Kept by a dump, or rightly lost: caches in Redis belong to the database as it was, sessions are made anew.
NOT_COPIED = ("db", "redis", "mysql")


def backup_name(product: str, host: str, stamp: str) -> str:
    """``stamp``: UTC, as in ``20261124T170000Z``."""
    return f"{product}-{re.sub('[^A-Za-z0-9._-]', '_', host)}-{stamp}"


class Freeze(t.NamedTuple):
    """Services by what happens to them while the data is copied."""

    pause: list[str]
    stop: list[str]


def freeze_plan(running: t.Iterable[str]) -> Freeze:
    """Writers are paused. Whatever else is not known to hold no files is a vector store: stopped, so that it writes out its memory."""
    names = sorted(set(running))
    return Freeze([name for name in names if name in WRITERS], [name for name in names if name not in WRITERS and name not in BYSTANDERS])


def database_service(services: t.Iterable[str]) -> str | None:
    """Name of the PostgreSQL service (``db`` before 1.10.1); None when the database is not part of the project."""
    there = set(services)
    return next((name for name in DATABASES if name in there), None)


def bytes_text(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return ""


def space_problem(needed: int, free: int, where: str, what: str) -> str | None:
    """Why something does not fit; None when it does. All in bytes."""
    if free >= needed + MARGIN:
        return None
    return (
        f"{what} needs up to {bytes_text(needed)} in {where} and {bytes_text(MARGIN)} to spare; {bytes_text(free)} are free. "
        "Nothing was changed: make room, or name another folder."
    )


def complete(name: str, product: str, host: str) -> str | None:
    """The time stamp of a backup of this product and host, by its folder's name; None for what is not ours."""
    match = _NAME.match(name)
    if match and match.group(1) == product and backup_name(product, host, match.group(3)) == name:
        return match.group(3)
    return None


def to_remove(names: t.Iterable[str], product: str, host: str, keep: int, oldest: str = "") -> list[str]:
    """Backups that retention takes away: not the newest ``keep`` (never fewer than one), nor those since ``oldest`` (a stamp).

    Folders that are not named as a backup of this product and host are never among them.
    """
    stamps = sorted(((complete(name, product, host) or "", name) for name in names), reverse=True)
    mine = [(stamp, name) for stamp, name in stamps if stamp]
    return [name for stamp, name in mine[max(keep, 1) :] if not oldest or stamp < oldest]


def part_problems(parts: list[dict[str, t.Any]], found: dict[str, tuple[int, str] | None]) -> list[str]:
    """What is wrong with the parts of a backup: name -> (size, SHA-256) as found, None where there is no file."""
    problems = []
    for part in parts:
        here = found.get(part["file"])
        if here is None:
            problems.append(f"{part['file']} is missing")
        elif here[0] != part["size"]:
            problems.append(f"{part['file']} has {here[0]} bytes instead of {part['size']}")
        elif here[1] != part["sha256"]:
            problems.append(f"{part['file']} has the right size and another content")
    return problems


def table_problems(wanted: dict[str, dict[str, list[t.Any]]], found: dict[str, dict[str, list[t.Any]]]) -> list[str]:
    """Tables that differ: database -> table -> [rows, checksum of the rows]."""
    problems = []
    for database in sorted(wanted):
        here = found.get(database, {})
        for table in sorted(set(wanted[database]) | set(here)):
            before, after = wanted[database].get(table), here.get(table)
            if before is None or after is None:
                problems.append(f"{database}.{table} {'is new' if before is None else 'is missing'}")
            elif list(before) != list(after):
                problems.append(f"{database}.{table}: {before[0]} rows ({before[1]}) in the backup, {after[0]} rows ({after[1]}) now")
    return problems


def manifest_problem(manifest: dict[str, t.Any], product: str) -> str | None:
    """Why this backup is not one for us; None when it is."""
    if manifest.get("format") != FORMAT:
        return f"its format is {manifest.get('format')!r}, and this version of the collection reads {FORMAT!r}"
    if manifest.get("product") != product:
        return f"it is a backup of {manifest.get('product')}, not of {product}"
    return None


def drill_overrides(services: dict[str, dict[str, t.Any]], port: int) -> str:
    """A Compose file that keeps a scratch stack to itself: nothing is published but nginx, on loopback, and no container has a fixed name.

    ``services``: name -> its entry of ``docker compose config``.
    """
    lines = ["services:"]
    for name in sorted(services):
        entry = []
        if services[name].get("container_name"):
            entry.append("    container_name: !reset null")
        if name == "nginx":
            entry += ["    ports: !override", f'      - "127.0.0.1:{port}:${{NGINX_PORT:-80}}"']
        elif services[name].get("ports"):
            entry.append("    ports: !reset []")
        entry.append('    restart: "no"')
        lines += [f"  {name}:", *entry]
    return "\n".join(lines) + "\n"


__all__ = [
    "BYSTANDERS",
    "DATABASES",
    "FORMAT",
    "Freeze",
    "MARGIN",
    "NOT_COPIED",
    "NOT_IN_A_DRILL",
    "ONE_SHOT",
    "WRITERS",
    "backup_name",
    "bytes_text",
    "complete",
    "database_service",
    "drill_overrides",
    "freeze_plan",
    "manifest_problem",
    "part_problems",
    "space_problem",
    "table_problems",
    "to_remove",
]
