# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role and the modules as ``ansible-playbook -vvv --diff`` runs them, while every command line of the machine is watched."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _dify_env, _dify_layout

from tests.contract.dify_generations.world import KEY, MODELS, OTHER_KEY
from tests.fleet.standins.dify import build
from tests.fleet.standins.dify.lab import Lab

ROOT = pathlib.Path(__file__).resolve().parents[2]
WRONG = "Wr0ng-Passw0rd-of-this-test"
GATEWAY_KEY = "gw-0123456789abcdef"

PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars_files: ["{{ lab_file }}"]
  vars: {ansible_python_interpreter: "{{ ansible_playbook_python }}"}
  tasks:
    - name: The role, as site.yml includes it
      ansible.builtin.include_role:
        name: llmops.dify_xinference.dify_models
      vars:
        dify_models: "{{ lab.models }}"
        dify_default_models: "{{ lab.defaults }}"
        dify_xinference_plugin: "{{ lab.plugin }}"
    - name: The same by a login
      llmops.dify_xinference.dify_info:
        url: "{{ lab.url }}"
        email: "{{ lab.email }}"
        password: "{{ lab.password }}"
        session_file: "{{ lab.folder }}/session.json"
        models: "{{ lab.models }}"
    - name: A refused login
      llmops.dify_xinference.dify_models:
        url: "{{ lab.url }}"
        email: "{{ lab.email }}"
        password: "{{ lab.wrong }}"
        models: "{{ lab.models }}"
      ignore_errors: true
    - name: A key where none is expected, and a server that refuses it
      llmops.dify_xinference.dify_models:
        url: "{{ lab.url }}"
        admin_key: "{{ lab.admin_key }}"
        provider: example/endpoint/endpoint
        models:
          - {model: m, model_type: llm, credentials: {endpoint_url: "{{ lab.xinference }}/v1", api_key: "{{ lab.gateway_key }}"}}
      ignore_errors: true
"""


class Watch:
    """Everything that stood on a command line of this machine while it ran."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._stop = threading.Event()

    def _look(self) -> None:
        while not self._stop.wait(0.1):
            for entry in os.scandir("/proc"):
                if entry.name.isdigit():
                    with contextlib.suppress(OSError):
                        self.seen.add(pathlib.Path(entry.path, "cmdline").read_bytes().decode("utf-8", "replace"))

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        self._stop.clear()
        thread = threading.Thread(target=self._look, daemon=True)
        thread.start()
        yield
        self._stop.set()
        thread.join()


def lab_variables(lab: Lab, folder: pathlib.Path, key: str) -> dict[str, Any]:
    package = folder / "xinference.difypkg"
    package.write_bytes(build.plugin_package("0.0.15"))
    (folder / "secrets.json").write_text(json.dumps({"ADMIN_API_KEY": lab.admin_key, "ADMIN_PASSWORD": lab.password}))
    models = [{"model_uid": uid, "model_type": kind, "server_url": lab.xinference_url, "api_key": key} for uid, kind in MODELS.items()]
    endpoint = {"url": lab.url, "admin_key_file": str(folder / "secrets.json"), "workspace_id": lab.tenant, "ready": True}
    values = {
        "url": lab.url,
        "xinference": lab.xinference_url,
        "email": lab.email,
        "password": lab.password,
        "wrong": WRONG,
        "admin_key": lab.admin_key,
        "gateway_key": GATEWAY_KEY,
        "folder": str(folder),
        "models": models,
        "defaults": {kind: uid for uid, kind in MODELS.items()},
        "plugin": {"id": "langgenius/xinference", "version": "0.0.15", "source": "package", "package": str(package)},
    }
    return {"lab": values, "dify_endpoint": endpoint}


SERVERS = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars_files: ["{{ lab_file }}"]
  vars: {ansible_python_interpreter: "{{ ansible_playbook_python }}"}
  tasks:
    - name: What runs on servers outside the inventory
      ansible.builtin.include_role:
        name: llmops.dify_xinference.dify_models
      vars:
        dify_models_servers:
          - {url: "{{ lab.xinference }}", api_key: "{{ lab.models[0].api_key }}"}
          - {url: "http://127.0.0.1:9", api_key: "{{ lab.gateway_key }}", name: gone}
        dify_models_prune: true
        dify_xinference_plugin: "{{ lab.plugin }}"
"""


def plain_environment() -> dict[str, str]:
    """Without this run's own variables of Ansible, and with the checkout's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "DIFY_"))}
    return {**kept, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0"}


class Plays:
    """One instance, and what playbooks that ran against it printed. ``watch``: the command lines meanwhile."""

    def __init__(self, lab: Lab, folder: pathlib.Path) -> None:
        self.lab, self.folder = lab, folder
        self.watch = Watch()
        self.output = ""

    def __call__(self, play: str, key: str, *arguments: str) -> int:
        """Tasks that changed something."""
        (self.folder / "play.yml").write_text(play)
        variables = self.folder / "lab.json"
        variables.write_text(json.dumps(lab_variables(self.lab, self.folder, key)))
        ansible = pathlib.Path(sys.executable).with_name("ansible-playbook")
        command = [str(ansible), "-i", "localhost,", "-vvv", "--diff", str(self.folder / "play.yml"), "-e", f"lab_file={variables}", *arguments]
        with self.watch():
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=plain_environment())
        self.output += done.stdout + done.stderr
        assert done.returncode == 0, done.stdout[-4000:]
        recap = re.search(r"changed=(\d+)", done.stdout)
        assert recap
        return int(recap[1])


