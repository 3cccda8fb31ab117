"""Running programs and saying what happens: the only place that starts processes of the machine."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_STARTED = time.monotonic()
_PRINT_LOCK = threading.Lock()


class FleetError(RuntimeError):
    """Something the fleet needs failed; the text says what failed, what was found, and what to do next."""


def say(message: str) -> None:
    """Print one progress line to stderr, with the seconds since the program started."""
    with _PRINT_LOCK:
        print(f"[fleet {time.monotonic() - _STARTED:6.1f} s] {message}", file=sys.stderr, flush=True)


@contextmanager
def step(message: str) -> Iterator[None]:
    """Say that a step begins, and how many seconds it took once it is over."""
    say(f"{message} ...")
    begun = time.monotonic()
    yield
    say(f"{message}: done in {time.monotonic() - begun:.1f} s")


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold a file's lock, so that of two programs that build or start the same things one waits for the other."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Waiting for another run of the fleet to finish ({file})")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def run(
    argv: Sequence[str],
    *,
    stdin: bytes | None = None,
    environment: Mapping[str, str] | None = None,
    check: bool = True,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program and return its output as text.

    Raises FleetError with the command and the end of its output when it exits non-zero and check is set,
    when it is not installed, or when it runs past timeout (seconds).
    """
    try:
        done = subprocess.run(
            list(argv),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            env={**os.environ, **(environment or {})},
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise FleetError(f"{argv[0]} is not installed. Run `python -m tests.fleet prepare` first.") from error
    except subprocess.TimeoutExpired as error:
        raise FleetError(f"`{shlex.join(argv)}` did not finish within {timeout:g} s.") from error
    result = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
    if check and result.returncode != 0:
        tail = "\n".join((result.stdout + result.stderr).strip().splitlines()[-25:])
        raise FleetError(f"`{shlex.join(argv)}` ended with exit code {result.returncode}:\n{tail}")
    return result


def is_root() -> bool:
    return os.geteuid() == 0


def can_be_root() -> bool:
    """Whether programs can be run as root without a prompt: as root itself, or through `sudo -n`."""
    if is_root():
        return True
    if shutil.which("sudo") is None:
        return False
    return subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0


def as_root(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> list[str]:
    """The command line that runs argv as root; sudo drops the environment, so what is needed goes through env."""
    pairs = [f"{key}={value}" for key, value in (environment or {}).items()]
    return [*([] if is_root() else ["sudo", "-n"]), *(["env", *pairs] if pairs else []), *argv]


def run_root(argv: Sequence[str], *, environment: Mapping[str, str] | None = None, **options: object) -> subprocess.CompletedProcess[str]:
    """Like run, as root (through `sudo -n` when the caller is not root)."""
    return run(as_root(argv, environment), **options)  # type: ignore[arg-type]


def remove_tree(path: Path) -> None:
    """Remove a tree that may belong to root."""
    if path.exists() or path.is_symlink():
        run_root(["rm", "-rf", "--one-file-system", str(path)])
