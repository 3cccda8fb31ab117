# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stand-in for the hubs (it lies with the integration tests, which send it to hosts), as a fixture of the tests here."""

from __future__ import annotations

import importlib.util
import pathlib
import types
import typing as t

SOURCE = pathlib.Path(__file__).resolve().parent.parent / "integration/targets/setup_hubs_standin/files/hubs_standin.py"


def load() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("hubs_standin", SOURCE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Hubs:
    """One running stand-in."""

    def __init__(self) -> None:
        self.code = load()
        self.server = self.code.serve()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.files: dict[str, bytes] = self.code.FIRST
        self.second: dict[str, bytes] = self.code.SECOND
        self.token: str = self.code.TOKEN

    @property
    def log(self) -> list[dict[str, t.Any]]:
        return list(self.server.state.log)

    def forget(self) -> None:
        self.server.state.log.clear()
        self.server.state.faults.clear()

    def fail(self, *faults: dict[str, t.Any]) -> None:
        self.server.state.faults[:] = [dict(fault) for fault in faults]

    def upgrade(self) -> None:
        """main and master of acme/tiny mean its second commit now."""
        self.server.state.heads["acme/tiny"] = 1

    def sent(self, part: str) -> int:
        """Bytes of files that went out for paths with ``part`` in them."""
        return sum(entry["sent"] for entry in self.log if part in entry["path"])

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
