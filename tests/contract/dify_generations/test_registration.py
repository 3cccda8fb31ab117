# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Set-up, plugin, models and defaults, drift, pruning, two controllers: what should happen."""

from __future__ import annotations

import contextlib
import pathlib
import stat
import threading
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify import DifyClient, DifyError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_memory import FileMemory
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_models import Registrar
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_plan import XINFERENCE_DEFAULTS, WantedModel
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_versions import capabilities
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import JsonClient, open_url_transport

from tests.contract.dify_client_stack import run_module
from tests.contract.dify_generations.world import (
    DEFAULTS,
    KEY,
    MODELS,
    OTHER_KEY,
    OTHER_KEY_SAME_MASK,
    PROVIDER,
    VERDICTS,
    Dify,
    actions,
    note,
    reasons,
    repaired_in_one_run,
    signed_in,
)
from tests.fleet.standins.dify import build
from tests.fleet.standins.dify.lab import Lab


def test_fresh_instance_to_registered_models(dify_lab: Callable[..., Lab], version: str, tmp_path: pathlib.Path) -> None:
    """Set-up, plugin, models; each checked, done, and done again."""
    lab = dify_lab(version, setup=False, init_password="InitPassword123")
    able = capabilities(version)
    setup = {"url": lab.url, "email": lab.email, "password": lab.password, "init_password": "InitPassword123", "expected_version": version, "wait_timeout": 5}
    if able.admin_key:
        setup["admin_key"] = lab.admin_key
    assert run_module("dify_setup", True, **setup).result["changed"]
    done = run_module("dify_setup", **setup)
    assert (done.failed, done.result["changed"], done.result["step"]) == (False, True, "finished"), done.text
    with lab.counted() as requests:
        again = run_module("dify_setup", **setup)
    assert (again.failed, again.result["changed"]) == (False, False), again.text
    note(version, "set-up, second run: requests", str(len(requests)))
    named = {**setup, "workspace_name": "Team of the lab", "language": "zh-Hans"}
    assert [run_module("dify_setup", check, **named).result["changed"] for check in (True, False, False)] == [True, True, False]
    assert not any(secret in outcome.text for outcome in (done, again) for secret in (lab.password, "InitPassword123", lab.admin_key))

    dify = Dify(lab, version, tmp_path)
    plugin = {"id": "langgenius/xinference", "version": "0.0.15", "source": "package", "provider": PROVIDER}
    packages = {}
    for number in ("0.0.14", "0.0.15"):
        packages[number] = tmp_path / f"xinference-{number}.difypkg"
        packages[number].write_bytes(build.plugin_package(number))
    if not able.plugins:
        outcome = dify("dify_plugin", **plugin, package=str(packages["0.0.15"]))
        assert (outcome.failed, outcome.result["changed"], outcome.result["built_in"]) == (False, False, True), outcome.text
        missing = dify("dify_plugin", id="langgenius/nowhere", source="marketplace")
        assert missing.failed
        assert "has no plugins" in missing.result["msg"]
        note(version, "plugin", "built in")
    else:
        package = str(packages["0.0.15"])
        assert dify("dify_plugin", True, **plugin, package=package).result["action"] == "install"
        steps = [("0.0.15", "install"), ("0.0.15", "none"), ("0.0.14", "upgrade"), ("0.0.14", "none"), ("0.0.15", "upgrade")]
        for number, action in steps:
            outcome = dify("dify_plugin", **{**plugin, "version": number}, package=str(packages[number]))
            assert not outcome.failed, outcome.text
            assert (outcome.result["action"], outcome.result["version"]) == (action, number)
            assert outcome.result["changed"] == (action != "none")
        where = {"category": "plugin/auto-upgrade/fetch?category=model", "preferences": "plugin/preferences/fetch"}[able.auto_upgrade]
        assert lab.console.call("GET", where)["auto_upgrade"]["exclude_plugins"] == ["langgenius/xinference"]
        note(version, "plugin", "install, upgrade, downgrade, pinned")

    predicted = dify.models(True)
    assert not predicted.failed, predicted.text
    assert set(actions(predicted).values()) == {"create"}
    first = dify.models()
    assert not first.failed, first.text
    assert actions(first) == dict.fromkeys(dify.uids, "create") == actions(predicted)
    assert first.result["diff"] == predicted.result["diff"]
    with lab.counted() as requests:
        second = dify.models()
    assert (second.failed, second.result["changed"], second.result["diff"]) == (False, False, {"before": {}, "after": {}}), second.text
    assert second.result["requests"] == len(requests)
    # The list, each model, each default; a login would be two more (the version, then the login), so its session is kept.
    assert len(requests) <= 4 + len(dify.uids), requests
    note(version, "first run", f"{len(dify.uids)} created, {first.result['requests']} requests")
    note(version, "second run", f"changed=0, {len(requests)} requests ({len(dify.uids)} models, {len(DEFAULTS)} defaults)")
    # What has one more default costs one request more: Dify tells a default for one type at a time.
    everything = {MODELS[uid]: uid for uid in dify.uids}
    assert not dify.models(default_models=everything).failed
    with lab.counted() as requests:
        full = dify.models(default_models=everything)
    assert (full.failed, full.result["changed"]) == (False, False), full.text
    assert len(requests) == 1 + len(dify.uids) + len(everything), requests
    note(version, "second run, a default of every type", f"changed=0, {len(requests)} requests ({len(dify.uids)} models, {len(everything)} defaults)")
    note(version, "signed in by", "admin key" if able.admin_key else "login, once; then its session")


