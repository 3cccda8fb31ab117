# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small HTTP server: requests, responses, routes. Knows nothing of Dify."""

from __future__ import annotations

import dataclasses
import email.parser
import email.policy
import http.cookies
import http.server
import json
import re
import socket
import sys
import threading
import traceback
import urllib.parse
from collections.abc import Callable
from typing import Any


class HttpError(Exception):
    """Ends a request with this answer."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"{response.status} {response.body!r}")
        self.response = response


@dataclasses.dataclass
class Request:
    """One request; header names are lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""
    client: str = "127.0.0.1"
    values: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def cookies(self) -> dict[str, str]:
        jar = http.cookies.SimpleCookie()
        try:
            jar.load(self.headers.get("cookie", ""))
        except http.cookies.CookieError:
            return {}
        return {name: morsel.value for name, morsel in jar.items()}

    @property
    def json(self) -> dict[str, Any]:
        """The JSON object sent; an empty one for no or another body."""
        try:
            value = json.loads(self.body or b"{}")
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def files(self) -> dict[str, tuple[str, bytes, dict[str, str]]]:
        """Parts of a multipart form: name -> (file name, content, headers)."""
        kind = self.headers.get("content-type", "")
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + self.body)
        found: dict[str, tuple[str, bytes, dict[str, str]]] = {}
        if message.is_multipart():
            for part in message.iter_parts():
                name = str(part.get_param("name", "", header="content-disposition"))
                content = part.get_payload(decode=True)
                found[name] = (part.get_filename() or "", content if isinstance(content, bytes) else b"", dict(part.items()))
        return found


@dataclasses.dataclass
class Response:
    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: list[tuple[str, str]] = dataclasses.field(default_factory=list)


def reply(value: Any, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(status, json.dumps(value, ensure_ascii=False).encode())


def html(text: str, status: int = 200) -> Response:
    return Response(status, text.encode(), "text/html; charset=utf-8")


Handler = Callable[..., Response]


@dataclasses.dataclass
class Route:
    method: str
    pattern: re.Pattern[str]
    handler: Handler
    options: dict[str, Any]


class Router:
    """Routes in order of registration; ``<name>`` matches one path segment, ``<path:name>`` several."""

    def __init__(self) -> None:
        self.routes: list[Route] = []
        # Paths whose other methods the copied server is known to refuse with 405.
        self.strict: list[re.Pattern[str]] = []

    @staticmethod
    def _compile(path: str) -> re.Pattern[str]:
        return re.compile(re.sub(r"<(path:)?(\w+)>", lambda name: f"(?P<{name[2]}>{'.+?' if name[1] else '[^/]+'})", path))

    def add(self, method: str, path: str, handler: Handler, **options: Any) -> None:
        self.routes.append(Route(method, self._compile(path), handler, options))

    def only(self, path: str) -> None:
        self.strict.append(self._compile(path))

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        for route in self.routes:
            match = route.pattern.fullmatch(path) if route.method == method else None
            if match:
                return route, {name: urllib.parse.unquote(value) for name, value in match.groupdict().items()}
        return None

    def refuses(self, path: str) -> bool:
        return any(pattern.fullmatch(path) for pattern in self.strict)


class Application:
    """Turns a request into a response; ``make_server`` puts it on a port."""

    name = "stand-in"

    def __call__(self, request: Request) -> Response:
        raise NotImplementedError

    def failed(self, request: Request, error: Exception) -> Response:
        """The answer to an unexpected exception."""
        print(f"{request.method} {request.path}: {error!r}", file=sys.stderr)
        traceback.print_exception(error, file=sys.stderr)
        return reply({"message": "Internal Server Error", "code": "unknown", "status": 500}, 500)

    def closed(self) -> None:
        """Called once when the server stops."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    application: Application

    def _serve(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(
            method=self.command,
            path=parts.path,
            query=dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(length) if length else b"",
            client=self.client_address[0],
        )
        try:
            response = self.application(request)
        except HttpError as error:
            response = error.response
        except Exception as error:  # one request must not end the server
            response = self.application.failed(request, error)
        self.send_response_only(response.status)
        self.send_header("Date", self.date_time_string())
        self.send_header("Server", "dify-stand-in")
        if response.status != 204:
            self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        for name, value in response.headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _serve

    def log_message(self, format: str, *args: Any) -> None:  # the base class's name
        return


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], (ConnectionError, socket.timeout)):
            super().handle_error(request, client_address)


def make_server(application: Application, address: str, port: int) -> Server:
    """A server that is bound but not yet serving; port 0 takes a free one (see ``server_port``)."""
    handler = type("Handler", (_Handler,), {"application": application})
    return Server((address, port), handler)


def start(server: Server) -> threading.Thread:
    """Serves in a thread, for tests and for processes with something else to do."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    return thread
