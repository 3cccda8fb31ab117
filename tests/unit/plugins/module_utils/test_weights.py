# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import pathlib
import tarfile
from typing import Any

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _weights_fetch as fetching
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _weights_http as http
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _weights_plan as planning
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _weights_sources as sources
from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_declared import weights_of, with_weights

A = planning.File("a.bin", 10, "sha256:aa")
B = planning.File("sub/b.bin", 20, "git:bb")
DIGEST = "0" * 64


def test_what_was_verified_and_is_untouched_is_kept() -> None:
    known = {"files": {"a.bin": {"size": 10, "mtime_ns": 5, "digest": "sha256:aa"}, "old.bin": {"size": 1, "mtime_ns": 1, "digest": "git:cc"}}}
    found = {"a.bin": (10, 5), "old.bin": (1, 1)}
    plan = planning.decide([A, B], known, found)
    assert (plan.keep, plan.fetch, plan.remove) == ([A], [B], ["old.bin"])
    for changed in ({"a.bin": (10, 6)}, {"a.bin": (9, 5)}, {}):
        assert A in planning.decide([A, B], known, changed).fetch
    assert planning.decide([A._replace(digest="sha256:dd")], known, found).keep == []
    assert planning.decide([A, B], {}, {"a.bin": (10, 6)}, verified={"a.bin"}).keep == [A]


def test_only_what_may_be_right_is_read() -> None:
    known = {"files": {"a.bin": {"size": 10, "mtime_ns": 5, "digest": "sha256:aa"}}}
    assert planning.to_read([A, B], known, {"a.bin": (10, 5), "sub/b.bin": (19, 1)}, False) == []
    assert planning.to_read([A, B], known, {"a.bin": (10, 6), "sub/b.bin": (20, 1)}, False) == [A, B]
    assert planning.to_read([A], known, {"a.bin": (10, 5)}, True) == [A]


def test_bytes_that_have_to_come() -> None:
    plan = planning.Plan([A, B], [], [])
    assert plan.bytes_to_come({}) == 30
    assert plan.bytes_to_come({planning.partial_name(A): 4}) == 26


def test_a_partial_file_belongs_to_one_content() -> None:
    assert planning.partial_name(A) != planning.partial_name(A._replace(digest="sha256:ab"))
    assert "/" not in planning.partial_name(B)
    assert planning.partial_name(planning.File("a/b", 1, "sha256:1")) != planning.partial_name(planning.File("a%2Fb", 1, "sha256:1"))


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a\\b", "./a", ".weights.json", ".incomplete/x", "a\0b"])
def test_paths_that_lead_out(path: str) -> None:
    assert planning.problem_with_path(path)


@pytest.mark.parametrize("path", ["a", "a/b.c", "docs/read me.md", "..a", ".gitattributes", "模型.bin"])
def test_paths_that_do_not(path: str) -> None:
    assert not planning.problem_with_path(path)


@pytest.mark.parametrize(
    ("allow", "ignore", "expected"),
    [
        ([], [], ["a.bin", "onnx/m.onnx", "onnx/x/y.bin"]),
        (["*.bin"], [], ["a.bin", "onnx/x/y.bin"]),
        ([], ["onnx/*"], ["a.bin"]),
        ([], ["onnx/"], ["a.bin"]),
        (["onnx/"], ["*.onnx"], ["onnx/x/y.bin"]),
    ],
)
def test_patterns(allow: list[str], ignore: list[str], expected: list[str]) -> None:
    assert [path for path in ("a.bin", "onnx/m.onnx", "onnx/x/y.bin") if planning.selected(path, allow, ignore)] == expected


def test_checksums() -> None:
    assert planning.parse_checksums(f"{DIGEST}  ./a b.bin\n\n# x\n{DIGEST} *c\n") == [("a b.bin", DIGEST), ("c", DIGEST)]
    for bad in ("", "zz  a", "<html>"):
        with pytest.raises(ValueError, match="line"):
            planning.parse_checksums(bad)


def test_pauses() -> None:
    assert [http.pause_before_retry(failures) for failures in (1, 2, 3, 9)] == [1, 2, 4, 30]
    assert http.pause_before_retry(1, "7") == 7
    assert http.pause_before_retry(1, "99999") == http.LONGEST_PAUSE
    assert http.pause_before_retry(1, "Thu, 01 Jan 1970 00:01:40 GMT", now=60) == 40
    assert http.pause_before_retry(2, "soon") == 2


def test_nothing_secret_is_shown() -> None:
    assert http.shown("https://user:pass@example.com:8443/a/b?X-Signature=1#x") == "https://example.com:8443/a/b"


