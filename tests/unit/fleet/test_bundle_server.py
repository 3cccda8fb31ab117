# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program that serves a bundle, asked over loopback as an engine, pip and the roles ask it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).resolve().parents[3] / "roles" / "bundle" / "files" / "bundle_server.py"
_spec = importlib.util.spec_from_file_location("bundle_server", FILE)
assert _spec and _spec.loader
server = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(server)

MANIFEST = b'{"mediaType": "application/vnd.docker.distribution.manifest.v2+json", "config": {}, "layers": []}'
DIGEST = "sha256:" + hashlib.sha256(MANIFEST).hexdigest()


@pytest.fixture()
def bundle(tmp_path: Path) -> Path:
    root = tmp_path / "bundle"
    blobs = root / "images" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (blobs / DIGEST[7:]).write_bytes(MANIFEST)
    entry = {"digest": DIGEST, "annotations": {server.NAME: "library/busybox:latest"}}
    (root / "images" / "index.json").write_text(json.dumps({"manifests": [entry]}))
    for name in ("python/simple/demo/index.html", "files/dify.tar.gz", "weights/m/config.json", "debs/secret.deb"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"0123456789")
    (tmp_path / "outside").write_text("outside")
    (root / "files" / "link").symlink_to(tmp_path / "outside")
    return root


@pytest.fixture()
def url(bundle: Path) -> Iterator[str]:
    server.Handler.bundle = server.Bundle(str(bundle), ["192.0.2.0/24"])
    running = server.Server(("127.0.0.1", 0), server.Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


def ask(url: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, method=method, headers=headers), timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def test_it_answers_as_a_registry_does(url: str) -> None:
    assert ask(url + "/v2/")[:1] == (200,)
    for reference in ("latest", DIGEST):
        status, headers, body = ask(f"{url}/v2/library/busybox/manifests/{reference}")
        assert (status, headers["Docker-Content-Digest"], body) == (200, DIGEST, MANIFEST)
        assert headers["Content-Type"] == "application/vnd.docker.distribution.manifest.v2+json"
    status, headers, body = ask(f"{url}/v2/library/busybox/manifests/latest", "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", str(len(MANIFEST)))
    assert ask(f"{url}/v2/library/busybox/manifests/2")[0] == 404
    assert ask(f"{url}/v2/library/busybox/blobs/sha256:{'0' * 64}")[0] == 404


def test_ranges_let_a_download_go_on(url: str) -> None:
    status, headers, body = ask(url + "/files/dify.tar.gz", Range="bytes=4-")
    assert (status, headers["Content-Range"], body) == (206, "bytes 4-9/10", b"456789")
    assert ask(url + "/files/dify.tar.gz", Range="bytes=10-")[0] == 416


@pytest.mark.parametrize("path", ["/python/simple/demo/", "/files/dify.tar.gz", "/weights/m/config.json"])
def test_files_are_served(url: str, path: str) -> None:
    assert ask(url + path)[::2] == (200, b"0123456789")


@pytest.mark.parametrize(
    "path", ["/", "/debs/secret.deb", "/images/index.json", "/files/../../outside", "/files/%2e%2e/%2e%2e/outside", "/files/link", "/files/"]
)
def test_nothing_else_is(url: str, path: str) -> None:
    assert ask(url + path)[0] == 404


def test_nothing_can_be_written(url: str) -> None:
    assert ask(f"{url}/v2/library/busybox/blobs/uploads/", "POST")[0] == 501


def test_who_may_ask_is_decided_by_address(bundle: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = server.Bundle(str(bundle), ["192.0.2.7", "2001:db8::/64"])
    assert all(guard.may(peer) for peer in ("127.0.0.1", "192.0.2.7", "::ffff:192.0.2.7", "2001:db8::5", "::1"))
    assert not any(guard.may(peer) for peer in ("192.0.2.8", "203.0.113.1", "2001:db9::5"))
    monkeypatch.setattr(server.Bundle, "may", lambda self, peer: False)
    status, _headers, body = ask(url + "/v2/")
    assert (status, json.loads(body)["errors"][0]["code"]) == (403, "DENIED")


def test_containers_on_the_hosts_own_bridges_may_ask() -> None:
    head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
    routes = (
        head + "eth0\t00000000\t0100000A\t3\t0\t0\t0\t00000000\ndocker0\t000011AC\t00000000\t1\t0\t0\t0\t0000FFFF\neth0\t0000000A\t0\t1\t0\t0\t0\t00FFFFFF\n"
    )
    assert [str(network) for network in server.bridges(routes)] == ["172.17.0.0/16"]
