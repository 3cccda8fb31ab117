# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""How Dify's nginx finds the containers that it forwards to.

A name that stands in ``proxy_pass`` is resolved once, when nginx starts. A container that is made anew, or a host that is started
again, may have another address afterwards; nginx then answers 502 until it is started again itself. A name in a variable is resolved
with every request, which is what upstream does for ``/socket.io/``, and for all locations in releases after 1.16.
"""

from __future__ import annotations

import re
import typing as t

PLACE = "nginx/conf.d/default.conf.template"
# Docker's own, the same in every container of a Compose project. It says that answers hold for ten minutes; here they hold for a second.
RESOLVER = "resolver 127.0.0.11 valid=1s ipv6=off;\nresolver_timeout 5s;\n"

_FORWARD = re.compile(r"proxy_pass\s+(https?://([A-Za-z][\w.-]*)(?::\d+)?)\s*;")


def following(template: str, services: t.Iterable[str]) -> str:
    """The template with every forwarding to one of the services resolved anew; empty where there is none to change.

    Only ``proxy_pass`` without a path is changed: with a variable, nginx hands on the request's own, as it does without one.
    """
    names = set(services)
    changed = 0

    def by_variable(found: re.Match[str]) -> str:
        nonlocal changed
        address, host = found.groups()
        if host not in names:
            return found.group(0)
        changed += 1
        variable = "$to_" + re.sub(r"\W", "_", host)
        return f"set {variable} {address}; proxy_pass {variable};"

    lines = [line if line.lstrip().startswith("#") else _FORWARD.sub(by_variable, line) for line in template.splitlines(keepends=True)]
    # The file is read within nginx's http section; a location with a resolver of its own keeps it.
    return RESOLVER + "".join(lines) if changed else ""


__all__ = ["PLACE", "RESOLVER", "following"]
