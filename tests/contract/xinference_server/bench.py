# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real server and the files of one host, and the collection's modules run on it by Ansible."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

from tests.contract.xinference_server.server import ACCOUNTS, Server, tiny_models

ROOT = pathlib.Path(__file__).resolve().parents[3]


def untemplated(value: Any) -> Any:
    """Ansible would run a chat template as one of its own; in an inventory one writes ``!unsafe``."""
    if isinstance(value, dict):
        return {key: untemplated(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [untemplated(entry) for entry in value]
    return "{% raw %}" + value + "{% endraw %}" if isinstance(value, str) and "{%" in value else value


class Bench:
    """``folder`` holds what would be in /opt/xinference on the host."""

    def __init__(self, server: Server, folder: pathlib.Path) -> None:
        self.server = server
        self.folder = folder
        self.credentials = folder / "credentials.json"
        self.state = folder / "launched.json"
        self.keeper = folder / "keeper.pyz"
        self.models = tiny_models(server.environment)

    # ---- running Ansible ------------------------------------------------------------------------------------

    def command(self, module: str, arguments: dict[str, Any], check: bool = False) -> tuple[list[str], dict[str, str]]:
        command = [str(pathlib.Path(sys.executable).with_name("ansible")), "localhost", "-c", "local", "-i", "localhost,"]
        # Not the environment's own link: Ansible takes an interpreter as words, and the checkout's folder may have spaces.
        python = {"ansible_python_interpreter": str(pathlib.Path(sys.executable).resolve())}
        command += ["-m", f"llmops.dify_xinference.{module}", "-a", json.dumps(arguments), "-e", json.dumps(python)]
        command += ["--check"] if check else []
        variables = dict(
            os.environ,
            ANSIBLE_COLLECTIONS_PATH=str(ROOT / "collections"),
            ANSIBLE_LOAD_CALLBACK_PLUGINS="1",
            ANSIBLE_STDOUT_CALLBACK="ansible.builtin.minimal",
            ANSIBLE_DEPRECATION_WARNINGS="0",
            ANSIBLE_CALLBACK_RESULT_FORMAT="json",
        )
        return command, variables

    def start(self, module: str, check: bool = False, **arguments: Any) -> subprocess.Popen[str]:
        arguments = {"url": self.server.url, "credentials_file": str(self.credentials), **untemplated(arguments)}
        if module == "xinference_keeper":
            arguments = {"path": str(self.keeper)}
        command, variables = self.command(module, arguments, check)
        return subprocess.Popen(
            command, env=variables, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def finish(self, process: subprocess.Popen[str], module: str) -> dict[str, Any]:
        output, errors = process.communicate(timeout=900)
        assert " => {" in output, output + errors
        result, _end = json.JSONDecoder().raw_decode(output, output.index(" => {") + 4)
        result["secrets_shown"] = [secret for secret in self.secrets() if secret in output and module != "xinference_setup"]
        result["by_uid"] = {row["uid"]: row for row in result.get("models", [])}
        return dict(result, output=output + errors, failed="FAILED!" in output)

    def run(self, module: str, check: bool = False, **arguments: Any) -> dict[str, Any]:
        return self.finish(self.start(module, check, **arguments), module)

    def setup(self, **arguments: Any) -> dict[str, Any]:
        return self.run("xinference_setup", log_file=str(self.server.log), data_dir=str(self.server.home), **arguments)

    def models_arguments(self, models: list[dict[str, Any]] | None = None, **arguments: Any) -> dict[str, Any]:
        return {"models": self.models if models is None else models, "state_file": str(self.state), "wait_timeout": 400, "concurrency": 2, **arguments}

    def converge(self, models: list[dict[str, Any]] | None = None, check: bool = False, **arguments: Any) -> dict[str, Any]:
        result = self.run("xinference_models", check, **self.models_arguments(models, **arguments))
        assert result["secrets_shown"] == []
        assert result.get("models") is not None, result["output"]
        return result

    def converge_failing(self) -> dict[str, Any]:
        result = self.run("xinference_models", **self.models_arguments())
        assert result["failed"]
        assert result["secrets_shown"] == []
        return result

    def info(self, **arguments: Any) -> dict[str, Any]:
        return self.run("xinference_info", **arguments)

    def interrupt(self, models: list[dict[str, Any]], seconds: float) -> None:
        """Ansible, and the module that it runs, are killed after so many seconds."""
        process = self.start("xinference_models", **self.models_arguments(models))
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)

    def run_keeper(self) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-S", str(self.keeper), "--url", self.server.url, "--state-file", str(self.state)]
        command += ["--credentials-file", str(self.credentials), "--timeout", "400"]
        return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)

    # ---- looking --------------------------------------------------------------------------------------------

    def secrets(self) -> list[str]:
        if not self.credentials.exists():
            return []
        content = json.loads(self.credentials.read_text())
        return [content["admin"]["password"], *[entry["key"] for entry in content.get("api_keys", {}).values()]]

    def key(self) -> str:
        """What users of the models send; before 3.0 a key of the accounts' file, and nothing without accounts."""
        if not self.server.auth:
            return ""
        keys = json.loads(self.credentials.read_text()).get("api_keys", {}) if self.credentials.exists() else {}
        if self.server.old and not keys:
            return str(ACCOUNTS["user_config"][1]["api_keys"][0])  # type: ignore[index]
        return str(keys["dify"]["key"])

    def ready(self) -> set[str]:
        return {row["uid"] for row in self.info(gather=[])["models"] if row["state"] == "ready"}

    def copies(self) -> int:
        """How many model processes there are on all workers, ghosts included."""
        return sum(len(row["replicas"]) or row["replica"] for row in self.info(gather=["replicas"])["models"] if row["state"] != "failed")


def actions(result: dict[str, Any]) -> dict[str, str]:
    return {uid: row["action"] for uid, row in result["by_uid"].items()}
