# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Bring a list of models' weights to a host: look, plan, check the room, fetch side by side, verify, remember."""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import json
import os
import shutil
import threading
import time
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._difference import Difference
from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_fetch import Fetch, digest_of, size_of, unpack
from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_http import NoAnswer, Web
from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_plan import (
    FETCH,
    KEEP,
    MANIFEST,
    PARTIAL,
    REFUSE,
    File,
    Listing,
    Plan,
    decide,
    intact,
    is_commit,
    partial_name,
    problem_with_name,
    recorded,
    same_request,
    to_read,
)
from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_sources import (
    HTTP,
    LOCAL,
    Refused,
    Source,
    is_archive,
    list_files,
    measure,
)

GIB = 1024**3


class Model:
    """One model on its way. ``reason`` is its verdict, ``failed`` whether the verdict is a failure."""

    def __init__(self, name: str, source: Source, root: str, checksum: bool = False) -> None:
        self.name, self.source, self.checksum = name, source, checksum
        self.folder = os.path.join(root, name)
        self.listing = Listing("", [])
        self.plan = Plan([], [], [])
        self.manifest: dict[str, t.Any] = {}
        self.action, self.reason, self.failed = KEEP, "", False
        self.warning = ""
        self.missing_bytes, self.fetched, self.resumed, self.seconds = 0, 0, 0, 0.0
        self._lock = threading.Lock()

    @property
    def request(self) -> dict[str, t.Any]:
        """What was asked for: another request is answered by no manifest of this one. Never a token."""
        source = self.source
        return {
            "source": source.kind,
            "repo": source.repo,
            "revision": source.revision,
            "url": source.url.rpartition("@")[2],
            "src": source.src,
            "checksums": source.checksums,
            "files": [file.digest for file in source.files],
            "allow": list(source.allow),
            "ignore": list(source.ignore),
        }

    @property
    def archive(self) -> bool:
        return is_archive(self.source)

    @property
    def partial(self) -> str:
        return os.path.join(self.folder, PARTIAL)

    def refuse(self, reason: str) -> None:
        self.action, self.reason, self.failed = REFUSE, reason, True

    def found(self, paths: t.Iterable[str]) -> dict[str, tuple[int, int]]:
        result = {}
        for path in paths:
            with contextlib.suppress(OSError):
                stat = os.stat(os.path.join(self.folder, path))
                result[path] = (stat.st_size, stat.st_mtime_ns)
        return result

    def partial_sizes(self) -> dict[str, int]:
        names = [partial_name(file) for file in self.plan.fetch]
        return {name: size_of(os.path.join(self.partial, name)) for name in names}

    # Looking

    def look(self, web: Web) -> None:
        """Find out what is missing. Nothing is asked when the answer cannot have changed and all of it is here."""
        problem = problem_with_name(self.name)
        if problem:
            self.refuse(problem)
            return
        self.manifest = self._read_manifest()
        entries = recorded(self.manifest)
        there = self.found(entries)
        whole = bool(self.manifest.get("complete")) and same_request(self.manifest, self.request)
        whole = whole and bool(entries) and all(intact(entry, there.get(path)) for path, entry in entries.items())
        pinned = is_commit(self.source.revision) or (self.source.kind == HTTP and bool(self.source.files))
        if whole and pinned and not self.checksum:
            self._kept(entries)
            return
        try:
            if self.archive:
                self._look_at_archive(web, whole, entries)
                return
            self.listing = list_files(web, self.source)
            found = self.found([file.path for file in self.listing.files] + list(entries))
            verified = set()
            for file in to_read(self.listing.files, self.manifest, found, self.checksum):
                if digest_of(os.path.join(self.folder, file.path), file.digest).right:
                    verified.add(file.path)
                else:
                    found.pop(file.path)
            kept = {"files": {path: entry for path, entry in entries.items() if path in found}}
            self.plan = decide(self.listing.files, kept, found, verified)
            if self.source.kind == HTTP:
                self.listing = measure(web, self.source, self.listing, {file.path for file in self.plan.fetch})
                sizes = {file.path: file for file in self.listing.files}
                self.plan = self.plan._replace(fetch=[sizes[file.path] for file in self.plan.fetch])
        except (Refused, NoAnswer) as no:
            if not whole:
                self.refuse(str(no))
                return
            # A hub that is down, or has dropped a repository, must not stop what was fetched and verified before.
            self._kept(entries)
            self.warning = f"{self.name}: all of it is here, but its source could not be asked for something newer: {no}"
            return
        except OSError as problem_met:
            self.refuse(f"{self.folder}: {problem_met}")
            return
        adopted = any(path not in entries or entries[path].get("mtime_ns") != found[path][1] for path in verified)
        if not self.plan.fetch and not self.plan.remove and not adopted and whole:
            self._kept(entries)
            return
        self._describe(len(verified) if adopted else 0)

    def _kept(self, entries: t.Mapping[str, t.Any]) -> None:
        self.listing = Listing(str(self.manifest.get("commit") or ""), [])
        self.plan = Plan([], [File(path, entry.get("size"), str(entry.get("digest"))) for path, entry in sorted(entries.items())], [])
        self.action, self.reason = KEEP, "all of it is here and verified"

    def _look_at_archive(self, web: Web, whole: bool, entries: t.Mapping[str, t.Any]) -> None:
        if whole and all(digest_of(os.path.join(self.folder, path), str(entry.get("digest"))).right for path, entry in entries.items()):
            self._kept(entries)
            return
        self.listing = measure(web, self.source, list_files(web, self.source), {file.path for file in self.source.files})
        self.plan = Plan(list(self.listing.files), [], [])
        self._describe(0)

    def _describe(self, adopted: int) -> None:
        self.action = FETCH
        parts = []
        partial = self.partial_sizes()
        self.missing_bytes = self.plan.bytes_to_come(partial)
        if self.plan.fetch:
            partly = sum(partial.values())
            parts.append(
                f"{len(self.plan.fetch)} of {len(self.listing.files)} files are missing or differ" + (f"; {partly} bytes of them are here" if partly else "")
            )
        if adopted:
            parts.append(f"{adopted} files that were here are the wanted ones")
        if self.plan.remove:
            parts.append(f"{len(self.plan.remove)} files of an earlier revision go")
        self.reason = "; ".join(parts) or "what is here is recorded"

    # Doing

    def fetch_one(self, web: Web, file: File) -> None:
        part = os.path.join(self.partial, partial_name(file))
        os.makedirs(self.partial, mode=0o755, exist_ok=True)
        fetch = Fetch(web, self.source, self.listing.commit, file, part)
        try:
            fetch.run()
        finally:
            with self._lock:
                self.fetched += fetch.travelled
                self.resumed += fetch.resumed
        if self.archive:
            self._unpack(part, file)
        else:
            self._into_place(part, file.path, file.digest)

    def _into_place(self, part: str, path: str, digest: str) -> None:
        target = os.path.join(self.folder, path)
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        os.chmod(part, 0o644)
        os.replace(part, target)
        self._record([File(path, None, digest)], complete=False)

    def _unpack(self, part: str, file: File) -> None:
        fresh = os.path.join(self.partial, "unpacked")
        shutil.rmtree(fresh, ignore_errors=True)
        os.makedirs(fresh, mode=0o755)
        paths = unpack(part, file.path, fresh)
        for path in paths:
            full = os.path.join(fresh, path)
            self._into_place(full, path, digest_of(full, "sha256:").found)
        self.listing = Listing("", [File(path, None, recorded(self.manifest)[path]["digest"]) for path in paths])
        self.plan = Plan([], list(self.listing.files), sorted(set(recorded(self.manifest)) - set(paths)))

    def finish(self) -> None:
        """All files are here: what is left over of an earlier revision goes, and the manifest says that this is all."""
        for path in self.plan.remove:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self.folder, path))
        shutil.rmtree(self.partial, ignore_errors=True)
        self._record(self.listing.files, complete=True)

    def _record(self, files: t.Sequence[File], complete: bool) -> None:
        with self._lock:
            entries = {} if complete else recorded(self.manifest)
            for file in files:
                stat = os.stat(os.path.join(self.folder, file.path))
                entries[file.path] = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "digest": file.digest}
            self.manifest = {
                "about": "What llmops.dify_xinference.model_weights fetched and verified here. Remove it to have everything read again.",
                "request": self.request,
                "commit": self.listing.commit,
                "complete": complete,
                "files": entries,
            }
            temporary = os.path.join(self.folder, MANIFEST + ".new")
            with open(temporary, "w", encoding="utf-8") as handle:
                json.dump(self.manifest, handle, indent=1, sort_keys=True)
                handle.flush()
                if complete:  # what is lost of the others is read again
                    os.fsync(handle.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, os.path.join(self.folder, MANIFEST))

    def _read_manifest(self) -> dict[str, t.Any]:
        try:
            with open(os.path.join(self.folder, MANIFEST), encoding="utf-8") as handle:
                found = json.load(handle)
        except (OSError, ValueError):
            return {}  # everything is read again: a damaged manifest costs time, never data
        return found if isinstance(found, dict) else {}

    # Saying

    def row(self) -> dict[str, t.Any]:
        files = self.listing.files or self.plan.keep
        return {
            "name": self.name,
            "path": self.folder,
            "source": self.source.kind,
            "repo": self.source.repo,
            "revision": self.source.revision,
            "commit": self.listing.commit,
            "action": self.action,
            "changed": self.action == FETCH or self.fetched > 0,
            "failed": self.failed,
            "reason": self.reason,
            "files": len(files),
            "bytes": sum(file.size or 0 for file in files),
            "missing": [file.path for file in self.plan.fetch],
            "missing_bytes": self.missing_bytes,
            "fetched_bytes": self.fetched,
            "resumed_bytes": self.resumed,
            "seconds": round(self.seconds, 1),
        }


