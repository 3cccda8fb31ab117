# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import json
import random

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _docker_checks as checks
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _docker_daemon as daemon
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _docker_plan as planning

NVIDIA = {"runtimes": {"nvidia": {"path": "nvidia-container-runtime", "args": []}}}
MIRROR = {"registry-mirrors": ["https://mirror.example"]}
RUNNING = planning.Unit(True, True, 1000.0, {}, ["dockerd"])
STOPPED = planning.Unit(True, False, 0.0, {}, ["dockerd"])
ABSENT = planning.Unit(False, False, 0.0, {}, [])
NO_COST = daemon.Cost([], [])


def test_foreign_keys_stay_and_their_order_too():
    found = {"zzz": 1, "runtimes": {"kata": {"path": "/kata"}}, "log-driver": "journald"}
    merged = daemon.merge(found, {}, "toolkit", NVIDIA)
    assert merged.document == {**found, "runtimes": {"kata": {"path": "/kata"}, **NVIDIA["runtimes"]}}
    assert list(merged.document) == ["zzz", "runtimes", "log-driver"]


def test_undoing_restores_what_was_there():
    found = {"registry-mirrors": ["https://old.example"], "debug": True}
    set_ = daemon.merge(found, {}, "docker", {**MIRROR, "live-restore": True})
    undone = daemon.merge(set_.document, set_.owners, "docker", {})
    assert undone.document == found
    assert undone.owners == {}


def test_undoing_leaves_what_somebody_changed_since():
    set_ = daemon.merge({}, {}, "docker", MIRROR)
    by_hand = {"registry-mirrors": ["https://by.hand"]}
    assert daemon.merge(by_hand, set_.owners, "docker", {}).document == by_hand


def test_the_object_that_held_our_key_goes_with_the_last_of_them():
    first = daemon.merge({}, {}, "a", {"runtimes": {"one": {"path": "/1"}}})
    second = daemon.merge(first.document, first.owners, "b", {"runtimes": {"two": {"path": "/2"}}})
    third = daemon.merge(second.document, second.owners, "a", {})
    assert third.document == {"runtimes": {"two": {"path": "/2"}}}
    assert daemon.merge(third.document, third.owners, "b", {}).document == {}


@pytest.mark.parametrize("empty", [None, {}])
def test_an_empty_object_of_somebody_comes_back(empty):
    set_ = daemon.merge({"runtimes": empty}, {}, "toolkit", NVIDIA)
    assert set_.document == NVIDIA
    assert daemon.merge(set_.document, set_.owners, "toolkit", {}).document == {"runtimes": empty}


def test_two_sections_may_not_want_different_values():
    first = daemon.merge({}, {}, "docker", MIRROR)
    with pytest.raises(daemon.DocumentError, match="section other wants registry-mirrors, which the section docker owns"):
        daemon.merge(first.document, first.owners, "other", {"registry-mirrors": []})


def test_two_sections_may_want_the_same():
    first = daemon.merge({"debug": False}, {}, "a", {"debug": True})
    second = daemon.merge(first.document, first.owners, "b", {"debug": True})
    third = daemon.merge(second.document, second.owners, "a", {})
    assert third.document == {"debug": True}
    assert daemon.merge(third.document, third.owners, "b", {}).document == {"debug": False}


def test_a_key_that_goes_away_is_undone_by_its_explicit_empty():
    found = {"registry-mirrors": ["https://a"], "runtimes": {"x": {}}, "default-runtime": "x", "live-restore": True, "max-concurrent-downloads": 3}
    assert daemon.transition_of(found, {}) == {"registry-mirrors": [], "runtimes": {}, "default-runtime": "runc", "live-restore": False}


@pytest.mark.parametrize(
    ("before", "after", "cost"),
    [
        ({}, {"registry-mirrors": []}, (["registry-mirrors"], [])),
        ({"live-restore": True}, {"live-restore": False}, (["live-restore"], [])),
        ({}, NVIDIA, (["runtimes"], [])),
        ({}, {"log-driver": "journald"}, ([], ["log-driver"])),
        ({"data-root": "/a"}, {}, ([], ["data-root"])),
        ({}, {"proxies": {"http-proxy": "http://p"}}, ([], ["proxies"])),
        ({}, {"features": {"buildkit": True}}, (["features"], [])),
        ({"features": {"buildkit": True}}, {"features": {"buildkit": True, "cdi": True}}, ([], ["features/cdi"])),
        ({}, {"features": {"containerd-snapshotter": False, "x": True}}, (["features"], ["features/containerd-snapshotter"])),
        ({"debug": False}, {"debug": False}, ([], [])),
        # A value of another type is another value, even if Python calls them equal.
        ({"debug": 0}, {"debug": False}, (["debug"], [])),
    ],
)
def test_what_a_change_costs(before, after, cost):
    assert tuple(daemon.cost(before, after)) == cost


