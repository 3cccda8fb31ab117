# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes wrong between Dify, the account and the model server: a verdict, the rest done, and a later run that converges."""

from __future__ import annotations

import os
import pathlib
import stat
import time

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify import DifyClient, DifyError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import JsonClient, open_url_transport

from tests.contract.dify_generations.world import DEFAULTS, VERDICTS, Dify, actions, converges, note, reasons, signed_in

PROBE = "ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_probe"


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


def test_xinference_that_hangs(dify: Dify, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked by us it is waited for once, not once per model; asked by Dify alone, each call ends after Dify's own patience."""
    dify.lab.wait_for_xinference(0.05)
    monkeypatch.setattr(f"{PROBE}.TIMEOUT", 0.3)
    dify.lab.xinference.fault = "hung"
    start = time.monotonic()
    outcome = dify.models()
    seconds = time.monotonic() - start
    assert outcome.failed
    assert all("it hangs, or is busy" in text for text in reasons(outcome).values())
    assert len(reasons(outcome)) == len(dify.uids)
    assert seconds < 0.3 * len(dify.uids) * 2, "one server is waited for once"
    VERDICTS["Xinference hangs"] = reasons(outcome)[dify.uids[0]]
    unasked = dify.models(models=dify.wanted("qwen3-chat"), default_models={}, probe=False)
    assert "Read timed out" in reasons(unasked)["qwen3-chat"]
    VERDICTS["Xinference hangs, and is not asked first"] = reasons(unasked)["qwen3-chat"]
    dify.lab.xinference.fault = ""
    converges(dify)
    note(dify.version, "Xinference hangs", "verdict, waited for once")


@pytest.mark.skipif(not os.environ.get("DIFY_TEST_THOROUGH"), reason="takes 40 s for each version: DIFY_TEST_THOROUGH=1")
def test_hung_xinference_holds_a_registration_for_forty_seconds(dify: Dify) -> None:
    """With every time-out as it is in production: the probe is passed, then Dify's own call hangs (10 s, four times)."""
    dify.lab.xinference.fault = "hung"
    start = time.monotonic()
    outcome = dify.models(models=dify.wanted("qwen3-chat"), default_models={}, probe=False)
    seconds = time.monotonic() - start
    assert 38 < seconds < 60
    assert "Read timed out" in reasons(outcome)["qwen3-chat"]
    dify.lab.xinference.fault = ""
    converges(dify)
    print(f"\nDify {dify.version}: a hung Xinference held a registration for {seconds:.1f} s; verdict, then converged")


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
    ready.lab.console.disable_model("whisper", "speech2text")
    converges(ready)
    note(ready.version, "expired session", "renewed" if ready.able.refresh else "told: this Dify cannot renew one")


def test_session_that_ends_for_good_leaves_a_verdict_for_every_model(ready: Dify, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends after the second model. What was done stays done, every other model is told, and the next run does the rest."""
    ready.lab.console.disable_model("qwen3-chat", "llm")
    ready.lab.console.disable_model("whisper", "speech2text")
    ask, asked = DifyClient.credentials, []

    def credentials(client: DifyClient, provider: str, model: str, model_type: str) -> dict[str, object]:
        asked.append(model)
        if model == ready.uids[2]:
            ready.lab.expire_sessions()
        return ask(client, provider, model, model_type)

    with monkeypatch.context() as patch:
        patch.setattr(DifyClient, "credentials", credentials)
        outcome = ready.models(**signed_in(ready))
    assert outcome.failed
    assert [item["model"] for item in outcome.result["models"]] == ready.uids
    assert actions(outcome) == {"qwen3-chat": "enable"}
    assert list(reasons(outcome)) == ready.uids[2:]
    assert all(text.startswith("not looked at: ") for text in reasons(outcome).values())
    assert outcome.result["msg"].count("HTTP 401") == 1
    assert ready.lab.console.models()[("qwen3-chat", "llm")] == "active"
    converges(ready)


def test_dify_that_goes_away_is_waited_for_once(ready: Dify, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the second model. Each further one would wait as long; they are told instead, and the next run does them."""
    ready.lab.console.disable_model("qwen3-chat", "llm")
    ready.lab.console.disable_model("whisper", "speech2text")
    ask, asked = DifyClient.credentials, []

    def credentials(client: DifyClient, provider: str, model: str, model_type: str) -> dict[str, object]:
        asked.append(model)
        if model == ready.uids[2]:
            ready.lab.shut("api")
        return ask(client, provider, model, model_type)

    with monkeypatch.context() as patch:
        patch.setattr(DifyClient, "credentials", credentials)
        outcome = ready.models()
    assert asked[-1] == ready.uids[2], "nothing was asked after that"
    assert (outcome.failed, list(reasons(outcome))) == (True, ready.uids[2:])
    assert "no answer" in outcome.result["msg"]
    VERDICTS["Dify goes away"] = outcome.result["msg"]
    ready.lab.open("api", ready.lab.front, ready.lab.api_port)
    assert actions(ready.models()) == {"whisper": "enable"}
    converges(ready)


def test_login_of_another_workspace_changes_nothing(ready: Dify) -> None:
    ready.lab.console.disable_model("whisper", "speech2text")
    other = ready.models(**{**signed_in(ready), "workspace_id": "00000000-0000-0000-0000-000000000000"})
    assert other.failed
    assert "which is none of its workspaces" in other.result["msg"]
    assert ready.lab.console.models()[("whisper", "speech2text")] == "disabled"
    VERDICTS["login that works in another workspace"] = other.result["msg"]
    file = str(ready.folder / "kept.json")
    with ready.lab.counted() as requests:
        assert not ready.models(**{**signed_in(ready), "workspace_id": ready.lab.tenant, "session_file": file}).failed
    assert requests.count("GET /console/api/workspaces") == 1
    with ready.lab.counted() as requests:
        assert not ready.models(**{**signed_in(ready), "workspace_id": ready.lab.tenant, "session_file": file}).failed
    assert "GET /console/api/workspaces" not in requests, "a kept session remembers it"


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


def test_default_that_is_not_registered(ready: Dify) -> None:
    outcome = ready.models(default_models={**DEFAULTS, "llm": "nowhere"})
    assert outcome.failed
    assert [item["verdict"] for item in outcome.result["default_models"]] == ["failed", "ok", "ok"]
    assert "registered" in outcome.result["default_models"][0]["reason"]
    VERDICTS["a default that is not registered"] = outcome.result["msg"]
