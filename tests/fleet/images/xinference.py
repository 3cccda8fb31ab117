# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real Xinference server, installed from its Python packages for the Debian 12 tree of the images.

The builder's Python may be another one than the image's: pip is asked for CPython 3.11 wheels of glibc Linux, and the
set of packages is complete (requirements-xinference.txt), so nothing is resolved and nothing for CUDA can slip in.
The builder's pip settings (indexes, find-links, certificates) are honoured.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import typing as t
import urllib.error
import urllib.request

from tests.fleet import shell
from tests.fleet.images import rootfs

VERSION = "4.1.0"
OLD_VERSION = "0.13.3"  # without autostart
REQUIREMENTS = {
    VERSION: pathlib.Path(__file__).with_name("requirements-xinference.txt"),
    OLD_VERSION: pathlib.Path(__file__).with_name("requirements-xinference-0.13.3.txt"),
}
RECIPE = 2  # raise it when the steps below change what comes out
SITE = "usr/local/lib/python3.11/dist-packages"

# Where torch without CUDA is published; tried first, because the default index has the CUDA build for Linux.
TORCH_INDEX = os.environ.get("LLMOPS_FLEET_TORCH_INDEX", "https://download.pytorch.org/whl/cpu")
_TORCH_INDEX_TIMEOUT = 5.0  # seconds; a machine without that index must not wait for it

_GLIBC_MINORS = (36, 35, 34, 31, 28, 27, 26, 24, 17, 12, 5)  # what runs on Debian 12's glibc 2.36
_PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in _GLIBC_MINORS] + [
    "manylinux2014_x86_64",
    "manylinux2010_x86_64",
    "manylinux1_x86_64",
    "linux_x86_64",
]

# Left out of the image, each checked by starting the server and launching an LLM, an embedding and a rerank model:
# test suites, headers, static libraries, tools to compile against torch, and the audio and video engines' own code.
LEFT_OUT = (
    "torch/test",
    "torch/include",
    "torch/bin/protoc*",
    "torch/bin/test_*",
    "torch/share",
    "torch/lib/*.a",
    "scipy/**/tests",
    "pandas/tests",
    "sklearn/**/tests",
    "sympy/**/tests",
    "networkx/**/tests",
    "numpy/*/include",
    "numpy/f2py/tests",
    "joblib/test",
    "torch/bin/*Test",
    "xinference/thirdparty/ace_step_1_5",
    "xinference/thirdparty/controlnet",
    "xinference/thirdparty/deepseek_vl2/serve",
    "xinference/thirdparty/indextts",
    "xinference/thirdparty/melo",
    "xinference/**/tests",
    "xinference/conftest.py",
    "**/*.pyx",
    "**/*.pxd",
    "**/*.pyi",
    "**/*.cpp",
    "**/*.h",
    "**/*.hpp",
)


def install(root: pathlib.Path, wheels: pathlib.Path, log: t.Callable[[str], None], version: str = VERSION) -> None:
    """Install server and launchers into the Debian tree ``root``; ``wheels`` keeps what had to be built. Raises FleetError."""
    site = root / SITE
    shutil.rmtree(site, ignore_errors=True)
    pinned, sources = _requirements(version)
    torch = [line for line in pinned if line.startswith("torch==")]
    with tempfile.TemporaryDirectory(prefix="llmops-site-", dir=root.parent) as scratch:
        # pip --target never adds to a folder that is there (bin/), so each call gets its own.
        target, second = pathlib.Path(scratch) / "site", pathlib.Path(scratch) / "rest"
        log("installing torch for CPU")
        _pip_install(target, torch, ["--index-url", TORCH_INDEX] if _torch_index_answers() else [])
        if any(target.glob("nvidia*")) or not _is_cpu_torch(target):
            raise shell.FleetError(f"pip found a CUDA build of {torch[0]}, of several GB. Let LLMOPS_FLEET_TORCH_INDEX name an index that has the CPU build.")
        log(f"installing {len(pinned) + len(sources) - 1} further packages of Xinference {version}")
        _build_wheels(sources, wheels)
        rest = [line for line in pinned if line not in torch] + sources
        _pip_install(second, rest, ["--find-links", str(wheels)])
        for part in (target, second):
            _drop(part)
            for script in sorted((part / "bin").iterdir()):
                _place_script(script, root / "usr/local/bin" / script.name)
            shutil.rmtree(part / "bin")
            site.mkdir(parents=True, exist_ok=True)
            for entry in part.iterdir():  # same file system: nothing is copied
                entry.rename(site / entry.name)
    log("compiling byte code")
    rootfs.compile_python(root, ["/" + SITE], jobs=2)


def _requirements(version: str) -> t.Tuple[t.List[str], t.List[str]]:
    """Return (packages with wheels, packages published as source only)."""
    pinned: t.List[str] = []
    sources: t.List[str] = []
    for line in REQUIREMENTS[version].read_text(encoding="utf-8").splitlines():
        requirement, _hash, note = line.partition("#")
        if requirement.strip():
            (sources if note.strip() == "sdist" else pinned).append(requirement.strip())
    return pinned, sources


def _torch_index_answers() -> bool:
    if not TORCH_INDEX:
        return False
    try:
        with urllib.request.urlopen(f"{TORCH_INDEX.rstrip('/')}/torch/", timeout=_TORCH_INDEX_TIMEOUT) as answer:  # noqa: S310
            return answer.status == 200
    except (OSError, urllib.error.URLError, ValueError):
        return False


def _is_cpu_torch(site: pathlib.Path) -> bool:
    version = (site / "torch/version.py").read_text(encoding="utf-8")
    return re.search(r"^cuda\b[^=]*=\s*None", version, re.MULTILINE) is not None


def _pip(arguments: t.Sequence[str]) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        # pip warns once per package and configured index without that package: only its errors say something.
        lines = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("WARNING")]
        raise shell.FleetError("pip could not install what the Xinference image needs:\n" + "\n".join(lines[-15:]))


def _pip_install(target: pathlib.Path, requirements: t.Sequence[str], options: t.Sequence[str]) -> None:
    platforms = [word for platform in _PLATFORMS for word in ("--platform", platform)]
    python = ["--implementation", "cp", "--python-version", "3.11", "--only-binary", ":all:", *platforms]
    _pip(["install", "--target", str(target), "--no-compile", *python, *options, *requirements])


def _build_wheels(sources: t.Sequence[str], wheels: pathlib.Path) -> None:
    wheels.mkdir(parents=True, exist_ok=True)
    missing = [line for line in sources if not any(wheels.glob(line.replace("-", "_").replace("==", "-") + "-*.whl"))]
    if missing:
        _pip(["wheel", "--wheel-dir", str(wheels), *missing])


def _drop(site: pathlib.Path) -> None:
    for pattern in LEFT_OUT:
        for path in list(site.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _place_script(script: pathlib.Path, target: pathlib.Path) -> None:
    """Move a launcher; its first line names the builder's Python and must name the image's."""
    content = script.read_bytes()
    if content.startswith(b"#!") and b"python" in content.split(b"\n", 1)[0]:
        content = b"#!/usr/bin/python3\n" + content.split(b"\n", 1)[1]
    target.write_bytes(content)
    target.chmod(0o755)
