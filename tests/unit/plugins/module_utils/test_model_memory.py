# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _model_memory as memory

GB = 1e9 / memory.GIB


def llm(size: Any, **more: Any) -> dict[str, Any]:
    return {"type": "LLM", "name": "qwen2.5-instruct", "engine": "vllm", "size": size, **more}


# Sizes of the weights on the models' pages, GB.
PUBLISHED = [
    (llm("0_5"), 0.99),
    (llm(7), 15.2),
    (llm(72), 145.4),
    (llm("0_5", format="awq", quantization="Int4"), 0.73),
    (llm(7, format="awq", quantization="Int4"), 5.57),
    (llm(14, format="gptq", quantization="Int4"), 9.98),
    (llm(32, format="awq", quantization="Int4"), 19.3),
    (llm(72, format="awq", quantization="Int4"), 41.6),
    (llm(7, format="ggufv2", quantization="q4_k_m"), 4.68),
    (llm(7, format="ggufv2", quantization="q8_0"), 8.1),
    (dict(llm(8), name="qwen3", format="fp8", quantization="fp8"), 9.4),
    (dict(llm(8), name="llama-3.1-instruct"), 16.1),
    ({"type": "embedding", "name": "bge-m3"}, 2.27),
    ({"type": "rerank", "name": "bge-reranker-v2-m3"}, 2.27),
    ({"type": "embedding", "name": "Qwen3-Embedding-0.6B"}, 1.19),
]


@pytest.mark.parametrize(("model", "published"), PUBLISHED, ids=[str(entry[0].get("name")) + str(entry[0].get("size")) for entry in PUBLISHED])
def test_weights_are_near_the_published_files(model: dict[str, Any], published: float) -> None:
    estimated, known = memory.weights_gib(model)
    assert known
    assert estimated is not None
    assert published * GB * 0.93 <= estimated <= published * GB * 1.15


def test_cache_by_hand() -> None:
    # 2 tensors x 28 layers x 4 heads x 128 x 2 bytes x 32768 tokens
    assert memory.cache_gib(llm(7)) == (2 * 28 * 4 * 128 * 2 * 32768 / memory.GIB, True)
    assert memory.cache_gib(llm(7, options={"max_model_len": 8192}))[0] == memory.cache_gib(llm(7))[0] / 4
    assert memory.cache_gib(llm(7, options={"kv_cache_dtype": "fp8"}))[0] == memory.cache_gib(llm(7))[0] / 2
    assert memory.cache_gib(llm(7), 2)[0] == memory.cache_gib(llm(7))[0] / 2
    assert memory.cache_gib(llm(7), 8)[0] == memory.cache_gib(llm(7))[0] / 4, "a GPU holds at least one head"


def test_an_engine_that_lets_its_cache_grow_needs_less() -> None:
    assert memory.cache_gib(llm(7, engine="transformers"))[0] < memory.cache_gib(llm(7))[0]


@pytest.mark.parametrize(
    ("model", "gpus", "share", "declared"),
    [
        (llm(7), 1, 0.9, False),
        (llm(7, options={"gpu_memory_utilization": 0.5}), 1, 0.5, True),
        (llm(7, engine="SGLang"), 1, 0.88, False),
        (llm(7, engine="sglang"), 4, 0.85, False),
        (llm(7, engine="sglang", options={"mem_fraction_static": "0.7"}), 4, 0.7, True),
        (llm(7, engine="transformers"), 1, None, False),
        ({"type": "embedding", "name": "bge-m3", "engine": "vllm"}, 1, 0.9, False),
    ],
)
def test_share(model: dict[str, Any], gpus: int, share: float | None, declared: bool) -> None:
    assert memory.share_of(model, gpus) == (share, declared)


def test_what_the_user_knows_wins() -> None:
    found = memory.estimate(llm(7, memory_gib=10), 2)
    assert found is not None
    assert found.needed == 5
    assert "memory_gib" in found.words


def test_nothing_is_made_up() -> None:
    assert memory.vram_gib({"type": "image", "name": "sd3-medium"}) is None
    assert memory.vram_gib({"type": "LLM", "name": "qwen2.5-instruct", "engine": "vllm"}) is None, "any of seven sizes"
    assert memory.vram_gib(llm(7, n_gpu="cpu")) == 0
    assert memory.vram_gib(llm(7, state="absent")) == 0


def test_disk() -> None:
    assert memory.disk_gib(llm(7)) == pytest.approx(7.62e9 * 2 / memory.GIB * 1.02)
    assert memory.disk_gib(llm(7, model_path="/models/x")) == 0
    assert memory.disk_gib({"register": {"model_name": "a", "model_specs": [{"model_uri": "/srv/models/a"}]}}) == 0
    assert memory.disk_gib({"type": "video", "name": "x"}) is None


def test_a_name_without_a_table_is_rounded_up() -> None:
    assert memory.weights_gib({"type": "LLM", "name": "new", "size": "7"}) == (pytest.approx(7 * 1.1 * 2e9 / memory.GIB), False)
    shape_free = memory.estimate({"type": "LLM", "name": "new", "engine": "vllm", "size": "7"})
    assert shape_free is not None
    assert not shape_free.certain
