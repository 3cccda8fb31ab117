"""The stand-in packages that the fleet's apt repositories serve, as data. Every description says STAND-IN.

Names, versions and dependencies are upstream's; what the packages carry is ours, but for the Compose plugin of Debian 12,
which is the real program out of Debian 13's package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

NVIDIA_VERSIONS = ("1.19.1-1", "1.20.0-1")
# suite of Docker's repository -> (distribution in its URL, version suffix as Docker writes it)
DOCKER_SUITES = {"bookworm": ("debian", "debian.12~bookworm"), "trixie": ("debian", "debian.13~trixie"), "noble": ("ubuntu", "ubuntu.24.04~noble")}
# Debian 12 has Docker 20.10.24, Debian 13 (and the host that is called noble) 26.1.5.
DOCKER_VERSIONS = {"bookworm": "20.10.24", "trixie": "26.1.5", "noble": "26.1.5"}
COMPOSE_VERSION = "2.26.1"
COMPOSE_PLUGIN = "/usr/libexec/docker/cli-plugins/docker-compose"

_HOOK = """#!/bin/sh
# STAND-IN of nvidia-container-runtime-hook: there is no GPU to hand to the container.
exit 0
"""
_RUNTIME = """#!/bin/sh
# STAND-IN of nvidia-container-runtime: there is nothing to add to the container, so plain runc runs it.
exec runc "$@"
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
    """One binary package: files maps absolute path -> (content, mode)."""

    name: str
    version: str
    description: str
    depends: tuple[str, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, tuple[bytes, int]] = field(default_factory=dict)
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
    found = []
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


def docker_packages(suite: str, compose_plugin: bytes) -> list[Package]:
    """Docker's five packages for a suite of its repository; they bring Debian's Docker under Docker's names.

    compose_plugin is the real Compose program, carried where the distribution's own is too old.
    """
    suffix = DOCKER_SUITES[suite][1]
    version = f"5:{DOCKER_VERSIONS[suite]}-1~{suffix}"
    old = suite == "bookworm"
    compose = Package(
        "docker-compose-plugin",
        f"{COMPOSE_VERSION}-1~{suffix}",
        "Docker Compose, the real program out of Debian 13" if old else "Docker Compose, Debian's",
        () if old else ("docker-compose",),
        files={COMPOSE_PLUGIN: (compose_plugin, 0o755)} if old else {},
    )
    return [
        Package("docker-ce", version, "Docker Engine, Debian's", ("docker.io", "containerd.io", "docker-ce-cli"), architecture="all"),
        Package("docker-ce-cli", version, "Docker client, Debian's", ("docker.io",) if old else ("docker-cli",), architecture="all"),
        Package("containerd.io", "1.7.29-1", "containerd, Debian's", ("containerd", "runc"), architecture="all"),
        Package("docker-buildx-plugin", f"0.13.1-1~{suffix}", "Docker Buildx", () if old else ("docker-buildx",), architecture="all"),
        compose,
    ]


def ubuntu_packages() -> list[Package]:
    """What Ubuntu 24.04 has and the Debian below the host that is called so has not."""
    return [
        Package("docker-compose-v2", f"{COMPOSE_VERSION}-0ubuntu1", "Docker Compose under Ubuntu's name, Debian's", ("docker-compose",), architecture="all"),
    ]
