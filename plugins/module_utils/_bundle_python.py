# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Python packages for hosts without an index: what ``pip download`` brings, as a simple index (PEP 503) of plain files."""

from __future__ import annotations

import html
import re
import typing as t
import urllib.parse
import zipfile

from ansible_collections.llmops.dify_xinference.plugins.module_utils._bundle import BundleError


def normalized(name: str) -> str:
    """As PEP 503 writes names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def project_of(file: str) -> tuple[str, str]:
    """(normalized name, version) of a wheel or a source archive; raises :class:`BundleError` for another file."""
    wheel = re.match(r"^(?P<name>[A-Za-z0-9._]+)-(?P<version>[^-]+)(?:-\d[^-]*)?-[^-]+-[^-]+-[^-]+\.whl$", file)
    archive = re.match(r"^(?P<name>.+)-(?P<version>\d[^-]*?)\.(?:tar\.gz|zip)$", file)
    found = wheel or archive
    if not found:
        raise BundleError(f"{file} is no Python package.")
    return normalized(found.group("name")), found.group("version")


def pages(files: t.Mapping[str, str]) -> dict[str, str]:
    """The pages of the index by path below it. ``files``: SHA-256 by file name; they lie in ``files`` beside ``simple``."""
    projects: dict[str, list[str]] = {}
    for file in files:
        projects.setdefault(project_of(file)[0], []).append(file)
    head = '<!DOCTYPE html><html><head><meta name="pypi:repository-version" content="1.0"></head><body>\n'
    result = {"simple/index.html": head + "".join(f'<a href="{name}/">{name}</a>\n' for name in sorted(projects)) + "</body></html>\n"}
    for name, members in projects.items():
        links = "".join(f'<a href="../../files/{urllib.parse.quote(file)}#sha256={files[file]}">{html.escape(file)}</a>\n' for file in sorted(members))
        result[f"simple/{name}/index.html"] = head + links + "</body></html>\n"
    return result


def locked_requirements(files: t.Mapping[str, str]) -> str:
    """A requirements file that lets pip take these files and no others."""
    hashes: dict[str, list[str]] = {}
    for file, digest in files.items():
        hashes.setdefault("==".join(project_of(file)), []).append(digest)
    return "".join(f"{name} {' '.join('--hash=sha256:' + digest for digest in sorted(found))}\n" for name, found in sorted(hashes.items()))


def requirements_of_plugin(package: str) -> list[str]:
    """The lines of a Dify plugin's ``requirements.txt``, or of the dependencies in its ``pyproject.toml``; none when it has neither."""
    try:
        with zipfile.ZipFile(package) as archive:
            names = set(archive.namelist())
            if "requirements.txt" in names:
                text = archive.read("requirements.txt").decode("utf-8")
                return [line for line in (raw.partition(" #")[0].strip() for raw in text.splitlines()) if line and line[0] not in "#-"]
            if "pyproject.toml" not in names:
                return []
            text = archive.read("pyproject.toml").decode("utf-8")
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise BundleError(f"{package} is no plugin package: {error}") from error
    # tomllib came with Python 3.11; a list of plain strings needs no parser.
    project = re.search(r"^\[project\]\s*$(.*?)(?=^\[|\Z)", text, re.M | re.S)
    listed = re.search(r"^dependencies\s*=\s*\[(.*?)^\s*\]|^dependencies\s*=\s*\[([^\n]*)\]", project.group(1) if project else "", re.M | re.S)
    return re.findall(r"""["']([^"'\n]+)["']""", next((part for part in listed.groups() if part), "")) if listed else []


def download_command(
    python: str, folder: str, requirements: t.Sequence[str], python_version: str, platforms: t.Sequence[str], index_url: str = "", locked: str = ""
) -> list[str]:
    """``pip download`` for another machine's Python. ``locked``: a requirements file that names every package with its hash."""
    command = [python, "-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--quiet", "--dest", folder, "--only-binary=:all:"]
    command += ["--python-version", python_version, "--implementation", "cp"]
    for platform in platforms:
        command += ["--platform", platform]
    if index_url:
        command += ["--index-url", index_url]
    if locked:
        return command + ["--no-deps", "--require-hashes", "--requirement", locked]
    return command + ["--", *requirements]


__all__ = ["download_command", "locked_requirements", "normalized", "pages", "project_of", "requirements_of_plugin"]