def nearest_existing(path: str) -> str:
    while not os.path.exists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def check_room(models: t.Sequence[Model], root: str, reserve_gib: float) -> None:
    """Refuse what the disk cannot take, before a byte comes; models that still fit go on. An archive needs its room twice."""
    stat = os.statvfs(nearest_existing(root))
    free = stat.f_bavail * stat.f_frsize - int(reserve_gib * GIB)
    for model in models:
        if model.action != FETCH:
            continue
        need = model.missing_bytes * (2 if model.archive else 1)
        if need > max(free, 0):
            model.refuse(
                f"{need / GIB:.2f} GiB have to come, and {root} has {max(free, 0) / GIB:.2f} GiB left for them "
                f"(with {reserve_gib:g} GiB kept free and what comes before it). Free some space, use a larger disk, or leave files out with ignore."
            )
        else:
            free -= need


def difference_of(models: t.Sequence[Model]) -> Difference:
    """What differs on the disk, file by file: what check mode predicts is what a run does."""
    difference = Difference()
    for model in models:
        if model.action != FETCH:
            continue
        before = recorded(model.manifest)
        for file in model.plan.fetch:
            old = before.get(file.path)
            size = "unknown size" if file.size is None else f"{file.size} bytes"
            difference.add(f"{model.name}/{file.path}", f"{size}, {file.digest}", f"{old.get('size')} bytes, {old.get('digest')}" if old else None)
        for path in model.plan.remove:
            difference.add(f"{model.name}/{path}", None, f"{before[path].get('size')} bytes")
        if not model.plan.fetch and not model.plan.remove:
            difference.add(f"{model.name}/{MANIFEST}", f"{len(model.listing.files)} files", f"{len(before)} files" if before else None)
    return difference


