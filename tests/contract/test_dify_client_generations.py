# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Dify modules, run as Ansible runs them, against every generation of Dify that the stand-in copies.

``pytest -s`` on this file prints what every version did, requests per run, and the verdict texts. Both are also in
docs/dify-registration.md; ``DIFY_TABLE=write`` brings them up to date there, and without it the last test compares.
"""

from __future__ import annotations

import os
import pathlib
import re
import stat
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify import DifyClient, DifyError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_memory import FileMemory
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_models import Registrar
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_plan import XINFERENCE_DEFAULTS, WantedModel
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_versions import Capabilities, capabilities
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import JsonClient, open_url_transport

from tests.contract.dify_client_stack import Outcome, run_module
from tests.fleet.standins.dify import build
from tests.fleet.standins.dify.dify_standin.generations import GENERATIONS
from tests.fleet.standins.dify.dify_standin.http import Application, Request, Response, reply
from tests.fleet.standins.dify.lab import Lab

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "dify-registration.md"
VERSIONS = list(GENERATIONS)
KEY, OTHER_KEY, OTHER_KEY_SAME_MASK = "sk-0123456789abcdef", "sk-fedcba9876543210", "sk-fedXXXXXXXXXXX10"
MODELS = {"qwen3-chat": "llm", "bge-m3": "text-embedding", "bge-reranker": "rerank", "whisper": "speech2text", "cosyvoice": "tts"}
PROVIDER = "langgenius/xinference/xinference"
DEFAULTS = {"llm": "qwen3-chat", "text-embedding": "bge-m3", "rerank": "bge-reranker"}

# behaviour -> version -> what came out; and cause -> the words people read.
TABLE: dict[str, dict[str, str]] = {}
VERDICTS: dict[str, str] = {}


def note(version: str, behaviour: str, result: str) -> None:
    TABLE.setdefault(behaviour, {})[version] = result


class Releases(Application):
    """Files by path, as GitHub serves those of a release."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def __call__(self, request: Request) -> Response:
        if request.path in self.files:
            return Response(200, self.files[request.path], "application/octet-stream")
        return reply({"message": "Not Found"}, 404)


class Dify:
    """The modules against one lab, on the path that its version is driven by."""

    def __init__(self, lab: Lab, version: str, folder: pathlib.Path) -> None:
        self.lab, self.version, self.folder = lab, version, folder
        self.able: Capabilities = capabilities(version)
        self.keyed = "api_key" in self.able.xinference_fields
        self.key = KEY
        self.state_file = folder / "registered.json"
        # An empty set: nobody needs a key, for a Dify that has no field for one.
        lab.xinference.guarded = None if self.keyed else set()
        lab.xinference.keys = {KEY}
        self.uids = [uid for uid, kind in MODELS.items() if kind != "tts" or self.keyed]

    @property
    def connection(self) -> dict[str, Any]:
        if self.able.admin_key:
            return {"url": self.lab.url, "admin_key": self.lab.admin_key, "workspace_id": self.lab.tenant}
        session = str(self.folder / "session.json")
        return {"url": self.lab.url, "admin_key": self.lab.admin_key, "email": self.lab.email, "password": self.lab.password, "session_file": session}

    def __call__(self, module: str, check_mode: bool = False, /, **arguments: Any) -> Outcome:
        return run_module(module, check_mode, **{**self.connection, **arguments})

    def wanted(self, *uids: str, **more: Any) -> list[dict[str, Any]]:
        key = {"api_key": self.key} if self.keyed else {}
        return [{"model_type": MODELS[uid], "model_uid": uid, "server_url": self.lab.xinference_url, **key, **more} for uid in uids or self.uids]

    def models(self, check_mode: bool = False, **more: Any) -> Outcome:
        self.lab.forget_uids()
        arguments = {"models": self.wanted(), "default_models": DEFAULTS, "state_file": str(self.state_file), **more}
        return self("dify_models", check_mode, **arguments)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture()
