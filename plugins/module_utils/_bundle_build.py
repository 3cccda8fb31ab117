# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Makes a bundle: what was asked for is resolved once into a lock, and what the lock names is fetched.

The lock says for every name which bytes it stood for: digests of images, checksums of packages and files, commits of weights. A run
with a lock brings those bytes again or fails; what upstream calls by that name now is reported, and followed only when told to.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import shutil
import sys
import typing as t
import urllib.parse

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _bundle_apt as apt
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _bundle_images as oci
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _bundle_python as python
from ansible_collections.llmops.dify_xinference.plugins.module_utils._bundle import FORMAT, MANIFEST, BundleError, files_of, sha256_of
from ansible_collections.llmops.dify_xinference.plugins.module_utils._bundle_lock import SECTIONS
from ansible_collections.llmops.dify_xinference.plugins.module_utils._command import Runner
from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_fetch import Fetch, digest_of
from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_http import Answer, NoAnswer, Web, shown
from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_plan import File
from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_sources import HTTP, LOCAL, Refused, Source, file_url, list_files

PART = ".part"
_PIP_TIMEOUT = 3600.0


class Item(t.NamedTuple):
    """One file of the bundle. ``wanted``: ``sha256:...`` or ``git:...``; where it comes from is ``data``, or ``url`` (a path, for a local file)."""

    path: str
    wanted: str
    size: t.Optional[int] = None
    url: str = ""
    token: t.Callable[[], t.Optional[str]] = lambda: None
    data: t.Optional[bytes] = None


class _Download(Fetch):
    """One address, without a listing around it."""

    def __init__(self, web: Web, item: Item, part: str) -> None:
        local = "://" not in item.url
        source = Source(LOCAL, src=os.path.dirname(item.url)) if local else Source(HTTP, url=item.url)
        super().__init__(web, source, "", File(os.path.basename(item.url) if local else item.path, item.size, item.wanted), part)
        self._item = item

    def _open(self, headers: dict[str, str], have: int) -> Answer:
        if self.source.kind == LOCAL:
            return super()._open(headers, have)
        return self.web.open(self._item.url, headers, self._item.token())


def generated(path: str, text: str) -> Item:
    data = text.encode("utf-8")
    return Item(path, "sha256:" + hashlib.sha256(data).hexdigest(), len(data), data=data)


def weights_folder(entry: t.Mapping[str, t.Any]) -> str:
    """Below ``weights``: one folder for each source, repository and revision, whatever it is called on the hosts."""
    words = [str(entry.get(key) or "") for key in ("source", "repo", "revision")]
    patterns = json.dumps([entry.get("allow") or [], entry.get("ignore") or [], entry.get("url") or ""])
    return "--".join(word.replace("/", "--") for word in words if word) + "--" + hashlib.sha256(patterns.encode()).hexdigest()[:8]


