# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _apt_source as apt
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _dnf_source, _openpgp
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _docker_packages as packages

ROLES = pathlib.Path(__file__).resolve().parents[4] / "roles"
NVIDIA_KEY = (ROLES / "nvidia_container_toolkit/files/nvidia-container-toolkit.asc").read_text()
DOCKER_KEY = (ROLES / "docker/files/docker.asc").read_text()


def test_the_keys_in_the_roles_are_the_vendors():
    # As NVIDIA's and Docker's installation guides give them.
    assert _openpgp.fingerprints(NVIDIA_KEY) == [_openpgp.normal_fingerprint("C95B 321B 61E8 8C18 09C4 F759 DDCA E044 F796 ECB0")]
    assert _openpgp.fingerprints(DOCKER_KEY) == [_openpgp.normal_fingerprint("9dc8 5822 9fc7 dd38 854a e2d8 8d81 803c 0ebf cd88")]


def test_two_keys_in_one_file_are_both_seen():
    assert len(_openpgp.fingerprints(NVIDIA_KEY + DOCKER_KEY)) == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>blocked</html>",
        NVIDIA_KEY.replace("mQIN", "mQIO", 1),
        NVIDIA_KEY.replace("\nTHYb", "\nTHYc"),
        NVIDIA_KEY.replace("-----END", "-----FIN"),
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n",
    ],
)
def test_damaged_keys_are_refused(text):
    with pytest.raises(_openpgp.KeyFormatError):
        _openpgp.fingerprints(text)


def test_headers_in_the_armour_are_skipped():
    with_header = NVIDIA_KEY.replace("BLOCK-----\n\n", "BLOCK-----\nVersion: GnuPG v2\n\n", 1)
    assert _openpgp.fingerprints(with_header) == _openpgp.fingerprints(NVIDIA_KEY)


def test_a_flat_repository():
    text = apt.render(apt.Source("n", "https://x/stable/deb/$(ARCH)", "/", (), "/etc/apt/keyrings/n.asc"))
    assert text == "Types: deb\nURIs: https://x/stable/deb/$(ARCH)\nSuites: /\nSigned-By: /etc/apt/keyrings/n.asc\n"


@pytest.mark.parametrize(("suite", "components"), [("/", ("main",)), ("bookworm", ())])
def test_what_would_break_apt_later_is_refused(suite, components):
    with pytest.raises(apt.SourceError):
        apt.render(apt.Source("n", "https://x", suite, components, "k"))


LIST = "deb http://deb.example/debian trixie main\ndeb [signed-by=/a.gpg arch=amd64] https://nvidia.github.io/libnvidia-container/stable/deb/$(ARCH) /\n"
SOURCES = "Types: deb\nURIs: https://mirrors.example/libnvidia-container/stable/deb/$(ARCH)\nSuites: /\n"


def test_other_entries_are_found_by_their_address():
    patterns = ["libnvidia-container"]
    assert apt.without_entries("/a.list", LIST, patterns) == LIST.splitlines(keepends=True)[0]
    assert apt.without_entries("/a.list", LIST.splitlines()[1], patterns) is None
    commented = "#" + LIST.splitlines()[1] + "\n"
    assert apt.without_entries("/a.list", commented, patterns) == commented
    assert apt.without_entries("/a.sources", SOURCES, patterns) is None
    other = "Types: deb\nURIs: http://deb.example/debian\nSuites: trixie\nComponents: main\n"
    assert apt.without_entries("/a.sources", other + "\n" + SOURCES, patterns) == other
    assert apt.without_entries("/a.sources", other, patterns) == other


def found(os_id="debian", os_version="13", installed=(), compose="", path="", dockerd="", apparmor=False):
    path = path or ("/usr/bin/docker" if installed else "")
    return packages.Found(os_id, os_version, dict.fromkeys(installed, "1"), path, dockerd, compose, apparmor)


DNF = "# kept\n[nvidia]\nbaseurl = https://x/libnvidia-container/rpm\n  https://y/rpm\nenabled=1\n\n[other]\nbaseurl=https://z/rpm\n"


@pytest.mark.parametrize(
    ("text", "patterns", "left"),
    [
        (DNF, ["libnvidia-container"], "# kept\n[other]\nbaseurl=https://z/rpm\n"),
        (DNF, ["https://y/"], "# kept\n[other]\nbaseurl=https://z/rpm\n"),
        (DNF, ["https://w/"], DNF),
        (DNF, ["x/libnvidia", "z/rpm"], None),
        ("[a]\nmirrorlist=https://x/list\n", ["https://x/"], None),
        # Not the address, only the name.
        ("[libnvidia-container]\nbaseurl=https://z/rpm\n", ["libnvidia-container"], "[libnvidia-container]\nbaseurl=https://z/rpm\n"),
        ("", ["x"], ""),
    ],
)
def test_other_entries_of_dnf(text, patterns, left):
    assert _dnf_source.without_entries(text, patterns) == left


