# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Serve a bundle to the fleet, read-only: its images as a registry does, the rest as files.

A Docker Engine shows no password to a mirror, so who may ask is decided by address: the hosts that were named, this machine, and
containers on its own bridges. Everybody else gets 403.
"""

from __future__ import annotations

import argparse
import http.server
import ipaddress
import json
import os
import re
import socket
import sys
import urllib.parse

FOLDERS = ("files", "python", "weights")
NAME = "org.opencontainers.image.ref.name"
_BRIDGE = re.compile(r"^(docker\d+|br-[0-9a-f]{12})$")
_CHUNK = 1024 * 1024


def bridges(routes: str) -> list[ipaddress.IPv4Network]:
    """Networks of Docker's bridges, out of /proc/net/route."""
    found = []
    for line in routes.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and _BRIDGE.match(fields[0]) and fields[1] != "00000000":
            address, mask = (int.from_bytes(bytes.fromhex(fields[at]), "little") for at in (1, 7))
            found.append(ipaddress.IPv4Network((address, bin(mask).count("1"))))
    return found


def media_type(data: bytes) -> str:
    document = json.loads(data)
    return str(document.get("mediaType") or f"application/vnd.oci.image.{'index' if 'manifests' in document else 'manifest'}.v1+json")


class Bundle:
    def __init__(self, root: str, allowed: list[str]) -> None:
        self.root = os.path.realpath(root)
        self.allowed = [ipaddress.ip_network(entry, strict=False) for entry in allowed]

    def may(self, peer: str) -> bool:
        address = ipaddress.ip_address(peer)
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped or address
        if address.is_loopback or any(address in network for network in self.allowed):
            return True
        try:
            with open("/proc/net/route", encoding="ascii") as stream:
                return any(address in network for network in bridges(stream.read()))
        except OSError:
            return False

    def tags(self) -> dict[str, str]:
        """Digest by repository:tag. Read anew each time: the folder may have been replaced."""
        try:
            with open(os.path.join(self.root, "images", "index.json"), encoding="utf-8") as stream:
                return {entry["annotations"][NAME]: entry["digest"] for entry in json.load(stream)["manifests"]}
        except OSError:
            return {}

    def blob(self, digest: str) -> str | None:
        found = re.fullmatch(r"(sha256):([0-9a-f]{64})", digest)
        path = os.path.join(self.root, "images", "blobs", *found.groups()) if found else ""
        return path if path and os.path.isfile(path) else None

    def file(self, path: str) -> str | None:
        """A plain file below one of the folders that are served."""
        parts = [part for part in path.split("/") if part]
        if not parts or parts[0] not in FOLDERS or ".." in parts:
            return None
        full = os.path.join(self.root, *parts)
        if os.path.isdir(full):
            full = os.path.join(full, "index.html")
        real = os.path.realpath(full)
        return real if os.path.isfile(real) and real.startswith(self.root + os.sep) else None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "llmops-bundle"
    sys_version = ""
    timeout = 60
    bundle: Bundle

    def do_GET(self) -> None:
        self._answer(True)

    def do_HEAD(self) -> None:
        self._answer(False)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Only what was refused is worth a line."""

    def _answer(self, body: bool) -> None:
        if not self.bundle.may(self.client_address[0]):
            self.log_message("%s may not ask: it is not among the hosts of the fleet", self.client_address[0])
            self._error(403, "DENIED", "this address is not among the hosts of the fleet", body)
            return
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        if path in ("/v2", "/v2/"):
            self._bytes(200, b"{}", "application/json", body)
            return
        image = re.fullmatch(r"/v2/(.+)/(manifests|blobs)/([^/]+)", path)
        if image:
            repository, kind, reference = image.groups()
            digest = self.bundle.tags().get(f"{repository}:{reference}", reference) if kind == "manifests" else reference
            found = self.bundle.blob(digest)
            if not found:
                self._error(404, "MANIFEST_UNKNOWN" if kind == "manifests" else "BLOB_UNKNOWN", "not in the bundle", body)
            elif kind == "manifests":
                with open(found, "rb") as stream:
                    data = stream.read()
                self._bytes(200, data, media_type(data), body, digest)
            else:
                self._file(found, body, digest)
            return
        found = self.bundle.file(path)
        if found:
            self._file(found, body)
        else:
            self._error(404, "NOT_FOUND", "not in the bundle", body)

    def _head(self, status: int, length: int, kind: str, digest: str = "", extra: tuple[tuple[str, str], ...] = ()) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("X-Content-Type-Options", "nosniff")
        if digest:
            self.send_header("Docker-Content-Digest", digest)
            self.send_header("ETag", f'"{digest}"')
        for name, value in extra:
            self.send_header(name, value)
        self.end_headers()

    def _bytes(self, status: int, data: bytes, kind: str, body: bool, digest: str = "") -> None:
        self._head(status, len(data), kind, digest)
        if body:
            self.wfile.write(data)

    def _error(self, status: int, code: str, message: str, body: bool) -> None:
        self._bytes(status, json.dumps({"errors": [{"code": code, "message": message}]}).encode(), "application/json", body)

    def _file(self, path: str, body: bool, digest: str = "") -> None:
        size = os.path.getsize(path)
        first, last, status = 0, size - 1, 200
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        extra: tuple[tuple[str, str], ...] = (("Accept-Ranges", "bytes"),)
        if wanted:
            first, last = int(wanted.group(1)), min(int(wanted.group(2) or size - 1), size - 1)
            if first > last:
                self._head(416, 0, "application/octet-stream", extra=(("Content-Range", f"bytes */{size}"),))
                return
            status, extra = 206, (*extra, ("Content-Range", f"bytes {first}-{last}/{size}"))
        kind = "text/html; charset=utf-8" if path.endswith(".html") else "application/octet-stream"
        self._head(status, last - first + 1, kind, digest, extra)
        if not body:
            return
        with open(path, "rb") as stream:
            stream.seek(first)
            left = last - first + 1
            while left > 0:
                data = stream.read(min(_CHUNK, left))
                if not data:
                    self.close_connection = True  # shorter than announced: the other side has to notice
                    return
                self.wfile.write(data)
                left -= len(data)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], (ConnectionError, socket.timeout)):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", required=True, help="folder of the bundle")
    parser.add_argument("--address", required=True, help="address to listen on")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--allow", action="append", default=[], metavar="ADDRESS|NETWORK", help="who may ask; may be given more than once")
    arguments = parser.parse_args()
    Handler.bundle = Bundle(arguments.root, arguments.allow)
    if ":" in arguments.address:
        Server.address_family = socket.AF_INET6
    Server((arguments.address, arguments.port), Handler).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
