"""What the machine under the fleet needs: programs, kernel settings, rights. Changes are announced before they happen."""

from __future__ import annotations

import ipaddress
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.fleet.config import Settings
from tests.fleet.shell import FleetError, can_be_root, run, run_root, say, step

# program -> apt package that has it
PROGRAMS = {
    "dockerd": "docker.io",
    "debootstrap": "debootstrap",
    "iptables": "iptables",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "gpg": "gnupg",
    "dpkg-deb": "dpkg",
}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SBIN = "/usr/sbin:/sbin:/usr/local/sbin"
# With the default of 128 instances systemd exits with status 255 in about half of 50 hosts, silently.
SYSCTL = {"fs.inotify.max_user_instances": 8192, "fs.inotify.max_user_watches": 1048576}
_DENY_START = "#!/bin/sh\nexit 101\n"
_POLICY = Path("/usr/sbin/policy-rc.d")


@dataclass(frozen=True)
class Needs:
    """What the machine lacks: apt packages, and kernel settings as name -> wanted value."""

    packages: tuple[str, ...]
    sysctl: dict[str, int]

    def __bool__(self) -> bool:
        return bool(self.packages or self.sysctl)


def missing() -> Needs:
    """Look at the machine; changes nothing."""
    packages = [package for program, package in PROGRAMS.items() if not _installed(program)]
    if not KEYRING.exists():
        packages.append("debian-archive-keyring")
    if not _installed("docker"):
        packages.append(_client_package())
    low = {name: wanted for name, wanted in SYSCTL.items() if _sysctl(name) < wanted}
    return Needs(tuple(sorted(set(packages))), low)


def prepare(settings: Settings) -> None:
    """Install and set what is missing. Raises FleetError naming it when root rights are not to be had."""
    needs = missing()
    if not needs:
        say("The machine has all that the fleet needs.")
        return
    say("The fleet changes this machine as follows:")
    if needs.packages:
        say(f"  apt packages to install (they stay): {' '.join(needs.packages)}")
    for name, value in needs.sysctl.items():
        say(f"  sysctl {name}: {_sysctl(name)} -> {value} (until `clean` or the next start)")
    say(f"  a Docker Engine of its own in {settings.engine_dir}, a bridge {settings.bridge} with {settings.subnet} (until `clean`)")
    if not can_be_root():
        steps = [f"apt-get install --no-install-recommends {' '.join(needs.packages)}"] if needs.packages else []
        steps += [f"sysctl {name}={value}" for name, value in needs.sysctl.items()]
        raise FleetError("This needs root, or sudo without a password: debootstrap, dockerd and the settings below do. Missing now:\n  " + "\n  ".join(steps))
    if needs.packages:
        with step(f"Installing {' '.join(needs.packages)}"):
            _install(needs.packages)
    _remember(settings, {name: _sysctl(name) for name in needs.sysctl})
    for name, value in needs.sysctl.items():
        done = run_root(["sysctl", "-q", f"{name}={value}"], check=False)
        if done.returncode != 0 or _sysctl(name) < value:
            say(f"  {name} could not be set ({done.stderr.strip()}). About 20 hosts still work; more may not boot.")


def require() -> None:
    """Raise FleetError unless the machine is prepared (programs only; settings are asked for, not required)."""
    needs = missing()
    if needs.packages:
        raise FleetError(f"Not installed: {', '.join(needs.packages)}. Run `python -m tests.fleet prepare` first.")
    if not can_be_root():
        raise FleetError("The fleet needs root, or sudo without a password, for debootstrap and dockerd.")


