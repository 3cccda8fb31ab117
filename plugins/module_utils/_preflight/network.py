# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Section H: the network, and who listens already."""

from __future__ import annotations

import errno
import http.client
import ipaddress
import json
import os
import re
import socket
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _mirror
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight import _http_probe
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._context import Context
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._core import FAIL, INFO, OK, SKIP, UNKNOWN, WARN, Detect, Finding
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight.disk import has_models

PROBE_TIMEOUT = 3.0
# Where Docker puts its networks unless it is told otherwise.
DOCKER_POOLS = ("172.17.0.0/16",)
OWN_INTERFACES = ("docker", "br-", "veth", "lo")
ETHERNET_MTU = 1500


def port_is_free(port: int) -> bool | None:
    """Whether the port can be bound on every address; ``None`` when this user may not bind it."""
    probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # As servers do: connections that linger in TIME_WAIT do not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("0.0.0.0", port))
    except OSError as error:
        return None if error.errno == errno.EACCES else False
    finally:
        probe.close()
    return True


def get_json(connection: http.client.HTTPConnection, path: str) -> t.Any:
    """The JSON that a local server answers, or ``None``."""
    try:
        connection.request("GET", path, headers={"Host": "localhost"})
        return json.loads(connection.getresponse().read(4 * 1024 * 1024))
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def listening_addresses(port: int, table: str = "/proc/net/tcp") -> list[str]:
    """The IPv4 addresses that somebody listens on at the port; the supervisor of a cluster listens on one of the host's only."""
    found = []
    try:
        with open(table, encoding="ascii") as handle:
            rows = [line.split() for line in handle][1:]
    except OSError:
        return []
    for row in rows:
        address, _colon, number = row[1].partition(":")
        if row[3] == "0A" and int(number, 16) == port:
            found.append(socket.inet_ntoa(bytes.fromhex(address)[::-1]))
    return found


def is_xinference(port: int) -> bool:
    """Whether Xinference answers there: its way of telling about authentication is its own."""
    for address in ["127.0.0.1", *listening_addresses(port)]:
        answer = get_json(http.client.HTTPConnection(address, port, timeout=PROBE_TIMEOUT), "/v1/cluster/auth")
        if isinstance(answer, dict) and "auth" in answer:
            return True
    return False


def published_by_xinference(port: int, containers: t.Any) -> bool | None:
    """Whether a container of Xinference publishes the port; ``None`` when Docker could not be asked."""
    if not isinstance(containers, list):
        return None
    return any(
        "xinference" in container.get("Image", "")
        and (
            # A cluster's containers have the host's network and publish nothing.
            (container.get("HostConfig") or {}).get("NetworkMode") == "host"
            or any(published.get("PublicPort") == port for published in container.get("Ports") or [])
        )
        for container in containers
    )


def ports_free(context: Context) -> Finding:
    if not context.options.ports:
        return Finding(SKIP, "No port was named.")
    strangers: list[str] = []
    unsure: list[str] = []
    unseen: list[str] = []
    for port in context.options.ports:
        free = port_is_free(port)
        if free is None:
            unseen.append(str(port))
        if free is not False or is_xinference(port):
            continue
        # A server that is still starting does not answer yet.
        docker = context.docker
        ours = published_by_xinference(port, None if docker.state in ("denied", "stopped") else list(docker.containers))
        if not ours:
            (unsure if ours is None else strangers).append(str(port))
    if strangers:
        return Finding(FAIL, f"Port {', '.join(strangers)} is taken by something that is not Xinference.")
    if unsure:
        return Finding(WARN, f"Port {', '.join(unsure)} is taken, and Docker cannot be asked by whom.")
    if unseen:
        return Finding(UNKNOWN, f"Port {', '.join(unseen)} may only be tried by root.")
    return Finding(OK, "the ports are free, or Xinference's already")


def xinference_runs(context: Context) -> bool:
    """Whether Xinference is up on one of its ports, or at least in a container."""
    if any("xinference" in str(container.get("Image", "")) for container in context.docker.containers):
        return True
    return any(port_is_free(port) is False and is_xinference(port) for port in context.options.ports)


def resolve(name: str) -> tuple[str, list[str]]:
    """An error's words, or the addresses of a name."""
    try:
        return "", sorted({str(entry[4][0]) for entry in socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)})
    except OSError as error:
        return str(error), []


