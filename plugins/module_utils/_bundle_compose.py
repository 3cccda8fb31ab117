# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""The images of a Compose file without Compose: for a machine that has neither an engine nor the hosts at hand."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._bundle import BundleError

_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?:(:?[-?+])((?:[^{}]|\{[^{}]*\})*))?\}|([A-Za-z_]\w*)|(\$))")


def interpolate(text: str, values: t.Mapping[str, str]) -> str:
    """Compose's ``${NAME:-default}`` and its relatives. Raises :class:`BundleError` for a value that has to be there and is not."""

    def one(match: re.Match[str]) -> str:
        name, form, word, bare, dollar = match.groups()
        if dollar:
            return "$"
        value = values.get(name or bare)
        there = bool(value) if form and form.startswith(":") else value is not None
        if form in (":-", "-"):
            return str(value) if there else interpolate(word, values)
        if form in (":+", "+"):
            return interpolate(word, values) if there else ""
        if form in (":?", "?") and not there:
            raise BundleError(f"the Compose file wants a value for {name}: {word}")
        return str(value or "")

    return _VARIABLE.sub(one, text)


def parse_env(text: str) -> dict[str, str]:
    """A ``.env`` file. What refers to values above is filled in."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        found = re.match(r"^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*$", line)
        if not found:
            continue
        name, value = found.groups()
        if value[:1] == "'" and value.endswith("'") and len(value) > 1:
            values[name] = value[1:-1]
            continue
        value = value[1:-1] if value[:1] == '"' and value.endswith('"') and len(value) > 1 else re.sub(r"\s+#.*$", "", value)
        values[name] = interpolate(value, values)
    return values


def images(document: t.Any, values: t.Mapping[str, str]) -> list[str]:
    """The images of the services that the profiles in ``COMPOSE_PROFILES`` start, sorted."""
    profiles = {name.strip() for name in values.get("COMPOSE_PROFILES", "").split(",") if name.strip()}
    services = document.get("services") if isinstance(document, dict) else None
    if not isinstance(services, dict):
        raise BundleError("the Compose file has no services.")
    found = set()
    for service in services.values():
        wanted = set(service.get("profiles") or [])
        if service.get("image") and (not wanted or "*" in profiles or wanted & profiles):
            found.add(interpolate(str(service["image"]), values))
    return sorted(found)


__all__ = ["images", "interpolate", "parse_env"]
