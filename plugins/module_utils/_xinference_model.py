# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""One declared model: what speaks against it, and the launch request it becomes. Nothing here speaks to a server."""

from __future__ import annotations

import difflib
import re
import typing as t

MODEL_TYPES = ("LLM", "embedding", "rerank", "image", "audio", "video", "flexible", "world")

# Where a suboption of the module goes in the launch request.
_FIELDS = {
    "name": "model_name",
    "type": "model_type",
    "engine": "model_engine",
    "size": "model_size_in_billions",
    "format": "model_format",
    "quantization": "quantization",
    "replica": "replica",
    "worker_ip": "worker_ip",
    "model_path": "model_path",
    "download_hub": "download_hub",
    "peft_model_config": "peft_model_config",
    "request_limits": "request_limits",
    "enable_virtual_env": "enable_virtual_env",
    "virtual_env_packages": "virtual_env_packages",
    "virtual_env_find_links": "virtual_env_find_links",
    "envs": "envs",
}
LAUNCH_KEYS = tuple(sorted(set(_FIELDS.values()) | {"model_uid", "n_gpu", "gpu_idx"}))
# Engine arguments that people write most; the server swallows a typo in one of them without a word.
ENGINE_KEYS = frozenset(
    {
        "max_model_len", "gpu_memory_utilization", "tensor_parallel_size", "pipeline_parallel_size", "max_num_seqs",
        "trust_remote_code", "enforce_eager", "swap_space", "kv_cache_dtype", "dtype", "enable_prefix_caching",
        "enable_chunked_prefill", "limit_mm_per_prompt", "reasoning_content", "n_ctx", "n_gpu_layers", "device",
        "torch_dtype", "quantization_config", "mem_fraction_static", "context_length", "cpu_offload",
    }
)  # fmt: skip
# Fields that older servers hand to the engine, which ends with "unexpected keyword argument" after its process was started
# (source of 0.13.3): the first version that knows them. No route tells these servers apart, only their version does.
_SINCE = {"model_path": (0, 14, 0), "enable_virtual_env": (1, 8, 1), "virtual_env_packages": (1, 8, 1), "envs": (1, 8, 1)}
PEFT_KEYS = ("lora_list", "image_lora_load_kwargs", "image_lora_fuse_kwargs")


def problem_with_uid(uid: t.Any) -> str:
    """Why a uid cannot be used; empty when it can."""
    if not isinstance(uid, str) or not uid:
        return "a uid is needed: without one every launch starts another copy"
    if len(uid) > 100:
        return f"a uid has at most 100 characters, this one has {len(uid)}"
    if "/" in uid:
        return "a uid with a slash is launched but can then be neither read nor ended until the server restarts: use a dash"
    if re.search(r"-(rep)?\d+$", uid):
        return "a uid that ends in -<number> or -rep<number> is taken for a replica's name: put a letter after the number, or use a dot"
    if uid != uid.strip() or any(character.isspace() for character in uid):
        return "a uid has no spaces"
    return ""


def type_of(text: t.Any) -> str | None:
    """The server's spelling of a model type (it is case-sensitive), or ``None``."""
    for name in MODEL_TYPES:
        if str(text).lower() == name.lower():
            return name
    return None


def problem_with(model: dict[str, t.Any]) -> str:
    """Why a declaration cannot work; empty when nothing speaks against it."""
    problem = problem_with_uid(model.get("uid"))
    if problem or model.get("state") == "absent":
        return problem
    if model.get("refused"):
        return str(model["refused"])
    model_type = type_of(model.get("type") or "LLM")
    if model_type is None:
        return f"type {model['type']!r} is unknown: one of {', '.join(MODEL_TYPES)}"
    if not name_of(model):
        return "name is missing: the model's name on Xinference (register.model_name serves too)"
    if model_type == "LLM" and not model.get("engine"):
        return "engine is missing: an LLM needs one (vllm, transformers, sglang, llama.cpp …)"
    if model.get("register") and model["register"].get("model_name") not in (None, name_of(model)):
        return f"name is {model['name']!r} but register.model_name is {model['register']['model_name']!r}"
    replica = model.get("replica")
    if replica is not None and replica < 1:
        return f"replica is {replica}: at least 1 (0 leaves a ghost on old servers); use state: absent to remove a model"
    count = model.get("n_gpu")
    if count is not None and str(count).lower() not in ("auto", "cpu"):
        try:
            if int(count) < 1:
                return f"n_gpu is {count}: at least 1, auto, or cpu (the server refuses 0)"
        except ValueError:
            return f"n_gpu is {count!r}: a number of GPUs, auto, or cpu"
    gpus = model.get("gpus") or []
    if gpus and len(gpus) % (replica or 1):
        return f"gpus has {len(gpus)} entries for {replica} replicas: it must be a multiple"
    if gpus and str(count).lower() == "cpu":
        return "gpus and n_gpu: cpu exclude each other"
    if "replica_config" in (model.get("options") or {}):
        return (
            "options.replica_config is not supported: after a worker was lost the server can no longer add replicas to such a model "
            "(it says that the replica's uid exists); use replica with worker_ip or gpus"
        )
    clash = sorted(set(model.get("options") or {}) & set(LAUNCH_KEYS))
    if clash:
        return f"options.{clash[0]} has an option of its own: see the documentation of this module"
    return ""


