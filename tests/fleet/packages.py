"""The stand-in packages that the fleet's apt repositories serve, as data. Every description says STAND-IN.

The toolkit's packages carry our own shims under upstream's names, versions and dependencies. Docker's packages carry
Debian's builds of the real programs under Docker's names and conflicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

NVIDIA_VERSIONS = ("1.19.1-1", "1.20.0-1")
# suite of Docker's repository -> distribution in its URL; all three carry the same packages, built from Debian 13's
DOCKER_SUITES = {"bookworm": "debian", "trixie": "debian", "noble": "ubuntu"}
# What Docker's stand-ins are made of; their programs need no newer libc than Debian 12 and Ubuntu 22.04 have.
DEBIAN_SOURCES = ("docker.io", "docker-cli", "docker-buildx", "docker-compose", "containerd")
PLUGINS = "/usr/libexec/docker/cli-plugins"

_HOOK = """#!/usr/bin/python3
# STAND-IN of nvidia-container-runtime-hook: binds the stand-ins of the driver's files into the container that starts, in
# its own mount namespace and before it changes its root, as the real one does. On a host without them it does nothing.
import json
import os
import subprocess
import sys

FILES = {
    "/usr/lib/llmops-standin/libcuda.so.1": "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
    "/usr/bin/nvidia-smi": "/usr/bin/nvidia-smi",
    "/usr/lib/llmops-standin/smi": "/usr/lib/llmops-standin/smi",
    "/etc/llmops-standin/nvidia.json": "/etc/llmops-standin/nvidia.json",
}


def main():
    if sys.argv[1:2] != ["prestart"]:
        return 0
    state = json.load(sys.stdin)
    with open(os.path.join(state["bundle"], "config.json")) as stream:
        config = json.load(stream)
    environment = [word for word in config["process"].get("env", []) if word.startswith("NVIDIA_VISIBLE_DEVICES=")]
    if not environment or environment[-1].partition("=")[2] in ("", "void", "none"):
        return 0
    root = os.path.join(state["bundle"], config["root"]["path"])
    for source, target in FILES.items():
        if not os.path.exists(source) or not os.path.exists("/usr/lib/llmops-standin/libcuda.so.1"):
            continue
        place = root + target
        os.makedirs(place if os.path.isdir(source) else os.path.dirname(place), exist_ok=True)
        if not os.path.isdir(source) and not os.path.exists(place):
            open(place, "w").close()
        subprocess.run(["nsenter", "--mount=/proc/%d/ns/mnt" % state["pid"], "mount", "--bind", source, place], check=True)
    return 0


sys.exit(main())
"""
_RUNTIME = """#!/bin/sh
# STAND-IN of nvidia-container-runtime: there is nothing to add to the container, so plain runc runs it.
exec runc "$@"
"""
# As nvidia-docker2 brought it.
_LEGACY_CONFIG = """{
    "runtimes": {
        "nvidia": {
            "path": "nvidia-container-runtime",
            "runtimeArgs": []
        }
    }
}
"""
_CLI = """#!/bin/sh
# STAND-IN of nvidia-container-cli.
case "$1" in
    --version | -V) echo "cli-version: {version}"; echo "lib-version: {version}" ;;
    *) echo "STAND-IN of nvidia-container-cli: '$*' is not answered" >&2; exit 1 ;;
esac
"""
_CDI_HOOK = """#!/bin/sh
# STAND-IN of nvidia-cdi-hook: nothing to do without a GPU.
exit 0
"""
_CONFIG = """# STAND-IN of the toolkit's configuration, with upstream's defaults that matter here.
[nvidia-container-cli]
load-kmods = true

