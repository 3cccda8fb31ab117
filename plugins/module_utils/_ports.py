# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Who listens on a TCP port of this host: the kernel's own tables, and what Docker publishes (which may have no listener of its own)."""

from __future__ import annotations

import glob
import os
import re
import typing as t

_LISTEN = "0A"
_PUBLISHED = re.compile(r"(?:(?P<address>[\d.]+|\[[^\]]*\]|:::?):)?(?P<first>\d+)(?:-(?P<last>\d+))?->")
ANY = ("0.0.0.0", "::", "")


class Listener(t.NamedTuple):
    address: str  # "" for every address
    port: int
    holder: str  # inode of the socket, or a container's name


def from_proc(text: str) -> list[Listener]:
    """Listeners of ``/proc/net/tcp`` or ``/proc/net/tcp6``; the holder is the socket's inode. IPv6 addresses other than :: stay hexadecimal."""
    found = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) < 10 or words[3] != _LISTEN:
            continue
        address, _unused, port = words[1].partition(":")
        if set(address) == {"0"}:
            plain = ""
        elif len(address) == 8:
            plain = ".".join(str(int(address[place : place + 2], 16)) for place in (6, 4, 2, 0))  # the host's byte order: little
        else:
            plain = address
        found.append(Listener(plain, int(port, 16), words[9]))
    return found


def from_docker(text: str) -> list[tuple[str, Listener]]:
    """(Compose project, listener) of ``docker ps`` lines ``project<TAB>name<TAB>ports``."""
    found = []
    for line in text.splitlines():
        project, _unused, rest = line.partition("\t")
        name, _unused, ports = rest.partition("\t")
        for match in _PUBLISHED.finditer(ports):
            address = (match.group("address") or "").strip("[]").rstrip(":")
            for port in range(int(match.group("first")), int(match.group("last") or match.group("first")) + 1):
                found.append((project, Listener("" if address in ANY else address, port, name)))
    return found


def clashes(wanted: t.Iterable[tuple[str, int]], listeners: t.Iterable[Listener], published: t.Iterable[tuple[str, Listener]], project: str) -> list[Listener]:
    """Who holds a wanted (address, port). What the project's own containers publish is no clash, nor is Docker's proxy for it."""
    published = list(published)
    own = {listener.port for of, listener in published if of == project}
    others = [listener for of, listener in published if of != project] + [item for item in listeners if item.port not in own]
    found = []
    for address, port in wanted:
        plain = "" if address in ANY else address
        hits = [item for item in others if item.port == port and (not plain or not item.address or item.address == plain)]
        # A container says more than Docker's proxy in front of it.
        found += [item for item in hits if not item.holder.isdigit()][:1] or hits[:1]
    return found


def process_of(inode: str) -> str:
    """Name and id of the process that has the socket open, as far as this user may see it."""
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            if os.readlink(link) == f"socket:[{inode}]":
                number = link.split("/")[2]
                with open(f"/proc/{number}/comm", encoding="utf-8") as handle:
                    return f"{handle.read().strip()} (process {number})"
        except OSError:
            continue
    return "another process"


__all__ = ["ANY", "Listener", "clashes", "from_docker", "from_proc", "process_of"]
