# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds the layers and images that are missing in the cache. Needs root; one builder at a time.

The cache below ``<fleet cache>/images``: ``layers/<key>.tar.gz`` and ``.json`` (one per step chain), ``wheels/``.
A key follows from everything a layer is made from, so a change of the Dify stand-in's code remakes one small layer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
import tempfile
import time
import typing as t

from tests.fleet import shell
from tests.fleet.images import catalog, packer, rootfs, xinference

Log = t.Callable[[str], t.Any]


@dataclasses.dataclass(frozen=True)
class Built:
    """One image, its layer files in the cache, and the seconds its own layers took to build now (0: from the cache)."""

    spec: catalog.ImageSpec
    image: packer.Image
    files: t.Mapping[str, pathlib.Path]
    seconds: float


def identity(step: catalog.Step) -> t.Dict[str, t.Any]:
    """Return what the layer of ``step`` follows from."""
    further: t.Any = None
    if step.action == "debian":
        further = rootfs.base_identity()
    elif step.action == "xinference":
        further = [xinference.RECIPE, xinference.REQUIREMENTS[step.release or xinference.VERSION].read_text(encoding="utf-8"), xinference.LEFT_OUT]
    return step.identity(further)


class Builder:
    """Makes layers in ``cache`` (a folder of its own); ``log`` gets one line per thing that takes time."""

    def __init__(self, cache: pathlib.Path, log: Log) -> None:
        self.cache = cache
        self.layers = cache / "layers"
        self.log = log
        self._spent: t.Dict[str, float] = {}

    @contextlib.contextmanager
    def locked(self) -> t.Iterator[None]:
        """Keep other builders of the same cache out."""
        self.layers.mkdir(parents=True, exist_ok=True)
        with open(self.cache / "lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def build(self, specs: t.Sequence[catalog.ImageSpec]) -> t.List[Built]:
        """Return every image of ``specs``, building what the cache lacks; raises FleetError."""
        self.layers.mkdir(parents=True, exist_ok=True)
        for leftover in self.cache.glob("work-*"):  # of a build that was killed
            shell.remove_tree(leftover)
        result = []
        for spec in specs:
            before = sum(self._spent.values())
            layers, files = [], {}
            for depth in range(1, len(spec.steps) + 1):
                layer, path = self._layer(spec.steps[:depth])
                layers.append(layer)
                files[layer.digest] = path
            image = packer.make_image(layers, spec.full_config(), spec.kind)
            result.append(Built(spec, image, files, sum(self._spent.values()) - before))
        return result

    def tree(self, steps: t.Sequence[catalog.Step], target: pathlib.Path) -> None:
        """Put the whole tree of a chain of steps into the new folder ``target``."""
        for depth in range(1, len(steps) + 1):
            rootfs.unpack(self._layer(steps[:depth])[1], target)
        for folder in packer.RUNTIME_FOLDERS:
            (target / folder).mkdir(exist_ok=True)
        rootfs.device_nodes(target)

    def _layer(self, steps: t.Sequence[catalog.Step]) -> t.Tuple[packer.Layer, pathlib.Path]:
        key = catalog.key_of([identity(step) for step in steps])
        note, content = self.layers / f"{key}.json", self.layers / f"{key}.tar.gz"
        if not (note.exists() and content.exists()):
            started = time.monotonic()
            self.log(f"layer {steps[-1].name}: building")
            with tempfile.TemporaryDirectory(prefix="work-", dir=self.cache) as scratch:
                layer = self._make(steps, pathlib.Path(scratch), content)
            note.write_text(json.dumps({**dataclasses.asdict(layer), "step": steps[-1].name}), encoding="utf-8")
            self._spent[key] = time.monotonic() - started
            self.log(f"layer {steps[-1].name}: {layer.size / 1e6:.0f} MB packed, {self._spent[key]:.0f} s")
        return packer.Layer.from_dict(json.loads(note.read_text(encoding="utf-8"))), content

    def _make(self, steps: t.Sequence[catalog.Step], scratch: pathlib.Path, content: pathlib.Path) -> packer.Layer:
        step, root = steps[-1], scratch / "root"
        part = scratch / "layer.tar.gz"
        if step.action == "debian":
            rootfs.make_base(root)
            before: packer.Snapshot = {}
        elif step.action == "busybox":
            self._busybox(scratch, root)
            before = {}
        else:
            self.tree(steps[:-1], root)
            if step.action == "packages":
                rootfs.refresh_package_lists(root)
            before = packer.snapshot(root)
            self._apply(step, root)
        rootfs.slim(root)
        changed, gone = packer.difference(before, packer.snapshot(root))
        # The lists that were fetched for this build, and went away again, were never in a lower layer.
        gone = [path for path in gone if not path.startswith(("var/lib/apt/lists/", "var/cache/", "etc/resolv.conf"))]
        layer = packer.pack_layer(root, changed, part, gone)
        part.replace(content)
        return layer

    def _apply(self, step: catalog.Step, root: pathlib.Path) -> None:
        if step.before:
            rootfs.chroot(root, ["sh", "-ec", step.before])
        if step.action == "packages":
            rootfs.install(root, step.packages)
        elif step.action == "xinference":
            xinference.install(root, self.cache / "wheels", self.log, step.release or xinference.VERSION)
            (root / "opt/inference").mkdir()
        for place, source, mode in step.files:
            _place(source, root / place, mode)
            if source.is_dir():
                rootfs.compile_python(root, ["/" + place])
        if step.shell:
            rootfs.chroot(root, ["sh", "-ec", step.shell])

    def _busybox(self, scratch: pathlib.Path, root: pathlib.Path) -> None:
        """The static program, a link for each of its commands, and the few files that they look at."""
        debian = scratch / "debian"
        self.tree([catalog.DEBIAN], debian)
        rootfs.refresh_package_lists(debian)
        rootfs.install(debian, ["busybox-static"])
        for folder in ("bin", "etc", "home", "root", "usr", "usr/bin", "var", *packer.RUNTIME_FOLDERS):
            (root / folder).mkdir(parents=True)
        (root / "tmp").chmod(0o1777)
        shutil.copy(debian / "bin/busybox", root / "bin/busybox")
        for name in rootfs.chroot(debian, ["busybox", "--list"]).split():
            if name != "busybox":
                os.symlink("busybox", root / "bin" / name)
        os.symlink("../../bin/env", root / "usr/bin/env")
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n")
        (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")


def _place(source: pathlib.Path, target: pathlib.Path, mode: int) -> None:
    pairs = [(path, target / path.relative_to(source)) for path in catalog.sources(source)] if source.is_dir() else [(source, target)]
    for path, place in pairs:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        place.chmod(mode)
