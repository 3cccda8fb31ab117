"""Run the Molecule scenarios on hosts of the embedded fleet.

``python -m tests.tools.molecule [ARGUMENT...]``: hosts of molecule/layout.yml are made anew, ``molecule test`` runs with
the arguments (``--all`` when there are none), and the hosts go again. FLEET_KEEP=1 leaves them up for a look, and uses
the ones that are up: the quick way while working on a scenario.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAYOUT = ROOT / "molecule" / "layout.yml"
STATE = ROOT / ".fleet" / "molecule"


def environment() -> dict[str, str]:
    """A fleet of its own, so that a running demo is left alone."""
    return {
        **os.environ,
        "FLEET_NAME": "molecule",
        "FLEET_SUBNET": os.environ.get("FLEET_MOLECULE_SUBNET", "10.213.79.0/24"),
        "FLEET_STATE": str(STATE),
        "LLMOPS_MOLECULE_INVENTORY": str(STATE / "inventory.yml"),
        "ANSIBLE_FORCE_COLOR": "0",
        "NO_COLOR": "1",
    }


def fleet(*arguments: str) -> None:
    """One fleet command; ends this program when it fails, with the words that it printed."""
    done = subprocess.run([sys.executable, "-m", "tests.fleet", *arguments], cwd=ROOT, env=environment(), check=False)
    if done.returncode != 0:
        raise SystemExit(f"`python -m tests.fleet {' '.join(arguments)}` failed (exit status {done.returncode}); its words are above.")


def main(arguments: list[str]) -> int:
    keep = os.environ.get("FLEET_KEEP") == "1"
    fleet("prepare")
    if not keep:
        fleet("down")
    fleet("up", "--layout", str(LAYOUT))
    fleet("images")
    molecule = [str(Path(sys.executable).with_name("molecule")), "--base-config", str(LAYOUT.with_name("config.yml")), "test"]
    try:
        return subprocess.run([*molecule, *(arguments or ["--all"])], cwd=ROOT, env=environment(), check=False).returncode
    finally:
        if not keep:
            fleet("down")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
