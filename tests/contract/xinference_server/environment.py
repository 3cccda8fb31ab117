# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A virtual environment with a real Xinference on CPU, built once and kept outside the tree.

Run it alone to build ahead of the tests: ``python tests/contract/xinference_server/environment.py``.
It takes about four minutes, 2 GB of disk, and only a Python package index.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
TINY_MODELS = HERE / "make_tiny_models.py"
VERSION = "4.1.0"
RECIPE = 1  # raise it when the steps below change in a way that the requirements do not show


def cache_root() -> pathlib.Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(base) / "llmops-dify-xinference"


def location() -> pathlib.Path:
    """The folder of this exact set of packages and of this Python."""
    digest = hashlib.sha256()
    digest.update(REQUIREMENTS.read_bytes())
    digest.update(TINY_MODELS.read_bytes())
    digest.update(f"{RECIPE} {sys.version_info[0]}.{sys.version_info[1]}".encode())
    return cache_root() / f"xinference-{VERSION}-{digest.hexdigest()[:12]}"


def is_ready(folder: pathlib.Path) -> bool:
    return (folder / "READY").exists()


def ensure() -> pathlib.Path:
    """Return the folder (``venv/``, ``tiny/``), building it first when needed; raises CalledProcessError when that fails."""
    folder = location()
    if is_ready(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_ready(folder):
            _build(folder)
    return folder


def _build(folder: pathlib.Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    venv = folder / "venv"
    python = str(venv / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    with open(folder / "build.log", "w", encoding="utf-8") as log:

        def step(*command: str) -> None:
            log.write("+ " + " ".join(command) + "\n")
            log.flush()
            subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)

        step(sys.executable, "-m", "venv", str(venv))
        # torch first and alone: a CPU build must be there before anything asks for torch, or CUDA wheels follow.
        torch = [line for line in REQUIREMENTS.read_text(encoding="utf-8").split() if line.startswith("torch==")]
        index = os.environ.get("XINFERENCE_TEST_TORCH_INDEX_URL")  # say a CPU-only index, where the default one has CUDA builds
        step(*pip, *(["--index-url", index] if index else []), *torch)
        step(*pip, "-r", str(REQUIREMENTS))
        # timm brings a CUDA build of torchvision, whose import dies on a CPU torch and takes transformers with it.
        step(python, "-m", "pip", "uninstall", "--quiet", "-y", "torchvision")
        step(python, str(TINY_MODELS), str(folder / "tiny"))
    (folder / "READY").touch()


if __name__ == "__main__":
    print(ensure())
