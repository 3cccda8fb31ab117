# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Where weights come from: the few public routes of Hugging Face and ModelScope, plain HTTP folders, local folders.

Hugging Face (Hub API documentation, and what huggingface_hub 1.16 does): ``GET /api/models/{repo}/revision/{revision}?blobs=true``
answers with ``sha`` and ``siblings`` (``rfilename``, ``size``, ``blobId``, ``lfs.sha256``); from 1000 files on only
``GET /api/models/{repo}/tree/{revision}?recursive=true`` is complete, page by page. ``GET /{repo}/resolve/{commit}/{path}`` is the
file, often behind a redirect to another host. Errors carry ``X-Error-Code``: ``RepoNotFound`` (401 without a token), ``GatedRepo``,
``RevisionNotFound``, ``EntryNotFound``.

ModelScope (what modelscope 1.40 does): ``GET /api/v1/models/{repo}/repo/files?Revision=&Recursive=True`` answers with
``Data.Files`` (``Path``, ``Type``, ``Size``, ``Sha256``, ``Revision``), silently cut at 3000; ``GET
/api/v1/models/{repo}/repo?Revision=&FilePath=`` is the file. The token goes as ``Authorization`` and as the cookie ``m_session_id``.
"""

from __future__ import annotations

import json
import os
import re
import typing as t
import urllib.parse

from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import shorten
from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_http import Answer, Web, shown
from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_plan import File, Listing, parse_checksums, problem_with_path, selected

HUGGINGFACE, MODELSCOPE, HTTP, LOCAL = "huggingface", "modelscope", "http", "local"
ENDPOINTS = {HUGGINGFACE: "https://huggingface.co", MODELSCOPE: "https://modelscope.cn"}
REVISIONS = {HUGGINGFACE: "main", MODELSCOPE: "master"}
_SIBLINGS_ARE_ALL = 1000
_MODELSCOPE_CUT = 3000


class Refused(Exception):
    """A source says no, for good. The message says what was asked for, what was said, and what to do."""


class Source(t.NamedTuple):
    """One model's source. ``url``: of a folder or an archive (http); ``src``: a folder on the host (local)."""

    kind: str
    repo: str = ""
    revision: str = ""
    endpoint: str = ""
    token: t.Optional[str] = None
    url: str = ""
    src: str = ""
    files: t.Tuple[File, ...] = ()
    checksums: str = ""
    allow: t.Tuple[str, ...] = ()
    ignore: t.Tuple[str, ...] = ()

    @property
    def what(self) -> str:
        if self.kind in ENDPOINTS:
            return f"{self.repo} at revision {self.revision} on {shown(self.endpoint)}"
        return shown(self.url) if self.kind == HTTP else self.src

    def headers(self) -> dict[str, str]:
        # Whole bytes as they lie there: a compressed answer has another length and no ranges.
        headers = {"Accept-Encoding": "identity"}
        if self.kind == MODELSCOPE and self.token:
            headers["Cookie"] = "m_session_id=" + self.token
        return headers


def source_of(declared: t.Mapping[str, t.Any], given: t.Mapping[str, t.Any]) -> tuple[Source, str]:
    """A declared model's source, and what is wrong with the declaration; nothing when that is empty.

    ``given``: the module's endpoints and tokens.
    """
    kind = str(declared.get("source") or HUGGINGFACE)
    repo, url, src = str(declared.get("repo") or ""), str(declared.get("url") or ""), str(declared.get("src") or "")
    allow, ignore = tuple(declared.get("allow") or ()), tuple(declared.get("ignore") or ())
    token = given.get(f"{kind}_token") or None
    if kind in ENDPOINTS:
        endpoint = str(given.get(f"{kind}_endpoint") or ENDPOINTS[kind]).rstrip("/")
        if "://" not in endpoint:
            endpoint = "https://" + endpoint  # MODELSCOPE_DOMAIN is a bare name
        revision = str(declared.get("revision") or REVISIONS[kind])
        problem = "" if re.match(r"^[\w.-]+(/[\w.-]+)?$", repo) else f"repo is {repo!r}: a repository is wanted, as owner/name"
        return Source(kind, repo, revision, endpoint, token, allow=allow, ignore=ignore), problem
    if kind == LOCAL:
        return Source(kind, src=src, allow=allow, ignore=ignore), "" if src else "src is missing: the folder on the host"
    digests = [str(entry.get("sha256") or "").lower() for entry in declared.get("files") or []]
    files = tuple(File(str(entry["path"]), entry.get("size"), "sha256:" + str(entry["sha256"]).lower()) for entry in declared.get("files") or [])
    source = Source(kind, token=token, url=url, files=files, checksums=str(declared.get("checksums") or "SHA256SUMS"), allow=allow, ignore=ignore)
    if is_archive(source):
        digests = [str(declared.get("sha256") or "").lower()]
        name = urllib.parse.urlsplit(url).path.rpartition("/")[2]
        source = source._replace(files=(File(name, None, "sha256:" + digests[0]),))
    if not re.match(r"^https?://[^/]", url):
        return source, f"url is {shown(url)!r}: an http or https address is wanted"
    if any(not re.match(r"^[0-9a-f]{64}$", digest) for digest in digests):
        return source, "sha256 has to be 64 hexadecimal digits" + (" (an archive needs one)" if is_archive(source) else "")
    return source, ""


