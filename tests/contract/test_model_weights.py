# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module model_weights against the stand-in for the hubs, which two real clients vouch for (test_hubs_standin.py)."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import typing as t

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _weights_fetch, _weights_http

from tests.contract.dify_client_stack import Outcome, run_module
from tests.contract.hubs import Hubs

BIG, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
KINDS = ("huggingface", "modelscope")


@pytest.fixture()
def hubs(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Hubs]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "HF_ENDPOINT", "HF_TOKEN", "MODELSCOPE_DOMAIN", "MODELSCOPE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # the disk of a test machine is busy enough
    running = Hubs()
    yield running
    running.close()


@pytest.fixture()
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that would have been made; they take no time."""
    made: list[float] = []
    true = _weights_http.pause_before_retry

    def count(*values: t.Any) -> float:
        made.append(true(*values))
        return 0.0

    monkeypatch.setattr(_weights_http, "pause_before_retry", count)
    monkeypatch.setattr(_weights_fetch, "pause_before_retry", count)
    return made


class Weights:
    """The module against one stand-in, below one folder."""

    def __init__(self, hubs: Hubs, root: pathlib.Path) -> None:
        self.hubs, self.root = hubs, root

    def __call__(self, *models: dict[str, t.Any], check: bool = False, **more: t.Any) -> Outcome:
        options = {"huggingface_endpoint": self.hubs.url, "modelscope_endpoint": self.hubs.url, "reserve_gib": 0, **more}
        outcome = run_module("model_weights", check, models=list(models), path=str(self.root), **options)
        assert self.hubs.token not in outcome.text
        assert "secret-signature" not in outcome.text
        return outcome

    def content(self, name: str) -> dict[str, bytes]:
        folder = self.root / name
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".weights.json"}


@pytest.fixture()
def weights(hubs: Hubs, tmp_path: pathlib.Path) -> Weights:
    return Weights(hubs, tmp_path / "weights")


def tiny(kind: str = "huggingface", **more: t.Any) -> dict[str, t.Any]:
    return {"name": "tiny", "source": kind, "repo": "acme/tiny", **more}


@pytest.mark.parametrize("kind", KINDS)
def test_check_fetch_and_again(weights: Weights, hubs: Hubs, kind: str) -> None:
    whole = sum(map(len, hubs.files.values()))
    predicted = weights(tiny(kind), check=True)
    assert not predicted.failed
    assert predicted.result["changed"]
    assert predicted.result["models"][0]["missing_bytes"] == whole
    assert predicted.result["requests"] == 1
    assert not weights.root.exists()

    done = weights(tiny(kind))
    assert not done.failed, done.text
    assert done.result["diff"] == predicted.result["diff"]
    assert weights.content("tiny") == hubs.files
    row = done.result["models"][0]
    assert (row["action"], row["fetched_bytes"], row["files"], row["bytes"]) == ("fetch", whole, 7, whole)
    assert (weights.root / "tiny" / BIG).stat().st_mode & 0o777 == 0o644

    hubs.forget()
    again = weights(tiny(kind))
    assert not again.result["changed"]
    assert again.result["diff"] == {"before": {}, "after": {}}
    assert len(hubs.log) == 1, "one question per repository"


@pytest.mark.parametrize("kind", KINDS)
def test_a_pinned_commit_that_is_here_needs_no_request(weights: Weights, hubs: Hubs, kind: str) -> None:
    commit = hubs.code.commit_of("tiny 1")
    assert weights(tiny(kind, revision=commit)).result["models"][0]["commit"] == commit
    hubs.close()
    again = weights(tiny(kind, revision=commit))
    assert (again.failed, again.result["changed"], again.result["requests"]) == (False, False, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_branch_that_moved_brings_what_differs_and_takes_away_what_is_gone(weights: Weights, hubs: Hubs, kind: str) -> None:
    weights(tiny(kind))
    (weights.root / "tiny" / "mine.txt").write_text("not ours")
    hubs.upgrade()
    hubs.forget()
    predicted = weights(tiny(kind), check=True)
    done = weights(tiny(kind))
    assert sorted(done.result["diff"]["after"]) == ["tiny/README.md", "tiny/docs/read me.md", "tiny/" + SECOND]
    assert done.result["diff"] == predicted.result["diff"]
    assert weights.content("tiny") == {**hubs.second, "mine.txt": b"not ours"}
    assert done.result["models"][0]["fetched_bytes"] == len(hubs.second[SECOND])


def test_patterns(weights: Weights, hubs: Hubs) -> None:
    weights(tiny(allow=["*.safetensors", "config.json", "onnx/"], ignore=["*-00002-*"]))
    assert sorted(weights.content("tiny")) == ["config.json", BIG, "onnx/model.onnx"]
    assert "leave none" in weights(tiny(allow=["*.gguf"])).result["msg"]


@pytest.mark.parametrize("kind", KINDS)
def test_damage_on_the_disk_is_repaired(weights: Weights, hubs: Hubs, kind: str) -> None:
    weights(tiny(kind))
    folder = weights.root / "tiny"
    (folder / BIG).write_bytes(b"x" + hubs.files[BIG][1:])  # same size, another time of change
    (folder / "config.json").unlink()
    (folder / "README.md").touch()  # read again, and found to be right
    done = weights(tiny(kind))
    assert sorted(done.result["models"][0]["missing"]) == ["config.json", BIG]
    assert weights.content("tiny") == hubs.files
    # Damage that leaves size and time as they were is found when everything is read.
    before = (folder / BIG).stat()
    (folder / BIG).write_bytes(b"x" + hubs.files[BIG][1:])
    os.utime(folder / BIG, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not weights(tiny(kind)).result["changed"]
    assert weights(tiny(kind), checksum=True).result["models"][0]["missing"] == [BIG]
    assert weights.content("tiny") == hubs.files


def test_files_that_were_brought_by_hand_are_adopted(weights: Weights, hubs: Hubs) -> None:
    for path, data in hubs.files.items():
        (weights.root / "tiny" / path).parent.mkdir(parents=True, exist_ok=True)
        (weights.root / "tiny" / path).write_bytes(data)
    assert weights(tiny(), check=True).result["models"][0]["missing"] == []
    done = weights(tiny())
    assert (done.result["changed"], done.result["models"][0]["fetched_bytes"]) == (True, 0)
    assert not weights(tiny()).result["changed"]


# What goes wrong on the way


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_connection_is_continued(weights: Weights, hubs: Hubs, pauses: list[float], kind: str) -> None:
    part = "/cdn/" + hubs.code.sha256(hubs.files[BIG]) if kind == "huggingface" else BIG
    hubs.fail({"match": part, "kind": "cut", "at": 1_000_000}, {"match": part, "kind": "cut", "at": 500_000})
    done = weights(tiny(kind))
    assert not done.failed, done.text
    assert weights.content("tiny") == hubs.files
    assert done.result["models"][0]["fetched_bytes"] == sum(map(len, hubs.files.values())), "not one byte twice"
    ranges = [entry["range"] for entry in hubs.log if entry["sent"] and (part in entry["path"] or entry["sent"] > 1_500_000 or entry["range"])]
    assert ranges.count("bytes=1000000-") == ranges.count("bytes=1500000-") == 1
    assert len(pauses) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_gave_up_is_continued_by_the_next(weights: Weights, hubs: Hubs, pauses: list[float], kind: str) -> None:
    part = "/cdn/" + hubs.code.sha256(hubs.files[BIG]) if kind == "huggingface" else BIG
    hubs.fail({"match": part, "kind": "cut", "at": 1_000_000}, {"match": part, "kind": "cut", "at": 0, "times": 50})
    failed = weights(tiny(kind), retries=2)
    assert failed.failed
    assert "1000000 bytes of it are kept" in failed.result["msg"]
    hubs.forget()
    predicted = weights(tiny(kind), check=True)
    assert predicted.result["models"][0]["missing_bytes"] == len(hubs.files[BIG]) - 1_000_000
    hubs.forget()
    done = weights(tiny(kind))
    row = done.result["models"][0]
    assert (row["fetched_bytes"], row["resumed_bytes"]) == (len(hubs.files[BIG]) - 1_000_000, 1_000_000)
    assert sum(entry["sent"] for entry in hubs.log if entry["sent"]) == row["fetched_bytes"], "only what was missing travelled"
    assert weights.content("tiny") == hubs.files


def test_killed_in_the_middle(weights: Weights, hubs: Hubs, tmp_path: pathlib.Path) -> None:
    """SIGKILL of the module's process, then another run: only the missing bytes travel."""
    code = (
        "import json, sys; from tests.contract.dify_client_stack import run_module\nprint(run_module('model_weights', False, **json.loads(sys.argv[1])).text)"
    )
    options = {"models": [tiny(allow=[BIG])], "path": str(weights.root), "huggingface_endpoint": hubs.url, "reserve_gib": 0}
    hubs.fail({"match": "/cdn/", "kind": "slow", "at": 2_000_000, "seconds": 60})
    root = pathlib.Path(__file__).resolve().parent.parent.parent
    path = os.pathsep.join([str(root), str(root / "collections")])
    process = subprocess.Popen([sys.executable, "-c", code, json.dumps(options)], env={**os.environ, "PYTHONPATH": path}, cwd=root)
    try:
        partial = weights.root / "tiny" / ".incomplete"
        deadline = time.monotonic() + 30
        # What lies in the module's buffers is lost with it; whole chunks are on the disk.
        while time.monotonic() < deadline and not any(entry.stat().st_size > 1_000_000 for entry in (partial.iterdir() if partial.is_dir() else ())):
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    finally:
        process.wait()
    kept = sum(entry.stat().st_size for entry in partial.iterdir())
    assert 1_000_000 < kept <= 2_000_000
    assert not (weights.root / "tiny" / BIG).exists(), "half a file never has its name"
    hubs.forget()
    done = weights(tiny(allow=[BIG]))
    row = done.result["models"][0]
    assert (row["resumed_bytes"], row["fetched_bytes"]) == (kept, len(hubs.files[BIG]) - kept)
    assert hubs.sent("/cdn/") == len(hubs.files[BIG]) - kept
    assert weights.content("tiny") == {BIG: hubs.files[BIG]}


