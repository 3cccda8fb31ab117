# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fleet import aptrepo, packages

CTK = Path(packages.__file__).parent / "standins" / "nvidia" / "nvidia_ctk.py"
needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not on this machine")
needs_gpg = pytest.mark.skipif(shutil.which("gpg") is None or shutil.which("gpgv") is None, reason="gpg and gpgv are not on this machine")


def by_name(version: str) -> dict[str, packages.Package]:
    return {package.name: package for package in packages.nvidia_packages(b"x") if package.version == version}


@pytest.mark.parametrize("version", packages.NVIDIA_VERSIONS)
def test_the_toolkit_depends_on_exactly_its_own_version(version: str) -> None:
    found = by_name(version)
    assert sorted(found) == ["libnvidia-container-tools", "libnvidia-container1", "nvidia-container-toolkit", "nvidia-container-toolkit-base"]
    assert found["nvidia-container-toolkit"].depends == (f"nvidia-container-toolkit-base (= {version})", f"libnvidia-container-tools (= {version})")


def test_every_stand_in_says_so() -> None:
    for package in [*packages.nvidia_packages(b"x"), *packages.ubuntu_packages()]:
        assert re.search(r"^Description: STAND-IN: ", package.control(1), re.MULTILINE)
        for path, (content, mode) in package.files.items():
            if mode == 0o755 and not path.endswith("nvidia-ctk"):
                assert b"# STAND-IN" in content, path


def contents(name: str, *files: str) -> packages.Contents:
    return packages.Contents("26.1.5+dfsg1-9" if "docker" in name else "1.7.24~ds1-6", dict.fromkeys(files, (b"x", 493)), {}, (), {}, ())


def test_dockers_packages_take_the_place_of_debians() -> None:
    plugins = {name: contents(name, f"{packages.PLUGINS}/{name}", "/usr/share/more") for name in ("docker-buildx", "docker-compose")}
    debian = {
        **plugins,
        "docker.io": contents("docker.io", "/usr/sbin/dockerd"),
        "docker-cli": contents("docker-cli", "/usr/bin/docker"),
        "containerd": contents("containerd", "/usr/bin/containerd"),
    }
    found = {package.name: package for package in packages.docker_packages(debian)}
    assert sorted(found) == ["containerd.io", "docker-buildx-plugin", "docker-ce", "docker-ce-cli", "docker-compose-plugin"]
    assert found["docker-ce"].version == "5:26.1.5-1~debian.13~trixie"
    assert found["docker-ce"].extra["Conflicts"] == "docker.io"
    assert "docker.io" not in " ".join(found["docker-ce"].depends), "Debian's docker.io conflicts with docker-ce"
    assert found["containerd.io"].version == "1.7.24-1"
    assert list(found["docker-compose-plugin"].files) == [f"{packages.PLUGINS}/docker-compose"]


def test_stanza() -> None:
    text = aptrepo.stanza("Package: a\nVersion: 1\n", b"deb", "./a_1_all.deb")
    assert text.startswith("Package: a\nVersion: 1\nFilename: ./a_1_all.deb\nSize: 3\nMD5sum: ")
    assert f"SHA256: {hashlib.sha256(b'deb').hexdigest()}\n" in text


def test_release() -> None:
    flat = aptrepo.release_text([("Packages", b"x")], "origin")
    assert "Suite:" not in flat
    assert f"SHA256:\n {hashlib.sha256(b'x').hexdigest()}        1 Packages\n" in flat
    assert re.search(r"^Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d UTC$", flat, re.MULTILINE)
    assert "Codename: trixie\n" in aptrepo.release_text([], "origin", "trixie", "stable")


@needs_dpkg
def test_a_package_keeps_its_files_modes_links_and_scripts(tmp_path: Path) -> None:
    package = packages.Package(
        "one",
        "2:1.0-1",
        "test",
        files={"/usr/bin/one": (b"#!/bin/sh\n", 0o755), "/etc/one.conf": (b"a\n", 0o644)},
        links={"/usr/bin/uno": "one"},
        folders=("/etc/one",),
        scripts={"postinst": b"#!/bin/sh\nexit 0\n"},
        conffiles=("/etc/one.conf",),
    )
    deb = aptrepo.build_package(package, tmp_path)
    assert deb.name == "one_1.0-1_amd64.deb"
    back = aptrepo.read_contents(deb)
    assert back == packages.Contents("2:1.0-1", package.files, package.links, package.folders, package.scripts, package.conffiles)
    assert aptrepo.build_package(package, tmp_path / "again").read_bytes() == deb.read_bytes()


@needs_dpkg
@needs_gpg
def test_a_signed_flat_repository(tmp_path: Path) -> None:
    key = aptrepo.SigningKey(tmp_path / "key")
    assert re.fullmatch("[0-9A-F]{40}", key.fingerprint)
    assert aptrepo.SigningKey(tmp_path / "key").fingerprint == key.fingerprint
    folder = tmp_path / "repository"
    aptrepo.write_flat(folder, packages.ubuntu_packages(), key, "origin")
    index = (folder / "Packages").read_bytes()
    assert gzip.decompress((folder / "Packages.gz").read_bytes()) == index
    assert hashlib.sha256(index).hexdigest() in (folder / "Release").read_text()
    for words in re.findall(r"^Filename: (.*)$", index.decode(), re.MULTILINE):
        assert (folder / words).is_file()
    ring = tmp_path / "ring.gpg"
    subprocess.run(["gpg", "--homedir", str(tmp_path), "--dearmor", "--output", str(ring), str(key.public)], check=True, capture_output=True)
    checked = subprocess.run(["gpgv", "--keyring", str(ring), str(folder / "InRelease")], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    (folder / "InRelease").write_text((folder / "InRelease").read_text().replace("origin", "forged"))
    assert subprocess.run(["gpgv", "--keyring", str(ring), str(folder / "InRelease")], capture_output=True, check=False).returncode != 0


def ctk(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(CTK), *arguments], capture_output=True, text=True, check=False)


def test_nvidia_ctk_writes_the_runtime_as_upstream_does(tmp_path: Path) -> None:
    config = tmp_path / "daemon.json"
    config.write_text('{"log-driver": "json-file", "runtimes": {"nvidia": {"path": "/mine", "args": ["x"]}, "a": {"path": "b"}}}')
    done = ctk("runtime", "configure", "--runtime=docker", f"--config={config}")
    assert done.returncode == 0
    written = config.read_text()
    assert json.loads(written)["runtimes"] == {"a": {"path": "b"}, "nvidia": {"args": [], "path": "nvidia-container-runtime"}}
    assert written.startswith('{\n    "log-driver": "json-file",\n    "runtimes": {')
    assert not written.endswith("\n")


@pytest.mark.parametrize("content", ["", '{"a": 1,}'])
def test_nvidia_ctk_stops_at_a_broken_file(tmp_path: Path, content: str) -> None:
    config = tmp_path / "daemon.json"
    config.write_text(content)
    done = ctk("runtime", "configure", "--config", str(config))
    assert done.returncode == 1
    assert "unable to load config for runtime docker" in done.stderr
    assert config.read_text() == content


@pytest.mark.parametrize("arguments", [("cdi", "list"), ("runtime", "configure", "--runtime=crio"), ("runtime", "configure", "--cdi.enabled")])
def test_nvidia_ctk_refuses_what_it_does_not_know(arguments: tuple[str, ...]) -> None:
    done = ctk(*arguments)
    assert done.returncode == 1
    assert "501" in done.stderr
