# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""What the checks look at, each thing looked at once, by whichever check asks first."""

from __future__ import annotations

import os
import re
import sys
import threading
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _cuda, _nvidia, _nvidia_text
from ansible_collections.llmops.dify_xinference.plugins.module_utils._command import Runner, run_command
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_host import DockerHost, HostError

COMMAND_TIMEOUT = 20.0
SOCKET_TIMEOUT = 10.0
CUINIT_TIMEOUT = 30.0
# Enough for weeks of a quiet kernel; a log that overflows it has worse to tell in its last lines.
KERNEL_LOG_LINES = "50000"
UNITS = ("docker", "containerd", "nvidia-fabricmanager", "nvidia-persistenced", "nvlsm", "firewalld")
UNIT_PROPERTIES = "Id,LoadState,ActiveState,UnitFileState,LimitNOFILE"
PACKAGES = (
    "nvidia*",
    "libnvidia*",
    "libcuda*",
    "libcudnn*",
    "cuda-toolkit*",
    "cudnn*",
    "nvlsm*",
    "linux-modules-nvidia*",
    "xserver-xorg-video-nvidia*",
    "docker*",
    "containerd*",
    "podman-docker",
    "needrestart",
    "unattended-upgrades",
)
# cuInit is asked in a process of its own: a sick driver hangs in it, and it may not be undone.
CUINIT = (
    "import ctypes,sys\n"
    "try:\n l=ctypes.CDLL('libcuda.so.1')\n"
    "except OSError:\n sys.exit(100)\n"
    "c=l.cuInit(0)\nn=ctypes.c_int(0)\n"
    "if c==0: l.cuDeviceGetCount(ctypes.byref(n))\n"
    "print(c,n.value)\n"
)
T = t.TypeVar("T")


class Model(t.NamedTuple):
    """A model that is going to run here, as it is declared; GiB on disk, 0 when that is not known."""

    uid: str
    disk_gib: float = 0.0
    declared: t.Mapping[str, t.Any] = {}


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
    models: t.Tuple[Model, ...] = ()
    ports: t.Tuple[int, ...] = ()
    mirrors: t.Tuple[str, ...] = ()
    mirror_images: t.Tuple[str, ...] = ()
    apt_repositories: t.Tuple[str, ...] = ()
    model_hubs: t.Tuple[str, ...] = ()
    package_indexes: t.Tuple[str, ...] = ()
    time_urls: t.Tuple[str, ...] = ()
    require: t.Mapping[str, str] = {}
    expect_installed: bool = False
    docker_socket: str = "/var/run/docker.sock"


class Docker(t.NamedTuple):
    """The engine as its socket shows it. ``state`` is absent, stopped, denied or ok; the rest is empty unless ok."""

    state: str
    problem: str = ""
    info: t.Mapping[str, t.Any] = {}
    containers: t.Sequence[t.Mapping[str, t.Any]] = ()
    version: str = ""


