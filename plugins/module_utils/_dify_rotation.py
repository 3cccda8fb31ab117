# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Which of Dify's secrets may be replaced by a new value, and how.

Most are only compared by two containers: both get the new one when they are made anew. The database's password lives in the
database itself. What would cost data or lock somebody out is refused, with what to do by hand.
"""

from __future__ import annotations

import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_env import SECRET_RULES
from ansible_collections.llmops.dify_xinference.plugins.module_utils._secrets import generate

# A new password of the database waits under this name until the database has it, so that a run that is cut off can be finished.
PENDING = "DB_PASSWORD_NEXT"
DATABASE = "DB_PASSWORD"

REFUSED = {
    "SECRET_KEY": "it signs sessions, links to files and embedded apps: with another one everybody is signed out and every link is dead. "
    "Where it leaked, write the new value into secrets.json by hand and run site.yml.",
    "ADMIN_PASSWORD": "Dify has it as a hash. Change it in the console, then remove its line from secrets.json and give it as dify_admin_password.",
    "PGVECTOR_PASSWORD": "the vector store keeps the one of its first start. Change it there (ALTER ROLE), then in secrets.json, and run site.yml.",
}
ROTATABLE = tuple(rule.name for rule in SECRET_RULES if rule.name not in REFUSED)


class RotationRefused(Exception):
    """A secret cannot be replaced like this; the message says why and what to do."""


def plan(stored: dict[str, str], names: t.Iterable[str], external: t.Container[str] = ()) -> dict[str, str]:
    """The new values by name, of those among ``names`` that this host has. Raises :class:`RotationRefused`; then nothing is to be done.

    :param stored: the secrets of the host. A database password that an earlier run left waiting is used again.
    :param external: secrets of servers that are not Dify's own.
    """
    problems = []
    new: dict[str, str] = {}
    rules = {rule.name: rule for rule in SECRET_RULES}
    for name in names:
        if name not in rules:
            problems.append(f"{name} is no secret of Dify; known are {', '.join(ROTATABLE)}")
        elif name in REFUSED:
            problems.append(f"{name}: {REFUSED[name]}")
        elif name in external:
            problems.append(f"{name}: it belongs to a server of your own. Change it there, remove its line from secrets.json, and give it in dify_secrets.")
        elif name in stored:
            kept = stored.get(PENDING) if name == DATABASE else None
            new[name] = kept or generate(rules[name].kind, rules[name].length)
    if problems:
        raise RotationRefused("; ".join(problems))
    return new


def alter_role(user: str, password: str) -> str:
    """SQL that gives a role of PostgreSQL another password; to be sent as input, never as an argument."""
    quoted_user, quoted_password = user.replace('"', '""'), password.replace("'", "''")
    return f"ALTER ROLE \"{quoted_user}\" PASSWORD '{quoted_password}';\n"


__all__ = ["DATABASE", "PENDING", "REFUSED", "ROTATABLE", "RotationRefused", "alter_role", "plan"]