def test_what_dnf_may_take_is_a_version_lock():
    text = _dnf_source.render(_dnf_source.Source("n", "t", "https://x/$basearch", "/k", ("a-1*", "b-1*")))
    assert text == (
        "[n]\nname=t\nbaseurl=https://x/$basearch\nenabled=1\nrepo_gpgcheck=1\ngpgcheck=0\ngpgkey=file:///k\nsslverify=1\nincludepkgs=a-1* b-1*\n"
    )
    assert "includepkgs" not in _dnf_source.render(_dnf_source.Source("n", "t", "https://x", "/k"))


@pytest.mark.parametrize(
    ("host", "source", "wanted", "repository"),
    [
        (found(), "auto", ["docker.io", "docker-cli", "ca-certificates", "docker-compose"], False),
        (found(apparmor=True), "distribution", ["docker.io", "docker-cli", "ca-certificates", "apparmor", "docker-compose"], False),
        (found(os_version="12"), "auto", ["docker.io", "ca-certificates", "docker-compose-plugin"], True),
        (found("ubuntu", "24.04"), "auto", ["docker.io", "ca-certificates", "docker-compose-v2"], False),
        (found(), "docker", [*packages.DOCKER_PACKAGES, "ca-certificates"], True),
        (found(installed=["docker-ce"]), "auto", ["docker-compose-plugin"], True),
        (found(installed=["docker.io"]), "auto", ["docker-compose"], False),
        (found(os_version="12", installed=["docker.io", "docker-compose"]), "auto", ["docker-compose-plugin"], True),
        # The distribution's Compose is there and still too old: the table was wrong, Docker's repository is not.
        (found("ubuntu", "22.04", ["docker.io", "docker-compose-v2"], "2.20.0"), "auto", ["docker-compose-plugin"], True),
        (packages.Found("ubuntu", "24.04", {"docker.io": "1", "docker-compose-v2": "1"}, "", "/usr/sbin/dockerd", ""), "auto", ["docker-cli"], False),
    ],
)
def test_which_packages(host, source, wanted, repository):
    plan = packages.plan(host, source, "2.24.4")
    assert (plan.satisfied, plan.packages, plan.needs_docker_repository, plan.refusal) == (False, wanted, repository, "")


@pytest.mark.parametrize("compose", ["2.24.4", "v2.26.1", "5.1.0", "2.40.3+ds1-0ubuntu1"])
def test_a_host_that_has_it_all_needs_nothing(compose):
    assert packages.plan(found(installed=["docker-ce"], compose=compose), "auto", "2.24.4") == packages.Plan(True, [], False, [], "")


def test_an_engine_that_is_there_is_not_replaced():
    plan = packages.plan(found(installed=["docker.io"], compose="2.26.1"), "docker", "2.24.4")
    assert plan.satisfied
    assert "stays" in plan.messages[0]


@pytest.mark.parametrize(
    ("host", "source", "words"),
    [
        (found(path="/snap/bin/docker"), "auto", "snap remove docker"),
        (found(path="/usr/bin/snap"), "auto", "snap"),
        (found(installed=["podman-docker"]), "auto", "podman-docker"),
        (found(os_version="12"), "distribution", "docker_package_source"),
        (found("rocky", "9"), "auto", "is not supported"),
        (found(dockerd="/opt/dockerd", path="/opt/docker"), "auto", "not installed from a package"),
    ],
)
def test_hosts_that_cannot_be_served_are_told_why(host, source, words):
    plan = packages.plan(host, source, "2.24.4")
    assert not plan.satisfied
    assert words in plan.refusal
    assert plan.packages == []


def test_debian_12_is_told_about_its_compose():
    assert "Debian 12".lower() in packages.plan(found(os_version="12"), "auto", "2.24.4").messages[0].lower()


def test_what_apt_would_remove_for_dockers_own_packages_is_named_and_stays():
    refused = packages.plan(found(installed=["containerd", "runc"]), "docker", "2.24.4")
    assert "containerd, runc would have to be removed" in refused.refusal
    assert packages.plan(found(installed=["containerd", "runc"]), "auto", "2.24.4").refusal == ""


def test_what_is_in_nobodys_way_is_reported():
    there = {"docker.io": "26.1", "docker-compose": "1.29.2", "nvidia-docker2": "2.13"}
    host = packages.Found("debian", "13", there, "/usr/bin/docker", "/usr/sbin/dockerd", "2.26.1")
    messages = " ".join(packages.plan(host, "auto", "2.24.4").messages)
    assert "docker-compose, version 1.29.2" in messages
    assert "nvidia-docker2 is installed and stays" in messages
    newer = host._replace(packages={"docker.io": "26.1", "docker-compose": "2.26.1-4"})
    assert packages.plan(newer, "auto", "2.24.4").messages == []


@pytest.mark.parametrize(
    ("installed", "version"),
    [({"docker-ce": "5:29.8.0-1~debian.13~trixie"}, "29.8.0"), ({"docker.io": "26.1.5+dfsg1-9+b9"}, "26.1.5"), ({}, "")],
)
def test_the_version_of_the_engine(installed, version):
    assert packages.engine_version(installed) == version
