# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Dify's first minutes: wait until it answers with the wanted version, then make its first administrator."""

from __future__ import annotations

import re
import time
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._difference import Difference
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify import DifyClient, DifyError, DifyUsageError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import ServerUnreachable, shorten
from ansible_collections.llmops.dify_xinference.plugins.module_utils._wait import WaitTimeout, wait_for

_EMAIL = re.compile(r"^[\w.!#$%&'*+/=?^`{|}~-]+@([\w-]+\.)+[\w-]{2,}$", re.ASCII)


def check_administrator(email: str, name: str, password: str, init_password: str | None = None) -> list[str]:
    """What Dify would refuse, in words: its own answer (422 since 1.12) names no field.

    Rules of Dify's console: name 1 to 30 characters, password with a letter and a digit and at least 8 characters,
    INIT_PASSWORD at most 30 characters (a longer one can never be proven).
    """
    problems = []
    if not _EMAIL.match(email or ""):
        problems.append(f"the e-mail address {email!r} is not one Dify accepts (name@domain.tld)")
    if not 1 <= len(name or "") <= 30:
        problems.append(f"the name has {len(name or '')} characters; Dify takes 1 to 30")
    if len(password or "") < 8 or not re.search(r"[A-Za-z]", password or "") or not re.search(r"\d", password or ""):
        problems.append("the password needs at least 8 characters, with a letter and a digit among them")
    if init_password and len(init_password) > 30:
        problems.append(f"INIT_PASSWORD has {len(init_password)} characters; with more than 30 it can never be proven")
    return problems


def wait_until_ready(
    client: DifyClient,
    version: str | None,
    timeout: float,
    sleep: t.Callable[[float], None] = time.sleep,
    clock: t.Callable[[], float] = time.monotonic,
) -> dict[str, t.Any]:
    """The setup state, as soon as the console answers (with ``version``, when given). Raises :class:`WaitTimeout`.

    While the database is migrated, nginx answers 502 and the console nothing at all: both mean *not yet*.
    """

    def look() -> tuple[str, dict[str, t.Any] | None]:
        try:
            state = client.setup_state()
        except ServerUnreachable as error:
            return f"no answer ({shorten(error.reason, 120)})", None
        except DifyError as error:
            return f"HTTP {error.status} {error.code}", None
        except DifyUsageError as error:
            return str(error), None
        if version and client.version != version:
            return f"Dify {client.version} answers instead of {version}", None
        return "ready", state

    found = wait_for(look, lambda result: result[1] is not None, "a healthy Dify console", timeout, 1.0, 3.0, clock, sleep)
    return found[1] or {}


def make_administrator(client: DifyClient, email: str, name: str, password: str, language: str | None, init_password: str | None) -> None:
    """POST /init and /setup on one cookie jar. A set-up finished by someone else in between counts as done."""
    if client.init_state() != "finished":
        if not init_password:
            raise DifyUsageError("Dify asks for its INIT_PASSWORD before the first administrator can be made; give init_password (it stands in Dify's .env)")
        client.init(init_password)
    try:
        client.setup(email, name, password, language)
    except DifyError as error:
        if error.status != 403 or client.setup_state().get("step") != "finished":
            raise


def wanted_settings(client: DifyClient, workspace_name: str | None, language: str | None, difference: Difference) -> list[tuple[str, dict[str, str]]]:
    """Calls that bring the workspace's name and the administrator's language to the wanted ones, in order; reads what is asked for.

    Routes as in every release from 0.6 to 1.16 (read in their sources, not recorded).
    """
    calls: list[tuple[str, dict[str, str]]] = []
    if workspace_name:
        listed = (client.call("GET", "/workspaces") or {}).get("workspaces") or []
        # With one workspace, as in the community edition, there is no doubt; Dify marks the one that is worked on.
        current = next((item for item in listed if item.get("current")), listed[0] if listed else {})
        if difference.add("workspace_name", workspace_name, current.get("name")):
            calls.append(("/workspaces/info", {"name": workspace_name}))
    if language:
        profile = client.call("GET", "/account/profile") or {}
        if difference.add("language", language, profile.get("interface_language")):
            calls.append(("/account/interface-language", {"interface_language": language}))
    return calls


__all__ = ["WaitTimeout", "check_administrator", "make_administrator", "wait_until_ready", "wanted_settings"]
