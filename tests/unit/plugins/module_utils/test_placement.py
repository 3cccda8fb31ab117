# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._model_memory import estimate
from ansible_collections.llmops.dify_xinference.plugins.module_utils._placement import place
from ansible_collections.llmops.dify_xinference.plugins.module_utils._placement_gpus import RESERVE_GIB, devices_of
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_plan import launch_body

CHAT = {"uid": "chat", "type": "LLM", "name": "qwen2.5-instruct", "engine": "vllm", "size": 7, "format": "awq", "quantization": "Int4"}
FULL = {"uid": "full", "type": "LLM", "name": "qwen2.5-instruct", "engine": "vllm", "size": 7, "format": "pytorch"}
EMBED = {"uid": "embed", "type": "embedding", "name": "bge-m3"}
RERANK = {"uid": "rerank", "type": "rerank", "name": "bge-reranker-v2-m3"}


def gpu(index: int, mib: int = 24564, used: int = 1, **more: Any) -> dict[str, Any]:
    """As gpu_preflight returns one."""
    return {
        "index": index,
        "uuid": f"GPU-{index}",
        "bus_id": f"0000:{index:02x}:00.0",
        "name": "NVIDIA GeForce RTX 4090",
        "memory_total_mib": mib,
        "memory_used_mib": used,
        "mig_mode": "[N/A]",
        "faults": [],
        **more,
    }


