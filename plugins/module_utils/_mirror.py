# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Probe a registry mirror the way a pull uses it: version check, token, manifest, first bytes of a blob.

A mirror that answers the version check may still refuse every image, serve a web page for it, or hand out manifests
and refuse their blobs; each of these was seen in the field. What a class means for a pull was measured with both image
stores of Docker 29: a web page or wrong bytes break a pull for good, everything else makes Docker go on to the next one.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import platform
import re
import socket
import ssl
import time
import typing as t
import urllib.error
import urllib.parse
import urllib.request

OK = "ok"
SLOW = "slow"
THROTTLED = "throttled"
MISSING = "missing"
DENIED = "denied"
HTML = "html"
WRONG = "wrong"
DEAD = "dead"

# Worst last: the class of a mirror is the worst of what its images met, unless another image worked.
KEPT = (OK, SLOW, THROTTLED, MISSING)
MANIFEST_TYPES = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)
MANIFEST_LIMIT = 4 * 1024 * 1024
BLOB_BYTES = 1024
# An image's configuration is small enough to be fetched whole and held against its digest.
CONFIG_LIMIT = 1024 * 1024
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Answer(t.NamedTuple):
    """An HTTP answer; ``headers`` have lower-case names, ``body`` is cut at the limit asked for."""

    status: int
    headers: t.Dict[str, str]
    body: bytes


class NoAnswer(Exception):
    """Refused, unresolvable, timed out, no TLS: nothing came back."""


# (url, headers, timeout in seconds, limit in bytes) -> Answer; raises NoAnswer
Fetch = t.Callable[[str, t.Dict[str, str], float, int], Answer]


class Image(t.NamedTuple):
    """A repository as Docker Hub knows it, a tag or digest, and the digest that the tag has to have (empty when any will do)."""

    repository: str
    reference: str
    digest: str = ""


class Verdict(t.NamedTuple):
    """What a pull through this mirror would meet.

    ``seconds`` is the time of the whole probe, ``retry_after`` what a mirror that limits the rate asks to wait (0 when it
    does not say), ``digests`` the digest that it serves of each image by name.
    """

    url: str
    verdict: str
    reason: str
    seconds: float
    retry_after: int = 0
    digests: t.Dict[str, str] = {}

    @property
    def usable(self) -> bool:
        return self.verdict in KEPT


class _Refusal(Exception):
    def __init__(self, verdict: str, reason: str, retry_after: int = 0) -> None:
        self.retry_after = retry_after
        super().__init__(reason)
        self.verdict = verdict
        self.reason = reason


def parse_image(name: str) -> Image | None:
    """``xprobe/xinference:v4.1.0`` as Docker Hub sees it; ``None`` for an image of another registry, which mirrors do not serve."""
    rest, dummy, digest = name.partition("@")
    first, slash, remainder = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        if first not in ("docker.io", "index.docker.io"):
            return None
        rest = remainder
    head, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        head, tag = rest, digest or "latest"
    if "/" not in head:
        head = "library/" + head
    return Image(head, tag, digest if digest != tag else "")


def urllib_fetch(validate_certs: bool = True, use_proxy: bool = True) -> Fetch:
    """Fetch over urllib, reading no more than asked for: a mirror that ignores ``Range`` would send gigabytes."""
    context = ssl.create_default_context()
    if not validate_certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    handlers: list[t.Any] = [urllib.request.HTTPSHandler(context=context)]
    if not use_proxy:
        handlers.append(urllib.request.ProxyHandler({}))
    opener = urllib.request.build_opener(*handlers)

    def fetch(url: str, headers: dict[str, str], timeout: float, limit: int) -> Answer:
        try:
            request = urllib.request.Request(url)
            for name, value in headers.items():
                # Blobs are redirected to object stores, which refuse a foreign token.
                (request.add_unredirected_header if name == "Authorization" else request.add_header)(name, value)
            with opener.open(request, timeout=timeout) as answer:
                return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read(limit))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, {name.lower(): value for name, value in error.headers.items()}, error.read(min(limit, 4096)))
        except (socket.timeout, TimeoutError) as error:
            raise NoAnswer(f"no answer within {timeout:.0f} s") from error
        except urllib.error.URLError as error:
            reason = error.reason
            raise NoAnswer(f"no answer within {timeout:.0f} s" if isinstance(reason, (socket.timeout, TimeoutError)) else str(reason)) from error
        except Exception as error:  # http.client's errors, reset connections, bad URLs
            raise NoAnswer(str(error) or type(error).__name__) from error

    return fetch


