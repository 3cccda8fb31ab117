"""Make a virtual environment from a requirements file, shared by all checkouts of this machine.

``python3 tests/tools/venv.py LINK REQUIREMENTS`` builds the environment under the cache directory, named after what
it is made of (requirements, interpreter), and points ``LINK`` at it. When it exists already, nothing is done.

Runs with the bare interpreter of a fresh Debian or Ubuntu: standard library only. There ``python3-venv`` is a package
of its own; it is installed with apt, after saying so, when this runs as root or sudo needs no password.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.tools import cache

OLDEST = (3, 11)
COMPLETE = ".complete"


def interpreter() -> str:
    """The real interpreter: not a pyenv shim, not the link inside another virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def key(requirements: bytes, python: str, version: str) -> str:
    """Names an environment after everything that it is made of."""
    digest = hashlib.sha256()
    for part in (requirements, python.encode(), version.encode()):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:12]


def has_ensurepip() -> bool:
    """Debian and Ubuntu leave ensurepip out of python3; without it ``python3 -m venv`` fails half-way."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return False
    return True


def install_venv_package() -> None:
    """Have apt install python3.X-venv; exits with what is missing when that is not possible."""
    package = "python{}.{}-venv".format(*sys.version_info[:2])
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    by_hand = f"Install it yourself (sudo apt-get install {package}), then run this again."
    if not shutil.which("apt-get"):
        sys.exit(f"{interpreter()} cannot make virtual environments (no ensurepip), and there is no apt-get to install {package} with. {by_hand}")
    if as_root and subprocess.run([*as_root, "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode != 0:
        sys.exit(f"{interpreter()} cannot make virtual environments (no ensurepip), and sudo asks for a password here. {by_hand}")
    print(f"This machine's python3 cannot make virtual environments. Installing the package {package} with apt-get ...", flush=True)
    environment = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    # A fresh machine may have no package lists at all, or old ones.
    subprocess.run([*as_root, *environment, "update", "-q"], check=False)
    done = subprocess.run([*as_root, *environment, "install", "-q", "-y", "--no-install-recommends", package], check=False)
    if done.returncode != 0:
        sys.exit(f"apt-get could not install {package} (exit status {done.returncode}, its words are above). {by_hand}")


def build(target: Path, requirements: Path) -> None:
    """Make the environment at its final place; only the marker at the end makes it count."""
    if not has_ensurepip():
        install_venv_package()
    if target.exists():
        print(f"{target} was not finished, starting it again.", flush=True)
        shutil.rmtree(target)
    python = target / "bin" / "python"
    print(f"Creating {target} with Python {sys.version.split()[0]} (once; takes one to three minutes) ...", flush=True)
    for command in (
        [interpreter(), "-m", "venv", str(target)],
        [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input", "-r", str(requirements)],
    ):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            sys.exit(f"Could not create the virtual environment: `{' '.join(command)}` ended with exit status {done.returncode}; its words are above.")
    (target / COMPLETE).touch()


def link(path: Path, target: Path) -> None:
    """Point ``path`` at ``target``, replacing a link; a real directory there is somebody's work and stays."""
    if path.is_symlink():
        if path.resolve() == target.resolve():
            return
        path.unlink()
    elif path.exists():
        sys.exit(f"{path} exists and is not a link of ours. Remove or rename it, then run this again.")
    path.symlink_to(target)


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        sys.exit("usage: venv.py LINK REQUIREMENTS")
    if sys.version_info[:2] < OLDEST:
        sys.exit(
            "Python {}.{} is needed at least, {} is {}. Name a newer one: make PYTHON=/path/to/python3 ...".format(
                *OLDEST, interpreter(), sys.version.split()[0]
            )
        )
    where, requirements = Path(arguments[0]), Path(arguments[1])
    name = f"venv-{requirements.stem}-py{sys.version_info[0]}.{sys.version_info[1]}-{key(requirements.read_bytes(), interpreter(), sys.version)}"
    target = cache.directory() / name
    if not (target / COMPLETE).exists():
        with cache.lock(target.with_name(name + ".lock"), "building the virtual environment"):
            if not (target / COMPLETE).exists():
                build(target, requirements)
    link(where, target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
