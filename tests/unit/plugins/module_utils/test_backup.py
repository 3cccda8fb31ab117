# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups: what is decided, what is written, and that neither damage nor a wrong key gets through."""

from __future__ import annotations

import json
import os
import pathlib
import shutil

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _backup_plan as plan
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _backup_store as store
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _dify_restore as restore
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_seal import BackupError

KEY = "correct horse battery staple"
needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not here")


# -- decisions ------------------------------------------------------------------------------------------------------------


def test_writers_are_paused_and_what_is_not_known_is_stopped():
    running = ["api", "worker", "plugin_daemon", "nginx", "web", "redis", "db_postgres", "weaviate", "milvus-standalone", "ssrf_proxy"]
    assert plan.freeze_plan(running) == (["api", "plugin_daemon", "worker"], ["milvus-standalone", "weaviate"])


@pytest.mark.parametrize(("services", "found"), [(["api", "db"], "db"), (["api", "db_postgres"], "db_postgres"), (["api"], None)])
def test_the_database_service_of_each_generation(services, found):
    assert plan.database_service(services) == found


def test_retention_keeps_the_newest_and_what_is_not_ours():
    names = [plan.backup_name("dify", "a", f"2026110{day}T000000Z") for day in range(1, 6)]
    others = ["dify-b-20261101T000000Z", "xinference-a-20261101T000000Z", "notes", ".unfinished-dify-a-20261101T000000Z", "dify-a-yesterday"]
    assert plan.to_remove(names + others, "dify", "a", 2) == [names[2], names[1], names[0]]
    assert plan.to_remove(names, "dify", "a", 2, "20261102T000000Z") == [names[0]]
    assert plan.to_remove(names[:1], "dify", "a", 0) == []


def test_a_host_whose_name_begins_like_anothers_loses_nothing():
    assert plan.to_remove(["dify-a-b-20261101T000000Z", "dify-a-20261102T000000Z"], "dify", "a", 1) == []


def test_space_is_named_in_full():
    assert plan.space_problem(1 << 30, (1 << 30) + plan.MARGIN, "/x", "The backup") is None
    assert "needs up to 1.0 GiB in /x" in (plan.space_problem(1 << 30, 1 << 30, "/x", "The backup") or "")


def test_tables_that_differ_are_named():
    wanted = {"dify": {"public.a": [1, "7"], "public.b": [2, "9"], "public.c": [0, "0"]}}
    assert plan.table_problems(wanted, json.loads(json.dumps(wanted))) == []
    problems = plan.table_problems(wanted, {"dify": {"public.a": [1, "8"], "public.b": [2, "9"], "public.d": [0, "0"]}})
    assert [problem.split(":")[0] for problem in problems] == ["dify.public.a", "dify.public.c is missing", "dify.public.d is new"]


def test_a_scratch_project_publishes_nothing_but_nginx_on_loopback():
    text = plan.drill_overrides({"nginx": {"ports": [1]}, "plugin_daemon": {"ports": [1]}, "api": {}, "etcd": {"container_name": "etcd"}}, 18080)
    assert '"127.0.0.1:18080:${NGINX_PORT:-80}"' in text
    assert "  plugin_daemon:\n    ports: !reset []\n" in text
    assert "  etcd:\n    container_name: !reset null\n" in text
    assert "  api:\n    restart:" in text


# -- on the disk -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def backup(tmp_path):
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "sub" / "file").write_text("content that stays secret")
    (tmp_path / "data" / "left-out").write_text("x")
    writer = store.Writer(str(tmp_path / "backups"), "dify", "h", KEY)
    writer.add_folders("volume-data", str(tmp_path), ["data"], ["data/left-out"])
    writer.add("words", ["printf", "some words"], "other")
    writer.finish({"version": "1.16.1"})
    return str(tmp_path / "backups" / writer.name)


