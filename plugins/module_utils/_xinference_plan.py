# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Decide what a declared set of models needs, and why: (wanted, found, remembered) -> one action per model.

Nothing here speaks to a server or to Ansible. Check mode is this plan without the doing.
"""

from __future__ import annotations

import difflib
import json
import re
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference import ABSENT, FAILED, LOADING, READY

MODEL_TYPES = ("LLM", "embedding", "rerank", "image", "audio", "video", "flexible")

# What happens to one uid.
KEEP = "keep"  # runs as declared
LAUNCH = "launch"
REPLACE = "replace"  # end it, launch it as declared
SCALE = "scale"  # only the number of replicas differs, and the server changes that in place
WAIT = "wait"  # somebody's launch of it is under way
REMOVE = "remove"
REFUSE = "refuse"  # the declaration is wrong; nothing is sent to the server
LEAVE = "leave"  # differs, but replace=never

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
    "envs": "envs",
}
# The keys of a launch request that /v1/models shows again (section 5 of the recorded contract).
VISIBLE = ("model_type", "model_name", "model_engine", "model_format", "quantization", "model_size_in_billions", "replica")
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
MASKED = "******"


class Step(t.NamedTuple):
    """What one model needs.

    ``drift``: (field, wanted, found) of what differs. ``body``: the launch request. ``registration``: ``None``,
    ``create`` or ``replace``. ``autostart``: ``None``, ``set`` or ``unset``.
    """

    uid: str
    action: str
    reason: str
    state: str
    body: t.Dict[str, t.Any]
    drift: t.List[t.Tuple[str, t.Any, t.Any]]
    registration: t.Optional[str]
    autostart: t.Optional[str]
    spec: t.Optional[t.Dict[str, t.Any]]
    warnings: t.List[str]

    @property
    def changed(self) -> bool:
        return self.action in (LAUNCH, REPLACE, SCALE, REMOVE) or bool(self.registration or self.autostart)


class Found(t.NamedTuple):
    """What is on the server. ``autostart`` is ``None`` where it has no such thing (before 2.12).

    ``states``: uid -> state, for every uid that is running or was asked about. ``registrations``: (type, name) ->
    specification or ``None``, for the models that declare one. ``kept``: the uids of the state file -> whether the keeper
    brings them back; it takes the place of autostart entries where the server has none (``None``: nobody looked).
    """

    states: t.Dict[str, str]
    records: t.Dict[str, t.Dict[str, t.Any]]
    failures: t.Dict[str, str]
    registrations: t.Dict[t.Tuple[str, str], t.Optional[t.Dict[str, t.Any]]]
    autostart: t.Optional[t.Dict[str, t.Dict[str, t.Any]]]
    can_scale: bool
    kept: t.Optional[t.Dict[str, bool]] = None


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


def _canonical(key: str, value: t.Any) -> str:
    text = str(value)
    if key == "model_engine":
        return text.lower()  # the server echoes the caller's spelling
    if key == "model_size_in_billions":
        return re.sub(r"_0$", "", text.replace(".", "_"))  # 0.5, "0_5"; 7, 7.0, "7"
    return text


def is_secret(key: str) -> bool:
    return bool(re.search(r"token|secret|passw|api_?key|credential|^envs$", key, re.IGNORECASE))


def visible_drift(body: dict[str, t.Any], record: dict[str, t.Any]) -> list[tuple[str, t.Any, t.Any]]:
    """What differs between a launch request and what the server shows; what either does not say is not compared."""
    drift = []
    for key in VISIBLE:
        if body.get(key) is None or record.get(key) is None:
            continue
        if _canonical(key, body[key]) != _canonical(key, record[key]):
            drift.append((key, body[key], record[key]))
    shown = record.get("accelerators")
    if body.get("gpu_idx") and shown and set(map(str, body["gpu_idx"])) != set(map(str, shown)):
        drift.append(("gpu_idx", body["gpu_idx"], shown))
    return drift


def hidden_drift(body: dict[str, t.Any], remembered: dict[str, t.Any] | None) -> list[tuple[str, t.Any, t.Any]]:
    """What differs from the launch that we remember, in what the server never shows. Nothing remembered: nothing known."""
    if remembered is None:
        return []
    keys = (set(body) | set(remembered)) - set(VISIBLE) - {"model_uid"}
    return [(key, body.get(key), remembered.get(key)) for key in sorted(keys) if _plain(body.get(key)) != _plain(remembered.get(key))]


def _plain(value: t.Any) -> str:
    return json.dumps(value, sort_keys=True)


def contains(found: t.Any, wanted: t.Any) -> bool:
    """Whether everything that is wanted is in what was found; what the server filled in by itself is ignored."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(contains(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(contains, found, wanted))
    return found == wanted or _canonical("", found) == _canonical("", wanted)