def test_a_revision_that_cannot_move() -> None:
    assert planning.is_commit("a" * 40)
    for moving in ("main", "v1.0", "A" * 40, "a" * 39, ""):
        assert not planning.is_commit(moving)


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        ({"repo": "a/b"}, ""),
        ({"repo": "gpt2"}, ""),
        ({"repo": "a/b/c"}, "owner/name"),
        ({"source": "http", "url": "https://example.com/x"}, ""),
        ({"source": "http", "url": "example.com/x"}, "http or https"),
        ({"source": "http", "url": "https://example.com/x.tgz", "sha256": DIGEST}, ""),
        ({"source": "http", "url": "https://example.com/x.tgz"}, "archive needs one"),
        ({"source": "http", "url": "https://example.com/x", "files": [{"path": "a", "sha256": "12"}]}, "64 hexadecimal"),
        ({"source": "local"}, "src is missing"),
    ],
)
def test_declarations(declared: dict[str, Any], problem: str) -> None:
    assert problem in sources.source_of(declared, {})[1]
    assert bool(problem) == bool(sources.source_of(declared, {})[1])


def test_endpoints() -> None:
    assert sources.source_of({"repo": "a/b"}, {})[0].endpoint == "https://huggingface.co"
    assert sources.source_of({"repo": "a/b"}, {"huggingface_endpoint": "https://hf-mirror.com/"})[0].endpoint == "https://hf-mirror.com"
    source, _problem = sources.source_of({"repo": "a/b", "source": "modelscope"}, {"modelscope_endpoint": "www.modelscope.cn"})
    assert sources.file_url(source, "", "x y/模.bin") == "https://www.modelscope.cn/api/v1/models/a/b/repo?Revision=master&FilePath=x%20y%2F%E6%A8%A1.bin"
    source, _problem = sources.source_of({"repo": "a/b", "revision": "refs/pr/1"}, {})
    assert sources.file_url(source, "", "x.bin") == "https://huggingface.co/a/b/resolve/refs%2Fpr%2F1/x.bin"
    assert sources.file_url(source, "c0ffee", "x.bin") == "https://huggingface.co/a/b/resolve/c0ffee/x.bin"


def test_git_names_a_blob() -> None:
    digest = fetching.Digest("git:ce013625030ba8dba906f756967f9e9ca394464a", 6)
    digest.update(b"hello\n")
    assert digest.right


@pytest.mark.parametrize("name", ["../out", "/abs", "link"])
def test_archives_that_reach_out(tmp_path: pathlib.Path, name: str) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as pack:
        entry = tarfile.TarInfo(name)
        if name == "link":
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        pack.addfile(entry, io.BytesIO(b""))
        pack.addfile(tarfile.TarInfo("ok"), io.BytesIO(b""))
    (tmp_path / "out").mkdir()
    with pytest.raises(sources.Refused):
        fetching.unpack(str(path), "x.tar", str(tmp_path / "out"))


def test_a_declared_model_names_its_weights_once() -> None:
    models = [
        {"uid": "chat", "weights": {"repo": "a/b", "revision": "v1", "file": "x.gguf"}},
        {"uid": "embed", "weights": "c/d", "model_path": "/mine"},
        {"uid": "gone", "weights": "e/f", "state": "absent"},
        {"uid": "big", "weights": "g/h", "refused": "it fits on no GPU"},
        {"uid": "plain"},
    ]
    assert weights_of(models, "modelscope") == [
        {"name": "chat", "source": "modelscope", "repo": "a/b", "revision": "v1"},
        {"name": "embed", "source": "modelscope", "repo": "c/d"},
    ]
    launched = with_weights(models, "/weights", [{"name": "embed", "failed": True, "reason": "gated"}])
    assert launched[0] == {"uid": "chat", "model_path": "/weights/chat/x.gguf"}
    assert launched[1] == {"uid": "embed", "model_path": "/mine", "refused": "its weights are not here: gated"}
    assert launched[2] == {"uid": "gone", "state": "absent"}
    assert launched[3]["refused"] == "it fits on no GPU"
    assert launched[4] == {"uid": "plain"}


def test_two_models_may_share_weights_and_may_not_share_a_name() -> None:
    shared = [{"uid": uid, "weights": {"name": "one", "repo": "a/b"}} for uid in ("x", "y")]
    assert weights_of(shared) == [{"name": "one", "source": "huggingface", "repo": "a/b"}]
    shared[1]["weights"] = {"name": "one", "repo": "c/d"}
    assert [entry["name"] for entry in weights_of(shared)] == ["one", "one"], "the module refuses the second"
