# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""A Dify release on disk: fetched or copied, checked, unpacked, and moved into place in one step.

Layout: ``<home>/releases/<version>/docker`` (upstream's files untouched, apart from ``volumes``, which links to the one
``<home>/volumes`` that outlives every release; what upstream ships there is copied in without touching existing files).
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tarfile
import tempfile
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _dify_layout, _dify_nginx
from ansible_collections.llmops.dify_xinference.plugins.module_utils._command import run_command

COMPOSE_FILE = "docker-compose.yaml"
# A clone with the whole history of Dify is some hundred megabytes.
CLONE_SECONDS = 900


class ReleaseError(Exception):
    """The release cannot be had; the message says what was found and what to do."""


def release_path(home: str, version: str) -> str:
    return os.path.join(home, "releases", version, "docker")


def release_of(home: str, folder: str) -> str:
    """Version of the release whose ``docker`` folder this is; empty for a folder that is not below ``home``."""
    match = re.match(re.escape(home.rstrip("/")) + r"/releases/([^/]+)/docker/?$", folder)
    return match.group(1) if match else ""


def other_release_problem(home: str, running: t.Iterable[str], wanted: str) -> str:
    """Why this release may not simply be started here; empty when it may.

    ``running``: folders of the containers that are there. Another release would migrate their data, and there is no way back
    from that but a backup.
    """
    others = sorted({release_of(home, folder) for folder in running} - {"", wanted})
    if not others:
        return ""
    return (
        f"Dify {others[0]} is on this host, and another release changes its data for good. Run upgrade.yml, which backs it up first and goes "
        f"back when it fails; or keep dify_version at {others[0]}; or set dify_allow_version_change after a backup of your own."
    )


def is_installed(home: str, version: str) -> bool:
    path = release_path(home, version)
    return os.path.isfile(os.path.join(path, COMPOSE_FILE)) and os.path.islink(os.path.join(path, "volumes"))


def layout(home: str, version: str) -> _dify_layout.Layout:
    """What the installed release consists of. Raises :class:`ReleaseError` for a compose file that is none of Dify's."""
    path = os.path.join(release_path(home, version), COMPOSE_FILE)
    try:
        with open(path, encoding="utf-8") as handle:
            return _dify_layout.read(handle.read())
    except (OSError, ValueError) as error:
        raise ReleaseError(f"{path}: {error}. Remove {os.path.dirname(os.path.dirname(path))}, and the next run unpacks the release again.") from error


def forwarding(home: str, version: str, services: t.Iterable[str]) -> str:
    """The release's nginx template, changed so that containers with new addresses are found; empty where nothing is to be changed."""
    try:
        with open(os.path.join(release_path(home, version), _dify_nginx.PLACE), encoding="utf-8") as handle:
            return _dify_nginx.following(handle.read(), services)
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise ReleaseError(f"{_dify_nginx.PLACE} of Dify {version} cannot be read: {error}") from error


def is_initialized(home: str, version: str) -> bool:
    """Whether the one-shot ``init_permissions`` (1.11 and later) has left its flag, or the release has no such service."""
    if not layout(home, version).one_shot:
        return True
    return os.path.exists(os.path.join(home, "volumes", "app", "storage", ".init_permissions"))