def test_what_a_reload_cannot_undo_costs_a_restart():
    assert daemon.cost({"default-ipc-mode": "shareable"}, {}) == daemon.Cost([], ["default-ipc-mode"])
    undone = sorted((set(daemon.EXPLICIT_EMPTIES) | daemon.RESET_WHEN_ABSENT) - {"features"})
    assert daemon.cost(dict.fromkeys(undone, 7), {}) == daemon.Cost(undone, [])


@pytest.mark.parametrize("key", sorted(daemon.RELOAD_KEYS - {"features"}))
def test_every_reloadable_key_is_only_reloaded(key):
    assert daemon.cost({}, {key: 1}) == daemon.Cost([key], [])


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"registry-mirror": []}, "the key is registry-mirrors"),
        ({"default-runtime": "nvidia"}, "which runtimes does not define"),
        ({"runtimes": {"runc": {}}}, "built in"),
        ({"live-restore": "true"}, "has to be a bool"),
        ({"registry-mirrors": ["mirror.example"]}, "is no URL"),
        ({"registry-mirrors": ["https://user:secret@mirror.example"]}, "is no URL"),
        ({"exec-opts": ["native.cgroupdriver=cgroups"]}, "no cgroup driver"),
        ({"log-opts": {"max-file": 3}}, 'has to be text ("3")'),
        ({"hosts": ["fd://"]}, "by -H on the command line"),
    ],
)
def test_what_dockerd_itself_does_not_see(document, words):
    problems = checks.own_checks(document, {"hosts": "-H"})
    assert len(problems) == 1
    assert words in problems[0]
    assert "secret" not in problems[0]


def test_a_sound_file_has_no_problems():
    document = {**NVIDIA, **MIRROR, "default-runtime": "nvidia", "log-opts": {"max-size": "10m"}, "exec-opts": ["native.cgroupdriver=systemd"]}
    assert checks.own_checks(document, {"hosts": "-H", "runtimes": "--add-runtime", "containerd": "--containerd"}) == []


def test_flags_of_the_unit():
    line = "/usr/bin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock --registry-mirror https://a --debug $DOCKER_OPTS"
    assert checks.flag_keys(line) == {"hosts": "-H", "containerd": "--containerd", "registry-mirrors": "--registry-mirror", "debug": "--debug"}


HELP = """
Options:
      --add-runtime runtime                     Register an additional
                                                OCI compatible runtime
  -D, --debug                                   Enable debug mode
      --dns-opt list                            DNS options to use
      --registry-mirror list                    Preferred Docker registry
"""


def test_the_help_of_an_old_dockerd_tells_its_keys():
    known = {"runtimes": {}, "debug": True, "dns-opts": [], "registry-mirrors": [], "features": {}, "network-diagnostic-port": 1}
    assert checks.unknown_keys(known, HELP) == []
    assert checks.unknown_keys({**known, "proxies": {}, "nope": 1}, HELP) == ["nope", "proxies"]
    assert checks.unknown_keys({"proxies": {}}, HELP + "      --http-proxy string   x\n") == []


@pytest.mark.parametrize("text", ["", "  \n", "\ufeff{}", "{}"])
def test_empty_files_and_byte_order_marks_are_fine(text):
    assert daemon.parse_document(text, "daemon.json") == {}


@pytest.mark.parametrize("text", ['{"a": 1,}', "{", "[]", '"x"', "{} {}", "# comment\n{}"])
def test_broken_files_are_refused(text):
    with pytest.raises(daemon.DocumentError, match="left as it is"):
        daemon.parse_document(text, "daemon.json")


def test_credentials_of_proxies_are_not_shown():
    assert daemon.without_credentials('"http://user:pa55@proxy:3128"') == '"http://(hidden)@proxy:3128"'


def _random_document(generator):
    pool = {
        "registry-mirrors": [["https://a"], [], ["https://b", "https://c"]],
        "live-restore": [True, False],
        "debug": [True, False],
        "runtimes": [{"nvidia": {"path": "/old"}}, {"kata": {"path": "/kata"}}, {}, {"nvidia": {"path": "/old"}, "kata": {"path": "/kata"}}],
        "log-opts": [{"max-size": "1m"}, {"max-file": "3"}],
        "features": [{"buildkit": True}, {"containerd-snapshotter": True, "cdi": False}],
        "data-root": ["/data"],
        "labels": [["a=b"]],
    }
    return {key: copy.deepcopy(generator.choice(values)) for key, values in pool.items() if generator.random() < 0.5}


