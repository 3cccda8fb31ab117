# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _xinference_drift as drifting
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _xinference_model as modelling
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _xinference_plan as planning
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference import ABSENT, FAILED, LOADING, READY

CHAT = {"uid": "chat", "type": "LLM", "name": "qwen2.5-instruct", "engine": "vllm", "size": "7", "quantization": "Int4"}
EMBED = {"uid": "embed", "type": "embedding", "name": "bge-m3"}
SHOWN = {
    "model_type": "LLM",
    "model_name": "qwen2.5-instruct",
    "model_engine": "vLLM",
    "model_size_in_billions": 7,
    "quantization": "Int4",
    "replica": 1,
    "accelerators": ["0"],
}


def found(records: dict[str, Any] | None = None, states: dict[str, str] | None = None, **values: Any) -> planning.Found:
    records = records or {}
    everything: dict[str, Any] = {"failures": {}, "registrations": {}, "autostart": None, "can_scale": True}
    everything.update(values)
    return planning.Found(states=dict(dict.fromkeys(records, READY), **(states or {})), records=records, **everything)


def one(model: dict[str, Any], on: planning.Found, remembered: dict[str, Any] | None = None, **options: Any) -> planning.Step:
    return planning.plan([model], on, remembered or {}, **options)[0]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (dict(CHAT, uid="a/b"), "slash"),
        (dict(CHAT, uid="chat-2"), "replica"),
        (dict(CHAT, uid="chat-rep0"), "replica"),
        (dict(CHAT, uid="x" * 101), "100 characters"),
        (dict(CHAT, uid="my chat"), "spaces"),
        (dict(CHAT, uid=""), "another copy"),
        (dict(CHAT, engine=None), "engine is missing"),
        (dict(CHAT, name=None), "name is missing"),
        (dict(CHAT, type="chat"), "LLM, embedding, rerank"),
        (dict(CHAT, n_gpu="0"), "auto, or cpu"),
        (dict(CHAT, n_gpu="many"), "auto, or cpu"),
        (dict(CHAT, replica=0), "at least 1"),
        (dict(CHAT, replica=2, gpus=[0, 1, 2]), "multiple"),
        (dict(CHAT, gpus=[0], n_gpu="cpu"), "exclude each other"),
        (dict(CHAT, options={"model_engine": "vllm"}), "an option of its own"),
        (dict(CHAT, register={"model_name": "other"}), "register.model_name"),
    ],
)
def test_wrong_declarations_are_refused_and_others_go_on(model: dict[str, Any], words: str) -> None:
    refused, other = planning.plan([model, EMBED], found(), {})
    assert (refused.action, refused.state, refused.changed) == (planning.REFUSE, FAILED, False)
    assert words in refused.reason
    assert other.action == planning.LAUNCH


def test_good_uids() -> None:
    for uid in ("chat", "qwen2.5", "bge-m3", "llama-3.1-8b", "rep1", "chat-rep", "模型"):
        assert modelling.problem_with_uid(uid) == ""


def test_declared_twice() -> None:
    steps = planning.plan([EMBED, EMBED], found(), {})
    assert [step.action for step in steps] == [planning.LAUNCH, planning.REFUSE]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (dict(EMBED, n_gpu="cpu"), {"n_gpu": None}),
        (dict(EMBED, n_gpu="auto"), {"n_gpu": "auto"}),
        (dict(EMBED, n_gpu="2"), {"n_gpu": 2}),
        (dict(EMBED, gpus=[0, 1]), {"gpu_idx": [0, 1], "n_gpu": 2}),
        (dict(EMBED, gpus=[0, 1], replica=2), {"gpu_idx": [0, 1], "n_gpu": 1, "replica": 2}),
        (dict(EMBED, options={"max_model_len": 5}), {"max_model_len": 5}),
        (EMBED, {}),
    ],
)
def test_launch_body(model: dict[str, Any], expected: dict[str, Any]) -> None:
    fixed = {"model_uid": "embed", "model_name": "bge-m3", "model_type": "embedding"}
    assert planning.launch_body(model) == dict(fixed, **expected)


def test_type_is_sent_as_the_server_spells_it() -> None:
    assert planning.launch_body(dict(CHAT, type="llm"))["model_type"] == "LLM"


