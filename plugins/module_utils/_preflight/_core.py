# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""What a check is, what it may look at, and how checks are run.

A check is data plus one ``detect`` function. ``detect`` returns a :class:`Finding`; what it cannot see is ``unknown``,
never ``ok``. Checks only read.
"""

from __future__ import annotations

import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _cuda, _nvidia
from ansible_collections.llmops.dify_xinference.plugins.module_utils._command import Runner, run_command

OK = "ok"
WARN = "warn"
FAIL = "fail"
UNKNOWN = "unknown"
SKIP = "skip"


class Finding(t.NamedTuple):
    """``status`` is one of ok, warn, fail, unknown, skip; ``message`` says what was found."""

    status: str
    message: str
    remedy: str = ""


class Check(t.NamedTuple):
    """One check. ``severity`` (fail, warn, info) is the worst it can find; ``remedy`` is the advice when a finding has none of its own."""

    id: str
    name: str
    severity: str
    remedy: str
    detect: t.Callable[["Context"], Finding]


class Options(t.NamedTuple):
    """What is going to run here: the verdicts are about this deployment, not about hosts in general."""

    root: str = "/"
    nvidia_smi: str = "nvidia-smi"
    image_version: str = ""
    min_gpus: int = 1
    docker_space_gib: float = 60.0
    docker_root: str = ""
    model_path: str = ""
    model_space_gib: float = 0.0
    ports: t.Tuple[int, ...] = ()


class Context:
    """What the checks look at, each thing looked at once.

    ``options.root`` is prefixed to the GPU's own paths only (``/proc/driver``, ``/sys/bus/pci``, ``/sys/module``,
    ``/dev``): hosts that replay a GPU have those elsewhere, while their memory and disks are real.
    """

    def __init__(self, options: Options, run: Runner = run_command, host_root: str = "/") -> None:
        self.options = options
        self.run = run
        self.host_root = host_root
        self.needs = _cuda.image_needs(options.image_version) if options.image_version else None
        self._smi: _nvidia.SmiAnswer | None = None
        self._cards: list[list[dict[str, t.Any]] | None] = []

    @property
    def cpu_only(self) -> bool:
        """The image is one of the CPU builds: nothing about GPUs applies."""
        return self.needs is not None and not self.needs.cuda

    @property
    def smi(self) -> _nvidia.SmiAnswer:
        if self._smi is None:
            self._smi = _nvidia.query_gpus(self.run, self.options.nvidia_smi)
        return self._smi

    @property
    def cards(self) -> list[dict[str, t.Any]] | None:
        """GPUs and NVSwitches on the PCI bus; ``None`` when the bus cannot be seen."""
        if not self._cards:
            self._cards.append(_nvidia.pci_cards(self.options.root))
        return self._cards[0]

    @property
    def pci_gpus(self) -> list[dict[str, t.Any]] | None:
        return None if self.cards is None else [card for card in self.cards if card["kind"] == "gpu"]

    @property
    def driver(self) -> dict[str, t.Any]:
        return _nvidia.driver_facts(_nvidia.loaded_driver(self.options.root), self.smi.gpus)

    @property
    def is_wsl(self) -> bool:
        """Windows' Linux: the driver is Windows', so nothing about kernel modules applies."""
        return "microsoft" in (_nvidia.read_text(self.host_root, "proc/sys/kernel/osrelease") or "").lower()


def verdict(check: Check, context: Context, ignored: t.Container[str]) -> dict[str, t.Any]:
    """Run one check. A check that breaks is ``unknown`` with the error, for one broken check must not hide the others."""
    try:
        finding = check.detect(context)
    except Exception as error:  # pylint: disable=broad-exception-caught
        finding = Finding(UNKNOWN, f"The check itself failed: {type(error).__name__}: {error}", "Report this as a bug.")
    status = finding.status
    is_ignored = check.id in ignored and status in (FAIL, WARN)
    return {
        "id": check.id,
        "name": check.name,
        "severity": check.severity,
        "status": SKIP if is_ignored else status,
        "message": finding.message,
        "remedy": "" if status in (OK, SKIP) else (finding.remedy or check.remedy),
        "ignored": is_ignored,
    }


__all__ = ["Check", "Context", "FAIL", "Finding", "OK", "Options", "SKIP", "UNKNOWN", "WARN", "verdict"]