@needs_openssl
def test_what_goes_in_comes_out(backup, tmp_path):
    manifest = store.read(backup, KEY, "dify")
    store.unpack_folders(backup, manifest["parts"][0], KEY, str(tmp_path / "out"))
    assert (tmp_path / "out" / "data" / "sub" / "file").read_text() == "content that stays secret"
    assert not (tmp_path / "out" / "data" / "left-out").exists()
    assert all(b"secret" not in pathlib.Path(backup, file).read_bytes() for file in os.listdir(backup))
    assert {os.stat(os.path.join(backup, file)).st_mode & 0o777 for file in os.listdir(backup)} == {0o600}


@needs_openssl
def test_a_wrong_key_is_told_from_damage(backup):
    with pytest.raises(BackupError, match="another key"):
        store.read(backup, KEY + "x", "dify")


@needs_openssl
@pytest.mark.parametrize("file", ["volume-data.enc", "manifest.json", "manifest.hmac"])
def test_one_changed_byte_anywhere_is_found(backup, file):
    place = os.path.join(backup, file)
    content = bytearray(pathlib.Path(place).read_bytes())
    content[len(content) // 2] ^= 1
    with open(place, "wb") as handle:
        handle.write(content)
    with pytest.raises(BackupError, match="damaged"):
        store.read(backup, KEY, "dify")


@needs_openssl
def test_a_part_that_is_cut_off_or_missing_is_named(backup):
    with open(os.path.join(backup, "words.enc"), "r+b") as handle:
        handle.truncate(20)
    os.unlink(os.path.join(backup, "volume-data.enc"))
    with pytest.raises(BackupError, match="volume-data.enc is missing; words.enc has 20 bytes instead of"):
        store.read(backup, KEY, "dify")


@needs_openssl
def test_another_product_and_a_folder_without_a_manifest_are_refused(backup, tmp_path):
    with pytest.raises(BackupError, match="not of xinference"):
        store.read(backup, KEY, "xinference")
    with pytest.raises(BackupError, match="not a whole backup"):
        store.read(str(tmp_path), KEY, "dify")


@needs_openssl
def test_a_producer_that_fails_fails_the_part(tmp_path):
    writer = store.Writer(str(tmp_path), "dify", "h", KEY)
    with pytest.raises(BackupError, match="Backing up x failed: sh -c .* ended with 3: no luck"):
        writer.add("x", ["sh", "-c", "echo begun; echo no luck >&2; exit 3"], "other")
    writer.abandon()
    assert os.listdir(str(tmp_path)) == []


def test_a_short_key_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(BackupError, match="at least 12"):
        store.Writer(str(tmp_path / "new"), "dify", "h", "short")
    assert not (tmp_path / "new").exists()


@needs_openssl
def test_an_unfinished_backup_is_cleared_away_by_the_next(tmp_path):
    (tmp_path / (store.UNFINISHED + "dify-h-20200101T000000Z")).mkdir()
    (tmp_path / (store.UNFINISHED + "dify-other-20200101T000000Z")).mkdir()
    store.Writer(str(tmp_path), "dify", "h", KEY).abandon()
    assert os.listdir(str(tmp_path)) == [store.UNFINISHED + "dify-other-20200101T000000Z"]


# -- changing places ----------------------------------------------------------------------------------------------------------


class Interrupted(Exception):
    pass


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Dify's folder with something old, and something prepared beside it; no Docker."""
    calls = []
    monkeypatch.setattr(restore, "remove_project", lambda project, grace=10: calls.append("down"))

    class NoStack:
        def __init__(self, project, folder):
            calls.append(f"stack {folder}")

        def services(self):
            return {"api": {}, "init_permissions": {}}

        def up(self, services, wait, what):
            calls.append(f"up {services}")

    monkeypatch.setattr(restore, "Stack", NoStack)
    home = tmp_path / "home"
    for name, word in (("", "old"), (restore.STAGE, "new")):
        for entry in ("releases", "volumes"):
            (home / name / entry).mkdir(parents=True)
            (home / name / entry / "word").write_text(word)
        (home / name / "secrets.json").write_text(word)
    (home / "only-old").write_text("old")
    restore._write(str(home / restore.READY), {"backup": "b", "version": "1.16.1", "replaced": "1.9.2", "taken": 0})
    return home, calls


def words(home):
    return {entry: (home / entry / "word" if (home / entry).is_dir() else home / entry).read_text() for entry in sorted(os.listdir(home)) if entry[0] != "."}


OLD = {"only-old": "old", "releases": "old", "secrets.json": "old", "volumes": "old"}
NEW = {"releases": "new", "secrets.json": "new", "volumes": "new"}


def test_switch_and_commit(home):
    folder, calls = home
    assert restore.state(str(folder))["state"] == "prepared"
    restore.switch(str(folder), "dify")
    assert words(folder) == NEW
    assert restore.state(str(folder)) == {"state": "switched", "backup": "b", "version": "1.16.1", "replaced": "1.9.2", "taken": 0}
    assert restore.commit(str(folder)) and not restore.commit(str(folder))
    assert restore.state(str(folder)) == {"state": "none"} and sorted(os.listdir(folder)) == sorted(NEW)


def test_switch_and_undo(home):
    folder, calls = home
    restore.switch(str(folder), "dify")
    assert restore.undo(str(folder), "dify", 1)
    assert words(folder) == OLD and sorted(os.listdir(folder)) == sorted(OLD)
    assert calls[-2:] == [f"stack {folder}/releases/1.9.2/docker", "up ['api']"]


@pytest.mark.parametrize("after", range(1, 11))
def test_wherever_switch_is_interrupted_it_can_go_on_or_back(home, monkeypatch, after):
    folder, calls = home
    real, left = os.rename, [after]

    def rename(source, target):
        if left[0] == 0:
            raise Interrupted
        left[0] -= 1
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    try:
        restore.switch(str(folder), "dify")
        ended = True
    except Interrupted:
        ended = False
    monkeypatch.setattr(os, "rename", real)
    saved = str(folder) + "-saved"
    shutil.copytree(str(folder), saved)
    if not ended:
        assert restore.state(str(folder))["state"] == "switching"
        restore.switch(str(folder), "dify")
    assert words(folder) == NEW
    # The same interruption, and back instead.
    shutil.rmtree(str(folder))
    os.rename(saved, str(folder))
    restore.undo(str(folder), "dify", 1)
    assert words(folder) == OLD and restore.state(str(folder)) == {"state": "none"}


@pytest.mark.parametrize("after", range(12))
def test_wherever_undo_is_interrupted_it_goes_on(home, monkeypatch, after):
    folder, calls = home
    restore.switch(str(folder), "dify")
    real, left = os.rename, [after]

    def rename(source, target):
        if left[0] == 0:
            raise Interrupted
        left[0] -= 1
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    try:
        restore.undo(str(folder), "dify", 1)
    except Interrupted:
        pass
    monkeypatch.setattr(os, "rename", real)
    restore.undo(str(folder), "dify", 1)
    assert words(folder) == OLD and sorted(os.listdir(folder)) == sorted(OLD)


def test_a_network_that_docker_holds_fast_stays_and_another_failure_does_not(monkeypatch):
    from ansible_collections.llmops.dify_xinference.plugins.module_utils import _dify_stack as stack

    said, asked = "network dify_default has active endpoints", []

    def docker(*arguments, **unused):
        asked.append(arguments[:3])
        if arguments[:2] == ("network", "rm") and arguments[2] == "a":
            raise stack.BackupError(said)
        return "a b" if arguments[:2] == ("network", "ls") else ""

    monkeypatch.setattr(stack, "docker", docker)
    stack.remove_project("dify")
    assert ("network", "rm", "b") in asked
    said = "permission denied"
    with pytest.raises(stack.BackupError, match="permission denied"):
        stack.remove_project("dify")