def test_a_server_that_knows_no_ranges(weights: Weights, hubs: Hubs, pauses: list[float]) -> None:
    hubs.fail({"match": BIG, "kind": "cut", "at": 1_000_000}, {"match": BIG, "kind": "norange"})
    done = weights(tiny("modelscope"))
    assert not done.failed, done.text
    assert weights.content("tiny") == hubs.files
    assert done.result["models"][0]["fetched_bytes"] == sum(map(len, hubs.files.values())) + 1_000_000


def test_wrong_bytes_are_fetched_once_more_and_then_refused(weights: Weights, hubs: Hubs) -> None:
    hubs.fail({"match": SECOND, "kind": "wrong"})
    assert not weights(tiny("modelscope")).failed
    assert weights.content("tiny") == hubs.files
    (weights.root / "tiny" / "config.json").unlink()
    hubs.fail({"match": "config.json", "kind": "wrong", "times": 2})
    failed = weights(tiny("modelscope"))
    assert failed.failed
    assert "with the wrong content" in failed.result["msg"]
    assert "config.json" not in weights.content("tiny")
    hubs.forget()
    assert not weights(tiny("modelscope")).failed


def test_a_server_that_is_busy_is_given_the_time_it_asks_for(weights: Weights, hubs: Hubs, pauses: list[float]) -> None:
    hubs.fail(
        {"match": "/api/", "kind": "status", "status": 429, "retry_after": 7},
        {"match": "config.json", "kind": "status", "status": 500},
        {"match": "config.json", "kind": "status", "status": 503, "retry_after": 11},
    )
    assert not weights(tiny()).failed
    assert sorted(pauses) == [1.0, 7.0, 11.0]
    hubs.fail({"match": "/api/", "kind": "status", "status": 503, "times": 100})
    hubs.server.state.log.clear()
    failed = weights({**tiny(), "name": "other"}, retries=2)
    assert "503" in failed.result["msg"]
    assert len(hubs.log) == 3


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"repo": "acme/none"}, ["there is no repository acme/none", "set huggingface_token"]),
        ({"repo": "acme/none", "source": "modelscope"}, ["there is no repository acme/none", "获取模型信息失败"]),
        ({"repo": "acme/tiny", "revision": "v9"}, ["no revision 'v9'"]),
        ({"repo": "acme/gated"}, ["is gated", "accept its terms", "huggingface_token"]),
        ({"repo": ""}, ["owner/name"]),
        ({"repo": "../../etc"}, ["owner/name"]),
        ({"repo": "acme/tiny", "name": "../up"}, ["no name for a folder"]),
        ({"source": "http", "url": "ftp://example.com/x"}, ["http or https"]),
        ({"source": "http", "url": "http://example.com/x.zip"}, ["an archive needs one"]),
        ({"source": "local"}, ["src is missing"]),
        ({"source": "local", "src": "/nowhere/at/all"}, ["no folder with files"]),
    ],
)
def test_no_means_no_and_stops_nobody_else(weights: Weights, hubs: Hubs, pauses: list[float], model: dict[str, t.Any], words: list[str]) -> None:
    outcome = weights({"name": "bad", **model}, tiny(allow=["config.json"]))
    assert outcome.failed
    bad, good = outcome.result["models"]
    for word in words:
        assert word in bad["reason"]
    assert (bad["action"], good["action"], good["failed"]) == ("refuse", "fetch", False)
    assert "config.json" in weights.content("tiny")
    assert not pauses, "nothing of it is tried again"