def looks_like_html(answer: Answer) -> bool:
    """A parked domain, a captive portal or a block page."""
    if "text/html" in answer.headers.get("content-type", "").lower():
        return True
    return answer.body[:256].lstrip().lower().startswith((b"<!doctype html", b"<html"))


def _seconds(header: str) -> int:
    """``Retry-After`` as seconds, when it is a number of them."""
    return int(header) if header.isdigit() else 0


def whole_size(answer: Answer) -> int | None:
    """How long the blob is of which this is the beginning, by the answer's own word."""
    if answer.status == 206:
        total = answer.headers.get("content-range", "").rpartition("/")[2]
    else:
        total = answer.headers.get("content-length", "")
    return int(total) if total.isdigit() else None


def pick_platform(listed: t.Sequence[t.Mapping[str, t.Any]], machine: str) -> t.Mapping[str, t.Any]:
    """The entry of an index that this machine would pull; the first when none says so."""
    wanted = ("linux", _ARCHITECTURES.get(machine, machine))
    for entry in listed:
        named = entry.get("platform") or {}
        if (named.get("os"), named.get("architecture")) == wanted:
            return entry
    return listed[0]


def parse_challenge(header: str) -> dict[str, str]:
    """``Bearer realm="...",service="..."`` as a mapping; empty for another scheme."""
    scheme, dummy, rest = header.partition(" ")
    return dict(re.findall(r'(\w+)="([^"]*)"', rest)) if scheme.lower() == "bearer" else {}


