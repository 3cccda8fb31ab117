# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plugin packages (.difypkg): unique identifier, declaration, signature. Used by the plugin daemon and by build.py."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import zipfile
from typing import Any

# The real daemon checks an RSA signature of langgenius in the zip comment. This stand-in cannot make or check those:
# it takes a comment made with this public constant as "signed by langgenius".
_STANDIN_SIGNING_KEY = b"dify stand-in marketplace signature"


class PackageError(Exception):
    """The package cannot be used; the text is what the daemon answers."""


def _load_yaml(text: str, name: str) -> dict[str, Any]:
    """YAML through PyYAML where it is installed; without it only files written as JSON (which is YAML) are read."""
    try:
        value = json.loads(text)
    except ValueError:
        try:
            import yaml
        except ImportError:
            raise PackageError(f"failed to read {name}: this stand-in reads only files in JSON form, as its own package has") from None
        value = yaml.safe_load(text)
    if not isinstance(value, dict):
        raise PackageError(f"failed to read {name}: not a mapping")
    return value


def _open(content: bytes) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(io.BytesIO(content))
    except zipfile.BadZipFile:
        raise PackageError("File is not a zip file") from None


def checksum(content: bytes) -> str:
    """SHA-256 over sha256(path) + sha256(content) of the files, sorted by path."""
    with _open(content) as archive:
        total = hashlib.sha256()
        for name in sorted(info.filename for info in archive.infolist() if not info.is_dir()):
            total.update(hashlib.sha256(name.encode()).digest())
            total.update(hashlib.sha256(archive.read(name)).digest())
    return total.hexdigest()


def signature(content: bytes) -> bytes:
    """The zip comment that this stand-in takes for a valid signature."""
    sign = hmac.new(_STANDIN_SIGNING_KEY, checksum(content).encode(), hashlib.sha256).hexdigest()
    return json.dumps({"signature": sign, "by": "stand-in"}).encode()


def is_signed(content: bytes) -> bool:
    with _open(content) as archive:
        return hmac.compare_digest(archive.comment, signature(content))


def decode(content: bytes) -> tuple[str, dict[str, Any]]:
    """(unique identifier, declaration as the API shows it); raises PackageError."""
    with _open(content) as archive:
        names = archive.namelist()
        if "manifest.yaml" not in names:
            raise PackageError("manifest.yaml not found in the package")
        manifest = _load_yaml(archive.read("manifest.yaml").decode(), "manifest.yaml")
        provider = None
        for path in manifest.get("plugins", {}).get("models") or []:
            if path not in names:
                raise PackageError(f"{path} not found in the package")
            provider = _load_yaml(archive.read(path).decode(), path)
    for field in ("version", "author", "name"):
        if not isinstance(manifest.get(field), str):
            raise PackageError(f"manifest.yaml: {field} is missing")
    identifier = f"{manifest['author']}/{manifest['name']}:{manifest['version']}@{checksum(content)}"
    return identifier, _declaration(manifest, provider)


def plugin_id(identifier: str) -> str:
    """``author/name`` of a unique identifier."""
    return identifier.split(":", 1)[0]


def version(identifier: str) -> str:
    return identifier.split(":", 1)[1].split("@", 1)[0]


def _declaration(manifest: dict[str, Any], provider: dict[str, Any] | None) -> dict[str, Any]:
    permission = manifest.get("resource", {}).get("permission", {})
    kinds = ("enabled", "llm", "text_embedding", "rerank", "tts", "speech2text", "moderation")
    model = permission.get("model")
    plugins = manifest.get("plugins", {})
    return {
        "version": manifest["version"],
        "author": manifest["author"],
        "name": manifest["name"],
        "description": manifest.get("description", {}),
        "icon": manifest.get("icon", ""),
        "icon_dark": manifest.get("icon_dark"),
        "label": manifest.get("label", {}),
        "category": "model" if provider else "extension",
        "created_at": manifest.get("created_at", ""),
        "resource": {
            "memory": manifest.get("resource", {}).get("memory", 0),
            "permission": {
                "tool": permission.get("tool"),
                "model": {kind: bool(model.get(kind, False)) for kind in kinds} if model else None,
                "node": permission.get("node"),
                "endpoint": permission.get("endpoint"),
                "storage": permission.get("storage"),
            },
        },
        "plugins": {kind: plugins.get(kind) or [] for kind in ("tools", "models", "endpoints", "datasources", "triggers")},
        "tags": manifest.get("tags", []),
        "repo": manifest.get("repo"),
        "verified": False,
        "tool": None,
        "model": provider_declaration(provider) if provider else None,
        "endpoint": None,
        "agent_strategy": None,
        "datasource": None,
        "trigger": None,
        "meta": {
            "minimum_dify_version": manifest.get("meta", {}).get("minimum_dify_version"),
            "version": manifest.get("meta", {}).get("version", "0.0.1"),
        },
    }


def provider_declaration(provider: dict[str, Any]) -> dict[str, Any]:
    """What the API makes of a provider's YAML file."""
    schema = provider.get("model_credential_schema") or {}
    forms = [
        {
            "variable": form["variable"],
            "label": form.get("label", {}),
            "type": form.get("type", "text-input"),
            "required": bool(form.get("required", False)),
            "default": form.get("default"),
            "options": form.get("options"),
            "placeholder": form.get("placeholder"),
            "max_length": form.get("max_length", 0),
            "show_on": form.get("show_on", []),
        }
        for form in schema.get("credential_form_schemas", [])
    ]
    return {
        "provider": provider["provider"],
        "provider_name": provider.get("provider_name", ""),
        "label": provider.get("label", {}),
        "description": provider.get("description"),
        "icon_small": provider.get("icon_small"),
        "icon_large": provider.get("icon_large"),
        "icon_small_dark": provider.get("icon_small_dark"),
        "icon_large_dark": provider.get("icon_large_dark"),
        "background": provider.get("background"),
        "help": provider.get("help"),
        "supported_model_types": provider.get("supported_model_types", []),
        "configurate_methods": provider.get("configurate_methods", []),
        "models": [],
        "provider_credential_schema": None,
        "model_credential_schema": {"model": schema.get("model", {}), "credential_form_schemas": forms},
        "position": {},
    }
