# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""HTTP for files of many gigabytes: streams, ranges, redirects, and when to try again.

An answer is returned whatever its status; only a server that did not answer raises. Redirects are followed here, because
a hub sends a download on to another host, which must not get the hub's token.
"""

from __future__ import annotations

import email.utils
import time
import typing as t
import urllib.parse

# Statuses that pass: too many requests, and a server or a gateway in trouble.
PASSING = frozenset([408, 425, 429, 500, 502, 503, 504])
LONGEST_PAUSE = 120.0
REDIRECTS = frozenset([301, 302, 303, 307, 308])


class NoAnswer(Exception):
    """No answer, or not all of it. ``final``: asking again is of no use (a proxy or a certificate says no)."""

    def __init__(self, reason: str, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


class Stream(t.Protocol):
    """What an open answer can do."""

    def read(self, size: int = -1) -> bytes: ...

    def close(self) -> None: ...


class Answer:
    """Status, headers and the open body of an answer. ``close`` it."""

    def __init__(self, status: int, headers: t.Mapping[str, str], stream: Stream) -> None:
        self.status = status
        self.headers = {key.lower(): value for key, value in headers.items()}
        self.stream = stream

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def read(self, size: int = -1) -> bytes:
        try:
            return self.stream.read(size)
        except Exception as error:  # IncompleteRead, resets, timeouts: the rest did not come
            raise NoAnswer(f"the connection broke: {error or type(error).__name__}") from error

    def close(self) -> None:
        try:
            self.stream.close()
        except Exception:  # pylint: disable=broad-exception-caught
            pass  # the answer is not needed any more


# (url, headers, method) -> answer, redirects not followed; raises NoAnswer.
Opener = t.Callable[[str, t.Dict[str, str], str], Answer]


def shown(url: str) -> str:
    """A URL without what may be secret: user, password, and the query with its signature."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def ansible_opener(timeout: float, validate_certs: bool = True, ca_path: str | None = None) -> Opener:
    """An opener over ``ansible.module_utils.urls``: proxies from the environment, nothing to install on the host."""

    def open_one(url: str, headers: dict[str, str], method: str) -> Answer:
        import urllib.error

        from ansible.module_utils.urls import SSLValidationError, open_url

        try:
            stream = open_url(
                url,
                headers=headers,
                method=method,
                timeout=timeout,
                validate_certs=validate_certs,
                ca_path=ca_path,
                follow_redirects="none",
                http_agent="llmops.dify_xinference",
                decompress=False,
            )
            return Answer(stream.getcode(), dict(stream.headers.items()), stream)
        except urllib.error.HTTPError as error:
            return Answer(error.code, dict(error.headers.items()), error)
        except SSLValidationError as error:
            raise NoAnswer(f"{shown(url)}: its certificate is not trusted: {error}", final=True) from error
        except Exception as error:  # URLError, resets, timeouts, bad URLs, http.client's errors
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
            # A proxy that refuses to connect will not change its mind in a minute.
            final = "Tunnel connection failed: 4" in reason or isinstance(error, ValueError) or "CERTIFICATE_VERIFY_FAILED" in reason
            raise NoAnswer(f"{shown(url)}: {'the proxy says: ' if 'Tunnel connection' in reason else ''}{reason}", final=final) from error

    return open_one


def pause_before_retry(failures: int, retry_after: str | None = None, now: float | None = None) -> float:
    """Seconds before the next attempt after so many failures in a row: what the server asks for, or 1, 2, 4 ... 30."""
    if retry_after:
        text = retry_after.strip()
        if text.isdigit():
            return min(float(text), LONGEST_PAUSE)
        date = email.utils.parsedate_tz(text)
        if date:
            return min(max(email.utils.mktime_tz(date) - (time.time() if now is None else now), 0.0), LONGEST_PAUSE)
    return min(2.0 ** max(failures - 1, 0), 30.0)


class Web:
    """Counts requests, keeps tokens to their hosts, and tries again what passes. Safe for threads."""

    def __init__(self, opener: Opener, retries: int = 5, sleep: t.Callable[[float], None] = time.sleep) -> None:
        self.opener = opener
        self.retries = retries
        self.sleep = sleep
        self.requests: list[str] = []  # appending is atomic

    def open(self, url: str, headers: dict[str, str] | None = None, token: str | None = None, method: str = "GET") -> Answer:
        """One request with its redirects; the token is sent to the first host only. One with a space in it names its scheme itself."""
        host = urllib.parse.urlsplit(url).netloc
        for _hop in range(10):
            send = dict(headers or {})
            if token and urllib.parse.urlsplit(url).netloc == host:
                send["Authorization"] = token if " " in token else "Bearer " + token
            self.requests.append(f"{method} {shown(url)}")
            answer = self.opener(url, send, method)
            location = answer.headers.get("location")
            if answer.status not in REDIRECTS or not location:
                return answer
            answer.close()
            url = urllib.parse.urljoin(url, location)
        raise NoAnswer(f"{shown(url)}: more than 10 redirects", final=True)

    def ask(self, url: str, headers: dict[str, str] | None = None, token: str | None = None, method: str = "GET") -> tuple[Answer, bytes]:
        """A small answer whole, asked again while that may help. The last answer is returned whatever it says."""
        failures = 0
        while True:
            try:
                answer = self.open(url, headers, token, method)
                try:
                    body = answer.read()
                finally:
                    answer.close()
                if answer.status not in PASSING or failures >= self.retries:
                    return answer, body
                wanted = answer.headers.get("retry-after")
            except NoAnswer as problem:
                if problem.final or failures >= self.retries:
                    raise
                wanted = None
            failures += 1
            self.sleep(pause_before_retry(failures, wanted))


__all__ = ["Answer", "NoAnswer", "Opener", "PASSING", "Web", "ansible_opener", "pause_before_retry", "shown"]