def install(
    home: str,
    version: str,
    urls: t.Sequence[str] = (),
    src: str | None = None,
    checksum: str | None = None,
    validate_certs: bool = True,
    timeout: int = 60,
    git: str | None = None,
) -> None:
    """Bring the release into its place. Raises :class:`ReleaseError`; then nothing of it is left behind.

    :param urls: addresses of the same archive, asked in order.
    :param src: folder or archive on this host; wins over the others.
    :param git: repository with the version as a tag; wins over ``urls``.
    :param checksum: of the archive, or ``commit:<id>`` with ``git``. A folder is taken as it is.
    :param timeout: seconds without a byte.
    """
    releases = os.path.join(home, "releases")
    try:
        os.makedirs(releases, mode=0o755, exist_ok=True)
        os.makedirs(os.path.join(home, "volumes"), mode=0o755, exist_ok=True)
        for name in os.listdir(releases):
            if name.startswith(".unpack-"):
                shutil.rmtree(os.path.join(releases, name))  # an interrupted run
        work = tempfile.mkdtemp(prefix=".unpack-", dir=releases)
        os.chmod(work, 0o755)
    except OSError as error:
        raise ReleaseError(f"{home} cannot be prepared: {error}") from error
    try:
        found = _obtain(work, version, urls, src, checksum, validate_certs, timeout, git)
        _share_volumes(found, os.path.join(home, "volumes"))
        place = release_path(home, version)
        os.makedirs(os.path.dirname(place), mode=0o755, exist_ok=True)
        if os.path.lexists(place):
            shutil.rmtree(place)
        os.rename(found, place)
    except OSError as error:
        raise ReleaseError(f"Dify {version} cannot be put under {releases}: {error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _obtain(work: str, version: str, urls: t.Sequence[str], src: str | None, checksum: str | None, validate_certs: bool, timeout: int, git: str | None) -> str:
    """The ``docker`` folder of the release, somewhere below ``work``."""
    if src and os.path.isdir(src):
        origin = src if os.path.isfile(os.path.join(src, COMPOSE_FILE)) else os.path.join(src, "docker")
        if not os.path.isfile(os.path.join(origin, COMPOSE_FILE)):
            raise ReleaseError(f"{src} holds no docker/{COMPOSE_FILE}; give the folder of a Dify release.")
        return str(shutil.copytree(origin, os.path.join(work, "docker"), symlinks=True))
    if src:
        if not os.path.isfile(src):
            raise ReleaseError(f"{src} does not exist on this host.")
        _check(src, checksum, src)
        return _unpack(src, os.path.join(work, "tree"), src)
    if git:
        return _clone(git, version, os.path.join(work, "tree"), checksum)
    refused = []
    for number, url in enumerate(urls):
        archive, tree = (os.path.join(work, f"{name}-{number}") for name in ("archive", "tree"))
        try:
            _download(url, archive, validate_certs, timeout)
            _check(archive, checksum, url)
            return _unpack(archive, tree, url)
        except ReleaseError as error:
            refused.append(str(error))
    raise ReleaseError(" ".join(refused))


def _clone(repository: str, version: str, tree: str, checksum: str | None) -> str:
    """The ``docker`` folder of a tag, without the history where the server can leave it out."""
    if shutil.which("git") is None:
        raise ReleaseError("dify_release_git needs git on this host; install it, or take the release from an archive (dify_release_url).")
    if checksum and not checksum.startswith("commit:"):
        raise ReleaseError("dify_release_checksum: with dify_release_git, write commit:<id>, the commit that the tag must name.")
    for depth in (["--depth", "1"], []):  # plain web servers cannot leave the history out
        shutil.rmtree(tree, ignore_errors=True)
        # Nobody is there to be asked for a password.
        argv = ["git", "-c", "core.askPass=true", "-c", "advice.detachedHead=false", "clone", "--quiet", "--branch", version, *depth, "--", repository, tree]
        status, _unused, errors = run_command(argv, CLONE_SECONDS)
        if status == 0 or "shallow" not in errors:
            break
    if status != 0:
        raise ReleaseError(
            f"Tag {version} could not be cloned from {repository}: {' '.join(errors.split())[-400:] or status}. Check dify_release_git and dify_version, "
            "or take the release from an archive (dify_release_url)."
        )
    found = run_command(["git", "-C", tree, "rev-parse", "HEAD"], 60)[1].strip()
    if checksum and found != checksum[len("commit:") :].lower():
        raise ReleaseError(f"Tag {version} of {repository} is commit {found}, expected {checksum[len('commit:') :]}. Nothing was unpacked.")
    if not os.path.isfile(os.path.join(tree, "docker", COMPOSE_FILE)):
        raise ReleaseError(f"Tag {version} of {repository} holds no docker/{COMPOSE_FILE}: it is no release of Dify.")
    return os.path.join(tree, "docker")


def _download(url: str, target: str, validate_certs: bool, timeout: int) -> None:
    from ansible.module_utils.urls import open_url

    try:
        answer = open_url(url, timeout=timeout, validate_certs=validate_certs, http_agent="llmops.dify_xinference", follow_redirects="all")
        with open(target, "wb") as handle:
            shutil.copyfileobj(answer, handle, 1 << 20)
    except Exception as error:  # urllib's, ssl's, http.client's and module_utils.urls' own
        raise ReleaseError(
            f"The Dify release could not be downloaded from {url}: {error}. "
            "Check dify_release_url, or point it (or dify_release_src) at a copy this host can reach."
        ) from error


def _check(archive: str, checksum: str | None, origin: str) -> None:
    if not checksum:
        return
    algorithm, _unused, wanted = checksum.rpartition(":")
    algorithm = algorithm or "sha256"
    if algorithm not in hashlib.algorithms_available:
        raise ReleaseError(f"dify_release_checksum: {algorithm} is no known algorithm; write sha256:<hex>.")
    digest = hashlib.new(algorithm)
    with open(archive, "rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            digest.update(block)
    if digest.hexdigest() != wanted.lower():
        raise ReleaseError(
            f"{origin} has {algorithm} {digest.hexdigest()}, expected {wanted}: the archive is damaged or not the one you mean. Nothing was unpacked."
        )


def _unpack(archive: str, tree: str, origin: str) -> str:
    try:
        with tarfile.open(archive) as tar:
            # Where Python has filters (3.12, and security releases of older ones) it wants one named. What matters is checked below, for all of them.
            tar.extraction_filter = getattr(tarfile, "tar_filter", lambda member, path: member)
            members = tar.getmembers()
            compose = re.compile(r"(^|/)docker/" + re.escape(COMPOSE_FILE) + "$")
            roots = sorted((m.name[: -len(COMPOSE_FILE) - 1] for m in members if compose.search(m.name)), key=len)
            if not roots:
                raise ReleaseError(f"{origin} holds no docker/{COMPOSE_FILE}: it is no archive of a Dify release.")
            root = roots[0]
            wanted = [m for m in members if m.name == root or m.name.startswith(root + "/")]
            for member in wanted:
                # The archive is data, not a program: nothing may land outside, nothing special is made.
                parts = member.name.split("/")
                inside = os.path.normpath(os.path.join(os.path.dirname(member.name), member.linkname)) if member.issym() else root
                plain = member.isreg() or member.isdir() or member.issym()
                if ".." in parts or member.name.startswith("/") or not plain or not (inside + "/").startswith(root + "/"):
                    raise ReleaseError(f"{origin} holds a suspicious entry ({member.name}); nothing was unpacked.")
                member.mode &= 0o755
                member.uid = member.gid = os.getuid()
                member.uname = member.gname = ""
            for member in wanted:
                tar.extract(member, tree)
    except (tarfile.TarError, EOFError, OSError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise ReleaseError(f"There is no space left below {tree} to unpack {origin}: {error}. Free some, then run again.") from error
        raise ReleaseError(f"{origin} cannot be unpacked: {error}. The archive is damaged, or not a .tar.gz.") from error
    return os.path.join(tree, root)


def _share_volumes(release: str, volumes: str) -> None:
    """Copy what the release ships under ``volumes`` to the shared folder, where it lacks it, and link there."""
    shipped = os.path.join(release, "volumes")
    if os.path.isdir(shipped) and not os.path.islink(shipped):
        for folder, _unused, files in os.walk(shipped):
            target = os.path.normpath(os.path.join(volumes, os.path.relpath(folder, shipped)))
            os.makedirs(target, exist_ok=True)
            for name in files:
                if not os.path.lexists(os.path.join(target, name)):
                    shutil.copy2(os.path.join(folder, name), os.path.join(target, name))
        shutil.rmtree(shipped)
    os.symlink(volumes, shipped)


__all__ = [
    "COMPOSE_FILE",
    "ReleaseError",
    "forwarding",
    "install",
    "is_initialized",
    "is_installed",
    "layout",
    "other_release_problem",
    "release_of",
    "release_path",
]
