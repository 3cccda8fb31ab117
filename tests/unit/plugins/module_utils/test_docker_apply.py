# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps against a dockerd that is played: what is written, when it is reloaded, and what is put back."""

from __future__ import annotations

import copy
import json
import os
import random

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_apply import ApplyError, Request, apply
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_checks import own_checks
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_daemon import DocumentError
from ansible_collections.llmops.dify_xinference.tests.unit.plugins.module_utils.docker_world import Dockerd

MIRRORS = {"registry-mirrors": ["http://a:5000"]}


def interrupted(verb):
    raise KeyboardInterrupt


@pytest.fixture
def path(tmp_path):
    return tmp_path / "daemon.json"


def ask(path, host, config, section="docker", **more):
    return apply(Request(section, config, str(path), str(path.parent / "daemon.owners.json"), reload_timeout=0.3, **more), host)


def test_a_reload_applies_and_a_second_run_is_silent(path):
    host = Dockerd(path)
    first = ask(path, host, MIRRORS)
    assert (first["changed"], first["actions"]) == (True, ["reload"])
    assert first["engine"]["registry_mirrors"] == ["http://a:5000/"]
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    second = ask(path, host, MIRRORS)
    assert (second["changed"], second["actions"], second["backup_file"]) == (False, ["none"], None)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert host.actions == ["reload"]


def test_check_mode_says_the_same_and_touches_nothing(path):
    host = Dockerd(path)
    asked = ask(path, host, MIRRORS, check_mode=True)
    assert (asked["changed"], asked["actions"]) == (True, ["reload"])
    assert "http://a:5000" in asked["diff"]["after"]
    assert os.listdir(path.parent) == []
    done = ask(path, host, MIRRORS)
    assert {key: asked[key] for key in ("changed", "actions", "reasons", "diff", "config")} == {
        key: done[key] for key in ("changed", "actions", "reasons", "diff", "config")
    }


def test_undoing_reaches_the_running_daemon_and_leaves_the_file_as_it_was(path):
    path.write_text('{"debug": false}')
    host = Dockerd(path)
    ask(path, host, {**MIRRORS, "live-restore": True})
    ask(path, host, {})
    assert json.loads(path.read_text()) == {"debug": False}
    assert host.info()["RegistryConfig"]["Mirrors"] == []
    assert host.info()["LiveRestoreEnabled"] is False
    assert ask(path, host, {})["changed"] is False


def test_an_undo_that_was_cut_off_in_the_middle_is_finished(path):
    host = Dockerd(path)
    ask(path, host, MIRRORS)
    host.act = interrupted
    with pytest.raises(KeyboardInterrupt):
        ask(path, host, {})
    assert json.loads(path.read_text()) == {"registry-mirrors": []}
    del host.act
    assert ask(path, host, {})["changed"] is True
    assert json.loads(path.read_text()) == {}


def test_a_run_that_died_before_the_reload_is_finished(path):
    host = Dockerd(path)
    path.write_text(json.dumps(MIRRORS))
    result = ask(path, host, MIRRORS)
    assert (result["changed"], result["actions"], result["backup_file"]) == (True, ["reload"], None)


def test_a_run_that_died_before_the_restart_is_finished(path):
    host = Dockerd(path)
    host.act = interrupted
    with pytest.raises(KeyboardInterrupt):
        ask(path, host, {"mtu": 1400})
    del host.act
    result = ask(path, host, {"mtu": 1400})
    assert result["actions"] == ["restart"]
    assert "mtu" in result["reasons"][0]
    assert ask(path, host, {"mtu": 1400})["changed"] is False


def test_a_daemon_that_does_not_take_the_file_over(path):
    path.write_text('{"labels": ["a=b"]}')
    host = Dockerd(path)
    host.deaf = True
    with pytest.raises(ApplyError, match=r"registry-mirrors is \[\], not .*put back"):
        ask(path, host, MIRRORS)
    assert path.read_text() == '{"labels": ["a=b"]}'
    host.deaf = False
    assert ask(path, host, MIRRORS)["changed"] is True


def test_a_restart_that_fails_brings_the_old_file_back(path):
    path.write_text("{}")
    host = Dockerd(path)
    host.fails = ("restart",)
    with pytest.raises(ApplyError, match="put back"):
        ask(path, host, {"data-root": "/nowhere"})
    assert path.read_text() == "{}"
    assert host.active
    assert host.actions == ["restart", "restart"]


def test_live_restore_comes_before_a_restart_with_containers(path):
    host = Dockerd(path)
    host.containers = 2
    ask(path, host, {"live-restore": True, "log-driver": "journald"})
    assert host.actions == ["reload", "restart"]


