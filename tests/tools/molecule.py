"""Run the Molecule scenarios on hosts of the embedded fleet.

``python -m tests.tools.molecule [ARGUMENT...]``: hosts of molecule/layout.yml are made anew, ``molecule test`` runs with
the arguments (``--all`` when there are none), and the hosts go again. FLEET_KEEP=1 leaves them up for a look, and uses
the ones that are up: the quick way while working on a scenario. What a run that was killed has left is cleared away.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LAYOUT = ROOT / "molecule" / "layout.yml"
NAME = os.environ.get("FLEET_MOLECULE_NAME", "molecule")
STATE = ROOT / ".cache" / f"fleet-{NAME}"
# The images that scenarios pull; the whole chain's others need not be built for them.
IMAGES = ("library/busybox", "xprobe/xinference")


def environment() -> dict[str, str]:
    """A fleet of its own, so that a running demo is left alone."""
    return {
        **os.environ,
        "FLEET_NAME": NAME,
        "FLEET_SUBNET": os.environ.get("FLEET_MOLECULE_SUBNET", "10.213.79.0/24"),
        "FLEET_STATE": str(STATE),
        "LLMOPS_MOLECULE_INVENTORY": str(STATE / "inventory.yml"),
        "ANSIBLE_FORCE_COLOR": "0",
        "NO_COLOR": "1",
    }


def run(module: str, *arguments: str) -> None:
    """One command of the fleet; ends this program when it fails, with the words that it printed."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, env=environment(), check=False)
    if done.returncode != 0:
        raise SystemExit(f"`python -m {module} {' '.join(arguments)}` failed (exit status {done.returncode}); its words are above.")


def push_images() -> None:
    """The scenarios' images into the fleet's registry."""
    from tests.fleet.config import Settings
    from tests.fleet.fleet import Fleet
    from tests.fleet.shell import FleetError

    os.environ.update(environment())
    try:
        address = Fleet(Settings.from_environment()).services_address()
    except FleetError as error:
        raise SystemExit(str(error)) from error
    run("tests.fleet.images", "--registry", f"{address}:5000", *[word for name in IMAGES for word in ("--only", name)])


def stop(number: int, frame: Any) -> None:
    """A polite kill ends this program the way Ctrl-C does: Molecule ends, and the hosts go."""
    raise SystemExit(128 + number)


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGTERM, stop)
    keep = os.environ.get("FLEET_KEEP") == "1"
    run("tests.fleet", "prepare")
    if not keep:
        run("tests.fleet", "down")
    molecule = [str(Path(sys.executable).with_name("molecule")), "--base-config", str(LAYOUT.with_name("config.yml")), "test"]
    try:
        run("tests.fleet", "up", "--layout", str(LAYOUT))
        push_images()
        return subprocess.run([*molecule, *(arguments or ["--all"])], cwd=ROOT, env=environment(), check=False).returncode
    finally:
        if not keep:
            run("tests.fleet", "down")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