def dify(dify_lab: Callable[..., Lab], version: str, tmp_path: pathlib.Path) -> Dify:
    """A Dify of that version with its owner and plugin, and nothing registered."""
    return Dify(dify_lab(version), version, tmp_path)


@pytest.fixture()
def ready(dify: Dify) -> Dify:
    outcome = dify.models()
    assert not outcome.failed, outcome.text
    return dify


@pytest.fixture(scope="module", autouse=True)
def summary() -> Iterator[None]:
    yield
    print(f"\n{table()}\n\n{verdicts()}")


def table() -> str:
    lines = ["| | " + " | ".join(VERSIONS) + " |", "|---|" + "---|" * len(VERSIONS)]
    lines += [f"| {behaviour} | " + " | ".join(row.get(version, "") for version in VERSIONS) + " |" for behaviour, row in TABLE.items()]
    return "\n".join(lines)


def verdicts() -> str:
    """The newest version's words, with documentation's addresses in them."""
    texts = []
    for cause, text in VERDICTS.items():
        text = re.sub(r"http://127\.0\.0\.1:\d+/api/v1\S*", "https://marketplace.example/...", text)
        text = re.sub(r"http://127\.0\.0\.1:\d+", "http://192.0.2.10:9997", text)
        text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "<workspace>", text)
        texts.append(f"- **{cause}**: `{text}`")
    return "\n".join(texts)


def actions(outcome: Outcome) -> dict[str, str]:
    return {item["model"]: item["action"] for item in outcome.result["models"] if item["action"] != "none"}


def reasons(outcome: Outcome) -> dict[str, str]:
    return {item["model"]: item["reason"] for item in outcome.result["models"] if item["verdict"] == "failed"}


def repaired_in_one_run(dify: Dify, behaviour: str, expected: dict[str, str], **more: Any) -> None:
    """Found in check mode, which changes nothing; repaired by one run; nothing left for the next."""
    predicted = dify.models(True, **more)
    assert (predicted.failed, actions(predicted), predicted.result["changed"]) == (False, expected, True), predicted.text
    assert actions(dify.models(True, **more)) == expected
    done = dify.models(**more)
    assert (done.failed, actions(done), done.result["diff"]) == (False, expected, predicted.result["diff"]), done.text
    again = dify.models(**more)
    assert (again.failed, again.result["changed"]) == (False, False), again.text
    assert not any(secret in outcome.text for outcome in (predicted, done, again) for secret in (KEY, OTHER_KEY, OTHER_KEY_SAME_MASK, dify.lab.password))
    note(dify.version, behaviour, ", ".join(sorted({*expected.values()})) or "set again")


# -- the whole way ------------------------------------------------------------------------------------------------------------


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


# -- what goes wrong ----------------------------------------------------------------------------------------------------------


def converges(dify: Dify) -> None:
    """A later run does what is left, and the one after it nothing."""
    assert not dify.models().failed
    assert not dify.models().result["changed"]


def test_xinference_down_and_one_wrong_uid(dify: Dify) -> None:
    wrong = [{**dify.wanted("qwen3-chat")[0], "model": "wrong", "model_uid": "nowhere"}]
    outcome = dify.models(models=[*wrong, *dify.wanted()])
    assert outcome.failed
    assert list(reasons(outcome)) == ["wrong"]
    assert "runs no model with uid 'nowhere'" in reasons(outcome)["wrong"]
    VERDICTS["one wrong uid"] = outcome.result["msg"]
    assert [item["changed"] for item in outcome.result["default_models"]] == [True] * 3 or not outcome.result["default_models"][0]["changed"]
    converges(dify)

    dify.lab.xinference_down()
    assert not dify.models().failed, "nothing is to change, so nobody needs the model server"
    changed = {"invoke_timeout": "99"} if "invoke_timeout" in dify.able.xinference_fields else {"model_uid": "sec-chat"}
    down = dify.models(models=dify.wanted(credentials=changed))
    assert down.failed
    assert len(reasons(down)) == len(dify.uids)
    assert all("cannot be reached from this host" in text for text in reasons(down).values())
    VERDICTS["Xinference down"] = reasons(down)[dify.uids[0]]
    dify.lab.xinference_up()
    converges(dify)
    note(dify.version, "Xinference down, wrong uid", "verdict, rest done")


