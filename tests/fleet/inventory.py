"""The generated inventory and ssh_config. Pure: a layout in, data and text out."""

from __future__ import annotations

from typing import Any

import yaml

from tests.fleet.config import Settings
from tests.fleet.layout import Layout
from tests.fleet.standins.nvidia.hostfiles import STANDIN_ROOT

USER = "ops"
# Hosts get new keys whenever they are made anew, so their keys say nothing here.
SSH_OPTIONS = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o IdentitiesOnly=yes"


class Unsafe(str):
    """Text that Ansible must take as it is: a model's chat template is Jinja too."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(Unsafe, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text)))


def as_is(value: Any) -> Any:
    """The same data with every text that looks like Jinja marked :class:`Unsafe`.

    Only those: Ansible reads an unsafe ``'0_1'`` (a model size) as the number 1, quotes or not.
    """
    if isinstance(value, dict):
        return {key: as_is(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [as_is(inner) for inner in value]
    return Unsafe(value) if isinstance(value, str) and "{" in value else value


def to_yaml(data: dict[str, Any]) -> str:
    """An inventory as Ansible reads it."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=120)


def inventory(layout: Layout, settings: Settings, fleet_vars: dict[str, Any]) -> dict[str, Any]:
    """An Ansible inventory: the fleet's own variables, overridden by what the layout says.

    The services host is not in it: it belongs to the surroundings, not to what the roles are run on.
    """
    groups: dict[str, dict[str, Any]] = {}
    members: dict[str, Any] = {}
    for host in layout.hosts.values():
        if host.role == "services":
            continue
        values: dict[str, Any] = {"ansible_host": host.address}
        if host.gpus:
            values["gpu_preflight_root"] = STANDIN_ROOT
        members[host.name] = {**values, **host.vars}
        for group in host.groups:
            groups.setdefault(group, {"hosts": {}})["hosts"][host.name] = {}
    for group, values in layout.group_vars.items():
        groups.setdefault(group, {"hosts": {}})["vars"] = values
    common: dict[str, Any] = {
        "ansible_user": USER,
        "ansible_ssh_private_key_file": str(settings.ssh_key),
        "ansible_ssh_common_args": SSH_OPTIONS,
        "ansible_python_interpreter": "/usr/bin/python3",
        **fleet_vars,
        **layout.vars,
    }
    return {"all": {"vars": common, "hosts": members, "children": groups}}


def ssh_config(layout: Layout, settings: Settings) -> str:
    """An ssh_config that knows every host, the services host too, by name: `ssh -F .fleet/ssh_config gpu1`."""
    lines = []
    for host in layout.hosts.values():
        lines += [f"Host {host.name}", f"    HostName {host.address}"]
    lines += [
        "Host *",
        f"    User {USER}",
        f'    IdentityFile "{settings.ssh_key}"',
        "    IdentitiesOnly yes",
        "    StrictHostKeyChecking no",
        "    UserKnownHostsFile /dev/null",
        "    LogLevel ERROR",
        "    ConnectTimeout 5",
    ]
    return "\n".join(lines) + "\n"