def test_running_as_declared() -> None:
    step = one(dict(CHAT, gpus=[0], replica=1), found({"chat": SHOWN}))
    assert (step.action, step.changed, step.drift) == (planning.KEEP, False, [])


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"quantization": "none"}, ["quantization"]),
        ({"name": "qwen3"}, ["model_name"]),
        ({"engine": "sglang", "size": "14"}, ["model_engine", "model_size_in_billions"]),
        ({"gpus": [1]}, ["gpu_idx"]),
    ],
)
def test_visible_change_replaces(change: dict[str, Any], fields: list[str]) -> None:
    on = found({"chat": SHOWN})
    step = one(dict(CHAT, **change), on)
    assert (step.action, sorted(name for name, _wanted, _found in step.drift)) == (planning.REPLACE, fields)
    left = one(dict(CHAT, **change), on, replace="never")
    assert (left.action, left.changed) == (planning.LEAVE, False)
    assert "replace is never" in left.warnings[0]


@pytest.mark.parametrize(("declared", "shown"), [("0_5", "0.5"), ("0.5", "0_5"), ("7", 7), ("7.0", 7), ("7", 7.0), ("0_1", "0_1")])
def test_sizes_have_many_spellings(declared: str, shown: Any) -> None:
    assert planning.visible_drift({"model_size_in_billions": declared}, {"model_size_in_billions": shown}) == []


def test_sizes_that_differ() -> None:
    assert planning.visible_drift({"model_size_in_billions": "1_5"}, {"model_size_in_billions": "0_5"})
    assert planning.visible_drift({"model_size_in_billions": "70"}, {"model_size_in_billions": 7})


def test_hidden_change_is_seen_only_against_our_own_launch() -> None:
    model = dict(CHAT, options={"max_model_len": 8192})
    on = found({"chat": SHOWN})
    assert one(model, on).action == planning.KEEP  # somebody else's: nothing is known
    same = planning.launch_body(model)
    assert one(model, on, {"chat": same}).action == planning.KEEP
    step = one(model, on, {"chat": planning.launch_body(CHAT)})
    assert (step.action, step.drift) == (planning.REPLACE, [("max_model_len", 8192, None)])


def test_replicas_change_in_place_where_the_server_can() -> None:
    model = dict(CHAT, replica=2)
    assert one(model, found({"chat": SHOWN})).action == planning.SCALE
    assert one(model, found({"chat": SHOWN}, can_scale=False)).action == planning.REPLACE
    assert one(dict(model, quantization="none"), found({"chat": SHOWN})).action == planning.REPLACE


def test_someone_elses_launch_is_waited_for() -> None:
    step = one(CHAT, found(states={"chat": LOADING}))
    assert (step.action, step.changed) == (planning.WAIT, False)


def test_last_failure_is_told() -> None:
    step = one(CHAT, found(states={"chat": ABSENT}, failures={"chat": "no slot"}))
    assert step.action == planning.LAUNCH
    assert "no slot" in step.reason


def test_absent() -> None:
    gone = {"uid": "chat", "state": "absent"}
    assert one(gone, found({"chat": SHOWN})).action == planning.REMOVE
    assert one(gone, found(states={"chat": LOADING})).action == planning.REMOVE
    assert not one(gone, found()).changed
    # It would come back at the next restart.
    step = one(gone, found(autostart={"chat": {"launch": {}}}))
    assert (step.changed, step.autostart) == (True, "unset")


def test_prune() -> None:
    on = found({"chat": SHOWN, "ours": SHOWN, "theirs": SHOWN})
    remembered = {"ours": {"model_uid": "ours"}, "long-gone": {"model_uid": "long-gone"}}

    def pruned(prune: str) -> dict[str, str]:
        return {step.uid: step.action for step in planning.plan([CHAT], on, remembered, prune=prune)[1:]}

    assert pruned("none") == {}
    assert pruned("ours") == {"ours": planning.REMOVE, "long-gone": planning.KEEP}
    assert pruned("all") == {"ours": planning.REMOVE, "long-gone": planning.KEEP, "theirs": planning.REMOVE}


def test_a_refused_uid_is_not_pruned() -> None:
    steps = planning.plan([dict(CHAT, engine=None)], found({"chat": SHOWN}), {"chat": {}}, prune="ours")
    assert [step.action for step in steps] == [planning.REFUSE]


