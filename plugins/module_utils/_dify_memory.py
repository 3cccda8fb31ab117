# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""What a host remembers between runs: salted fingerprints of the secrets it registered, and the session of its last login."""

from __future__ import annotations

import json
import secrets as _random
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._secrets import write_private


class FileMemory:
    """Fingerprints in a JSON file (``None``: nothing is remembered). Written by :meth:`save`, and only when changed.

    A missing or damaged file is no error: then secrets are compared by their mask alone, and the file is written anew.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.salt = ""
        self._entries: dict[str, str] = {}
        self._dirty = False
        if path:
            try:
                with open(path, encoding="utf-8") as handle:
                    data = json.load(handle)
                self.salt = str(data["salt"])
                self._entries = {str(key): str(value) for key, value in data["fingerprints"].items()}
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                self._entries = {}
        if not self.salt:
            self.salt = _random.token_hex(16)

    def get(self, label: str) -> str | None:
        return self._entries.get(label)

    def put(self, label: str, value: str | None) -> None:
        if self._entries.get(label) == value:
            return
        self._dirty = True
        if value is None:
            self._entries.pop(label, None)
        else:
            self._entries[label] = value

    def save(self) -> None:
        if self.path and self._dirty:
            about = "Fingerprints (HMAC-SHA-256) of secrets registered in Dify, so that a rotated one is noticed. Safe to delete."
            data = {"about": about, "salt": self.salt, "fingerprints": self._entries}
            write_private(self.path, json.dumps(data, indent=2, sort_keys=True) + "\n")
            self._dirty = False


class SessionFile:
    """The session of a login, kept (0600) for the next run, so that it needs no login (``None``: nothing is kept).

    It belongs to one account of one Dify: another one's is not used. A missing or damaged file is no error.
    """

    def __init__(self, path: str | None, url: str, email: str | None) -> None:
        self.path = path
        self.owner = {"url": url.rstrip("/"), "email": email}

    def load(self) -> dict[str, t.Any] | None:
        if not (self.path and self.owner["email"]):
            return None
        try:
            with open(self.path, encoding="utf-8") as handle:
                data = json.load(handle)
            session = data["session"]
            if data["owner"] != self.owner or not all(isinstance(session[key], dict) for key in ("headers", "cookies")):
                return None
            return {
                "version": str(session["version"]),
                "headers": session["headers"],
                "cookies": session["cookies"],
                "refresh_token": session["refresh_token"],
                "workspace_id": session.get("workspace_id"),
            }
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, session: dict[str, t.Any]) -> None:
        """Keep a session. One that cannot be kept costs the next run a login, and this run nothing."""
        if not self.path:
            return
        about = "A session of Dify's console. Safe to delete: the next run signs in again."
        try:
            write_private(self.path, json.dumps({"about": about, "owner": self.owner, "session": session}, indent=2, sort_keys=True) + "\n")
        except OSError:
            pass


__all__ = ["FileMemory", "SessionFile"]