def _json(body: bytes) -> t.Any:
    try:
        return json.loads(body.decode("utf-8", "replace"))
    except ValueError:
        return None


def _words(answer: Answer, body: bytes) -> str:
    """What the server says about an error, in short."""
    document = _json(body)
    said = answer.headers.get("x-error-message") or ""
    if not said and isinstance(document, dict):
        said = str(document.get("error") or document.get("Message") or document.get("message") or "")
    return shorten(said, 200)


def explain(source: Source, answer: Answer, body: bytes, path: str = "") -> str:
    """A status that no retry changes, as a sentence with the next step."""
    what = f"{path} of {source.what}" if path else source.what
    status, code = answer.status, answer.headers.get("x-error-code", "")
    said = _words(answer, body)
    tail = f" ({status}{': ' + said if said else ''})"
    token = f"{source.kind}_token"
    if status == 407 or answer.headers.get("x-squid-error"):
        return f"{what}: the proxy on the way says no{tail}. Ask for this address to be let through, or set another endpoint."
    if code == "GatedRepo":
        more = f"set {token} to a token of an account that accepted its terms" if not source.token else "the token's account has not accepted its terms yet"
        return f"{what} is gated{tail}: accept its terms on its page, {more}."
    if code == "RevisionNotFound":
        return f"{source.repo} has no revision {source.revision!r}{tail}. A branch, a tag or a commit is wanted."
    if code == "RepoNotFound" or (status in (401, 404) and source.kind in ENDPOINTS and not path):
        more = "" if source.token else f" If it is private, set {token}."
        return f"there is no repository {source.repo} on {shown(source.endpoint)}, or it is not to be seen{tail}. Is the name right?{more}"
    if status in (401, 403):
        return f"{what}: access is denied{tail}. " + ("The token is not enough." if source.token else f"Set {token}, if it needs one.")
    if status in (404, 410):
        return f"{what} does not exist{tail}."
    return f"{what}: unexpected answer{tail}."


def quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")


def file_url(source: Source, commit: str, path: str) -> str:
    """Where a file is fetched from. A pinned commit, where the hub names one: a branch may move in the middle."""
    if source.kind == HUGGINGFACE:
        return f"{source.endpoint}/{source.repo}/resolve/{quoted(commit or source.revision)}/{urllib.parse.quote(path)}"
    if source.kind == MODELSCOPE:
        return f"{source.endpoint}/api/v1/models/{source.repo}/repo?Revision={quoted(source.revision)}&FilePath={quoted(path)}"
    if is_archive(source):
        return source.url
    return source.url.rstrip("/") + "/" + urllib.parse.quote(path)


def is_archive(source: Source) -> bool:
    return source.kind == HTTP and bool(re.search(r"\.(tar|tar\.gz|tgz|tar\.bz2|tar\.xz|zip)$", urllib.parse.urlsplit(source.url).path))


def list_files(web: Web, source: Source) -> Listing:
    """The wanted files of a source; raises :class:`Refused`, or NoAnswer of the network. One request, for most."""
    listing = {HUGGINGFACE: _huggingface, MODELSCOPE: _modelscope, HTTP: _http, LOCAL: _local}[source.kind](web, source)
    bad = [problem for problem in (problem_with_path(file.path) for file in listing.files) if problem]
    if bad:
        raise Refused(f"{source.what}: {bad[0]}; nothing of it is fetched.")
    files = listing.files if is_archive(source) else [file for file in listing.files if selected(file.path, source.allow, source.ignore)]
    if not files:
        raise Refused(f"{source.what}: {len(listing.files)} files, and allow and ignore leave none of them.")
    return Listing(listing.commit, sorted(files))


def _ask_json(web: Web, source: Source, url: str) -> tuple[Answer, t.Any]:
    answer, body = web.ask(url, source.headers(), source.token)
    if not answer.ok:
        raise Refused(explain(source, answer, body))
    document = _json(body)
    if document is None:
        raise Refused(f"{shown(url)} answered, but not with JSON: is the endpoint right, or does a portal answer in its place?")
    return answer, document