def restore(settings: Settings) -> None:
    """Put back the kernel settings that prepare changed and the firewall's policy that dockerd changed."""
    record = _record_file(settings)
    if not record.exists():
        return
    before = json.loads(record.read_text())
    for name, value in before.get("sysctl", {}).items():
        say(f"Putting sysctl {name} back to {value}")
        run_root(["sysctl", "-q", f"{name}={value}"], check=False)
    if not _other_engine_runs():
        for name in ("DOCKER-USER", "DOCKER-ISOLATION-STAGE-1"):
            run_root(["iptables", "-D", "FORWARD", "-j", name], check=False)
        run_root(["iptables", "-t", "nat", "-D", "PREROUTING", "-m", "addrtype", "--dst-type", "LOCAL", "-j", "DOCKER"], check=False)
        run_root(
            ["iptables", "-t", "nat", "-D", "OUTPUT", "!", "-d", "127.0.0.0/8", "-m", "addrtype", "--dst-type", "LOCAL", "-j", "DOCKER"],
            check=False,
        )
        for table, chains in {"filter": ["DOCKER-USER", "DOCKER-ISOLATION-STAGE-1", "DOCKER-ISOLATION-STAGE-2", "DOCKER"], "nat": ["DOCKER"]}.items():
            for chain in chains:
                run_root(["iptables", "-t", table, "-F", chain], check=False)
            for chain in chains:
                run_root(["iptables", "-t", table, "-X", chain], check=False)
        if before.get("forward_policy") == "ACCEPT":
            run_root(["iptables", "-P", "FORWARD", "ACCEPT"], check=False)
    record.unlink()


def remember_firewall(settings: Settings) -> None:
    """Note, before the engine's first start, what it is going to change: ip_forward and the FORWARD policy."""
    if "forward_policy" in _recorded(settings):
        return
    listing = run_root(["iptables", "-S", "FORWARD"], check=False).stdout
    policy = "DROP" if "-P FORWARD DROP" in listing else "ACCEPT"
    _remember(settings, {"net.ipv4.ip_forward": _sysctl("net.ipv4.ip_forward")}, forward_policy=policy)


def interface_in(subnet: ipaddress.IPv4Network) -> str | None:
    """Name of an interface that has an address in the subnet, None when there is none.

    Docker looks at its own networks only: a second engine's network with the same addresses would answer for ours.
    """
    for link in json.loads(run(["ip", "-json", "-4", "address"]).stdout):
        for address in link.get("addr_info", []):
            if ipaddress.IPv4Address(address["local"]) in subnet:
                return str(link["ifname"])
    return None


def _other_engine_runs() -> bool:
    return subprocess.run(["pgrep", "-x", "dockerd"], capture_output=True, check=False).returncode == 0


def _install(packages: tuple[str, ...]) -> None:
    # A freshly installed docker.io would start an engine of its own on docker0; the fleet starts its own instead.
    own_policy = not _POLICY.exists()
    if own_policy:
        run_root(["sh", "-c", f"printf '{_DENY_START}' > {_POLICY} && chmod 0755 {_POLICY}".replace("\n", "\\n")])
    try:
        options = ["-q", "-o", "DPkg::Lock::Timeout=300"]
        run_root(["apt-get", *options, "update"], environment={"DEBIAN_FRONTEND": "noninteractive"})
        argv = ["apt-get", *options, "install", "--yes", "--no-install-recommends", *packages]
        run_root(argv, environment={"DEBIAN_FRONTEND": "noninteractive"})
    finally:
        if own_policy:
            run_root(["rm", "-f", str(_POLICY)])


def _client_package() -> str:
    """Debian 13 has the client in a package of its own, the others have it in docker.io."""
    found = run(["apt-cache", "policy", "docker-cli"], check=False).stdout
    return "docker-cli" if "Candidate:" in found and "Candidate: (none)" not in found else "docker.io"


def _installed(program: str) -> bool:
    return shutil.which(program) is not None or shutil.which(program, path=SBIN) is not None


def _sysctl(name: str) -> int:
    return int(Path("/proc/sys", *name.split(".")).read_text())


def _record_file(settings: Settings) -> Path:
    return settings.cache / "machine-before.json"


def _recorded(settings: Settings) -> dict[str, object]:
    record = _record_file(settings)
    return dict(json.loads(record.read_text())) if record.exists() else {}


def _remember(settings: Settings, sysctl: dict[str, int], **more: object) -> None:
    known = _recorded(settings)
    earlier = known.get("sysctl")
    merged = {**sysctl, **(earlier if isinstance(earlier, dict) else {})}
    record = _record_file(settings)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps({**known, **more, "sysctl": merged}, indent=2) + "\n")
