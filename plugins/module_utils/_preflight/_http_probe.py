# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""The HTTP servers that the deployment will use, each asked once, all at the same time."""

from __future__ import annotations

import email.utils
import platform
import re
import threading
import time
import typing as t
import urllib.parse

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _mirror
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._context import Context

TIMEOUT = 5.0
# A name that does not resolve is not bound by the time for a connection, and a slow body only by that for each piece of it.
TOTAL = 3 * TIMEOUT
BODY_LIMIT = 65536
T = t.TypeVar("T")


def in_time(call: t.Callable[[str], T], items: t.Sequence[str], seconds: float) -> dict[str, T]:
    """What ``call`` makes of each item, all at the same time; those that take longer are not in it, and are left behind.

    No pool: Python waits for a pool's threads before it ends, and so for the slowest resolver.
    """
    found: dict[str, T] = {}

    def one(item: str) -> None:
        found[item] = call(item)

    threads = [threading.Thread(target=one, args=(item,), daemon=True) for item in dict.fromkeys(items)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(found)


class Answer(t.NamedTuple):
    """``problem`` is empty when a server answered; ``offset`` is its clock minus ours in seconds, when it told the date."""

    status: int
    body: bytes
    html: bool
    problem: str
    offset: t.Optional[float]


def offset_of(date: str | None, before: float, after: float) -> float | None:
    """The server's clock minus ours; the header is exact to a second, and was written between the two times."""
    if not date:
        return None
    try:
        told = email.utils.parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return told - (before + after) / 2


def ask(url: str, fetch: _mirror.Fetch) -> Answer:
    before = time.time()
    try:
        got = fetch(url, {}, TIMEOUT, BODY_LIMIT)
    except _mirror.NoAnswer as error:
        return Answer(0, b"", False, str(error), None)
    return Answer(got.status, got.body, _mirror.looks_like_html(got), "", offset_of(got.headers.get("date"), before, time.time()))


def apt_urls(context: Context) -> list[str]:
    """The repositories' indexes; apt's ``$(ARCH)``, and this host's ``$(ID)`` and ``$(CODENAME)``, are filled in."""
    release = dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)', context.text("etc/os-release") or "", re.MULTILINE))
    values = {"ARCH": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())}
    values.update({"ID": release.get("ID", ""), "CODENAME": release.get("VERSION_CODENAME", "")})
    return [re.sub(r"\$\((ARCH|ID|CODENAME)\)", lambda match: values[match.group(1)], url) for url in context.options.apt_repositories]


def urls(context: Context) -> list[str]:
    """Everything that the options name, apt repositories as their index, once each."""
    options = context.options
    wanted = [*options.time_urls, *apt_urls(context), *options.model_hubs, *options.package_indexes]
    wanted += [mirror.rstrip("/") + "/v2/" for mirror in options.mirrors]
    return list(dict.fromkeys(wanted))


def all_answers(context: Context) -> dict[str, Answer]:
    """Every URL with what came back."""

    def look() -> dict[str, Answer]:
        wanted = urls(context)
        fetch = _mirror.urllib_fetch()
        found = in_time(lambda url: ask(url, fetch), wanted, TOTAL)
        return {url: found.get(url, Answer(0, b"", False, f"no answer within {TOTAL:.0f} s", None)) for url in wanted}

    return context.once("http", look)


def host_names(context: Context) -> list[str]:
    """Names (not addresses) that have to resolve."""
    found = [urllib.parse.urlsplit(url).hostname or "" for url in urls(context)]
    return sorted({name for name in found if name and not name.replace(".", "").isdigit() and ":" not in name})


__all__ = ["Answer", "all_answers", "apt_urls", "ask", "host_names", "in_time", "offset_of", "urls"]
