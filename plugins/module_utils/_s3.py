# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""As much of S3 as files need, over the standard library: list, send (in parts when big), fetch, delete.

Requests are signed with AWS Signature Version 4, the content's SHA-256 among what is signed, so that a server notices content
that changed on its way. Nothing secret is ever in an address. Source: Amazon S3's API reference and its published examples
of signatures, which the unit tests hold.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import os
import re
import time
import typing as t
from urllib.parse import quote, urlsplit

from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_seal import BackupError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import ServerUnreachable, Transport

# What one request carries, and so the memory it takes. S3 has at most 10000 parts, each but the last of 5 MiB or more.
PART_BYTES = 32 << 20
MOST_PARTS = 10000
LARGEST = 5 << 40
TRIES = 4
_AGAIN = (429, 500, 502, 503, 504)
_EMPTY = hashlib.sha256(b"").hexdigest()

# What a person can do about an error code.
ADVICE = {
    "InvalidAccessKeyId": "the server does not know this access key",
    "SignatureDoesNotMatch": "the secret key is not the one of this access key",
    "AccessDenied": "these credentials may not do this in this bucket",
    "ExpiredToken": "the session token has expired",
    "RequestTimeTooSkewed": "the clock of this host is wrong",
    "NoSuchBucket": "there is no such bucket; make it first, or correct its name",
    "PermanentRedirect": "the bucket is in another region; set region and endpoint to it",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set region to it",
    "EntityTooLarge": "the server takes no object of this size",
    "QuotaExceeded": "the bucket is full",
    "XMinioStorageFull": "the server's disk is full",
    "InsufficientStorage": "the server's disk is full",
}


