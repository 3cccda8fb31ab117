# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Section H: the network, before anything is installed."""

from __future__ import annotations

import errno
import http.client
import json
import socket
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._core import FAIL, OK, SKIP, UNKNOWN, WARN, Check, Context, Finding

PROBE_TIMEOUT = 3.0


def port_is_free(port: int) -> bool | None:
    """Whether the port can be bound on every address; ``None`` when this user may not bind it."""
    probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # As servers do: connections that linger in TIME_WAIT do not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("0.0.0.0", port))
    except OSError as error:
        return None if error.errno == errno.EACCES else False
    finally:
        probe.close()
    return True


def get_json(connection: http.client.HTTPConnection, path: str) -> t.Any:
    """The JSON that a local server answers, or ``None``."""
    try:
        connection.request("GET", path, headers={"Host": "localhost"})
        return json.loads(connection.getresponse().read(4 * 1024 * 1024))
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class DockerConnection(http.client.HTTPConnection):
    """HTTP over Docker's socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def is_xinference(port: int) -> bool:
    """Whether Xinference answers there: its way of telling about authentication is its own."""
    answer = get_json(http.client.HTTPConnection("127.0.0.1", port, timeout=PROBE_TIMEOUT), "/v1/cluster/auth")
    return isinstance(answer, dict) and "auth" in answer


def published_by_xinference(port: int, containers: t.Any) -> bool | None:
    """Whether a container of Xinference publishes the port; ``None`` when Docker could not be asked."""
    if not isinstance(containers, list):
        return None
    return any(
        "xinference" in container.get("Image", "") and any(published.get("PublicPort") == port for published in container.get("Ports") or [])
        for container in containers
    )


def ports_free(context: Context) -> Finding:
    if not context.options.ports:
        return Finding(SKIP, "No port was named.")
    strangers: list[str] = []
    unsure: list[str] = []
    unseen: list[str] = []
    for port in context.options.ports:
        free = port_is_free(port)
        if free is None:
            unseen.append(str(port))
        if free is not False or is_xinference(port):
            continue
        # A server that is still starting does not answer yet.
        ours = published_by_xinference(port, get_json(DockerConnection("/var/run/docker.sock", PROBE_TIMEOUT), "/containers/json"))
        if not ours:
            (unsure if ours is None else strangers).append(str(port))
    if strangers:
        return Finding(FAIL, f"Port {', '.join(strangers)} is taken by something that is not Xinference.")
    if unsure:
        return Finding(WARN, f"Port {', '.join(unsure)} is taken, and Docker cannot be asked by whom.")
    if unseen:
        return Finding(UNKNOWN, f"Port {', '.join(unseen)} may only be tried by root.")
    return Finding(OK, "the ports are free, or Xinference's already")


CHECKS = (Check("H06", "ports_free", "fail", "Stop what listens there, or choose another port (xinference_port).", ports_free),)