def same_launch(found: t.Any, wanted: t.Any) -> bool:
    """Like ``==``, where the server masks secrets of an autostart entry, and leaves out what is null."""
    if found == MASKED:
        return wanted is not None
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(same_launch(found.get(key), wanted.get(key)) for key in set(found) | set(wanted))
    return _plain(found) == _plain(wanted)


def option_warnings(uid: str, options: dict[str, t.Any]) -> list[str]:
    """Engine arguments that look like a misspelt one: from 2.x on the server takes any name without a word."""
    known = sorted(ENGINE_KEYS.union(LAUNCH_KEYS))
    warnings = []
    for key in sorted(options):
        near = difflib.get_close_matches(key, known, 1, 0.8)
        if key not in known and near:
            warnings.append(f"model {uid}: options.{key} is passed to the engine as it is; did you mean {near[0]}?")
    return warnings


def is_queued(uid: str, entries: dict[str, dict[str, t.Any]]) -> bool:
    """Whether the server itself is about to launch an absent model.

    After a restart it works through the autostart entries one after the other, by priority; those that have not had
    their turn are absent and have no state yet. An entry that was ``active`` or is in ``error`` is nobody's business.
    """

    def status_of(entry: dict[str, t.Any]) -> t.Any:
        return (entry.get("state") or {}).get("status")

    if uid not in entries:
        return False
    status = status_of(entries[uid])
    if status is None:
        return any(status_of(entry) in ("launching", "waiting_model", "waiting_worker") for entry in entries.values())
    return status in ("launching", "waiting_model", "waiting_worker")


def priority_of(body: dict[str, t.Any]) -> int:
    """LLMs come first where models share a GPU: they take what they find, the others fit beside them."""
    return 100 if body.get("model_type") == "LLM" else 200


def plan(
    wanted: list[dict[str, t.Any]],
    found: Found,
    remembered: dict[str, dict[str, t.Any]],
    replace: str = "when_changed",
    prune: str = "none",
    autostart: bool = True,
) -> list[Step]:
    """One step per declared model, in the order of the declaration, then one per model to prune.

    :param remembered: uid -> launch request of what we launched.
    :param replace: ``when_changed`` or ``never``.
    :param prune: ``none``, ``ours`` (what we launched and is not declared any more) or ``all``.
    :param autostart: whether declared models come back by themselves where the server can do that.
    """
    steps: list[Step] = []
    seen: set[str] = set()
    for model in wanted:
        uid = model.get("uid") if isinstance(model.get("uid"), str) else ""
        problem = problem_with(model) or (f"the uid {uid!r} is declared twice" if uid in seen else "")
        seen.add(str(uid))
        if problem:
            steps.append(Step(str(uid), REFUSE, problem, FAILED, {}, [], None, None, None, []))
        elif model.get("state") == "absent":
            steps.append(_absent(str(uid), found, remembered, "declared absent"))
        else:
            steps.append(_present(model, found, remembered.get(str(uid)), replace, autostart))
    if prune != "none":
        ours = set(remembered) if prune == "ours" else set(remembered) | set(found.states)
        for uid in sorted(ours - seen):
            step = _absent(uid, found, remembered, "not declared any more")
            if step.changed or uid in remembered:
                steps.append(step)
    return steps


