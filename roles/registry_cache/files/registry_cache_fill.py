# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Have a pull-through cache fetch images before hosts ask for them.

docker-registry (2.8) fetches a blob that it does not have twice: once for itself and once for who asks, and once more for
everybody who asks meanwhile. So each blob is asked for here and the answer left unread: what remains is the copy for the
cache. What is there already is not asked for, so an interrupted run goes on where it was. A layer that another image brought
is linked, as the registry does it for a push; it would fetch it again for each image.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import http.client
import json
import os
import socket
import sys
import time
import urllib.parse

TYPES = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)


class FillError(Exception):
    """An image did not come; the text says which and why."""


def parse_image(name: str) -> tuple[str, str]:
    """Repository and reference of an image of Docker Hub."""
    rest, _at, digest = name.partition("@")
    head, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        head, tag = rest, "latest"
    head = head.removeprefix("docker.io/")
    return (head if "/" in head else "library/" + head), digest or tag


def blob_file(storage: str, digest: str) -> str:
    algorithm, _colon, value = digest.partition(":")
    return os.path.join(storage, "docker", "registry", "v2", "blobs", algorithm, value[:2], value, "data")


def link_file(storage: str, repository: str, digest: str) -> str:
    algorithm, _colon, value = digest.partition(":")
    return os.path.join(storage, "docker", "registry", "v2", "repositories", *repository.split("/"), "_layers", algorithm, value, "link")


def is_there(storage: str, digest: str, size: int) -> bool:
    try:
        return os.stat(blob_file(storage, digest)).st_size == size
    except OSError:
        return False


def link(storage: str, repository: str, digest: str) -> None:
    """Let a repository have a blob that is there; nothing when it has."""
    path = link_file(storage, repository, digest)
    if os.path.exists(path):
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "w", encoding="ascii") as stream:
        stream.write(digest)
    os.rename(path + ".new", path)


class _Unread(http.client.HTTPConnection):
    """A connection whose answers are not read: what the other side sends into it, it fetched in vain."""

    def connect(self) -> None:
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.settimeout(self.timeout)
        self.sock.connect((self.host, self.port))


def pick(document: dict, platform: str) -> str | None:
    """The digest of this platform's manifest in an index; None for a manifest."""
    listed = document.get("manifests")
    if not listed:
        return None
    system, _slash, architecture = platform.partition("/")
    for entry in listed:
        named = entry.get("platform") or {}
        if (named.get("os"), named.get("architecture")) == (system, architecture):
            return str(entry["digest"])
    names = ", ".join("/".join(str((entry.get("platform") or {}).get(key)) for key in ("os", "architecture")) for entry in listed)
    raise FillError(f"there is no {platform} in it, only {names}")


class Cache:
    def __init__(self, url: str, storage: str, timeout: float) -> None:
        self.address = urllib.parse.urlsplit(url).netloc
        self.storage = storage
        self.timeout = timeout

    def manifest(self, repository: str, reference: str) -> dict:
        connection = http.client.HTTPConnection(self.address, timeout=120)
        try:
            connection.request("GET", f"/v2/{repository}/manifests/{reference}", headers={"Accept": ", ".join(TYPES)})
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise FillError(f"the cache on {self.address} does not answer: {error}") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise FillError(f"{repository}:{reference}: the cache answers {answer.status} {body[:200].decode('utf-8', 'replace')}")
        return json.loads(body)

    def blobs(self, name: str, platform: str) -> list[tuple[str, str, int]]:
        """(repository, digest, size) of what the image is made of."""
        repository, reference = parse_image(name)
        document = self.manifest(repository, reference)
        digest = pick(document, platform)
        if digest:
            document = self.manifest(repository, digest)
        return [(repository, entry["digest"], int(entry["size"])) for entry in [document["config"], *document["layers"]]]

    def fetch(self, repository: str, digest: str, size: int) -> None:
        """Ask, leave, and wait until the blob lies in the cache."""
        until = time.monotonic() + self.timeout
        while True:
            connection = _Unread(self.address, timeout=120)
            try:
                connection.request("GET", f"/v2/{repository}/blobs/{digest}")
                status = connection.getresponse().status
            except (OSError, http.client.HTTPException) as error:
                raise FillError(f"{repository} {digest[:19]}: {error}") from error
            finally:
                connection.close()
            if status != 200:
                raise FillError(f"{repository} {digest[:19]}: the cache answers {status}")
            # A fetch that the registry gave up leaves nothing behind, so it is asked for again after a while.
            asked = time.monotonic()
            while time.monotonic() - asked < max(60.0, size / 200_000):
                if is_there(self.storage, digest, size):
                    link(self.storage, repository, digest)
                    return
                if time.monotonic() > until:
                    raise FillError(f"{repository} {digest[:19]} ({size} bytes) did not come within {self.timeout:.0f} s")
                time.sleep(0.2)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", required=True, help="the cache, http://host:port")
    parser.add_argument("--storage", required=True, help="its folder")
    parser.add_argument("--platform", default="linux/amd64")
    parser.add_argument("--parallel", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for one blob")
    parser.add_argument("--check", action="store_true", help="only say what is missing")
    parser.add_argument("images", nargs="+")
    arguments = parser.parse_args()
    cache = Cache(arguments.url, arguments.storage, arguments.timeout)
    failed: list[str] = []
    missing: dict[str, tuple[str, str, int]] = {}
    unlinked: list[tuple[str, str]] = []
    for name in arguments.images:
        try:
            for repository, digest, size in cache.blobs(name, arguments.platform):
                if not is_there(arguments.storage, digest, size):
                    missing.setdefault(digest, (repository, digest, size))
                if not os.path.exists(link_file(arguments.storage, repository, digest)):
                    unlinked.append((repository, digest))
        except (FillError, ValueError, KeyError) as error:
            failed.append(f"{name}: {error}")
    done = 0
    if not arguments.check:
        with concurrent.futures.ThreadPoolExecutor(max_workers=arguments.parallel) as pool:
            # The largest first, so that it is not what everybody waits for in the end.
            running = {pool.submit(cache.fetch, *blob): blob for blob in sorted(missing.values(), key=lambda blob: -blob[2])}
            for future in concurrent.futures.as_completed(running):
                problem = future.exception()
                if isinstance(problem, FillError):
                    failed.append(str(problem))
                elif problem:
                    raise problem
                else:
                    done += running[future][2]
                    print(f"{done / 1e6:.1f} of {sum(blob[2] for blob in missing.values()) / 1e6:.1f} MB", file=sys.stderr, flush=True)
        for repository, digest in unlinked:
            if os.path.exists(blob_file(arguments.storage, digest)):
                link(arguments.storage, repository, digest)
    size = sum(blob[2] for blob in missing.values())
    print(json.dumps({"missing": len(missing), "unlinked": len(unlinked), "bytes": size, "fetched": done, "failed": failed}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