@contextlib.contextmanager
def only_one(root: str) -> t.Iterator[None]:
    """Two runs on one host come one after the other: the second finds everything there."""
    os.makedirs(root, mode=0o755, exist_ok=True)
    with open(os.path.join(root, ".model_weights.lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def look_at(models: t.Sequence[Model], web: Web, concurrency: int) -> None:
    with concurrent.futures.ThreadPoolExecutor(max(concurrency, 1)) as pool:
        list(pool.map(lambda model: model.look(web), models))


def fetch_all(models: t.Sequence[Model], web: Web, concurrency: int, clock: t.Callable[[], float] = time.monotonic) -> None:
    """Fetch what was planned, so many files at a time over all models; a model that fails does not stop the others."""
    started = clock()
    with concurrent.futures.ThreadPoolExecutor(max(concurrency, 1)) as pool:
        work = {}
        for model in models:
            if model.action == FETCH:
                for file in model.plan.fetch:
                    work[pool.submit(_fetch, model, web, file)] = model
        for future in concurrent.futures.as_completed(work):
            work[future].seconds = clock() - started
    for model in models:
        if model.action == FETCH and not model.failed:
            try:
                os.makedirs(model.folder, mode=0o755, exist_ok=True)
                model.finish()
            except OSError as problem:
                model.refuse(f"{model.folder}: {problem}")


def _fetch(model: Model, web: Web, file: File) -> None:
    if model.failed:
        return  # the reason holds for its other files as well, or the next run goes on with them
    try:
        model.fetch_one(web, file)
    except (Refused, NoAnswer) as problem:
        model.refuse(str(problem))
    except OSError as problem:
        model.refuse(f"{model.folder}: {problem}")


__all__ = ["LOCAL", "Model", "check_room", "difference_of", "fetch_all", "look_at", "only_one"]
