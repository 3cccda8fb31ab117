# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plugin, its daemon and the marketplace, and what an upgrade leaves behind."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Callable

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_plugins import Plugins
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_versions import capabilities

from tests.contract.dify_generations.world import (
    MODELS,
    PROVIDER,
    VERDICTS,
    Dify,
    Releases,
    actions,
    converges,
    note,
    repaired_in_one_run,
)
from tests.fleet.standins.dify import build
from tests.fleet.standins.dify.lab import Lab


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


@pytest.mark.skipif(not os.environ.get("DIFY_TEST_THOROUGH"), reason="takes a minute for each version: DIFY_TEST_THOROUGH=1")
def test_plugin_daemon_down_for_a_minute(ready: Dify) -> None:
    """Really a minute, with the patience of production: both modules wait, and go on where they were."""
    if not ready.able.plugins:
        return
    ready.lab.console.disable_model("whisper", "speech2text")
    extra = [{**ready.wanted("qwen3-chat")[0], "model": "extra"}]
    start = time.monotonic()
    ready.lab.daemon_down(seconds=60)
    plugin = ready("dify_plugin", id="langgenius/xinference", version=build.PLUGIN_VERSION, provider=PROVIDER)
    assert (plugin.failed, plugin.result["action"]) == (False, "none"), plugin.text
    seconds = time.monotonic() - start
    assert 60 <= seconds <= 75
    ready.lab.daemon_down(seconds=60)
    start = time.monotonic()
    models = ready.models(models=[*extra, *ready.wanted()])
    assert not models.failed, models.text
    assert actions(models) == {"extra": "create", "whisper": "enable"}
    assert 60 <= time.monotonic() - start <= 75
    assert not ready.models(models=[*extra, *ready.wanted()]).result["changed"]
    print(f"\nDify {ready.version}: plugin daemon down for 60 s; dify_plugin done after {seconds:.0f} s, dify_models after {time.monotonic() - start:.0f} s")


@pytest.mark.parametrize("fault", [403, 500])
def test_marketplace_that_refuses(ready: Dify, fault: int) -> None:
    """A marketplace's 403 must not end more than the installation that asked for it."""
    if not ready.able.plugins:
        return
    ready.lab.marketplace.fault = fault
    refused = ready("dify_plugin", id="langgenius/xinference", version="0.0.16", identifier=ready.lab.marketplace.identifier)
    assert "source: package" in refused.result["msg"], refused.text
    newest = ready("dify_plugin", id="langgenius/xinference", version="0.0.16")
    assert "source: package" in newest.result["msg"], newest.text
    assert not ready("dify_plugin", id="langgenius/xinference", version="0.0.15", provider=PROVIDER).failed
    assert not ready.models().failed
    ready.lab.marketplace.fault = ""
    assert ready("dify_plugin", id="langgenius/xinference", version="0.0.16", identifier=ready.lab.marketplace.identifier).result["action"] == "upgrade"


