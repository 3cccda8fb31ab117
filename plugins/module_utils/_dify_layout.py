# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""What a release of Dify consists of, read from its own files instead of from its number.

Three layouts came one after the other: a ``.env`` whose variables reach the containers through a list in the compose file
(0.6 to 1.14.0), a ``.env`` that containers read whole (``env_file``, from 1.14.1), and optional ``envs/**/*.env`` beside it.
Services came and were renamed too: ``plugin_daemon`` with 1.0, ``db`` to ``db_postgres`` with 1.10.1, ``init_permissions`` with 1.11.
"""

from __future__ import annotations

import re
import typing as t

ONE_SHOT = ("init_permissions",)
DATABASES = ("db_postgres", "db", "db_mysql")

_TOP = re.compile(r"^([A-Za-z_][\w.-]*):")
_SERVICE = re.compile(r"^ {2}([A-Za-z_][\w.-]*):")
_ANCHOR = re.compile(r"^ {2}[\w.-]+:\s*&(\S+)")
_MERGED = re.compile(r"^ {4}<<:\s*\*(\S+)")
_KEY = re.compile(r"^ {4}([A-Za-z_][\w.-]*):")
_PROFILE = re.compile(r"^ {6}-\s*[\"']?([\w.-]*)[\"']?\s*$")
_PROFILES = re.compile(r"^ {4}profiles:\s*\[(.*)\]")
_IMAGE = re.compile(r"^ {4}image:\s*[\"']?([^\s\"'#]+)")
_ENV_ITEM = re.compile(r"^\s*(?:-\s*)?(?:(?:path|env_file):\s*)?[\"']?(?:\./)?\.env[\"']?\s*$")


class Layout(t.NamedTuple):
    """The services of a release and how its settings reach them."""

    services: tuple[str, ...]
    published: tuple[str, ...]  # services that the compose file publishes a port of
    health_checked: tuple[str, ...]
    reads_env: bool  # containers read the whole .env; else only names of the compose file's list reach them
    one_shot: tuple[str, ...]
    profiles: dict[str, tuple[str, ...]]  # by service; those without any always run
    images: dict[str, str]  # by service, as the compose file names them
    database: str  # service of the database that comes with the release, "" when there is none


def read(compose_text: str) -> Layout:
    """The layout of a ``docker-compose.yaml`` as Dify's releases write it (two blanks a level, no tabs).

    This is no YAML parser: hosts have none that could be relied on. ``ValueError`` for a text without services.
    """
    section = ""
    service = ""
    keys: dict[str, set[str]] = {}
    images: dict[str, str] = {}
    profiles: dict[str, tuple[str, ...]] = {}
    last = ""
    anchors: dict[str, str] = {}
    reads_env = False
    for line in compose_text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        top = _TOP.match(line)
        if top:
            section, service = top.group(1), ""
        if section.startswith("x-") or section == "services":
            reads_env = reads_env or bool(_ENV_ITEM.match(line))
        if section != "services" or top:
            continue
        found = _SERVICE.match(line)
        if found:
            service = found.group(1)
            anchor = _ANCHOR.match(line)
            if anchor:
                anchors[anchor.group(1)] = service
            keys[service] = set()
            continue
        merged = _MERGED.match(line)
        if service and merged and anchors.get(merged.group(1)) in images:
            images[service] = images[anchors[merged.group(1)]]
        key = _KEY.match(line)
        last = key.group(1) if key else last
        entry = _PROFILE.match(line)
        inline = _PROFILES.match(line)
        if service and last == "profiles" and (entry or inline):
            more = [entry.group(1)] if entry else [name.strip(" \"'") for name in (inline.group(1) if inline else "").split(",")]
            profiles[service] = (*profiles.get(service, ()), *more)
        if key and service:
            keys[service].add(key.group(1))
            image = _IMAGE.match(line)
            if image:
                images[service] = image.group(1)
    if not keys:
        raise ValueError("the compose file has no services")
    return Layout(
        services=tuple(keys),
        published=tuple(name for name, has in keys.items() if "ports" in has),
        health_checked=tuple(name for name, has in keys.items() if "healthcheck" in has),
        reads_env=reads_env,
        one_shot=tuple(name for name in ONE_SHOT if name in keys),
        profiles=profiles,
        images=images,
        database=next((name for name in DATABASES if name in keys), ""),
    )


def not_handed_on(settings: t.Iterable[str], compose_names: t.Iterable[str], layout: Layout) -> list[str]:
    """Settings that would stop at ``.env``: no file of the release gives them to a container."""
    return [] if layout.reads_env else sorted(set(settings) - set(compose_names))


__all__ = ["DATABASES", "ONE_SHOT", "Layout", "not_handed_on", "read"]
