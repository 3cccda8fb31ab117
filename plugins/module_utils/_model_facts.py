# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Shapes of the models that people run most: numbers only, each from a published ``config.json`` or model card.

Layers, key/value heads, head size and attention heads are those of each repository's ``config.json``; the context is what
Xinference 4.1.0 registers for the name. Parameters are the counts of the model cards, in billions. A model that is not
here is estimated by the rules of ``_model_memory.py``.
"""

from __future__ import annotations

import typing as t


class Shape(t.NamedTuple):
    """``params``: billions of parameters. ``heads``: attention heads, which tensor parallelism has to divide."""

    params: float
    layers: int
    kv_heads: int
    head_dim: int
    heads: int


_QWEN25 = {
    "0_5": Shape(0.49, 24, 2, 64, 14),  # Qwen/Qwen2.5-0.5B-Instruct
    "1_5": Shape(1.54, 28, 2, 128, 12),  # Qwen/Qwen2.5-1.5B-Instruct
    "3": Shape(3.09, 36, 2, 128, 16),  # Qwen/Qwen2.5-3B-Instruct
    "7": Shape(7.62, 28, 4, 128, 28),  # Qwen/Qwen2.5-7B-Instruct
    "14": Shape(14.8, 48, 8, 128, 40),  # Qwen/Qwen2.5-14B-Instruct
    "32": Shape(32.8, 64, 8, 128, 40),  # Qwen/Qwen2.5-32B-Instruct
    "72": Shape(72.7, 80, 8, 128, 64),  # Qwen/Qwen2.5-72B-Instruct
}
_QWEN3 = {
    "0_6": Shape(0.75, 28, 8, 128, 16),  # Qwen/Qwen3-0.6B
    "1_7": Shape(2.03, 28, 8, 128, 16),  # Qwen/Qwen3-1.7B
    "4": Shape(4.02, 36, 8, 128, 32),  # Qwen/Qwen3-4B
    "8": Shape(8.19, 36, 8, 128, 32),  # Qwen/Qwen3-8B
    "14": Shape(14.8, 40, 8, 128, 40),  # Qwen/Qwen3-14B
    "30": Shape(30.5, 48, 4, 128, 32),  # Qwen/Qwen3-30B-A3B
    "32": Shape(32.8, 64, 8, 128, 64),  # Qwen/Qwen3-32B
    "235": Shape(235.1, 94, 4, 128, 64),  # Qwen/Qwen3-235B-A22B
}
_LLAMA3 = {
    "8": Shape(8.03, 32, 8, 128, 32),  # meta-llama/Llama-3.1-8B-Instruct
    "70": Shape(70.6, 80, 8, 128, 64),  # meta-llama/Llama-3.1-70B-Instruct
    "405": Shape(405.9, 126, 8, 128, 128),  # meta-llama/Llama-3.1-405B-Instruct
}
_GLM4 = {"9": Shape(9.4, 40, 2, 128, 32), "32": Shape(32.6, 61, 2, 128, 48)}  # THUDM/glm-4-9b-chat, THUDM/GLM-4-32B-0414
_YI = {"6": Shape(6.06, 32, 4, 128, 32), "9": Shape(8.83, 48, 4, 128, 32), "34": Shape(34.4, 60, 8, 128, 56)}  # 01-ai/Yi-1.5-*
_MISTRAL = {"7": Shape(7.25, 32, 8, 128, 32), "12": Shape(12.2, 40, 8, 128, 32), "123": Shape(122.6, 88, 8, 128, 96)}
_GPT_OSS = {"20": Shape(20.9, 24, 8, 64, 64), "120": Shape(116.8, 36, 8, 64, 64)}  # openai/gpt-oss-*: weights are published in 4 bits

# Name on Xinference (lower case) -> context that it registers, shapes by size in billions.
LLMS: dict[str, tuple[int, dict[str, Shape]]] = {
    "qwen2-instruct": (32768, _QWEN25),
    "qwen2.5": (32768, _QWEN25),
    "qwen2.5-instruct": (32768, _QWEN25),
    "qwen2.5-coder": (32768, _QWEN25),
    "qwen2.5-coder-instruct": (32768, _QWEN25),
    "qwen2.5-vl-instruct": (128000, _QWEN25),
    "deepseek-r1-distill-qwen": (131072, _QWEN25),
    "qwq-32b": (131072, _QWEN25),
    "qwen3": (40960, _QWEN3),
    "qwen3-instruct": (262144, _QWEN3),
    "qwen3-thinking": (262144, _QWEN3),
    "qwen3-vl-instruct": (262144, _QWEN3),
    "qwen3-coder": (262144, _QWEN3),
    "deepseek-r1-0528-qwen3": (131072, _QWEN3),
    "llama-3-instruct": (8192, _LLAMA3),
    "llama-3.1": (131072, _LLAMA3),
    "llama-3.1-instruct": (131072, _LLAMA3),
    "llama-3.3-instruct": (131072, _LLAMA3),
    "deepseek-r1-distill-llama": (131072, _LLAMA3),
    "glm4-chat": (131072, _GLM4),
    "glm4-0414": (32768, _GLM4),
    "yi-1.5-chat": (4096, _YI),
    "mistral-instruct-v0.3": (32768, _MISTRAL),
    "mistral-nemo-instruct": (1024000, _MISTRAL),
    "mistral-large-instruct": (131072, _MISTRAL),
    "gpt-oss": (131072, _GPT_OSS),
}


class Encoder(t.NamedTuple):
    """An embedding or rerank model: parameters in millions, bytes per parameter of the published weights."""

    millions: float
    bytes_per_param: int


# Name on Xinference (lower case) -> size of the safetensors/pytorch weights on the model's page.
ENCODERS: dict[str, Encoder] = {
    "bge-m3": Encoder(568, 4),  # BAAI/bge-m3: float32, 2.27 GB
    "bge-small-zh-v1.5": Encoder(24, 4),
    "bge-small-en-v1.5": Encoder(33, 4),
    "bge-base-zh-v1.5": Encoder(102, 4),
    "bge-base-en-v1.5": Encoder(109, 4),
    "bge-large-zh-v1.5": Encoder(326, 4),
    "bge-large-en-v1.5": Encoder(335, 4),
    "bce-embedding-base_v1": Encoder(278, 4),
    "gte-base": Encoder(109, 2),
    "gte-large": Encoder(335, 2),
    "gte-qwen2": Encoder(7613, 4),
    "m3e-base": Encoder(102, 4),
    "m3e-large": Encoder(326, 4),
    "multilingual-e5-large": Encoder(560, 4),
    "text2vec-base-chinese": Encoder(102, 4),
    "jina-embeddings-v2-base-zh": Encoder(161, 2),
    "jina-embeddings-v3": Encoder(572, 2),
    "qwen3-embedding-0.6b": Encoder(596, 2),
    "qwen3-embedding-4b": Encoder(4022, 2),
    "qwen3-embedding-8b": Encoder(7568, 2),
    "bge-reranker-base": Encoder(278, 4),
    "bge-reranker-large": Encoder(560, 4),
    "bge-reranker-v2-m3": Encoder(568, 4),  # BAAI/bge-reranker-v2-m3: float32, 2.27 GB
    "bge-reranker-v2-gemma": Encoder(2506, 4),
    "bge-reranker-v2-minicpm-layerwise": Encoder(2725, 4),
    "bce-reranker-base_v1": Encoder(278, 4),
    "jina-reranker-v2": Encoder(278, 2),
    "jina-reranker-v3": Encoder(597, 2),
    "minicpm-reranker": Encoder(2720, 2),
    "qwen3-reranker-0.6b": Encoder(596, 2),
    "qwen3-reranker-4b": Encoder(4022, 2),
    "qwen3-reranker-8b": Encoder(7568, 2),
}

__all__ = ["ENCODERS", "LLMS", "Encoder", "Shape"]
