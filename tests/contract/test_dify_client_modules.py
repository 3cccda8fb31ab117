# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Dify modules, run as Ansible runs them, against the stand-in of Dify 1.16.1 that the fleet uses: inputs, failures, the question.

What they do in every generation is in dify_generations/.
"""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from tests.contract.dify_client_stack import FakeXinference, Outcome, Stack, run_module

EMAIL, PASSWORD = "admin@example.com", "Passw0rdOfThisTest"
KEY = "sk-0123456789abcdef"
PROVIDER = "langgenius/xinference/xinference"


@pytest.fixture()
def xinference() -> t.Iterator[FakeXinference]:
    server = FakeXinference()
    server.keys = {KEY}
    yield server
    server.close()


@pytest.fixture()
def stack(tmp_path: pathlib.Path) -> t.Iterator[Stack]:
    stack = Stack(tmp_path, init_password="InitPassword123")
    yield stack
    stack.close()


@pytest.fixture()
def package(tmp_path: pathlib.Path) -> t.Callable[[str], str]:
    from tests.fleet.standins.dify.build import plugin_package

    def make(version: str) -> str:
        path = tmp_path / f"xinference-{version}.difypkg"
        path.write_bytes(plugin_package(version))
        return str(path)

    return make


class Dify:
    """The modules against one stack, as an administrator with the admin key."""

    def __init__(self, stack: Stack, xinference: FakeXinference, state_file: pathlib.Path) -> None:
        self.stack, self.xinference, self.state_file = stack, xinference, state_file
        self.key = KEY

    def __call__(self, module: str, check_mode: bool = False, /, **arguments: t.Any) -> Outcome:
        self.stack.requests.clear()
        return run_module(module, check_mode, **{"url": self.stack.url, "admin_key": self.stack.admin_key, **arguments})

    def setup(self, check_mode: bool = False, **more: t.Any) -> Outcome:
        arguments = {"email": EMAIL, "password": PASSWORD, "init_password": "InitPassword123", "expected_version": "1.16.1", "wait_timeout": 5, **more}
        return self("dify_setup", check_mode, **arguments)

    def wanted(self, *uids: str) -> list[dict[str, t.Any]]:
        kinds = {"LLM": "llm", "embedding": "text-embedding", "rerank": "rerank"}
        return [
            {"model": uid, "model_type": kinds[self.xinference.models[uid]], "model_uid": uid, "server_url": self.xinference.url + "/", "api_key": self.key}
            for uid in uids
        ]

    def models(self, check_mode: bool = False, models: t.Any = None, **more: t.Any) -> Outcome:
        self.stack.forget()
        arguments = {"models": self.wanted("chat", "embed", "rerank") if models is None else models, "state_file": str(self.state_file), **more}
        arguments.setdefault("default_models", {"llm": "chat", "text-embedding": "embed", "rerank": "rerank"})
        return self("dify_models", check_mode, **arguments)

    def console(self, method: str, path: str, body: t.Any = None) -> t.Any:
        """What someone would do in the browser."""
        from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify import DifyClient
        from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import JsonClient, open_url_transport

        client = DifyClient(JsonClient(self.stack.url, open_url_transport()), admin_key=self.stack.admin_key)
        return client.workspace(method, path, json=body)


@pytest.fixture()
def dify(stack: Stack, xinference: FakeXinference, tmp_path: pathlib.Path) -> Dify:
    return Dify(stack, xinference, tmp_path / "registered.json")


@pytest.fixture()
def ready(dify: Dify, package: t.Callable[[str], str]) -> Dify:
    """A Dify with an administrator, the plugin and three models."""
    assert not dify.setup().failed
    plugin = dify("dify_plugin", id="langgenius/xinference", version="0.0.15", source="package", package=package("0.0.15"), provider=PROVIDER)
    assert not plugin.failed, plugin.text
    models = dify.models()
    assert not models.failed, models.text
    return dify


def actions(outcome: Outcome) -> list[str]:
    return [item["action"] for item in outcome.result["models"]]


# -- setup ------------------------------------------------------------------------------------------------------------------


def test_setup_check_do_again(dify: Dify) -> None:
    predicted = dify.setup(check_mode=True)
    assert predicted.result["changed"]
    assert predicted.result["step"] == "not_started"
    done = dify.setup()
    assert done.result["changed"]
    assert (done.result["step"], done.result["version"]) == ("finished", "1.16.1")
    assert done.result["workspace_id"]
    again = dify.setup(verify_login=True)
    assert not again.result["changed"]
    assert not any(secret in outcome.text for outcome in (predicted, done, again) for secret in (PASSWORD, "InitPassword123", dify.stack.admin_key))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"init_password": "wrong"}, "HTTP 401"),
        ({"init_password": None}, "asks for its INIT_PASSWORD"),
        ({"password": "short"}, "at least 8 characters"),
        ({"email": "nobody"}, "'nobody' is not one Dify accepts"),
        ({"name": "N" * 31}, "the name has 31 characters"),
        ({"init_password": "x" * 31}, "can never be proven"),
        ({"expected_version": "1.16.0", "wait_timeout": 0}, "Dify 1.16.1 answers instead of 1.16.0"),
    ],
)
def test_setup_names_what_is_wrong(dify: Dify, arguments: dict[str, t.Any], words: str) -> None:
    outcome = dify.setup(**arguments)
    assert outcome.failed
    assert words in outcome.result["msg"]


def test_setup_of_a_dify_that_does_not_answer() -> None:
    arguments = {"url": "http://127.0.0.1:9", "email": EMAIL, "password": PASSWORD, "wait_timeout": 0}
    outcome = run_module("dify_setup", **arguments)
    assert outcome.failed
    assert "Connection refused" in outcome.result["msg"]
    predicted = run_module("dify_setup", True, **arguments)
    assert (predicted.failed, predicted.result["step"]) == (False, "no_answer")


def test_wrong_password_is_sent_once_and_explained(dify: Dify) -> None:
    dify.setup()
    outcome = dify.setup(password="An0therPassword", verify_login=True)
    assert outcome.failed
    assert "reset-password" in outcome.result["msg"]
    assert dify.stack.requests.count("POST /console/api/login") == 1


# -- plugin -----------------------------------------------------------------------------------------------------------------


def test_plugin_install_upgrade_downgrade_remove(dify: Dify, package: t.Callable[[str], str]) -> None:
    dify.setup()

    def plugin(version: str, check_mode: bool = False, **more: t.Any) -> Outcome:
        return dify(
            "dify_plugin", check_mode, id="langgenius/xinference", version=version, source="package", package=package(version), provider=PROVIDER, **more
        )

    assert plugin("0.0.14", check_mode=True).result["action"] == "install"
    first = plugin("0.0.14")
    assert (first.failed, first.result["changed"], first.result["version"]) == (False, True, "0.0.14"), first.text
    assert not plugin("0.0.14").result["changed"]
    assert plugin("0.0.15").result["action"] == "upgrade"
    down = plugin("0.0.14")
    assert (down.result["before"], down.result["version"]) == ("0.0.15", "0.0.14")
    gone = dify("dify_plugin", id="langgenius/xinference", state="absent")
    assert (gone.result["changed"], gone.result["version"]) == (True, "")
    assert not dify("dify_plugin", id="langgenius/xinference", state="absent").result["changed"]


def test_plugin_is_taken_out_of_automatic_upgrades(ready: Dify) -> None:
    found = ready.console("GET", "/plugin/auto-upgrade/fetch?category=model")["auto_upgrade"]
    assert "langgenius/xinference" in found["exclude_plugins"]


def test_plugin_failures_are_explained(dify: Dify, package: t.Callable[[str], str], tmp_path: pathlib.Path) -> None:
    dify.setup()
    other = dify("dify_plugin", id="langgenius/xinference", version="0.0.99", source="package", package=package("0.0.15"))
    assert "the package is langgenius/xinference 0.0.15, not langgenius/xinference 0.0.99" in other.result["msg"]
    missing = dify("dify_plugin", id="langgenius/xinference", source="package", package=str(tmp_path / "nope.difypkg"))
    assert "cannot be had" in missing.result["msg"]
    (tmp_path / "bad.difypkg").write_bytes(b"no zip")
    bad = dify("dify_plugin", id="langgenius/xinference", source="package", package=str(tmp_path / "bad.difypkg"))
    assert "not a zip file" in bad.result["msg"]
    market = dify("dify_plugin", id="langgenius/xinference", version="0.0.15", timeout=10)
    assert market.failed
    assert "source: package" in market.result["msg"]


# -- models -----------------------------------------------------------------------------------------------------------------


def test_models_check_do_again(dify: Dify, package: t.Callable[[str], str]) -> None:
    dify.setup()
    dify("dify_plugin", id="langgenius/xinference", version="0.0.15", source="package", package=package("0.0.15"))
    predicted = dify.models(check_mode=True)
    assert actions(predicted) == ["create"] * 3
    assert not any(request.startswith(("POST", "PUT", "DELETE", "PATCH")) for request in dify.stack.requests)
    done = dify.models()
    assert actions(done) == ["create"] * 3
    assert {item["model_type"] for item in done.result["default_models"]} == {"llm", "text-embedding", "rerank"}
    again = dify.models(workspace_id=dify.setup().result["workspace_id"])
    assert (again.result["changed"], again.result["diff"]) == (False, {"before": {}, "after": {}})
    assert again.result["requests"] <= 4 + 3
    assert not any(KEY in outcome.text for outcome in (predicted, done, again))


def test_every_failure_is_named_and_the_rest_is_done(ready: Dify) -> None:
    models = ready.wanted("chat", "embed", "rerank")
    ready.xinference.models.update({"slow": "LLM", "gone": "LLM"})
    models += ready.wanted("slow", "gone")
    ready.xinference.loading = {"slow"}
    del ready.xinference.models["gone"]
    models.append({**models[0], "model": "dead", "server_url": "http://127.0.0.1:9"})
    models.append({**models[0], "model": "thief", "api_key": "sk-wrongwrongwrong"})
    models.append({**models[0], "model": "kind", "model_uid": "embed"})
    models.append({**models[0], "model": "uid", "model_uid": "a/b"})
    models.append({**models[1], "model": "extra"})
    outcome = ready.models(models=models)
    assert outcome.failed
    reasons = {item["model"]: item["reason"] for item in outcome.result["models"] if item["verdict"] == "failed"}
    assert "is still loading" in reasons["slow"]
    assert "runs no model with uid 'gone'" in reasons["gone"]
    assert "cannot be reached" in reasons["dead"]
    assert "refused the API key" in reasons["thief"]
    assert "is of kind embedding" in reasons["kind"]
    assert "one of / ? #" in reasons["uid"]
    assert all(name in outcome.result["msg"] for name in reasons)
    assert "sk-wrongwrongwrong" not in outcome.text
    assert {item["model"]: item["action"] for item in outcome.result["models"]}["extra"] == "create"
    assert "extra" in [item["model"] for item in ready("dify_info").result["models"]]


def test_wrong_admin_key_is_explained(ready: Dify) -> None:
    outcome = ready.models(admin_key="not-the-key-at-all")
    assert outcome.failed
    assert "Check the admin key" in outcome.result["msg"]


# -- the question -----------------------------------------------------------------------------------------------------------


def test_question_is_answered_and_nothing_is_left(ready: Dify) -> None:
    outcome = ready("dify_rag_check")
    assert not outcome.failed, outcome.text
    result = outcome.result
    assert not result["changed"]
    assert "Old Marigold" in result["chat"]["answer"]
    assert result["rerank"]["top_score"] == pytest.approx(0.9)
    assert "lamp" in result["rerank"]["top_passage"]
    assert result["embedding"]["model"] == "embed"
    again = ready("dify_rag_check")
    assert again.result["leftovers_removed"] == 0


def test_failing_layer_is_named_and_leftovers_go_with_the_next_run(ready: Dify, monkeypatch: pytest.MonkeyPatch) -> None:
    ready.xinference.keys = {"another"}
    failed = ready("dify_rag_check", index_timeout=20)
    assert failed.failed
    assert failed.result["layer"] == "embedding"
    ready.xinference.keys = {KEY}
    from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_rag import RagCheck

    with monkeypatch.context() as patch:
        patch.setattr(RagCheck, "remove_everything", lambda self: 0)  # as if it had been killed
        assert not ready("dify_rag_check").failed
    assert ready("dify_rag_check").result["leftovers_removed"] == 2


@pytest.mark.parametrize("way", ["admin_key", "admin_key_file", "login"])
def test_connection_may_come_from_the_environment(ready: Dify, way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    (tmp_path / "key").write_text(ready.stack.admin_key)
    variables = {
        "admin_key": {"DIFY_ADMIN_KEY": ready.stack.admin_key, "DIFY_WORKSPACE_ID": ready.setup().result["workspace_id"]},
        "admin_key_file": {"DIFY_ADMIN_KEY_FILE": str(tmp_path / "key")},
        "login": {"DIFY_EMAIL": EMAIL, "DIFY_PASSWORD": PASSWORD},
    }
    for name, value in {"DIFY_URL": ready.stack.url, **variables[way]}.items():
        monkeypatch.setenv(name, value)
    ready.stack.requests.clear()
    told = run_module("dify_info", gather=["defaults"])
    assert (told.failed, told.result["default_models"]["llm"]) == (False, {"provider": PROVIDER, "model": "chat"}), told.text
    assert ("POST /console/api/login" in ready.stack.requests) == (way == "login")
    assert ("GET /console/api/all-workspaces" in ready.stack.requests) == (way == "admin_key_file"), "a workspace that is given is not looked for"
    assert not any(secret in told.text for secret in (ready.stack.admin_key, PASSWORD))


def test_info_reports_all_parts(ready: Dify) -> None:
    info = ready("dify_info").result
    assert info["version"] == "1.16.1"
    assert info["plugins"][0]["version"] == "0.0.15"
    assert info["default_models"]["llm"] == {"provider": PROVIDER, "model": "chat"}
    assert KEY not in str(info)
