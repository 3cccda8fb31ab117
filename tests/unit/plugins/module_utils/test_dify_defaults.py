# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._difference import Difference
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_defaults import Defaults
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_versions import capabilities

OURS, THEIRS = {"provider": "p", "model": "chat"}, {"provider": "p", "model": "other"}


class Client:
    """Answers a question for a default with one after the other of ``answers``, and notes what is set."""

    def __init__(self, version, *answers):
        self.capabilities = capabilities(version)
        self.answers = list(answers)
        self.set = []

    def default_model(self, model_type):
        return self.answers.pop(0)

    def workspace(self, method, path, json):
        self.set.append(json["model_settings"][0]["model"])


def bring(client, check_mode=False, models=(), types=()):
    difference = Difference()
    defaults = Defaults(client, check_mode, types)
    defaults.look_before_changes()
    (verdict,) = defaults.bring({"llm": "chat"}, "p", models, difference)
    return verdict, difference


@pytest.mark.parametrize(("version", "tries"), [("1.13.3", 2), ("1.14.0", 1)])
def test_a_first_write_that_goes_astray_is_repeated_where_that_happens(version, tries):
    """Up to 1.13.3 it lands under a wrong word, and the look behind it makes Dify choose another one, under the right word."""
    client = Client(version, None, THEIRS, OURS)
    verdict, _difference = bring(client)
    assert len(client.set) == tries
    assert verdict["verdict"] == ("ok" if tries == 2 else "failed")


def test_what_dify_chose_meanwhile_is_told_as_a_change():
    """There was none, and with its first model Dify chose the wanted one by itself."""
    client = Client("1.16.1", None, OURS)
    verdict, difference = bring(client, models=[{"model": "chat", "model_type": "llm", "verdict": "ok", "changed": True}], types=["llm"])
    assert (verdict["changed"], verdict["before"], client.set) == (True, None, [])
    assert difference.diff()["after"] == {"default/llm": "chat"}


def test_a_default_whose_model_failed_is_not_set():
    client = Client("1.16.1", THEIRS)
    verdict, difference = bring(client, models=[{"model": "chat", "model_type": "llm", "verdict": "failed", "changed": False}])
    assert (verdict["verdict"], verdict["reason"], client.set) == ("failed", "the model itself could not be registered", [])
    assert not difference.changed


def test_check_mode_sets_nothing():
    client = Client("1.16.1", THEIRS)
    verdict, difference = bring(client, check_mode=True)
    assert (verdict["changed"], verdict["before"], client.set) == (True, "other", [])
    assert difference.changed


def test_same_name_of_another_provider_is_another_default():
    client = Client("1.16.1", {"provider": "q", "model": "chat"}, OURS)
    verdict, difference = bring(client)
    assert verdict["changed"]
    assert difference.diff()["before"] == {"default/llm": "chat of q"}
