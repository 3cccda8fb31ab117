"""``python -m tests.bench.preflight [ROUNDS]``: preflight.yml on ten hosts beside a bare ansible.builtin.setup on them.

Both are timed in turn, in the same run and on the same hosts of a fleet, so that a busy machine slows both. The hosts are
containers of one machine: what ten modules cost there at once says more about its processors than about ten real hosts.
FLEET_KEEP=1 uses hosts that are up and leaves them up.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from tests.fleet import Fleet
from tests.fleet.checks.playbook import run_playbook
from tests.fleet.suite import suite_fleet

HOSTS = 10
SETUP = """
- hosts: gpu_hosts
  gather_facts: false
  become: true
  tasks:
    - ansible.builtin.setup:
"""


def main(rounds: int) -> int:
    with suite_fleet("preflight", "faults.yml") as fleet:
        return measure(fleet, rounds)


def measure(fleet: Fleet, rounds: int) -> int:
    names = [name for name in fleet.hosts() if name != "svc"][:HOSTS]
    limit = ("--limit", ",".join(names))
    plain, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        setup = Path(folder) / "setup.yml"
        setup.write_text(SETUP)
        written = ("-e", f"gpu_preflight_json={folder}/preflight.json")
        # The first round opens the connections and compiles the modules; it does not count.
        for number in range(rounds + 1):
            pair = (
                run_playbook(fleet.inventory, str(setup), *limit, log=Path(folder) / "setup.log").seconds,
                run_playbook(fleet.inventory, "preflight.yml", *limit, *written, log=Path(folder) / "preflight.log").seconds,
            )
            if number:
                plain.append(pair[0])
                ours.append(pair[1])
                print(f"round {number}: setup {pair[0]:.1f} s, preflight.yml {pair[1]:.1f} s, {pair[1] / pair[0]:.2f}x", flush=True)
    ratio = statistics.median(mine / other for mine, other in zip(ours, plain, strict=True))
    print(
        f"preflight.yml on {len(names)} hosts: {statistics.median(ours):.1f} s, ansible.builtin.setup: {statistics.median(plain):.1f} s (medians of {rounds}); "
        f"{ratio:.2f}x (goal: 3x)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
