# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What lies between two releases, what is refused, and where an interrupted upgrade goes on."""

from __future__ import annotations

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_upgrade import env_difference, next_phase, refusal, steps_between


def ids(running, wanted, store="weaviate"):
    return [step.id for step in steps_between(running, wanted, store)]


@pytest.mark.parametrize(
    ("running", "wanted", "found"),
    [
        ("1.16.1", "1.16.1", []),
        ("1.9.2", "1.16.1", ["database-service", "storage-owner", "env-layout", "agents"]),
        ("1.9.1", "1.9.2", ["weaviate"]),
        ("0.15.8", "1.16.1", ["plugins", "weaviate", "database-service", "storage-owner", "env-layout", "agents"]),
        ("1.10.1", "1.14.0", []),
        ("1.14.0", "1.14.1", ["env-layout"]),
    ],
)
def test_steps_between_two_releases(running, wanted, found):
    assert ids(running, wanted) == found


def test_another_vector_store_has_no_weaviate_step():
    assert "weaviate" not in ids("1.7.2", "1.16.1", "qdrant")


def test_a_downgrade_is_refused_whatever_is_accepted():
    assert "no way back" in (refusal("1.16.1", "1.9.2", [], ["weaviate", "plugins"]) or "")


def test_what_needs_a_hand_is_refused_until_it_is_accepted():
    steps = steps_between("0.15.8", "1.16.1", "weaviate")
    said = refusal("0.15.8", "1.16.1", steps, ["weaviate"]) or ""
    assert '["plugins"]' in said and "Nothing was changed" in said
    assert refusal("0.15.8", "1.16.1", steps, ["weaviate", "plugins"]) is None
    assert refusal("1.9.2", "1.16.1", steps_between("1.9.2", "1.16.1", "weaviate"), []) is None


def test_the_difference_of_env_shows_no_secret():
    old = {"A": "1", "DB_PASSWORD": "oldsecret", "CELERY_BROKER_URL": "redis://:oldsecret@redis", "GONE": "x"}
    new = {"A": "2", "DB_PASSWORD": "newsecret", "CELERY_BROKER_URL": "redis://:newsecret@redis", "DIFY_AGENT_API_TOKEN": "newsecret"}
    found = env_difference(old, new)
    assert found["removed"] == ["GONE=x"]
    assert "A: 1 -> 2" in found["changed"] and len(found["changed"]) == 3
    assert found["added"] == ["DIFY_AGENT_API_TOKEN=(hidden)"]
    assert "secret" not in str(found)


@pytest.mark.parametrize(
    ("state", "running", "phase"),
    [
        ({}, "1.9.2", "begin"),
        ({}, "1.16.1", "nothing"),
        ({"phase": "switching", "to": "1.16.1", "from": "1.9.2"}, "1.9.2", "go_on"),
        ({"phase": "switching", "to": "1.15.0", "from": "1.9.2"}, "1.9.2", "other"),
        ({"phase": "rolling-back", "to": "1.16.1", "from": "1.9.2"}, "1.9.2", "roll_back"),
    ],
)
def test_where_an_interrupted_upgrade_goes_on(state, running, phase):
    assert next_phase(state, running, "1.16.1") == phase
