"""What a host gets before its first boot, as one tar: the key, apt's proxy and extra source, the GPU stand-ins."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass

from tests.fleet.layout import Host
from tests.fleet.standins.nvidia import hostfiles as nvidia_hostfiles

OPS_ID = 1000


@dataclass(frozen=True)
class File:
    """One file of the seed; uid is also the group's id."""

    content: bytes
    mode: int = 0o644
    uid: int = 0


def seed_files(host: Host, public_key: str, services_address: str | None) -> dict[str, File]:
    """Absolute path -> file, for one host."""
    key = public_key.encode()
    files = {"/home/ops/.ssh/authorized_keys": File(key, 0o600, OPS_ID)}
    if services_address and host.role != "services":
        proxy = f'Acquire::http::Proxy "http://{services_address}:3142";\nAcquire::http::Proxy::{services_address} "DIRECT";\n'
        files["/etc/apt/apt.conf.d/90fleet-proxy"] = File(proxy.encode())
        if host.image == "ubuntu2404":
            source = (
                "# STAND-IN: packages that Ubuntu has and the Debian below this host has not.\n"
                f"Types: deb\nURIs: http://{services_address}/apt/ubuntu-standin\nSuites: /\n"
                "Signed-By: /etc/llmops-standin/apt-key.asc\n"
            )
            files["/etc/apt/sources.list.d/llmops-standin-ubuntu.sources"] = File(source.encode())
    if host.gpus:
        for path, (content, mode) in nvidia_hostfiles.files(host.gpus).items():
            files[path] = File(content, mode)
    return files


def seed_archive(files: dict[str, File], links: dict[str, str] | None = None) -> bytes:
    """A tar of the files, with folders of their own where the owner is not root; links maps path -> target."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folders: set[str] = set()
        for path, file in sorted(files.items()):
            if file.uid:
                folder = path.rpartition("/")[0]
                if folder not in folders:
                    folders.add(folder)
                    archive.addfile(_entry(folder, tarfile.DIRTYPE, 0o700, file.uid))
            entry = _entry(path, tarfile.REGTYPE, file.mode, file.uid)
            entry.size = len(file.content)
            archive.addfile(entry, io.BytesIO(file.content))
        for path, target in sorted((links or {}).items()):
            entry = _entry(path, tarfile.SYMTYPE, 0o777, 0)
            entry.linkname = target
            archive.addfile(entry)
    return buffer.getvalue()


def _entry(path: str, kind: bytes, mode: int, uid: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path.lstrip("/"))
    entry.type, entry.mode, entry.uid, entry.gid = kind, mode, uid, uid
    return entry
