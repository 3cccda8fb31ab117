# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What lies between two releases, what is refused, and where an interrupted upgrade goes on."""

from __future__ import annotations

import json
import os

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_seal import BackupError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_upgrade import env_difference, next_phase, refusal, steps_between, to_migrate


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


# -- what the new version has for the old data ----------------------------------------------------------------------------

BEGUN = {"from": "0.15.8", "to": "1.16.1", "backup": "/b", "phase": "switching", "vector_store": "weaviate"}


@pytest.mark.parametrize(
    ("state", "found"),
    [({}, []), (BEGUN, ["plugins"]), ({**BEGUN, "migrated": ["plugins"]}, []), ({**BEGUN, "from": "1.9.2"}, [])],
)
def test_each_command_is_run_once(state, found):
    assert [step.id for step in to_migrate(state)] == found


# Docker's command line, as far as a migration calls it: it writes down what it is asked, and ends as the file `ends` says.
DOCKER = """#!/bin/sh
echo "$@" >> "$DIFY_LOG"
read -r status words < "$DIFY_ENDS"
echo "$words" >&2
exit "$status"
"""


@pytest.fixture()
def upgrade(tmp_path, monkeypatch):
    """(params of a module call, told by docker, a function that says how docker ends)"""
    from ansible_collections.llmops.dify_xinference.plugins.modules import dify_upgrade

    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(DOCKER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("DIFY_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("DIFY_ENDS", str(tmp_path / "ends"))
    (tmp_path / "log").touch()
    (tmp_path / "ends").write_text("0 done\n")
    dify_upgrade.save(str(tmp_path), BEGUN)
    params = {"home": str(tmp_path), "project": "dify", "version": "1.16.1", "migrate_timeout": 30}
    return lambda: dify_upgrade.migrate(params), tmp_path


def test_data_of_before_the_plugins_is_migrated_in_the_new_container(upgrade):
    migrate, home = upgrade
    assert migrate()["migrated"] == ["plugins"]
    asked = (home / "log").read_text()
    assert "releases/1.16.1/docker" in asked and asked.endswith("exec -T api flask migrate-data-for-plugin\n")
    assert json.loads((home / ".upgrade.json").read_text()) == {**BEGUN, "migrated": ["plugins"]}
    assert migrate()["migrated"] == [] and (home / "log").read_text() == asked


def test_a_migration_that_fails_says_so_and_is_run_again(upgrade):
    migrate, home = upgrade
    (home / "ends").write_text("1 no such table: provider_models\n")
    with pytest.raises(BackupError, match="flask migrate-data-for-plugin` in the new api container failed .1.: no such table"):
        migrate()
    assert json.loads((home / ".upgrade.json").read_text()) == BEGUN
    (home / "ends").write_text("0 done\n")
    assert migrate()["changed"]
