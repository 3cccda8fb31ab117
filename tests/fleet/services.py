"""The services host: registry storage, archives and signed apt repositories, made in the cache and mounted into it."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from tests.fleet import aptrepo, packages
from tests.fleet.config import Settings
from tests.fleet.engine import Engine
from tests.fleet.hostimages import HostImages
from tests.fleet.shell import FleetError, step

# folder of the cache -> where the services host has it
FOLDERS = {"registry": "/var/lib/docker-registry", "www": "/srv/www", "apt-proxy": "/var/cache/fleet-apt"}
_HERE = Path(__file__).resolve().parent
_CTK = _HERE / "standins" / "nvidia" / "nvidia_ctk.py"


def mounts(settings: Settings) -> list[str]:
    """Flags that give the services host its folders of the cache: registry storage, archives, apt packages."""
    return [f"--volume={settings.cache / folder}:{target}" for folder, target in FOLDERS.items()]


def ensure_content(settings: Settings, engine: Engine, images: HostImages) -> None:
    """Make what the services host serves, unless it is there as this checkout would make it."""
    for folder in FOLDERS:
        (settings.cache / folder).mkdir(parents=True, exist_ok=True)
    (settings.cache / "www" / "archives").mkdir(exist_ok=True)
    apt = settings.cache / "www" / "apt"
    key = _key(settings)
    wanted = _digest(key)
    stamp = apt / ".content"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    with step("Building the stand-in packages and their signed repositories"):
        sources = {name: aptrepo.read_contents(deb) for name, deb in _debian_packages(settings, engine, images).items()}
        shutil.rmtree(apt, ignore_errors=True)
        aptrepo.write_flat(apt / "nvidia/stable/deb/amd64", packages.nvidia_packages(_CTK.read_bytes()), key, "llmops NVIDIA stand-in")
        debs = [aptrepo.build_package(package, apt / "docker/pool") for package in packages.docker_packages(sources)]
        for suite, distribution in packages.DOCKER_SUITES.items():
            root = apt / "docker/linux" / distribution
            aptrepo.write_suite(root, suite, debs, key, "llmops Docker stand-in")
            shutil.copyfile(key.public, root / "gpg")
        aptrepo.write_flat(apt / "ubuntu-standin", packages.ubuntu_packages(), key, "llmops Ubuntu stand-in")
        shutil.copyfile(key.public, apt / "nvidia/gpgkey")
        stamp.write_text(wanted)


def public_key(settings: Settings) -> str:
    """The armoured public key that signs the fleet's apt repositories."""
    return _key(settings).public.read_text()


def inventory_vars(settings: Settings, address: str) -> dict[str, Any]:
    """Variables for every host: where the services host is, and the public key its repositories are signed with."""
    key_file = settings.state / "apt-key.asc"
    key_file.write_text(public_key(settings))
    return {
        "fleet_services_address": address,
        "fleet_services_url": f"http://{address}",
        "fleet_registry_url": f"http://{address}:5000",
        "fleet_apt_key_file": str(key_file),
        "fleet_apt_key_fingerprint": _key(settings).fingerprint,
    }


def _key(settings: Settings) -> aptrepo.SigningKey:
    return aptrepo.SigningKey(settings.cache / "apt-key")


def _digest(key: aptrepo.SigningKey) -> str:
    """What the repositories are made from: this code, the nvidia-ctk stand-in and the key."""
    sources = [_CTK, _HERE / "packages.py", _HERE / "aptrepo.py", Path(__file__)]
    recipe = hashlib.sha256(key.fingerprint.encode())
    for source in sources:
        recipe.update(source.read_bytes())
    return recipe.hexdigest()


def _debian_packages(settings: Settings, engine: Engine, images: HostImages) -> dict[str, Path]:
    """Debian 13's own packages that Docker's stand-ins are made of, fetched once by apt in a container of debian13."""
    folder = settings.cache / "debian-docker"
    names = packages.DEBIAN_SOURCES
    if not all(list(folder.glob(f"{name}_*.deb")) for name in names):
        folder.mkdir(exist_ok=True)
        script = f"cd /tmp && apt-get -q update >&2 && apt-get -q download {' '.join(names)} >&2 && tar -c *.deb"
        with tarfile.open(fileobj=io.BytesIO(_output(engine, images.ensure("debian13"), script))) as archive:
            archive.extractall(folder, filter="data")
    return {name: sorted(folder.glob(f"{name}_*.deb"))[-1] for name in names}


def _output(engine: Engine, image: str, script: str) -> bytes:
    """Standard output of a shell script run in a throw-away container, as bytes."""
    container = engine.docker("create", "--network=host", image, "/bin/sh", "-ec", f"({script}) > /out").stdout.strip()
    try:
        done = engine.docker("start", "--attach", container, check=False)
        if done.returncode != 0:
            raise FleetError(f"`{script}` failed:\n{(done.stdout + done.stderr)[-2000:]}")
        return _copy_out(engine, container, "/out")
    finally:
        engine.docker("rm", "--force", "--volumes", container, check=False)


def _copy_out(engine: Engine, container: str, path: str) -> bytes:
    done = subprocess.run(engine.command("cp", f"{container}:{path}", "-"), capture_output=True, check=False)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        member = archive.extractfile(Path(path).name)
        if member is None:
            raise FleetError(f"{path} could not be copied out of the container.")
        return member.read()
