"""Where things are kept that every checkout on this machine can share, and a lock for those who fill it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from pathlib import Path
from typing import Iterator


def directory() -> Path:
    """``$LLMOPS_CACHE``, else ``llmops-dify-xinference`` under the user's cache directory."""
    own = os.environ.get("LLMOPS_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "llmops-dify-xinference"


@contextlib.contextmanager
def lock(path: Path, purpose: str) -> Iterator[None]:
    """Hold ``path`` (a file, created when missing) exclusively; says so when another run has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Waiting for another run that holds {path} ({purpose}) ...", file=sys.stderr, flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