def test_a_token_goes_to_its_hub_and_nowhere_else(weights: Weights, hubs: Hubs) -> None:
    done = weights({"name": "gated", "repo": "acme/gated"}, huggingface_token=hubs.token)
    assert not done.failed, done.text
    assert weights.content("gated") == hubs.files
    to_cdn = [entry for entry in hubs.log if entry["path"].startswith("/cdn/")]
    assert to_cdn
    assert not [entry for entry in to_cdn if entry["token"]]
    assert not weights({"name": "gated2", "source": "modelscope", "repo": "acme/gated"}, modelscope_token=hubs.token).failed
    assert hubs.token not in "".join(path.read_text() for path in weights.root.rglob(".weights.json"))


def test_a_proxy_that_says_no_is_named(weights: Weights, hubs: Hubs, pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    hubs.fail({"match": "", "kind": "proxy"})
    assert "the proxy on the way says no" in weights(tiny()).result["msg"]
    hubs.forget()
    # A proxy from the environment is used: for plain HTTP it gets the whole address.
    monkeypatch.setenv("http_proxy", hubs.url)
    monkeypatch.setenv("no_proxy", "")
    assert not weights(tiny(allow=["config.json"]), huggingface_endpoint="http://hub.example.com").failed
    assert {entry["host"] for entry in hubs.log} == {"hub.example.com"}
    assert not pauses


def test_nobody_there(weights: Weights, hubs: Hubs, pauses: list[float]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    failed = weights(tiny(), huggingface_endpoint=url, retries=2)
    assert "refused" in failed.result["msg"].lower()
    assert pauses == [1.0, 2.0]
    hubs.fail({"match": "/api/", "kind": "slow", "at": 0, "seconds": 2})
    outcome = weights(tiny(), modelscope_endpoint=hubs.url, timeout=5)
    assert not outcome.failed


@pytest.mark.parametrize("kind", KINDS)
def test_a_hub_that_is_down_does_not_stop_what_is_here(weights: Weights, hubs: Hubs, pauses: list[float], kind: str) -> None:
    assert not weights(tiny(kind)).failed
    hubs.fail({"match": "/api/", "kind": "status", "status": 503, "times": 99})
    kept = weights(tiny(kind))
    assert (kept.failed, kept.result["changed"]) == (False, False)
    assert "could not be asked" in str(kept.result["warnings"])
    (weights.root / "tiny" / "config.json").unlink()
    assert weights(tiny(kind)).failed, "but not when something is missing"


def test_no_room(weights: Weights, hubs: Hubs) -> None:
    huge = 10**6
    failed = weights(tiny(), reserve_gib=huge)
    assert "GiB have to come" in failed.result["msg"]
    assert [entry["method"] for entry in hubs.log] == ["GET"], "only the question"
    assert weights.content("tiny") == {} if weights.root.exists() else True


# Other sources


def test_a_plain_folder(weights: Weights, hubs: Hubs, pauses: list[float]) -> None:
    model = {"name": "plain", "source": "http", "url": hubs.url + "/files/tiny"}
    predicted = weights(model, check=True)
    assert predicted.result["models"][0]["missing_bytes"] == sum(map(len, hubs.files.values()))
    hubs.fail({"match": BIG, "kind": "cut", "at": 2_000_000})
    hubs.server.state.faults[0]["times"] = 2  # the question for its size is not cut
    assert not weights(model).failed
    assert weights.content("plain") == hubs.files
    hubs.forget()
    assert not weights(model).result["changed"]
    assert len(hubs.log) == 1
    files = [{"path": path, "sha256": hubs.code.sha256(data), "size": len(data)} for path, data in hubs.files.items()]
    listed = {"name": "listed", "source": "http", "url": hubs.url + "/files/tiny", "files": files}
    assert not weights(listed).failed
    hubs.forget()
    assert not weights(listed).result["changed"]
    assert hubs.log == []
    missing = {"name": "x", "source": "http", "url": hubs.url + "/files/none"}
    assert "SHA256SUMS of" in weights(missing).result["msg"]


def test_an_archive(weights: Weights, hubs: Hubs) -> None:
    model = {"name": "packed", "source": "http", "url": hubs.url + "/files/tiny.tar.gz", "sha256": hubs.code.sha256(hubs.server.state.archive)}
    done = weights(model)
    assert not done.failed, done.text
    assert weights.content("packed") == hubs.files
    hubs.forget()
    assert not weights(model).result["changed"]
    assert hubs.log == []
    assert not weights(model, checksum=True).result["changed"]
    assert "wrong content" in weights({**model, "name": "wrong", "sha256": "0" * 64}).result["msg"]


def test_a_folder_of_the_host(weights: Weights, hubs: Hubs, tmp_path: pathlib.Path) -> None:
    source = tmp_path / "share"
    (source / "sub").mkdir(parents=True)
    (source / "a.bin").write_bytes(b"a" * 100_000)
    (source / "sub" / "b.bin").write_bytes(b"b" * 10)
    model = {"name": "copied", "source": "local", "src": str(source)}
    assert not weights(model).failed
    assert weights.content("copied") == {"a.bin": b"a" * 100_000, "sub/b.bin": b"b" * 10}
    assert not weights(model).result["changed"]
    (source / "sub" / "b.bin").write_bytes(b"c" * 10)
    assert weights(model).result["models"][0]["missing"] == ["sub/b.bin"]
    assert hubs.log == []


def test_a_large_repository_is_listed_page_by_page(weights: Weights, hubs: Hubs) -> None:
    predicted = weights({"name": "many", "repo": "acme/many"}, check=True)
    assert predicted.result["models"][0]["files"] == 1100
    assert predicted.result["requests"] == 3


def test_two_at_once(weights: Weights, hubs: Hubs) -> None:
    """Two controllers with the same list: the second waits for the first and finds everything there."""
    from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_run import Model, fetch_all, look_at, only_one
    from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_sources import source_of

    source, problem = source_of(tiny(), {"huggingface_endpoint": hubs.url})
    assert not problem
    fetched: list[int] = []

    def one() -> None:
        web = _weights_http.Web(_weights_http.ansible_opener(20))
        model = Model("tiny", source, str(weights.root))
        with only_one(str(weights.root)):
            look_at([model], web, 2)
            fetch_all([model], web, 2)
        assert not model.failed, model.reason
        fetched.append(model.fetched)

    threads = [threading.Thread(target=one) for _number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(fetched) == [0, sum(map(len, hubs.files.values()))]
    assert weights.content("tiny") == hubs.files