def test_live_restore_serves_once_more_on_its_way_out(path):
    host = Dockerd(path)
    ask(path, host, {"live-restore": True})
    host.containers = 2
    seen = []
    act = host.act
    host.act = lambda verb: (seen.append((verb, json.loads(path.read_text()).get("live-restore"))), act(verb))
    ask(path, host, {"log-driver": "journald"})
    assert seen == [("restart", True), ("reload", False)]
    assert json.loads(path.read_text()) == {"log-driver": "journald"}
    assert host.info()["LiveRestoreEnabled"] is False
    assert ask(path, host, {"log-driver": "journald"})["changed"] is False


def test_no_restart_when_live_restore_cannot_be_switched_on(path):
    host = Dockerd(path)
    host.containers = 2
    host.deaf = True
    with pytest.raises(ApplyError, match="would stop 2 running containers"):
        ask(path, host, {"live-restore": True, "log-driver": "journald"})
    assert "restart" not in host.actions


def test_a_forbidden_restart_is_pending_each_time(path):
    host = Dockerd(path)
    for changed in (True, False):
        result = ask(path, host, {"log-driver": "journald"}, allow_restart=False)
        assert result["changed"] is changed
        assert result["pending"] == ["Only a restart applies log-driver."]
    assert host.actions == []


def test_the_hook_costs_one_restart_and_its_upgrade_none(path, tmp_path):
    host = Dockerd(path)
    hook = tmp_path / "hook"
    hook.write_text("1")
    host.started = hook.stat().st_ctime - 50
    assert ask(path, host, {}, restart_after=(str(hook),))["actions"] == ["restart"]
    assert ask(path, host, {}, restart_after=(str(hook),))["changed"] is False
    host.started -= 50
    record = path.parent / "daemon.owners.json"
    seen = json.loads(record.read_text())
    seen["seen_by_dockerd"][str(hook)] = host.started
    record.write_text(json.dumps(seen))
    # The same dockerd, and a newer file: an upgrade.
    assert ask(path, host, {}, restart_after=(str(hook),))["changed"] is False


def test_a_missing_hook_is_no_reason(path):
    assert ask(path, Dockerd(path), {}, restart_after=("/no/such/hook",))["changed"] is False


def test_without_docker_only_the_file_is_written(path):
    host = Dockerd(path, active=False, installed=False)
    result = ask(path, host, MIRRORS)
    assert (result["changed"], result["actions"]) == (True, ["none"])
    assert json.loads(path.read_text()) == MIRRORS
    assert host.actions == []


def test_a_docker_that_does_not_run_is_started(path):
    host = Dockerd(path, active=False)
    assert ask(path, host, MIRRORS)["actions"] == ["start"]
    assert ask(path, host, MIRRORS)["changed"] is False


def test_broken_json_is_refused_and_nothing_is_lost(path):
    path.write_text('{"data-root": "/big",}')
    with pytest.raises(DocumentError, match="not valid JSON.*repair"):
        ask(path, Dockerd(path, active=False), MIRRORS)
    assert path.read_text() == '{"data-root": "/big",}'
    result = ask(path, Dockerd(path, active=False), MIRRORS, repair=True)
    with open(result["backup_file"], encoding="utf-8") as stream:
        assert stream.read() == '{"data-root": "/big",}'
    assert json.loads(path.read_text()) == MIRRORS


def test_what_dockerd_would_refuse_is_not_written(path):
    host = Dockerd(path)
    with pytest.raises(ApplyError, match="default-runtime is nvidia"):
        ask(path, host, {"default-runtime": "nvidia"})
    host.complaint = "unknown key"
    with pytest.raises(ApplyError, match="dockerd refuses the result: unknown key"):
        ask(path, host, MIRRORS)
    assert not path.exists()
    assert host.actions == []


def test_mode_and_link_are_kept(path, tmp_path):
    real = tmp_path / "elsewhere.json"
    real.write_text("{}")
    real.chmod(0o600)
    path.symlink_to(real)
    ask(path, Dockerd(path, active=False, installed=False), MIRRORS)
    assert path.is_symlink()
    assert json.loads(real.read_text()) == MIRRORS
    assert real.stat().st_mode & 0o777 == 0o600


def test_a_spoilt_record_is_not_guessed_at(path):
    (path.parent / "daemon.owners.json").write_text("{")
    with pytest.raises(DocumentError, match="record of who owns"):
        ask(path, Dockerd(path), MIRRORS)


def test_a_reload_that_ends_dockerd_is_undone_and_it_is_brought_back(path):
    path.write_text("{}")
    host = Dockerd(path)
    host.fails = ("reload",)
    with pytest.raises(Exception, match="no socket.*put back"):
        ask(path, host, MIRRORS)
    assert path.read_text() == "{}"
    assert host.actions == ["reload", "restart"]
    assert host.active