def test_drift_is_found_and_repaired(ready: Dify) -> None:
    console = ready.lab.console
    console.change_model("qwen3-chat", "llm", model_uid="sec-chat")
    repaired_in_one_run(ready, "field changed in the UI", {"qwen3-chat": "update"})

    console.delete_model("qwen3-chat", "llm")
    # From 1.8 on the credential of a deleted model stays behind, and is attached again.
    repaired_in_one_run(ready, "model deleted in the UI", {"qwen3-chat": "attach" if ready.able.credential_records else "create"})

    console.disable_model("qwen3-chat", "llm")
    repaired_in_one_run(ready, "model disabled in the UI", {"qwen3-chat": "enable"})

    if ready.able.credential_records:
        console.detach_credential("qwen3-chat", "llm")
        repaired_in_one_run(ready, "credential detached in the UI", {"qwen3-chat": "create"})
    else:
        note(ready.version, "credential detached in the UI", "no such thing")

    console.add_model("sec-chat", "llm", **({"api_key": KEY} if ready.keyed else {}))
    console.set_default("llm", "sec-chat")
    assert ready.models(True).result["diff"]["before"] == {"default/llm": "sec-chat"}
    repaired_in_one_run(ready, "default changed in the UI", {})


def test_six_drifts_at_once_are_found_and_repaired_in_one_run(ready: Dify) -> None:
    """Each of another model, and a new key for all of them."""
    console = ready.lab.console
    key = {"api_key": KEY} if ready.keyed else {}
    console.add_model("sec-chat", "llm", **key)
    console.set_default("llm", "sec-chat")
    console.change_model("qwen3-chat", "llm", model_uid="sec-chat")
    console.delete_model("bge-reranker", "rerank")
    console.disable_model("whisper", "speech2text")
    expected = {"qwen3-chat": "update", "bge-reranker": "attach" if ready.able.credential_records else "create", "whisper": "enable"}
    if ready.able.credential_records:
        console.detach_credential("cosyvoice", "tts")
        expected["cosyvoice"] = "create"
    if ready.keyed:
        ready.key = OTHER_KEY
        ready.lab.xinference.keys = {OTHER_KEY}
        expected = {uid: "update" for uid in ready.uids} | {uid: action for uid, action in expected.items() if action != "enable"}
    repaired_in_one_run(ready, "all of these at once, and a new key: one run", expected)
    assert ready.lab.console.default("llm") == "qwen3-chat"
    assert set(ready.lab.console.models().values()) == {"active"}


