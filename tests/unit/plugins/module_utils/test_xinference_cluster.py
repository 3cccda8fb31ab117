# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Workers of a cluster: answers as recorded on 4.1.0 and 0.13.3 (tests/contract/recordings/xinference)."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _xinference_cluster as cluster
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference import ABSENT, READY, LoginFailed, Look, XinferenceError

# As recorded, without the fields that nobody reads.
INFO_410 = [
    {"node_type": "Supervisor", "ip_address": "10.0.0.1:9998"},
    {"node_type": "Worker", "ip_address": "10.0.0.2:9999"},
    {"node_type": "Worker", "ip_address": "10.0.0.1:9999"},
]
INFO_0133 = [{"node_type": "Supervisor", "ip_address": "10.0.0.1"}, {"node_type": "Worker", "ip_address": "10.0.0.2"}]


class Client:
    """Answers ``/v1/cluster/info`` from a list, and keeps registrations as the server does."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.specs: dict[tuple[str, str], dict[str, Any]] = {}
        self.calls: list[tuple[str, str]] = []
        self.states: dict[str, list[str]] = {}

    def fetch(self, path: str, default: Any = None) -> Any:
        assert path == "/v1/cluster/info"
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def look(self, uid: str) -> Look:
        states = self.states[uid]
        return Look(states.pop(0) if len(states) > 1 else states[0], {}, "")

    def registration(self, model_type: str, name: str) -> Any:
        return self.specs.get((model_type, name))

    def unregister(self, model_type: str, name: str) -> None:
        self.calls.append(("unregister", name))
        del self.specs[(model_type, name)]

    def register(self, model_type: str, spec: dict[str, Any]) -> None:
        self.calls.append(("register", spec["model_name"]))
        assert (model_type, spec["model_name"]) not in self.specs, "the server refuses a name that is there"
        self.specs[(model_type, spec["model_name"])] = spec


def clockwork() -> dict[str, Any]:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    return {"clock": lambda: now[0], "sleep": sleep}


@pytest.mark.parametrize(
    ("address", "bare"), [("10.0.0.2:9999", "10.0.0.2"), ("10.0.0.2", "10.0.0.2"), ("[fd00::1]:9999", "fd00::1"), ("fd00::1", "fd00::1")]
)
def test_without_port(address: str, bare: str) -> None:
    assert cluster.without_port(address) == bare


@pytest.mark.parametrize(("info", "workers"), [(INFO_410, ["10.0.0.1", "10.0.0.2"]), (INFO_0133, ["10.0.0.2"]), (None, []), ({"detail": "x"}, [])])
def test_workers_in(info: Any, workers: list[str]) -> None:
    assert cluster.workers_in(info) == workers


def test_roll_call_names_the_missing_and_the_unknown() -> None:
    roll = cluster.roll_call({"gpu1": "10.0.0.1", "gpu3": "10.0.0.3"}, ["10.0.0.1", "10.0.0.2"])
    assert (roll.present, roll.missing, roll.unknown) == ({"gpu1": "10.0.0.1"}, {"gpu3": "10.0.0.3"}, ["10.0.0.2"])


def test_waits_while_the_supervisor_starts_and_has_no_workers() -> None:
    client = Client(XinferenceError("HTTP 500", 500), INFO_410[:1], INFO_410)
    roll = cluster.Cluster(client, clockwork()).wait_for_workers({"gpu1": "10.0.0.1", "gpu2": "10.0.0.2"}, 60)  # type: ignore[arg-type]
    assert not roll.missing


def test_a_worker_that_does_not_come_is_named_and_ends_nothing() -> None:
    client = Client(INFO_410)
    roll = cluster.Cluster(client, clockwork()).wait_for_workers({"gpu1": "10.0.0.1", "gpu3": "10.0.0.3"}, 60)  # type: ignore[arg-type]
    assert roll.missing == {"gpu3": "10.0.0.3"}


def test_a_refused_login_is_not_tried_again() -> None:
    client = Client(LoginFailed("no", 401))
    with pytest.raises(LoginFailed):
        cluster.Cluster(client, clockwork()).wait_for_workers({"gpu1": "10.0.0.1"}, 60)  # type: ignore[arg-type]


def test_waits_for_models_and_names_those_that_stay_away() -> None:
    client = Client(INFO_410)
    client.states = {"chat": [ABSENT, READY], "lost": [ABSENT], "embed": [READY]}
    assert cluster.Cluster(client, clockwork()).wait_for_models(["chat", "lost", "embed"], 30) == ["lost"]  # type: ignore[arg-type]


def test_newcomers_are_told_the_registrations_that_the_server_has() -> None:
    client = Client(INFO_410)
    client.specs[("LLM", "own")] = {"model_name": "own"}
    told = cluster.Cluster(client, clockwork()).tell([("LLM", {"model_name": "own"}), ("LLM", {"model_name": "not-yet"})])  # type: ignore[arg-type]
    assert told == ["own"], "what the server has not at all is registered at its launch, for all"
    assert client.calls == [("unregister", "own"), ("register", "own")]


def test_who_is_away_is_forgotten_because_it_may_come_back_empty(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "workers.json")
    assert cluster.newcomers(path, ["10.0.0.1", "10.0.0.2"]) == ["10.0.0.1", "10.0.0.2"]
    cluster.remember(path, ["10.0.0.1", "10.0.0.2"])
    assert cluster.newcomers(path, ["10.0.0.1", "10.0.0.2"]) == []
    cluster.remember(path, ["10.0.0.1"])
    assert cluster.newcomers(path, ["10.0.0.1", "10.0.0.2"]) == ["10.0.0.2"]
    assert json.loads((tmp_path / "workers.json").read_text())["workers"] == ["10.0.0.1"]
