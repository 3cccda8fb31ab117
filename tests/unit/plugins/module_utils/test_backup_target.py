# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups elsewhere: signatures as Amazon publishes them, what counts as a backup there, and what faults leave behind."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
from urllib.parse import unquote

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _backup_target as targets
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _s3
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_seal import BackupError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import ServerUnreachable

# Published with Amazon S3's API reference, "Signature Calculations for the Authorization Header".
EXAMPLE = _s3.Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
HOST = "https://examplebucket.s3.amazonaws.com"
NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
TEXT = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"


@pytest.mark.parametrize(
    ("method", "path", "headers", "payload", "signature"),
    [
        ("GET", "/test.txt", {"Range": "bytes=0-9"}, NOTHING, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
        (
            "PUT",
            "/test%24file.text",
            {"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            TEXT,
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        ("GET", "/?lifecycle", {}, NOTHING, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("GET", "/?max-keys=2&prefix=J", {}, NOTHING, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
        # The server puts the words in order, whatever order they are sent in.
        ("GET", "/?prefix=J&max-keys=2", {}, NOTHING, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ],
)
def test_signatures_are_the_published_ones(method, path, headers, payload, signature):
    signed = _s3.sign(method, HOST + path, headers, payload, EXAMPLE, "us-east-1", "20130524T000000Z")
    assert signed["Authorization"].rpartition("=")[2] == signature


def test_a_session_token_is_signed_and_the_secret_is_nowhere():
    signed = _s3.sign("GET", HOST + "/", {}, NOTHING, _s3.Keys("id", "secret words", "token"), "us-east-1", "20130524T000000Z")
    assert "x-amz-security-token" in signed["Authorization"] and "secret words" not in str(signed)


@pytest.mark.parametrize("size", [0, 1, _s3.PART_BYTES, 10000 * _s3.PART_BYTES, 10000 * _s3.PART_BYTES + 1, _s3.LARGEST])
def test_every_size_fits_into_the_parts_that_there_are(size):
    length = _s3.part_bytes(size)
    assert length >= 5 << 20 and -(-size // length) <= _s3.MOST_PARTS and length <= 5 << 30


class Server:
    """A transport that keeps objects, lists three of them at a time, and answers as told: ``faults``: (method, part of the address) -> answers."""

    def __init__(self):
        self.objects, self.faults, self.asked, self.uploads = {}, {}, [], {}

    def __call__(self, method, url, body, headers, timeout):
        self.asked.append(f"{method} {url.partition('/b')[2]}")
        for (wanted, part), answers in self.faults.items():
            if wanted == method and part in url and answers:
                answer = answers.pop(0)
                if isinstance(answer, Exception):
                    raise answer
                return answer
        path, unused, query = url.partition("/b/")[2].partition("?")
        if method == "GET" and "list-type" in query:
            words = {key: unquote(value) for key, unused, value in (word.partition("=") for word in query.split("&"))}
            after = words.get("continuation-token", "")
            names = [name for name in sorted(self.objects) if name.startswith(words["prefix"]) and name > after]
            rows = "".join(f"<Contents><Key>{name}</Key><Size>{len(self.objects[name])}</Size></Contents>" for name in names[:3])
            more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{names[2]}</NextContinuationToken>" if len(names) > 3 else ""
            return 200, [], f"<ListBucketResult>{rows}{more}</ListBucketResult>".encode()
        if method == "GET":
            first, last = (int(word) for word in headers["range"].partition("=")[2].split("-"))
            return 206, [], self.objects[path][first : last + 1]
        if method == "POST" and query == "uploads=":
            self.uploads[path] = {}
            return 200, [], b"<X><UploadId>a/b+c</UploadId></X>"
        if method == "POST":
            self.objects[path] = b"".join(content for number, content in sorted(self.uploads.pop(path).items()))
            return 200, [], b"<CompleteMultipartUploadResult></CompleteMultipartUploadResult>"
        if method == "PUT" and "partNumber" in query:
            self.uploads[path][int(query.split("=")[1].split("&")[0])] = body
            return 200, [("ETag", '"x"')], b""
        if method == "PUT":
            self.objects[path] = body
            return 200, [], b""
        if method == "DELETE" and "uploadId" in query:
            self.uploads.pop(path, None)
        if method == "DELETE" and not query:
            self.objects.pop(path, None)
        return 204, [], b""


@pytest.fixture()
def server():
    return Server()


def in_bucket(server):
    return targets.InBucket(_s3.Bucket(server, "http://s3.test:9000", "b", EXAMPLE, "some/where", pause=lambda seconds: None))


def backup(folder: pathlib.Path, name: str) -> str:
    path = folder / name
    path.mkdir(parents=True)
    for file in ("manifest.json", "manifest.hmac", "database-dify.enc", "settings.enc"):
        (path / file).write_bytes(f"{name} {file}".encode() * 3)
    return str(path)


def stamped(day: int) -> str:
    return f"dify-a-202611{day:02d}T000000Z"


needs_rsync = pytest.param("rsync", marks=pytest.mark.skipif(not shutil.which("rsync"), reason="rsync is not here"))


@pytest.fixture(params=["s3", needs_rsync])
def target(request, server, tmp_path):
    if request.param == "s3":
        return in_bucket(server)
    (tmp_path / "elsewhere").mkdir()
    return targets.ByRsync(str(tmp_path / "elsewhere"), "ssh")


def test_backups_are_sent_kept_and_fetched(target, tmp_path):
    for day in (1, 2, 3):
        made = targets.send(target, backup(tmp_path / "here", stamped(day)), "dify", "a", 2, "")
    assert made["removed"] == [stamped(1)] and made["backups"] == [stamped(3), stamped(2)] and made["bytes"] > 0
    again = targets.send(target, str(tmp_path / "here" / stamped(3)), "dify", "a", 2, "")
    assert (again["changed"], again["bytes"]) == (False, 0)
    got = targets.fetch(target, str(tmp_path / "new"), "dify", "a")
    assert got["changed"] and got["backup"] == str(tmp_path / "new" / stamped(3))
    for file in os.listdir(got["backup"]):
        assert pathlib.Path(got["backup"], file).read_bytes() == (tmp_path / "here" / stamped(3) / file).read_bytes()
        assert os.stat(os.path.join(got["backup"], file)).st_mode & 0o777 == 0o600
    assert not targets.fetch(target, str(tmp_path / "new"), "dify", "a")["changed"]
    assert targets.fetch(target, str(tmp_path / "new"), "dify", "a", stamped(2))["backup"].endswith(stamped(2))


def test_other_hosts_and_strangers_are_left_alone(target, tmp_path):
    others = {"dify-a-b-20261101T000000Z": "a-b", "dify-b-20261101T000000Z": "b"}
    for name, host in others.items():
        targets.send(target, backup(tmp_path / "here", name), "dify", host, 1, "")
    for day in (1, 2):
        targets.send(target, backup(tmp_path / "here", stamped(day)), "dify", "a", 1, "")
    for name, host in others.items():
        assert targets.whole(target.listing("dify-"), "dify", host) == [name]
    assert targets.whole(target.listing("dify-"), "dify", "a") == [stamped(2)]


def test_what_has_no_manifest_is_no_backup_and_goes_with_the_next(target, tmp_path):
    torn = backup(tmp_path / "here", stamped(1))
    target.send(torn, stamped(1), ["manifest.hmac", "settings.enc"])
    assert targets.whole(target.listing("dify-a-"), "dify", "a") == []
    with pytest.raises(BackupError, match="there is none of dify on a"):
        targets.fetch(target, str(tmp_path / "new"), "dify", "a")
    made = targets.send(target, backup(tmp_path / "here", stamped(2)), "dify", "a", 7, "")
    assert made["removed"] == [stamped(1)] and list(target.listing("dify-a-")) == [stamped(2)]


def test_the_manifest_is_sent_last_and_removed_first(server, tmp_path):
    target = in_bucket(server)
    for day in (1, 2):
        targets.send(target, backup(tmp_path, stamped(day)), "dify", "a", 1, "")
    puts = [line for line in server.asked if line.startswith("PUT") and stamped(2) in line]
    deletes = [line for line in server.asked if line.startswith("DELETE")]
    assert puts[-1].endswith("manifest.json") and deletes[0].endswith("manifest.json") and len(deletes) == 4


def test_a_big_file_goes_in_parts_and_comes_back_the_same(server, tmp_path, monkeypatch):
    monkeypatch.setattr(_s3, "PART_BYTES", 1000)
    path = backup(tmp_path / "here", stamped(1))
    content = os.urandom(3210)
    pathlib.Path(path, "database-dify.enc").write_bytes(content)
    targets.send(in_bucket(server), path, "dify", "a", 1, "")
    assert sum("partNumber" in line for line in server.asked) == 4
    got = targets.fetch(in_bucket(server), str(tmp_path / "new"), "dify", "a")
    assert pathlib.Path(got["backup"], "database-dify.enc").read_bytes() == content


def error(status, code):
    return (status, [], f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())


def test_an_upload_that_cannot_be_finished_leaves_no_parts(server, tmp_path, monkeypatch):
    monkeypatch.setattr(_s3, "PART_BYTES", 20)
    server.faults[("PUT", "partNumber=2")] = [error(507, "InsufficientStorage")]
    with pytest.raises(BackupError, match="disk is full"):
        targets.send(in_bucket(server), backup(tmp_path, stamped(1)), "dify", "a", 1, "")
    assert server.uploads == {}
    assert targets.whole(in_bucket(server).listing("dify-a-"), "dify", "a") == []


def test_a_completion_that_is_answered_with_an_error_is_one(server, tmp_path, monkeypatch):
    monkeypatch.setattr(_s3, "PART_BYTES", 20)
    server.faults[("POST", "uploadId")] = [error(200, "InvalidPart")]
    with pytest.raises(BackupError, match="InvalidPart"):
        targets.send(in_bucket(server), backup(tmp_path, stamped(1)), "dify", "a", 1, "")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (error(403, "SignatureDoesNotMatch"), "secret key is not the one"),
        (error(403, "InvalidAccessKeyId"), "does not know this access key"),
        (error(404, "NoSuchBucket"), "no such bucket"),
        (error(400, "AuthorizationHeaderMalformed"), "another region"),
        ((502, [], b"<html>bad gateway</html>"), "HTTP 502"),
    ],
)
def test_refusals_say_what_to_do(server, answer, words):
    server.faults[("GET", "list-type")] = [answer] * 9
    with pytest.raises(BackupError, match=words):
        in_bucket(server).listing("dify-a-")
    assert len(server.asked) == (_s3.TRIES if answer[0] == 502 else 1)


def test_a_server_that_is_away_for_a_moment_is_asked_again(server, tmp_path):
    away = ServerUnreachable("PUT", "http://s3.test:9000/b", "reset")
    server.faults[("PUT", "settings.enc")] = [away, error(503, "SlowDown")]
    assert targets.send(in_bucket(server), backup(tmp_path, stamped(1)), "dify", "a", 1, "")["changed"]
    server.faults[("GET", "list-type")] = [away] * 9
    with pytest.raises(BackupError, match="does not answer: reset"):
        in_bucket(server).listing("dify-a-")


def test_a_listed_name_is_no_path_on_this_host(server, tmp_path):
    server.objects = {f"some/where/{stamped(1)}/{name}": b"x" for name in ("manifest.json", "../../etc/passwd")}
    with pytest.raises(BackupError, match="which no backup has"):
        targets.fetch(in_bucket(server), str(tmp_path), "dify", "a")
    assert os.listdir(tmp_path) == []


def test_a_fetch_that_breaks_off_leaves_nothing(server, tmp_path):
    targets.send(in_bucket(server), backup(tmp_path / "here", stamped(1)), "dify", "a", 1, "")
    server.faults[("GET", "settings.enc")] = [(206, [], b"short")]
    with pytest.raises(BackupError, match="sent 5 bytes"):
        targets.fetch(in_bucket(server), str(tmp_path / "new"), "dify", "a")
    assert os.listdir(tmp_path / "new") == []


@pytest.mark.parametrize("endpoint", ["ftp://x", "http://", "http://user@x", "http://x/?a=b"])
def test_an_endpoint_that_is_none_is_refused(server, endpoint):
    with pytest.raises(BackupError, match="is no address of a server"):
        _s3.Bucket(server, endpoint, "b", EXAMPLE)


@pytest.mark.parametrize(("path_style", "url"), [(True, "https://s3.test/base/b/?list"), (False, "https://b.s3.test/base/?list")])
def test_the_bucket_is_where_it_is_said(path_style, url):
    asked = []
    bucket = _s3.Bucket(lambda *words: asked.append(words[1]) or (200, [], b""), "https://s3.test:443/base", "b", EXAMPLE, path_style=path_style)
    assert bucket.names() == {} and asked[0].startswith(url)


def test_a_listing_that_does_not_go_on_is_an_error():
    same = b"<IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>"
    with pytest.raises(BackupError, match="the same page"):
        _s3.Bucket(lambda *words: (200, [], same), "http://s3.test", "b", EXAMPLE).names()


def test_rsync_says_what_went_wrong():
    away = targets.ByRsync("nobody@nowhere:/x", "ssh", lambda argv, timeout: (255, "", "ssh: connect refused\n"))
    with pytest.raises(BackupError, match="ended with 255: ssh: connect refused"):
        away.listing("dify-a-")
    none = targets.ByRsync("nobody@nowhere:/x", "ssh", lambda argv, timeout: (127, "", ""))
    with pytest.raises(BackupError, match="install the package rsync"):
        none.listing("dify-a-")


@pytest.mark.skipif(not shutil.which("rsync"), reason="rsync is not here")
def test_rsync_on_a_full_disk_leaves_no_backup_there(tmp_path):
    (tmp_path / "full").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path / "full")], check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        path = backup(tmp_path / "here", stamped(1))
        pathlib.Path(path, "settings.enc").write_bytes(b"x" * 200000)
        target = targets.ByRsync(str(tmp_path / "full"), "ssh")
        with pytest.raises(BackupError, match="No space left on device"):
            targets.send(target, path, "dify", "a", 1, "")
        assert targets.whole(target.listing("dify-a-"), "dify", "a") == []
    finally:
        subprocess.run(["umount", str(tmp_path / "full")], check=True)
