# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""What each Dify generation can do: the one place where version numbers are compared.

Source: the version matrix of Dify's console API, run against 0.6.13, 0.15.8, 1.7.2, 1.9.2 and 1.16.1 and read in the
tags between. Modules and roles ask for a capability, never for a version.
"""

from __future__ import annotations

import re
import typing as t

_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?(?:-fix\.(\d+))?")

# Newest release whose console API was exercised; newer ones are assumed to behave alike.
NEWEST_KNOWN = "1.16.1"
# Oldest release whose console API was exercised.
OLDEST_KNOWN = "0.6.13"


def version_key(text: str) -> tuple[int, int, int, int]:
    """``1.10.1-fix.1`` -> (1, 10, 1, 1); ``ValueError`` for anything that is no Dify version."""
    match = _VERSION.match(text.strip().lstrip("v"))
    if not match:
        raise ValueError(f"{text!r} is not a Dify version; expected something like {NEWEST_KNOWN}")
    major, minor, patch, fix = match.groups()
    return int(major), int(minor), int(patch or 0), int(fix or 0)


class Capabilities(t.NamedTuple):
    """What a Dify of ``version`` understands. Every field is one row of the version matrix."""

    version: str
    login_tokens: str  # "data": the JWT itself, "pair": access and refresh token, "cookies": cookies and CSRF header
    login_base64: bool  # the password travels base64 encoded
    admin_key: bool  # Authorization: Bearer <ADMIN_API_KEY> reaches console endpoints
    plugins: bool  # providers are plugins
    credential_records: bool  # POST/PUT .../models/credentials; before: POST .../models is an upsert
    auto_upgrade: str  # where plugins' automatic upgrades are set: "" (there are none), "preferences", "category"
    setup_language: bool  # POST /setup takes a language
    refresh: str  # how a session is renewed: "" (it cannot be), "body", "cookies"
    default_model_first_write_bug: bool  # the first POST of a type is stored under a wrong word: GET before, verify after
    env_file: bool  # containers read the whole .env; before: only names of the compose file's map reach them
    xinference_provider: str  # provider id in console paths
    xinference_fields: tuple[str, ...]  # what Xinference's provider takes; the provider list says it as well, for a request more


# (capability, first version with the new value, value before, value from then on)
_STEPS: list[tuple[str, tuple[int, int, int, int], t.Any, t.Any]] = [
    ("login_tokens", (0, 10, 0, 0), "data", "pair"),
    ("login_tokens", (1, 9, 2, 0), None, "cookies"),
    ("login_base64", (1, 11, 2, 0), False, True),
    ("admin_key", (1, 9, 2, 0), True, False),
    ("admin_key", (1, 11, 0, 0), None, True),
    ("plugins", (1, 0, 0, 0), False, True),
    ("credential_records", (1, 8, 0, 0), False, True),
    ("auto_upgrade", (1, 7, 0, 0), "", "preferences"),
    ("auto_upgrade", (1, 15, 0, 0), None, "category"),
    ("setup_language", (1, 9, 2, 0), False, True),
    ("refresh", (0, 10, 0, 0), "", "body"),
    ("refresh", (1, 9, 2, 0), None, "cookies"),
    ("default_model_first_write_bug", (1, 14, 0, 0), True, False),
    ("env_file", (1, 14, 1, 0), False, True),
    ("xinference_provider", (1, 0, 0, 0), "xinference", "langgenius/xinference/xinference"),
    ("xinference_fields", (0, 7, 0, 0), ("server_url", "model_uid"), ("server_url", "model_uid", "api_key")),
    ("xinference_fields", (0, 14, 0, 0), None, ("server_url", "model_uid", "api_key", "invoke_timeout", "max_retries")),
]

XINFERENCE_PROVIDERS = ("xinference", "langgenius/xinference/xinference")


def capabilities(version: str) -> Capabilities:
    """The row of the matrix for one version, as text like ``1.16.1``. Raises ``ValueError`` for other text."""
    key = version_key(version)
    values: dict[str, t.Any] = {}
    for name, since, before, after in _STEPS:
        if key >= since:
            values[name] = after
        else:
            values.setdefault(name, before)
    return Capabilities(version=version, **values)


def provider_id(provider: str, able: Capabilities) -> str:
    """The provider's id on this Dify: Xinference's is short before 1.0, where providers are built in. Others stay as given."""
    return able.xinference_provider if provider in XINFERENCE_PROVIDERS else provider


__all__ = ["NEWEST_KNOWN", "OLDEST_KNOWN", "XINFERENCE_PROVIDERS", "Capabilities", "capabilities", "provider_id", "version_key"]
