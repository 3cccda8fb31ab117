"""Builds .deb files and signed apt repositories: flat ones (suite /) and ones with dists/ and a component."""

from __future__ import annotations

import email.utils
import gzip
import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.fleet.packages import Contents, Package
from tests.fleet.shell import run

KEY_OWNER = "llmops fleet stand-in repository <llmops@example.invalid>"
_EPOCH = "1767225600"


class SigningKey:
    """The key that signs the fleet's repositories: made once, kept in folder, used in a throw-away keyring."""

    def __init__(self, folder: Path) -> None:
        self._secret = folder / "secret.asc"
        self.public = folder / "public.asc"
        self._fingerprint = folder / "fingerprint"
        if not self._fingerprint.exists():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
            self._generate()

    @property
    def fingerprint(self) -> str:
        """40 hexadecimal digits."""
        return self._fingerprint.read_text().strip()

    def _generate(self) -> None:
        with _Keyring() as gpg:
            gpg("--quick-generate-key", KEY_OWNER, "rsa3072", "sign", "never")
            colons = gpg("--with-colons", "--list-keys").splitlines()
            self._secret.write_text(gpg("--armor", "--export-secret-keys"))
            self._secret.chmod(0o600)
            self.public.write_text(gpg("--armor", "--export"))
        self._fingerprint.write_text(next(line.split(":")[9] for line in colons if line.startswith("fpr")) + "\n")

    def sign(self, release: Path) -> None:
        """Write InRelease and Release.gpg beside a Release file."""
        with _Keyring() as gpg:
            gpg("--import", str(self._secret))
            gpg("--output", str(release.with_name("InRelease")), "--clearsign", str(release))
            gpg("--armor", "--output", str(release.with_name("Release.gpg")), "--detach-sign", str(release))


