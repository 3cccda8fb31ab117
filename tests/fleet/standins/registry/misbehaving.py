# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""STAND-IN: twelve ways in which a registry mirror misbehaves, each on a port of its own, in front of a real registry.

What is not spoilt comes from the real registry byte for byte; every answer carries ``X-Stand-In``. The ways are those
that were seen in the field. Run it with any Python from 3.9 on::

    python3 misbehaving.py --upstream http://127.0.0.1:5000 --first-port 5101
"""

from __future__ import annotations

import argparse
import http.client
import http.server
import re
import threading
import time
import typing as t
import urllib.parse

# In the order of the ports. On the port of "down" nothing listens.
KINDS = (
    "down",
    "token-403",
    "401",
    "404",
    "429",
    "500",
    "html",
    "wrong-bytes",
    "short-blob",
    "blob-403",
    "slow",
    "wrong-repository",
)
LABEL = "misbehaving registry"
PAGE = b"<!DOCTYPE html><html><body>This domain is for sale.</body></html>"
_PATH = re.compile(r"^/v2/(?P<repository>[^?]+)/(?P<what>manifests|blobs)/(?P<reference>[^/?]+)")

Answer = t.Tuple[int, t.Dict[str, str], bytes]
# As pairs: Docker sends one Accept for each type that it knows.
Headers = t.Sequence[t.Tuple[str, str]]


def error(status: int, code: str, headers: dict[str, str] | None = None) -> Answer:
    """The registry protocol's form of an error."""
    body = f'{{"errors":[{{"code":"{code}","message":"{LABEL}"}}]}}'.encode()
    return status, {"Content-Type": "application/json", **(headers or {})}, body


class Misbehaving:
    """One way. ``instead`` is (repository, tag) served by "wrong-repository" for whatever is asked; ``delay`` is that of "slow", in seconds."""

    def __init__(self, kind: str, upstream: str, instead: tuple[str, str] = ("library/redis", "6-alpine"), delay: float = 2.0) -> None:
        if kind not in KINDS:
            raise ValueError(f"no way to misbehave: {kind}")
        self.kind = kind
        self.upstream = urllib.parse.urlsplit(upstream)
        self.instead = instead
        self.delay = delay

    def fetch(self, method: str, path: str, headers: Headers) -> Answer:
        """The real registry's answer."""
        connection = http.client.HTTPConnection(self.upstream.netloc, timeout=60)
        try:
            passed = [(name, value) for name, value in headers if name.lower() in ("accept", "range")]
            connection.putrequest(method, path)
            for name, value in passed:
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in ("connection", "date", "server", "transfer-encoding")}
            return answer.status, kept, answer.read()
        finally:
            connection.close()

    def answer(self, method: str, path: str, headers: Headers) -> Answer:
        """What this registry says."""
        if self.kind == "html":
            return 200, {"Content-Type": "text/html"}, PAGE
        if self.kind == "500":
            return error(500, "UNKNOWN")
        if self.kind == "401":
            return error(401, "UNAUTHORIZED", {"WWW-Authenticate": 'Basic realm="Registry Realm"'})
        if self.kind == "token-403":
            if path.startswith("/token"):
                return error(403, "DENIED")
            return error(401, "UNAUTHORIZED", {"WWW-Authenticate": f'Bearer realm="http://{dict(headers).get("Host", "")}/token",service="{LABEL}"'})
        if self.kind == "slow":
            time.sleep(self.delay)
        if path.split("?")[0] == "/v2/":
            return self.fetch(method, "/v2/", headers)
        found = _PATH.match(path)
        if not found:
            return error(501, "UNSUPPORTED")
        if self.kind == "404":
            return error(404, "MANIFEST_UNKNOWN" if found["what"] == "manifests" else "BLOB_UNKNOWN")
        if self.kind == "429":
            return error(429, "TOOMANYREQUESTS", {"Retry-After": "60"})
        if self.kind == "wrong-repository":
            repository, tag = self.instead
            reference = found["reference"] if ":" in found["reference"] else tag
            return self.fetch(method, f"/v2/{repository}/{found['what']}/{reference}", headers)
        if found["what"] == "blobs" and self.kind == "blob-403":
            return error(403, "DENIED")
        status, kept, body = self.fetch(method, path, headers)
        if found["what"] == "blobs" and status in (200, 206) and self.kind in ("wrong-bytes", "short-blob"):
            # As if the cache's disk had lost part of a file, or got another's.
            body = body[: len(body) // 2] if self.kind == "short-blob" else bytes(byte ^ 0xFF for byte in body)
            kept = {name: value for name, value in kept.items() if name.lower() not in ("content-length", "content-range")}
            status = 200
        return status, kept, body


class Server(http.server.ThreadingHTTPServer):
    """One misbehaving registry; ``served`` counts its requests."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], registry: Misbehaving) -> None:
        self.registry = registry
        self.served = 0
        super().__init__(address, _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def handle_one_request(self) -> None:
        # As Go's server does it: Docker's containerd store tries TLS first, and takes this for the sign to go on without.
        if self.rfile.peek(1)[:1] == b"\x16":  # type: ignore[attr-defined]
            self.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
            self.close_connection = True
            return
        super().handle_one_request()

    def _reply(self) -> None:
        self.server.served += 1
        status, headers, body = self.server.registry.answer(self.command, self.path, self.headers.items())
        self.send_response(status)
        self.send_header("X-Stand-In", LABEL)
        names = {name.lower() for name in headers}
        for name, value in headers.items():
            self.send_header(name, value)
        if "content-length" not in names:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = _reply
    do_HEAD = _reply

    def log_message(self, format: str, *args: t.Any) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--upstream", required=True, help="the real registry, http://host:port")
    parser.add_argument("--address", default="0.0.0.0")
    parser.add_argument("--first-port", type=int, default=5101, help="port of the first kind; the others follow")
    parser.add_argument("--delay", type=float, default=2.0, help='seconds before each answer of "slow"')
    arguments = parser.parse_args()
    servers = []
    for number, kind in enumerate(KINDS):
        if kind == "down":
            continue
        server = Server((arguments.address, arguments.first_port + number), Misbehaving(kind, arguments.upstream, delay=arguments.delay))
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"{LABEL}: {kind} on port {arguments.first_port + number}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