def test_a_refused_reload_of_keys_that_no_answer_shows_is_found_in_the_log(path):
    host = Dockerd(path)
    host.log = "Error reconfiguring the daemon: max-concurrent-downloads"
    with pytest.raises(ApplyError, match="did not take over the file.*max-concurrent-downloads.*put back"):
        ask(path, host, {"max-concurrent-downloads": 7})
    assert not path.exists()


def test_an_authorization_plugin_that_is_not_there_never_reaches_dockerd(path):
    host = Dockerd(path)
    with pytest.raises(ApplyError, match="no authorization plugin missing"):
        ask(path, host, {"authorization-plugins": ["known", "missing"]})
    assert (path.exists(), host.actions) == (False, [])
    assert ask(path, host, {"authorization-plugins": ["known"]})["actions"] == ["reload"]


def test_live_restore_is_not_forced_on_a_swarm(path):
    host = Dockerd(path)
    host.more = {"Swarm": {"LocalNodeState": "active"}}
    with pytest.raises(ApplyError, match="in a swarm.*docker_live_restore: false"):
        ask(path, host, {"live-restore": True})


@pytest.mark.parametrize("config", [{"data-root": "/big"}, {"storage-driver": "btrfs"}, {"features": {"containerd-snapshotter": True}}])
def test_a_store_with_images_is_not_hidden(path, config):
    host = Dockerd(path)
    host.more = {"Images": 3, "Containers": 1, "Driver": "overlay2"}
    for check in (True, False):
        with pytest.raises(ApplyError, match="3 images and 1 containers here would be hidden"):
            ask(path, host, config, check_mode=check)
    assert (path.exists(), host.actions) == (False, [])
    assert ask(path, host, config, allow_hidden_images=True)["actions"] == ["restart"]


def test_an_empty_store_and_the_place_it_has_already_may_be_set(path):
    host = Dockerd(path)
    assert ask(path, host, {"data-root": "/big"})["actions"] == ["restart"]
    host.more = {"Images": 3}
    assert ask(path, host, {"data-root": "/big/"})["changed"] is True
    with pytest.raises(ApplyError, match="back to its default"):
        ask(path, host, {})


@pytest.mark.parametrize("text", ["", "\ufeff{}"])
def test_what_only_old_engines_refuse_is_repaired_when_told(path, text):
    path.write_text(text)
    host = Dockerd(path, active=False, installed=False)
    result = ask(path, host, {})
    assert (result["changed"], path.read_text()) == (False, text)
    assert "before 23.0" in result["warnings"][0]
    repaired = ask(path, host, {}, repair=True)
    assert (repaired["changed"], path.read_text()) == (True, "{}\n")
    with open(repaired["backup_file"], encoding="utf-8") as stream:
        assert stream.read() == text
    assert ask(path, host, {}, repair=True)["changed"] is False


def test_bytes_that_are_no_text_are_kept(path):
    path.write_bytes(b'{"labels": ["caf\xe9"]}')
    host = Dockerd(path, active=False, installed=False)
    with pytest.raises(DocumentError, match="not UTF-8"):
        ask(path, host, MIRRORS)
    result = ask(path, host, MIRRORS, repair=True)
    with open(result["backup_file"], "rb") as stream:
        assert stream.read() == b'{"labels": ["caf\xe9"]}'
    json.dumps(result["diff"]).encode()


def test_a_password_of_a_proxy_is_for_the_owner_only_and_in_no_result(path):
    path.write_text("{}")
    result = ask(path, Dockerd(path), {"proxies": {"http-proxy": "http://user:pa55@proxy:3128"}})
    assert "pa55" in path.read_text()
    assert "pa55" not in json.dumps({key: value for key, value in result.items() if key != "engine"})
    for file in (path, path.parent / "daemon.owners.json"):
        assert file.stat().st_mode & 0o777 == 0o600


# ---------------------------------------------------------------- any file, any wish

