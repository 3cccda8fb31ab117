# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Plugins of a Dify workspace: what is installed, how to get from there to a wanted version, and whether it really came.

``install`` with another version present answers success and changes nothing; a finished task does not prove that the
provider works. So versions are compared here, and the provider must be listed at the end.
"""

from __future__ import annotations

import time
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify import DifyClient, DifyError, DifyUsageError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_versions import provider_id
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import shorten
from ansible_collections.llmops.dify_xinference.plugins.module_utils._wait import WaitTimeout, wait_for

# Installing builds a Python environment from an index; the daemon itself gives up after 15 minutes.
TASK_TIMEOUT = 1200.0
# How Dify says that its api container did not reach the marketplace.
NO_MARKETPLACE = "Reached maximum retries"
WITHOUT_MARKETPLACE = "Without a marketplace, use source: package with a .difypkg, or source: github."


class PluginError(Exception):
    """The plugin is not what it should be; the message says what was found and what to do."""


class Identifier(t.NamedTuple):
    """``langgenius/xinference:0.0.15@<hash>``, taken apart."""

    text: str
    plugin_id: str
    version: str

    @classmethod
    def parse(cls, text: str) -> Identifier:
        name, _unused, rest = text.partition(":")
        version = rest.split("@", 1)[0]
        if not name or not version:
            raise PluginError(f"{text!r} is no plugin identifier")
        return cls(text, name, version)


def plan_plugin(installed: str | None, version: str | None) -> str:
    """``none``, ``install`` or ``upgrade`` (which also goes down). ``version`` ``None``: any version will do."""
    if installed is None:
        return "install"
    return "none" if version in (None, "", installed) else "upgrade"


def pinned_settings(found: dict[str, t.Any], plugin_id: str) -> dict[str, t.Any] | None:
    """Auto-upgrade settings under which ``plugin_id`` stays where it is, or ``None`` when it already does.

    Only this plugin is taken out; whatever the administrators chose for others stays.
    """
    strategy, mode = found.get("strategy_setting"), found.get("upgrade_mode")
    excluded, included = list(found.get("exclude_plugins") or []), list(found.get("include_plugins") or [])
    if strategy == "disabled":
        return None
    if mode == "exclude":
        if plugin_id in excluded:
            return None
        return {**found, "exclude_plugins": [*excluded, plugin_id]}
    if mode == "partial":
        if plugin_id not in included:
            return None
        return {**found, "include_plugins": [item for item in included if item != plugin_id]}
    return {**found, "upgrade_mode": "exclude", "exclude_plugins": [plugin_id]}


class Plugins:
    """Calls about plugins. ``on_wait`` is called with a line of progress while a task runs."""

    def __init__(
        self,
        client: DifyClient,
        task_timeout: float = TASK_TIMEOUT,
        sleep: t.Callable[[float], None] = time.sleep,
        clock: t.Callable[[], float] = time.monotonic,
    ) -> None:
        self.client = client
        self.task_timeout = task_timeout
        self._preferences: dict[str, t.Any] = {}
        self.sleep = sleep
        self.clock = clock

    def installed(self, plugin_id: str) -> dict[str, t.Any] | None:
        """The installation record (``version``, ``plugin_unique_identifier``, ``id``, ``source``), or ``None``."""
        if not self.client.capabilities.plugins:
            raise DifyUsageError(f"Dify {self.client.version} has no plugins (they came with 1.0.0), and no built-in provider of that name either")
        answer = self.client.workspace("POST", "/plugin/list/installations/ids", json={"plugin_ids": [plugin_id]})
        for item in (answer or {}).get("plugins") or []:
            if item.get("plugin_id") == plugin_id:
                return item
        return None

    @property
    def supported(self) -> bool:
        return self.client.capabilities.plugins

    def built_in(self, plugin_id: str, provider: str | None) -> bool:
        """Before 1.0: whether what the plugin would bring is there already, as a built-in provider."""
        name = provider_id(provider, self.client.capabilities) if provider else plugin_id
        return self.provider_listed(name.split("/")[-1])

    def marketplace_identifier(self, plugin_id: str, version: str | None) -> Identifier:
        """The marketplace's identifier of the newest version. Another version cannot be looked up through Dify."""
        answer = self.client.workspace("POST", "/plugin/list/latest-versions", json={"plugin_ids": [plugin_id]})
        newest = ((answer or {}).get("versions") or {}).get(plugin_id)
        if not newest or not newest.get("unique_identifier"):
            raise PluginError(f"the marketplace knows no plugin {plugin_id}, or Dify cannot reach it. {WITHOUT_MARKETPLACE}")
        identifier = Identifier.parse(newest["unique_identifier"])
        if version and identifier.version != version:
            raise PluginError(
                f"the marketplace offers {plugin_id} {identifier.version} as its newest, not {version}. Set that version, give the other one's "
                f"identifier (name:version@hash) as identifier. {WITHOUT_MARKETPLACE}"
            )
        return identifier

    def upload(self, filename: str, content: bytes) -> Identifier:
        """Hand a ``.difypkg`` to Dify; repeatable. Signature and size are checked there."""
        answer = self.client.upload("/workspaces/current/plugin/upload/pkg", "pkg", filename, content, "application/octet-stream")
        return Identifier.parse(str((answer or {}).get("unique_identifier") or ""))

    def install(self, identifier: Identifier, source: str) -> None:
        path = "/plugin/install/marketplace" if source == "marketplace" else "/plugin/install/pkg"
        self._finish(self._post(path, {"plugin_unique_identifiers": [identifier.text]}))

    def _post(self, path: str, body: dict[str, t.Any]) -> t.Any:
        try:
            return self.client.workspace("POST", path, json=body)
        except DifyError as error:
            if NO_MARKETPLACE not in error.message:
                raise
            raise PluginError(f"Dify cannot reach the marketplace from its api container ({shorten(error.message, 120)}). {WITHOUT_MARKETPLACE}") from error

    def upgrade(self, original: str, identifier: Identifier, source: str) -> None:
        """Replace one version by another, up or down. For packages the GitHub relay is used: it needs no network."""
        body = {"original_plugin_unique_identifier": original, "new_plugin_unique_identifier": identifier.text}
        if source == "marketplace":
            answer = self._post("/plugin/upgrade/marketplace", body)
        else:
            name = identifier.plugin_id
            body.update({"repo": name, "version": identifier.version, "package": f"{name.split('/')[-1]}.difypkg"})
            answer = self._post("/plugin/upgrade/github", body)
        self._finish(answer)

    def uninstall(self, installation_id: str) -> None:
        self.client.workspace("POST", "/plugin/uninstall", json={"plugin_installation_id": installation_id})

    def _finish(self, answer: t.Any) -> None:
        task_id = (answer or {}).get("task_id")
        if not task_id:
            return  # all_installed: nothing to wait for; the caller compares versions
        # To the very end: reading the finished task is also what drops Dify's cached provider list.
        try:
            task = wait_for(
                lambda: (self.client.workspace("GET", f"/plugin/tasks/{task_id}") or {}).get("task") or {},
                lambda seen: seen.get("status") in ("success", "failed"),
                "the end of the plugin's installation",
                self.task_timeout,
                interval=0.3,  # a package without new requirements is in at once
                clock=self.clock,
                sleep=self.sleep,
            )
        except WaitTimeout as error:
            raise PluginError(
                f"the plugin daemon did not finish installing within {self.task_timeout:.0f} s (status {error.last.get('status')}). "
                "It downloads the plugin's Python packages: set PIP_MIRROR_URL to an index it can reach, and look at: docker compose logs plugin_daemon"
            ) from error
        if task.get("status") == "failed":
            messages = "; ".join(shorten(str(item.get("message") or ""), 300) for item in task.get("plugins") or [])
            raise PluginError(f"the plugin daemon could not install it: {messages or 'no reason given'}. Look at: docker compose logs plugin_daemon")

    def provider_listed(self, provider: str) -> bool:
        name = provider_id(provider, self.client.capabilities)
        return any(item.get("provider") == name for item in self.client.providers())

    def auto_upgrade(self) -> dict[str, t.Any] | None:
        """The workspace's auto-upgrade settings (for model plugins, where Dify has them by category); ``None`` before 1.7."""
        where = self.client.capabilities.auto_upgrade
        if not where:
            return None
        if where == "category":
            return (self.client.workspace("GET", "/plugin/auto-upgrade/fetch", category="model") or {}).get("auto_upgrade")
        self._preferences = self.client.workspace("GET", "/plugin/preferences/fetch") or {}
        return self._preferences.get("auto_upgrade")

    def set_auto_upgrade(self, settings: dict[str, t.Any]) -> None:
        """After :meth:`auto_upgrade`: where both live in one record, the permissions are sent back as they were."""
        if self.client.capabilities.auto_upgrade == "category":
            answer = self.client.workspace("POST", "/plugin/auto-upgrade/change", json={"category": "model", "auto_upgrade": settings})
        else:
            answer = self.client.workspace("POST", "/plugin/preferences/change", json={**self._preferences, "auto_upgrade": settings})
        if isinstance(answer, dict) and answer.get("success") is False:
            raise PluginError(f"Dify refused to take the plugin out of its automatic upgrades: {answer.get('message')}")


__all__ = ["DifyError", "Identifier", "PluginError", "Plugins", "pinned_settings", "plan_plugin"]
