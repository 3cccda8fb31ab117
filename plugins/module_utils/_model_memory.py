# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""How much memory and disk a declared model takes: estimates, each number with where it comes from.

A model is a mapping with the options of the module ``xinference_models`` (``type``, ``name``, ``engine``, ``size``,
``format``, ``quantization``, ``n_gpu``, ``options``), and optionally ``memory_gib``: what its user knows better. All results
are GiB (2**30 bytes). Nothing here is measured on the host; what is a margin of ours and not a published number says so.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._model_facts import ENCODERS, LLMS, Shape

GIB = 1024**3

# CUDA context and libraries of one process. Xinference's documentation (models/model_memory, `xinference cal-model-mem`)
# reports "overhead: 650 MB".
CONTEXT_GIB = 0.65
# Activations at the profiling run and CUDA graphs of vLLM and SGLang, per GPU. A margin of this collection.
ENGINE_GIB = 1.0
# Activations of an encoder that gets a batch of long texts. A margin of this collection.
ENCODER_WORK_GIB = 1.0
# An encoder that no table knows is taken for one of the size of bge-m3, the largest of those in common use.
UNKNOWN_ENCODER_GIB = 568e6 * 4 / GIB
# Tokens of key/value cache where nobody says how many, for engines that let the cache grow (Transformers).
GROWING_TOKENS = 8192
# Context of an LLM that no table knows and that declares none.
UNKNOWN_CONTEXT = 8192

# The fraction of the *whole* GPU that an engine takes for weights and cache, whatever it needs. vLLM: its own default and
# Xinference's is 0.9 (vLLM documentation, gpu_memory_utilization); it refuses to start when less than that is free ("Free
# memory on device ... on startup is less than desired GPU memory utilization"). SGLang: Xinference sets 0.88 on one GPU,
# 0.87 on two, 0.85 on four, 0.81 on eight.
SHARE_OPTION = {"vllm": "gpu_memory_utilization", "sglang": "mem_fraction_static"}
_SGLANG_SHARES = ((16, 0.79), (8, 0.81), (4, 0.85), (2, 0.87), (1, 0.88))

# Bytes per parameter. 4-bit formats carry scales, zero points and layers that stay in 16 bits; for GGUF they are those of
# llama.cpp's documentation of its quantizations (bits per weight / 8).
_BYTES = {
    "none": 2.0, "fp16": 2.0, "f16": 2.0, "bf16": 2.0, "fp32": 4.0, "f32": 4.0,
    "8bit": 1.0, "int8": 1.0, "w8a16": 1.0, "w8a8": 1.0, "fp8": 1.0,
    "4bit": 0.58, "int4": 0.58, "int3": 0.46, "fp4": 0.58, "mxfp4": 0.58, "nvfp4": 0.6,
}  # fmt: skip
_GGUF_BITS = {"1": 1.75, "2": 2.96, "3": 3.91, "4": 4.89, "5": 5.7, "6": 6.56, "8": 8.5}
# Quantized models keep their embeddings in 16 bits: up to 1.1 GB on top. The published files of Qwen2.5-Instruct from 0.5B
# to 72B in AWQ and GPTQ lie at most 4 % above what this and 0.58 give.
_EMBEDDINGS_GB = 1.1
# Nominal sizes are rounded down: 7 is 7.62 in Qwen2.5, 32 is 32.8. For names that no table knows.
_NOMINAL = 1.1


class Memory(t.NamedTuple):
    """What one replica of a model takes on *each* of its GPUs, GiB, and the words that explain it.

    ``share``: the fraction of the GPU that its engine takes (declared or the engine's default), ``None`` for engines that
    take what they need. ``declared_share``: whether the declaration says so. ``certain``: from known numbers, not by a rule.
    """

    weights: float
    cache: float
    overhead: float
    share: t.Optional[float]
    declared_share: bool
    certain: bool
    words: str

    @property
    def needed(self) -> float:
        return self.weights + self.cache + self.overhead


def size_in_billions(size: t.Any) -> float | None:
    """``7``, ``"7"``, ``"0_5"`` and ``0.5`` as a number."""
    try:
        return float(str(size).replace("_", "."))
    except ValueError:
        return None


