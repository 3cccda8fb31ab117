# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Section G, the engine: what is wrong with a Docker that is installed already. One that is not, the roles install."""

from __future__ import annotations

import os
import shutil
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _docker_checks, _docker_daemon, _docker_plan
from ansible_collections.llmops.dify_xinference.plugins.module_utils._cuda import version_key
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_host import DockerHost, HostError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._gpu_probe import has_gpus
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._context import SOCKET_TIMEOUT, Context
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._core import FAIL, INFO, OK, SKIP, UNKNOWN, WARN, Detect, Finding

# 23.0 has dockerd --validate and proxies in daemon.json; Xinference's Compose file needs 2.24.4.
OLDEST_DOCKER = "23.0"
OLDEST_COMPOSE = "2.24.4"
COMMANDS = "/usr/bin:/usr/local/bin:/bin:/snap/bin"


def not_asked(context: Context) -> Finding | None:
    """Why Docker has no answer, when it has none."""
    state = context.docker.state
    if state == "absent":
        return Finding(SKIP, "Docker is not installed yet.")
    if state == "denied":
        return Finding(UNKNOWN, "Docker's socket is closed to this user.", "Run with become: true.")
    return Finding(SKIP, "Docker does not answer (see G01).") if state == "stopped" else None


def docker_access(context: Context) -> Finding:
    found = context.docker
    if found.state == "absent":
        if context.options.expect_installed:
            return Finding(FAIL, "Docker is not installed.", "Run the role docker.")
        return Finding(SKIP, "Docker is not installed yet.")
    if found.state == "stopped":
        return Finding(FAIL, f"Docker is installed and does not answer{': ' + found.problem if found.problem else ''}.")
    return not_asked(context) or Finding(OK, f"Docker {found.version} answers")


def snap_podman(context: Context) -> Finding:
    found = shutil.which("docker", path=COMMANDS)
    if found is None:
        return Finding(OK, "Docker is not installed yet")
    real = os.path.realpath(found)
    # A snap command is a link to /usr/bin/snap.
    if found.startswith("/snap/") or real.startswith("/snap/") or real == "/usr/bin/snap":
        return Finding(FAIL, f"{found} is from snap, which cannot use the host's NVIDIA hook.", "Save what you need, then snap remove docker.")
    if os.path.basename(real) == "podman" or os.path.exists("/usr/share/doc/podman-docker"):
        return Finding(FAIL, f"{found} is Podman's emulation.", "Remove podman-docker.")
    return Finding(OK, found)


def versions(context: Context) -> Finding:
    silent = not_asked(context)
    if silent:
        return silent
    engine = context.docker.version
    if version_key(engine) < version_key(OLDEST_DOCKER):
        return Finding(FAIL, f"Docker {engine} is too old, {OLDEST_DOCKER} or newer is needed.")
    status, out = context.answer("docker", "compose", "version", "--short")
    compose = out.strip().lstrip("v")
    if status != 0 or not version_key(compose):
        # The role brings the plugin.
        return Finding(INFO, f"Docker {engine}, without Compose so far.", "Nothing to do: the role docker installs it.")
    if version_key(compose) < version_key(OLDEST_COMPOSE):
        return Finding(FAIL, f"Compose {compose} is too old, {OLDEST_COMPOSE} or newer is needed.")
    return Finding(OK, f"Docker {engine}, Compose {compose}")


def unit_of(context: Context) -> _docker_plan.Unit:
    return context.once("docker unit", lambda: DockerHost().unit())


def document_of(context: Context) -> t.Union[Finding, t.Dict[str, t.Any]]:
    """daemon.json as a mapping, or why it is none."""
    text = context.daemon_json
    if text is None:
        return Finding(UNKNOWN, "/etc/docker/daemon.json cannot be read.", "Run with become: true.")
    try:
        return _docker_daemon.parse_document(text, "/etc/docker/daemon.json")
    except _docker_daemon.DocumentError as error:
        return Finding(FAIL, str(error).split(" It was left", maxsplit=1)[0])


def daemon_json_valid(context: Context) -> Finding:
    document = document_of(context)
    if isinstance(document, Finding):
        return document
    problems = _docker_checks.own_checks(document, {})
    if problems:
        return Finding(FAIL, _docker_daemon.without_credentials(" ".join(problems)))
    return Finding(OK, f"{len(document)} keys" if document else "no daemon.json, or an empty one")


def flag_conflict(context: Context) -> Finding:
    document = document_of(context)
    if isinstance(document, Finding):
        return Finding(SKIP, "daemon.json cannot be read (see G04).")
    flags = unit_of(context).flags
    both = sorted((set(flags) & set(document)) - {"runtimes"})
    if both:
        return Finding(FAIL, "Set both in daemon.json and by a flag of docker.service: " + ", ".join(f"{key} ({flags[key]})" for key in both) + ".")
    return Finding(OK, "no key is set in two places")


