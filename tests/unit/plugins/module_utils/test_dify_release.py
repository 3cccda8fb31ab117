# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import io
import os
import pathlib
import stat
import subprocess
import tarfile

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_release import (
    ReleaseError,
    install,
    is_initialized,
    is_installed,
    other_release_problem,
    release_path,
)

COMPOSE = "services:\n  init_permissions:\n    image: busybox\n  api: {}\n"


def archive(path, entries):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in entries.items():
            member = tarfile.TarInfo(name)
            member.size = len(content.encode())
            tar.addfile(member, io.BytesIO(content.encode()))
    return str(path)


@pytest.fixture
def release(tmp_path):
    return archive(
        tmp_path / "r.tar.gz",
        {
            "dify-1.16.1/README.md": "x",
            "dify-1.16.1/docker/docker-compose.yaml": COMPOSE,
            "dify-1.16.1/docker/.env.example": "A=1\n",
            "dify-1.16.1/docker/volumes/sandbox/conf/config.yaml": "new",
        },
    )


def test_release_lands_whole_and_shares_its_volumes(tmp_path, release):
    home = str(tmp_path / "dify")
    os.makedirs(f"{home}/volumes/sandbox/conf")
    with open(f"{home}/volumes/sandbox/conf/config.yaml", "w") as handle:
        handle.write("mine")
    install(home, "1.16.1", src=release)
    path = release_path(home, "1.16.1")
    assert is_installed(home, "1.16.1")
    assert os.readlink(f"{path}/volumes") == f"{home}/volumes"
    assert pathlib.Path(home, "volumes/sandbox/conf/config.yaml").read_text() == "mine"
    assert os.listdir(f"{home}/releases") == ["1.16.1"]
    assert not is_initialized(home, "1.16.1")
    os.makedirs(f"{home}/volumes/app/storage")
    open(f"{home}/volumes/app/storage/.init_permissions", "w").close()
    assert is_initialized(home, "1.16.1")


@pytest.mark.filterwarnings("error")
def test_modes_are_the_same_on_every_python(tmp_path):
    with tarfile.open(tmp_path / "r.tar.gz", "w:gz") as tar:
        for name, kind, mode in (("d/docker", tarfile.DIRTYPE, 0o2775), ("d/docker/docker-compose.yaml", tarfile.REGTYPE, 0o4777)):
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, mode
            tar.addfile(member)
    install(str(tmp_path / "dify"), "1.16.1", src=str(tmp_path / "r.tar.gz"))
    path = release_path(str(tmp_path / "dify"), "1.16.1")
    assert [stat.S_IMODE(os.stat(name).st_mode) for name in (path, f"{path}/docker-compose.yaml")] == [0o755, 0o755]


def test_interrupted_unpacking_leaves_nothing_that_counts(tmp_path, release):
    home = str(tmp_path / "dify")
    os.makedirs(f"{home}/releases/.unpack-old/tree")
    os.makedirs(release_path(home, "1.16.1"))
    assert not is_installed(home, "1.16.1")
    install(home, "1.16.1", src=release)
    assert is_installed(home, "1.16.1")
    assert os.listdir(f"{home}/releases") == ["1.16.1"]


def test_wrong_checksum_is_named_and_nothing_is_unpacked(tmp_path, release):
    home = str(tmp_path / "dify")
    with pytest.raises(ReleaseError, match="Nothing was unpacked"):
        install(home, "1.16.1", src=release, checksum="sha256:" + "0" * 64)
    assert os.listdir(f"{home}/releases") == []
    with open(release, "rb") as handle:
        install(home, "1.16.1", src=release, checksum="sha256:" + hashlib.sha256(handle.read()).hexdigest())


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"other/file": "x"}, "no archive of a Dify release"),
        ({"d/docker/docker-compose.yaml": COMPOSE, "d/docker/../../evil": "x"}, "suspicious entry"),
    ],
)
def test_foreign_archives_are_refused(tmp_path, entries, words):
    path = archive(tmp_path / "x.tar.gz", entries)
    with pytest.raises(ReleaseError, match=words):
        install(str(tmp_path / "dify"), "1.16.1", src=path)


