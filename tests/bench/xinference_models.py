# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ``xinference_models`` costs, as ratios to what it is compared with, measured side by side. Nothing is asserted.

``python -m tests.bench.xinference_models [ROUNDS]``

* Twenty running models and nothing to do: the module's task against a bare ``ansible.builtin.uri`` GET of ``/v1/models``, in
  turn in one play, and against one ``xinference list`` and one ``xinference launch`` of a running uid, the real CLI of 4.1.0.
* Launching K models that take some seconds each: wall time of the task against the slowest model.

The server is the stand-in of the integration tests (tests/contract holds it to recordings of the real one), because twenty real
models need 10 GB and their launches need more cores than there are. The CLI is the real one, if its environment was built
(``python tests/contract/xinference_server/environment.py 4.1.0``).
"""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from tests.contract.xinference_server import environment
from tests.contract.xinference_server.server import free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
STANDIN = ROOT / "tests" / "integration" / "targets" / "setup_xinference_standin" / "files" / "xinference_standin.py"
MODELS = [{"uid": f"m{number}x", "type": "embedding", "name": "bge-m3"} for number in range(20)]
SLOW_SECONDS = 20
SLOW_MODELS = 8


class Standin:
    def __init__(self, seconds: float = 0) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen([sys.executable, str(STANDIN), str(self.port)], env=dict(os.environ, XINFERENCE_STANDIN_SECONDS=str(seconds)))
        for _attempt in range(100):
            try:
                with urllib.request.urlopen(self.url + "/status", timeout=2):
                    return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("the stand-in did not come up")

    def __enter__(self) -> Standin:
        return self

    def __exit__(self, *unused: object) -> None:
        self.process.terminate()
        self.process.wait(10)


def play(folder: pathlib.Path, tasks: list[dict[str, object]]) -> list[dict[str, object]]:
    """One line per task: name, seconds, changed."""
    lines = folder / "seconds"
    lines.unlink(missing_ok=True)
    playbook = folder / "play.yml"
    playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    variables = dict(
        os.environ,
        ANSIBLE_COLLECTIONS_PATH=str(ROOT / "collections"),
        ANSIBLE_CALLBACK_PLUGINS=str(ROOT / "tests" / "bench" / "callbacks"),
        ANSIBLE_CALLBACKS_ENABLED="task_seconds",
        ANSIBLE_PYTHON_INTERPRETER=str(pathlib.Path(sys.executable).resolve()),
        TASK_SECONDS_FILE=str(lines),
    )
    command = [str(pathlib.Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local", str(playbook)]
    done = subprocess.run(command, env=variables, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return [json.loads(line) for line in lines.read_text().splitlines()]


def module_task(name: str, url: str, folder: pathlib.Path, models: list[dict[str, str]], **options: object) -> dict[str, object]:
    arguments = {"url": url, "models": models, "state_file": str(folder / "launched.json"), **options}
    return {"name": name, "llmops.dify_xinference.xinference_models": arguments}


def seconds_of(lines: list[dict[str, object]], name: str) -> list[float]:
    return [float(str(line["seconds"])) for line in lines if line["task"] == name]


def nothing_to_do(folder: pathlib.Path, rounds: int) -> None:
    with Standin() as server:
        play(folder, [module_task("launch", server.url, folder, MODELS, concurrency=20)])
        uri: dict[str, object] = {"name": "uri", "ansible.builtin.uri": {"url": server.url + "/v1/models"}}
        lines = play(folder, [task for _round in range(rounds) for task in (uri, module_task("module", server.url, folder, MODELS))])
        changed = [line for line in lines if line["task"] == "module" and line["changed"]]
        module, bare = statistics.median(seconds_of(lines, "module")), statistics.median(seconds_of(lines, "uri"))
        pairs = [one / other for one, other in zip(seconds_of(lines, "module"), seconds_of(lines, "uri"))]
        requests = {line["requests"] for line in lines if line["task"] == "module"}
        print(f"20 running models, nothing to do, {rounds} rounds, stand-in server: {len(changed)} changed, requests per run {sorted(map(str, requests))}")
        print(f"  module {module:.2f} s, ansible.builtin.uri {bare:.2f} s (medians)")
        print(f"  ratio of medians {module / bare:.2f}, median ratio of pairs {statistics.median(pairs):.2f}")
        programs = environment.location() / "venv" / "bin"
        if not (programs / "xinference").exists():
            print("  (the environment of the real CLI is not built: no comparison with it)")
            return
        launch = ["launch", "-e", server.url, "--model-uid", "m0x", "--model-name", "bge-m3", "--model-type", "embedding"]
        for words in (["list", "-e", server.url], launch):
            times, codes = [], set()
            for _round in range(max(3, rounds // 2)):
                began = time.monotonic()
                done = subprocess.run([str(programs / "xinference"), *words], capture_output=True, text=True, check=False)
                times.append(time.monotonic() - began)
                codes.add(done.returncode)
            median = statistics.median(times)
            print(f"  xinference {words[0]} (real CLI 4.1.0, exit status {sorted(codes)}): {median:.2f} s; module / CLI {module / median:.2f}")
        print(f"  (the CLI needs 1 list and, for what is missing, 1 launch per model; the module's {module:.2f} s are for all twenty)")


def slow_launches(folder: pathlib.Path) -> None:
    (folder / "launched.json").unlink(missing_ok=True)
    with Standin(SLOW_SECONDS) as server:
        models = [{"uid": f"slow{number}x", "type": "embedding", "name": "bge-m3"} for number in range(SLOW_MODELS)]
        lines = play(folder, [module_task("slow", server.url, folder, models, concurrency=SLOW_MODELS)])
        wall = seconds_of(lines, "slow")[0]
        print(f"{SLOW_MODELS} models of {SLOW_SECONDS} s each at the same time, stand-in server:")
        print(f"  task {wall:.1f} s; ratio to the slowest {wall / SLOW_SECONDS:.2f}")


def main(arguments: list[str]) -> int:
    rounds = int(arguments[0]) if arguments else 10
    with tempfile.TemporaryDirectory() as folder:
        nothing_to_do(pathlib.Path(folder), rounds)
        slow_launches(pathlib.Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