[nvidia-container-runtime]
log-level = "info"
mode = "auto"
runtimes = ["runc", "crun"]
"""


@dataclass(frozen=True)
class Package:
    """One binary package.

    files maps absolute path -> (content, mode), links maps absolute path -> target, folders are empty folders; scripts
    are maintainer scripts by name (postinst, ...).
    """

    name: str
    version: str
    description: str
    depends: tuple[str, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, tuple[bytes, int]] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    scripts: Mapping[str, bytes] = field(default_factory=dict)
    architecture: str = "amd64"
    conffiles: tuple[str, ...] = ()

    def control(self, installed_kib: int) -> str:
        """The text of DEBIAN/control."""
        fields = {
            "Package": self.name,
            "Version": self.version,
            "Architecture": self.architecture,
            "Maintainer": "The llmops.dify_xinference contributors <llmops@example.invalid>",
            "Installed-Size": str(installed_kib),
            **({"Depends": ", ".join(self.depends)} if self.depends else {}),
            **self.extra,
            "Section": "utils",
            "Priority": "optional",
            "Description": f"STAND-IN: {self.description}",
        }
        return "".join(f"{key}: {value}\n" for key, value in fields.items())


def nvidia_packages(nvidia_ctk: bytes) -> list[Package]:
    """The toolkit's four packages in every version; nvidia_ctk is the program that answers for nvidia-ctk."""
    found = [
        Package(
            "nvidia-docker2",
            "2.14.0-1",
            "nvidia-docker2, which came before the toolkit and has daemon.json as a file of its own",
            ("nvidia-container-toolkit (>= 1.14.0-1)",),
            files={"/etc/docker/daemon.json": (_LEGACY_CONFIG.encode(), 0o644)},
            conffiles=("/etc/docker/daemon.json",),
            architecture="all",
        )
    ]
    for version in NVIDIA_VERSIONS:
        upstream = version.partition("-")[0]
        replaces = {"Breaks": "nvidia-container-runtime (<= 3.5.0-1), nvidia-container-runtime-hook"}
        replaces["Replaces"] = replaces["Breaks"]
        found += [
            Package("libnvidia-container1", version, "NVIDIA container runtime library", ("libc6", "libcap2")),
            Package(
                "libnvidia-container-tools",
                version,
                "NVIDIA container runtime library, command line tools",
                ("libc6", "libcap2", f"libnvidia-container1 (>= {version})"),
                files={"/usr/bin/nvidia-container-cli": (_CLI.format(version=upstream).encode(), 0o755)},
            ),
            Package(
                "nvidia-container-toolkit-base",
                version,
                "NVIDIA Container Toolkit base",
                extra={"Breaks": "nvidia-container-toolkit (<= 1.10.0-1)", "Replaces": "nvidia-container-toolkit (<= 1.10.0-1)"},
                files={
                    "/usr/bin/nvidia-ctk": (nvidia_ctk.replace(b"@VERSION@", upstream.encode()), 0o755),
                    "/usr/bin/nvidia-cdi-hook": (_CDI_HOOK.encode(), 0o755),
                    "/usr/bin/nvidia-container-runtime": (_RUNTIME.encode(), 0o755),
                    "/etc/nvidia-container-runtime/config.toml": (_CONFIG.encode(), 0o644),
                },
                conffiles=("/etc/nvidia-container-runtime/config.toml",),
            ),
            Package(
                "nvidia-container-toolkit",
                version,
                "NVIDIA Container Toolkit",
                (f"nvidia-container-toolkit-base (= {version})", f"libnvidia-container-tools (= {version})"),
                extra=replaces,
                files={"/usr/bin/nvidia-container-runtime-hook": (_HOOK.encode(), 0o755)},
            ),
        ]
    return found


@dataclass(frozen=True)
class Contents:
    """What a Debian package carries: the same fields as Package has, and its version."""

    version: str
    files: Mapping[str, tuple[bytes, int]]
    links: Mapping[str, str]
    folders: tuple[str, ...]
    scripts: Mapping[str, bytes]
    conffiles: tuple[str, ...]


def docker_packages(debian: Mapping[str, Contents]) -> list[Package]:
    """Docker's five packages under Docker's names and conflicts; the programs in them are Debian 13's own builds.

    debian has the contents of DEBIAN_SOURCES. Debian's docker.io conflicts with docker-ce, so depending on it is no way.
    """
    suffix = "debian.13~trixie"
    engine, containerd = debian["docker.io"], debian["containerd"]
    upstream = engine.version.partition("+")[0].partition("-")[0]

    def plugin(name: str) -> dict[str, tuple[bytes, int]]:
        source = debian[name].files
        return {f"{PLUGINS}/{name}": source[f"{PLUGINS}/{name}"]}

    def plain_version(name: str) -> str:
        return debian[name].version.partition("+")[0].partition("-")[0] + f"-1~{suffix}"

    return [
        Package(
            "docker-ce",
            f"5:{upstream}-1~{suffix}",
            "Docker Engine, the real program out of Debian 13",
            ("containerd.io", "docker-ce-cli", "iptables", "libc6 (>= 2.34)", "libsystemd0", "adduser", "sysvinit-utils", "tini"),
            extra={"Conflicts": "docker.io", "Replaces": "docker.io"},
            files=engine.files,
            links=engine.links,
            folders=engine.folders,
            scripts=engine.scripts,
            conffiles=engine.conffiles,
        ),
        Package(
            "docker-ce-cli",
            f"5:{upstream}-1~{suffix}",
            "Docker client, the real program out of Debian 13",
            ("libc6 (>= 2.34)",),
            extra={"Conflicts": "docker-cli, docker.io", "Replaces": "docker-cli, docker.io"},
            files={"/usr/bin/docker": debian["docker-cli"].files["/usr/bin/docker"]},
        ),
        Package(
            "containerd.io",
            containerd.version.partition("~")[0] + "-1",
            "containerd, the real program out of Debian 13; runc is the host's own",
            ("runc", "libc6 (>= 2.34)"),
            extra={"Provides": "containerd", "Conflicts": "containerd", "Replaces": "containerd"},
            files=containerd.files,
            links=containerd.links,
            scripts=containerd.scripts,
            conffiles=containerd.conffiles,
        ),
        Package("docker-buildx-plugin", plain_version("docker-buildx"), "Docker Buildx, the real program out of Debian 13", files=plugin("docker-buildx")),
        Package("docker-compose-plugin", plain_version("docker-compose"), "Docker Compose, the real program out of Debian 13", files=plugin("docker-compose")),
    ]


def ubuntu_packages() -> list[Package]:
    """What Ubuntu 24.04 has and the Debian below the host that is called so has not."""
    return [
        Package("docker-compose-v2", "2.26.1-0ubuntu1", "Docker Compose under Ubuntu's name, Debian's", ("docker-compose",), architecture="all"),
    ]