class Probe:
    """One mirror, one budget of time: ``timeout`` seconds per request, ``total`` for everything."""

    def __init__(self, url: str, fetch: Fetch, timeout: float = 5.0, total: float = 15.0, clock: t.Callable[[], float] = time.monotonic) -> None:
        self.url = url.rstrip("/")
        self.fetch = fetch
        self.timeout = timeout
        self.total = total
        self.clock = clock
        self.started = clock()

    def seconds(self) -> float:
        return self.clock() - self.started

    def _get(self, url: str, headers: dict[str, str], limit: int) -> Answer:
        left = self.total - self.seconds()
        if left <= 0:
            raise _Refusal(DEAD, f"it took more than {self.total:.0f} s")
        try:
            return self.fetch(url, headers, min(self.timeout, left), limit)
        except NoAnswer as error:
            raise _Refusal(DEAD, str(error)) from error

    def _judge(self, what: str, answer: Answer) -> None:
        """Raise for every answer that is not the thing asked for."""
        # Before the status: a web page with 200 is the one answer that breaks pulls.
        if looks_like_html(answer) and answer.status < 400:
            raise _Refusal(HTML, f"it answers with a web page where {what} was asked for")
        if answer.status == 429:
            seconds = _seconds(answer.headers.get("retry-after", ""))
            raise _Refusal(THROTTLED, f"it limits the rate ({what}: 429{f', again in {seconds} s' if seconds else ''})", seconds)
        if answer.status in (401, 403):
            raise _Refusal(DENIED, f"it refuses {what} ({answer.status})")
        if answer.status == 404:
            raise _Refusal(MISSING, f"it does not have {what} (404)")
        if answer.status >= 500:
            raise _Refusal(DEAD, f"it fails ({what}: {answer.status})")
        if answer.status not in (200, 206):
            raise _Refusal(WRONG, f"it answers {answer.status} to {what}")

    def version_check(self) -> dict[str, str]:
        """``GET /v2/``; returns the challenge when a token is needed."""
        answer = self._get(self.url + "/v2/", {}, 4096)
        if answer.status == 401 and not looks_like_html(answer):
            return parse_challenge(answer.headers.get("www-authenticate", ""))
        if answer.status == 404:
            raise _Refusal(DEAD, "it is no registry (/v2/: 404)")
        self._judge("the version check", answer)
        return {}

    def token(self, challenge: t.Mapping[str, str], image: Image) -> dict[str, str]:
        realm = challenge.get("realm")
        if not realm:
            return {}
        query = {"scope": f"repository:{image.repository}:pull"}
        if challenge.get("service"):
            query["service"] = challenge["service"]
        answer = self._get(realm + ("&" if "?" in realm else "?") + urllib.parse.urlencode(query), {}, 64 * 1024)
        self._judge(f"a token for {image.repository}", answer)
        try:
            document = json.loads(answer.body)
            return {"Authorization": "Bearer " + (document.get("token") or document["access_token"])}
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise _Refusal(WRONG, "its token server does not answer with a token") from error

    def manifest(self, image: Image, reference: str, auth: dict[str, str]) -> tuple[dict[str, t.Any], str]:
        """The document, and the digest that it has."""
        what = f"the manifest of {image.repository}:{reference[:19]}"
        answer = self._get(f"{self.url}/v2/{image.repository}/manifests/{reference}", {"Accept": ", ".join(MANIFEST_TYPES), **auth}, MANIFEST_LIMIT)
        self._judge(what, answer)
        digest = "sha256:" + hashlib.sha256(answer.body).hexdigest()
        if reference.startswith("sha256:") and digest != reference:
            raise _Refusal(WRONG, f"{what} has the digest {digest[:19]}")
        try:
            document = json.loads(answer.body)
        except ValueError as error:
            raise _Refusal(WRONG, f"{what} is not JSON") from error
        if not isinstance(document, dict):
            raise _Refusal(WRONG, f"{what} is no object")
        return document, digest

    def blob(self, image: Image, blob: t.Mapping[str, t.Any], auth: dict[str, str], whole: bool) -> None:
        """Get a blob whole and hold it against its digest, or get its beginning and hold the answer against what the manifest says."""
        what = f"{'the configuration' if whole else 'a layer'} of {image.repository}"
        size, limit = int(blob.get("size") or 0), CONFIG_LIMIT if whole else BLOB_BYTES
        headers = {} if whole else {"Range": f"bytes=0-{BLOB_BYTES - 1}"}
        answer = self._get(f"{self.url}/v2/{image.repository}/blobs/{blob.get('digest')}", {**headers, **auth}, limit)
        self._judge(what, answer)
        if whole:
            found = "sha256:" + hashlib.sha256(answer.body).hexdigest()
            if size <= CONFIG_LIMIT and found != blob.get("digest"):
                raise _Refusal(WRONG, f"{what} {'is cut short' if len(answer.body) < size else f'has the digest {found[:19]}'}")
            return
        if len(answer.body) < min(BLOB_BYTES, size) or (whole_size(answer) or size) < size:
            raise _Refusal(WRONG, f"{what} is cut short")
        if "gzip" in str(blob.get("mediaType")) and not answer.body.startswith(b"\x1f\x8b"):
            raise _Refusal(WRONG, f"{what} is no gzip archive, which the manifest says")

    def image(self, image: Image, challenge: t.Mapping[str, str]) -> str:
        """Manifest, configuration and the first bytes of a layer; returns the image's digest when a pull would work."""
        auth = self.token(challenge, image)
        document, digest = self.manifest(image, image.reference, auth)
        if image.digest and digest != image.digest:
            raise _Refusal(WRONG, f"its {image.repository}:{image.reference} is {digest[:19]}, not {image.digest[:19]}")
        listed = document.get("manifests")
        if listed:
            document, dummy = self.manifest(image, str(pick_platform(listed, platform.machine()).get("digest")), auth)
        layers = document.get("layers") or []
        if not layers and "config" not in document:
            raise _Refusal(WRONG, f"the manifest of {image.repository} names no layers")
        if "config" in document:
            self.blob(image, document["config"], auth, whole=True)
        if layers:
            self.blob(image, layers[0], auth, whole=False)
        return digest


