# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_derive import derive


def source(host, *models, key="k"):
    result = [{"uid": uid, "type": kind, "state": state, "abilities": abilities} for uid, kind, state, abilities in models]
    return {
        "host": host,
        "declared": [{"uid": item["uid"]} for item in result],
        "endpoint": {"url": f"http://{host}:9997/", "api_key": key},
        "result": {"models": result, "reachable": True},
    }


def test_kinds_addresses_keys_and_defaults_follow_from_what_runs():
    derived = derive([source("g1", ("chat", "LLM", "ready", ["chat"]), ("emb", "embedding", "ready", [])), source("g2", ("rr", "rerank", "ready", []), key="")])
    assert [(m["model"], m["model_type"], m["server_url"]) for m in derived["models"]] == [
        ("chat", "llm", "http://g1:9997"),
        ("emb", "text-embedding", "http://g1:9997"),
        ("rr", "rerank", "http://g2:9997"),
    ]
    assert derived["models"][0]["api_key"] == "k"
    assert "api_key" not in derived["models"][2]
    assert derived["defaults"] == {"llm": "chat", "text-embedding": "emb", "rerank": "rr"}
    assert derived["complete"]


def test_failed_hosts_and_unready_models_are_left_out_with_a_note():
    failed = {"host": "g2", "declared": [{"uid": "x"}], "endpoint": None, "result": None}
    derived = derive([source("g1", ("chat", "LLM", "failed", []), ("pic", "image", "ready", [])), failed])
    assert derived["models"] == []
    assert len(derived["notes"]) == 3
    assert not derived["complete"]


def test_a_uid_of_two_hosts_keeps_its_names_when_the_first_host_is_down():
    first, second = source("g1", ("chat", "LLM", "ready", [])), source("g2", ("chat", "LLM", "ready", []))
    assert [m["model"] for m in derive([first, second])["models"]] == ["chat", "chat@g2"]
    down = {"host": "g1", "declared": [{"uid": "chat"}]}
    assert [m["model"] for m in derive([down, second])["models"]] == ["chat@g2"]


def test_speech_models_are_told_apart_by_what_they_can_do():
    derived = derive([source("g1", ("w", "audio", "ready", ["audio2text"]), ("v", "audio", "ready", ["text2audio"]))])
    assert [m["model_type"] for m in derived["models"]] == ["speech2text", "tts"]


def test_abilities_travel_along_so_that_changed_ones_are_registered_anew():
    derived = derive([source("g1", ("chat", "LLM", "ready", ["chat", "vision"]), ("emb", "embedding", "ready", []))])
    assert derived["models"][0]["abilities"] == ["chat", "vision"]
    assert "abilities" not in derived["models"][1]


def test_what_xinference_info_says_of_a_server_is_enough():
    """Its rows carry less than those of a launch, and a server that refused the question says why it is left out."""
    rows = [
        {"uid": "chat", "type": "LLM", "state": "ready", "abilities": ["chat", "tools"], "context_length": 8192},
        {"uid": "late", "type": "", "state": "loading", "abilities": [], "context_length": 0},
    ]
    asked = {"host": "192.0.2.30", "endpoint": {"url": "http://192.0.2.30:9997", "api_key": None}, "result": {"models": rows}}
    refused = {"host": "192.0.2.31", "endpoint": {"url": "http://192.0.2.31:9997"}, "result": None, "problem": "HTTP 401: wrong key"}
    derived = derive([asked, refused])
    assert derived["models"] == [
        {
            "model": "chat",
            "model_type": "llm",
            "model_uid": "chat",
            "server_url": "http://192.0.2.30:9997",
            "abilities": ["chat", "tools", "context_length=8192"],
        }
    ]
    assert derived["notes"] == ["late on 192.0.2.30 is left out: it is loading", "192.0.2.31 is left out: HTTP 401: wrong key"]
    assert not derived["complete"]
