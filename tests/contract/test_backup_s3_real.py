"""The S3 client against a server that is not ours: signatures, parts, listing page by page, refusals."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _backup_target as targets
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _s3
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_seal import BackupError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import open_url_transport

from tests.tools import s3_server

MIB = 1 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[s3_server.Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with s3_server.serve(port) as made:
        yield made


def bucket(server: s3_server.Server, prefix: str, **other: str) -> _s3.Bucket:
    words = {**server._asdict(), **other}
    keys = _s3.Keys(words["access_key"], words["secret_key"])
    return _s3.Bucket(open_url_transport(), words["endpoint"], words["bucket"], keys, prefix, pause=lambda seconds: None)


def test_files_of_all_sizes_come_back_the_same(server: s3_server.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_s3, "PART_BYTES", 5 * MIB)
    there = bucket(server, "a b+c/ü")
    for size in (0, 1, 5 * MIB, 12 * MIB + 1):
        (tmp_path / "sent").write_bytes(os.urandom(size))
        assert there.send(str(tmp_path / "sent"), f"size-{size}.enc") == size
        there.fetch(f"size-{size}.enc", str(tmp_path / "came"), size)
        assert (tmp_path / "came").read_bytes() == (tmp_path / "sent").read_bytes()
    assert there.names("size-1")["size-1.enc"] == 1 and len(there.names()) == 4
    there.remove("size-1.enc")
    there.remove("size-1.enc")
    assert "size-1.enc" not in there.names()


def test_more_names_than_one_page_has_are_listed(server: s3_server.Server, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    there = bucket(server, "many")
    for number in range(45):
        there.send(str(tmp_path / "x"), f"{number:04d}")
    assert sorted(there.names()) == [f"{number:04d}" for number in range(45)]


def test_backups_are_sent_kept_and_fetched(server: s3_server.Server, tmp_path: Path) -> None:
    target = targets.InBucket(bucket(server, "dify/production"))
    for day in (1, 2, 3):
        name = f"dify-a-202611{day:02d}T000000Z"
        (tmp_path / name).mkdir()
        for file in ("manifest.json", "manifest.hmac", "settings.enc"):
            (tmp_path / name / file).write_bytes(f"{name} {file}".encode())
        made = targets.send(target, str(tmp_path / name), "dify", "a", 2, "")
    assert made["removed"] == ["dify-a-20261101T000000Z"]
    got = targets.fetch(target, str(tmp_path / "new"), "dify", "a")
    assert (Path(got["backup"]) / "settings.enc").read_bytes() == b"dify-a-20261103T000000Z settings.enc"


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"secret_key": "wrong"}, "secret key is not the one"),
        ({"access_key": "AKIAWRONGWRONGWRONG1"}, "does not know this access key"),
        ({"bucket": "none-of-that-name"}, "no such bucket"),
        ({"endpoint": "http://127.0.0.1:9"}, "does not answer"),
    ],
)
def test_refusals_say_what_to_do(server: s3_server.Server, other: dict[str, str], words: str) -> None:
    with pytest.raises(BackupError, match=words):
        bucket(server, "", **other).names()