def kind_of(model: t.Mapping[str, t.Any]) -> str:
    return str(model.get("type") or "LLM").lower()


def engine_of(model: t.Mapping[str, t.Any]) -> str:
    return str(model.get("engine") or "").lower()


def name_of(model: t.Mapping[str, t.Any]) -> str:
    return str(model.get("name") or (model.get("register") or {}).get("model_name") or "").lower()


def shape_of(model: t.Mapping[str, t.Any]) -> tuple[Shape | None, int | None]:
    """The known shape of an LLM, and the context that is registered for its name; ``None`` for what no table knows."""
    context, sizes = LLMS.get(name_of(model), (None, {}))
    size = size_in_billions(model.get("size"))
    if size is None:
        return None, context
    return sizes.get(f"{size:g}".replace(".", "_")), context


def tokens_of(model: t.Mapping[str, t.Any]) -> tuple[int, bool]:
    """Tokens of key/value cache that the engine has to hold, and whether that is known.

    vLLM and SGLang refuse to start unless one request of the full context fits, llama.cpp allocates its context at once;
    Transformers grows with each request.
    """
    options = model.get("options") or {}
    for key in ("max_model_len", "context_length", "n_ctx"):
        try:
            return int(options[key]), True
        except (KeyError, TypeError, ValueError):
            pass
    known = shape_of(model)[1]
    if known is None:
        known = (model.get("register") or {}).get("context_length")
    tokens = int(known or UNKNOWN_CONTEXT)
    if engine_of(model) not in ("vllm", "sglang", "llama.cpp"):
        tokens = min(tokens, GROWING_TOKENS)
    return tokens, known is not None


def bytes_per_parameter(model: t.Mapping[str, t.Any]) -> float:
    """By quantization, or by format where there is none. gpt-oss is published in 4 bits whatever is said."""
    quantization = re.sub(r"[-_ ]", "", str(model.get("quantization") or "none").lower())
    form = str(model.get("format") or "").lower()
    if form.startswith("gguf"):
        digit = re.search(r"q(\d)", quantization)
        return _GGUF_BITS[digit.group(1)] / 8 if digit and digit.group(1) in _GGUF_BITS else _BYTES.get(quantization, 2.0)
    if quantization in ("none", "") or quantization not in _BYTES:
        quantization = {"awq": "int4", "gptq": "int4", "fp8": "fp8", "fp4": "fp4", "bnb": "4bit"}.get(form, "none")
    if name_of(model) == "gpt-oss":
        return _BYTES["mxfp4"]
    return _BYTES[quantization]


def weights_gib(model: t.Mapping[str, t.Any]) -> tuple[float | None, bool]:
    """The weights of one replica in all, and whether its number of parameters is known; ``None`` when nothing is."""
    if kind_of(model) in ("embedding", "rerank"):
        known = ENCODERS.get(name_of(model))
        if known is None:
            size = size_in_billions(model.get("size"))
            return (UNKNOWN_ENCODER_GIB, False) if size is None else (size * _NOMINAL * 2e9 / GIB, True)
        return known.millions * 1e6 * known.bytes_per_param / GIB, True
    shape = shape_of(model)[0]
    size = size_in_billions(model.get("size"))
    if shape is None and size is None:
        return None, False
    params = shape.params if shape else (size or 0.0) * _NOMINAL
    each = bytes_per_parameter(model)
    extra = min(_EMBEDDINGS_GB, 0.9 * params) if each < 1.5 and not str(model.get("format") or "").lower().startswith("gguf") else 0.0
    return (params * each + extra) * 1e9 / GIB, shape is not None


