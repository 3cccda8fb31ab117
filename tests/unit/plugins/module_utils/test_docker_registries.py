# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import json

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _docker_registries as registries

GHCR = {"ghcr.io": [{"url": "https://ghcr.m.daocloud.io"}]}


def test_a_prefix_service_overrides_the_path_and_the_registry_itself_comes_last():
    text = registries.hosts_toml("docker.io", [{"url": "https://m.daocloud.io/v2/docker.io"}, {"url": "http://10.0.0.5:5000/"}])
    assert text.splitlines()[1:] == [
        'server = "https://registry-1.docker.io"',
        "",
        '[host."https://m.daocloud.io/v2/docker.io"]',
        '  capabilities = ["pull", "resolve"]',
        "  override_path = true",
        "",
        '[host."http://10.0.0.5:5000"]',
        '  capabilities = ["pull", "resolve"]',
    ]


@pytest.mark.parametrize("url", ["mirror.example", "https://user:secret@mirror.example", 'https://a"b', ""])
def test_what_is_no_mirror_is_refused_without_its_password(url):
    with pytest.raises(registries.RegistryError, match="is no URL") as caught:
        registries.hosts_toml("ghcr.io", [{"url": url}])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("version", "store", "words"),
    [("29.0.0", True, ""), ("30.1", True, ""), ("28.5.2", True, "29.0 is needed"), ("29.8.0", False, "old store"), ("", True, "unknown version")],
)
def test_which_engine_reads_the_files(version, store, words):
    refusal = registries.hosts_refusal(version, store)
    assert words in refusal
    assert bool(refusal) == bool(words)


def test_only_what_differs_is_written_and_only_ours_is_removed():
    text = registries.hosts_toml("ghcr.io", GHCR["ghcr.io"])
    assert registries.plan_hosts(GHCR, {}) == {"ghcr.io": text}
    assert registries.plan_hosts(GHCR, {"ghcr.io": text}) == {}
    assert registries.plan_hosts({}, {"ghcr.io": text, "quay.io": 'server = "https://quay.io"'}) == {"ghcr.io": None}
    with pytest.raises(registries.RegistryError, match="somebody else's"):
        registries.plan_hosts(GHCR, {"ghcr.io": "server = 1"})
    with pytest.raises(registries.RegistryError, match="is no registry"):
        registries.plan_hosts({"../etc": []}, {})


def config(registry, account):
    return json.dumps({"auths": {registry: {"auth": base64.b64encode(account.encode()).decode()}}, "other": 1})


def test_an_account_that_is_there_is_not_asked_for_again():
    text = config("registry.example:5000", "me:pa:ss")
    assert registries.logged_in(text, "registry.example:5000", "me", "pa:ss")
    assert not registries.logged_in(text, "registry.example:5000", "me", "new")
    assert registries.logged_in(config(registries.HUB_KEY, "me:x"), "docker.io", "me", "x")
    for broken in ("", "{", '{"auths": {"registry.example:5000": {}}, "credsStore": "pass"}', '{"auths": 1}'):
        assert not registries.logged_in(broken, "registry.example:5000", "me", "pa:ss")


def test_only_the_named_account_is_forgotten():
    text = config("registry.example", "me:x")
    assert json.loads(registries.without_logins(text, ["registry.example"])) == {"auths": {}, "other": 1}
    assert registries.without_logins(text, ["ghcr.io"]) is None
    with pytest.raises(registries.RegistryError, match="not readable"):
        registries.without_logins("{", ["ghcr.io"])
