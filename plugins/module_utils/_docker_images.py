# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Have a list of images on a host: which are missing, pulled side by side, tried again, and under which digest they are there."""

from __future__ import annotations

import concurrent.futures
import json
import re
import threading
import time
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._command import NOT_FOUND, TIMED_OUT, Runner

INSPECT_TIMEOUT = 60.0
COMPOSE_TIMEOUT = 60.0
# What another try does not mend.
_FINAL = re.compile(
    r"manifest unknown|not found: manifest|repository does not exist|invalid reference|denied|unauthorized|no space left|no matching manifest", re.I
)


class ImagesError(Exception):
    """The list itself cannot be made or compared; the text says why."""


class Image(t.NamedTuple):
    """One image of the list. ``digest`` is the registry's digest it was pulled under, empty for one that was built or loaded."""

    name: str
    present: bool
    pulled: bool = False
    digest: str = ""
    id: str = ""
    seconds: float = 0.0
    attempts: int = 0
    error: str = ""


def wanted_names(names: t.Iterable[str]) -> list[str]:
    """Each name once, in the order given, with the tag that Docker would add."""
    wanted = []
    for name in names:
        last = name.rpartition("/")[2]
        full = name if ":" in last or "@" in name else name + ":latest"
        if full not in wanted:
            wanted.append(full)
    return wanted


def digest_of(name: str, repo_digests: t.Iterable[str]) -> str:
    """The digest under which this repository has the image: an image may be known under several."""
    repository = name.partition("@")[0]
    head, colon, tag = repository.rpartition(":")
    repository = head if colon and "/" not in tag else repository
    plain = re.sub(r"^(docker\.io/)?(library/)?", "", repository)
    for entry in repo_digests:
        where, dummy, digest = entry.partition("@")
        if re.sub(r"^(docker\.io/)?(library/)?", "", where) == plain:
            return digest
    return ""


def inspect(names: t.Sequence[str], run: Runner) -> dict[str, Image]:
    """What is there of the list, by name. Raises :class:`ImagesError` when the engine does not answer."""
    found = {}
    for name in names:
        status, out, err = run(["docker", "image", "inspect", "--format", "{{json .RepoDigests}} {{.Id}}", name], INSPECT_TIMEOUT)
        if status == 0:
            digests, dummy, identity = out.strip().rpartition(" ")
            found[name] = Image(name, True, digest=digest_of(name, json.loads(digests) or []), id=identity)
        elif status == NOT_FOUND or not re.search(r"no such (image|object)", err, re.I):
            raise ImagesError(f"Docker cannot be asked for its images: {(err or out).strip()[:300] or 'docker: not found'}")
        else:
            found[name] = Image(name, False)
    return found


def compose_images(project_src: str, files: t.Sequence[str], profiles: t.Sequence[str], run: Runner) -> list[str]:
    """The images that a Compose project names, with its ``.env`` filled in. Raises :class:`ImagesError`."""
    argv = ["docker", "compose", "--project-directory", project_src]
    for name in files:
        argv += ["--file", name]
    for name in profiles:
        argv += ["--profile", name]
    status, out, err = run(argv + ["config", "--images"], COMPOSE_TIMEOUT)
    if status != 0:
        raise ImagesError(f"{project_src}: docker compose config --images failed ({status}): {(err or out).strip()[:500]}")
    return sorted({line.strip() for line in out.splitlines() if line.strip()})


def pull(name: str, run: Runner, timeout: float, retries: int, sleep: t.Callable[[float], None] = time.sleep) -> tuple[int, str]:
    """Pull one image; (number of tries, error). The layers that came stay in the engine, so a further try goes on from there."""
    error = ""
    for attempt in range(1, retries + 2):
        status, out, err = run(["docker", "pull", "--quiet", name], timeout)
        if status == 0:
            return attempt, ""
        lines = (err or out).strip().splitlines() or [f"exit status {status}"]
        error = f"no end within {timeout:.0f} s" if status == TIMED_OUT else lines[-1][:500]
        if _FINAL.search(error):
            return attempt, error
        if attempt <= retries:
            sleep(min(60.0, 5.0 * 2 ** (attempt - 1)))
    return retries + 1, error


def ensure(
    names: t.Sequence[str],
    run: Runner,
    parallel: int = 3,
    timeout: float = 3600.0,
    retries: int = 3,
    check: bool = False,
    progress: t.Callable[[dict[str, str]], None] | None = None,
    sleep: t.Callable[[float], None] = time.sleep,
) -> tuple[list[Image], list[Image]]:
    """(before, after) in the order of the names. One image that does not come stops no other."""
    before = inspect(names, run)
    missing = [name for name in names if not before[name].present]
    if check or not missing:
        return list(before.values()), [before[name]._replace(pulled=name in missing) for name in names]
    states = {name: "there" if before[name].present else "waits" for name in names}
    lock = threading.Lock()

    def say(name: str, state: str) -> None:
        with lock:
            states[name] = state
            if progress:
                progress(dict(states))

    def one(name: str) -> Image:
        say(name, "is pulled")
        begun = time.monotonic()
        attempts, error = pull(name, run, timeout, retries, sleep)
        say(name, "failed: " + error if error else "pulled")
        return Image(name, not error, not error, seconds=round(time.monotonic() - begun, 1), attempts=attempts, error=error)

    with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, parallel)) as pool:
        pulled = {image.name: image for image in pool.map(one, missing)}
    there = inspect([name for name in names if name not in pulled or pulled[name].present], run)
    after = []
    for name in names:
        image = pulled.get(name, before[name])
        if name in there:
            image = image._replace(digest=there[name].digest, id=there[name].id)
        after.append(image)
    return list(before.values()), after


__all__ = ["Image", "ImagesError", "compose_images", "digest_of", "ensure", "inspect", "pull", "wanted_names"]
