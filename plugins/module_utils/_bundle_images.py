# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Images out of a registry by its HTTP API (distribution specification), into a folder in the OCI image layout; no engine is needed.

Manifests are kept byte for byte, so that an image has on the hosts the digest that it has upstream.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
import typing as t
import urllib.parse

from ansible_collections.llmops.dify_xinference.plugins.module_utils._bundle import BundleError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._mirror import MANIFEST_TYPES, parse_challenge
from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_http import NoAnswer, Web, shown

HUB = "https://registry-1.docker.io"
NAME = "org.opencontainers.image.ref.name"
# Tokens of Docker Hub live five minutes; one is asked for again well before.
_TOKEN_SECONDS = 120.0


class Reference(t.NamedTuple):
    """An image of Docker Hub: what a registry calls it. ``digest`` is empty unless the name says one."""

    repository: str
    tag: str
    digest: str


class Blob(t.NamedTuple):
    """``data`` is there for manifests, which come with the walk."""

    repository: str
    digest: str
    size: int
    data: bytes = b""


def parse(name: str) -> Reference:
    """Raises :class:`BundleError` for images of other registries: engines take mirrors for Docker Hub only."""
    rest, _at, digest = name.partition("@")
    head, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        head, tag = rest, "latest"
    first, slash, remainder = head.partition("/")
    if first in ("docker.io", "index.docker.io"):
        head = remainder
    elif slash and ("." in first or ":" in first or first == "localhost"):
        raise BundleError(
            f"{name} is not on Docker Hub: a bundle serves Docker Hub's images only, because a Docker Engine takes mirrors for no other registry."
        )
    return Reference(head if "/" in head else "library/" + head, tag, digest)


def pick(document: t.Mapping[str, t.Any], platform: str) -> str:
    """The digest of a platform's manifest in an index; empty for what is a manifest itself."""
    listed = document.get("manifests")
    if not listed:
        return ""
    system, _slash, architecture = platform.partition("/")
    for entry in listed:
        named = entry.get("platform") or {}
        if (named.get("os"), named.get("architecture")) == (system, architecture):
            return str(entry["digest"])
    raise BundleError(f"there is no {platform} in it")


class Registry:
    """One registry. Every manifest is held to the digest it was asked for. Errors are :class:`BundleError`."""

    def __init__(self, web: Web, url: str = HUB, username: str = "", password: str = "", clock: t.Callable[[], float] = time.monotonic) -> None:
        self.web, self.url = web, url.rstrip("/")
        self._login = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode() if username else ""
        self._clock = clock
        self._challenge: t.Optional[t.Dict[str, str]] = None
        self._tokens: t.Dict[str, t.Tuple[str, float]] = {}

    def token(self, repository: str) -> str:
        """What a request for this repository has to show; it is sent to the registry alone, never to where that sends a download on to."""
        if self._challenge is None:
            answer, _body = self._ask(f"{self.url}/v2/")
            if answer.status not in (200, 401):
                raise BundleError(f"{shown(self.url)}/v2/ answers {answer.status}: is it a registry?")
            self._challenge = parse_challenge(answer.headers.get("www-authenticate", "")) if answer.status == 401 else {}
        if "realm" not in self._challenge:
            return self._login
        token, until = self._tokens.get(repository, ("", 0.0))
        if self._clock() >= until:
            token = self._fetch_token(repository)
            self._tokens[repository] = (token, self._clock() + _TOKEN_SECONDS)
        return token

    def _fetch_token(self, repository: str) -> str:
        challenge = self._challenge or {}
        query = urllib.parse.urlencode({"service": challenge.get("service", ""), "scope": f"repository:{repository}:pull"})
        answer, body = self._ask(f"{challenge['realm']}?{query}", token=self._login)
        try:
            document = json.loads(body)
            return str(document.get("token") or document["access_token"])
        except (ValueError, KeyError, AttributeError) as error:
            raise BundleError(f"{shown(challenge['realm'])} gives no token for {repository} ({answer.status}).") from error

    def _ask(self, url: str, headers: t.Optional[t.Dict[str, str]] = None, token: str = "", method: str = "GET") -> tuple[t.Any, bytes]:
        try:
            return self.web.ask(url, headers, token or None, method)
        except NoAnswer as error:
            raise BundleError(f"{shown(self.url)} does not answer: {error}") from error

    def _manifest(self, repository: str, reference: str, method: str) -> tuple[t.Any, bytes]:
        accept = {"Accept": ", ".join(MANIFEST_TYPES)}
        answer, body = self._ask(f"{self.url}/v2/{repository}/manifests/{reference}", accept, self.token(repository), method)
        if answer.status != 200:
            words = body[:200].decode("utf-8", "replace").strip()
            raise BundleError(f"{repository}:{reference}: {shown(self.url)} answers {answer.status} {words}".rstrip() + ". Is the name right?")
        return answer, body

    def digest(self, name: str) -> str:
        """What a name means upstream now."""
        reference = parse(name)
        if reference.digest:
            return reference.digest
        answer, _body = self._manifest(reference.repository, reference.tag, "HEAD")
        found = answer.headers.get("docker-content-digest", "")
        if not found:
            _answer, body = self._manifest(reference.repository, reference.tag, "GET")
            found = "sha256:" + hashlib.sha256(body).hexdigest()
        return found

    def manifest(self, repository: str, digest: str) -> bytes:
        _answer, body = self._manifest(repository, digest, "GET")
        if "sha256:" + hashlib.sha256(body).hexdigest() != digest:
            raise BundleError(f"{repository}@{digest}: {shown(self.url)} answers with another manifest. A mirror or a proxy on the way is wrong.")
        return body

    def walk(self, name: str, digest: str, platform: str, known: t.Callable[[str], t.Optional[bytes]] = lambda digest: None) -> list[Blob]:
        """Everything that an image of one platform is made of, its manifests first. ``known``: manifests that are here already."""
        repository = parse(name).repository

        def get(wanted: str) -> tuple[dict[str, t.Any], Blob]:
            data = known(wanted)
            if data is None:
                data = self.manifest(repository, wanted)
            return json.loads(data), Blob(repository, wanted, len(data), data)

        try:
            document, blob = get(digest)
            blobs = [blob]
            child = pick(document, platform)
            if child:
                document, blob = get(child)
                blobs.append(blob)
            return blobs + [Blob(repository, entry["digest"], int(entry["size"])) for entry in [document["config"], *document["layers"]]]
        except BundleError as error:
            raise BundleError(f"{name}: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{name}: its manifest cannot be read: {error}") from error

    def blob_url(self, blob: Blob) -> str:
        return f"{self.url}/v2/{blob.repository}/blobs/{blob.digest}"


def media_type(data: bytes) -> str:
    """Of a manifest, which need not say it itself."""
    document = json.loads(data)
    return str(document.get("mediaType") or f"application/vnd.oci.image.{'index' if 'manifests' in document else 'manifest'}.v1+json")


def index(images: t.Mapping[str, str], manifest: t.Callable[[str], bytes]) -> dict[str, t.Any]:
    """``index.json`` of the layout. ``images``: digest by name."""
    entries = []
    for name in sorted(images):
        data = manifest(images[name])
        reference = parse(name)
        entries.append(
            {
                "mediaType": media_type(data),
                "digest": images[name],
                "size": len(data),
                "annotations": {NAME: f"{reference.repository}:{reference.tag}"},
            }
        )
    return {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}


__all__ = ["Blob", "HUB", "Reference", "Registry", "index", "media_type", "parse", "pick"]
