# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Releases between the recorded ones, as their tags read: no row of the table, but the same way from set-up to pruning."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest

from tests.contract.dify_client_stack import run_module
from tests.contract.dify_generations.world import DEFAULTS, KEY, OTHER_KEY, PROVIDER, Dify, actions, converges, signed_in
from tests.fleet.standins.dify import build
from tests.fleet.standins.dify.dify_standin.generations import BETWEEN
from tests.fleet.standins.dify.lab import Lab


@pytest.mark.parametrize("between", BETWEEN)
def test_whole_way(dify_lab: Callable[..., Lab], between: str, tmp_path: pathlib.Path) -> None:
    lab = dify_lab(between, setup=False)
    setup = {"url": lab.url, "email": lab.email, "password": lab.password, "expected_version": between, "wait_timeout": 5, "verify_login": True}
    assert [run_module("dify_setup", check, **setup).result["changed"] for check in (True, False, False)] == [True, True, False]
    dify = Dify(lab, between, tmp_path)
    if lab.api.generation.provider_fields:
        dify.uids.remove("cosyvoice")  # no text-to-speech yet
    package = tmp_path / "xinference.difypkg"
    package.write_bytes(build.plugin_package("0.0.15"))
    plugin = {"id": "langgenius/xinference", "version": "0.0.15", "source": "package", "package": str(package), "provider": PROVIDER}
    if dify.able.plugins:
        runs = [dify("dify_plugin", check, **plugin) for check in (True, False, False)]
        assert [(run.failed, run.result["changed"]) for run in runs] == [(False, True), (False, True), (False, False)], runs

    predicted, first = dify.models(True), dify.models()
    assert (first.failed, actions(first)) == (False, dict.fromkeys(dify.uids, "create")), first.text
    assert actions(predicted) == actions(first)
    with lab.counted() as requests:
        assert not dify.models().result["changed"]
    assert len(requests) <= 4 + len(dify.uids), requests

    lab.console.change_model("qwen3-chat", "llm", model_uid="sec-chat")
    lab.console.disable_model("whisper", "speech2text")
    lab.console.delete_model("bge-reranker", "rerank")
    dify.key = OTHER_KEY
    lab.xinference.keys = {KEY, OTHER_KEY}
    assert dify.models(True).result["changed"]
    repaired = dify.models()
    assert (repaired.failed, set(actions(repaired))) == (False, set(dify.uids)), repaired.text
    converges(dify)

    with lab.counted() as requests:
        by_login = dify.models(**signed_in(dify))
    assert (by_login.failed, by_login.result["changed"]) == (False, False), by_login.text
    assert requests.count("POST /console/api/login") == 1
    lab.expire_sessions()
    pruned = dify.models(models=dify.wanted("qwen3-chat"), default_models={"llm": DEFAULTS["llm"]}, prune=True)
    assert actions(pruned) == dict.fromkeys(dify.uids[1:], "delete"), pruned.text
