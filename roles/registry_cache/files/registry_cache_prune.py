# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep a pull-through cache below a size: the blobs that were not used for longest go, and are fetched again when asked for.

The registry's own `garbage-collect` frees what no manifest names; a cache that only grows has no such thing. A blob's
link stays: a registry in proxy mode that finds a link and no blob asks its upstream.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time

# A blob that is being served or was just written.
YOUNG = 3600.0


def find_blobs(storage: str) -> list[tuple[float, int, str]]:
    """(last use in seconds since the epoch, bytes, folder) of each blob."""
    blobs = []
    root = os.path.join(storage, "docker", "registry", "v2", "blobs", "sha256")
    for folder, _folders, files in os.walk(root):
        if "data" in files:
            try:
                data = os.stat(os.path.join(folder, "data"))
            except FileNotFoundError:
                continue
            # The time of reading is kept at most a day late by most systems, which is early enough here.
            blobs.append((max(data.st_atime, data.st_mtime), data.st_size, folder))
    return blobs


def choose(blobs: list[tuple[float, int, str]], max_bytes: int, now: float, young: float = YOUNG) -> list[str]:
    """The folders to remove: none below the limit, above it the oldest until nine tenths of it are left."""
    size = sum(blob[1] for blob in blobs)
    if size <= max_bytes:
        return []
    chosen = []
    for used, length, folder in sorted(blobs):
        if size <= max_bytes * 0.9 or now - used < young:
            break
        chosen.append(folder)
        size -= length
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--storage", required=True)
    parser.add_argument("--max-bytes", type=int, required=True)
    parser.add_argument("--young", type=float, default=YOUNG, help="seconds for which a blob is left alone")
    arguments = parser.parse_args()
    blobs = find_blobs(arguments.storage)
    chosen = choose(blobs, arguments.max_bytes, time.time(), arguments.young)
    for folder in chosen:
        shutil.rmtree(folder, ignore_errors=True)
    size = sum(length for _used, length, folder in blobs if folder not in set(chosen))
    print(f"{len(blobs)} blobs; removed {len(chosen)}; {size} bytes are left, the limit is {arguments.max_bytes}")


if __name__ == "__main__":
    main()