class Context:
    """Facts of this host, cached.

    ``options.root`` is prefixed to the GPU's own paths only (``/proc/driver``, ``/sys/bus/pci``, ``/sys/module``,
    ``/dev``): hosts that replay a GPU have those elsewhere, while their memory and disks are real. ``host_root`` is
    prefixed to all others.
    """

    def __init__(self, options: Options, run: Runner = run_command, host_root: str = "/") -> None:
        self.options = options
        self.run = run
        self.host_root = host_root
        self.needs = _cuda.image_needs(options.image_version) if options.image_version else None
        self._known: dict[str, t.Any] = {}
        self._locks: dict[str, threading.RLock] = {}
        self._guard = threading.Lock()

    def once(self, name: str, look: t.Callable[[], T]) -> T:
        """What ``look`` returns, called once whoever asks: the checks run side by side."""
        with self._guard:
            lock = self._locks.setdefault(name, threading.RLock())
        with lock:
            if name not in self._known:
                self._known[name] = look()
            return t.cast(T, self._known[name])

    def path(self, path: str) -> str:
        return os.path.join(self.host_root, path.lstrip("/"))

    def text(self, path: str) -> str | None:
        return _nvidia.read_text(self.host_root, path)

    def gpu_path(self, path: str) -> str:
        return os.path.join(self.options.root, path.lstrip("/"))

    def gpu_text(self, path: str) -> str | None:
        return _nvidia.read_text(self.options.root, path)

    def hidden(self, *paths: str) -> list[str]:
        """Those of the files that are there and cannot be read by this user."""
        return ["/" + path for path in paths if os.path.exists(self.path(path)) and not os.access(self.path(path), os.R_OK)]

    def listing(self, path: str) -> list[str]:
        """The names in a folder; empty when it cannot be read."""
        try:
            return sorted(os.listdir(self.path(path)))
        except OSError:
            return []

    def answer(self, *argv: str, timeout: float = COMMAND_TIMEOUT) -> tuple[int, str]:
        """Exit status and output of a command, run once."""
        return self.once("command " + " ".join(argv), lambda: self.run(list(argv), timeout)[:2])

    @property
    def cpu_only(self) -> bool:
        """The image is one of the CPU builds: nothing about GPUs applies."""
        return self.needs is not None and not self.needs.cuda

    @property
    def is_root(self) -> bool:
        return os.geteuid() == 0

    @property
    def loaded_version(self) -> str | None:
        return self.once("loaded", lambda: _nvidia.loaded_driver(self.options.root))

    @property
    def smi(self) -> _nvidia.SmiAnswer:
        return self.once("smi", lambda: _nvidia.query_gpus(self.run, self.options.nvidia_smi, self.loaded_version))

    @property
    def smi_failed(self) -> bool:
        """nvidia-smi failed as a whole: what it did not list says nothing about a single GPU."""
        return self.smi.status not in (0, 14, 15) or (self.smi.status == 15 and not self.smi.gpus)

    @property
    def details(self) -> dict[str, t.Any]:
        """``nvidia-smi -q -x`` as facts; empty when the driver does not answer."""

        def look() -> dict[str, t.Any]:
            if self.smi_failed or not self.smi.gpus:
                return {}
            status, out, dummy = self.run([self.options.nvidia_smi, "-q", "-x"], _nvidia.SMI_TIMEOUT)
            return _nvidia_text.read(out) if status in (0, 14) else {}

        return self.once("details", look)

    @property
    def apps(self) -> list[dict[str, t.Any]] | None:
        """Processes on the GPUs; ``None`` when nvidia-smi does not tell."""

        def look() -> list[dict[str, t.Any]] | None:
            if self.smi_failed:
                return None
            fields = "--query-compute-apps=gpu_bus_id,pid,process_name,used_gpu_memory"
            status, out, dummy = self.run([self.options.nvidia_smi, fields, "--format=csv,noheader,nounits"], _nvidia.SMI_TIMEOUT)
            return _nvidia_text.parse_apps(out) if status in (0, 14) else None

        return self.once("apps", look)

    @property
    def cards(self) -> list[dict[str, t.Any]] | None:
        """GPUs and NVSwitches on the PCI bus; ``None`` when the bus cannot be seen."""
        return self.once("cards", lambda: _nvidia.pci_cards(self.options.root))

    @property
    def pci_gpus(self) -> list[dict[str, t.Any]] | None:
        return None if self.cards is None else [card for card in self.cards if card["kind"] == "gpu"]

    @property
    def has_nvswitch(self) -> bool:
        if any(card["kind"] == "nvswitch" for card in self.cards or []):
            return True
        try:
            return bool(os.listdir(self.gpu_path("proc/driver/nvidia-nvswitch/devices")))
        except OSError:
            return False

    @property
    def driver(self) -> dict[str, t.Any]:
        facts = _nvidia.driver_facts(self.loaded_version, self.smi.gpus)
        told = self.details.get("cuda")
        return {**facts, "cuda": told} if told else facts

    @property
    def cuinit(self) -> tuple[int, str]:
        """Exit status (100: no libcuda) and "code count" of cuInit."""
        return self.answer(sys.executable, "-c", CUINIT, timeout=CUINIT_TIMEOUT)

    @property
    def disk_version(self) -> str | None:
        """Version of the module that the next boot would load; ``None`` when there is none for this kernel or no modinfo."""
        status, out = self.answer("modinfo", "-F", "version", "nvidia")
        return out.strip() if status == 0 and re.match(r"\d{3,}\.", out) else None

    @property
    def kernel(self) -> str:
        return (self.text("proc/sys/kernel/osrelease") or "").strip()

    @property
    def is_wsl(self) -> bool:
        """Windows' Linux: the driver is Windows', so nothing about kernel modules applies."""
        return "microsoft" in self.kernel.lower()

    @property
    def kernel_log(self) -> str | None:
        """This boot's kernel log; ``None`` when this user may not see it, or nobody keeps it."""
        status, out = self.answer("journalctl", "-k", "-b", "-q", "--no-pager", "-o", "short-iso", "-n", KERNEL_LOG_LINES)
        return out if status == 0 and out.strip() else None

    @property
    def units(self) -> dict[str, dict[str, str]]:
        """systemd units by name, e.g. ``{"docker": {"ActiveState": "active"}}``; empty without systemd."""

        def look() -> dict[str, dict[str, str]]:
            status, out = self.answer("systemctl", "show", *UNITS, "--property=" + UNIT_PROPERTIES)
            if status != 0:
                return {}
            blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in out.split("\n\n")]
            return {block.get("Id", "").rsplit(".", 1)[0]: block for block in blocks}

        return self.once("units", look)

    def active(self, unit: str) -> bool | None:
        """Whether a unit runs; ``None`` when systemd cannot be asked."""
        return self.units[unit].get("ActiveState") == "active" if unit in self.units else None

    @property
    def packages(self) -> dict[str, tuple[str, bool]] | None:
        """Installed packages that matter here: name to version and whether it is held; ``None`` without dpkg."""

        def look() -> dict[str, tuple[str, bool]] | None:
            status, out = self.answer("dpkg-query", "-W", "-f", "${db:Status-Abbrev}\\t${Package}\\t${Version}\\n", *PACKAGES)
            if status not in (0, 1):
                return None
            rows = [line.split("\t") for line in out.splitlines()]
            return {row[1]: (row[2], row[0].startswith("h")) for row in rows if len(row) == 3 and row[0][1:2] == "i"}

        return self.once("packages", look)

    @property
    def docker(self) -> Docker:
        def look() -> Docker:
            socket_path = self.path(self.options.docker_socket)
            unit = self.units.get("docker", {})
            if not os.path.exists(socket_path):
                return Docker("stopped" if unit.get("LoadState") == "loaded" else "absent")
            if not os.access(socket_path, os.R_OK | os.W_OK):
                return Docker("denied")
            host = DockerHost(endpoint=socket_path)
            try:
                info = host.get("/info", SOCKET_TIMEOUT)
                containers = host.get("/containers/json", SOCKET_TIMEOUT)
            except HostError as error:
                return Docker("stopped", str(error))
            if not isinstance(info, dict) or not isinstance(containers, list):
                return Docker("stopped", "the socket does not answer as Docker does")
            return Docker("ok", "", info, [entry for entry in containers if isinstance(entry, dict)], str(info.get("ServerVersion", "")))

        return self.once("docker", look)

    @property
    def daemon_json(self) -> str | None:
        """Text of daemon.json, empty when there is none; ``None`` when it cannot be read."""
        try:
            with open(self.path("etc/docker/daemon.json"), encoding="utf-8-sig") as stream:
                return stream.read()
        except FileNotFoundError:
            return ""
        except (OSError, ValueError):
            return None


__all__ = ["CUINIT_TIMEOUT", "SOCKET_TIMEOUT", "Context", "Docker", "Model", "Options"]