def test_damaged_archive_and_missing_source_are_named(tmp_path, release):
    with open(release, "r+b") as handle:
        handle.truncate(100)
    with pytest.raises(ReleaseError, match="cannot be unpacked"):
        install(str(tmp_path / "dify"), "1.16.1", src=release)
    with pytest.raises(ReleaseError, match="does not exist"):
        install(str(tmp_path / "dify"), "1.16.1", src=str(tmp_path / "nope.tar.gz"))


def test_folder_is_taken_as_it_is(tmp_path):
    source = tmp_path / "checkout" / "docker"
    source.mkdir(parents=True)
    (source / "docker-compose.yaml").write_text("services:\n  api:\n    image: x\n")
    install(str(tmp_path / "dify"), "1.16.1", src=str(tmp_path / "checkout"))
    assert is_initialized(str(tmp_path / "dify"), "1.16.1")
    assert (source / "docker-compose.yaml").exists()


def test_a_mirror_stands_in_for_an_address_that_fails(tmp_path, release):
    home = str(tmp_path / "dify")
    (tmp_path / "torn.tar.gz").write_bytes(pathlib.Path(release).read_bytes()[:90])
    addresses = [f"file://{tmp_path}/none.tar.gz", f"file://{tmp_path}/torn.tar.gz"]
    with pytest.raises(ReleaseError, match=r"could not be downloaded from .*none.*torn.*cannot be unpacked"):
        install(home, "1.16.1", urls=addresses)
    install(home, "1.16.1", urls=[*addresses, f"file://{release}"])
    assert is_installed(home, "1.16.1")


@pytest.fixture
def repository(tmp_path):
    tree = tmp_path / "repository"
    (tree / "docker").mkdir(parents=True)
    (tree / "docker" / "docker-compose.yaml").write_text(COMPOSE)
    person = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "."], [*person, "commit", "-qm", "x"], ["tag", "1.16.1"]):
        subprocess.run(["git", *words], cwd=tree, check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tree, check=True, capture_output=True, text=True).stdout.strip()
    return str(tree), commit


def test_a_tag_is_cloned_and_held_to_its_commit(tmp_path, repository):
    home, (tree, commit) = str(tmp_path / "dify"), repository
    with pytest.raises(ReleaseError, match=f"is commit {commit}, expected 0000"):
        install(home, "1.16.1", git=tree, checksum="commit:" + "0" * 40)
    install(home, "1.16.1", git=tree, checksum=f"commit:{commit}")
    assert is_installed(home, "1.16.1")
    assert os.listdir(f"{home}/releases/1.16.1") == ["docker"]


def test_a_tag_or_repository_that_is_not_there_is_named(tmp_path, repository):
    with pytest.raises(ReleaseError, match=r"Tag 9\.9\.9 could not be cloned.*dify_release_git"):
        install(str(tmp_path / "dify"), "9.9.9", git=repository[0])
    with pytest.raises(ReleaseError, match="commit:<id>"):
        install(str(tmp_path / "dify"), "1.16.1", git=repository[0], checksum="sha256:00")


@pytest.mark.parametrize(
    ("running", "said"),
    [
        ([], ""),
        (["/opt/dify/releases/1.16.1/docker"], ""),
        (["/srv/somebody/dify/docker", ""], ""),  # its ports say what there is to say
        (["/opt/dify/releases/1.9.2/docker"], "Dify 1.9.2 is on this host"),
    ],
)
def test_another_release_is_left_to_the_upgrade(running, said):
    problem = other_release_problem("/opt/dify/", running, "1.16.1")
    assert said in problem
    assert ("upgrade.yml" in problem) == bool(said)
