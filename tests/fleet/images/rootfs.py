# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Directory trees for the images: Debian 12 by debootstrap, further packages by apt-get in a chroot. Needs root.

No mirror is named here: debootstrap's own default serves, or ``LLMOPS_FLEET_DEBIAN_MIRROR``.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import tarfile
import typing as t

from tests.fleet import shell
from tests.fleet.images import packer

SUITE = "bookworm"  # Python 3.11 (the CPU wheels of torch for it exist), PostgreSQL 15 (the one Dify's compose file names)
BASE_PACKAGES = ("python3", "ca-certificates", "curl")
BASE_RECIPE = 1  # raise it when the steps below change what comes out
PYTHON = "python3.11"

# What no container needs. Licence texts stay.
_LEFT_OUT = (
    "usr/share/locale/*",
    "usr/share/man/*",
    "usr/share/info/*",
    "usr/share/lintian",
    "usr/share/linda",
    "usr/share/i18n",
    "usr/lib/x86_64-linux-gnu/gconv/*",
    "var/lib/apt/lists/*",
    "var/cache/apt/*",
    "var/cache/ldconfig/*",
    "var/cache/debconf/*-old",
    "var/lib/dpkg/*-old",
    "etc/*-",
    "root/.cache",
)


def base_identity() -> t.Dict[str, t.Any]:
    """Return what the content of the base tree follows from, for a cache key."""
    return {
        "recipe": BASE_RECIPE,
        "suite": SUITE,
        "packages": BASE_PACKAGES,
        "left_out": _LEFT_OUT,
        "certificates": sorted((path.name, packer.digest_of(path.read_bytes())) for path in _private_certificates()),
    }


def _private_certificates() -> t.List[pathlib.Path]:
    """The builder's own authorities: behind a TLS-inspecting proxy nothing in a container is trusted without them."""
    folder = pathlib.Path("/usr/local/share/ca-certificates")
    return sorted(folder.glob("**/*.crt")) if folder.is_dir() else []


def _proxy() -> t.Dict[str, str]:
    """The proxy that the builder's apt uses, for debootstrap and for apt in the chroot."""
    if shutil.which("apt-config") is None:
        return {}
    words = shell.run(["apt-config", "shell", "PROXY", "Acquire::http::Proxy"], check=False).stdout
    found = re.search(r"PROXY='([^']+)'", words)
    return {"http_proxy": found.group(1)} if found else {}


def make_base(root: pathlib.Path) -> None:
    """Create the Debian tree that all images share in the empty or absent folder ``root``; raises FleetError."""
    command = ["debootstrap", "--variant=minbase", "--include=" + ",".join(BASE_PACKAGES), SUITE, str(root)]
    mirror = os.environ.get("LLMOPS_FLEET_DEBIAN_MIRROR")
    shell.run(command + ([mirror] if mirror else []), environment=_proxy())
    target = root / "usr/local/share/ca-certificates"
    for path in _private_certificates():
        shutil.copy(path, target / path.name)
    if _private_certificates():
        chroot(root, ["update-ca-certificates"])
    (root / "etc/resolv.conf").unlink(missing_ok=True)  # the engine mounts its own
    (root / "etc/hostname").unlink(missing_ok=True)
    (root / "etc/machine-id").write_text("")
    compile_python(root, ["/usr/lib/python3", "/usr/lib/python3.11"])
    slim(root)


def chroot(root: pathlib.Path, command: t.Sequence[str], environment: t.Optional[t.Mapping[str, str]] = None) -> str:
    """Run ``command`` inside ``root`` with a clean environment; return its output; raises FleetError."""
    clean = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
    pairs = [f"{name}={value}" for name, value in {**clean, **(environment or {})}.items()]
    return shell.run(["chroot", str(root), "/usr/bin/env", "-i", *pairs, *command]).stdout


def refresh_package_lists(root: pathlib.Path) -> None:
    """Fetch apt's package lists into ``root``, to be copied along by :func:`copy_tree`."""
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    chroot(root, ["apt-get", "update", "-qq"], _proxy())


def install(root: pathlib.Path, packages: t.Sequence[str]) -> None:
    """Install Debian ``packages`` without their recommendations, starting no service; raises FleetError."""
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    options = ["-y", "-qq", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0", "-o", "Dpkg::Options::=--force-unsafe-io"]
    try:
        chroot(root, ["apt-get", "install", *options, *packages], {"DEBIAN_FRONTEND": "noninteractive", **_proxy()})
    finally:
        policy.unlink()
    if any((root / "usr/lib/python3/dist-packages").iterdir()):
        compile_python(root, ["/usr/lib/python3/dist-packages"])


def compile_python(root: pathlib.Path, folders: t.Sequence[str], jobs: int = 1) -> None:
    """Write byte code that is valid whatever times the sources get, so that a container never compiles at start."""
    command = [PYTHON, "-m", "compileall", "-q", "-f", "-j", str(jobs), "--invalidation-mode", "unchecked-hash", *folders]
    # compileall ends with 1 when a single file is not meant for this Python (templates, tests): that is no failure here.
    shell.run(["chroot", str(root), *command], check=False)


def slim(root: pathlib.Path) -> None:
    """Remove what no container needs, and what differs from build to build."""
    for pattern in _LEFT_OUT:
        for path in root.glob(pattern):
            _remove(path)
    documents = root / "usr/share/doc"
    for path in sorted(documents.glob("*/*")) if documents.is_dir() else []:
        if path.name != "copyright":
            _remove(path)
    for path in list((root / "var/log").rglob("*")):
        if path.is_file():  # the folders stay, with the owners that the services need
            path.unlink()
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    shadow = root / "etc/shadow"
    if shadow.exists():  # the third field is the day of the build
        shadow.write_text(re.sub(r"^([^:]*:[^:]*:)\d+:", r"\g<1>20454:", shadow.read_text(), flags=re.MULTILINE))


def _remove(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def copy_tree(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copy a tree with owners, modes, times, links and devices."""
    shell.run(["cp", "-a", str(source), str(target)])


def unpack(layer_file: pathlib.Path, target: pathlib.Path) -> None:
    """Unpack a layer into ``target``, over what is there; whiteouts are applied."""
    target.mkdir(parents=True, exist_ok=True)
    shell.run(["tar", "-xzpf", str(layer_file), "-C", str(target), "--numeric-owner"])
    with tarfile.open(layer_file, "r:gz") as tar:
        marks = [name for name in tar.getnames() if os.path.basename(name).startswith(".wh.")]
    for mark in marks:
        folder, name = os.path.split(mark)
        (target / mark).unlink()
        gone = target / folder / name[len(".wh.") :]
        if gone.exists() or gone.is_symlink():
            _remove(gone)


def device_nodes(root: pathlib.Path) -> None:
    """Give a chroot the four devices that package scripts write to (layers carry an empty /dev)."""
    for name, minor in (("null", 3), ("zero", 5), ("random", 8), ("urandom", 9)):
        path = root / "dev" / name
        if not path.exists():
            os.mknod(path, 0o20666, os.makedev(1, minor))
            path.chmod(0o666)
