"""The embedded fleet: hosts with systemd, SSH and their own Docker Engine, on one machine.

    from tests.fleet import Fleet

    fleet = Fleet.from_environment()
    fleet.up("tests/fleet/layouts/demo.yml")
    print(fleet.ssh("gpu1", "docker version").stdout)

docs/fleet.md says what of it is real and what is a stand-in.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Fleet", "FleetError"]


def __getattr__(name: str) -> Any:
    # Imported on demand, so that the pure parts load without PyYAML.
    if name == "Fleet":
        from tests.fleet.fleet import Fleet

        return Fleet
    if name == "FleetError":
        from tests.fleet.shell import FleetError

        return FleetError
    raise AttributeError(name)
