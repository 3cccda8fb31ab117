# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Registries beside Docker Hub: mirrors of each by ``hosts.toml``, and accounts in Docker's own ``config.json``. Pure.

Docker 29.0 and newer with the containerd image store reads ``/etc/docker/certs.d/<registry>/hosts.toml`` at each pull,
without a reload; the older store and older engines ignore it. Run on 29.8.
"""

from __future__ import annotations

import base64
import json
import re
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_packages import at_least

MARK = "# Written by llmops.dify_xinference.docker_registries; changes are overwritten."
HOSTS_MINIMUM = "29.0"
# How Docker Hub is called in config.json, whatever it is called elsewhere.
HUB_KEY = "https://index.docker.io/v1/"
_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
_REGISTRY = re.compile(r"^[a-z0-9.-]+(:[0-9]+)?$", re.IGNORECASE)


class RegistryError(Exception):
    """A registry, mirror or account is not usable as declared; the text says which and why."""


def folder_name(registry: str) -> str:
    """The folder below certs.d: a port is set off as Docker does it."""
    if not _REGISTRY.match(registry):
        raise RegistryError(f"{registry} is no registry; write it as in the name of an image, say ghcr.io or registry.example.com:5000.")
    return registry


def hosts_toml(registry: str, mirrors: t.Sequence[t.Mapping[str, t.Any]]) -> str:
    """The file for one registry: its mirrors in order, then itself. A URL with a path (a prefix service) needs ``override_path``."""
    server = "registry-1.docker.io" if registry in _HUB else registry
    lines = [MARK, f'server = "https://{server}"']
    for mirror in mirrors:
        url = str(mirror.get("url") or "").rstrip("/")
        if not re.match(r"^https?://[^/@\s\"]+(/[^\s\"]*)?$", url):
            shown = url.rsplit("@", maxsplit=1)[-1]
            raise RegistryError(f"mirror of {registry}: {shown or 'nothing'} is no URL of the form https://host[:port][/path] without a password.")
        lines += ["", f'[host."{url}"]', '  capabilities = ["pull", "resolve"]']
        if mirror.get("override_path", url.count("/") > 2):
            lines.append("  override_path = true")
    return "\n".join(lines) + "\n"


def hosts_refusal(version: str, containerd_store: bool) -> str:
    """Why an engine would not read the files; empty when it would."""
    if not at_least(version, HOSTS_MINIMUM):
        return f"Docker {version or 'of unknown version'} reads no hosts.toml; {HOSTS_MINIMUM} is needed"
    if not containerd_store:
        return "this Docker keeps images in its old store, which reads no hosts.toml (features: containerd-snapshotter)"
    return ""


def plan_hosts(wanted: t.Mapping[str, t.Sequence[t.Mapping[str, t.Any]]], found: t.Mapping[str, str]) -> dict[str, str | None]:
    """Registry to the text that its file shall have, ``None`` to remove it; only what differs, and only files of ours are removed.

    ``found`` is the text of each ``hosts.toml`` that is there, by registry. Raises :class:`RegistryError` for a file of somebody else.
    """
    changes: dict[str, str | None] = {}
    for registry, mirrors in wanted.items():
        text = hosts_toml(folder_name(registry), mirrors)
        there = found.get(registry)
        if there is not None and not there.startswith(MARK):
            raise RegistryError(f"the hosts.toml of {registry} is somebody else's; move it away, or do not declare {registry}.")
        if there != text:
            changes[registry] = text
    for registry, text in found.items():
        if registry not in wanted and text.startswith(MARK):
            changes[registry] = None
    return changes


def config_key(registry: str) -> str:
    """The name under which Docker keeps the account."""
    return HUB_KEY if not registry or registry in _HUB else registry


def logged_in(config_text: str, registry: str, username: str, password: str) -> bool:
    """Whether config.json has this very account already. One in a credential helper cannot be read here, and counts as none."""
    try:
        entry = json.loads(config_text or "{}").get("auths", {}).get(config_key(registry)) or {}
        return base64.b64decode(entry.get("auth") or "").decode("utf-8") == f"{username}:{password}"
    except (ValueError, AttributeError):
        return False


def without_logins(config_text: str, registries: t.Iterable[str]) -> str | None:
    """config.json without the accounts of these registries, or ``None`` when it has none of them."""
    try:
        document = json.loads(config_text or "{}")
        there = [config_key(registry) for registry in registries if config_key(registry) in document.get("auths", {})]
    except (ValueError, AttributeError, TypeError) as error:
        raise RegistryError(f"Docker's config.json is not readable: {error}. Correct it or move it away.") from error
    if not there:
        return None
    for key in there:
        del document["auths"][key]
    return json.dumps(document, indent="\t") + "\n"


__all__ = [
    "HOSTS_MINIMUM",
    "MARK",
    "RegistryError",
    "config_key",
    "folder_name",
    "hosts_refusal",
    "hosts_toml",
    "logged_in",
    "plan_hosts",
    "without_logins",
]