class Builder:
    """``path``: the bundle's folder; ``lock``: what was resolved so far, and is changed in place."""

    def __init__(
        self,
        path: str,
        lock: dict[str, t.Any],
        web: Web,
        registry: oci.Registry,
        run: Runner,
        platform: str = "linux/amd64",
        concurrency: int = 4,
        check: bool = False,
    ) -> None:
        self.path, self.lock, self.web, self.registry, self.run = path, lock, web, registry, run
        self.platform, self.concurrency, self.check = platform, concurrency, check
        self.drift: list[str] = []
        self.fetched: list[str] = []
        self.resumed = 0
        self.bytes = 0
        self.problems: list[str] = []
        self.added: list[str] = []
        lock.setdefault("format", FORMAT)
        for section in SECTIONS:
            lock.setdefault(section, {})

    def _at(self, path: str) -> str:
        return os.path.join(self.path, path)

    def _add(self, section: str, name: str, value: t.Any) -> t.Any:
        self.lock[section][name] = value
        self.added.append(f"{section}: {name}")
        return value

    # Resolving

    def images(self, names: t.Sequence[str]) -> list[Item]:
        """The blobs of all images, and the index that names them."""
        items: dict[str, Item] = {}
        chosen: dict[str, str] = {}
        for name in sorted(set(names)):
            try:
                digest = self._image(name)
                for blob in self.registry.walk(name, digest, self.platform, self._known):
                    path = "images/blobs/" + blob.digest.replace(":", "/")
                    if blob.data:
                        items[path] = Item(path, blob.digest, blob.size, data=blob.data)
                    else:
                        items.setdefault(path, Item(path, blob.digest, blob.size, self.registry.blob_url(blob), self._token_of(blob.repository)))
                chosen[name] = digest
            except BundleError as error:
                self.problems.append(str(error))
        manifests = {item.wanted: item.data for item in items.values() if item.data is not None}
        index = oci.index(chosen, lambda digest: manifests[digest] or b"")
        return [
            *items.values(),
            generated("images/oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"})),
            generated("images/index.json", json.dumps(index, indent=2, sort_keys=True)),
        ]

    def _token_of(self, repository: str) -> t.Callable[[], t.Optional[str]]:
        """Asked for when the download begins: a token does not live as long as a bundle takes."""
        return lambda: self.registry.token(repository) or None

    def _image(self, name: str) -> str:
        locked = self.lock["images"].get(name)
        try:
            upstream = self.registry.digest(name)
        except BundleError as error:
            if not locked:
                raise
            self.drift.append(f"{error} The lock's {locked} is taken.")
            return str(locked)
        if not locked:
            return str(self._add("images", name, upstream))
        if upstream != locked:
            self.drift.append(f"{name} is {upstream} upstream now; the lock says {locked}, and that is taken.")
        return str(locked)

    def _known(self, digest: str) -> bytes | None:
        path = self._at("images/blobs/" + digest.replace(":", "/"))
        if os.path.isfile(path) and digest_of(path, digest).right:
            with open(path, "rb") as stream:
                return stream.read()
        return None

    def debs(self, wanted: t.Sequence[t.Mapping[str, t.Any]]) -> list[Item]:
        """Folders with packages and what they need, each with its index."""
        items: list[Item] = []
        for folder in wanted:
            name, asked = str(folder["name"]), {"packages": list(folder["packages"]), "sources": [dict(source) for source in folder["sources"]]}
            locked = self.lock["debs"].get(name)
            try:
                if not locked or locked["asked"]["packages"] != asked["packages"]:
                    found = apt.closure(asked["packages"], [package for source in asked["sources"] for package in self._apt_index(source)])
                    locked = self._add("debs", name, {"asked": asked, "packages": [package._asdict() for package in found]})
            except BundleError as error:
                self.problems.append(f"{name}: {error}")
                continue
            packages = [apt.Package(**package) for package in locked["packages"]]
            items += [Item(f"debs/{name}/{package.file}", "sha256:" + package.sha256, package.size, package.url) for package in packages]
            items.append(generated(f"debs/{name}/Packages", apt.index_of(packages)))
        return items

    def _apt_index(self, source: t.Mapping[str, t.Any]) -> list[apt.Package]:
        import gzip
        import lzma

        base, suite = str(source["url"]).rstrip("/"), str(source.get("suite") or "/")
        folders = (
            [suite.strip("/")] if suite.endswith("/") else [f"dists/{suite}/{name}/binary-{source.get('arch') or 'amd64'}" for name in source["components"]]
        )
        packages = []
        for folder in folders:
            url = f"{base}/{folder}".rstrip("/") + "/Packages"
            said = ""
            for suffix, unpack in ((".xz", lzma.decompress), (".gz", gzip.decompress), ("", bytes)):
                try:
                    answer, body = self.web.ask(url + suffix)
                except NoAnswer as error:
                    raise BundleError(f"{shown(url)} does not come: {error}") from error
                if answer.ok:
                    packages += apt.parse_index(unpack(body).decode("utf-8", "replace"), base)
                    break
                said = str(answer.status)
            else:
                raise BundleError(f"{shown(url)} is not there, packed or plain ({said}).")
        return packages

    def files(self, wanted: t.Sequence[t.Mapping[str, t.Any]]) -> list[Item]:
        """Single files by name. Without a checksum anywhere the first download says what is right from then on."""
        items = []
        for file in wanted:
            name, url = str(file["name"]), str(file["url"])
            locked = self.lock["files"].get(name)
            given = str(file.get("sha256") or "").rpartition(":")[2].lower()
            try:
                if not locked or locked["url"] != url or (given and given != locked["sha256"]):
                    if self.check:  # what it is shows only when it is here
                        self.added.append(f"files: {name}")
                        continue
                    item = Item("files/" + name, "sha256:" + given if given else "", None, url)
                    self._fetch(item)
                    digest = sha256_of(self._at(item.path))
                    locked = self._add("files", name, {"url": url, "sha256": digest, "size": os.path.getsize(self._at(item.path))})
            except BundleError as error:
                self.problems.append(f"{name}: {error}")
                continue
            items.append(Item("files/" + name, "sha256:" + locked["sha256"], locked["size"], url))
        return items

    def python(self, wanted: t.Sequence[t.Mapping[str, t.Any]], index_url: str = "") -> list[Item]:
        """Wheels for the Pythons of the plugin daemon and of Xinference, and a simple index over all of them."""
        files: dict[str, str] = {}
        for entry in wanted:
            name = str(entry["python_version"])
            asked = {"requirements": sorted(entry["requirements"]), "platforms": list(entry["platforms"])}
            if not asked["requirements"]:
                continue
            locked = self.lock["python"].get(name)
            fresh = not locked or locked["asked"] != asked
            if self.check and fresh:
                self.added.append(f"python: {name}")
                continue
            try:
                if fresh or (not self.check and not all(self._right(f"python/files/{file}", "sha256:" + digest) for file, digest in locked["files"].items())):
                    brought = self._pip(name, asked, {} if fresh else locked["files"], index_url)
                    if fresh:
                        locked = self._add("python", name, {"asked": asked, "files": brought})
            except BundleError as error:
                self.problems.append(f"Python packages for {name}: {error}")
                continue
            files.update(locked["files"])
        if not files:
            return []
        items = [Item(f"python/files/{file}", "sha256:" + digest, data=None) for file, digest in files.items()]
        return items + [generated("python/" + path, text) for path, text in python.pages(files).items()]

    def _pip(self, version: str, asked: t.Mapping[str, t.Any], locked: t.Mapping[str, str], index_url: str) -> dict[str, str]:
        folder = self._at(f"{PART}/python-{version}")
        os.makedirs(folder, exist_ok=True)
        names = ""
        if locked:
            names = self._at(f"{PART}/requirements-{version}.txt")
            with open(names, "w", encoding="utf-8") as stream:
                stream.write(python.locked_requirements(locked))
        status, out, err = self.run(
            python.download_command(sys.executable, folder, asked["requirements"], version, asked["platforms"], index_url, names), _PIP_TIMEOUT
        )
        if status != 0:
            raise BundleError(f"pip download ended with {status}: {(err or out).strip()[-600:]}")
        brought = {}
        os.makedirs(self._at("python/files"), exist_ok=True)
        for file in sorted(os.listdir(folder)):
            if locked and file not in locked:
                continue
            brought[file] = sha256_of(os.path.join(folder, file))
            self.bytes += os.path.getsize(os.path.join(folder, file))
            self.fetched.append(f"python/files/{file}")
            os.replace(os.path.join(folder, file), self._at(f"python/files/{file}"))
        return brought

    def weights(self, wanted: t.Sequence[tuple[dict[str, t.Any], Source]]) -> list[Item]:
        """The files of repositories at the commit that the lock says. ``wanted``: what identifies each, and its source."""
        items: list[Item] = []
        for entry, source in wanted:
            folder = weights_folder(entry)
            locked = self.lock["weights"].get(folder)
            try:
                if not locked:
                    listing = list_files(self.web, source)
                    files = [{"path": file.path, "size": file.size, "digest": file.digest} for file in listing.files]
                    locked = self._add("weights", folder, {**entry, "commit": listing.commit, "files": files})
            except (Refused, NoAnswer) as error:
                self.problems.append(str(error))
                continue
            for file in locked["files"]:
                url, token = file_url(source, locked["commit"], file["path"]), source.token
                items.append(Item(f"weights/{folder}/{file['path']}", file["digest"], file["size"], url, lambda token=token: token))  # type: ignore[misc]
        return items

    # Fetching

    def _right(self, path: str, wanted: str) -> bool:
        return os.path.isfile(self._at(path)) and digest_of(self._at(path), wanted).right

    def _fetch(self, item: Item) -> None:
        """Bring one file to its place, from where an earlier run stopped. Raises :class:`BundleError`."""
        target = self._at(item.path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if item.data is not None:
            with open(target + ".new", "wb") as stream:
                stream.write(item.data)
            os.replace(target + ".new", target)
            self.bytes += len(item.data)
        else:
            if not item.url:
                raise BundleError(f"{item.path} did not come")
            part = self._at(f"{PART}/{hashlib.sha256((item.path + item.wanted).encode()).hexdigest()[:32]}")
            os.makedirs(os.path.dirname(part), exist_ok=True)
            download = _Download(self.web, item, part)
            self.resumed += download.resumed
            try:
                download.run()
            except (Refused, NoAnswer, OSError) as error:
                raise BundleError(str(error)) from error
            self.bytes += download.travelled
            os.replace(part, target)
        self.fetched.append(item.path)

    def bring_one(self, item: Item) -> None:
        """Fetch one file now; a problem is kept with the others."""
        try:
            self._fetch(item)
        except BundleError as error:
            self.problems.append(str(error))

    def bring(self, items: t.Sequence[Item]) -> dict[str, dict[str, t.Any]]:
        """Fetch what is missing or damaged, remove what is not wanted any more; ``files`` of the manifest."""
        with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, self.concurrency)) as pool:
            right = list(pool.map(lambda item: self._right(item.path, item.wanted), items))
            missing = sorted((item for item, there in zip(items, right) if not there), key=lambda item: -(item.size or 0))
            if self.check:
                self.fetched = [item.path for item in missing]
                return {}
            futures = [pool.submit(self._fetch, item) for item in missing]
            for future in futures:
                error = future.exception()
                if isinstance(error, BundleError):
                    self.problems.append(str(error))
                elif error:
                    raise error
        if self.problems:
            return {}
        wanted = {item.path: item for item in items}
        for path in files_of(self.path):
            if path not in wanted:
                os.unlink(self._at(path))
        shutil.rmtree(self._at(PART), ignore_errors=True)
        files = {}
        for path, item in wanted.items():
            kind, _colon, digest = item.wanted.partition(":")
            files[path] = {"size": os.path.getsize(self._at(path)), "sha256": digest if kind == "sha256" else sha256_of(self._at(path))}
        return files

    def manifest(self, files: t.Mapping[str, t.Any], names: t.Mapping[str, str]) -> dict[str, t.Any]:
        """What ``bundle.json`` says. ``names``: roles of single files, as ``dify_release``."""
        weights = []
        for folder, entry in self.lock["weights"].items():
            listed = [
                {"path": file["path"], "size": files[f"weights/{folder}/{file['path']}"]["size"], "sha256": files[f"weights/{folder}/{file['path']}"]["sha256"]}
                for file in entry["files"]
                if f"weights/{folder}/{file['path']}" in files
            ]
            if listed:
                weights.append({**{key: entry.get(key) for key in ("source", "repo", "revision", "allow", "ignore", "url")}, "folder": folder, "files": listed})
        return {
            "format": FORMAT,
            "files": dict(files),
            "images": dict(self.lock["images"]),
            "debs": sorted({path.split("/")[1] for path in files if path.startswith("debs/")}),
            "python": any(path.startswith("python/") for path in files),
            "names": dict(names),
            "weights": weights,
        }


def name_of(url: str) -> str:
    """The file name at the end of an address."""
    return urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2]) or "file"


__all__ = ["Builder", "Item", "MANIFEST", "generated", "name_of", "weights_folder"]