def name_of(model: dict[str, t.Any]) -> str:
    return str(model.get("name") or (model.get("register") or {}).get("model_name") or "")


def launch_body(model: dict[str, t.Any]) -> dict[str, t.Any]:
    """The body of the launch request of a declared model. What is not declared is left to the server."""
    body: dict[str, t.Any] = {"model_uid": model["uid"], "model_name": name_of(model), "model_type": type_of(model.get("type") or "LLM")}
    for option, key in _FIELDS.items():
        if key not in body and model.get(option) is not None:
            body[key] = model[option]
    gpus = model.get("gpus") or []
    count = model.get("n_gpu")
    if gpus:
        body["gpu_idx"] = [int(index) for index in gpus]
        if count is None:
            count = len(gpus) // (model.get("replica") or 1)
    if count is not None:
        text = str(count).lower()
        body["n_gpu"] = None if text == "cpu" else text if text == "auto" else int(count)  # null is a CPU; 0 is an error
    body.update(model.get("options") or {})
    return body


def needs_version(body: dict[str, t.Any]) -> bool:
    """Whether it depends on the server's version if a launch request can work."""
    return any(body.get(field) is not None for field in _SINCE)


def problem_on(body: dict[str, t.Any], version: str) -> str:
    """Why a server of this version cannot launch a request; empty when nothing speaks against it, or the version says nothing."""
    numbers = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    if not numbers:
        return ""
    there = tuple(int(number or 0) for number in numbers.groups())
    unknown = {field: since for field, since in _SINCE.items() if body.get(field) is not None and there < since}
    if not unknown:
        return ""
    first = ".".join(map(str, max(unknown.values())))
    names = ", ".join(sorted(unknown))
    verb = "is an argument" if len(unknown) == 1 else "are arguments"
    hint = ", set the variables for the whole server (xinference_environment of the role)" if "envs" in unknown else ""
    return (
        f"{names}: for this server, Xinference {version}, that {verb} of the engine, which fails; "
        f"take it out of the declaration{hint}, or use {first} or newer"
    )


def is_secret(key: str) -> bool:
    return bool(re.search(r"token|secret|passw|api_?key|credential|^envs$", key, re.IGNORECASE))


def option_warnings(uid: str, model: dict[str, t.Any]) -> list[str]:
    """Keys that look like a misspelt one: from 2.x on the server takes any name without a word."""
    warnings = []
    for option, known in (("options", sorted(ENGINE_KEYS.union(LAUNCH_KEYS))), ("peft_model_config", list(PEFT_KEYS))):
        for key in sorted(model.get(option) or {}):
            near = difflib.get_close_matches(key, known, 1, 0.8)
            if key in known:
                continue
            if near:
                warnings.append(f"model {uid}: {option}.{key} is passed on as it is; did you mean {near[0]}?")
            elif option == "peft_model_config":
                warnings.append(f"model {uid}: {option}.{key} is unknown to Xinference, which ignores it; it knows {', '.join(known)}")
    return warnings


def without_secrets(value: t.Any, key: str = "") -> t.Any:
    """What may be shown of a launch request: values of keys that look like a secret, and all of envs, are hidden."""
    if key and is_secret(key):
        return dict.fromkeys(value, "(hidden)") if isinstance(value, dict) else "(hidden)"
    if isinstance(value, dict):
        return {name: without_secrets(entry, str(name)) for name, entry in value.items()}
    return [without_secrets(entry) for entry in value] if isinstance(value, list) else value


def placement_warning(body: dict[str, t.Any], workers: list[str]) -> str:
    """What to say about a worker that was asked for: a server in local mode ignores it without a word."""
    wanted = [part.strip() for part in str(body.get("worker_ip") or "").split(",") if part.strip()]
    hosts = {address.rpartition(":")[0] or address for address in workers}
    strange = [part for part in wanted if part not in workers and part not in hosts]
    if not strange or len(workers) != 1:  # a cluster refuses a worker that it does not have
        return ""
    return (
        f"model {body['model_uid']}: worker_ip {', '.join(strange)} is not {workers[0]}, the only worker of this server; "
        "a server in local mode ignores worker_ip and runs the model itself"
    )


def priority_of(body: dict[str, t.Any]) -> int:
    """LLMs come first where models share a GPU: they take what they find, the others fit beside them."""
    return 100 if body.get("model_type") == "LLM" else 200


__all__ = [
    "LAUNCH_KEYS",
    "MODEL_TYPES",
    "is_secret",
    "launch_body",
    "name_of",
    "needs_version",
    "option_warnings",
    "placement_warning",
    "priority_of",
    "problem_on",
    "problem_with",
    "problem_with_uid",
    "type_of",
    "without_secrets",
]
