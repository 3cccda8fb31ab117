# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Bring one file to the disk: resumed where it broke off, verified before it gets its name."""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
import typing as t
import zipfile

from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_http import PASSING, Answer, NoAnswer, Web, pause_before_retry
from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_plan import File, problem_with_path
from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_sources import LOCAL, Refused, Source, explain, file_url

CHUNK = 1024 * 1024


class Digest:
    """The digest of a file as its bytes come; a copy of a local file has none."""

    def __init__(self, wanted: str, size: int | None) -> None:
        self.kind = wanted.partition(":")[0]
        self.wanted = wanted
        self._hash: t.Any = None
        if self.kind == "sha256":
            self._hash = hashlib.sha256()
        elif self.kind == "git":
            # git's own name of a blob. It protects against damage, as the hub offers nothing better for small files.
            self._hash = hashlib.sha1(usedforsecurity=False)
            self._hash.update(b"blob %d\0" % (size or 0))

    def update(self, data: bytes) -> None:
        if self._hash is not None:
            self._hash.update(data)

    @property
    def found(self) -> str:
        return self.wanted if self._hash is None else f"{self.kind}:{self._hash.hexdigest()}"

    @property
    def right(self) -> bool:
        return self.found == self.wanted


def digest_of(path: str, wanted: str) -> Digest:
    """Read a whole file."""
    digest = Digest(wanted, os.path.getsize(path))
    with open(path, "rb") as handle:
        while True:
            data = handle.read(CHUNK)
            if not data:
                return digest
            digest.update(data)


