"""An S3-compatible server for tests: s3rver, from the npm index, which checks signatures and keeps objects in a folder."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fleet import Fleet

VERSION = "3.7.1"
ACCESS_KEY = SECRET_KEY = "S3RVER"  # its own, of every installation
PORT = 24568


def program() -> Path:
    """Install it once for all checkouts; needs node and npm on this machine."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / f"llmops-s3rver-{VERSION}"
    found = folder / "node_modules" / ".bin" / "s3rver"
    if not found.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), f"s3rver@{VERSION}"], check=True, capture_output=True)
    return found


@contextmanager
def server(fleet: Fleet, folder: Path) -> Iterator[str]:
    """Its address, reachable by the fleet's hosts and nobody else: the bridge's own. Objects lie below ``folder``, a bucket a folder."""
    address = fleet.address("svc").rsplit(".", 1)[0] + ".1"
    command = [str(program()), "--address", address, "--port", str(PORT), "--directory", str(folder), "--silent"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    url = f"http://{address}:{PORT}"
    try:
        for _number in range(100):
            try:
                urllib.request.urlopen(url, timeout=2)
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(10)
