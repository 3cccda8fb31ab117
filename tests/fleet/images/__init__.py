# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fleet's container images: built from Debian and Python packages alone, pushed under their Docker Hub names.

``ensure(registry)`` is what the fleet calls; ``python -m tests.fleet.images`` does the same by hand.
``ensure_models()`` makes the tiny models that GPU hosts mount.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import typing as t

from tests.fleet import shell
from tests.fleet.config import REPOSITORY, Settings
from tests.fleet.images import build, catalog, packer, registry

__all__ = ["ensure", "ensure_models", "models_folder"]

HERE = pathlib.Path(__file__).resolve().parent
ARCHIVE = "tiny-models.tar.gz"  # below <cache>/www/archives


def _settings() -> Settings:
    return Settings.from_environment()


def models_folder() -> pathlib.Path:
    """Where :func:`ensure_models` puts the tiny models: one folder per model."""
    return _settings().cache / "models"


def ensure(registry_address: str, log: t.Callable[[str], t.Any] = print, only: t.Optional[t.Collection[str]] = None) -> t.Dict[str, str]:
    """Build what is missing in the cache, push what is missing in the registry; return {name:tag: manifest digest}.

    ``registry_address`` is ``HOST:PORT`` or ``http://HOST:PORT``. ``only`` limits it to these repositories or names.
    Prints a table of sizes and times through ``log``. Raises FleetError.
    """
    specs = catalog.chosen(only or ())
    if not specs:
        raise shell.FleetError(f"no image is called {', '.join(only or ())}. There are: {', '.join(spec.name for spec in catalog.IMAGES)}.")
    if not shell.is_root():
        return json.loads(_as_root(["--registry", registry_address, *[word for name in only or () for word in ("--only", name)]], log))
    target = registry.Registry.at(registry_address)
    builder = build.Builder(_settings().cache / "images", log)
    with builder.locked():
        _require("debootstrap")
        rows, digests = [], {}
        for built in builder.build(specs):
            started, sent = time.monotonic(), target.sent
            target.push(built.spec.repository, built.spec.tag, built.image, lambda layer: built.files[layer.digest])  # noqa: B023
            rows.append((built, target.sent - sent, time.monotonic() - started))
            digests[built.spec.name] = built.image.digest
    for line in _table(rows):
        log(line)
    return digests


def ensure_models(log: t.Callable[[str], t.Any] = print) -> pathlib.Path:
    """Make the tiny models unless the cache has them; return their folder. Also writes their archive. Raises FleetError.

    Runs inside the tree of the Xinference image, so that the builder needs no torch of its own.
    """
    if not shell.is_root():
        _as_root(["--models"], log)
        return models_folder()
    cache = _settings().cache
    builder = build.Builder(cache / "images", log)
    sources = [HERE / "tiny_models.py", HERE / "model_specs.py"]
    key = catalog.key_of([build.identity(catalog.XINFERENCE), {"sources": [packer.digest_of(path.read_bytes()) for path in sources]}])
    folder, note, archive = cache / "models", cache / "models" / ".key", cache / "www" / "archives" / ARCHIVE
    with builder.locked():
        if note.exists() and note.read_text() == key and archive.exists():
            return folder
        _require("debootstrap")
        log("tiny models: making them (about a minute)")
        with tempfile.TemporaryDirectory(prefix="work-", dir=builder.cache) as scratch:
            root = pathlib.Path(scratch) / "root"
            builder.tree((catalog.DEBIAN, catalog.XINFERENCE), root)
            (root / "make").mkdir()
            for source in sources:
                shutil.copy(source, root / "make")
            from tests.fleet.images import rootfs

            words = rootfs.chroot(root, ["python3", "/make/tiny_models.py", "/make/out"], {"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"})
            for line in words.splitlines():
                log(f"tiny models: {line}")
            _replace(root / "make/out", folder)
        note.write_text(key)
        archive.parent.mkdir(parents=True, exist_ok=True)
        part = archive.with_suffix(".part")
        packer.pack_layer(folder, (path for path in packer.walk(folder) if path != ".key"), part, level=6)
        part.replace(archive)
    return folder


def _replace(source: pathlib.Path, folder: pathlib.Path) -> None:
    """Bring new models in, keeping the folder itself: hosts may have it mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        shutil.rmtree(folder / path.name, ignore_errors=True)
        shutil.copytree(path, folder / path.name)


def _require(program: str) -> None:
    if shutil.which(program) is None:
        raise shell.FleetError(f"{program} is not installed. Run 'python -m tests.fleet prepare', or install it: apt-get install {program}.")


def _as_root(arguments: t.Sequence[str], log: t.Callable[[str], t.Any]) -> str:
    """Run this package's command as root and return what it printed; its progress goes to ``log``."""
    if not shell.can_be_root():
        raise shell.FleetError("Building images needs root (debootstrap, chroot), and 'sudo -n' is not allowed: run it as root, or allow sudo.")
    kept = {name: value for name, value in os.environ.items() if name.startswith(("LLMOPS_", "FLEET_", "PIP_", "XDG_"))}
    kept["LLMOPS_FLEET_CACHE"] = str(_settings().cache)
    command = shell.as_root([sys.executable, "-m", "tests.fleet.images", "--json", *arguments], kept)
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stderr or ():
            lines.append(line.rstrip())
            log(line.rstrip())
        out = (process.stdout.read() if process.stdout else "").strip()
    if process.returncode != 0:
        raise shell.FleetError(lines[-1] if lines else f"building images as root ended with exit code {process.returncode}")
    return out


def _table(rows: t.Sequence[t.Tuple[build.Built, int, float]]) -> t.Iterator[str]:
    """Sizes and times of every image; layers that an earlier line has counted are not counted again."""
    seen: t.Set[str] = set()
    total_packed = total_unpacked = 0
    yield f"{'image':45} {'unpacked':>9} {'packed':>8} {'own':>8} {'sent':>8} {'build':>7} {'push':>6}"
    for built, sent, seconds in rows:
        layers = built.image.layers
        own = [layer for layer in layers if layer.digest not in seen]
        seen.update(layer.digest for layer in layers)
        total_packed += sum(layer.size for layer in own)
        total_unpacked += sum(layer.unpacked for layer in own)
        cells = (sum(layer.unpacked for layer in layers), sum(layer.size for layer in layers), sum(layer.size for layer in own), sent)
        megabytes = [f"{number / 1e6:.0f} MB" for number in cells]
        yield (f"{built.spec.name:45} {megabytes[0]:>9} {megabytes[1]:>8} {megabytes[2]:>8} {megabytes[3]:>8} {built.seconds:>5.0f} s {seconds:>4.0f} s")
    yield f"{'all, shared layers once':45} {total_unpacked / 1e6:>6.0f} MB {total_packed / 1e6:>5.0f} MB"
