# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mirrors that misbehave in every way that was seen, as real HTTP servers."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
import time

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _mirror

BLOB = b"\x1f\x8b" + b"layer" * 1000
BLOB_DIGEST = "sha256:" + hashlib.sha256(BLOB).hexdigest()
CONFIG = b'{"architecture": "amd64"}'
CONFIG_DIGEST = "sha256:" + hashlib.sha256(CONFIG).hexdigest()
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": _mirror.MANIFEST_TYPES[0],
        "config": {"digest": CONFIG_DIGEST, "size": len(CONFIG)},
        "layers": [{"digest": BLOB_DIGEST, "size": len(BLOB), "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}],
    }
).encode()
DIGEST = "sha256:" + hashlib.sha256(MANIFEST).hexdigest()
INDEX = json.dumps({"schemaVersion": 2, "manifests": [{"digest": DIGEST}]}).encode()
IMAGE = _mirror.Image("xprobe/xinference", "v4.1.0")
PAGE = (200, {"Content-Type": "text/html"}, b"<!DOCTYPE html><html>parked</html>")
OK_VERSION = (200, {"Docker-Distribution-Api-Version": "registry/2.0"}, b"{}")


def good(path, headers):
    if path == "/v2/":
        return OK_VERSION
    if path.endswith("/manifests/v4.1.0"):
        return 200, {"Content-Type": "application/json"}, INDEX
    if path.endswith(DIGEST):
        return 200, {"Content-Type": "application/json"}, MANIFEST
    if path.endswith(CONFIG_DIGEST):
        return 200, {}, CONFIG
    if "/blobs/" in path:
        return (206, {"Content-Range": f"bytes 0-1023/{len(BLOB)}"}, BLOB[:1024]) if headers.get("Range") == "bytes=0-1023" else (200, {}, BLOB)
    return 404, {}, b"{}"


def instead(part, answer):
    return lambda path, headers: answer if part in path or part == path else good(path, headers)


def version(answer):
    return lambda path, headers: answer if path == "/v2/" else good(path, headers)


def guarded(token_answer):
    def reply(path, headers):
        if path.startswith("/token"):
            assert "scope=repository%3Axprobe%2Fxinference%3Apull" in path
            return token_answer
        if headers.get("Authorization") != "Bearer t0ken":
            return 401, {"WWW-Authenticate": f'Bearer realm="http://{headers["Host"]}/token",service="hub"'}, b"{}"
        return good(path, headers)

    return reply


def slow(path, headers):
    time.sleep(0.15)
    return good(path, headers)


@pytest.fixture
def serve():
    servers = []

    def start(reply):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                status, headers, body = reply(self.path, self.headers)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def judge(url, **more):
    return _mirror.probe(url, [IMAGE], _mirror.urllib_fetch(use_proxy=False), **{"timeout": 2.0, "total": 4.0, **more})


@pytest.mark.parametrize(
    ("reply", "verdict", "words"),
    [
        (good, "ok", ""),
        (guarded((200, {}, b'{"token": "t0ken"}')), "ok", ""),
        (guarded((200, {}, b'{"access_token": "t0ken"}')), "ok", ""),
        (guarded((403, {}, b"{}")), "denied", "a token"),
        (guarded((200, {}, b"[]")), "wrong", "token server"),
        (version((403, {}, b"{}")), "denied", "version check"),
        (version(PAGE), "html", "version check"),
        (version((404, {}, b"{}")), "dead", "no registry"),
        (version((500, {}, b"{}")), "dead", "500"),
        (instead("/manifests/", (403, {}, b"not in the allowlist")), "denied", "manifest"),
        (instead("/manifests/", (404, {}, b"{}")), "missing", "404"),
        (instead("/manifests/", PAGE), "html", "manifest"),
        (instead("/manifests/", (200, {}, b"not json")), "wrong", "not JSON"),
        (instead(DIGEST, (200, {}, b'{"layers": []}')), "wrong", "digest"),
        (instead("/manifests/", (429, {"Retry-After": "60"}, b"{}")), "throttled", "again in 60 s"),
        (instead("/blobs/", (403, {}, b"{}")), "denied", "the configuration"),
        (instead(BLOB_DIGEST, (403, {}, b"{}")), "denied", "a layer"),
        (instead("/blobs/", PAGE), "html", "the configuration"),
        (instead(BLOB_DIGEST, PAGE), "html", "a layer"),
        (instead(CONFIG_DIGEST, (200, {}, CONFIG[:-1])), "wrong", "the configuration of xprobe/xinference is cut short"),
        (instead(CONFIG_DIGEST, (200, {}, CONFIG.replace(b"amd64", b"arm64"))), "wrong", "has the digest"),
        (instead(BLOB_DIGEST, (200, {}, b"short")), "wrong", "cut short"),
        (instead(BLOB_DIGEST, (206, {"Content-Range": "bytes 0-1023/1024"}, BLOB[:1024])), "wrong", "cut short"),
        (instead(BLOB_DIGEST, (206, {}, b"x" * 1024)), "wrong", "no gzip archive"),
    ],
)
def test_what_a_pull_would_meet(serve, reply, verdict, words):
    found = judge(serve(reply))
    assert found.verdict == verdict, found
    assert words in found.reason
    assert found.usable == (verdict in ("ok", "throttled", "missing"))


