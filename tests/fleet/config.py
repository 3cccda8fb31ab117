"""Where the fleet keeps its things, from the environment."""

from __future__ import annotations

import hashlib
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.fleet.shell import FleetError

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_LAYOUT = REPOSITORY / "tests" / "fleet" / "layouts" / "demo.yml"


@dataclass(frozen=True)
class Settings:
    """Names and folders of one fleet.

    cache is shared by every checkout of this user (engine, host images, archives); state belongs to this checkout.
    """

    name: str
    subnet: ipaddress.IPv4Network
    cache: Path
    state: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read FLEET_NAME, FLEET_SUBNET, LLMOPS_FLEET_CACHE, XDG_CACHE_HOME and FLEET_STATE."""
        values = os.environ if environ is None else environ
        home = Path(values.get("HOME") or Path.home())
        cache = values.get("LLMOPS_FLEET_CACHE") or str(Path(values.get("XDG_CACHE_HOME") or home / ".cache") / "llmops-fleet")
        try:
            subnet = ipaddress.IPv4Network(values.get("FLEET_SUBNET") or "10.213.77.0/24")
        except ValueError as error:
            raise FleetError(f"FLEET_SUBNET: {error}. Give an IPv4 network such as 10.213.77.0/24.") from error
        return cls(
            name=values.get("FLEET_NAME") or "fleet",
            subnet=subnet,
            cache=Path(cache).expanduser().absolute(),
            state=Path(values.get("FLEET_STATE") or REPOSITORY / ".fleet").absolute(),
        )

    @property
    def engine_dir(self) -> Path:
        return self.cache / "engine"

    @property
    def socket(self) -> Path:
        return self.engine_dir / "docker.sock"

    @property
    def bridge(self) -> str:
        """Name of the bridge interface: at most 15 characters, so a digest stands in for a long fleet name."""
        plain = f"br-{self.name}"
        return plain if len(plain) <= 15 else "br-" + hashlib.sha256(self.name.encode()).hexdigest()[:10]

    @property
    def inventory(self) -> Path:
        return self.state / "inventory.yml"

    @property
    def ssh_config(self) -> Path:
        return self.state / "ssh_config"

    @property
    def ssh_key(self) -> Path:
        return self.state / "id_ed25519"

    def container(self, host: str) -> str:
        """Name of the container that plays the host."""
        return f"{self.name}-{host}"

    def volume(self, host: str) -> str:
        """Name of the volume that is the host's /var/lib/docker."""
        return f"{self.name}-{host}-docker"