def test_installation_that_fails_or_only_says_success(
    dify_lab: Callable[..., Lab], version: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dify = Dify(dify_lab(version, plugin=None), version, tmp_path)
    behaviour = "installation that fails, or only says success"
    if not dify.able.plugins:
        note(version, behaviour, "no such thing")
        return
    package = tmp_path / "xinference.difypkg"
    package.write_bytes(build.plugin_package("0.0.15"))
    plugin = {"id": "langgenius/xinference", "version": "0.0.15", "source": "package", "package": str(package), "provider": PROVIDER}
    storage = pathlib.Path(dify.lab.daemon_settings.plugin_storage)
    storage.mkdir(parents=True, exist_ok=True)
    (storage / "standin-fail-next-install").write_text("failed to install dependencies: no route to index")
    failed = dify("dify_plugin", **plugin)
    assert "could not install it: failed to install dependencies: no route to index" in failed.result["msg"]
    VERDICTS["plugin whose installation fails"] = failed.result["msg"]
    with monkeypatch.context() as patch:
        patch.setattr(dify.lab.daemon, "_put", lambda *values: None)  # the task ends well, and nothing is there
        empty = dify("dify_plugin", **plugin)
    assert "Dify reported success, but has no version installed" in empty.result["msg"], empty.text
    silent = dify("dify_plugin", **{**plugin, "provider": "langgenius/xinference/other"})
    assert "Dify does not list its provider" in silent.result["msg"], silent.text
    VERDICTS["plugin that is installed, but brings no provider"] = silent.result["msg"]
    # With another version installed, install/pkg says success and changes nothing.
    package.write_bytes(build.plugin_package("0.0.14"))
    with monkeypatch.context() as patch:
        patch.setattr(Plugins, "upgrade", lambda self, original, identifier, source: self.install(identifier, source))
        stayed = dify("dify_plugin", **{**plugin, "version": "0.0.14"})
    assert "has 0.0.15 installed instead of 0.0.14" in stayed.result["msg"]
    again = dify("dify_plugin", **{**plugin, "version": "0.0.14"})
    assert (again.failed, again.result["version"]) == (False, "0.0.14")
    note(version, behaviour, "verdict")


def test_plugin_removed_in_the_ui(ready: Dify) -> None:
    """Its models are told to lack it, and are back with it: Dify keeps them. Absent is absent twice."""
    behaviour = "plugin removed in the UI"
    if not ready.able.plugins:
        note(ready.version, behaviour, "no such thing")
        return
    ready.lab.console.uninstall_plugin()
    for check in (True, False):
        lost = ready.models(check)
        assert lost.failed
        assert "lists no provider" in lost.result["msg"]
        assert "module dify_plugin" in lost.result["msg"]
    package = ready.folder / "xinference.difypkg"
    package.write_bytes(build.plugin_package("0.0.15"))
    plugin = {"id": "langgenius/xinference", "version": "0.0.15", "source": "package", "package": str(package), "provider": PROVIDER}
    assert ready("dify_plugin", **plugin).result["action"] == "install"
    assert not ready.models().result["changed"]
    runs = [ready("dify_plugin", check, id="langgenius/xinference", state="absent") for check in (True, False, False)]
    assert [(run.failed, run.result["changed"]) for run in runs] == [(False, True), (False, True), (False, False)]
    note(ready.version, behaviour, "verdict; models are back with it")


def test_plugin_from_the_marketplace(dify_lab: Callable[..., Lab], version: str, tmp_path: pathlib.Path) -> None:
    """The newest, the newest by its number, and an older number, which cannot be looked up there."""
    dify = Dify(dify_lab(version, plugin=None), version, tmp_path)
    if not dify.able.plugins:
        return
    newest = {"id": "langgenius/xinference", "provider": PROVIDER}
    runs = [dify("dify_plugin", check, **newest) for check in (True, False, False)]
    assert [(run.failed, run.result["changed"]) for run in runs] == [(False, True), (False, True), (False, False)], runs
    assert runs[1].result["version"] == "0.0.16"
    pinned = [dify("dify_plugin", **newest, version="0.0.16").result for _run in range(2)]
    assert [(result["action"], result["changed"]) for result in pinned] == [("none", True), ("none", False)], "the pin comes with the version"
    older = dify("dify_plugin", **newest, version="0.0.14")
    assert "offers langgenius/xinference 0.0.16 as its newest, not 0.0.14" in older.result["msg"]
    unknown = dify("dify_plugin", id="langgenius/nowhere")
    assert "the marketplace knows no plugin langgenius/nowhere" in unknown.result["msg"]
    VERDICTS["version that the marketplace does not offer"] = older.result["msg"]


def test_plugin_upgrade_leaves_ciphertext_that_is_found_and_replaced(dify_lab: Callable[..., Lab], version: str, tmp_path: pathlib.Path) -> None:
    """The address was a secret up to plugin 0.0.4. After 24 h Dify shows what it had sealed."""
    behaviour = "after an upgrade of the plugin from 0.0.4"
    lab = dify_lab(version, plugin=None)
    dify = Dify(lab, version, tmp_path)
    if not dify.able.plugins:
        note(version, behaviour, "no such thing")
        return
    lab.console.install_plugin(build.plugin_package("0.0.4", secret_url=True))
    assert not dify.models().failed
    assert not dify.models().result["changed"]
    lab.console.install_plugin(build.plugin_package("0.0.15"))
    lab.cache.delete_prefix("provider_model")
    shown = dify("dify_info", gather=["models"]).result["models"]
    assert all(model["credentials"]["server_url"].startswith("SFlCUklEO") for model in shown)
    repaired_in_one_run(dify, behaviour, dict.fromkeys(dify.uids, "update"))


def test_models_made_before_credentials_had_names_are_still_ours_to_prune(dify_lab: Callable[..., Lab], tmp_path: pathlib.Path) -> None:
    """From 1.8 on they have one that an upgrade gave them; what this host remembers says whose they are."""
    dify = Dify(dify_lab("1.7.2"), "1.7.2", tmp_path)
    dify.lab.console.add_model("sec-chat", "llm", api_key=dify.key)
    assert not dify.models().failed
    dify.lab.become("1.9.2")
    newer = Dify(dify.lab, "1.9.2", tmp_path)
    assert not newer.models().result["changed"]
    pruned = newer.models(models=newer.wanted("qwen3-chat"), default_models={}, prune=True)
    assert actions(pruned) == dict.fromkeys(newer.uids[1:], "delete"), pruned.text
    assert sorted(name for name, _kind in newer.lab.console.models()) == ["qwen3-chat", "sec-chat"]


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


def test_upgrade_leaves_ciphertext_that_is_found_and_replaced(dify_lab: Callable[..., Lab], version: str, tmp_path: pathlib.Path) -> None:
    """Recorded from 0.15.8 to 1.16.1. That other releases from 1.0 on find the same database in the same state is an assumption."""
    behaviour = "after an upgrade from 0.15.8"
    if not capabilities(version).plugins:
        note(version, behaviour, "no such thing")
        return
    old = Dify(dify_lab("0.15.8"), "0.15.8", tmp_path)
    assert not old.models().failed
    lab = old.lab
    lab.become(version)
    lab.console.install_plugin(build.plugin_package("0.0.15"))
    lab.cache.delete_prefix("provider_model")  # a day later: before 1.8 what was opened once is remembered under the same name
    dify = Dify(lab, version, tmp_path)
    shown = dify("dify_info", gather=["models"]).result["models"]
    assert all(model["status"] == "active" and model["credentials"]["server_url"].startswith("SFlCUklEO") for model in shown)
    predicted = dify.models(True)
    assert {item["reason"] for item in predicted.result["models"]} == {"server_url is ciphertext, which an upgrade left (Dify 0.15, or plugin 0.0.4)"}
    repaired_in_one_run(dify, behaviour, dict.fromkeys(dify.uids, "update"))
    for uid in dify.uids:
        found = lab.console.credentials(uid, MODELS[uid])
        assert found["credentials"]["server_url"] == lab.xinference_url
        if dify.able.credential_records:
            assert [item["credential_name"] for item in found["available_credentials"]][-1:] == ["ansible"]