class S3Error(BackupError):
    """The server refused, or did not answer; the message says what was asked for, what came back and what to do. ``code``: S3's error code."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class Keys(t.NamedTuple):
    access_key: str
    secret_key: str
    session_token: str = ""


def sign(method: str, url: str, headers: dict[str, str], payload: str, keys: Keys, region: str, stamp: str) -> dict[str, str]:
    """Headers of a signed request. ``url``: as it is sent, already quoted. ``payload``: SHA-256 of the body. ``stamp``: ``20130524T000000Z``."""
    parts = urlsplit(url)
    more = {"x-amz-content-sha256": payload, "x-amz-date": stamp}
    if keys.session_token:
        more["x-amz-security-token"] = keys.session_token
    signed = {name.lower(): " ".join(value.split()) for name, value in {**headers, **more, "host": parts.netloc}.items()}
    names = ";".join(sorted(signed))
    query = "&".join(sorted(word if "=" in word else f"{word}=" for word in parts.query.split("&") if word))
    lines = [method, parts.path or "/", query, *(f"{name}:{signed[name]}" for name in sorted(signed)), "", names, payload]
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256("\n".join(lines).encode()).hexdigest()])
    key = f"AWS4{keys.secret_key}".encode()
    for word in scope.split("/"):
        key = hmac.new(key, word.encode(), "sha256").digest()
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    authorization = f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope},SignedHeaders={names},Signature={signature}"
    return {**headers, **more, "Authorization": authorization}


def part_bytes(size: int) -> int:
    """Bytes in one part of a file of this size: few enough parts, whatever its size."""
    return max(PART_BYTES, -(-size // MOST_PARTS))


def _value(text: str, tag: str) -> str:
    found = re.search(f"<{tag}>([^<]*)</{tag}>", text)
    return html.unescape(found.group(1)) if found else ""


class Bucket:
    """One bucket, with a prefix before every name.

    ``path_style``: the bucket's name is in the path (MinIO, Ceph, most others), not in the host's name. ``pause``: what waits between tries.
    """

    def __init__(
        self,
        transport: Transport,
        endpoint: str,
        bucket: str,
        keys: Keys,
        prefix: str = "",
        region: str = "us-east-1",
        path_style: bool = True,
        timeout: float = 60,
        pause: t.Callable[[float], None] = time.sleep,
    ) -> None:
        parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise S3Error(f"The endpoint {endpoint} is no address of a server; give one like https://s3.example.com or http://minio:9000.")
        standard = {"http": 80, "https": 443}[parts.scheme]
        host = parts.hostname if parts.port in (None, standard) else f"{parts.hostname}:{parts.port}"
        base = parts.path.rstrip("/")
        self._url = f"{parts.scheme}://{host}{base}/{quote(bucket)}" if path_style else f"{parts.scheme}://{bucket}.{host}{base}"
        self.where = f"{bucket}/{prefix.strip('/')}".rstrip("/") + f" at {parts.scheme}://{host}"
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._transport, self._keys, self._region, self._timeout, self._pause = transport, keys, region, timeout, pause

    def _ask(
        self, doing: str, method: str, name: str | None = None, query: str = "", body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[dict[str, str], bytes]:
        """Answer of one request, asked again while the server is away or busy. All that is asked here may be asked twice."""
        path = "/" if name is None else "/" + quote(self._prefix + name, safe="/-_.~")
        url = self._url + path + (f"?{query}" if query else "")
        payload = hashlib.sha256(body).hexdigest() if body else _EMPTY
        plain = dict(headers or {})
        if body is not None:
            plain["Content-Type"] = "application/octet-stream"
        problem = S3Error("")
        for number in range(TRIES):
            if number:
                self._pause(2.0 ** (number - 1))
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            try:
                status, answered, content = self._transport(
                    method, url, body, sign(method, url, plain, payload, self._keys, self._region, stamp), self._timeout
                )
            except ServerUnreachable as error:
                problem = S3Error(f"{doing}: {self.where} does not answer: {error.reason}. Is the endpoint right, and reachable from this host?", "Unreachable")
                continue
            text = content[:20000].decode("utf-8", "replace") if status >= 300 or b"<Error>" in content[:400] else ""
            if status < 300 and not _value(text, "Code"):
                return {key.lower(): value for key, value in answered}, content
            code = _value(text, "Code") or f"HTTP {status}"
            said = _value(text, "Message") or text.strip()[:200] or "no message"
            problem = S3Error(f"{doing}: {self.where} said {code} ({status}): {said}." + (f" In words: {ADVICE[code]}." if code in ADVICE else ""), code)
            if status not in _AGAIN and code not in ("SlowDown", "InternalError", "RequestTimeout"):
                break
        raise problem

    def names(self, below: str = "") -> dict[str, int]:
        """Name -> size in bytes of everything whose name begins so, the prefix left out."""
        found: dict[str, int] = {}
        token = ""
        while True:
            query = f"list-type=2&prefix={quote(self._prefix + below, safe='-_.~')}"
            if token:
                query = f"continuation-token={quote(token, safe='-_.~')}&{query}"
            text = self._ask("Listing", "GET", query=query)[1].decode("utf-8", "replace")
            for entry in re.findall("<Contents>(.*?)</Contents>", text, re.S):
                found[_value(entry, "Key")[len(self._prefix) :]] = int(_value(entry, "Size") or 0)
            before, token = token, _value(text, "NextContinuationToken") if _value(text, "IsTruncated") == "true" else ""
            if not token:
                return found
            if token == before:
                raise S3Error(f"Listing: {self.where} gives the same page again and again; it is no S3 that this collection knows.")

    def send(self, path: str, name: str) -> int:
        """Put a file there; returns its size. A big one goes in parts, and leaves none behind when it cannot be finished."""
        size = os.path.getsize(path)
        doing = f"Sending {name}"
        if size > LARGEST:
            raise S3Error(f"{doing}: it has {size} bytes, and S3 takes no more than {LARGEST}.")
        length = part_bytes(size)
        with open(path, "rb") as handle:
            if size <= length:
                self._ask(doing, "PUT", name, body=handle.read())
                return size
            upload = quote(_value(self._ask(doing, "POST", name, "uploads=", b"")[1].decode(), "UploadId"), safe="-_.~")
            try:
                tags = []
                for number in range(1, -(-size // length) + 1):
                    answered, unused = self._ask(doing, "PUT", name, f"partNumber={number}&uploadId={upload}", handle.read(length))
                    tags.append(f"<Part><PartNumber>{number}</PartNumber><ETag>{html.escape(answered.get('etag', ''))}</ETag></Part>")
                listed = f"<CompleteMultipartUpload>{''.join(tags)}</CompleteMultipartUpload>"
                self._ask(doing, "POST", name, f"uploadId={upload}", listed.encode())
            except BaseException:
                try:
                    self._ask("Giving up", "DELETE", name, f"uploadId={upload}")
                except S3Error:
                    pass  # what led here says more
                raise
        return size

    def fetch(self, name: str, path: str, size: int) -> None:
        """Write what is there into a file of this host (0600), piece by piece."""
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as handle:
            for begin in range(0, size, PART_BYTES):
                end = min(begin + PART_BYTES, size) - 1
                content = self._ask(f"Fetching {name}", "GET", name, headers={"range": f"bytes={begin}-{end}"})[1]
                if len(content) != end - begin + 1:
                    raise S3Error(f"Fetching {name}: {self.where} sent {len(content)} bytes instead of {end - begin + 1}.")
                handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())

    def remove(self, name: str) -> None:
        """Also when there is none of that name."""
        self._ask(f"Removing {name}", "DELETE", name)


__all__ = ["PART_BYTES", "Bucket", "Keys", "S3Error", "part_bytes", "sign"]
