# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The registry client sends only what is missing, shares blobs between repositories, and says what went wrong."""

from __future__ import annotations

import hashlib
import http.server
import re
import threading
import urllib.parse

import pytest

from tests.fleet.images import packer
from tests.fleet.images.registry import Registry, RegistryError


class FakeRegistry(http.server.BaseHTTPRequestHandler):
    """The part of the distribution API that a push uses, keeping what it was sent; rejects a wrong digest as the real one does."""

    protocol_version = "HTTP/1.1"

    def handle_any(self):
        server, parts = self.server, urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server.calls.append((self.command, self.path))
        repository, kind, name = re.fullmatch(r"/v2/(.+)/(blobs|manifests)/(.+)", parts.path).groups()
        if kind == "manifests":
            if self.command == "PUT":
                server.manifests[repository, name] = body
                return self.reply(201)
            known = server.manifests.get((repository, name))
            return self.reply(404) if known is None else self.reply(200, {"Docker-Content-Digest": packer.digest_of(known)})
        if self.command == "HEAD":
            return self.reply(200 if (repository, name) in server.blobs else 404)
        if self.command == "POST":
            if (query.get("from"), query.get("mount")) in server.blobs:
                server.blobs.add((repository, query["mount"]))
                return self.reply(201)
            return self.reply(202, {"Location": f"/v2/{repository}/blobs/uploads/1?_state=x%3D"})
        if packer.digest_of(body) != query["digest"] or query["_state"] != "x=":
            return self.reply(400, body=b'{"errors":[{"code":"DIGEST_INVALID"}]}')
        server.blobs.add((repository, query["digest"]))
        return self.reply(201)

    def reply(self, status, headers=(), body=b""):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeRegistry)
    server.calls, server.blobs, server.manifests = [], set(), {}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def image(tmp_path):
    content = tmp_path / "layer"
    content.write_bytes(b"some layer" * 1000)
    digest = "sha256:" + hashlib.sha256(content.read_bytes()).hexdigest()
    layer = packer.Layer(digest=digest, size=10000, diff_id=digest, unpacked=10000)
    return packer.make_image([layer], {"Cmd": ["sh"]}), content


def test_a_second_push_sends_nothing(server, image):
    registry = Registry.at(f"127.0.0.1:{server.server_port}")
    assert registry.push("library/a", "1", image[0], lambda layer: image[1]) is True
    assert registry.sent == 10000 + len(image[0].config)
    assert server.manifests["library/a", "1"] == image[0].manifest
    server.calls.clear()
    assert registry.push("library/a", "1", image[0], lambda layer: image[1]) is False
    assert [method for method, _path in server.calls] == ["HEAD"]


def test_another_repository_gets_the_blobs_by_mounting(server, image):
    registry = Registry.at(f"http://127.0.0.1:{server.server_port}")
    registry.push("library/a", "1", image[0], lambda layer: image[1])
    sent = registry.sent
    assert registry.push("library/b", "1", image[0], lambda layer: image[1]) is True
    assert registry.sent == sent
    assert ("library/b", image[0].layers[0].digest) in server.blobs


def test_a_refusal_and_a_silence_are_explained(server, image, tmp_path):
    registry = Registry.at(f"127.0.0.1:{server.server_port}")
    other = tmp_path / "other"
    other.write_bytes(b"x" * 10000)
    with pytest.raises(RegistryError, match=r"HTTP 400: .*DIGEST_INVALID"):
        registry.push("library/a", "1", image[0], lambda layer: other)
    with pytest.raises(RegistryError, match="no answer"):
        Registry("127.0.0.1", 1, timeout=1).tags("library/a")
    with pytest.raises(RegistryError, match="not a registry address"):
        Registry.at("https://127.0.0.1:5000")
