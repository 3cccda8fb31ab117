# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_plugins import Identifier, PluginError, pinned_settings, plan_plugin

PLUGIN = "langgenius/xinference"


def test_identifier_is_taken_apart():
    identifier = Identifier.parse(f"{PLUGIN}:0.0.15@b6744a1d")
    assert (identifier.plugin_id, identifier.version) == (PLUGIN, "0.0.15")
    with pytest.raises(PluginError):
        Identifier.parse("nonsense")


@pytest.mark.parametrize(
    ("installed", "version", "action"),
    [(None, "0.0.15", "install"), ("0.0.15", "0.0.15", "none"), ("0.0.14", "0.0.15", "upgrade"), ("0.0.16", "0.0.15", "upgrade"), ("0.0.1", None, "none")],
)
def test_versions_are_compared_because_install_does_not(installed, version, action):
    assert plan_plugin(installed, version) == action


def settings(mode, strategy="latest", exclude=(), include=()):
    return {"strategy_setting": strategy, "upgrade_mode": mode, "exclude_plugins": list(exclude), "include_plugins": list(include), "upgrade_time_of_day": 1}


@pytest.mark.parametrize(
    "found",
    [settings("all", strategy="disabled"), settings("exclude", exclude=[PLUGIN]), settings("partial", include=["other/one"])],
)
def test_pinned_plugin_needs_nothing(found):
    assert pinned_settings(found, PLUGIN) is None


@pytest.mark.parametrize("found", [settings("all"), settings("exclude", exclude=["other/one"]), settings("partial", include=[PLUGIN, "other/one"])])
def test_only_this_plugin_is_taken_out(found):
    pinned = pinned_settings(found, PLUGIN)
    assert pinned_settings(pinned, PLUGIN) is None
    assert pinned["strategy_setting"] == "latest"
    assert set(found["exclude_plugins"]) <= set(pinned["exclude_plugins"])
    assert "other/one" in pinned["include_plugins"] or "other/one" not in found["include_plugins"]