def resolved(context: Context) -> dict[str, tuple[str, list[str]]]:
    """Every name in use with what it resolves to; getaddrinfo knows no timeout, so a slow resolver is left behind."""

    def look() -> dict[str, tuple[str, list[str]]]:
        names = _http_probe.host_names(context)
        found = _http_probe.in_time(resolve, names, 2 * _http_probe.TIMEOUT)
        return {name: found.get(name, ("no answer in time", [])) for name in names}

    return context.once("names", look)


def dns(context: Context) -> Finding:
    found = resolved(context)
    if not found:
        return Finding(SKIP, "No server is named by its name.")
    bad = [f"{name} ({problem})" for name, (problem, dummy) in found.items() if problem]
    poisoned = [name for name, (dummy, addresses) in found.items() if name != "localhost" and addresses and all(is_nowhere(address) for address in addresses)]
    if bad or poisoned:
        return Finding(
            FAIL, "; ".join([f"no address for {', '.join(bad)}"] * bool(bad) + [f"{', '.join(poisoned)} resolves to this host itself"] * bool(poisoned)) + "."
        )
    return Finding(OK, f"{len(found)} names resolve")


def is_nowhere(address: str) -> bool:
    """A block list's answer."""
    try:
        parsed = ipaddress.ip_address(address.split("%", 1)[0])
    except ValueError:
        return False
    return parsed.is_loopback or parsed.is_unspecified


def refusals(context: Context, urls: t.Sequence[str], fits: t.Callable[[_http_probe.Answer], str]) -> list[str]:
    """What is wrong with the answers to some URLs, one sentence each."""
    answers = _http_probe.all_answers(context)
    found = []
    for url in urls:
        answer = answers[url]
        problem = answer.problem or fits(answer)
        if problem:
            found.append(f"{without_user(url)}: {problem}")
    return found


def without_user(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)


def index_problem(answer: _http_probe.Answer) -> str:
    if answer.html:
        return "a web page instead of an index: a portal or a block page"
    if answer.status != 200:
        return f"status {answer.status}"
    return "" if b"-----BEGIN PGP SIGNED" in answer.body[:4096] else "an index without a signature"


def page_problem(answer: _http_probe.Answer) -> str:
    # A hub that wants a token, and an index that lists nothing, are there.
    return "" if answer.status < 500 and answer.status != 404 else f"status {answer.status}"


def _all_answer(context: Context, urls: t.Sequence[str], fits: t.Callable[[_http_probe.Answer], str], what: str, without: str) -> Finding:
    """``without`` is what is said when there is no URL to ask."""
    if not urls:
        return Finding(SKIP, without)
    bad = refusals(context, urls, fits)
    return Finding(FAIL, "; ".join(bad) + ".") if bad else Finding(OK, f"{len(urls)} {what} answer")


def apt_repos(context: Context) -> Finding:
    found = _all_answer(context, _http_probe.apt_urls(context), index_problem, "apt repositories", "No repository was named.")
    if found.status == FAIL and context.docker.state != "absent" and "nvidia-container-toolkit" in (context.packages or {}):
        return Finding(WARN, f"{found.message} Docker and the toolkit are there already; another version of them could not come.")
    return found


def model_hub(context: Context) -> Finding:
    found = _all_answer(context, context.options.model_hubs, page_problem, "model hubs", "No model hub is going to be used.")
    if found.status == FAIL and has_models(context.options.model_path):
        return Finding(WARN, f"{found.message} There are models on the disk already; another one could not come.")
    return found


def pypi(context: Context) -> Finding:
    return _all_answer(context, context.options.package_indexes, page_problem, "package indexes", "No package index is going to be used.")


def registry_mirrors(context: Context) -> Finding:
    urls = context.options.mirrors
    if not urls:
        return Finding(SKIP, "No registry mirror is going to be used.")
    images = [image for image in map(_mirror.parse_image, context.options.mirror_images) if image]
    verdicts = _mirror.probe_all(urls, images, _mirror.urllib_fetch(), _http_probe.TIMEOUT, 3 * _http_probe.TIMEOUT)
    bad = [f"{without_user(entry.url)}: {entry.reason}" for entry in verdicts if not entry.usable]
    if bad and len(bad) == len(urls):
        return Finding(FAIL, f"No mirror is usable. {'; '.join(bad)}.")
    if bad:
        return Finding(
            WARN,
            f"{len(bad)} of {len(urls)} mirrors are not usable. {'; '.join(bad)}.",
            "Take it out of docker_registry_mirrors; the role docker leaves it out.",
        )
    return Finding(OK, f"{len(urls)} mirrors serve the images")


