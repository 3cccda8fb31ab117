# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_rotation import PENDING, ROTATABLE, RotationRefused, alter_role, plan

STORED = {"DB_PASSWORD": "old", "REDIS_PASSWORD": "old", "DIFY_AGENT_SERVER_SECRET_KEY": "old", "SECRET_KEY": "old"}


def test_only_what_the_host_has_is_replaced():
    new = plan(STORED, ROTATABLE)
    assert sorted(new) == ["DB_PASSWORD", "DIFY_AGENT_SERVER_SECRET_KEY", "REDIS_PASSWORD"]
    assert "old" not in new.values()
    assert len(new["DIFY_AGENT_SERVER_SECRET_KEY"]) == 43


def test_a_password_that_waits_is_used_again():
    assert plan({**STORED, PENDING: "waiting"}, ["DB_PASSWORD"]) == {"DB_PASSWORD": "waiting"}


@pytest.mark.parametrize(
    ("name", "words"), [("SECRET_KEY", "signed out"), ("ADMIN_PASSWORD", "console"), ("NONE", "known are SANDBOX|known are"), ("REDIS_PASSWORD", "of your own")]
)
def test_what_cannot_be_replaced_stops_everything(name, words):
    with pytest.raises(RotationRefused, match=words):
        plan(STORED, ["DB_PASSWORD", name], ["REDIS_PASSWORD"])


def test_sql_is_quoted():
    assert alter_role('we"ird', "it's") == 'ALTER ROLE "we""ird" PASSWORD \'it\'\'s\';\n'
