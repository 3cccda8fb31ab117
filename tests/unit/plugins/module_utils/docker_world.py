# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A dockerd that is played, for unit tests."""

from __future__ import annotations

import json
import time

from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_host import HostError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_plan import Unit


class Dockerd:
    """Behaves as measured: a reload applies what it can, keeps the value of keys that are gone, and never complains."""

    def __init__(self, path, active=True, installed=True):
        self.path = path
        self.active = active
        self.installed = installed
        self.started = time.time() - 100
        self.live = {}
        self.actions = []
        self.containers = 0
        self.deaf = False
        self.fails = ()
        self.complaint = None
        self.log = ""
        self.more = {}
        if active:
            self._load(fresh=True)

    def _load(self, fresh):
        text = self.path.read_text(encoding="utf-8-sig") if self.path.exists() else ""
        document = json.loads(text) if text.strip() else {}
        self.live = document if fresh else {**self.live, **document}

    def unit(self):
        return Unit(self.installed, self.active, self.started if self.active else 0.0, {}, ["dockerd"])

    def info(self):
        if not self.active:
            raise HostError("no socket")
        return {
            "RegistryConfig": {"Mirrors": [mirror + "/" for mirror in self.live.get("registry-mirrors", [])]},
            "LiveRestoreEnabled": self.live.get("live-restore", False),
            "Runtimes": {"runc": {}, **(self.live.get("runtimes") or {})},
            "DefaultRuntime": self.live.get("default-runtime", "runc"),
            "Labels": self.live.get("labels", []),
            "Debug": self.live.get("debug", False),
            "ContainersRunning": self.containers,
            "LoggingDriver": self.live.get("log-driver", "json-file"),
            "DockerRootDir": self.live.get("data-root", "/var/lib/docker"),
            **self.more,
        }

    def wait_for_info(self, timeout=0.0):
        return self.info()

    def act(self, verb):
        self.actions.append(verb)
        if verb in self.fails:
            self.fails = ()
            self.active = False
            if verb == "reload":
                return
            raise HostError(f"systemctl {verb} failed")
        if verb == "reload":
            if not self.deaf:
                self._load(fresh=False)
            return
        self.active = True
        self.started = time.time()
        self._load(fresh=True)

    def validate(self, text, unit, new_keys=()):
        return self.complaint

    def last_errors(self):
        return "level=error"

    def reload_errors(self, since):
        return self.log

    def knows_plugin(self, name):
        return name == "known"