def forward(context: Context) -> Finding:
    if re.search(r"^ENABLED=yes", context.text("etc/ufw/ufw.conf") or "", re.MULTILINE | re.IGNORECASE):
        return Finding(WARN, "ufw is on: ports that Docker publishes are open all the same.")
    if context.hidden("etc/ufw/ufw.conf"):
        return Finding(UNKNOWN, "/etc/ufw/ufw.conf cannot be read.", "Run with become: true.")
    return Finding(OK, "no ufw")


def firewalld(context: Context) -> Finding:
    if context.active("firewalld"):
        return Finding(WARN, "firewalld runs: each of its reloads takes Docker's rules away.")
    return Finding(OK, "no firewalld") if context.units else Finding(UNKNOWN, "systemd cannot be asked.")


def routes(context: Context) -> list[tuple[str, ipaddress.IPv4Network]]:
    """(interface, network) of the IPv4 routes, without the default one."""
    found = []
    for line in (context.text("proc/net/route") or "").splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or fields[1] == "00000000":
            continue
        address, mask = (ipaddress.IPv4Address(bytes.fromhex(fields[at])[::-1]) for at in (1, 7))
        found.append((fields[0], ipaddress.IPv4Network(f"{address}/{mask}", strict=False)))
    return found


def subnet_overlap(context: Context) -> Finding:
    document = context.daemon_json or ""
    if '"bip"' in document or '"default-address-pools"' in document:
        return Finding(OK, "daemon.json chooses Docker's networks")
    pools = [ipaddress.IPv4Network(pool) for pool in DOCKER_POOLS]
    clashes = [
        f"{network} ({name})" for name, network in routes(context) if not name.startswith(OWN_INTERFACES) and any(network.overlaps(pool) for pool in pools)
    ]
    if clashes:
        return Finding(WARN, f"Docker's {DOCKER_POOLS[0]} is also routed by this host: {', '.join(clashes)}.")
    return Finding(OK, "Docker's networks do not overlap with the host's routes")


def default_interface(context: Context) -> str:
    for line in (context.text("proc/net/route") or "").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] == "00000000" and fields[7] == "00000000":
            return fields[0]
    return ""


def mtu(context: Context) -> Finding:
    interface = default_interface(context)
    text = (context.text(f"sys/class/net/{interface}/mtu") or "").strip() if interface else ""
    if not text.isdecimal():
        return Finding(UNKNOWN, "The interface of the default route is not known.")
    if int(text) < ETHERNET_MTU and '"mtu"' not in (context.daemon_json or ""):
        return Finding(WARN, f"The MTU of {interface} is {text}, and Docker's networks use {ETHERNET_MTU}.")
    return Finding(OK, f"the MTU of {interface} is {text}")


def proxy_env(context: Context) -> Finding:
    names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    found = any(os.environ.get(name) for name in names) or re.search(
        r"^\s*(export\s+)?https?_proxy=", context.text("etc/environment") or "", re.MULTILINE | re.IGNORECASE
    )
    return Finding(INFO, "A proxy is set in the environment; Docker needs its own (see G19).") if found else Finding(OK, "no proxy in the environment")


def ipv6(context: Context) -> Finding:
    names = [name for name, (dummy, addresses) in resolved(context).items() if any(":" in address for address in addresses)]
    if not names:
        return Finding(SKIP, "No name in use has an IPv6 address.")
    has_route = any(line.startswith("0" * 32 + " 00 ") and " lo" not in line[-4:] for line in (context.text("proc/net/ipv6_route") or "").splitlines())
    if has_route:
        return Finding(OK, "IPv6 has a route")
    return Finding(INFO, f"{', '.join(names[:3])} has IPv6 addresses and this host no route to them.")


DETECT: t.Mapping[str, Detect] = {
    "H01": dns,
    "H02": apt_repos,
    "H03": registry_mirrors,
    "H04": model_hub,
    "H05": pypi,
    "H06": ports_free,
    "H07": forward,
    "H08": firewalld,
    "H09": subnet_overlap,
    "H10": mtu,
    "H11": proxy_env,
    "H13": ipv6,
}

__all__ = ["DETECT", "is_xinference", "port_is_free", "published_by_xinference", "xinference_runs"]