def pending_reload(context: Context) -> Finding:
    document = document_of(context)
    silent = not_asked(context)
    if silent or isinstance(document, Finding):
        return silent or Finding(SKIP, "daemon.json cannot be read (see G04).")
    keys = _docker_plan.not_loaded(document, context.docker.info, unit_of(context).flags)
    # A registry of the toolkit or of a mirror that is gone from the file stays in effect until it is overruled.
    wanted = {key for key in keys if key in document}
    if wanted:
        return Finding(WARN, f"daemon.json was changed and not loaded: {', '.join(sorted(wanted))}.")
    return Finding(OK, "Docker runs with its daemon.json")


def live_restore(context: Context) -> Finding:
    silent = not_asked(context)
    if silent:
        return silent
    count = len(gpu_containers(context))
    if count and not context.docker.info.get("LiveRestoreEnabled"):
        return Finding(WARN, f"live-restore is off: a restart of Docker stops {count} containers with GPUs, and their models.")
    return Finding(OK, "live-restore is on" if context.docker.info.get("LiveRestoreEnabled") else "no container with GPUs would be stopped")


def image_store(context: Context) -> Finding:
    silent = not_asked(context)
    if silent:
        return silent
    containerd = ["driver-type", "io.containerd.snapshotter.v1"] in (context.docker.info.get("DriverStatus") or [])
    return Finding(OK, "containerd's image store" if containerd else f"Docker's own image store ({context.docker.info.get('Driver', '?')})")


def storage_driver(context: Context) -> Finding:
    silent = not_asked(context)
    if silent:
        return silent
    driver = str(context.docker.info.get("Driver", "?"))
    if driver in ("vfs", "devicemapper", "aufs"):
        return Finding(FAIL, f"The storage driver {driver} copies every layer, or is gone in new versions.")
    return Finding(OK, driver)


def gpu_containers(context: Context) -> list[str]:
    """Names of running containers that were given GPUs, as the engine itself tells."""

    def look() -> list[str]:
        engine = DockerHost(endpoint=context.path(context.options.docker_socket))
        names = []
        for container in context.docker.containers:
            try:
                has = has_gpus(engine.get(f"/containers/{container.get('Id', '')}/json", SOCKET_TIMEOUT))
            except HostError:
                # It has ended meanwhile, as a rule; a server of models is no guess.
                has = "xinference" in str(container.get("Image", ""))
            if has:
                names.append(str((container.get("Names") or ["?"])[0]).lstrip("/"))
        return sorted(names)

    return context.once("gpu containers", look)


def listed_containers(context: Context) -> Finding:
    silent = not_asked(context)
    if silent:
        return silent
    names = gpu_containers(context)
    return Finding(INFO, f"Containers with GPUs: {', '.join(names)}.") if names else Finding(OK, "no container with GPUs")


def proxy_daemon(context: Context) -> Finding:
    silent = not_asked(context)
    if silent:
        return silent
    ours = os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY")
    info = context.docker.info
    if ours and not (info.get("HttpsProxy") or info.get("HttpProxy")):
        return Finding(WARN, "Docker has no proxy, although the shell has one.")
    return Finding(OK, "Docker has a proxy" if info.get("HttpsProxy") or info.get("HttpProxy") else "no proxy")


def selinux(context: Context) -> Finding:
    enforcing = (context.text("sys/fs/selinux/enforce") or "").strip() == "1"
    allowed = (context.text("sys/fs/selinux/booleans/container_use_devices") or "").split()[:1]
    if enforcing and allowed == ["0"]:
        return Finding(WARN, "SELinux is enforcing and containers may not use devices.")
    return Finding(OK, "SELinux is enforcing" if enforcing else "no SELinux")


def userns_rootless(context: Context) -> Finding:
    silent = not_asked(context)
    if silent:
        return silent
    found = [word for word in ("rootless", "userns") if any(f"name={word}" in str(option) for option in context.docker.info.get("SecurityOptions") or [])]
    return Finding(WARN, f"Docker runs with {' and '.join(found)}.") if found else Finding(OK, "no user namespaces")


DETECT: t.Mapping[str, Detect] = {
    "G01": docker_access,
    "G02": snap_podman,
    "G03": versions,
    "G04": daemon_json_valid,
    "G05": flag_conflict,
    "G06": pending_reload,
    "G14": live_restore,
    "G15": image_store,
    "G16": storage_driver,
    "G18": listed_containers,
    "G19": proxy_daemon,
    "G20": selinux,
    "G21": userns_rootless,
}

__all__ = ["DETECT", "document_of", "gpu_containers", "not_asked", "unit_of"]
