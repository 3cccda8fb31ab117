"""Host images: Debian by debootstrap, and variants of it, cached by the content of their recipe.

A base is the plain output of debootstrap (a tarball in the cache, imported into the engine). A variant is a base or
another variant plus a folder of files and a script, run in a container and committed. The tag is a digest of all that
goes in, so an unchanged recipe is never built twice.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.fleet.config import Settings
from tests.fleet.engine import Engine
from tests.fleet.shell import FleetError, as_root, remove_tree, run_root, say, step

FILES = Path(__file__).resolve().parent / "hostfiles"
BUILDER_CA_DIR = Path("/usr/local/share/ca-certificates")
PACKAGES = "systemd,systemd-sysv,dbus,openssh-server,python3,python3-apt,python3-debian,sudo,iproute2,ca-certificates,gnupg,iptables,kmod,procps,curl"

# Run once in a container of the freshly imported base. apt timers are masked: on a real machine too they are what
# makes a role wait for apt's lock, and here they would make runs differ.
_CONFIGURE = """
export DEBIAN_FRONTEND=noninteractive
update-ca-certificates >/dev/null 2>&1
useradd --create-home --shell /bin/bash ops
chmod 0440 /etc/sudoers.d/ops
rm -f /etc/ssh/ssh_host_* /etc/machine-id
: > /etc/machine-id
systemctl mask apt-daily.timer apt-daily-upgrade.timer getty.target console-getty.service systemd-logind.service 2>/dev/null
systemctl enable ssh.service fleet-cgroup.service fleet-host-keys.service 2>/dev/null
apt-get -q update
apt-get clean
"""
_SERVICES = """
export DEBIAN_FRONTEND=noninteractive
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
chmod 0755 /usr/sbin/policy-rc.d
apt-get -q update
apt-get -q install --yes --no-install-recommends -o Dpkg::Options::=--force-confold nginx-light docker-registry
apt-get clean
rm -f /usr/sbin/policy-rc.d
"""


@dataclass(frozen=True)
class Base:
    """A plain Debian made by debootstrap."""

    suite: str
    packages: str = PACKAGES


@dataclass(frozen=True)
class Variant:
    """parent (a base's suite or a variant) plus the files of hostfiles/<folder> and a shell script."""

    parent: str
    folder: str
    script: str
    with_builder_ca: bool = False


BASES = {"bookworm": Base("bookworm"), "trixie": Base("trixie")}
VARIANTS = {
    "debian12": Variant("bookworm", "common", _CONFIGURE, with_builder_ca=True),
    "debian13": Variant("trixie", "common", _CONFIGURE, with_builder_ca=True),
    "ubuntu2404": Variant("debian13", "ubuntu2404", "true"),
    "services": Variant("debian13", "services", _SERVICES),
}


class HostImages:
    """Makes sure that the images of hosts are in the engine."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine

    def tag(self, name: str) -> str:
        """Image name with the digest of its whole recipe, parents included."""
        return f"llmops-fleet/host-{name}:{self._digest(name)}"

    def ensure(self, name: str) -> str:
        """Build what is missing of the image and its parents; returns the tag."""
        tag = self.tag(name)
        if self._engine.image_exists(tag):
            return tag
        if name in BASES:
            self._import(self._tarball(BASES[name], tag), tag)
            return tag
        parent = self.ensure(VARIANTS[name].parent)
        with step(f"Building the host image {name}"):
            self._derive(parent, VARIANTS[name], tag)
        return tag

    def _digest(self, name: str) -> str:
        recipe = hashlib.sha256()
        if name in BASES:
            base = BASES[name]
            parts = [base.suite, base.packages]
        else:
            variant = VARIANTS[name]
            parts = [self._digest(variant.parent), variant.script, *self._folder_digest(FILES / variant.folder)]
            if variant.with_builder_ca:
                parts += self._folder_digest(BUILDER_CA_DIR)
        for part in parts:
            recipe.update(part.encode() + b"\0")
        return recipe.hexdigest()[:12]

    @staticmethod
    def _folder_digest(folder: Path) -> list[str]:
        if not folder.is_dir():
            return []
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return [f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]

    def _tarball(self, base: Base, tag: str) -> Path:
        target = self._settings.cache / "rootfs" / f"{base.suite}-{tag.rpartition(':')[2]}.tar.gz"
        if target.exists():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        for interrupted in target.parent.glob(f"{base.suite}-*"):
            if interrupted.is_dir():
                remove_tree(interrupted)
        debs = self._settings.cache / "debs" / base.suite
        debs.mkdir(parents=True, exist_ok=True)
        rootfs = Path(tempfile.mkdtemp(prefix=f"{base.suite}-", dir=target.parent))
        partial = target.with_suffix(".partial")
        try:
            with step(f"Bootstrapping Debian {base.suite} (2 to 4 minutes)"):
                # No mirror is named: debootstrap's default serves, as it does for whoever runs this elsewhere.
                argv = ["debootstrap", "--variant=minbase", f"--cache-dir={debs}", f"--include={base.packages}", base.suite, str(rootfs)]
                self._watched(argv, base.suite)
            with step(f"Packing Debian {base.suite}"):
                script = f"tar -C '{rootfs}' --exclude=./var/cache/apt/archives/*.deb -c . | gzip -1 > '{partial}'"
                run_root(["sh", "-c", script])
                run_root(["mv", str(partial), str(target)])
        finally:
            remove_tree(rootfs)
        return target

    @staticmethod
    def _watched(argv: list[str], label: str) -> None:
        """Run debootstrap, say its stage once in a while, keep its last lines for the error message."""
        process = subprocess.Popen(as_root(argv, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        last: list[str] = []
        for number, line in enumerate(process.stdout):
            last = [*last[-20:], line.rstrip()]
            if number % 60 == 59:
                say(f"  {label}: {line.strip()}")
        if process.wait() != 0:
            raise FleetError(f"debootstrap of {label} failed (exit code {process.returncode}). Its last lines:\n" + "\n".join(last))

    def _import(self, tarball: Path, tag: str) -> None:
        with step(f"Importing {tarball.name}"):
            self._engine.docker("import", str(tarball), tag)

    def _derive(self, parent: str, variant: Variant, tag: str) -> None:
        # The machine's own network: the fleet's may not be there yet, and nothing listens in this container.
        container = self._engine.docker("create", "--network=host", parent, "/bin/sh", "-ec", variant.script).stdout.strip()
        try:
            overlay = folder_archive(FILES / variant.folder)
            self._engine.docker("cp", "-", f"{container}:/", stdin=overlay)
            if variant.with_builder_ca and BUILDER_CA_DIR.is_dir():
                self._engine.docker("cp", "-", f"{container}:{BUILDER_CA_DIR}", stdin=folder_archive(BUILDER_CA_DIR))
            done = self._engine.docker("start", "--attach", container, check=False)
            if done.returncode != 0:
                raise FleetError(f"Building {tag} failed:\n" + "\n".join((done.stdout + done.stderr).splitlines()[-20:]))
            self._engine.docker("commit", container, tag)
        finally:
            self._engine.docker("rm", "--force", "--volumes", container, check=False)


def folder_archive(folder: Path) -> bytes:
    """A tar of a folder's files, owned by root; a file is executable when it is so in the folder."""

    def owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted(folder.rglob("*")):
            if not path.is_dir():
                archive.add(path, arcname=str(path.relative_to(folder)), recursive=False, filter=owned_by_root)
    return buffer.getvalue()