def test_loading_model_wrong_kind_and_wrong_key(dify: Dify) -> None:
    dify.lab.xinference.loading.add("sec-chat")
    base = dify.wanted("qwen3-chat")[0]
    bad = [{**base, "model": "slow", "model_uid": "sec-chat"}, {**base, "model": "kind", "model_uid": "bge-m3"}]
    if dify.keyed:
        bad.append({**base, "model": "thief", "api_key": "sk-wrongwrongwrong"})
    outcome = dify.models(models=[*bad, *dify.wanted()])
    texts = reasons(outcome)
    assert list(texts) == [item["model"] for item in bad], outcome.text
    assert "is still loading" in texts["slow"]
    assert "is of kind embedding" in texts["kind"]
    VERDICTS["model still loading"], VERDICTS["wrong kind of model"] = texts["slow"], texts["kind"]
    if dify.keyed:
        assert "refused the API key" in texts["thief"]
        VERDICTS["wrong key of Xinference"] = texts["thief"]
        assert "sk-wrongwrongwrong" not in outcome.text
    converges(dify)


def test_account_that_is_no_administrator(ready: Dify) -> None:
    email, password = ready.lab.member("editor")
    who = {"admin_key": None, "workspace_id": None, "email": email, "password": password}
    assert not ready.models(**who).failed, "an editor may read, and nothing is to change"
    extra = [{**ready.wanted("qwen3-chat")[0], "model": "extra"}]
    ready.lab.console.disable_model("whisper", "speech2text")
    outcome = ready.models(models=[*extra, *ready.wanted()], **who)
    assert list(reasons(outcome)) == ["extra"]
    assert "must be owner or administrator" in reasons(outcome)["extra"]
    assert actions(outcome)["whisper"] == "enable", "the rest is done"
    VERDICTS["account without the rights"] = reasons(outcome)["extra"]
    assert not ready.models(models=[*extra, *ready.wanted()]).failed
    note(ready.version, "not an administrator", "verdict, rest done")


def signed_in(dify: Dify, password: str | None = None) -> dict[str, Any]:
    return {"admin_key": None, "workspace_id": None, "session_file": None, "email": dify.lab.email, "password": password or dify.lab.password}


def test_lockout_is_explained_and_a_refused_login_sent_once(ready: Dify) -> None:
    with ready.lab.counted() as requests:
        refused = ready.models(**signed_in(ready, "Wr0ngPassword"))
    assert refused.failed
    assert requests.count("POST /console/api/login") == 1
    assert "reset-password" in refused.result["msg"]
    VERDICTS["wrong password"] = refused.result["msg"]
    assert not any(ready.lab.email in line or "Wr0ngPassword" in line for line in requests)
    assert not ready.models(**signed_in(ready)).failed
    if ready.able.login_tokens == "data":
        note(ready.version, "lockout", "none in this Dify")
        return
    ready.lab.lock_out()
    with ready.lab.counted() as requests:
        locked = ready.models(**signed_in(ready))
    assert requests.count("POST /console/api/login") == 1
    assert "login_error_rate_limit" in locked.result["msg"]
    VERDICTS["lockout"] = locked.result["msg"]
    ready.lab.unlock()
    assert not ready.models(**signed_in(ready)).failed
    note(ready.version, "lockout", "verdict says how to lift it")