def test_model_that_an_administrator_made_by_hand(dify: Dify) -> None:
    """It is brought to what is declared under the name its credential has, and it stays theirs: nothing is pruned but what was made here."""
    key = {"api_key": KEY} if dify.keyed else {}
    dify.lab.console.add_model("qwen3-chat", "llm", **key, **({"invoke_timeout": "7"} if dify.keyed else {}))
    dify.lab.console.add_model("sec-chat", "llm", **key)
    expected = {**dict.fromkeys(dify.uids, "create"), "qwen3-chat": "update"}
    if not dify.keyed:
        del expected["qwen3-chat"]  # its two fields are as declared
    repaired_in_one_run(dify, "model that an administrator made by hand", expected)
    if dify.able.credential_records:
        available = dify.lab.console.credentials("qwen3-chat", "llm")["available_credentials"]
        assert [item["credential_name"] for item in available] == ["API KEY 1"]
    rest = [uid for uid in dify.uids if uid != "qwen3-chat"]
    pruned = dify.models(models=dify.wanted(*rest), default_models={}, prune=True)
    assert (pruned.failed, actions(pruned)) == (False, {}), pruned.text
    assert {("qwen3-chat", "llm"), ("sec-chat", "llm")} <= set(dify.lab.console.models())
    note(dify.version, "model that an administrator made by hand", "brought in line, never pruned")


def test_replaced_key(ready: Dify) -> None:
    for behaviour, key in (("key replaced", OTHER_KEY), ("key replaced by one with the same mask", OTHER_KEY_SAME_MASK)):
        if not ready.keyed:
            refused = ready.models(models=[{**ready.wanted("qwen3-chat")[0], "model": "keyed", "api_key": key}])
            assert "has no field api_key" in reasons(refused)["keyed"]
            VERDICTS["a key for a Dify whose provider has no field for one"] = reasons(refused)["keyed"]
            note(ready.version, behaviour, "refused: no field for keys")
            continue
        ready.key = key
        ready.lab.xinference.keys = {key}
        repaired_in_one_run(ready, behaviour, dict.fromkeys(ready.uids, "update"))


def test_prune_and_absent_leave_nothing(ready: Dify) -> None:
    ready.lab.console.add_model("sec-chat", "llm", **({"api_key": KEY} if ready.keyed else {}))
    left = ready.uids[:2]
    repaired_in_one_run(ready, "prune: ours only", dict.fromkeys(ready.uids[2:], "delete"), models=ready.wanted(*left), default_models={}, prune=True)
    gone = [{"model": "sec-chat", "model_type": "llm", "state": "absent"}]
    repaired_in_one_run(ready, "absent", {"sec-chat": "delete"}, models=[*ready.wanted(*left), *gone], default_models={}, prune=True)
    assert sorted(name for name, _kind in ready.lab.console.models()) == sorted(left)
    for uid in (*ready.uids[2:], "sec-chat"):
        found = ready.lab.console.credentials(uid, MODELS.get(uid, "llm"))
        assert not found["credentials"]
        assert not found.get("available_credentials")


def test_drift_is_told_without_touching(ready: Dify) -> None:
    arguments = {"gather": [], "models": ready.wanted(), "default_models": DEFAULTS, "state_file": str(ready.state_file)}
    assert ready("dify_info", **arguments).result["drift"] == []
    ready.lab.console.disable_model("qwen3-chat", "llm")
    ready.lab.console.delete_model("whisper", "speech2text")
    told = ready("dify_info", **arguments).result["drift"]
    again = "attach" if ready.able.credential_records else "create"
    assert [(item["name"], item["action"]) for item in told] == [("llm/qwen3-chat", "enable"), ("speech2text/whisper", again)]
    assert ready.lab.console.models()[("qwen3-chat", "llm")] == "disabled"
    info = ready("dify_info").result
    assert info["version"] == ready.version
    assert KEY not in str(info)
    note(ready.version, "drift report", "yes")


