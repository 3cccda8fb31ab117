"""The programs of the image cache: which blobs go, which image means which blobs, what is linked instead of fetched."""

from __future__ import annotations

import http.server
import importlib.util
import json
import pathlib
import sys
import threading
from collections.abc import Callable
from types import ModuleType

import pytest

FILES = pathlib.Path(__file__).resolve().parents[3] / "roles" / "registry_cache" / "files"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FILES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fill, prune = load("registry_cache_fill"), load("registry_cache_prune")


def test_the_blobs_that_were_not_used_for_longest_go() -> None:
    blobs = [(300.0, 40, "c"), (100.0, 40, "a"), (200.0, 40, "b")]
    assert prune.choose(blobs, 120, 10_000.0) == []
    assert prune.choose(blobs, 100, 10_000.0) == ["a"]
    assert prune.choose(blobs, 60, 10_000.0) == ["a", "b"]
    # One that was just written or is being served stays, whatever the size.
    assert prune.choose(blobs, 10, 250.0, young=100.0) == ["a"]


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("busybox", ("library/busybox", "latest")),
        ("docker.io/xprobe/xinference:v4.1.0", ("xprobe/xinference", "v4.1.0")),
        ("a/b:1@sha256:12", ("a/b", "sha256:12")),
    ],
)
def test_names(name: str, parsed: tuple[str, str]) -> None:
    assert fill.parse_image(name) == parsed


def test_the_platform_is_picked_or_missed_by_name() -> None:
    index = {"manifests": [{"digest": "x", "platform": {"os": "linux", "architecture": "arm64"}}]}
    assert fill.pick(index, "linux/arm64") == "x"
    assert fill.pick({"layers": []}, "linux/arm64") is None
    with pytest.raises(fill.FillError, match="no linux/amd64 in it, only linux/arm64"):
        fill.pick(index, "linux/amd64")


class Registry(http.server.BaseHTTPRequestHandler):
    """A cache that stores a blob when it is asked for it, and notes what was asked."""

    storage = ""
    asked: list[str] = []

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        body = b"x" * 10
        if "/manifests/" in self.path:
            body = json.dumps({"config": {"digest": "sha256:c" + self.path[4], "size": 10}, "layers": [{"digest": "sha256:shared", "size": 10}]}).encode()
        elif "/blobs/" in self.path:
            data = pathlib.Path(fill.blob_file(self.storage, self.path.rpartition("/")[2]))
            data.parent.mkdir(parents=True, exist_ok=True)
            data.write_bytes(body)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    Registry.storage, Registry.asked = str(tmp_path), []
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def call(*words: str) -> dict:
        Registry.asked = []
        monkeypatch.setattr(sys, "argv", ["fill", "--url", f"http://127.0.0.1:{server.server_port}", "--storage", str(tmp_path), *words])
        fill.main()
        return json.loads(capsys.readouterr().out)

    return call


def test_each_blob_is_asked_for_once_and_linked_where_it_is_shared(run: Callable[..., dict], tmp_path: pathlib.Path) -> None:
    assert run("--check", "a/a:1", "b/b:1")["missing"] == 3
    assert not (tmp_path / "docker").exists()
    first = run("a/a:1", "b/b:1")
    assert (first["missing"], first["unlinked"], first["failed"]) == (3, 4, [])
    assert sorted(path.rpartition("/")[2] for path in Registry.asked if "/blobs/" in path) == ["sha256:ca", "sha256:cb", "sha256:shared"]
    for repository in ("a/a", "b/b"):
        assert pathlib.Path(fill.link_file(str(tmp_path), repository, "sha256:shared")).read_text() == "sha256:shared"
    again = run("a/a:1", "b/b:1")
    assert (again["missing"], again["unlinked"]) == (0, 0)
    assert not [path for path in Registry.asked if "/blobs/" in path]