def test_session_that_ends_meanwhile_is_renewed(ready: Dify) -> None:
    client = DifyClient(JsonClient(ready.lab.url, open_url_transport()), email=ready.lab.email, password=ready.lab.password)
    client.models(client.capabilities.xinference_provider)
    ready.lab.expire_sessions(refresh_too=False)
    with ready.lab.counted() as requests:
        if ready.able.refresh:
            assert client.models(client.capabilities.xinference_provider)
        else:
            with pytest.raises(DifyError, match="HTTP 401") as told:
                client.models(client.capabilities.xinference_provider)
            VERDICTS["expired session of Dify 0.6"] = str(told.value)
    if ready.able.refresh:
        assert [line.rsplit("/", 1)[1] for line in requests] == ["models", "refresh-token", "models"]
    assert "POST /console/api/login" not in requests
    ready.lab.expire_sessions()
    with pytest.raises(DifyError, match="HTTP 401"), ready.lab.counted() as requests:
        client.models(client.capabilities.xinference_provider)
    assert "POST /console/api/login" not in requests
    note(ready.version, "expired session", "renewed" if ready.able.refresh else "told: this Dify cannot renew one")


def test_kept_session_saves_the_login_until_it_ends(ready: Dify, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "kept.json"
    who = {**signed_in(ready), "session_file": str(file)}
    logins = []
    for check_mode, expected in ((True, 1), (False, 1), (False, 0)):
        with ready.lab.counted() as requests:
            assert not ready.models(check_mode, **who).failed
        logins.append(requests.count("POST /console/api/login"))
        assert logins[-1] == expected, requests
        assert file.exists() is not check_mode
    assert len(requests) == 1 + len(ready.uids) + len(DEFAULTS)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert ready.lab.password not in file.read_text()
    ready.lab.expire_sessions()
    with ready.lab.counted() as requests:
        assert not ready.models(**who).failed, "a session that has ended is replaced"
    assert requests.count("POST /console/api/login") == 1
    file.write_text('{"owner": 1}')
    with ready.lab.counted() as requests:
        assert not ready.models(**who).failed, "a damaged file costs a login, and no more"
    assert requests.count("POST /console/api/login") == 1


def test_plugin_daemon_down_for_a_while(ready: Dify, monkeypatch: pytest.MonkeyPatch) -> None:
    if not ready.able.plugins:
        note(ready.version, "plugin daemon down", "no such thing")
        return
    plugin = {"id": "langgenius/xinference", "version": build.PLUGIN_VERSION, "provider": PROVIDER}
    ready.lab.daemon_down(seconds=1.0)
    waited = ready("dify_plugin", **plugin)
    assert (waited.failed, waited.result["action"]) == (False, "none"), waited.text
    monkeypatch.setattr("ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_args.DAEMON_WAIT", 0.0)
    ready.lab.daemon_down()
    gone = ready("dify_plugin", **plugin)
    assert "plugin daemon does not answer" in gone.result["msg"]
    extra = ready.models(models=[*ready.wanted(), {**ready.wanted("qwen3-chat")[0], "model": "extra"}])
    assert extra.failed
    assert "plugin daemon does not answer" in extra.result["msg"]
    VERDICTS["plugin daemon stays down"] = gone.result["msg"]
    ready.lab.daemon_up()
    converges(ready)
    note(ready.version, "plugin daemon down", "waited for; then verdict")


def test_marketplace_unreachable(ready: Dify) -> None:
    if not ready.able.plugins:
        note(ready.version, "marketplace unreachable", "no such thing")
        return
    ready.lab.marketplace_down()
    wanted = {"id": "langgenius/xinference", "version": "0.0.16", "provider": PROVIDER}
    outcome = ready("dify_plugin", **wanted, identifier=ready.lab.marketplace.identifier)
    assert outcome.failed
    assert "cannot reach the marketplace" in outcome.result["msg"]
    VERDICTS["marketplace unreachable"] = outcome.result["msg"]
    assert not ready.models().failed, "models of an installed plugin need no marketplace"
    package = ready.folder / "xinference.difypkg"
    package.write_bytes(build.plugin_package("0.0.16"))
    offline = ready("dify_plugin", **wanted, source="package", package=str(package))
    assert (offline.failed, offline.result["version"]) == (False, "0.0.16"), offline.text
    release = "/example/provider/releases/download/v0.0.14/xinference.difypkg"
    port = ready.lab.open("github", Releases({release: build.plugin_package("0.0.14")}))
    github = {"source": "github", "repo": "example/provider", "release": "v0.0.14", "package": "xinference.difypkg", "github_url": f"http://127.0.0.1:{port}"}
    fetched = ready("dify_plugin", **{**wanted, "version": "0.0.14"}, **github)
    assert (fetched.failed, fetched.result["version"]) == (False, "0.0.14"), fetched.text
    missing = ready("dify_plugin", **wanted, **{**github, "release": "v9"})
    assert "cannot be had" in missing.result["msg"]
    note(ready.version, "marketplace unreachable", "verdict; installs from a package or a release")


def test_upgrade_leaves_ciphertext_that_is_found_and_replaced(dify_lab: Callable[..., Lab], tmp_path: pathlib.Path) -> None:
    old = Dify(dify_lab("0.15.8"), "0.15.8", tmp_path)
    assert not old.models().failed
    lab = old.lab
    lab.become("1.16.1")
    lab.console.install_plugin(build.plugin_package("0.0.15"))
    dify = Dify(lab, "1.16.1", tmp_path)
    shown = dify("dify_info", gather=["models"]).result["models"]
    assert all(model["status"] == "active" and model["credentials"]["server_url"].startswith("SFlCUklEO") for model in shown)
    predicted = dify.models(True)
    assert {item["reason"] for item in predicted.result["models"]} == {"server_url is ciphertext, which an upgrade left (Dify 0.15, or plugin 0.0.4)"}
    repaired_in_one_run(dify, "after an upgrade from 0.15.8", dict.fromkeys(dify.uids, "update"))
    for uid in dify.uids:
        assert [item["credential_name"] for item in lab.console.credentials(uid, MODELS[uid])["available_credentials"]][-1:] == ["ansible"]
    for version in VERSIONS[:-1]:
        note(version, "after an upgrade from 0.15.8", "")


def test_default_that_is_not_registered(ready: Dify) -> None:
    outcome = ready.models(default_models={**DEFAULTS, "llm": "nowhere"})
    assert outcome.failed
    assert [item["verdict"] for item in outcome.result["default_models"]] == ["failed", "ok", "ok"]
    assert "registered" in outcome.result["default_models"][0]["reason"]
    VERDICTS["a default that is not registered"] = outcome.result["msg"]


def test_provider_that_is_not_there(dify: Dify) -> None:
    outcome = dify.models(provider="nobody/nothing/nothing", models=[{"model": "m", "model_type": "llm", "credentials": {"url": "u"}}], default_models={})
    assert outcome.failed
    assert "lists no provider nobody/nothing/nothing" in outcome.result["msg"]
    VERDICTS["provider that Dify does not list"] = outcome.result["msg"]


# -- the table ----------------------------------------------------------------------------------------------------------------


def test_documents_hold_what_came_out() -> None:
    if "two controllers at once" not in TABLE or any(len(row) < len(VERSIONS) for row in TABLE.values()):
        pytest.skip("only a part of this file was run")
    text = wanted = DOCUMENT.read_text(encoding="utf-8")
    for name, content in (("table", table()), ("verdicts", verdicts())):
        start, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        before, _mark, rest = wanted.partition(start)
        _old, _mark, after = rest.partition(end)
        wanted = before + start + content + "\n" + end + after
    if os.environ.get("DIFY_TABLE") == "write":
        DOCUMENT.write_text(wanted, encoding="utf-8")
    else:
        assert text == wanted, "what Dify registration does has changed: run this file with DIFY_TABLE=write"