def test_registrations() -> None:
    spec = {"model_name": "own", "dimensions": 32}
    model = {"uid": "own", "type": "embedding", "register": spec}
    key = ("embedding", "own")
    running = {"own": {"model_type": "embedding", "model_name": "own"}}
    assert one(model, found(registrations={key: None})).registration == "create"
    assert one(model, found(running, registrations={key: dict(spec, model_ability=[])})).registration is None
    step = one(model, found(running, registrations={key: dict(spec, dimensions=64)}))
    assert (step.action, step.registration) == (planning.REPLACE, "replace")
    left = one(model, found(running, registrations={key: dict(spec, dimensions=64)}), replace="never")
    assert (left.action, left.registration, left.changed) == (planning.LEAVE, None, False)


def test_autostart_entries_follow() -> None:
    body = planning.launch_body(CHAT)
    in_step = {"chat": {"launch": body, "priority": 100}}
    assert one(CHAT, found({"chat": SHOWN}, autostart={})).autostart == "set"
    assert one(CHAT, found({"chat": SHOWN}, autostart=in_step)).autostart is None
    assert one(CHAT, found({"chat": SHOWN}, autostart={"chat": {"launch": dict(body, model_size="8"), "priority": 100}})).autostart == "set"
    assert one(CHAT, found({"chat": SHOWN}, autostart=in_step), autostart=False).autostart == "unset"
    assert one(CHAT, found({"chat": SHOWN})).autostart is None  # a server that has none of this
    # A masked secret may have been rotated: what is launched anew is written anew.
    secret = dict(CHAT, envs={"HF_TOKEN": "new"})
    masked = {"chat": {"launch": dict(planning.launch_body(secret), envs={"HF_TOKEN": "******"}), "priority": 100}}
    assert one(secret, found({"chat": SHOWN}, autostart=masked)).autostart is None
    assert one(secret, found(autostart=masked)).autostart == "set"


def test_misspelt_engine_argument() -> None:
    assert "max_model_len" in one(dict(CHAT, options={"max_model_lenght": 1}), found()).warnings[0]
    assert one(dict(CHAT, options={"max_model_len": 1, "my_own_thing": 2}), found()).warnings == []


def test_two_models_never_start_on_one_pinned_gpu() -> None:
    models = [
        dict(EMBED, gpus=[0]),
        dict(CHAT, gpus=[0, 1]),
        dict(EMBED, uid="second", gpus=[2]),
        dict(EMBED, uid="third", gpus=[1]),
        dict(EMBED, uid="anywhere"),
        dict(EMBED, uid="anywhere-too"),
    ]
    steps = planning.plan(models, found(), {})

    def waits(**options: Any) -> dict[str, set[str]]:
        return {step.uid: {steps[number].uid for number in numbers} for step, numbers in zip(steps, planning.before(steps, **options))}

    assert waits() == {
        "chat": set(),
        "embed": {"chat"},  # the LLM first, on the GPU that both are pinned to
        "third": {"chat"},
        "second": set(),
        "anywhere": {"chat"},  # may land there
        "anywhere-too": {"chat"},  # beside "anywhere", not after it
    }
    assert not any(waits(gpus=0).values())
    assert not any(waits(together=True).values())


def test_what_runs_elsewhere_does_not_wait() -> None:
    models = [dict(CHAT, gpus=[0], worker_ip="10.0.0.1:1"), dict(EMBED, gpus=[0], worker_ip="10.0.0.2:1"), dict(EMBED, uid="slow", n_gpu="cpu")]
    assert not any(planning.before(planning.plan(models, found(), {})))
    assert planning.before(planning.plan([CHAT, dict(CHAT, uid="other")], found(), {})) == [set(), set()]  # the server places both


def test_what_the_server_dropped_is_no_difference() -> None:
    assert drifting.contains({"model_name": "x", "dimensions": 8}, {"model_name": "x", "chat_template": "{{ x }}"})
    assert not drifting.contains({"model_name": "x", "dimensions": 8}, {"dimensions": 9})
    assert not drifting.contains(None, {"model_name": "x"})


def test_replica_config_is_refused() -> None:
    assert "no longer add replicas" in one(dict(CHAT, options={"replica_config": {}}), found()).reason


