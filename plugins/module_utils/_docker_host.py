# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""What is done on a Docker host: systemd, dockerd's own check, the engine's socket, and files written whole or not at all."""

from __future__ import annotations

import http.client
import json
import os
import socket
import tempfile
import time
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._command import NOT_FOUND, TIMED_OUT, run_command
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_checks import flag_keys, unknown_keys
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_daemon import without_credentials
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_plan import Unit

COMMAND_TIMEOUT = 20.0
# dockerd gives its containers 15 s to stop, and restores them at start.
SERVICE_TIMEOUT = 180.0


class HostError(Exception):
    """A command or the engine did not do what it was asked; the text has its own words."""


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def command(argv: t.Sequence[str], timeout: float = COMMAND_TIMEOUT) -> tuple[int, str]:
    """Exit status and what the command says; where it could not speak for itself, what became of it."""
    status, out, problem = run_command(list(argv), timeout, merged=True)
    if status == NOT_FOUND and not out:
        return status, f"{argv[0]}: not found"
    if status == TIMED_OUT:
        return status, f"{argv[0]} did not end within {timeout:.0f} s"
    return status, (out or problem).strip()


class DockerHost:
    """The Docker of this host. ``service`` is the systemd unit, ``endpoint`` the path of the engine's socket."""

    def __init__(self, service: str = "docker", endpoint: str = "/var/run/docker.sock", dockerd: str = "dockerd") -> None:
        self.service = service
        self.endpoint = endpoint
        self.dockerd = dockerd

    def unit(self) -> Unit:
        """The unit's state. The flags are the running process's own: units hold variables that systemd fills in."""
        names = "LoadState,ActiveState,MainPID,ExecMainStartTimestampMonotonic,ExecStart"
        status, out = command(["systemctl", "show", self.service, "--property=" + names])
        if status != 0:
            return Unit(False, False, 0.0, {}, [])
        values = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        if values.get("LoadState") in ("not-found", "masked", None):
            return Unit(False, False, 0.0, {}, [])
        active = values.get("ActiveState") in ("active", "reloading")
        argv: list[str] = []
        if active:
            argv = self._command_line(values.get("MainPID", "0"))
        if not argv and "argv[]=" in values.get("ExecStart", ""):
            argv = values["ExecStart"].split("argv[]=", 1)[1].split(" ;", 1)[0].split()
        started = 0.0
        if active:
            started = time.time() - time.monotonic() + int(values.get("ExecMainStartTimestampMonotonic") or 0) / 1e6
        return Unit(True, active, started, flag_keys(" ".join(argv)), argv)

    @staticmethod
    def _command_line(pid: str) -> list[str]:
        try:
            with open(f"/proc/{int(pid)}/cmdline", "rb") as stream:
                return [part.decode("utf-8", "replace") for part in stream.read().split(b"\0") if part]
        except (OSError, ValueError):
            return []

    def get(self, path: str, timeout: float = COMMAND_TIMEOUT) -> t.Any:
        """JSON of one GET on the engine's socket; raises :class:`HostError`."""
        connection = _SocketConnection(self.endpoint, timeout)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise HostError(f"GET {path} on {self.endpoint}: {answer.status} {body[:300].decode('utf-8', 'replace')}")
            return json.loads(body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise HostError(f"GET {path} on {self.endpoint}: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def info(self) -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", self.get("/info"))

    def wait_for_info(self, timeout: float = 60.0) -> dict[str, t.Any]:
        """``/info`` as soon as the engine answers; raises :class:`HostError` with the last reason."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                return self.info()
            except HostError:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(0.3)

    def act(self, verb: str) -> None:
        """``systemctl <verb>``; raises :class:`HostError` with what systemd and dockerd say."""
        if verb in ("start", "restart"):
            # After three failed starts systemd refuses further ones, also those that would work now.
            command(["systemctl", "reset-failed", self.service])
        status, out = command(["systemctl", verb, self.service], SERVICE_TIMEOUT)
        if status != 0:
            raise HostError(f"systemctl {verb} {self.service} failed ({status}): {out} {self.last_errors()}".strip())

    def last_errors(self) -> str:
        """The last lines of dockerd's log that name an error, for messages only."""
        status, out = command(["journalctl", "-u", self.service, "-n", "40", "-o", "cat", "--no-pager"])
        if status != 0:
            return ""
        lines = [line for line in out.splitlines() if "level=error" in line or "level=fatal" in line or "unable to" in line or "failed to" in line]
        return " | ".join(lines[-3:])

    def reload_errors(self, since: float) -> str:
        """What dockerd logged against the file since then (seconds since the epoch): keys that ``/info`` does not show fail in no other place."""
        status, out = command(["journalctl", "-u", self.service, "--since", f"@{int(since)}", "-o", "cat", "--no-pager"])
        if status != 0:
            return ""
        return " | ".join(line for line in out.splitlines() if "reconfiguring the daemon" in line or ("level=error" in line and "daemon.json" in line))

    def knows_plugin(self, name: str) -> bool:
        """Whether an authorization plugin of that name can be there: dockerd ends for good over one that is not, also in a reload."""
        plain = name.rsplit("/", maxsplit=1)[-1]
        places = [f"/run/docker/plugins/{plain}.sock", f"/run/docker/plugins/{plain}/{plain}.sock"]
        places += [f"{folder}/docker/plugins/{plain}.{suffix}" for folder in ("/etc", "/usr/lib") for suffix in ("spec", "json")]
        if any(os.path.exists(path) for path in places):
            return True
        try:
            managed = [str(plugin.get("Name")) for plugin in self.get("/plugins") if plugin.get("Enabled")]
        except HostError:
            return False
        return name in managed or name + ":latest" in managed

    def validate(self, text: str, unit: Unit, new_keys: t.Iterable[str] = ()) -> str | None:
        """dockerd's own check of a file, with the unit's flags: its complaint, or ``None``.

        Before 23.0 it has no such check. Then its help tells whether it knows the ``new_keys``; the others it has loaded before.
        """
        handle, path = tempfile.mkstemp(prefix="daemon-", suffix=".json")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
            flags = [flag for flag in unit.command[1:] if not flag.startswith("$") and not flag.startswith("--config-file")]
            status, out = command([self.dockerd, "--validate", "--config-file", path] + flags)
        finally:
            os.unlink(path)
        if status in (0, NOT_FOUND):
            return None
        if "unknown flag: --validate" in out:
            unknown = unknown_keys(new_keys, command([self.dockerd, "--help"])[1])
            return f"this dockerd knows no {', '.join(unknown)}" if unknown else None
        return out.replace(path, "daemon.json")


def read_file(path: str) -> str | None:
    """The text of a file, or ``None`` when it does not exist. Bytes that are no UTF-8 come through :func:`write_file` as they were."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def write_file(path: str, text: str) -> None:
    """Replace a file in one step, through a link to its target; owner and mode are kept, a new file gets 0644.

    With a password in a URL (a proxy's) nobody but the owner may read it.
    """
    mask = 0o7700 if without_credentials(text) != text else 0o7777
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix="." + os.path.basename(path) + ".")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        try:
            old = os.stat(path)
            os.chmod(temporary, old.st_mode & mask)
            os.chown(temporary, old.st_uid, old.st_gid)
        except FileNotFoundError:
            os.chmod(temporary, 0o644 & mask)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def back_up(path: str) -> str | None:
    """Copy a file beside itself, named by the time; ``None`` when there is none."""
    real = os.path.realpath(path)
    try:
        with open(real, "rb") as stream:
            content = stream.read()
        old = os.stat(real)
    except FileNotFoundError:
        return None
    now = time.time()
    backup = f"{real}.{time.strftime('%Y-%m-%dT%H-%M-%S', time.localtime(now))}.{int(now % 1 * 1e6):06d}~"
    # Never wider than the original, not even for a moment.
    handle = os.open(backup, os.O_WRONLY | os.O_CREAT | os.O_EXCL, old.st_mode & 0o7777)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
    return backup


__all__ = ["DockerHost", "HostError", "back_up", "command", "read_file", "write_file"]