def test_cookies_behind_https_have_other_names_and_every_method_needs_its_token(
    dify_lab: Callable[..., Lab], version: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login that creates (POST), updates (PUT), enables (PATCH), and deletes, where cookies are called ``__Host-...``."""
    lab = dify_lab(version, console_web_url="https://dify.example.com", console_api_url="https://dify.example.com")
    dify = Dify(lab, version, tmp_path)
    who = {**signed_in(dify), "session_file": str(tmp_path / "kept.json")}
    assert not dify.models(**who).failed
    lab.console.change_model("qwen3-chat", "llm", model_uid="sec-chat")
    lab.console.disable_model("whisper", "speech2text")
    with lab.counted() as requests:
        done = dify.models(models=dify.wanted(*dify.uids[:-1]), default_models={}, prune=True, **who)
    assert not done.failed, done.text
    assert actions(done) == {"qwen3-chat": "update", **({"whisper": "enable"} if dify.keyed else {}), dify.uids[-1]: "delete"}
    methods = {line.split()[0] for line in requests}
    assert methods >= ({"GET", "PUT", "PATCH", "DELETE"} if dify.able.credential_records else {"GET", "POST", "DELETE"})
    if dify.able.login_tokens != "cookies":
        return
    assert "__Host-csrf_token" in (tmp_path / "kept.json").read_text()
    # And without the token, each of them is refused: what passed above was not let through.
    send = DifyClient._send

    def without(client: DifyClient, method: str, path: str, **more: Any) -> Any:
        headers = {name: value for name, value in (more.pop("headers", None) or {}).items() if name != "X-CSRF-Token"}
        return send(client, method, path, headers=headers, **more)

    monkeypatch.setattr(DifyClient, "_send", without)
    client = DifyClient(JsonClient(lab.url, open_url_transport()), email=lab.email, password=lab.password)
    calls = {"GET": "/models", "POST": "/models/credentials", "PUT": "/models/credentials", "PATCH": "/models/enable", "DELETE": "/models"}
    for method, path in calls.items():
        with pytest.raises(DifyError, match="CSRF token is missing or invalid"):
            client.workspace(method, client.provider_path(PROVIDER) + path, json=None if method == "GET" else {})


def test_several_workspaces_are_told_apart(ready: Dify) -> None:
    """The admin key works in the one that is named, and in the oldest one when none is."""
    if not ready.able.admin_key:
        return
    other = ready.lab.second_workspace("Research")
    connection = {"workspace_id": other, "state_file": str(ready.folder / "other.json")}
    if ready.able.plugins:
        package = ready.folder / "xinference.difypkg"
        package.write_bytes(build.plugin_package("0.0.15"))
        plugin = {"id": "langgenius/xinference", "version": "0.0.15", "source": "package", "package": str(package), "provider": PROVIDER}
        assert ready("dify_plugin", workspace_id=other, **plugin).result["action"] == "install"
    first = ready.models(models=ready.wanted("qwen3-chat"), default_models={"llm": "qwen3-chat"}, **connection)
    assert (first.failed, actions(first)) == (False, {"qwen3-chat": "create"}), first.text
    assert not ready.models(models=ready.wanted("qwen3-chat"), default_models={"llm": "qwen3-chat"}, **connection).result["changed"]
    assert not ready.models().result["changed"], "the first workspace is as it was"
    assert not ready.models(workspace_id=None).result["changed"], "and is the one that is meant when none is named"
    wrong = ready.models(workspace_id="00000000-0000-0000-0000-000000000000")
    assert "Check the admin key (ADMIN_API_KEY of the api container) and the workspace id" in wrong.result["msg"]


def test_run_that_is_killed_at_any_request_is_finished_by_the_next(
    dify_lab: Callable[..., Lab], version: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each request in turn, and after it with the answer lost: one credential per model at the end, and all of them ours to prune."""
    send, sent = DifyClient._send, [0]
    hit = 0
    for moment in range(1, 32, 2):
        folder = tmp_path / str(moment)
        folder.mkdir()
        dify = Dify(dify_lab(version), version, folder)
        sent[0] = 0

        def killed(client: DifyClient, *values: Any, number: int = moment, **more: Any) -> Any:
            sent[0] += 1
            if sent[0] == number:
                if number % 4 == 1:
                    send(client, *values, **more)
                raise KeyboardInterrupt
            return send(client, *values, **more)

        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            patch.setattr(DifyClient, "_send", killed)
            dify.models()
        if sent[0] < moment:
            break  # the run was over before
        hit += 1
        done = dify.models()
        assert not done.failed, (moment, done.text)
        assert not dify.models().result["changed"], moment
        for uid in dify.uids:
            assert len(dify.lab.console.credentials(uid, MODELS[uid]).get("available_credentials", [1])) == 1, (moment, uid)
        assert stat.S_IMODE(dify.state_file.stat().st_mode) == 0o600
        assert KEY not in dify.state_file.read_text()
        pruned = dify.models(models=[], default_models={}, prune=True)
        assert actions(pruned) == dict.fromkeys(dify.uids, "delete"), (moment, pruned.text)
        dify.lab.close()
    note(version, "killed at any request", f"finished by the next run, {hit} of {hit} moments")
    assert hit >= 12


def test_controller_that_is_overtaken_between_looking_and_writing(dify: Dify, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one registers every model after this one found none: Dify refuses the name, or writes the same once more."""
    apply, overtaken = Registrar._apply, []

    def late(registrar: Registrar, action: Any, item: WantedModel) -> None:
        if not overtaken:
            overtaken.append(item.model)
            other = dify.models(default_models={}, state_file=str(tmp_path / "other.json"))
            assert set(actions(other).values()) == {"create"}
        apply(registrar, action, item)

    with monkeypatch.context() as patch:
        patch.setattr(Registrar, "_apply", late)
        outcome = dify.models()
    assert (outcome.failed, overtaken) == (False, dify.uids[:1]), outcome.text
    for uid in dify.uids:
        assert len(dify.lab.console.credentials(uid, MODELS[uid]).get("available_credentials", [1])) == 1
    assert not dify.models().result["changed"]


def test_two_controllers_at_once(dify: Dify) -> None:
    """Each reads, finds nothing, and registers; at the end there is one credential per model."""
    start = threading.Barrier(2)
    failures: list[str] = []

    def control(number: int) -> None:
        connection = {name: value for name, value in dify.connection.items() if name not in ("url", "session_file")}
        client = DifyClient(JsonClient(dify.lab.url, open_url_transport()), **connection)
        registrar = Registrar(client, PROVIDER, lambda item: None, FileMemory(str(dify.folder / f"{number}.json")))
        key = {"api_key": KEY} if dify.keyed else {}
        base = {**XINFERENCE_DEFAULTS, "server_url": dify.lab.xinference_url, **key}
        wanted = [WantedModel(uid, MODELS[uid], {**base, "model_uid": uid}) for uid in dify.uids]
        start.wait(10)
        registrar.present(wanted)
        failures.extend(item["reason"] for item in registrar.results if item["verdict"] == "failed")

    threads = [threading.Thread(target=control, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert set(dify.lab.console.models()) == {(uid, MODELS[uid]) for uid in dify.uids}
    for uid in dify.uids:
        available = dify.lab.console.credentials(uid, MODELS[uid]).get("available_credentials")
        assert available is None or [item["credential_name"] for item in available] == ["ansible"]
    assert not dify.models(default_models={}).result["changed"]
    note(dify.version, "two controllers at once", "one credential each" if dify.able.credential_records else "one model each")
