# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""One small JSON-over-HTTP client, so that both servers are spoken to, timed out and explained in one way.

The transport is a plain callable: tests replay recordings through it, modules use :func:`open_url_transport`.
An HTTP status is an answer, not an exception; only a server that did not answer raises :class:`ServerUnreachable`.
"""

from __future__ import annotations

import json as _json
import time
import typing as t

# Methods that a server may be asked again without harm. A POST is never repeated here:
# the server may still be working on the first one (launching a model, installing a plugin).
SAFE_METHODS = frozenset(["GET", "HEAD"])

# (method, url, body, headers, timeout in seconds) -> (status, [(header, value), ...], body)
Transport = t.Callable[[str, str, t.Optional[bytes], t.Dict[str, str], float], t.Tuple[int, t.List[t.Tuple[str, str]], bytes]]


class ServerUnreachable(Exception):
    """No HTTP answer came back: refused, timed out, unresolvable, TLS failure.

    Attributes: ``method``, ``url`` (never carries a secret), ``reason`` (the transport's own words),
    ``timed_out`` (the request was sent and the server may still be working on it).
    """

    def __init__(self, method: str, url: str, reason: str, timed_out: bool = False) -> None:
        super().__init__(f"{method} {url}: no answer: {reason}")
        self.method = method
        self.url = url
        self.reason = reason
        self.timed_out = timed_out


class Response:
    """An HTTP answer. ``json`` is the decoded body, or ``None`` when it is empty or not JSON (then see ``text``)."""

    def __init__(self, method: str, url: str, status: int, headers: t.List[t.Tuple[str, str]], body: bytes) -> None:
        self.method = method
        self.url = url
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def json(self) -> t.Any:
        try:
            return _json.loads(self.text)
        except ValueError:
            return None

    def header(self, name: str, default: str | None = None) -> str | None:
        """First value of a header, looked up without regard to case."""
        for key, value in self.headers:
            if key.lower() == name.lower():
                return value
        return default

    def header_all(self, name: str) -> list[str]:
        """Every value of a header (``Set-Cookie`` comes many times)."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


def open_url_transport(validate_certs: bool = True, ca_path: str | None = None, use_proxy: bool = True) -> Transport:
    """A transport over ``ansible.module_utils.urls``: nothing but python3 is needed where a module runs."""

    def send(method: str, url: str, data: bytes | None, headers: dict[str, str], timeout: float) -> tuple[int, list[tuple[str, str]], bytes]:
        import socket
        import urllib.error

        from ansible.module_utils.urls import open_url

        try:
            answer = open_url(
                url,
                data=data,
                headers=headers,
                method=method,
                timeout=timeout,
                validate_certs=validate_certs,
                ca_path=ca_path,
                use_proxy=use_proxy,
                follow_redirects="safe",
                http_agent="llmops.dify_xinference",
            )
            return answer.getcode(), list(answer.headers.items()), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, list(error.headers.items()), error.read()
        except (socket.timeout, TimeoutError) as error:
            raise ServerUnreachable(method, url, str(error) or "timed out", timed_out=True) from error
        except urllib.error.URLError as error:
            timed_out = isinstance(error.reason, (socket.timeout, TimeoutError))
            raise ServerUnreachable(method, url, str(error.reason), timed_out=timed_out) from error
        except (OSError, ValueError) as error:  # reset connections, broken chunking, bad URLs
            raise ServerUnreachable(method, url, str(error) or type(error).__name__) from error
        except Exception as error:  # SSLValidationError, ConnectionError and friends of module_utils.urls, http.client errors
            raise ServerUnreachable(method, url, str(error) or type(error).__name__) from error

    return send


def plain_transport(validate_certs: bool = True, ca_path: str | None = None) -> Transport:
    """A transport of the standard library alone, for what runs on a host without Ansible; it uses no proxy."""

    def send(method: str, url: str, data: bytes | None, headers: dict[str, str], timeout: float) -> tuple[int, list[tuple[str, str]], bytes]:
        import socket
        import ssl
        import urllib.error
        import urllib.request

        try:
            context = ssl.create_default_context(cafile=ca_path)
            if not validate_certs:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
            with opener.open(urllib.request.Request(url, data, headers, method=method), timeout=timeout) as answer:
                return answer.status, list(answer.headers.items()), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, list(error.headers.items()), error.read()
        except (socket.timeout, TimeoutError) as error:
            raise ServerUnreachable(method, url, str(error) or "timed out", timed_out=True) from error
        except urllib.error.URLError as error:
            timed_out = isinstance(error.reason, (socket.timeout, TimeoutError))
            raise ServerUnreachable(method, url, str(error.reason), timed_out=timed_out) from error
        except Exception as error:  # reset connections, broken chunking, bad URLs, http.client errors
            raise ServerUnreachable(method, url, str(error) or type(error).__name__) from error

    return send


class JsonClient:
    """Requests with JSON bodies against one base URL.

    :param base_url: scheme, host and port; a trailing slash is dropped.
    :param transport: see :data:`Transport`.
    :param timeout: seconds per request.
    :param retries: how often a *safe* request is sent again when no answer came back.
    :param sleep: injected by tests.
    """

    def __init__(
        self,
        base_url: str,
        transport: Transport,
        timeout: float = 60.0,
        retries: int = 2,
        retry_delay: float = 1.0,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.transport = transport
        self.timeout = timeout
        self.retries = retries
        self.retry_delay = retry_delay
        self.sleep = sleep

    def request(
        self,
        method: str,
        path: str,
        json: t.Any = None,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
        retry_statuses: t.Collection[int] = (),
    ) -> Response:
        """Send one request; raises :class:`ServerUnreachable` when no answer came back.

        ``retry_statuses`` (say 502, 503, 504) are repeated for safe methods only.
        """
        url = self.base_url + path
        send_headers = {"Accept": "application/json"}
        body = data
        if json is not None:
            # Only with a body: Dify 1.10.1 tries to decode a GET that claims to carry JSON.
            send_headers["Content-Type"] = "application/json"
            body = _json.dumps(json).encode()
        send_headers.update(headers or {})
        attempts = 1 + (self.retries if method in SAFE_METHODS else 0)
        for attempt in range(1, attempts + 1):
            try:
                status, answer_headers, answer = self.transport(method, url, body, send_headers, timeout or self.timeout)
            except ServerUnreachable:
                if attempt == attempts:
                    raise
            else:
                if status not in retry_statuses or attempt == attempts:
                    return Response(method, url, status, answer_headers, answer)
            self.sleep(self.retry_delay * attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")


def shorten(text: str, limit: int = 400) -> str:
    """A server's message on one line and at a readable length (Xinference lists all its models in one of them)."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


__all__ = ["JsonClient", "Response", "ServerUnreachable", "Transport", "open_url_transport", "plain_transport", "shorten"]
