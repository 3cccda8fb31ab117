"""Twelve mirrors that misbehave, in front of a registry that does not: what each answers, and what the probe makes of it."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _mirror

from tests.fleet.standins.registry import misbehaving

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"


def _image(word: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Manifest and blobs by digest of a tiny image."""
    config = b'{"architecture": "amd64", "os": "linux", "word": "' + word + b'"}'
    layer = b"\x1f\x8b" + word * 1000
    blobs = {"sha256:" + hashlib.sha256(data).hexdigest(): data for data in (config, layer)}
    first, second = blobs
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"digest": first, "size": len(config)},
        "layers": [{"digest": second, "size": len(layer), "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip"}],
    }
    return json.dumps(manifest).encode(), blobs


IMAGES = {("library/busybox", "latest"): _image(b"busybox"), ("library/redis", "6-alpine"): _image(b"redis")}
DIGEST = "sha256:" + hashlib.sha256(IMAGES["library/busybox", "latest"][0]).hexdigest()
BUSYBOX = _mirror.Image("library/busybox", "latest")
PINNED = _mirror.Image("library/busybox", "latest", DIGEST)


class Registry(http.server.BaseHTTPRequestHandler):
    """The part of the registry protocol that a pull uses."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status, kind, body = 404, "application/json", b"{}"
        for (repository, tag), (manifest, blobs) in IMAGES.items():
            names = {f"/v2/{repository}/manifests/{name}": manifest for name in (tag, "sha256:" + hashlib.sha256(manifest).hexdigest())}
            names |= {f"/v2/{repository}/blobs/{digest}": blob for digest, blob in blobs.items()}
            if self.path in names:
                status, body = 200, names[self.path]
                kind = MANIFEST_TYPE if "/manifests/" in self.path else "application/octet-stream"
        if self.path == "/v2/":
            status = 200
        wanted = self.headers.get("Range", "")
        self.send_response(206 if wanted and status == 200 else status)
        if wanted and status == 200:
            first, last = (int(part) for part in wanted.removeprefix("bytes=").split("-"))
            self.send_header("Content-Range", f"bytes {first}-{min(last, len(body) - 1)}/{len(body)}")
            body = body[first : last + 1]
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def start(server: http.server.ThreadingHTTPServer) -> str:
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    yield start(server)
    server.shutdown()


@pytest.fixture
def mirror(registry: str) -> Iterator[Callable[[str], str]]:
    servers: list[misbehaving.Server] = []

    def make(kind: str) -> str:
        if kind == "down":
            return "http://127.0.0.1:9"
        servers.append(misbehaving.Server(("127.0.0.1", 0), misbehaving.Misbehaving(kind, registry, delay=0.2)))
        return start(servers[-1])

    yield make
    for server in servers:
        server.shutdown()


# kind: verdict, a word of the reason, whether it stays in the configuration
TABLE = {
    "down": ("dead", "refused", False),
    "token-403": ("denied", "a token", False),
    "401": ("denied", "401", False),
    "404": ("missing", "404", True),
    "429": ("throttled", "again in 60 s", True),
    "500": ("dead", "500", False),
    "html": ("html", "web page", False),
    "wrong-bytes": ("wrong", "has the digest", False),
    "short-blob": ("wrong", "cut short", False),
    "blob-403": ("denied", "the configuration", False),
    "slow": ("slow", "it took", True),
    "wrong-repository": ("wrong", "its library/busybox:latest is", False),
}


@pytest.mark.parametrize("kind", misbehaving.KINDS)
def test_each_gets_its_class(mirror: Callable[[str], str], kind: str) -> None:
    verdict, words, usable = TABLE[kind]
    found = _mirror.probe(mirror(kind), [PINNED], _mirror.urllib_fetch(use_proxy=False), timeout=2.0, total=5.0, slow_after=0.5)
    assert (found.verdict, found.usable) == (verdict, usable), found
    assert words in found.reason


def test_without_a_digest_another_repository_is_outvoted(registry: str, mirror: Callable[[str], str]) -> None:
    urls = [mirror("wrong-repository"), registry, registry + "/"]
    judged = _mirror.probe_all(urls, [BUSYBOX], _mirror.urllib_fetch(use_proxy=False))
    assert [entry.verdict for entry in judged] == ["wrong", "ok", "ok"]
    assert "that of other mirrors" in judged[0].reason


def test_it_says_what_it_is_and_refuses_what_it_does_not_know(mirror: Callable[[str], str]) -> None:
    url = mirror("wrong-bytes")
    with urllib.request.urlopen(url + "/v2/") as answer:
        assert answer.headers["X-Stand-In"] == misbehaving.LABEL
    with pytest.raises(urllib.error.HTTPError, match="501"):
        urllib.request.urlopen(url + "/v2/_catalog")


@pytest.mark.parametrize("part", ["manifests/latest", f"manifests/{DIGEST}", f"blobs/{next(iter(IMAGES['library/busybox', 'latest'][1]))}"])
def test_what_is_not_spoilt_is_the_real_registrys(registry: str, mirror: Callable[[str], str], part: str) -> None:
    kind = "slow" if part.startswith("blobs") else "blob-403"
    urls = [f"{base}/v2/library/busybox/{part}" for base in (registry, mirror(kind))]
    answers = [urllib.request.urlopen(url) for url in urls]
    assert answers[0].read() == answers[1].read()
    assert answers[0].headers["Content-Type"] == answers[1].headers["Content-Type"]
