# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Container images as plain files: layers, configuration and manifest, without any container engine.

Pure: reads a directory tree, writes files, knows no registry and starts no program. The same tree gives the same
digests every time: entries are sorted, times are fixed, owners are numbers, the gzip header carries no time.

The Docker media types (image manifest version 2, schema 2) are used rather than the OCI ones because every engine
of the fleet reads them, the oldest being 20.10.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import pathlib
import stat
import tarfile
import typing as t
import zlib

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"

# One moment for every file of every image (2026-01-01 00:00 UTC). Byte code in the images is of the "unchecked hash"
# kind, so that it does not go stale when the times of the sources are changed here.
FIXED_TIME = 1767225600
CREATED = "2026-01-01T00:00:00Z"

# Folders that the engine fills in at run time: only the empty folder belongs into an image.
RUNTIME_FOLDERS = frozenset(["dev", "proc", "sys", "run", "tmp"])

Signature = t.Tuple[t.Any, ...]
Snapshot = t.Dict[str, Signature]


@dataclasses.dataclass(frozen=True)
class Layer:
    """One packed layer: ``digest`` and ``size`` (bytes) of the compressed file, ``diff_id`` of the tar inside."""

    digest: str
    size: int
    diff_id: str
    unpacked: int

    @classmethod
    def from_dict(cls, data: t.Mapping[str, t.Any]) -> Layer:
        return cls(**{field.name: data[field.name] for field in dataclasses.fields(cls)})


@dataclasses.dataclass(frozen=True)
class Image:
    """Everything a registry needs but the layer files: the bytes of configuration and manifest, the layers in order."""

    config: bytes
    manifest: bytes
    layers: t.Tuple[Layer, ...]

    @property
    def config_digest(self) -> str:
        return digest_of(self.config)

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def walk(root: pathlib.Path) -> t.Iterator[str]:
    """Yield every path below ``root``, relative, parents before children, sorted; never follows a link."""

    def below(folder: str) -> t.Iterator[str]:
        with os.scandir(root / folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            path = f"{folder}/{entry.name}" if folder else entry.name
            yield path
            if entry.is_dir(follow_symlinks=False) and path not in RUNTIME_FOLDERS:
                yield from below(path)

    return below("")


def snapshot(root: pathlib.Path) -> Snapshot:
    """Return what tells a changed file from an unchanged one, for every path below ``root``."""
    return {path: _signature(root / path) for path in walk(root)}


def _signature(path: pathlib.Path) -> Signature:
    info = path.lstat()
    owner = (stat.S_IFMT(info.st_mode), stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)
    if stat.S_ISDIR(info.st_mode):
        return owner  # a folder's time and size change with its children, which count by themselves
    if stat.S_ISLNK(info.st_mode):
        return (*owner, os.readlink(path))
    return (*owner, info.st_size, info.st_mtime_ns)


def difference(before: Snapshot, after: Snapshot) -> t.Tuple[t.List[str], t.List[str]]:
    """Return (paths to pack, paths that went away); a path below another one that went away is left out of the second."""
    changed = [path for path, signature in after.items() if before.get(path) != signature]
    gone: t.List[str] = []
    for path in before:
        if path not in after and not any(path.startswith(parent + "/") for parent in gone[-1:]):
            gone.append(path)
    return changed, gone


def whiteout(path: str) -> str:
    """Return the name by which a layer says that ``path`` of a lower layer is gone."""
    folder, name = os.path.split(path)
    return os.path.join(folder, ".wh." + name)


class _HashingWriter(io.RawIOBase):
    """Passes bytes on to ``sink`` and keeps their digest and number."""

    def __init__(self, sink: t.Callable[[bytes], t.Any]) -> None:
        super().__init__()
        self._sink = sink
        self._hash = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: t.Any) -> int:
        block = bytes(data)
        self._hash.update(block)
        self.size += len(block)
        self._sink(block)
        return len(block)

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()


def pack_layer(root: pathlib.Path, paths: t.Iterable[str], target: pathlib.Path, gone: t.Iterable[str] = (), level: int = 1) -> Layer:
    """Write the named ``paths`` of ``root`` and whiteouts for ``gone`` to ``target`` as a gzip tar; return its digests.

    ``level`` is zlib's, 0..9. Parent folders of a path are packed with it, so that their modes survive.
    Raises OSError when a path cannot be read. Sockets and pipes are left out: an image cannot use them.
    """
    wanted: t.Set[str] = set()
    for path in paths:
        parts = path.split("/")
        wanted.update("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    whiteouts = {whiteout(path) for path in gone}
    with open(target, "wb") as raw:
        packed = _HashingWriter(raw.write)
        # A hand-written gzip frame: Python's own header names the system, which would make digests differ.
        compressor = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
        packed.write(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff")
        check = [zlib.crc32(b"")]

        def compress(block: bytes) -> None:
            check[0] = zlib.crc32(block, check[0])
            out = compressor.compress(block)
            if out:
                packed.write(out)

        plain = _HashingWriter(compress)
        with tarfile.open(fileobj=plain, mode="w|", format=tarfile.GNU_FORMAT, bufsize=1 << 20) as tar:
            links: t.Dict[t.Tuple[int, int], str] = {}
            for path in sorted(wanted | whiteouts):
                if path in whiteouts:
                    tar.addfile(_entry(path, tarfile.REGTYPE, 0o600))
                else:
                    _add(tar, root, path, links)
        packed.write(compressor.flush())
        packed.write((check[0] & 0xFFFFFFFF).to_bytes(4, "little") + (plain.size & 0xFFFFFFFF).to_bytes(4, "little"))
    return Layer(digest=packed.digest, size=packed.size, diff_id=plain.digest, unpacked=plain.size)


def _entry(name: str, kind: bytes, mode: int, uid: int = 0, gid: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.uid, entry.gid, entry.mtime = kind, mode, uid, gid, FIXED_TIME
    return entry


def _add(tar: tarfile.TarFile, root: pathlib.Path, path: str, links: t.Dict[t.Tuple[int, int], str]) -> None:
    source = root / path
    info = source.lstat()
    entry = _entry(path, tarfile.REGTYPE, stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)
    if stat.S_ISDIR(info.st_mode):
        entry.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(info.st_mode):
        entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(source)
    elif stat.S_ISREG(info.st_mode):
        inode = (info.st_dev, info.st_ino)
        if info.st_nlink > 1 and inode in links:
            entry.type, entry.linkname = tarfile.LNKTYPE, links[inode]
        else:
            links[inode] = path
            entry.size = info.st_size
            with open(source, "rb") as content:
                tar.addfile(entry, content)
            return
    else:
        return
    tar.addfile(entry)


def make_image(layers: t.Sequence[Layer], config: t.Mapping[str, t.Any], comment: str = "") -> Image:
    """Return the image of ``layers`` (lowest first) with the run-time ``config``.

    ``config`` has the keys of Docker's container configuration: Env (list of NAME=value), Cmd, Entrypoint, User,
    WorkingDir, ExposedPorts, Volumes, StopSignal, Labels.
    """
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": CREATED,
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": CREATED, "created_by": comment or "tests/fleet/images"} for _layer in layers],
    }
    configuration = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "size": len(configuration), "digest": digest_of(configuration)},
        "layers": [{"mediaType": LAYER_TYPE, "size": layer.size, "digest": layer.digest} for layer in layers],
    }
    return Image(configuration, json.dumps(manifest, indent=1).encode(), tuple(layers))