class _Keyring:
    """A GnuPG home in a short temporary path (its agent's socket has a length limit), gone afterwards."""

    def __enter__(self) -> _Keyring:
        self._home = tempfile.mkdtemp(prefix="gpg")
        return self

    def __call__(self, *arguments: str) -> str:
        argv = ["gpg", "--homedir", self._home, "--batch", "--yes", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", "", *arguments]
        return run(argv).stdout

    def __exit__(self, *_: object) -> None:
        run(["gpgconf", "--homedir", self._home, "--kill", "all"], check=False)
        shutil.rmtree(self._home, ignore_errors=True)


def build_package(package: Package, folder: Path) -> Path:
    """Build one .deb in folder with dpkg-deb; the same package gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    # As in Debian's pool, the epoch is no part of the file's name: a colon would have to be escaped in its URL.
    name = f"{package.name}_{package.version.rpartition(':')[2]}_{package.architecture}.deb"
    with tempfile.TemporaryDirectory(prefix="deb") as work:
        root = Path(work)
        root.chmod(0o755)
        size = 0
        for path, (content, mode) in package.files.items():
            target = root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            target.chmod(mode)
            size += len(content)
        for path, link in package.links.items():
            (root / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            (root / path.lstrip("/")).symlink_to(link)
        for path in package.folders:
            (root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        control = root / "DEBIAN"
        control.mkdir()
        (control / "control").write_text(package.control(size // 1024 + 1))
        if package.conffiles:
            (control / "conffiles").write_text("".join(f"{path}\n" for path in package.conffiles))
        for script, content in package.scripts.items():
            (control / script).write_bytes(content)
            (control / script).chmod(0o755)
        # Every file gets one age, so that the same package gives the same bytes.
        run(["find", str(root), "-exec", "touch", "--no-dereference", f"--date=@{_EPOCH}", "{}", "+"])
        run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(root), str(folder / name)], environment={"SOURCE_DATE_EPOCH": _EPOCH})
    return folder / name


def read_contents(deb: Path) -> Contents:
    """What a .deb carries, manual pages and documentation left out."""
    files: dict[str, tuple[bytes, int]] = {}
    links: dict[str, str] = {}
    folders: list[str] = []
    with _tar_of(deb, "--fsys-tarfile") as archive:
        for member in archive:
            path = member.name.removeprefix(".")
            if path.startswith(("/usr/share/doc/", "/usr/share/man/")):
                continue
            if member.isfile():
                files[path] = (_content(archive, member), member.mode)
            elif member.issym():
                links[path] = member.linkname
            elif member.isdir():
                folders.append(path)
    with _tar_of(deb, "--ctrl-tarfile") as archive:
        control = {member.name.removeprefix("./"): _content(archive, member) for member in archive if member.isfile()}
    used = [*files, *links]
    empty = tuple(path for path in folders if path.count("/") > 1 and not any(other.startswith(f"{path}/") for other in used))
    return Contents(
        version=run(["dpkg-deb", "--field", str(deb), "Version"]).stdout.strip(),
        files=files,
        links=links,
        folders=tuple(path for path in empty if not path.startswith("/usr/share/")),
        scripts={name: control[name] for name in ("preinst", "postinst", "prerm", "postrm") if name in control},
        conffiles=tuple(control.get("conffiles", b"").decode().split()),
    )


def _tar_of(deb: Path, what: str) -> tarfile.TarFile:
    done = subprocess.run(["dpkg-deb", what, str(deb)], capture_output=True, check=True)
    return tarfile.open(fileobj=io.BytesIO(done.stdout))


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    return stream.read() if stream else b""


def packages_index(debs: Sequence[tuple[Path, str]]) -> str:
    """The text of a Packages file for (deb, path below the repository's root)."""
    return "\n".join(stanza(run(["dpkg-deb", "--field", str(deb)]).stdout, deb.read_bytes(), place) for deb, place in debs)


def stanza(control: str, content: bytes, place: str) -> str:
    """One package's paragraph: its control fields, then where it lies, its size and digests."""
    digests = [("MD5sum", hashlib.md5(content)), ("SHA256", hashlib.sha256(content))]
    lines = [control.rstrip("\n"), f"Filename: {place}", f"Size: {len(content)}", *(f"{name}: {digest.hexdigest()}" for name, digest in digests)]
    return "\n".join(lines) + "\n"


def release_text(files: Sequence[tuple[str, bytes]], origin: str, suite: str | None = None, components: str | None = None) -> str:
    """The text of a Release file over (path, content) of the index files."""
    fields = {
        "Origin": origin,
        "Label": origin,
        **({"Suite": suite, "Codename": suite} if suite else {}),
        "Date": email.utils.formatdate(usegmt=True).replace("GMT", "UTC"),
        "Architectures": "amd64",
        **({"Components": components} if components else {}),
        "Description": "STAND-IN repository of the embedded fleet",
    }
    lines = [f"{key}: {value}" for key, value in fields.items()] + ["SHA256:"]
    lines += [f" {hashlib.sha256(content).hexdigest()} {len(content):>8} {path}" for path, content in files]
    return "\n".join(lines) + "\n"


def write_flat(folder: Path, packages: Sequence[Package], key: SigningKey, origin: str) -> None:
    """A flat repository: `URIs: <folder>`, `Suites: /`."""
    debs = [build_package(package, folder) for package in packages]
    index = packages_index([(deb, f"./{deb.name}") for deb in debs])
    _write_release(folder, _index_files(folder, "", index), key, origin)


def write_suite(root: Path, suite: str, debs: Sequence[Path], key: SigningKey, origin: str) -> None:
    """A suite of a repository with dists/: `URIs: <root>`, `Suites: <suite>`, `Components: stable`; debs are copied in."""
    pool = f"dists/{suite}/pool/stable/amd64"
    (root / pool).mkdir(parents=True, exist_ok=True)
    placed = []
    for deb in debs:
        place = f"{pool}/{deb.name}"
        # A link, not a copy: the suites have the same packages.
        (root / place).hardlink_to(deb)
        placed.append((deb, place))
    folder = root / "dists" / suite
    _write_release(folder, _index_files(folder, "stable/binary-amd64/", packages_index(placed)), key, origin, suite, "stable")


def _index_files(folder: Path, prefix: str, index: str) -> list[tuple[str, bytes]]:
    files = [(f"{prefix}Packages", index.encode()), (f"{prefix}Packages.gz", gzip.compress(index.encode(), mtime=0))]
    for path, content in files:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return files


def _write_release(
    folder: Path, files: Sequence[tuple[str, bytes]], key: SigningKey, origin: str, suite: str | None = None, components: str | None = None
) -> None:
    release = folder / "Release"
    release.write_text(release_text(files, origin, suite, components))
    key.sign(release)