def probe(url: str, images: t.Sequence[Image], fetch: Fetch, timeout: float = 5.0, total: float = 15.0, slow_after: float = 5.0) -> Verdict:
    """Judge one mirror; never raises. One image that works is enough, for Docker goes on to the next mirror for the others."""
    work = Probe(url, fetch, timeout, total)
    digests: dict[str, str] = {}
    try:
        challenge = work.version_check()
        refusals = []
        for image in images:
            try:
                digests[f"{image.repository}:{image.reference}"] = work.image(image, challenge)
            except _Refusal as refusal:
                # These break a pull, so one is too many.
                if refusal.verdict in (HTML, WRONG, DEAD):
                    raise
                refusals.append(refusal)
        if refusals and len(refusals) == len(images):
            raise refusals[0]
        reason = "; ".join(refusal.reason for refusal in refusals)
    except _Refusal as refusal:
        return Verdict(url, refusal.verdict, refusal.reason, round(work.seconds(), 2), refusal.retry_after)
    except Exception as error:  # pylint: disable=broad-exception-caught
        return Verdict(url, WRONG, f"its answer cannot be read: {type(error).__name__}: {error}", round(work.seconds(), 2))
    seconds = round(work.seconds(), 2)
    if seconds > slow_after:
        return Verdict(url, SLOW, f"it took {seconds:.1f} s" + (f"; {reason}" if reason else ""), seconds, 0, digests)
    return Verdict(url, OK, reason, seconds, 0, digests)


def outvote(verdicts: t.Sequence[Verdict]) -> list[Verdict]:
    """Mirrors that serve another image under a tag than most others do: caches of another registry, or tampered with.

    A tag has no digest to hold it against, so the candidates are held against each other: one that stands alone against
    two or more is wrong. Two that disagree are both told, for nobody knows which is right.
    """
    held: dict[str, dict[str, list[int]]] = {}
    for number, verdict in enumerate(verdicts):
        for name, digest in verdict.digests.items():
            held.setdefault(name, {}).setdefault(digest, []).append(number)
    judged = list(verdicts)
    for name, by_digest in held.items():
        if len(by_digest) < 2:
            continue
        ranked = sorted(by_digest.items(), key=lambda entry: -len(entry[1]))
        decided = len(ranked[0][1]) > len(ranked[1][1])
        for digest, numbers in ranked:
            if decided and digest == ranked[0][0]:
                continue
            for number in numbers:
                reason = f"its {name} is {digest[:19]}, that of other mirrors {next(other for other, dummy in ranked if other != digest)[:19]}"
                judged[number] = judged[number]._replace(
                    verdict=WRONG if decided else judged[number].verdict,
                    reason="; ".join(part for part in (judged[number].reason, reason) if part),
                )
    return judged


def ranked(verdicts: t.Sequence[Verdict]) -> list[str]:
    """The usable mirrors by what they promise now: class first, then speed."""
    return [entry.url for entry in sorted(verdicts, key=lambda entry: (KEPT.index(entry.verdict) if entry.usable else 0, entry.seconds)) if entry.usable]


def probe_all(
    urls: t.Sequence[str], images: t.Sequence[Image], fetch: Fetch, timeout: float = 5.0, total: float = 15.0, slow_after: float = 5.0
) -> list[Verdict]:
    """All mirrors at once, so that ten dead ones cost no more time than one; the order is kept."""
    if not urls:
        return []
    with concurrent.futures.ThreadPoolExecutor(max_workers=min(16, len(urls))) as pool:
        return outvote(list(pool.map(lambda url: probe(url, images, fetch, timeout, total, slow_after), urls)))


__all__ = [
    "Answer",
    "Fetch",
    "Image",
    "KEPT",
    "NoAnswer",
    "Verdict",
    "outvote",
    "parse_challenge",
    "parse_image",
    "probe",
    "probe_all",
    "ranked",
    "urllib_fetch",
]
