# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""A bundle: a folder with everything that a fleet without an internet connection is installed from.

``bundle.json`` lists every file with its size and SHA-256, and what the files are for; ``bundle.sha256`` holds the checksum of
``bundle.json``, in the format of ``sha256sum``, so that one line vouches for all of it.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import typing as t

MANIFEST = "bundle.json"
CHECKSUM = "bundle.sha256"
FORMAT = 1
_CHUNK = 1024 * 1024


class BundleError(Exception):
    """The bundle cannot be made or used; the text names the file and what to do."""


class Problems(t.NamedTuple):
    """Paths below the bundle. ``damaged``: the size or the content is another one; ``unknown``: nobody listed it."""

    missing: t.List[str]
    damaged: t.List[str]
    unknown: t.List[str]

    def sentences(self) -> list[str]:
        words = [("is missing", self.missing), ("is damaged: it is not what was put there", self.damaged)]
        return [f"{path} {what}" for what, paths in words for path in paths]


def sha256_of(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while True:
            data = stream.read(_CHUNK)
            if not data:
                return digest.hexdigest()
            digest.update(data)


def files_of(root: str) -> list[str]:
    """Paths of all files below ``root``, sorted, without the two that describe the others. Parts of downloads are no files yet."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if os.path.join(folder, name) != os.path.join(root, ".part")]
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")
            if path not in (MANIFEST, CHECKSUM):
                found.append(path)
    return sorted(found)


def _parallel(function: t.Callable[[str], t.Any], items: t.Sequence[str]) -> list[t.Any]:
    # hashlib lets other threads run; more readers than that only make a disk seek.
    with concurrent.futures.ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, items))


def describe(root: str) -> dict[str, dict[str, t.Any]]:
    """``files`` of a manifest: size in bytes and SHA-256 by path."""
    paths = files_of(root)
    digests = _parallel(lambda path: sha256_of(os.path.join(root, path)), paths)
    return {path: {"size": os.path.getsize(os.path.join(root, path)), "sha256": digest} for path, digest in zip(paths, digests)}


def text_of(manifest: t.Mapping[str, t.Any]) -> str:
    return json.dumps(manifest, indent=2, sort_keys=True) + "\n"


def write(root: str, manifest: t.Mapping[str, t.Any]) -> None:
    """Write the manifest and its checksum, the checksum last."""
    text = text_of(manifest)
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    for name, content in ((MANIFEST, text), (CHECKSUM, f"{digest}  {MANIFEST}\n")):
        with open(os.path.join(root, name + ".new"), "w", encoding="utf-8") as stream:
            stream.write(content)
        os.replace(os.path.join(root, name + ".new"), os.path.join(root, name))


def read(root: str) -> dict[str, t.Any]:
    """The manifest, checked against its checksum. Raises :class:`BundleError`."""
    try:
        with open(os.path.join(root, MANIFEST), "rb") as stream:
            text = stream.read()
        with open(os.path.join(root, CHECKSUM), encoding="utf-8", errors="replace") as stream:
            wanted = (stream.read().split() or [""])[0]
    except OSError as error:
        raise BundleError(f"{root} is no bundle: {error.filename}: {error.strerror}. bundle.yml makes one on a connected machine.") from error
    if hashlib.sha256(text).hexdigest() != wanted:
        raise BundleError(f"{root}/{MANIFEST} is damaged: {CHECKSUM} says another checksum. Copy the bundle again.")
    try:
        manifest = json.loads(text.decode("utf-8"))
        form = manifest["format"]
        for path in manifest["files"]:
            if path.startswith("/") or ".." in path.split("/"):
                raise BundleError(f"{root}/{MANIFEST} lists {path!r}, which is outside the bundle.")
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{root}/{MANIFEST} cannot be read: {error}. Copy the bundle again.") from error
    if form != FORMAT:
        raise BundleError(f"{root}/{MANIFEST} has format {form}, and {FORMAT} is known here: use the collection's version that made the bundle.")
    return manifest


def compare(root: str, manifest: t.Mapping[str, t.Any], whole: bool = True) -> Problems:
    """What is wrong with the files. ``whole``: read their content; without it sizes have to do."""
    wanted = manifest["files"]
    there = set(files_of(root))
    missing = sorted(path for path in wanted if path not in there)
    present = sorted(path for path in wanted if path in there)
    damaged = [path for path in present if os.path.getsize(os.path.join(root, path)) != wanted[path]["size"]]
    if whole:
        same_size = [path for path in present if path not in set(damaged)]
        digests = _parallel(lambda path: sha256_of(os.path.join(root, path)), same_size)
        damaged += [path for path, digest in zip(same_size, digests) if digest != wanted[path]["sha256"]]
    return Problems(missing, sorted(damaged), sorted(there - set(wanted)))


# Most files of a bundle are configurations, manifests and small packages: carried alone, each costs more than its bytes.
_SMALL = 16 * 1024 * 1024


def small_of(manifest: t.Mapping[str, t.Any], names: t.Iterable[str]) -> list[str]:
    """Those of these files that are better carried together."""
    return [name for name in names if manifest["files"][name]["size"] <= _SMALL]


__all__ = ["BundleError", "CHECKSUM", "FORMAT", "MANIFEST", "Problems", "compare", "describe", "files_of", "read", "sha256_of", "small_of", "text_of", "write"]