def cache_gib(model: t.Mapping[str, t.Any], gpus: int = 1) -> tuple[float, bool]:
    """Key/value cache for one request of the full context, on each of ``gpus`` GPUs.

    Two tensors (keys, values) per layer, of kv_heads x head_dim x 2 bytes per token (Xinference's own formula; 1 byte with
    ``kv_cache_dtype: fp8``). A GPU holds at least one key/value head. Unknown shapes count as the largest known one of at
    most their size, with all its heads.
    """
    if kind_of(model) != "llm":
        return 0.0, True
    tokens, known_tokens = tokens_of(model)
    shape = shape_of(model)[0]
    known = shape is not None
    if shape is None:
        size = size_in_billions(model.get("size")) or 0.0
        candidates = [entry for family in (_family for _context, _family in LLMS.values()) for entry in family.values()]
        smaller = [entry for entry in candidates if entry.params <= size * _NOMINAL]
        shape = max(smaller or candidates[:1], key=lambda entry: (entry.layers * entry.kv_heads * entry.head_dim, entry.params))
    width = 1 if "fp8" in str((model.get("options") or {}).get("kv_cache_dtype") or "") else 2
    heads = max(-(-shape.kv_heads // gpus), 1)
    return 2 * shape.layers * heads * shape.head_dim * width * tokens / GIB, known and known_tokens


def share_of(model: t.Mapping[str, t.Any], gpus: int = 1) -> tuple[float | None, bool]:
    """The fraction of each GPU that the engine takes, and whether the declaration says so."""
    option = SHARE_OPTION.get(engine_of(model))
    if option is None:
        return None, False
    try:
        return float((model.get("options") or {})[option]), True
    except (KeyError, TypeError, ValueError):
        pass
    if option == "mem_fraction_static":
        return next(share for least, share in _SGLANG_SHARES if gpus >= least), False
    return 0.9, False


def estimate(model: t.Mapping[str, t.Any], gpus: int = 1) -> Memory | None:
    """What each of ``gpus`` GPUs has to hold of one replica; ``None`` when nothing is known of its size.

    ``memory_gib`` of the declaration is the need of one replica in all, and wins over every estimate.
    """
    gpus = max(gpus, 1)
    share, declared = share_of(model, gpus)
    given = model.get("memory_gib")
    if given is not None:
        return Memory(float(given) / gpus, 0.0, 0.0, share, declared, True, f"{float(given):.1f} GiB as declared (memory_gib)")
    weights, known_weights = weights_gib(model)
    if weights is None:
        return None
    kind = kind_of(model)
    overhead = CONTEXT_GIB
    if kind in ("embedding", "rerank"):
        overhead += ENCODER_WORK_GIB
    elif share is not None:
        overhead += ENGINE_GIB
    cache, known_cache = cache_gib(model, gpus)
    words = f"{weights / gpus:.1f} GiB of weights"
    if cache:
        words += f" + {cache:.1f} GiB of cache for {tokens_of(model)[0]} tokens"
    words += f" + {overhead:.1f} GiB for the engine"
    return Memory(weights / gpus, cache, overhead, share, declared, known_weights and known_cache, words)


def vram_gib(model: t.Mapping[str, t.Any], gpus: int = 1) -> float | None:
    """Least memory on each of ``gpus`` GPUs for one replica, GiB; 0 for a model on the CPU, ``None`` when nothing is known."""
    if str(model.get("n_gpu")).lower() == "cpu" or model.get("state") == "absent":
        return 0.0
    found = estimate(model, gpus)
    return None if found is None else found.needed


def disk_gib(model: t.Mapping[str, t.Any]) -> float | None:
    """Weights on disk, GiB, with 2 % for what lies beside them; ``None`` when nothing is known.

    0 for what brings its own: a model with ``model_path``, or one that is registered from a local path.
    """
    if model.get("state") == "absent" or model.get("model_path"):
        return 0.0
    spec = model.get("register") or {}
    places = [spec, *(entry for entry in spec.get("model_specs") or [] if isinstance(entry, dict))]
    if any(str(entry.get("model_uri") or "").startswith(("/", "file:")) for entry in places):
        return 0.0
    weights, _known = weights_gib(model)
    return None if weights is None else weights * 1.02


__all__ = [
    "CONTEXT_GIB",
    "GIB",
    "SHARE_OPTION",
    "Memory",
    "cache_gib",
    "disk_gib",
    "engine_of",
    "estimate",
    "kind_of",
    "name_of",
    "shape_of",
    "share_of",
    "size_in_billions",
    "tokens_of",
    "vram_gib",
    "weights_gib",
]
