# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""The workers of a cluster: who is there, who is missing, and what a worker that joined later has to be told.

Facts behind it were recorded on clusters of 4.1.0 and 0.13.3:

* A supervisor says ``/status`` 200 and lists no models long before a worker is there; a launch then fails with 503.
* ``/v1/workers`` is 500 for everybody while one worker is dead but not yet noticed (26 s); ``/v1/cluster/info`` is not.
* ``/v1/cluster/info`` has ``ip:port`` on 4.1 and 3.2, a bare ip on 0.13: addresses are compared without the port.
* Registrations go to the workers that are there at that moment. One that joins later does not know them.
"""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import ServerUnreachable
from ansible_collections.llmops.dify_xinference.plugins.module_utils._wait import WaitTimeout, wait_for
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference import READY, LoginFailed, Xinference, XinferenceError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_files import read_json, write_json


class Roll(t.NamedTuple):
    """``present``, ``missing``: host -> address, of the workers that were asked for. ``unknown``: addresses nobody asked for."""

    present: t.Dict[str, str]
    missing: t.Dict[str, str]
    unknown: t.List[str]


def without_port(address: str) -> str:
    """``10.0.0.1:9999`` and ``[fd00::1]:9999`` without the port; a bare address as it is."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


def workers_in(info: t.Any) -> list[str]:
    """The addresses of the workers in an answer of ``/v1/cluster/info``, without ports."""
    if not isinstance(info, list):
        return []
    nodes = [node for node in info if isinstance(node, dict) and node.get("node_type") == "Worker"]
    return sorted({without_port(str(node.get("ip_address") or "")) for node in nodes} - {""})


def roll_call(wanted: t.Mapping[str, str], registered: t.Iterable[str]) -> Roll:
    """Compare the workers of the inventory (host -> address) with the ones that are registered."""
    there = set(registered)
    present = {host: address for host, address in wanted.items() if address in there}
    missing = {host: address for host, address in wanted.items() if address not in there}
    return Roll(present, missing, sorted(there - set(wanted.values())))


class Cluster:
    """One supervisor, seen through its REST API. ``client`` logs in with an account that has the scope admin."""

    def __init__(self, client: Xinference, clockwork: t.Mapping[str, t.Any] | None = None) -> None:
        self.client = client
        self.clockwork = dict(clockwork or {})

    def workers(self) -> list[str]:
        """Addresses of the registered workers; none while the supervisor does not answer. Raises LoginFailed."""
        try:
            return workers_in(self.client.fetch("/v1/cluster/info", []))
        except LoginFailed:
            raise
        except (XinferenceError, ServerUnreachable):
            return []

    def wait_for_workers(self, wanted: t.Mapping[str, str], timeout: float, expected: t.Collection[str] | None = None, least: int = 0) -> Roll:
        """Wait until the ``expected`` workers (all, if not given) and at least ``least`` of all are registered.

        At most ``timeout`` seconds; what is missing then is in the result.
        """
        seen = [roll_call(wanted, [])]
        hosts = set(wanted if expected is None else expected)

        def done(roll: Roll) -> bool:
            return not hosts & set(roll.missing) and len(roll.present) >= min(least, len(wanted))

        def look() -> Roll:
            seen[0] = roll_call(wanted, self.workers())
            return seen[0]

        with contextlib.suppress(WaitTimeout):
            return wait_for(look, done, "the workers", timeout, interval=1, max_interval=5, **self.clockwork)
        return seen[0]

    def wait_for_models(self, uids: t.Iterable[str], timeout: float) -> list[str]:
        """Wait until every uid serves, at most ``timeout`` seconds; returns those that do not."""
        left = sorted(uids)

        def look() -> list[str]:
            still = []
            for uid in left:
                try:
                    if self.client.look(uid).state != READY:
                        still.append(uid)
                except LoginFailed:
                    raise
                except (XinferenceError, ServerUnreachable):
                    still.append(uid)
            left[:] = still
            return still

        with contextlib.suppress(WaitTimeout):
            wait_for(look, lambda still: not still, "the models", timeout, interval=1, max_interval=5, **self.clockwork)
        return left

    def tell(self, registrations: t.Iterable[tuple[str, dict[str, t.Any]]]) -> list[str]:
        """Register custom models again, so that every worker that is there knows them; returns their names.

        A model that runs is left in peace: taking its registration away does not end it. The server refuses a
        registration that is there, even for a worker that lacks it, so it has to go first.
        """
        told = []
        for model_type, spec in registrations:
            name = str(spec.get("model_name") or "")
            if name and self.client.registration(model_type, name) is not None:
                self.client.unregister(model_type, name)
                self.client.register(model_type, spec)
                told.append(name)
        return told


def newcomers(path: str, present: t.Iterable[str]) -> list[str]:
    """Addresses that are present and not in the file of workers that know the registrations. Raises UnreadableFile."""
    known = read_json(path).get("workers") or []
    return sorted(set(present) - set(map(str, known)))


def remember(path: str, present: t.Iterable[str]) -> None:
    """Keep which workers know the registrations. One that is away is forgotten: it may come back empty."""
    content = {"about": "Workers that were told the registrations of custom models.", "workers": sorted(set(present))}
    if read_json(path) != content:
        write_json(path, content)


__all__ = ["Cluster", "Roll", "newcomers", "remember", "roll_call", "without_port", "workers_in"]
