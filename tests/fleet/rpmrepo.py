"""The stand-in packages as RPM packages in a signed repository, made on a host that has rpmbuild and createrepo_c."""

from __future__ import annotations

import base64
import io
import re
import shlex
import tarfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fleet.aptrepo import _Keyring
from tests.fleet.fleet import Fleet
from tests.fleet.packages import Package

# rpm's own words for what dpkg calls by another name; what is the distribution's is not asked for, for dpkg has it.
_DEPENDS = re.compile(r"^((?:lib)?nvidia[a-z0-9-]*)(?: \((>=|=) ([^)]+)\))?$")


def spec(package: Package) -> str:
    """A spec file; the payload is a tree that lies beside it under the package's name."""
    version, _dash, release = package.version.partition("-")
    requires = [match.expand(r"\1 \2 \3").strip() if match[2] else match[1] for match in map(_DEPENDS.match, package.depends) if match]
    lines = [
        f"Name: {package.name}",
        f"Version: {version}",
        f"Release: {release}",
        f"Summary: STAND-IN: {package.description}",
        "License: GPL-3.0-or-later",
        *(["BuildArch: noarch"] if package.architecture == "all" else []),
        "AutoReqProv: no",
        *(f"Requires: {words}" for words in requires),
        "%description",
        f"STAND-IN: {package.description}",
        "%install",
        f"mkdir -p %{{buildroot}} && cp -a %{{_sourcedir}}/{package.name}-{package.version}/. %{{buildroot}}/",
        "%files",
        *(f"{'%config(noreplace) ' if path in package.conffiles else ''}{path}" for path in sorted(package.files)),
    ]
    return "\n".join(lines) + "\n"


def build(fleet: Fleet, host: str, packages: Sequence[Package], folder: str) -> None:
    """Make ``folder`` on the host a repository of the packages, with an index that the key of apt's repositories signs."""
    payload = io.BytesIO()
    with tarfile.open(fileobj=payload, mode="w") as archive:
        for package in packages:
            tree = f"{package.name}-{package.version}"
            for path, (content, mode) in {f"/../{tree}.spec": (spec(package).encode(), 0o644), **package.files}.items():
                entry = tarfile.TarInfo(f"{tree}.spec" if path.startswith("/..") else tree + path)
                entry.size, entry.mode = len(content), mode
                archive.addfile(entry, io.BytesIO(content))
            if not package.files:
                empty = tarfile.TarInfo(tree)
                empty.type, empty.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(empty)
    put(fleet, host, "/tmp/rpms.tar", payload.getvalue())
    make = (
        f"set -e; rm -rf /tmp/rpms && mkdir -p /tmp/rpms {folder} && cd /tmp/rpms && tar -xf /tmp/rpms.tar; "
        "for spec in *.spec; do rpmbuild --quiet -bb --define '_sourcedir /tmp/rpms' --define '_topdir /tmp/rpms/top' "
        f"--define '_rpmdir {folder}' --define '_build_id_links none' $spec; done; createrepo_c --quiet {folder}; cat {folder}/repodata/repomd.xml"
    )
    index = fleet.ssh(host, f"sudo sh -c {shlex.quote(make)}", check=True, timeout=300).stdout
    put(fleet, host, f"{folder}/repodata/repomd.xml.asc", signature_of(index, fleet.settings.cache / "apt-key" / "secret.asc").encode())


def signature_of(text: str, secret: Path) -> str:
    """An armoured signature, apart from what it signs."""
    with TemporaryDirectory() as work, _Keyring() as gpg:
        path = Path(work) / "text"
        path.write_text(text)
        gpg("--import", str(secret))
        return gpg("--armor", "--output", "-", "--detach-sign", str(path))


def put(fleet: Fleet, host: str, path: str, content: bytes) -> None:
    fleet.ssh(host, f"echo {base64.b64encode(content).decode()} | base64 -d | sudo tee {path} >/dev/null", check=True)