def test_any_file_and_any_wish():
    """Foreign keys survive, a second application changes nothing, undoing in any order restores the file."""
    generator = random.Random(6)
    for dummy in range(3000):
        start = _random_document(generator)
        document, owners = copy.deepcopy(start), {}
        for section in ("a", "b", "a"):
            wish = _random_document(generator)
            try:
                merged = daemon.merge(document, owners, section, wish)
            except daemon.DocumentError:
                continue
            again = daemon.merge(merged.document, merged.owners, section, wish)
            assert again.document == merged.document
            assert again.owners == merged.owners
            owned = {name.split("/")[0] for entries in merged.owners.values() for name in entries}
            assert {key: value for key, value in merged.document.items() if key not in owned} == {
                key: value for key, value in start.items() if key not in owned
            }
            document, owners = merged.document, merged.owners
            assert daemon.parse_owners(json.dumps({"sections": owners}), "x") == owners
        for section in generator.sample(["a", "b"], 2):
            document, owners = daemon.merge(document, owners, section, {})[:2]
        assert document == start
        assert owners == {}


def decide(unit=RUNNING, written=True, change=NO_COST, unloaded=(), keys=(), late=(), start=True, restart=True):
    return planning.decide(unit, written, change, unloaded, keys, late, start, restart)


@pytest.mark.parametrize(
    ("given", "action"),
    [
        ({"written": False}, "none"),
        ({"unit": ABSENT}, "none"),
        ({"unit": STOPPED}, "start"),
        ({"unit": STOPPED, "start": False}, "none"),
        ({"change": daemon.Cost(["labels"], [])}, "reload"),
        ({"change": daemon.Cost(["labels"], ["data-root"])}, "restart"),
        ({"change": daemon.Cost(["labels"], ["data-root"]), "restart": False}, "reload"),
        ({"change": daemon.Cost([], ["data-root"]), "restart": False}, "none"),
        # The file is right, but the daemon never took it over: an interrupted run.
        ({"written": False, "unloaded": ["registry-mirrors"]}, "reload"),
        ({"written": False, "keys": ["log-driver"]}, "restart"),
        ({"written": False, "late": ["/usr/bin/hook"]}, "restart"),
        ({"written": False, "late": ["/usr/bin/hook"], "restart": False}, "none"),
    ],
)
def test_the_cheapest_action(given, action):
    decision = decide(**given)
    assert decision.action == action
    assert bool(decision.pending) == (not given.get("restart", True))


def test_a_file_that_came_after_dockerd_costs_one_restart():
    late = planning.late_files(1000.0, {"/hook": 2000.0, "/old": 10.0}, {})
    assert late == ["/hook"]
    # Once a dockerd found the hook, an upgrade of it (a new time) is no reason any more ...
    assert planning.late_files(1000.0, {"/hook": 2000.0}, {"/hook": 1000.5}) == []
    # ... but only for that very dockerd.
    assert planning.late_files(1500.0, {"/hook": 2000.0}, {"/hook": 1000.0}) == ["/hook"]


INFO = {
    "RegistryConfig": {"Mirrors": ["https://mirror.example/"]},
    "LiveRestoreEnabled": True,
    "DefaultRuntime": "runc",
    "Runtimes": {"runc": {"path": "runc"}, "io.containerd.runc.v2": {}, "nvidia": {"path": "nvidia-container-runtime"}},
    "Labels": [],
    "Debug": False,
    "DockerRootDir": "/var/lib/docker",
    "LoggingDriver": "json-file",
    "Driver": "overlay2",
    "CgroupDriver": "systemd",
}


def test_what_the_daemon_shows_is_compared_with_the_file():
    document = {**MIRROR, **NVIDIA, "live-restore": True}
    assert planning.not_loaded(document, INFO, {}) == {}
    # A key that is gone from the file is not gone from the daemon.
    assert planning.not_loaded({**NVIDIA, "live-restore": True}, INFO, {}) == {"registry-mirrors": ([], ["https://mirror.example/"])}
    assert planning.not_loaded({**NVIDIA, "live-restore": True}, INFO, {"registry-mirrors": "--registry-mirror"}) == {}
    other_path = {"runtimes": {"nvidia": {"path": "/opt/nvidia-container-runtime"}}}
    assert "runtimes" in planning.not_loaded({**document, **other_path}, INFO, {})


def test_restart_only_keys_that_were_never_loaded():
    document = {"data-root": "/data", "log-driver": "json-file", "exec-opts": ["native.cgroupdriver=cgroupfs"]}
    assert planning.needs_restart_by_info(document, INFO) == ["data-root", "exec-opts"]