def plan(models: list[dict[str, Any]], gpus: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return place(models, devices_of("", gpus), **more)


def places(found: dict[str, Any]) -> dict[str, list[int]]:
    return {model["uid"]: model.get("gpus") for model in found["models"]}


def reason(found: dict[str, Any], uid: str) -> str:
    return next(entry["reason"] for entry in found["placements"] if entry["uid"] == uid)


def running(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the host remembers after the launch of a plan."""
    return {model["uid"]: launch_body(model) for model in found["models"] if not model.get("refused")}


def test_one_gpu_is_shared_and_the_llm_gets_an_explicit_share() -> None:
    found = plan([EMBED, CHAT, RERANK], [gpu(0)])
    assert places(found) == {"embed": [0], "chat": [0], "rerank": [0]}
    share = found["models"][1]["options"]["gpu_memory_utilization"]
    assert 0.5 < share < 0.9
    assert sum(found["gpus"][0]["models"].values()) <= 24564 / 1024 - RESERVE_GIB


def test_alone_on_a_gpu_the_engine_keeps_its_default() -> None:
    assert "options" not in plan([CHAT], [gpu(0)])["models"][0]


def test_with_two_gpus_the_small_ones_gather_away_from_the_llm() -> None:
    found = plan([CHAT, EMBED, RERANK], [gpu(0), gpu(1)])
    assert places(found) == {"chat": [0], "embed": [1], "rerank": [1]}
    assert "options" not in found["models"][0]


def test_the_smallest_gpu_that_is_enough() -> None:
    assert places(plan([CHAT], [gpu(0, 81559), gpu(1)])) == {"chat": [1]}
    assert places(plan([FULL], [gpu(0, 81559), gpu(1, 16000)])) == {"full": [0]}


def test_an_llm_is_spread_when_one_gpu_is_too_small() -> None:
    found = plan([dict(FULL, size=32)], [gpu(0, 46068), gpu(1, 46068), gpu(2, 46068)])
    assert places(found) == {"full": [0, 1]}


def test_two_llms_on_one_gpu_get_shares_that_add_up() -> None:
    found = plan([CHAT, dict(CHAT, uid="coder", name="qwen2.5-coder-instruct")], [gpu(0)])
    both = [model["options"]["gpu_memory_utilization"] for model in found["models"]]
    assert sum(both) < 1
    assert min(both) > 0.3


def test_sglang_gets_its_own_option() -> None:
    found = plan([dict(CHAT, engine="SGLang"), EMBED], [gpu(0)])
    assert "mem_fraction_static" in found["models"][0]["options"]


def test_explicit_gpus_win() -> None:
    found = plan([dict(CHAT, gpus=[1]), EMBED], [gpu(0), gpu(1)])
    assert places(found) == {"chat": [1], "embed": [0]}


def test_explicit_share_is_kept_and_counted() -> None:
    declared = dict(CHAT, options={"gpu_memory_utilization": 0.9})
    found = plan([declared, EMBED], [gpu(0)])
    assert found["models"][0]["options"] == {"gpu_memory_utilization": 0.9}
    assert found["refused"] == ["embed"]


def test_n_gpu_has_to_divide_the_heads() -> None:
    assert "28 attention heads" in reason(plan([dict(FULL, n_gpu=3)], [gpu(0), gpu(1), gpu(2)]), "full")
    assert places(plan([dict(FULL, n_gpu="2")], [gpu(0), gpu(1), gpu(2)])) == {"full": [0, 1]}


def test_a_refusal_says_what_it_needs_what_is_there_and_what_would_fit() -> None:
    found = plan([CHAT, dict(FULL, gpus=[0], uid="big"), EMBED], [gpu(0, 15360)])
    assert found["refused"] == ["big"]
    text = reason(found, "big")
    for part in ("needs 17.6 GiB", "14.2 GiB of weights", "32768 tokens", "GPU 0 (NVIDIA GeForce RTX 4090, 15.0 GiB)", "What would fit: ", "memory_gib"):
        assert part in text
    assert found["models"][1]["refused"] == text
    assert "gpus" not in found["models"][1] or found["models"][1]["gpus"] == [0]
    assert places(found)["chat"] == [0], "the others go on"


def test_what_would_fit_fits() -> None:
    llama = {"uid": "llama", "name": "llama-3.1-instruct", "engine": "vllm", "size": 8}
    text = reason(plan([llama], [gpu(0)]), "llama")
    assert "options.max_model_len: 32768" in text
    assert plan([dict(llama, options={"max_model_len": 32768})], [gpu(0)])["refused"] == []
    assert "format: fp8" in reason(plan([dict(llama, options={"max_model_len": 8192})], [gpu(0, 16384)]), "llama")


def test_strangers_on_the_gpu_are_named() -> None:
    found = plan([FULL], [gpu(0, used=12000)])
    assert found["refused"] == ["full"]
    assert "processes that were not launched from here take 11.7" in reason(found, "full")


def test_without_knowledge_nothing_changes() -> None:
    models = [CHAT, EMBED, dict(CHAT, uid="cpu", n_gpu="cpu"), dict(CHAT, uid="gone", state="absent")]
    for found in (plan(models, []), plan(models, [gpu(0)], mode="none")):
        assert found["models"] == models
    assert plan([dict(CHAT, memory_gib=3)], [])["models"] == [CHAT], "the module does not know the option"
    assert plan([{"uid": "sd", "type": "image", "name": "sd3-medium"}], [gpu(0)])["models"] == [{"uid": "sd", "type": "image", "name": "sd3-medium"}]


def test_what_was_launched_without_a_place_stays_where_it_is() -> None:
    found = plan([CHAT], [gpu(0, used=21000), gpu(1)], running={"chat": launch_body(CHAT)})
    assert found["models"] == [CHAT]


def test_what_was_launched_on_the_cpu_stays_there_until_the_declaration_says_otherwise() -> None:
    state = {"chat": launch_body(dict(CHAT, n_gpu="cpu"))}
    assert plan([CHAT], [gpu(0)], running=state)["models"] == [CHAT]
    assert places(plan([dict(CHAT, n_gpu=1)], [gpu(0)], running=state)) == {"chat": [0]}
    assert places(plan([dict(CHAT, size=14)], [gpu(0)], running=state)) == {"chat": [0]}, "it is launched again anyway"


def test_a_second_run_changes_nothing() -> None:
    first = plan([CHAT, EMBED, RERANK], [gpu(0)])
    used = int(sum(first["gpus"][0]["models"].values()) * 1024)
    again = plan([CHAT, EMBED, RERANK], [gpu(0, used=used)], running=running(first))
    assert again["models"] == first["models"]
    assert {entry["action"] for entry in again["placements"]} == {"kept"}


def test_a_run_that_cannot_see_the_gpus_changes_nothing_either() -> None:
    first = plan([CHAT, EMBED, dict(RERANK, n_gpu="cpu")], [gpu(0)])
    blind = plan([CHAT, EMBED, dict(RERANK, n_gpu="cpu")], [], running=running(first))
    assert blind["models"] == first["models"]
    assert plan([dict(CHAT, n_gpu=2)], [], running=running(first))["models"] == [dict(CHAT, n_gpu=2)]


def test_an_added_model_moves_nobody() -> None:
    first = plan([EMBED, RERANK], [gpu(0), gpu(1)])
    again = plan([CHAT, EMBED, RERANK], [gpu(0, used=7600), gpu(1)], running=running(first))
    assert places(again) == {"chat": [1], "embed": [0], "rerank": [0]}
    full = plan([CHAT], [gpu(0)])
    refused = plan([CHAT, EMBED], [gpu(0, used=22000)], running=running(full))
    assert refused["refused"] == ["embed"]
    assert "chat takes 21.6" in reason(refused, "embed")


def test_a_changed_model_stays_where_it_fits_and_moves_where_it_does_not() -> None:
    gpus = [gpu(0), gpu(1, 81559)]
    first = running(plan([dict(CHAT, gpus=[0])], gpus))
    longer = dict(CHAT, options={"max_model_len": 16384})
    assert places(plan([longer], gpus, running=first)) == {"chat": [0]}
    assert places(plan([dict(FULL, uid="chat", size=14)], gpus, running=first)) == {"chat": [1]}


def test_a_changed_model_does_not_crowd_out_its_neighbours() -> None:
    gpus = [gpu(0), gpu(1, 81559)]
    small, other = dict(CHAT, engine="transformers", gpus=[0]), dict(EMBED, memory_gib=12, gpus=[0])
    first = running(plan([small, other], gpus))
    grown = dict(FULL, uid="chat", engine="transformers")
    found = plan([grown, dict(other, gpus=None)], gpus, running=first)
    assert places(found) == {"chat": [1], "embed": [0]}


def test_what_leaves_makes_room() -> None:
    first = running(plan([CHAT], [gpu(0)]))
    assert plan([FULL], [gpu(0, used=22000)], running=first)["refused"] == ["full"]
    assert plan([FULL], [gpu(0, used=22000)], running=first, leaving=True)["refused"] == []


def test_the_server_numbers_the_gpus_it_sees() -> None:
    gpus = [gpu(0), gpu(1), gpu(2, faults=["[GPU is lost]"]), gpu(3)]
    seen = devices_of("", gpus, [2, "GPU-3"])
    assert [(device.number, bool(device.problem)) for device in seen] == [(0, True), (1, False)]
    assert [device.number for device in devices_of("", gpus, "all")] == [0, 1, 2, 3]
    assert devices_of("", gpus, []) == []


def test_mig() -> None:
    card = gpu(0, 81559, mig_mode="Enabled")
    assert devices_of("", [card])[0].problem
    parts = [{"uuid": "MIG-a", "memory_total_mib": 9728}, {"uuid": "MIG-b", "memory_total_mib": 9728}]
    assert devices_of("", [dict(card, mig_devices=parts)])[0].problem, "CUDA shows a process one instance only"
    (one,) = devices_of("", [dict(card, mig_devices=parts)], ["MIG-b"])
    assert (one.number, one.total, one.problem) == (0, 9.5, "")


def test_a_cluster() -> None:
    devices = devices_of("192.0.2.1:9999", [gpu(0)]) + devices_of("192.0.2.2:9999", [gpu(0), gpu(1)])
    found = place([dict(FULL, n_gpu=2), CHAT, dict(EMBED, worker_ip="192.0.2.1")], devices)
    assert [(model["worker_ip"], model["gpus"]) for model in found["models"]] == [("192.0.2.2:9999", [0, 1]), ("192.0.2.1:9999", [0]), ("192.0.2.1", [0])]
    assert "on one host" in reason(place([dict(FULL, n_gpu=4)], devices), "full")


def test_workers_that_are_known_by_their_address_alone() -> None:
    devices = devices_of("192.0.2.1", [gpu(0)]) + devices_of("192.0.2.2", [gpu(0, 81559)])
    found = place([dict(FULL, uid="full"), dict(EMBED, gpus=[0]), dict(RERANK, gpus=[0], worker_ip="192.0.2.2:9999")], devices)
    assert [model.get("worker_ip") for model in found["models"]] == ["192.0.2.1", None, "192.0.2.2:9999"]
    assert "says nothing about the worker" in reason(found, "embed"), "every worker has a GPU 0"
    again = place([dict(FULL, uid="full"), CHAT], devices, running=running(found))
    assert [model["worker_ip"] for model in again["models"]] == ["192.0.2.1", "192.0.2.2"]


@pytest.mark.parametrize("bad", [{"memory_gib": "much"}, {"gpus": ["a"]}, {"replica": "two"}, {"gpus": [7]}, {"replica": 0}])
def test_one_bad_model_stops_nobody(bad: dict[str, Any]) -> None:
    found = plan([dict(CHAT, **bad), EMBED], [gpu(0)])
    assert found["refused"] == ["chat"]
    assert places(found)["embed"] == [0]


def some_models(chance: random.Random) -> list[dict[str, Any]]:
    models = []
    for number in range(chance.randint(1, 7)):
        kind = chance.choice(["LLM", "LLM", "embedding", "rerank"])
        model: dict[str, Any] = {"uid": f"m{number}x", "type": kind}
        if kind == "LLM":
            model.update(name="qwen2.5-instruct", engine=chance.choice(["vllm", "sglang", "transformers"]), size=chance.choice(["0_5", 3, 7, 14, 32, 72]))
            model.update(chance.choice([{}, {"format": "awq", "quantization": "Int4"}, {"options": {"gpu_memory_utilization": 0.45}}]))
            model.update(chance.choice([{}, {}, {"n_gpu": 2}]))
        else:
            model.update(name=chance.choice(["bge-m3", "bge-large-zh-v1.5", "unknown"]), **chance.choice([{}, {"engine": "vllm"}]))
        model.update(chance.choice([{}, {}, {}, {"gpus": [chance.randint(0, 2)]}, {"memory_gib": chance.randint(1, 30)}, {"n_gpu": "cpu"}]))
        if model.get("gpus"):
            model.pop("n_gpu", None)
        models.append(model)
    return models


@pytest.mark.parametrize("seed", range(300))
def test_properties(seed: int) -> None:
    chance = random.Random(seed)
    models = some_models(chance)
    gpus = [gpu(index, chance.choice([8192, 15360, 24564, 46068, 81559]), chance.choice([1, 1, 1, 4000])) for index in range(chance.randint(1, 4))]
    before = copy.deepcopy((models, gpus))
    found = plan(models, gpus)
    assert (models, gpus) == before, "the input is left alone"
    assert plan(models, gpus) == found, "the same input, the same places"
    # Nothing is over-committed, and every engine gets at least what it needs.
    for entry, card in zip(found["gpus"], gpus):
        strangers = card["memory_used_mib"] / 1024 if card["memory_used_mib"] / 1024 > RESERVE_GIB else 0
        assert sum(entry["models"].values()) <= card["memory_total_mib"] / 1024 - RESERVE_GIB - strangers + 0.05
    for model, declared, report in zip(found["models"], models, found["placements"]):
        if report["action"] == "refused":
            assert model["refused"] and "memory_gib" not in model
        elif declared.get("gpus"):
            assert model["gpus"] == declared["gpus"], "pins are kept"
        if report["action"] in ("placed", "pinned"):
            need = estimate(declared, len(model["gpus"]))
            assert need is not None
            for index in model["gpus"]:
                assert found["gpus"][index]["models"][model["uid"]] >= need.needed - 0.05
            if declared.get("n_gpu") == 2:
                assert len(model["gpus"]) == 2
    # What runs stays, also when models are added.
    state = running(found)
    use = [dict(card, memory_used_mib=int(sum(entry["models"].values()) * 1024) + card["memory_used_mib"]) for entry, card in zip(found["gpus"], gpus)]
    more = [dict(EMBED, uid="new1x"), *models, dict(CHAT, uid="new2x")]
    chance.shuffle(more)
    again = plan(more, use, running=state)
    kept = {model["uid"]: model for model in again["models"]}
    for model in found["models"]:
        if not model.get("refused"):
            assert kept[model["uid"]] == model