def _huggingface(web: Web, source: Source) -> Listing:
    base = f"{source.endpoint}/api/models/{source.repo}"
    _answer, document = _ask_json(web, source, f"{base}/revision/{quoted(source.revision)}?blobs=true")
    siblings = document.get("siblings") if isinstance(document, dict) else None
    if not isinstance(siblings, list):
        raise Refused(f"{source.what}: the answer lists no files: is the endpoint a Hugging Face Hub?")
    if document.get("gated") and not source.token:
        # The list is open to all, the files are not: said now, in check mode too.
        raise Refused(f"{source.what} is gated: accept its terms on its page, and set {source.kind}_token to a token of an account that accepted them.")
    commit = str(document.get("sha") or "")
    files = []
    if len(siblings) < _SIBLINGS_ARE_ALL:
        for entry in siblings:
            files.append(_git_file(str(entry.get("rfilename")), entry.get("size"), entry.get("lfs"), "sha256", entry.get("blobId")))
        return Listing(commit, files)
    url: str | None = f"{base}/tree/{quoted(commit or source.revision)}?recursive=true"
    while url:
        answer, page = _ask_json(web, source, url)
        for entry in page:
            if entry.get("type") == "file":
                files.append(_git_file(str(entry.get("path")), entry.get("size"), entry.get("lfs"), "oid", entry.get("oid")))
        following = re.search(r'<([^>]+)>;\s*rel="next"', answer.headers.get("link", ""))
        url = urllib.parse.urljoin(url, following.group(1)) if following else None
    return Listing(commit, files)


def _git_file(path: str, size: t.Any, lfs: t.Any, key: str, blob: t.Any) -> File:
    if isinstance(lfs, dict) and lfs.get(key):
        return File(path, int(lfs.get("size") or size), "sha256:" + str(lfs[key]).rpartition(":")[2].lower())
    if not blob or size is None:
        raise Refused(f"the hub says neither a checksum nor a size of {path}: this endpoint cannot be used.")
    return File(path, int(size), "git:" + str(blob))


def _modelscope(web: Web, source: Source) -> Listing:
    url = f"{source.endpoint}/api/v1/models/{source.repo}/repo/files?Revision={quoted(source.revision)}&Recursive=True"
    _answer, document = _ask_json(web, source, url)
    data = document.get("Data") if isinstance(document, dict) else None
    entries = data.get("Files") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        said = shorten(str(document.get("Message") or ""), 200) if isinstance(document, dict) else ""
        raise Refused(f"{source.what}: the answer lists no files{': ' + said if said else ''}.")
    if len(entries) >= _MODELSCOPE_CUT:
        raise Refused(f"{source.what}: it has {len(entries)} entries, and ModelScope lists no more in one answer: use another source.")
    blobs = [entry for entry in entries if entry.get("Type") != "tree"]
    newest: dict[str, t.Any] = max(blobs, key=lambda entry: entry.get("CommittedDate") or 0, default={})
    files = []
    for entry in blobs:
        if not entry.get("Sha256"):
            raise Refused(f"{source.what}: no checksum of {entry.get('Path')}.")
        files.append(File(str(entry.get("Path")), int(entry.get("Size") or 0), "sha256:" + str(entry["Sha256"]).lower()))
    return Listing(str(newest.get("Revision") or ""), files)


def _http(web: Web, source: Source) -> Listing:
    if source.files:
        # One archive, or files that are named one by one.
        return Listing("", list(source.files))
    url = urllib.parse.urljoin(source.url.rstrip("/") + "/", source.checksums)
    answer, body = web.ask(url, source.headers(), source.token)
    if not answer.ok:
        raise Refused(explain(source, answer, body, source.checksums))
    try:
        return Listing("", [File(path, None, "sha256:" + digest) for path, digest in parse_checksums(body.decode("utf-8", "replace"))])
    except ValueError as problem:
        raise Refused(f"{shown(url)}: {problem}.") from problem


def _local(web: Web, source: Source) -> Listing:
    files = []
    for folder, _folders, names in os.walk(source.src):
        for name in names:
            full = os.path.join(folder, name)
            stat = os.stat(full)
            files.append(File(os.path.relpath(full, source.src).replace(os.sep, "/"), stat.st_size, f"mtime:{stat.st_mtime_ns}"))
    if not files:
        raise Refused(f"{source.src} is no folder with files on this host.")
    return Listing("", files)


def measure(web: Web, source: Source, listing: Listing, missing: t.Collection[str]) -> Listing:
    """Sizes that a list of checksums leaves out, one question for each missing file: the disk is checked before anything comes."""
    files = []
    for file in listing.files:
        if file.size is None and file.path in missing:
            answer, body = web.ask(file_url(source, "", file.path), source.headers(), source.token, "HEAD")
            if not answer.ok:
                raise Refused(explain(source, answer, body, file.path))
            length = answer.headers.get("content-length", "")
            file = file._replace(size=int(length) if length.isdigit() else None)
        files.append(file)
    return Listing(listing.commit, files)


__all__ = [
    "ENDPOINTS",
    "HTTP",
    "HUGGINGFACE",
    "LOCAL",
    "MODELSCOPE",
    "REVISIONS",
    "Refused",
    "Source",
    "explain",
    "file_url",
    "is_archive",
    "list_files",
    "measure",
]