def size_of(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


class Fetch:
    """The download of one file into ``part``. ``travelled``: bytes that came over the network, ``resumed``: those that lay there."""

    def __init__(self, web: Web, source: Source, commit: str, file: File, part: str) -> None:
        self.web, self.source, self.commit, self.file, self.part = web, source, commit, file, part
        self.travelled = 0
        self.resumed = size_of(part)
        self._failures = 0
        self._furthest = self.resumed

    def run(self) -> None:
        """Raises :class:`Refused` or NoAnswer, with what came kept for the next run unless it is wrong."""
        wrong = 0
        while True:
            if not self._attempt():
                continue
            digest = digest_of(self.part, self.file.digest)
            if digest.right:
                return
            os.unlink(self.part)
            self.resumed, self._furthest = 0, 0
            wrong += 1
            if wrong > 1:
                raise Refused(
                    f"{self.file.path} of {self.source.what} came whole, twice, with the wrong content: {self.file.digest} is wanted, {digest.found} came. "
                    "A cache on the way may be damaged, or the listing and the files are not of one version."
                )

    def _attempt(self) -> bool:
        """One request; whether the file is whole. What passes is waited for, what does not is raised."""
        have = size_of(self.part)
        if self.file.size is not None and have > self.file.size:
            os.unlink(self.part)
            have = 0
        if have and have == self.file.size:
            return True
        headers = self.source.headers()
        if have:
            headers["Range"] = f"bytes={have}-"
        wait = None
        try:
            answer = self._open(headers, have)
            try:
                if answer.status not in PASSING:
                    return self._receive(answer, have)
                wait = answer.headers.get("retry-after")
                problem = NoAnswer(f"the server answers {answer.status}")
            finally:
                answer.close()
        except NoAnswer as broken:
            problem = broken
        here = size_of(self.part)
        if here > self._furthest:  # it went on: that is no failure in a row
            self._furthest, self._failures = here, 0
        self._failures += 1
        if problem.final or self._failures > self.web.retries:
            raise NoAnswer(f"{self.file.path} of {self.source.what}: {problem}; {here} bytes of it are kept, and the next run goes on from there.", True)
        self.web.sleep(pause_before_retry(self._failures, wait))
        return False

    def _open(self, headers: dict[str, str], have: int) -> Answer:
        if self.source.kind != LOCAL:
            return self.web.open(file_url(self.source, self.commit, self.file.path), headers, self.source.token)
        try:
            handle = open(os.path.join(self.source.src, self.file.path), "rb")  # noqa: SIM115 - closed with the answer
            handle.seek(have)
        except OSError as problem:
            raise Refused(f"{self.source.src}/{self.file.path} cannot be read: {problem.strerror}") from problem
        return Answer(206 if have else 200, {"content-range": f"bytes {have}-/*"} if have else {}, handle)

    def _receive(self, answer: Answer, have: int) -> bool:
        expected = self.file.size
        length = answer.headers.get("content-length", "")
        if answer.status == 416:
            os.unlink(self.part)  # the partial file is of something else
            raise NoAnswer("the server has no such range")
        if answer.status == 206:
            start = re.match(r"bytes (\d+)-", answer.headers.get("content-range", ""))
            if not start or int(start.group(1)) != have:
                raise Refused(f"{self.file.path} of {self.source.what}: the server sent another range than the one it was asked for.")
        elif answer.status == 200:
            have = 0  # the server knows no ranges: from the beginning
        else:
            raise Refused(explain(self.source, answer, answer.read(65536), self.file.path))
        if expected is None and length.isdigit():
            expected = have + int(length)
        with open(self.part, "r+b" if have else "wb") as handle:
            handle.seek(have)
            handle.truncate()
            if answer.status == 200:
                self.resumed = 0
            done = have
            while True:
                data = answer.read(CHUNK)
                if not data:
                    break
                done += len(data)
                if expected is not None and done > expected:
                    raise Refused(f"{self.file.path} of {self.source.what} is longer than the {expected} bytes that were announced.")
                handle.write(data)
                self.travelled += len(data)
            handle.flush()
            os.fsync(handle.fileno())
        if expected is not None and done < expected:
            raise NoAnswer(f"the connection ended after {done} of {expected} bytes")
        return True


def unpack(archive: str, name: str, folder: str) -> list[str]:
    """Unpack an archive into an empty folder and return its files' paths; raises :class:`Refused` for one that reaches out of it.

    One folder that holds everything is left out, as archives of repositories have it.
    """
    paths: list[str] = []
    try:
        if name.endswith(".zip"):
            with zipfile.ZipFile(archive) as pack:
                members = [entry for entry in pack.infolist() if not entry.is_dir()]
                prefix = _common([entry.filename for entry in members])
                for entry in members:
                    with pack.open(entry) as stream:
                        paths.append(_write(stream, entry.filename[len(prefix) :], folder))
        else:
            with tarfile.open(archive) as pack_tar:
                files = [entry for entry in pack_tar.getmembers() if not entry.isdir()]
                other = [entry.name for entry in files if not entry.isfile()]
                if other:
                    raise Refused(f"{name}: {other[0]} is neither a file nor a folder; links are not unpacked.")
                names = [re.sub(r"^(\./)+", "", entry.name) for entry in files]
                prefix = _common(names)
                for entry_tar, path in zip(files, names):
                    stream_tar = pack_tar.extractfile(entry_tar)
                    if stream_tar is not None:
                        paths.append(_write(stream_tar, path[len(prefix) :], folder))
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as problem:
        raise Refused(f"{name} is no archive that can be read: {problem}") from problem
    return paths


def _common(paths: t.Sequence[str]) -> str:
    first = paths[0].split("/", 1)[0] + "/" if paths and "/" in paths[0] else ""
    return first if first and all(path.startswith(first) for path in paths) else ""


def _write(stream: t.Any, path: str, folder: str) -> str:
    problem = problem_with_path(path)
    if problem:
        raise Refused(f"in the archive: {problem}")
    target = os.path.join(folder, path)
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    with open(target, "wb") as handle:
        while True:
            data = stream.read(CHUNK)
            if not data:
                return path
            handle.write(data)


__all__ = ["Digest", "Fetch", "digest_of", "size_of", "unpack"]
