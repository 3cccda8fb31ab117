# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""What must outlive a run: the launches we made and the credentials we created, in JSON files a person can read.

Both are 0600 and replaced in one step, so that a run that is cut off leaves the old or the new file, never half of one.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import tempfile
import threading
import typing as t


class UnreadableFile(Exception):
    """A file of ours is there but says nothing sensible; it is never overwritten blindly."""


def read_json(path: str) -> dict[str, t.Any]:
    """The object in a file; empty when there is no file. Raises UnreadableFile."""
    try:
        with open(path, encoding="utf-8") as handle:
            content = json.load(handle)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as problem:
        raise UnreadableFile(f"{path} cannot be read: {problem}. Repair it, or move it away to start anew.") from problem
    if not isinstance(content, dict):
        raise UnreadableFile(f"{path} holds no JSON object. Repair it, or move it away to start anew.")
    return content


def write_json(path: str, content: dict[str, t.Any]) -> None:
    """Replace a file, mode 0600, in one step; its folder is made when it is missing."""
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, mode=0o755, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix="." + os.path.basename(path), dir=folder)  # mkstemp makes it 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            json.dump(content, handle, indent=2, sort_keys=True)
            handle.write("\n")
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


class Launched:
    """What we launched: uid -> launch request. It tells ours from others', and shows drift that the server hides.

    It is also what the keeper launches after a restart, where the server has no autostart entries of its own. An entry
    is ``{"launch", "launched_at", "keep", "ending", "failed"}``: ``keep`` is whether the model is to come back by itself
    (missing: it is), ``ending`` that somebody is taking it away, ``failed`` why its last launch failed.
    """

    ABOUT = "What llmops.dify_xinference.xinference_models launched here. A model in it is ours: prune may end it."

    def __init__(self, path: str) -> None:
        self.path = path
        self._thread_lock = threading.Lock()

    def entries(self) -> dict[str, dict[str, t.Any]]:
        models = read_json(self.path).get("models") or {}
        return {uid: entry for uid, entry in models.items() if isinstance(entry, dict) and isinstance(entry.get("launch"), dict)}

    def load(self) -> dict[str, dict[str, t.Any]]:
        """uid -> launch request."""
        return {uid: entry["launch"] for uid, entry in self.entries().items()}

    def kept(self) -> dict[str, bool]:
        """uid -> whether it is to come back by itself."""
        return {uid: bool(entry.get("keep", True)) for uid, entry in self.entries().items()}

    @contextlib.contextmanager
    def _models(self) -> t.Iterator[dict[str, t.Any]]:
        """Change the file under a lock: two runs on one host may work on it."""
        os.makedirs(os.path.dirname(self.path) or ".", mode=0o755, exist_ok=True)
        with self._thread_lock, open(self.path + ".lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            content = read_json(self.path)
            models = dict(content.get("models") or {})
            before = json.dumps(models, sort_keys=True)
            yield models
            if json.dumps(models, sort_keys=True) != before:
                write_json(self.path, {"about": self.ABOUT, "version": 1, "models": models})

    def remember(self, uid: str, launch: dict[str, t.Any], keep: bool = True) -> None:
        """To be called before the launch is sent: a run cut off in between must not leave an unknown model behind."""
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        with self._models() as models:
            models[uid] = {"launch": launch, "launched_at": now, "keep": keep}

    def mark(self, uid: str, **values: t.Any) -> None:
        """Change what is noted beside a launch; a value of ``None`` takes the note away. Nothing happens to an unknown uid."""
        with self._models() as models:
            if isinstance(models.get(uid), dict):
                entry = dict(models[uid], **values)
                models[uid] = {key: value for key, value in entry.items() if value is not None}

    def forget(self, uid: str) -> None:
        with self._models() as models:
            models.pop(uid, None)


__all__ = ["Launched", "UnreadableFile", "read_json", "write_json"]
