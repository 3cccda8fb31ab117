# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Virtual environments with real Xinference servers on CPU, built once and kept outside the tree.

Run it alone to build ahead of the tests: ``python tests/contract/xinference_server/environment.py [VERSION...]``.
4.1.0 takes about four minutes and 2 GB of disk, 3.2.1 lies over it (60 MB), 0.13.3 takes three minutes and 2.2 GB.
Only a Python package index is needed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Callable, NamedTuple

HERE = pathlib.Path(__file__).resolve().parent
TINY_MODELS = HERE / "make_tiny_models.py"
RECIPE = 1  # raise it when the steps below change in a way that the requirements do not show
VERSIONS = ("4.1.0", "3.2.1", "0.13.3")
VERSION = VERSIONS[0]


class Environment(NamedTuple):
    """``programs``: folder of ``xinference-local`` and friends; ``path``: what has to be first in PYTHONPATH; ``tiny``: models."""

    version: str
    programs: pathlib.Path
    path: str
    tiny: pathlib.Path


def cache_root() -> pathlib.Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(base) / "llmops-dify-xinference"


def requirements(version: str) -> pathlib.Path:
    return HERE / ("requirements.txt" if version == VERSION else f"requirements-{version}.txt")


def location(version: str = VERSION) -> pathlib.Path:
    """The folder of this exact set of packages and of this Python."""
    digest = hashlib.sha256()
    digest.update(requirements(version).read_bytes())
    digest.update(TINY_MODELS.read_bytes())
    digest.update(f"{RECIPE} {sys.version_info[0]}.{sys.version_info[1]}".encode())
    return cache_root() / f"xinference-{version}-{digest.hexdigest()[:12]}"


def is_ready(folder: pathlib.Path) -> bool:
    return (folder / "READY").exists()


def can_run(version: str) -> bool:
    """0.13.3 comes with packages that know no newer Python."""
    return version != "0.13.3" or sys.version_info[:2] in ((3, 10), (3, 11))


def ensure(version: str = VERSION) -> Environment:
    """Build what is missing; raises CalledProcessError when that fails (build.log in the folder says why)."""
    newest = location()
    if version != "0.13.3":
        _once(newest, _build_newest)
    if version == VERSION:
        return Environment(version, newest / "venv" / "bin", "", newest / "tiny")
    folder = location(version)
    if version == "3.2.1":
        _once(folder, _build_overlay)
        return Environment(version, newest / "venv" / "bin", str(folder / "overlay"), newest / "tiny")
    _once(folder, _build_old)
    return Environment(version, folder / "venv" / "bin", "", folder / "tiny")


def _once(folder: pathlib.Path, build: Callable[[pathlib.Path, Callable[..., None]], None]) -> None:
    if is_ready(folder):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_ready(folder):
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        with open(folder / "build.log", "w", encoding="utf-8") as log:

            def step(*command: str) -> None:
                log.write("+ " + " ".join(command) + "\n")
                log.flush()
                subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)

            build(folder, step)
        (folder / "READY").touch()


PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input")


def _torch(version: str) -> list[str]:
    """torch first and alone: a CPU build must be there before anything asks for torch, or CUDA wheels follow."""
    index = os.environ.get("XINFERENCE_TEST_TORCH_INDEX_URL")  # say a CPU-only index, where the default one has CUDA builds
    lines = requirements(version).read_text(encoding="utf-8").split()
    return [*(["--index-url", index] if index else []), *[line for line in lines if line.startswith("torch==")]]


def _build_newest(folder: pathlib.Path, step: Callable[..., None]) -> None:
    python = str(folder / "venv" / "bin" / "python")
    step(sys.executable, "-m", "venv", str(folder / "venv"))
    step(python, *PIP, *_torch(VERSION))
    step(python, *PIP, "-r", str(requirements(VERSION)))
    # timm brings a CUDA build of torchvision, whose import dies on a CPU torch and takes transformers with it.
    step(python, "-m", "pip", "uninstall", "--quiet", "-y", "torchvision")
    step(python, str(TINY_MODELS), str(folder / "tiny"))


def _build_overlay(folder: pathlib.Path, step: Callable[..., None]) -> None:
    """Only the package itself: it runs with the newest one's dependencies."""
    step(sys.executable, *PIP, "--no-deps", "--target", str(folder / "overlay"), "-r", str(requirements("3.2.1")))


def _build_old(folder: pathlib.Path, step: Callable[..., None]) -> None:
    python = str(folder / "venv" / "bin" / "python")
    step(sys.executable, "-m", "venv", str(folder / "venv"))
    step(python, *PIP, *_torch("0.13.3"))
    step(python, *PIP, "-r", str(requirements("0.13.3")))
    step(python, "-m", "pip", "uninstall", "--quiet", "-y", "torchvision")
    step(python, str(TINY_MODELS), str(folder / "tiny"))


if __name__ == "__main__":
    for wanted in sys.argv[1:] or VERSIONS:
        print(ensure(wanted))