def _absent(uid: str, found: Found, remembered: dict[str, dict[str, t.Any]], why: str) -> Step:
    state = found.states.get(uid, ABSENT)
    # A model that is ended comes back at the next restart while its autostart entry stays.
    unset = "unset" if comes_back(uid, found) else None
    if state in (READY, LOADING):
        return Step(uid, REMOVE, why, state, remembered.get(uid, {}), [], None, unset, None, [])
    return Step(uid, KEEP, "not running" + ("; its autostart entry is removed" if unset else ""), ABSENT, {}, [], None, unset, None, [])


def _present(model: dict[str, t.Any], found: Found, remembered: dict[str, t.Any] | None, replace: str, autostart: bool) -> Step:
    uid = model["uid"]
    body = launch_body(model)
    state = found.states.get(uid, ABSENT)
    record = found.records.get(uid, {})
    warnings = option_warnings(uid, model.get("options") or {})
    registration = _registration(model, found)
    drift: list[tuple[str, t.Any, t.Any]] = []
    action, reason = LAUNCH, "not running"
    if state == LOADING:
        action, reason = WAIT, "a launch of it is under way"
    elif state == READY:
        drift = visible_drift(body, record) + hidden_drift(body, remembered)
        names = [name for name, _wanted, _found in drift]
        action, reason = KEEP, "runs as declared"
        if registration == "replace":
            action, reason = REPLACE, "its registration differs"
        elif names == ["replica"] and found.can_scale:
            action, reason = SCALE, f"{record.get('replica')} replicas instead of {body.get('replica')}"
        elif names:
            action, reason = REPLACE, "differs in " + ", ".join(names)
        if action == REPLACE and replace == "never":
            action, registration = LEAVE, None
            reason += "; left as it is, because replace is never"
            warnings.append(f"model {uid}: {reason}")
    elif found.failures.get(uid):
        reason = "not running; its last launch failed: " + found.failures[uid]
    return Step(uid, action, reason, state, body, drift, registration, _autostart(uid, body, found, autostart, action), model.get("register"), warnings)


def comes_back(uid: str, found: Found) -> bool:
    """Whether a model is launched again after a restart: by the server, or else by the keeper."""
    return uid in found.autostart if found.autostart is not None else (found.kept or {}).get(uid, False)


def _registration(model: dict[str, t.Any], found: Found) -> str | None:
    spec = model.get("register")
    if not spec:
        return None
    there = found.registrations.get((str(type_of(model.get("type") or "LLM")), name_of(model)))
    if there is None:
        return "create"
    return None if contains(there, spec) else "replace"


def _autostart(uid: str, body: dict[str, t.Any], found: Found, wanted: bool, action: str) -> str | None:
    if found.autostart is None:
        if found.kept is None or action in (LAUNCH, REPLACE, LEAVE):  # a launch is remembered as it is made
            return None
        return None if comes_back(uid, found) == wanted else "set" if wanted else "unset"
    entry = found.autostart.get(uid)
    if not wanted:
        return "unset" if entry else None
    if action == LEAVE:
        return None  # what runs is not what is declared: after a restart it should still be what runs
    same = entry is not None and same_launch(entry.get("launch"), body) and entry.get("priority") == priority_of(body)
    if action == REPLACE:
        return "set"  # the old entry goes before the old model does, or the server might launch that again in between
    masked = any(is_secret(key) for key in body)  # a rotated secret looks the same; what is launched anew is written anew
    return None if same and not (masked and action == LAUNCH) else "set"


def lanes(steps: list[Step]) -> list[list[Step]]:
    """Steps that may go at once, as lists that may not: two launches never meet on the same pinned GPU; LLMs go first."""
    result: list[tuple[set[int], list[Step]]] = []
    for step in sorted(steps, key=lambda entry: priority_of(entry.body)):
        gpus = set(step.body.get("gpu_idx") or [])
        meeting = [lane for lane in result if gpus & lane[0]]
        merged: tuple[set[int], list[Step]] = (set(gpus), [])
        for lane in meeting:
            merged[0].update(lane[0])
            merged[1].extend(lane[1])
            result.remove(lane)
        merged[1].append(step)
        result.append(merged)
    return [lane for _gpus, lane in result]


__all__ = ["Found", "Step", "contains", "is_queued", "is_secret", "lanes", "launch_body", "plan", "problem_with", "problem_with_uid", "type_of"]