def test_a_closed_port_is_dead(serve):
    assert judge("http://127.0.0.1:9").verdict == "dead"
    assert judge("http://no.such.host.invalid").verdict == "dead"
    assert judge("nonsense").verdict == "dead"


def test_a_slow_mirror_is_named_and_one_that_never_ends_is_dead(serve):
    url = serve(slow)
    assert judge(url, slow_after=0.2).verdict == "slow"
    assert judge(url, timeout=0.05).verdict == "dead"
    assert judge(url, total=0.2).verdict == "dead"


def test_one_image_that_works_is_enough_but_a_web_page_never_is(serve):
    images = [_mirror.Image("other/image", "1"), IMAGE]
    fetch = _mirror.urllib_fetch(use_proxy=False)
    assert _mirror.probe(serve(instead("/other/", (403, {}, b"{}"))), images, fetch).verdict == "ok"
    assert _mirror.probe(serve(instead("/other/", PAGE)), images, fetch).verdict == "html"


def test_mirrors_are_asked_at_once_and_keep_their_order(serve):
    urls = [serve(slow) for dummy in range(6)]
    start = time.monotonic()
    verdicts = _mirror.probe_all(urls, [IMAGE], _mirror.urllib_fetch(use_proxy=False))
    assert [entry.url for entry in verdicts] == urls
    # One after another they would take 6 x 4 answers x 0.15 s = 3.6 s.
    assert time.monotonic() - start < 2.5
    assert _mirror.probe_all([], [], _mirror.urllib_fetch()) == []


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("nginx", _mirror.Image("library/nginx", "latest")),
        ("xprobe/xinference:v4.1.0", IMAGE),
        ("docker.io/library/redis:6-alpine", _mirror.Image("library/redis", "6-alpine")),
        ("a/b@sha256:12", _mirror.Image("a/b", "sha256:12")),
        ("a/b:1@sha256:12", _mirror.Image("a/b", "1", "sha256:12")),
        ("ghcr.io/a/b:1", None),
        ("localhost:5000/a:1", None),
    ],
)
def test_names_of_images(name, image):
    assert _mirror.parse_image(name) == image


def test_the_entry_of_this_machine_is_taken():
    index = [{"digest": "a", "platform": {"os": "linux", "architecture": "arm64"}}, {"digest": "b", "platform": {"os": "linux", "architecture": "amd64"}}]
    assert _mirror.pick_platform(index, "x86_64")["digest"] == "b"
    assert _mirror.pick_platform(index, "aarch64")["digest"] == "a"
    assert _mirror.pick_platform(index, "s390x")["digest"] == "a"


def verdicts(*digests):
    return [_mirror.Verdict(f"http://{number}", "ok", "", 1.0, 0, {"a/b:1": digest}) for number, digest in enumerate(digests)]


@pytest.mark.parametrize(
    ("digests", "classes"),
    [
        (["x", "x"], ["ok", "ok"]),
        (["x", "x", "y"], ["ok", "ok", "wrong"]),
        (["x", "y"], ["ok", "ok"]),
        (["x", "x", "y", "z"], ["ok", "ok", "wrong", "wrong"]),
        (["x", "x", "y", "y"], ["ok"] * 4),
    ],
)
def test_a_mirror_of_another_registry_is_outvoted(digests, classes):
    judged = _mirror.outvote(verdicts(*digests))
    assert [entry.verdict for entry in judged] == classes
    assert any("that of other mirrors" in entry.reason for entry in judged) == (len(set(digests)) > 1)


def test_the_rank_is_class_then_speed():
    found = [_mirror.Verdict(url, verdict, "", seconds) for url, verdict, seconds in [("a", "slow", 6), ("b", "dead", 0), ("c", "ok", 2), ("d", "ok", 1)]]
    assert _mirror.ranked(found) == ["d", "c", "a"]