def test_role_prints_no_secret_and_asks_little(dify_lab: Callable[..., Lab], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    lab = dify_lab("1.16.1")
    lab.console.install_plugin(build.endpoint_package())
    lab.xinference.guarded, lab.xinference.keys = None, {KEY, OTHER_KEY}
    plays = Plays(lab, tmp_path)
    role = PLAY.split("    - name: The same by a login")[0]

    assert plays(PLAY, KEY) == 2, "the plugin's pin, the models"
    with lab.counted() as requests:
        assert plays(role, KEY) == 0
    assert plays(role, OTHER_KEY, "--check") == 1

    # The plugin's module sends four, of which one finds the version; then one for the list, one per model, one per default.
    assert len(requests) == 4 + 1 + len(MODELS) + len(MODELS), requests
    with capsys.disabled():
        print(f"\nrole dify_models, second run: {len(requests)} requests, 4 of them for the plugin, with {len(MODELS)} models and {len(MODELS)} defaults")

    # The watch and the output hold what would show a secret: the modules were seen, and told what they had been called with.
    assert any("AnsiballZ_dify_models" in line for line in plays.watch.seen)
    assert "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER" in plays.output
    assert "status code 401" in plays.output
    assert "HTTP 401 authentication_failed" in plays.output
    secrets = {"key": KEY, "new key": OTHER_KEY, "gateway's key": GATEWAY_KEY, "password": lab.password, "wrong password": WRONG, "admin key": lab.admin_key}
    assert [name for name, secret in secrets.items() if secret in plays.output] == []
    assert [name for name, secret in secrets.items() if any(secret in line for line in plays.watch.seen)] == []
    assert not any(lab.email in line or lab.password in line for line in lab.requests), "neither is ever part of a URL"


def test_what_a_server_runs_is_registered_without_being_declared(dify_lab: Callable[..., Lab], tmp_path: pathlib.Path) -> None:
    """Kinds, abilities and defaults follow from what ``xinference_info`` reports; a server that is down is left out, and nothing is pruned."""
    lab = dify_lab("1.16.1")
    lab.xinference.guarded, lab.xinference.keys = None, {KEY}
    lab.xinference.models["qwen3-chat"]["model_ability"] = ["chat", "tools", "vision"]
    lab.xinference.models["whisper"]["model_ability"] = ["audio2text"]
    lab.xinference.models["cosyvoice"]["model_ability"] = ["text2audio"]
    lab.xinference.models["flux"] = {"model_type": "image"}
    del lab.xinference.models["slow-chat"]
    lab.console.add_model("old", "llm", name="ansible", model_uid="sec-chat", api_key=KEY)
    plays = Plays(lab, tmp_path)
    assert plays(SERVERS, KEY) == 2
    assert set(lab.console.models()) == {*MODELS.items(), ("sec-chat", "llm"), ("old", "llm")}
    assert {kind: lab.console.default(kind) for kind in MODELS.values()} == {kind: uid for uid, kind in MODELS.items()}
    shown = lab.console.call("GET", f"model-providers/{lab.provider}/models")["data"]
    assert next(model["features"] for model in shown if model["model"] == "qwen3-chat") == ["tool-call", "vision"]
    told = " ".join(plays.output.split())  # YAML wraps lines
    assert re.search(r"flux on 127\.0\.0\.1 is left out: Dify\S+ Xinference provider takes no image models", told)
    assert re.search(r"gone is left out: GET http://127\.0\.0\.1:9/\S+ no answer: .{0,40}refused", told)
    assert plays(SERVERS, KEY) == 0
    # A model that learned to call tools since is registered anew, as Dify asks only then.
    lab.xinference.models["sec-chat"]["model_ability"] = ["chat", "tools"]
    lab.forget_uids()
    assert plays(SERVERS, KEY) == 1
    shown = lab.console.call("GET", f"model-providers/{lab.provider}/models")["data"]
    assert next(model["features"] for model in shown if model["model"] == "sec-chat") == ["tool-call"]
    assert not any(secret in plays.output for secret in (KEY, GATEWAY_KEY, lab.admin_key))


def test_role_dify_hands_a_package_index_to_the_plugin_daemon(tmp_path: pathlib.Path) -> None:
    """Where a release's compose file has no place for one of the two variables, the role's own file has to hand it on."""
    play = tmp_path / "play.yml"
    show = {"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": {"dify_plugin_index_url": "https://pypi.example.com/simple"}}
    show["vars_files"] = [str(ROOT / "roles" / "dify" / "defaults" / "main.yml"), str(ROOT / "roles" / "dify" / "vars" / "main.yml")]
    show["tasks"] = [{"ansible.builtin.copy": {"content": "{{ __dify_settings | to_json }}", "dest": str(tmp_path / "settings.json"), "mode": "0600"}}]
    show["vars"]["ansible_python_interpreter"] = sys.executable
    play.write_text(json.dumps([{**show}]))
    ansible = pathlib.Path(sys.executable).with_name("ansible-playbook")
    extra = json.dumps({"dify_plugin_index_url": "https://pypi.example.com/simple"})
    done = subprocess.run(
        [str(ansible), "-i", "localhost,", str(play), "-e", extra], cwd=ROOT, capture_output=True, text=True, timeout=120, env=plain_environment()
    )
    assert done.returncode == 0, done.stdout + done.stderr
    settings = json.loads((tmp_path / "settings.json").read_text())
    wanted = {"PIP_MIRROR_URL": "https://pypi.example.com/simple", "PLUGIN_IGNORE_UV_LOCK": "true"}
    assert {name: settings.get(name) for name in wanted} == wanted
    for release, handed_on in (("release", []), ("release-1.9.2", ["PLUGIN_IGNORE_UV_LOCK"])):
        compose = (ROOT / "tests" / "fleet" / "standins" / "dify" / release / "docker" / "docker-compose.yaml").read_text()
        assert _dify_layout.not_handed_on(wanted, _dify_env.references(compose), _dify_layout.read(compose)) == handed_on, release
