"""Run the stages of tests/extra-stages.txt, which ``make test-all`` adds to ``make test``: what is too long for every change.

``python -m tests.tools.extra_stages [WORD]`` runs those that have WORD in their name. All run, also after one failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LIST = ROOT / "tests" / "extra-stages.txt"


class Stage(NamedTuple):
    name: str
    command: str


def stages(text: str, word: str = "") -> list[Stage]:
    """The stages of a list, those with ``word`` in their name."""
    found = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, bar, command = (part.strip() for part in line.partition(" | "))
            if not bar or not command:
                raise SystemExit(f"{LIST}: not 'name | command': {line}")
            found.append(Stage(name, command))
    return [stage for stage in found if word.lower() in stage.name.lower()]


def main(arguments: list[str]) -> int:
    chosen = stages(LIST.read_text(encoding="utf-8"), " ".join(arguments))
    if not chosen:
        raise SystemExit(f"No stage of {LIST} has {' '.join(arguments)!r} in its name.")
    environment = dict(os.environ, PATH=f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    failed = []
    for stage in chosen:
        print(f"\n=== {stage.name}", flush=True)
        began = time.monotonic()
        status = subprocess.run(["/bin/sh", "-c", stage.command], cwd=ROOT, env=environment, check=False).returncode
        print(f"=== {stage.name}: {'ok' if status == 0 else 'FAILED'}, {time.monotonic() - began:.0f} s", flush=True)
        if status:
            failed.append(stage.name)
    print(f"\n=== extra stages: {len(chosen) - len(failed)} of {len(chosen)} passed" + (f"; failed: {'; '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
