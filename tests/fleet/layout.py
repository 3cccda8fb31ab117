"""The layout file: which hosts a fleet has. Pure: text in, dataclasses out."""

from __future__ import annotations

import copy
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

IMAGES = ("debian12", "debian13", "ubuntu2404")
ROLES = ("host", "services")
FIRST_ADDRESS = 10
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}\Z")
_HOST_KEYS = {"image", "role", "gpus", "groups", "vars", "address"}
_LAYOUT_KEYS = {"hosts", "vars", "group_vars", "host_vars"}


class LayoutError(ValueError):
    """The layout file is not usable; the text names the key, what was found and what is allowed."""


@dataclass(frozen=True)
class Host:
    """One host: gpus names a profile of the nvidia-smi stand-in ("" for a host without GPUs)."""

    name: str
    image: str
    address: str
    role: str = "host"
    gpus: str = ""
    groups: tuple[str, ...] = ()
    vars: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """Hosts by name, in the order of the file, and the inventory variables that go with them."""

    hosts: dict[str, Host]
    vars: dict[str, Any]
    group_vars: dict[str, dict[str, Any]]

    @property
    def services(self) -> Host | None:
        """The services host, when the layout has one."""
        return next((host for host in self.hosts.values() if host.role == "services"), None)


def parse_layout(data: Any, subnet: ipaddress.IPv4Network, gpu_hosts: int | None = None) -> Layout:
    """Check a layout (as read from YAML) and give every host its address.

    gpu_hosts, when given, is how many hosts the group gpu_hosts has: the ones of the file first, then copies of them
    in turn, named gpu<N>. Raises LayoutError.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("hosts"), Mapping) or not data["hosts"]:
        raise LayoutError("A layout needs a mapping `hosts` with at least one host.")
    _refuse_unknown("the layout", data, _LAYOUT_KEYS)
    host_vars = _mapping(data, "host_vars")
    strangers = sorted(set(host_vars) - set(data["hosts"]))
    if strangers:
        raise LayoutError(f"host_vars names {', '.join(strangers)}, which `hosts` does not have.")
    raw = {str(name): dict(_as_mapping(f"hosts.{name}", value)) for name, value in data["hosts"].items()}
    for name, values in host_vars.items():
        raw[name]["vars"] = {**(raw[name].get("vars") or {}), **_as_mapping(f"host_vars.{name}", values)}
    if gpu_hosts is not None:
        raw = _scale(raw, gpu_hosts)
    addresses = _addresses(raw, subnet)
    hosts = {name: _host(name, values, addresses[name]) for name, values in raw.items()}
    if sum(host.role == "services" for host in hosts.values()) > 1:
        raise LayoutError("A layout has at most one host with `role: services`.")
    group_vars = {str(group): dict(_as_mapping(f"group_vars.{group}", v)) for group, v in _mapping(data, "group_vars").items()}
    # The services host comes first: the others fetch from it as soon as they start.
    ordered = dict(sorted(hosts.items(), key=lambda item: item[1].role != "services"))
    return Layout(hosts=ordered, vars=dict(_mapping(data, "vars")), group_vars=group_vars)


def _host(name: str, values: Mapping[str, Any], address: str) -> Host:
    if not _NAME.match(name):
        raise LayoutError(f"hosts.{name}: a host name is lower-case letters, digits and hyphens.")
    _refuse_unknown(f"hosts.{name}", values, _HOST_KEYS)
    image = values.get("image")
    if image not in IMAGES:
        raise LayoutError(f"hosts.{name}.image is {image!r}; it can be {', '.join(IMAGES)}.")
    role = values.get("role", "host")
    if role not in ROLES:
        raise LayoutError(f"hosts.{name}.role is {role!r}; it can be {', '.join(ROLES)}.")
    if role == "services" and image != "debian13":
        raise LayoutError(f"hosts.{name}: the services host runs on debian13, not on {image}.")
    groups = values.get("groups") or []
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise LayoutError(f"hosts.{name}.groups is a list of group names.")
    return Host(name, image, address, role, str(values.get("gpus") or ""), tuple(groups), dict(values.get("vars") or {}))


def _scale(raw: dict[str, dict[str, Any]], count: int) -> dict[str, dict[str, Any]]:
    models = {name: values for name, values in raw.items() if "gpu_hosts" in (values.get("groups") or [])}
    if count < 1 or not models:
        raise LayoutError("The number of GPU hosts needs to be 1 or more, and the layout needs a host in gpu_hosts.")
    kept = dict(list(models.items())[:count])
    others = {name: values for name, values in raw.items() if name not in models}
    number = 1
    while len(kept) < count:
        name = f"gpu{number}"
        number += 1
        if name in kept or name in others:
            continue
        copied = copy.deepcopy(list(models.values())[len(kept) % len(models)])
        copied.pop("address", None)
        kept[name] = copied
    return {**others, **kept}


def _addresses(raw: Mapping[str, Mapping[str, Any]], subnet: ipaddress.IPv4Network) -> dict[str, str]:
    given = {name: str(values["address"]) for name, values in raw.items() if values.get("address")}
    for name, address in given.items():
        if ipaddress.IPv4Address(address) not in subnet:
            raise LayoutError(f"hosts.{name}.address {address} is not in {subnet}.")
    if len(set(given.values())) < len(given):
        raise LayoutError("Two hosts have the same address.")
    free = (str(address) for number, address in enumerate(subnet.hosts(), 1) if number >= FIRST_ADDRESS)
    taken = set(given.values())
    result = dict(given)
    for name in raw:
        if name in given:
            continue
        found = next((candidate for candidate in free if candidate not in taken), None)
        if found is None:
            raise LayoutError(f"{subnet} has no room for {len(raw)} hosts; set FLEET_SUBNET to a larger network.")
        result[name] = found
    return result


def _mapping(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    return dict(_as_mapping(key, data.get(key)))


def _as_mapping(where: str, value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise LayoutError(f"{where} is a mapping, not {type(value).__name__}.")
    return value


def _refuse_unknown(where: str, found: Mapping[str, Any], allowed: set[str]) -> None:
    unknown = sorted(set(map(str, found)) - allowed)
    if unknown:
        raise LayoutError(f"{where} has unknown keys {', '.join(unknown)}; it can have {', '.join(sorted(allowed))}.")
