# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The API's side of the plugin daemon, and of the marketplace that packages come from."""

from __future__ import annotations

import http.client
import json
import secrets
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from .config import Settings
from .errors import Internal, invalid, plugin_error
from .generations import Generation
from .http import HttpError


class DaemonClient:
    """Calls the daemon; every failure comes out as the answer that the API gives for it."""

    def __init__(self, settings: Settings, generation: Generation) -> None:
        self.settings = settings
        self.generation = generation

    def _request(self, method: str, path: str, query: dict[str, str] | None, body: bytes | None, kind: str) -> dict[str, Any]:
        parts = urllib.parse.urlsplit(self.settings.plugin_daemon_url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=self.settings.plugin_daemon_timeout)
        target = f"/{path}?{urllib.parse.urlencode(query)}" if query else f"/{path}"
        headers = {"X-Api-Key": self.settings.plugin_daemon_key, "Content-Type": kind}
        try:
            connection.request(method, target, body=body, headers=headers)
            response = connection.getresponse()
            return json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise invalid(f"Failed to request plugin daemon, url: {path}") from error
        finally:
            connection.close()

    def call(self, method: str, path: str, body: Any = None, query: dict[str, str] | None = None) -> Any:
        """The ``data`` of the answer; ``path`` without leading slash, as the API's messages show it."""
        content = None if body is None else json.dumps(body).encode()
        return self._data(self._request(method, path, query, content, "application/json"))

    def _data(self, answer: dict[str, Any], upload: bool = False) -> Any:
        if answer.get("code") == 0:
            return answer["data"]
        kind, message, number = answer.get("error_type", ""), answer.get("message", ""), secrets.token_hex(5)
        if kind == "PluginError":
            # Up to 1.9 a refused installation is a bad parameter (seen on real servers, not recorded); uploads as in 1.16.1.
            if upload or self.generation.checks == "pydantic":
                raise plugin_error(message)
            raise invalid(f"req_id: {number} PluginDaemonBadRequestError: {message}")
        if kind == "CredentialsValidateFailedError":
            raise invalid(message)
        if kind == "PluginInvokeError" and not self.generation.invoke_error_is_500:
            raise invalid(f"req_id: {number} PluginInvokeError: {message}")
        raise Internal(f"{kind}: {message}")

    def management(self, method: str, tenant: str, path: str, body: Any = None, query: dict[str, str] | None = None) -> Any:
        return self.call(method, f"plugin/{tenant}/management/{path}", body, query)

    def upload(self, tenant: str, content: bytes) -> Any:
        mark = secrets.token_hex(16)
        head = f'--{mark}\r\nContent-Disposition: form-data; name="dify_pkg"; filename="dify_pkg"\r\nContent-Type: application/octet-stream\r\n\r\n'
        body = head.encode() + content + f"\r\n--{mark}--\r\n".encode()
        path = f"plugin/{tenant}/management/install/upload/package"
        return self._data(self._request("POST", path, None, body, f"multipart/form-data; boundary={mark}"), upload=True)

    def dispatch(self, tenant: str, path: str, body: dict[str, Any]) -> Any:
        return self.call("POST", f"plugin/{tenant}/dispatch/{path}", body)

    def has_package(self, tenant: str, identifier: str) -> bool:
        try:
            self.management("GET", tenant, "fetch/manifest", query={"plugin_unique_identifier": identifier})
        except HttpError:
            return False
        return True


class Marketplace:
    """Three tries, then the recorded error; a 404 is ``file not found``."""

    TRIES = 3

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def _open(self, url: str, body: bytes | None = None) -> bytes:
        for attempt in range(self.TRIES):
            request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=self.settings.marketplace_timeout) as response:  # the address is the operator's
                    return response.read()
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    raise invalid("file not found") from error
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(self.settings.marketplace_retry_pause * 2**attempt)
        raise invalid(f"Reached maximum retries ({self.TRIES}) for URL {url}")

    def download(self, identifier: str) -> bytes:
        query = urllib.parse.urlencode({"unique_identifier": identifier})
        return self._open(f"{self.settings.marketplace_api_url}/api/v1/plugins/download?{query}")

    def latest(self, plugin_ids: list[str]) -> dict[str, Any]:
        """plugin id -> its newest version, or None when the marketplace does not know it; raises HttpError when unreachable."""
        body = json.dumps({"plugin_ids": plugin_ids}).encode()
        answer = json.loads(self._open(f"{self.settings.marketplace_api_url}/api/v1/plugins/batch", body))
        found = {plugin["plugin_id"]: plugin for plugin in answer["data"]["plugins"]}
        result: dict[str, Any] = {}
        for plugin_id in plugin_ids:
            plugin = found.get(plugin_id)
            result[plugin_id] = plugin and {
                "plugin_id": plugin_id,
                "version": plugin.get("latest_version", ""),
                "unique_identifier": plugin.get("latest_package_identifier", ""),
                "status": plugin.get("status", "active"),
                "deprecated_reason": plugin.get("deprecated_reason", ""),
                "alternative_plugin_id": plugin.get("alternative_plugin_id", ""),
            }
        return result
