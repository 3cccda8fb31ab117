"""The outer Docker Engine: a dockerd of our own, beside any other on the machine.

Own data-root, own socket, own containerd namespace and no default bridge: two engines that share docker0 take each
other's network away when one of them stops.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tests.fleet import machine
from tests.fleet.config import Settings
from tests.fleet.shell import FleetError, as_root, remove_tree, run, run_root, say, step

SOCKET_PATH_LIMIT = 100
START_TIMEOUT = 60.0
STOP_TIMEOUT = 90.0


class Engine:
    """Starts, asks and stops the fleet's dockerd."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._dir = settings.engine_dir
        self._pid_file = self._dir / "dockerd.pid"
        self._log = self._dir / "dockerd.log"

    @property
    def url(self) -> str:
        return f"unix://{self._settings.socket}"

    def docker(self, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        """Run the docker client against this engine; options are those of shell.run."""
        return run(self.command(*arguments), **options)  # type: ignore[arg-type]

    def command(self, *arguments: str) -> list[str]:
        return ["docker", "--host", self.url, *arguments]

    def answers(self) -> bool:
        if not self._settings.socket.exists() or shutil.which("docker") is None:
            return False
        return self.docker("version", "--format", "{{.Server.Version}}", check=False, timeout=20).returncode == 0

    def ensure(self) -> None:
        """Start the engine unless it answers.

        Raises FleetError with the end of dockerd's log when it does not come up within START_TIMEOUT seconds.
        """
        if self.answers():
            return
        if len(str(self._settings.socket)) > SOCKET_PATH_LIMIT:
            raise FleetError(f"The path {self._settings.socket} is too long for a socket. Set LLMOPS_FLEET_CACHE to a shorter folder.")
        dockerd = shutil.which("dockerd") or shutil.which("dockerd", path="/usr/sbin:/usr/local/sbin:/sbin")
        if dockerd is None or shutil.which("docker") is None:
            raise FleetError("dockerd or docker is not installed. Run `python -m tests.fleet prepare` first.")
        with step("Starting the fleet's Docker Engine"):
            self._dir.mkdir(parents=True, exist_ok=True)
            self._clear_leftovers()
            machine.remember_firewall(self._settings)
            self._launch(dockerd)
            self._wait()

    def _launch(self, dockerd: str) -> None:
        argv = [
            dockerd,
            f"--data-root={self._dir / 'data'}",
            f"--exec-root={self._dir / 'exec'}",
            f"--pidfile={self._pid_file}",
            f"--host={self.url}",
            f"--config-file={self._dir / 'daemon.json'}",
            "--containerd-namespace=llmops-fleet",
            "--containerd-plugins-namespace=llmops-fleet-plugins",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            "--bridge=none",
            f"--group={os.getgid()}",
        ]
        (self._dir / "daemon.json").write_text("{}\n")
        # Debian puts runc in /usr/sbin, which is not on every user's PATH.
        path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
        with open(self._log, "ab") as log:
            subprocess.Popen(as_root(argv, {"PATH": path}), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/")

    def _wait(self) -> None:
        until = time.monotonic() + START_TIMEOUT
        while time.monotonic() < until:
            if self.answers():
                return
            time.sleep(0.5)
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
        raise FleetError(f"dockerd did not answer within {START_TIMEOUT:g} s. The end of {self._log}:\n{tail}")

    def _processes(self, programs: tuple[str, ...] = ("dockerd", "containerd", "containerd-shim-runc-v2")) -> list[int]:
        """Process ids of our dockerd, its containerd and its shims: those whose command line names our folder."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            program = os.path.basename(words[0].decode(errors="replace"))
            if program in programs and any(os.fsencode(f"{self._dir}/") in word for word in words[1:]):
                found.append(int(entry.name))
        return found

    def _clear_leftovers(self) -> None:
        """Remove pid files and run-time folders that a killed engine or a machine restart left behind.

        dockerd refuses to start when any process, be it another one, has the number in its pid file.
        """
        leftovers = self._processes()
        if leftovers:
            say(f"An engine of ours does not answer; ending its {len(leftovers)} processes and the hosts that still run")
            self._end(self._processes(("dockerd", "containerd")), 15.0)
            shims = self._processes()
            # Hosts first: without its shim a host would go on running, unseen by the new engine.
            self._end(_children(shims), 0.0)
            self._end(shims, 5.0)
        run_root(["rm", "-f", str(self._pid_file), str(self._settings.socket)])
        self._unmount_below(self._dir / "exec")
        remove_tree(self._dir / "exec")

    def _end(self, pids: list[int], patience: float) -> None:
        """SIGTERM, then SIGKILL for what is still there after so many seconds."""
        self._kill(pids, signal.SIGTERM)
        until = time.monotonic() + patience
        while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < until:
            time.sleep(0.3)
        self._kill([pid for pid in pids if Path(f"/proc/{pid}").exists()], signal.SIGKILL)

    def _kill(self, pids: list[int], number: signal.Signals) -> None:
        for pid in pids:
            run_root(["kill", f"-{int(number)}", str(pid)], check=False)

    def _unmount_below(self, folder: Path) -> None:
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((m for m in mounts if m.startswith(f"{folder}/")), reverse=True):
            run_root(["umount", "-l", mount], check=False)

    def stop(self) -> bool:
        """Stop the engine and what it left in the firewall; False when it was not running."""
        pids = self._processes()
        if not pids and not self.answers():
            return False
        with step("Stopping the fleet's Docker Engine"):
            # dockerd ends its hosts and its containerd itself, given the time.
            self._end(self._processes(("dockerd",)), STOP_TIMEOUT)
            self._end(self._processes(), 5.0)
            self._unmount_below(self._dir)
            run_root(["rm", "-f", str(self._pid_file), str(self._settings.socket)])
        return True

    def image_exists(self, image: str) -> bool:
        return self.docker("image", "inspect", image, check=False).returncode == 0

    def containers(self, *filters: str) -> dict[str, str]:
        """Containers, running or not: name -> what the engine says of it, e.g. "Up 3 minutes"."""
        listing = self.docker("ps", "--all", *filters, "--format", "{{json .}}").stdout
        rows = [json.loads(line) for line in listing.splitlines()]
        return {row["Names"]: row["Status"] for row in rows}


def _children(parents: list[int]) -> list[int]:
    """Process ids of the direct children of some processes."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name in brackets may hold blanks; the parent is the second word after it.
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent in parents:
                found.append(int(entry.name))
    return found
