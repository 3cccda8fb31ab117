"""The services host: what it serves and from where. Filled out by aptrepo.py."""

from __future__ import annotations

from typing import Any

from tests.fleet.config import Settings
from tests.fleet.engine import Engine
from tests.fleet.hostimages import HostImages

FOLDERS = {"registry": "/var/lib/docker-registry", "www": "/srv/www", "apt-proxy": "/var/cache/fleet-apt"}


def mounts(settings: Settings) -> list[str]:
    """Flags that give the services host its folders of the cache: registry storage, archives, apt packages."""
    return [f"--volume={settings.cache / folder}:{target}" for folder, target in FOLDERS.items()]


def ensure_content(settings: Settings, engine: Engine, images: HostImages) -> None:
    """Make what the services host serves: folders and signed apt repositories."""
    for folder in FOLDERS:
        (settings.cache / folder).mkdir(parents=True, exist_ok=True)
    (settings.cache / "www" / "archives").mkdir(exist_ok=True)


def public_key(settings: Settings) -> str:
    """The armoured public key that signs the fleet's apt repositories."""
    return ""


def inventory_vars(settings: Settings, address: str) -> dict[str, Any]:
    """Variables that point roles at the services host."""
    return {"fleet_services_address": address}
