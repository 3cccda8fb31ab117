"""Runs the collection's playbooks against a fleet as a user would, and reads what came back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

RECAP = re.compile(
    r"^(?P<host>\S+)\s+: ok=(?P<ok>\d+)\s+changed=(?P<changed>\d+)\s+unreachable=(?P<unreachable>\d+)\s+failed=(?P<failed>\d+)", re.M
)


@dataclass
class Recap:
    ok: int
    changed: int
    unreachable: int
    failed: int


@dataclass
class Run:
    """One finished ``ansible-playbook``. ``text`` is all it printed, ``results`` one entry per host and task."""

    rc: int
    text: str
    seconds: float
    results: list[dict] = field(default_factory=list)

    @property
    def said(self) -> str:
        """All it printed with single blanks: Ansible breaks its YAML into lines wherever a blank is."""
        return " ".join(self.text.split())

    @property
    def recap(self) -> dict[str, Recap]:
        return {
            found["host"]: Recap(*(int(found[key]) for key in ("ok", "changed", "unreachable", "failed"))) for found in RECAP.finditer(self.text)
        }

    def of(self, host: str, status: str) -> list[dict]:
        return [result for result in self.results if result["host"] == host and result["status"] == status]

    def messages(self, host: str) -> str:
        """Everything that the failed tasks of a host said."""
        return "\n".join(result["msg"] for result in self.of(host, "failed") + self.of(host, "unreachable"))

    def module_calls(self, address: str) -> int:
        """Modules started on a host (needs ``-vvv``): a template or copy task can start two."""
        return len(re.findall(rf"^<{re.escape(address)}> SSH: EXEC .*BECOME-SUCCESS-.*python", self.text, re.M))


def run_playbook(inventory: Path, playbook: str, *arguments: str, log: Path, timeout: float = 1800) -> Run:
    """Run ``playbook`` (relative to the checkout) and return what came of it; the output is kept at ``log``.

    Colours and the user's own configuration are left out; the record comes from ``callbacks/fleet_record.py``.
    """
    record = log.with_suffix(".jsonl")
    record.unlink(missing_ok=True)
    env = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    env.update(
        ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"),
        ANSIBLE_CALLBACK_PLUGINS=str(ROOT / "tests/fleet/callbacks"),
        ANSIBLE_CALLBACKS_ENABLED="fleet_record",
        ANSIBLE_INJECT_FACT_VARS="false",
        ANSIBLE_NOCOLOR="1",
        FLEET_RECORD_FILE=str(record),
    )
    started = time.monotonic()
    with log.open("w") as out:
        finished = subprocess.run(
            [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), playbook, *arguments],
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
    results = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    return Run(finished.returncode, log.read_text(), time.monotonic() - started, results)
