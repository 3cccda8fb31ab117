# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A provider that is not Xinference's: the same plan, driven by the form that its plugin brings."""

from __future__ import annotations

from typing import Any

from tests.contract.dify_client_stack import Outcome
from tests.contract.dify_generations.world import KEY, OTHER_KEY, VERDICTS, Dify, actions, note, reasons
from tests.fleet.standins.dify import build

ENDPOINT = "example/endpoint/endpoint"


def endpoint_models(dify: Dify, check_mode: bool = False, *, secret: bool = True, key: str = KEY, **fields: Any) -> Outcome:
    """``secret``: whether the key is given as one; somebody will write it among the other fields."""
    credentials: dict[str, Any] = {"endpoint_url": f"{dify.lab.xinference_url}/v1", "context_size": 32768, "stream": True, **fields}
    secrets = {"api_key": key} if secret else {}
    models = [{"model": "qwen3-chat", "model_type": "llm", "credentials": credentials | ({} if secret else {"api_key": key}), "secret_credentials": secrets}]
    return dify("dify_models", check_mode, provider=ENDPOINT, models=models, prune=True, state_file=str(dify.folder / "endpoint.json"))


def test_model_of_another_provider(dify: Dify) -> None:
    """Numbers and booleans become text; defaults that Dify fills in by itself are no difference; keys are treated as secrets."""
    if not dify.able.plugins:
        note(dify.version, "model of another provider", "no such thing")
        return
    dify.lab.console.install_plugin(build.endpoint_package())
    runs = [endpoint_models(dify, check) for check in (True, False, False)]
    assert [(run.failed, actions(run)) for run in runs] == [(False, {"qwen3-chat": "create"}), (False, {"qwen3-chat": "create"}), (False, {})], runs
    assert runs[2].result["requests"] <= 4 + 1
    stored = dify.lab.console.call("GET", f"model-providers/{ENDPOINT}/models/credentials?model=qwen3-chat&model_type=llm")["credentials"]
    assert (stored["mode"], stored["context_size"], stored["stream"], "delimiter" in stored) == ("chat", "32768", True, False)

    changed = [endpoint_models(dify, check, mode="completion") for check in (True, False, False)]
    assert [run.result["changed"] for run in changed] == [True, True, False]
    assert changed[1].result["diff"]["after"] == {"llm/qwen3-chat.mode": "completion", "llm/qwen3-chat.delimiter": ";"}
    dify.lab.xinference.keys.add(OTHER_KEY)
    rotated = [endpoint_models(dify, check, mode="completion", key=OTHER_KEY, secret=False) for check in (True, False, False)]
    assert [run.result["changed"] for run in rotated] == [True, True, False]
    assert not any(secret in run.text for run in (*runs, *changed, *rotated) for secret in (KEY, OTHER_KEY))
    gone = dify("dify_models", provider=ENDPOINT, models=[], prune=True, state_file=str(dify.folder / "endpoint.json"))
    assert actions(gone) == {"qwen3-chat": "delete"}
    note(dify.version, "model of another provider", "create, update, new key, delete")


def test_what_another_provider_refuses_is_told(dify: Dify) -> None:
    if not dify.able.plugins:
        return
    dify.lab.console.install_plugin(build.endpoint_package())
    base = {"model": "m", "model_type": "llm"}
    url = {"endpoint_url": f"{dify.lab.xinference_url}/v1"}
    for model, words in (
        ({**base, "credentials": {}}, "requires the field endpoint_url"),
        ({**base, "credentials": {**url, "colour": "red"}}, "has no field colour; it has api_key, context_size"),
        ({**base, "credentials": {**url, "mode": "poem"}}, "Variable mode is not in options"),
        ({**base, "model_type": "tts", "credentials": url}, "has no tts models here; it has llm"),
        ({**base, "credentials": {**url, "api_key": "sk-wrongwrongwrong"}}, "status code 401"),
    ):
        for check in (True, False):
            outcome = dify("dify_models", check, provider=ENDPOINT, models=[model])
            assert words in reasons(outcome)["m"], outcome.text
            assert "sk-wrongwrongwrong" not in outcome.text
    assert dify.lab.console.call("GET", f"model-providers/{ENDPOINT}/models")["data"] == []


def test_provider_that_is_not_there(dify: Dify) -> None:
    outcome = dify.models(provider="nobody/nothing/nothing", models=[{"model": "m", "model_type": "llm", "credentials": {"url": "u"}}], default_models={})
    assert outcome.failed
    assert "lists no provider nobody/nothing/nothing" in outcome.result["msg"]
    VERDICTS["provider that Dify does not list"] = outcome.result["msg"]