KEYS = {
    "registry-mirrors": [["https://a"], [], ["https://b", "https://c"]],
    "live-restore": [True, False],
    "debug": [True, False],
    "runtimes": [{"nvidia": {"path": "/old"}}, {"kata": {"path": "/kata"}}, {}, None, {"nvidia": {"path": "/old"}, "kata": {"path": "/kata"}}],
    "log-opts": [{"max-size": "1m"}, {"max-file": "3"}, {"max-size": "1m", "tag": "\u00e9\u4f60<&>"}],
    "features": [{"buildkit": True}, {"cdi": False}],
    "labels": [["a=b"], ["caf\u00e9=\u4f60"]],
    "mtu": [1400, 1500],
    "max-concurrent-downloads": [1, 6],
    "default-shm-size": ["1G", 1048576],
    "exec-opts": [["native.cgroupdriver=systemd"]],
    "dns": [["192.0.2.1"]],
}
# Nobody knows these keys: they may be of another dockerd, and stay.
FOREIGN = {"x-site": [1, 1.5, None, "\U0001f600", [1, {"a": []}], {"deep": {"er": [True, "\\ \""]}}], "proxies": [{"http-proxy": "http://user:pw@p:1"}]}
BROKEN = [
    lambda text: text[:-1],
    lambda text: text[:-1] + ",}",
    lambda text: "# a comment\n" + text,
    lambda text: text + text,
    lambda text: "[" + text + "]",
    lambda text: text.replace("{", "{'a': 1,", 1),
    lambda text: '{"x": NaN}',
    lambda text: '{"x": 1e999}',
    lambda text: '{"x": "\\ud800"}',
    lambda text: "[" * 100000,
    lambda text: "null",
]


def some(generator, pool, share=0.4):
    return {key: copy.deepcopy(generator.choice(values)) for key, values in pool.items() if generator.random() < share}


def as_file(generator, document):
    """The same content as different programs and people write it."""
    text = json.dumps(document, indent=generator.choice([None, 2, 4, "\t"]), ensure_ascii=generator.random() < 0.5, sort_keys=generator.random() < 0.3)
    text = text.replace("\n", generator.choice(["\n", "\r\n"])) + generator.choice(["", "\n", "\n\n"])
    return ("\ufeff" if generator.random() < 0.1 else "") + text


def owned(path):
    record = json.loads((path.parent / "daemon.owners.json").read_text())
    return {name.split("/")[0] for entries in record["sections"].values() for name in entries}


@pytest.mark.parametrize("seed", range(6))
def test_any_file_and_any_wish(tmp_path, seed):
    """Foreign keys survive, what is written validates, a second application is a no-op, undo restores, a refusal touches nothing."""
    generator = random.Random(seed)
    for number in range(25):
        path = tmp_path / str(number) / "daemon.json"
        path.parent.mkdir()
        start = {**some(generator, FOREIGN, 0.5), **some(generator, KEYS)}
        text = as_file(generator, start)
        broken = generator.random() < 0.25
        if broken:
            text = generator.choice(BROKEN)(text.lstrip("\ufeff").strip())
        path.write_bytes(text.encode())
        before = path.read_bytes()
        # A dockerd does not run with a broken file; without one there is still the file to look after.
        host = Dockerd(path, active=False, installed=False) if broken or generator.random() < 0.3 else Dockerd(path)
        wishes = {"docker": some(generator, KEYS), "toolkit": some(generator, {"runtimes": KEYS["runtimes"][:2], "features": KEYS["features"]})}
        if broken:
            with pytest.raises(DocumentError, match="left as it is"):
                ask(path, host, wishes["docker"])
            assert path.read_bytes() == before
            result = ask(path, host, wishes["docker"], repair=True)
            with open(result["backup_file"], "rb") as stream:
                assert stream.read() == before
            start = {}
        for section in ("docker", "toolkit", "docker"):
            if section == "docker" and generator.random() < 0.5:
                wishes["docker"] = some(generator, KEYS)
            kept = path.read_bytes()
            try:
                asked = ask(path, host, wishes[section], section, check_mode=True)
            except DocumentError:  # two sections want one key
                assert path.read_bytes() == kept
                continue
            done = ask(path, host, wishes[section], section)
            assert {key: asked[key] for key in ("changed", "actions", "reasons", "diff", "config")} == {
                key: done[key] for key in ("changed", "actions", "reasons", "diff", "config")
            }
            document = json.loads(path.read_text(encoding="utf-8-sig"))
            assert own_checks(document, {}) == []
            mine = owned(path)
            assert {key: value for key, value in document.items() if key not in mine} == {key: value for key, value in start.items() if key not in mine}
            inode = (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino)
            again = ask(path, host, wishes[section], section)
            assert (again["changed"], again["actions"], again["backup_file"]) == (False, ["none"], None)
            assert (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) == inode
        for section in generator.sample(["docker", "toolkit"], 2):
            ask(path, host, {}, section)
        assert json.loads(path.read_text(encoding="utf-8-sig")) == start
        assert owned(path) == set()
        if host.active:
            fresh = Dockerd(path)
            assert host.info()["RegistryConfig"] == fresh.info()["RegistryConfig"]
            assert host.info()["Runtimes"] == fresh.info()["Runtimes"]
            assert host.info()["LiveRestoreEnabled"] == fresh.info()["LiveRestoreEnabled"]
