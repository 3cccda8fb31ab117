# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps against a dockerd that is played: what is written, when it is reloaded, and what is put back."""

from __future__ import annotations

import json
import os
import time

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_apply import ApplyError, Request, apply
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_daemon import DocumentError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_host import HostError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_plan import Unit

MIRRORS = {"registry-mirrors": ["http://a:5000"]}


def interrupted(verb):
    raise KeyboardInterrupt


class Dockerd:
    """Behaves as measured: a reload applies what it can, keeps the value of keys that are gone, and never complains."""

    def __init__(self, path, active=True, installed=True):
        self.path = path
        self.active = active
        self.installed = installed
        self.started = time.time() - 100
        self.live = {}
        self.actions = []
        self.containers = 0
        self.deaf = False
        self.fails = ()
        self.complaint = None
        if active:
            self._load(fresh=True)

    def _load(self, fresh):
        document = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.live = document if fresh else {**self.live, **document}

    def unit(self):
        return Unit(self.installed, self.active, self.started if self.active else 0.0, {}, ["dockerd"])

    def info(self):
        if not self.active:
            raise HostError("no socket")
        return {
            "RegistryConfig": {"Mirrors": [mirror + "/" for mirror in self.live.get("registry-mirrors", [])]},
            "LiveRestoreEnabled": self.live.get("live-restore", False),
            "Runtimes": {"runc": {}, **self.live.get("runtimes", {})},
            "DefaultRuntime": self.live.get("default-runtime", "runc"),
            "Labels": self.live.get("labels", []),
            "Debug": self.live.get("debug", False),
            "ContainersRunning": self.containers,
            "LoggingDriver": self.live.get("log-driver", "json-file"),
        }

    def wait_for_info(self, timeout=0.0):
        return self.info()

    def act(self, verb):
        self.actions.append(verb)
        if verb in self.fails:
            self.fails = ()
            self.active = False
            raise HostError(f"systemctl {verb} failed")
        if verb == "reload":
            if not self.deaf:
                self._load(fresh=False)
            return
        self.active = True
        self.started = time.time()
        self._load(fresh=True)

    def validate(self, text, unit):
        return self.complaint

    def last_errors(self):
        return "level=error"


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
    with pytest.raises(ApplyError, match="--validate refuses the result: unknown key"):
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
