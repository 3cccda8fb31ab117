# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""The images of a Compose file without Compose: for a machine that has neither an engine nor the hosts at hand."""

from __future__ import annotations

import re
import tarfile
import typing as t

try:
    import yaml
except ImportError:  # pragma: no cover
    yaml = None  # type: ignore[assignment]

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


def images_of_release(archive: str, settings: t.Mapping[str, str]) -> list[str]:
    """The images that a release starts with these settings. Raises :class:`BundleError`."""
    if yaml is None:
        raise BundleError(
            "PyYAML is missing on this machine; it came with Ansible's own Python: set ansible_python_interpreter to {{ ansible_playbook_python }}."
        )
    found: dict[str, str] = {}
    try:
        with tarfile.open(archive) as stream:
            for member in stream:
                for name in ("docker/docker-compose.yaml", "docker/.env.example"):
                    content = stream.extractfile(member) if member.isfile() and ("/" + member.name).endswith("/" + name) else None
                    if content:
                        found.setdefault(name, content.read().decode("utf-8"))
        document = yaml.safe_load(found["docker/docker-compose.yaml"])
    except (tarfile.TarError, KeyError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BundleError(f"{archive} is no release of Dify: {error}") from error
    text = found.get("docker/.env.example", "")
    lines = "".join(f"{name}='{value}'\n" for name, value in settings.items())
    # Before the release's own: what refers to a setting has to see the one that replaces it.
    values = parse_env(lines + "".join(line + "\n" for line in text.splitlines() if line.partition("=")[0].strip() not in settings))
    return images(document, values)


__all__ = ["images", "images_of_release", "interpolate", "parse_env"]