def test_lora_with_a_misspelt_key() -> None:
    assert "did you mean lora_list" in one(dict(CHAT, peft_model_config={"lora_lists": []}), found()).warnings[0]
    assert "it knows lora_list" in one(dict(CHAT, peft_model_config={"adapters": []}), found()).warnings[0]
    assert one(dict(CHAT, peft_model_config={"lora_list": []}), found()).warnings == []


def test_worker_of_a_server_in_local_mode() -> None:
    body = {"model_uid": "chat", "worker_ip": "10.0.0.9:1"}
    assert "local mode ignores worker_ip" in modelling.placement_warning(body, ["127.0.0.1:31422"])
    assert modelling.placement_warning(body, ["10.0.0.9:1"]) == ""
    assert modelling.placement_warning(dict(body, worker_ip="10.0.0.9"), ["10.0.0.9:1"]) == ""
    assert modelling.placement_warning(body, ["10.0.0.1:1", "10.0.0.2:1"]) == ""  # a cluster says itself that it has no such worker


def test_gpus_of_one_replica_are_no_difference() -> None:
    body = {"gpu_idx": [0, 1], "replica": 2}
    assert drifting.visible_drift(body, {"accelerators": ["1"]}) == []
    assert drifting.visible_drift(body, {"accelerators": ["2"]})
    assert drifting.visible_drift(dict(body, replica=1), {"accelerators": ["1"]})


def test_secrets_inside_of_options_are_hidden() -> None:
    body = {"model_uid": "x", "envs": {"A": "1"}, "hf_token": "t", "nested": {"api_key": "k", "size": 5}, "list": [{"password": "p"}]}
    shown = modelling.without_secrets(body)
    assert shown == {
        "model_uid": "x", "envs": {"A": "(hidden)"}, "hf_token": "(hidden)", "nested": {"api_key": "(hidden)", "size": 5}, "list": [{"password": "(hidden)"}]
    }  # fmt: skip


def test_the_keeper_stands_in_for_autostart_entries() -> None:
    there = found({"chat": SHOWN})
    assert one(CHAT, there._replace(kept={})).autostart == "set"  # somebody else's launch, now ours to bring back
    assert one(CHAT, there._replace(kept={"chat": True})).autostart is None
    assert one(CHAT, there._replace(kept={"chat": True}), autostart=False).autostart == "unset"
    assert one(CHAT, there._replace(kept={"chat": False}), autostart=False).autostart is None
    assert one(dict(CHAT, state="absent"), found()._replace(kept={"chat": True})).autostart == "unset"
    assert one(CHAT, found()._replace(kept={})).autostart is None  # a launch is remembered as it is made


def test_queued_for_autostart() -> None:
    def entries(**states: Any) -> dict[str, Any]:
        return {uid: {"state": {"status": status} if status else {}} for uid, status in states.items()}

    assert planning.is_queued("b", entries(a="launching", b=None))  # the server is at another one
    assert planning.is_queued("b", entries(b="waiting_worker"))
    assert not planning.is_queued("b", entries(a="active", b=None))  # nobody is at work: launch it
    assert not planning.is_queued("b", entries(a="launching", b="error"))
    assert not planning.is_queued("b", entries(a="launching", b="active"))  # it was ended since
    assert not planning.is_queued("b", entries(a="launching"))


def test_turn_that_comes_although_the_entry_goes() -> None:
    def entries(**states: str | None) -> dict[str, Any]:
        return {uid: {"state": {"status": status} if status else {}} for uid, status in states.items()}

    assert planning.turn_to_come("a", entries(a="launching"))
    assert planning.turn_to_come("b", entries(a="launching", b=None))
    # As a 4.1.0 shows it after a start: what it has not come to still says that it waits for the first worker.
    assert planning.turn_to_come("b", entries(a="launching", b="waiting_worker"))
    assert not planning.turn_to_come("b", entries(a="active", b="waiting_worker"))
    assert not planning.turn_to_come("b", entries(a="launching", b="active"))
    assert not planning.turn_to_come("b", entries(a="launching"))


def test_what_placement_refused_gets_its_words_and_nothing_else() -> None:
    found = planning.Found({}, {}, {}, {}, {}, True)
    (refused, other) = planning.plan([dict(CHAT, refused="it fits on no GPU"), EMBED], found, {}, "when_changed", "none", True)
    assert (refused.action, refused.reason, refused.changed) == (planning.REFUSE, "it fits on no GPU", False)
    assert other.action == planning.LAUNCH
