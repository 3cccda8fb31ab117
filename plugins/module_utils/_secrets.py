# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Secrets that are made once and kept: a small JSON file on the host they serve, readable by root only.

Values are letters and digits: Docker Compose interpolates ``$``, and some of them travel inside URLs.
"""

from __future__ import annotations

import json
import os
import secrets as _random
import string
import tempfile
import typing as t

ALPHABET = string.ascii_letters + string.digits
SHORTEST = 8

# Values that stand in public example files: a service that runs on one of them is open to anyone who can read.
# SHA-256 is not needed here; these are no secrets.
PUBLIC_DEFAULTS = frozenset(
    [
        "difyai123456",
        "dify-sandbox",
        "dify-agent-run-token-for-dev-only",
        "WVF5YThaHlkYwhGUSmCRgsX3tD5ngdN8pkih",
        "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY",
        "password",
        "changeme",
        "admin",
        "admin123",
        "12345678",
        "xinference",
    ]
)
# Longer public values, told by how they begin.
PUBLIC_BEGINNINGS = ("sk-9f73s3", "lYkiYYT6owG+", "QaHbTe77CtuXmsfyhR7+")


class SecretRefused(Exception):
    """A wanted value may not be used; the message names the secret, never its value."""


class Wanted(t.NamedTuple):
    """One secret. ``value``: given by the user, wins over a stored one unless ``permanent`` (then a change is refused).

    ``kind``: ``token`` (``length`` letters and digits) or ``key32`` (43 characters that decode, as base64url, to 32 bytes).
    """

    name: str
    length: int = 32
    value: str | None = None
    permanent: bool = False
    kind: str = "token"


def is_public_default(value: str) -> bool:
    return value in PUBLIC_DEFAULTS or value.startswith(PUBLIC_BEGINNINGS)


def generate(kind: str, length: int) -> str:
    """A new secret. Every token carries a lower-case letter, a capital and a digit, for servers that ask for them."""
    while True:
        if kind == "key32":
            value = _random.token_urlsafe(32)
        else:
            value = "".join(_random.choice(ALPHABET) for unused in range(length))
        if value.isalnum() and any(c.islower() for c in value) and any(c.isupper() for c in value) and any(c.isdigit() for c in value):
            return value


def plan(stored: dict[str, str], wanted: t.Iterable[Wanted]) -> tuple[dict[str, str], list[str], list[str]]:
    """(all values, names made new, names changed to a given value). Stored secrets nobody asks for stay.

    Raises :class:`SecretRefused`: public defaults, given values that are too short, changes of permanent secrets.
    """
    result = dict(stored)
    made: list[str] = []
    replaced: list[str] = []
    for item in wanted:
        kept = stored.get(item.name)
        if item.value:
            if is_public_default(item.value):
                raise SecretRefused(f"{item.name}: the given value is a public default; choose another, or leave it empty to have one made.")
            if len(item.value) < SHORTEST:
                raise SecretRefused(f"{item.name}: the given value has {len(item.value)} characters; at least {SHORTEST} are needed.")
            if kept is not None and kept != item.value:
                if item.permanent:
                    raise SecretRefused(
                        f"{item.name}: a different value is already in use, and the running service keeps the old one whatever is written here. "
                        "Leave the variable empty to keep it. If it was changed in the service already, remove its line from the secrets file."
                    )
                replaced.append(item.name)
            elif kept is None:
                made.append(item.name)
            result[item.name] = item.value
        elif kept is None:
            result[item.name] = generate(item.kind, item.length)
            made.append(item.name)
        elif is_public_default(kept):
            raise SecretRefused(f"{item.name}: the stored value is a public default; remove the line from the file to have a new one made.")
    return result, made, replaced


def load(path: str) -> dict[str, str]:
    """Stored secrets; ``{}`` when there is no file yet. ``ValueError`` names a file that is damaged (it is never overwritten)."""
    try:
        with open(path, encoding="utf-8") as handle:
            text = handle.read()
    except FileNotFoundError:
        return {}
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
        raise ValueError(f"{path} is not a JSON object of text values; restore it from a backup (new secrets would lock the running services out)")
    return data


def save(path: str, values: dict[str, str]) -> None:
    """Write the file whole or not at all, mode 0600 from its first byte."""
    write_private(path, json.dumps(values, indent=2, sort_keys=True) + "\n")


def write_private(path: str, text: str) -> None:
    """Replace a file atomically, mode 0600 (``mkstemp`` creates it so)."""
    folder = os.path.dirname(path) or "."
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".new", dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


__all__ = ["ALPHABET", "SecretRefused", "Wanted", "generate", "is_public_default", "load", "plan", "save", "write_private"]
