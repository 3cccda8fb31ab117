# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pushes images to a registry by the HTTP API (distribution specification, version 2), sending only what is missing.

Talks plain HTTP without any proxy: the fleet's registry is a neighbour on a private bridge.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import pathlib
import typing as t
import urllib.parse

from tests.fleet.images import packer
from tests.fleet.shell import FleetError


class RegistryError(FleetError):
    """The registry did not answer or refused; the message says what was asked, what came back and what to look at."""


@dataclasses.dataclass
class Registry:
    """One registry at ``host`` : ``port``; ``sent`` counts the bytes of all blobs that had to be uploaded."""

    host: str
    port: int
    timeout: float = 120.0
    sent: int = 0

    def __post_init__(self) -> None:
        self._homes: t.Dict[str, str] = {}  # blob digest -> a repository that has it

    @classmethod
    def at(cls, address: str) -> Registry:
        """Accept ``HOST:PORT`` or ``http://HOST:PORT``; raises RegistryError for anything else."""
        parts = urllib.parse.urlsplit(address if "://" in address else "http://" + address)
        if parts.scheme != "http" or not parts.hostname:
            raise RegistryError(f"'{address}' is not a registry address: say HOST:PORT or http://HOST:PORT.")
        return cls(parts.hostname, parts.port or 80)

    def _ask(
        self, method: str, path: str, body: t.Union[bytes, t.BinaryIO, None] = None, headers: t.Optional[t.Mapping[str, str]] = None
    ) -> t.Tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise RegistryError(
                f"{method} http://{self.host}:{self.port}{path}: no answer ({error}). Is the fleet's registry up? Ask 'python -m tests.fleet status'."
            ) from error
        finally:
            connection.close()

    def _expect(self, wanted: t.Collection[int], method: str, path: str, answer: t.Tuple[int, t.Any, bytes]) -> None:
        if answer[0] not in wanted:
            words = answer[2].decode(errors="replace").strip()[:300]
            raise RegistryError(f"{method} http://{self.host}:{self.port}{path}: HTTP {answer[0]}: {words or 'no text'}")

    def digest(self, repository: str, tag: str) -> t.Optional[str]:
        """Return the digest that ``repository:tag`` has there now, or None."""
        path = f"/v2/{repository}/manifests/{tag}"
        answer = self._ask("HEAD", path, headers={"Accept": packer.MANIFEST_TYPE})
        self._expect((200, 404), "HEAD", path, answer)
        return answer[1].get("Docker-Content-Digest") if answer[0] == 200 else None

    def _has(self, repository: str, digest: str) -> bool:
        path = f"/v2/{repository}/blobs/{digest}"
        answer = self._ask("HEAD", path)
        self._expect((200, 404), "HEAD", path, answer)
        return answer[0] == 200

    def _upload(self, repository: str, digest: str, size: int, content: t.Union[bytes, pathlib.Path]) -> None:
        home = self._homes.setdefault(digest, repository)
        if self._has(repository, digest):
            return
        path = f"/v2/{repository}/blobs/uploads/"
        if home != repository:  # the same bytes are there under another name: ask the registry to link them
            query = urllib.parse.urlencode({"mount": digest, "from": home})
            answer = self._ask("POST", f"{path}?{query}", body=b"")
            self._expect((201, 202), "POST", path, answer)
            if answer[0] == 201:
                return
        else:
            answer = self._ask("POST", path, body=b"")
            self._expect((202,), "POST", path, answer)
        place = urllib.parse.urlsplit(answer[1]["Location"])
        query = urllib.parse.urlencode([*urllib.parse.parse_qsl(place.query), ("digest", digest)])
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        target = f"{place.path}?{query}"
        if isinstance(content, bytes):
            answer = self._ask("PUT", target, body=content, headers=headers)
        else:
            with open(content, "rb") as stream:
                answer = self._ask("PUT", target, body=stream, headers=headers)
        self._expect((201, 204), "PUT", place.path, answer)
        self.sent += size

    def push(self, repository: str, tag: str, image: packer.Image, layer_file: t.Callable[[packer.Layer], pathlib.Path]) -> bool:
        """Make ``repository:tag`` be ``image``; return False when it was already.

        ``layer_file`` tells where the compressed file of a layer lies. Raises RegistryError.
        """
        if self.digest(repository, tag) == image.digest:
            for layer in image.layers:
                self._homes.setdefault(layer.digest, repository)
            return False
        for layer in image.layers:
            self._upload(repository, layer.digest, layer.size, layer_file(layer))
        self._upload(repository, image.config_digest, len(image.config), image.config)
        path = f"/v2/{repository}/manifests/{tag}"
        answer = self._ask("PUT", path, body=image.manifest, headers={"Content-Type": packer.MANIFEST_TYPE})
        self._expect((201,), "PUT", path, answer)
        return True

    def tags(self, repository: str) -> t.List[str]:
        """Return the tags of ``repository`` there, sorted; empty when it is unknown."""
        path = f"/v2/{repository}/tags/list"
        answer = self._ask("GET", path)
        self._expect((200, 404), "GET", path, answer)
        return sorted(json.loads(answer[2]).get("tags") or []) if answer[0] == 200 else []
