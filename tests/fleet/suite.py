"""What every suite that makes hosts of its own shares: the fleet, and the playbooks that are run on it.

A suite's name decides its hosts' names, its network, and where its state and its logs are, so that suites run side by side and a
running demo is left alone. ``FLEET_<SUITE>_NAME``, ``_SUBNET`` and ``_STATE`` move one of them out of the way of another checkout;
``FLEET_KEEP=1`` uses hosts that are up, and leaves them up: for working on a later test.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fleet import Fleet, images
from tests.fleet.checks.playbook import ROOT, Run, run_playbook
from tests.fleet.config import Settings

KEEP = os.environ.get("FLEET_KEEP") == "1"
LAYOUTS = ROOT / "tests" / "fleet" / "layouts"
LOGS = ROOT / ".cache" / "fleet-logs"

# The demo has 77, Molecule 79.
SUBNETS = {
    "checks": "10.213.78.0/24",
    "preflight": "10.213.80.0/24",
    "cluster": "10.213.81.0/24",
    "chaos-cluster": "10.213.82.0/24",
    "chaos-restarts": "10.213.83.0/24",
    "docker": "10.213.84.0/24",
    "data": "10.213.86.0/24",
    "airgap": "10.213.87.0/24",
    "dify": "10.213.88.0/24",
    "dnf": "10.213.89.0/24",
}

Play = Callable[..., Run]


def settings_of(suite: str) -> Settings:
    """Names and folders of a suite's fleet."""
    word = "FLEET_" + suite.upper().replace("-", "_")
    return Settings.from_environment(
        {
            **os.environ,
            # "suite-", so that a fleet somebody named "dify" or "data" is none of ours.
            "FLEET_NAME": os.environ.get(f"{word}_NAME", f"suite-{suite}"),
            "FLEET_SUBNET": os.environ.get(f"{word}_SUBNET", SUBNETS[suite]),
            "FLEET_STATE": os.environ.get(f"{word}_STATE", str(ROOT / ".cache" / "fleets" / suite)),
        }
    )


@contextmanager
def suite_fleet(suite: str, layout: str, only: list[str] | None = None, everything: bool = False) -> Iterator[Fleet]:
    """Hosts of ``layouts/<layout>``, made anew, and removed at the end, also when their making fails.

    ``only``: the container images that the registry has to hold; ``everything``: these, the tiny models and Dify's archives.
    """
    made = Fleet(settings_of(suite))
    made.prepare()
    if not KEEP:
        made.down()
    try:
        made.up(LAYOUTS / layout)
        if everything:
            made.images()
        elif only:
            images.ensure(f"http://{made.services_address()}:5000", only=only)
        yield made
    finally:
        if not KEEP:
            made.down()


def player(fleet: Fleet, suite: str, expected: int | None = None) -> Play:
    """``play("site.yml", "--check")`` runs a playbook on the fleet; outputs are numbered in .cache/fleet-logs/<suite>.

    ``expected`` is the exit status that a run must have unless the call says otherwise; None takes any.
    """
    logs = LOGS / suite
    logs.mkdir(parents=True, exist_ok=True)
    count = 0

    def play(playbook: str, *arguments: str, expected: int | None = expected) -> Run:
        nonlocal count
        count += 1
        log = logs / f"{count:02d}-{Path(playbook).stem}.log"
        run = run_playbook(fleet.inventory, playbook, *arguments, log=log)
        words = " ".join([playbook, *arguments])[:300]
        print(f"\n{suite}/{log.name}: {words}: exit status {run.rc} after {run.seconds:.0f} s; {run.recap}")
        assert expected is None or run.rc == expected, run.text[-3000:]
        return run

    return play
