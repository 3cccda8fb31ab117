"""Run ansible-test on a copy of this checkout, in environments that every checkout of this machine shares.

``python -m tests.tools.ansible_test sanity|units|integration [ARGUMENT...]``, with the interpreter of ``.venv``.

ansible-test keeps its environments below the home directory and inside the tree. It gets a home of its own in the
cache directory (removed by ``make clean``) and a link inside the tree, so a second checkout finds everything made.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.tools import cache, tree

# The oldest Python that modules must run on (tests/config.yml). It is tested where this machine happens to have it.
FLOOR = "3.9"
# Not Ansible's: these run on the controller or in containers of the fleet, and are held by ruff and mypy instead.
OWN_LINTERS = ["tests/fleet/", "tests/tools/", "tests/contract/", "tests/gpu/", "tests/bench/"]
SYSTEM_PATH = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]


def ansible_test_source() -> Path:
    """Folder of the ansible_test package in this environment."""
    import ansible_test

    return Path(ansible_test.__file__).parent


def pip_versions(source: str) -> list[str]:
    """The pip versions that ansible-test will ask for, from the text of its python_requirements.py."""
    found = sorted(set(re.findall(r"\bpip='([0-9.]+)'", source)))
    if not found:
        raise SystemExit("No pip version in ansible-test's python_requirements.py: this ansible-core works in another way. Adapt tests/tools/ansible_test.py.")
    return found


def pip_settings(listing: str) -> dict[str, dict[str, str]]:
    """Sections of a pip.conf from the output of ``pip config list``.

    ansible-test drops PIP_* variables from the environment, and with them mirrors and private certificate authorities.
    """
    sections: dict[str, dict[str, str]] = {}
    for line in listing.splitlines():
        name, separator, value = line.partition("=")
        section, dot, option = name.strip().rpartition(".")
        if separator and dot and not option.startswith("config-file"):
            value = value.strip()[1:-1].replace("\\n", "\n")  # printed as a Python literal
            sections.setdefault("global" if section == ":env:" else section, {})[option] = value
    return sections


def prepare_home(home: Path) -> None:
    """ansible-test's home: the stand-in for get-pip and this user's pip settings."""
    downloads = home / ".ansible" / "test" / "cache"
    downloads.mkdir(parents=True, exist_ok=True)
    source = (ansible_test_source() / "_internal" / "python_requirements.py").read_text()
    for version in pip_versions(source):
        shutil.copy(Path(__file__).with_name("get_pip.py"), downloads / f"get_pip_{version.replace('.', '_')}.py")
    listing = subprocess.run([sys.executable, "-m", "pip", "config", "list"], stdout=subprocess.PIPE, text=True, check=True)
    settings = configparser.RawConfigParser()
    settings.read_dict(pip_settings(listing.stdout))
    folder = home / ".config" / "pip"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "pip.conf").open("w") as handle:
        settings.write(handle)
    pip_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pip"
    ours = home / ".cache" / "pip"
    if pip_cache.is_dir() and not os.path.lexists(ours):
        ours.parent.mkdir(exist_ok=True)
        ours.symlink_to(pip_cache)


def floor_python() -> Path | None:
    """A real interpreter of the oldest supported version; pyenv's shims are no such thing under ansible-test."""
    places = [Path(folder) / f"python{FLOOR}" for folder in SYSTEM_PATH]
    places += sorted((Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions").glob(f"{FLOOR}.*/bin/python{FLOOR}"))
    return next((place for place in places if place.exists()), None)


def search_path(home: Path) -> str:
    """This environment, then the system: whatever else a login shell adds may hold interpreters that do not run."""
    folders = [str(Path(sys.executable).parent)]
    floor = floor_python()
    if floor:
        extra = home / "pythons"
        extra.mkdir(exist_ok=True)
        (extra / floor.name).unlink(missing_ok=True)
        (extra / floor.name).symlink_to(floor)
        folders.append(str(extra))
    else:
        print(f"This machine has no Python {FLOOR}: modules are not tried on the oldest version they support (ruff still checks the syntax).")
    return os.pathsep.join([*folders, *SYSTEM_PATH])


def share_environments(checkout: Path, home: Path) -> None:
    """Point the tree's place for --venv environments into the cache."""
    import ansible.release

    identity = f"{Path(sys.executable).resolve()} {sys.version} {ansible.release.__version__}"
    shared = home / f"delegation-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    shared.mkdir(exist_ok=True)
    link = checkout / "tests" / "output" / ".tmp" / "delegation"
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        shutil.rmtree(link)
    link.symlink_to(shared)


def main(arguments: list[str]) -> int:
    if not arguments:
        raise SystemExit("usage: python -m tests.tools.ansible_test sanity|units|integration [ARGUMENT...]")
    command, *rest = arguments
    if command == "sanity":
        rest = [word for folder in OWN_LINTERS for word in ("--exclude", folder)] + rest
    checkout = tree.sync()
    home = cache.directory() / "ansible-test"
    with cache.lock(cache.directory() / "ansible-test.lock", "ansible-test"):
        prepare_home(home)
        share_environments(checkout, home)
        environment = {**os.environ, "HOME": str(home), "PATH": search_path(home)}
        for name in [name for name in environment if name.startswith("ANSIBLE_")]:
            del environment[name]
        tool = Path(sys.executable).with_name("ansible-test")
        return subprocess.run([str(tool), command, "--venv", "--color", "no", *rest], cwd=checkout, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
