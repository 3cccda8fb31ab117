"""The fleet: hosts up, reached by SSH, rebooted, taken away."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import yaml

from tests.fleet import inventory, machine, seed, services
from tests.fleet.config import DEFAULT_LAYOUT, Settings
from tests.fleet.engine import Engine
from tests.fleet.hostimages import HostImages
from tests.fleet.images import model_specs
from tests.fleet.layout import Host, Layout, LayoutError, parse_layout
from tests.fleet.shell import FleetError, locked, remove_tree, run, say, step
from tests.fleet.standins.nvidia import driver_packages
from tests.fleet.standins.nvidia import hostfiles as nvidia_hostfiles

BOOT_TIMEOUT = 120.0
MODELS = "/srv/models"  # where GPU hosts have the tiny models
SPEC_LABEL = "llmops.fleet.spec"
# What a host needs that --privileged would give, without what many machines do not have to give (SYS_RESOURCE).
HOST_FLAGS = (
    "--cap-add=ALL",
    "--cap-drop=SYS_RESOURCE",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--security-opt=systempaths=unconfined",
    "--cgroupns=private",
    "--stop-signal=SIGRTMIN+3",
    "--tmpfs=/run",
    "--tmpfs=/run/lock",
    "--tmpfs=/tmp:exec,mode=1777",
    "--env=container=docker",
)


class Fleet:
    """One fleet of hosts; every method may be called again and does only what is left to do."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine = Engine(settings)
        self.host_images = HostImages(settings, self.engine)

    @classmethod
    def from_environment(cls) -> Fleet:
        """A fleet as FLEET_NAME, FLEET_SUBNET and LLMOPS_FLEET_CACHE say."""
        return cls(Settings.from_environment())

    @property
    def inventory(self) -> Path:
        """The inventory that `up` wrote."""
        return self.settings.inventory

    @property
    def ssh_config(self) -> Path:
        return self.settings.ssh_config

    def prepare(self) -> None:
        """Make the machine ready and build the host images."""
        with self._alone():
            machine.prepare(self.settings)
            machine.require()
            self.engine.ensure()
            for name in ("services", "debian13", "ubuntu2404", "debian12"):
                self.host_images.ensure(name)
            services.ensure_content(self.settings, self.engine, self.host_images)
            driver_packages.ensure_repository(self.settings.cache)

    def up(self, layout_file: str | os.PathLike[str] = DEFAULT_LAYOUT) -> Layout:
        """Start the hosts of a layout that do not run as it says; others of this fleet that it does not name are removed.

        Returns the layout with every host's address. Raises FleetError or LayoutError.
        """
        layout = self.read_layout(Path(layout_file))
        with self._alone():
            self._start(layout)
        return layout

    def _start(self, layout: Layout) -> None:
        machine.prepare(self.settings)
        machine.require()
        self.engine.ensure()
        tags = {image: self.host_images.ensure(image) for image in {self._image(host) for host in layout.hosts.values()}}
        if layout.services:
            services.ensure_content(self.settings, self.engine, self.host_images)
            driver_packages.ensure_repository(self.settings.cache)
        self._ensure_key()
        self._ensure_network()
        self._remove_strangers(layout)
        hosts = list(layout.hosts.values())
        first = [host for host in hosts if host.role == "services"]
        with step(f"Starting {len(hosts)} hosts"):
            for batch in (first, [host for host in hosts if host not in first]):
                with ThreadPoolExecutor(max_workers=8) as pool:
                    list(pool.map(lambda host: self._ensure_host(host, tags[self._image(host)], layout), batch))
        self._write_state(layout)

    def _alone(self) -> AbstractContextManager[None]:
        """The cache is shared by all checkouts, so one run at a time builds, starts or removes."""
        return locked(self.settings.cache / "lock")

    def read_layout(self, layout_file: Path) -> Layout:
        """Read a layout file; FLEET_GPU_HOSTS overrides how many GPU hosts there are."""
        wanted = os.environ.get("FLEET_GPU_HOSTS")
        try:
            data = yaml.safe_load(layout_file.read_text())
            return parse_layout(data, self.settings.subnet, int(wanted) if wanted else None)
        except OSError as error:
            raise FleetError(f"The layout {layout_file} cannot be read: {error.strerror}.") from error
        except (LayoutError, yaml.YAMLError, ValueError) as error:
            raise FleetError(f"The layout {layout_file} is not usable: {error}") from error

    def address(self, host: str) -> str:
        """IPv4 address of a host of the running fleet."""
        hosts = self._state()["hosts"]
        if host not in hosts:
            raise FleetError(f"No host {host} in this fleet; it has {', '.join(hosts)}.")
        return str(hosts[host])

    @property
    def archives(self) -> Path:
        """Folder whose files the services host serves below /archives/."""
        return self.settings.cache / "www" / "archives"

    def images(self) -> None:
        """Make what is missing of container images (into the registry), tiny models (into the hosts) and Dify's archives."""
        from tests.fleet import images
        from tests.fleet.standins.dify import build as dify

        images.ensure(f"http://{self.services_address()}:5000")
        images.ensure_models()
        for make in (dify.build_releases, dify.build_repository, dify.build_plugin):
            make(self.archives)

    def services_address(self) -> str:
        """IPv4 address of the running fleet's services host."""
        name = self._state()["services"]
        if not name:
            raise FleetError("This fleet has no services host; its layout needs one with `role: services`.")
        return self.address(str(name))

    def hosts(self) -> list[str]:
        """Names of the running fleet's hosts, the services host first."""
        return list(self._state()["hosts"])

    def ssh(self, host: str, command: str, *, check: bool = False, timeout: float | None = 120) -> subprocess.CompletedProcess[str]:
        """Run a shell command on a host as ops; the result has returncode, stdout and stderr."""
        return run([*self.ssh_command(host), command], check=check, timeout=timeout)

    def ssh_command(self, host: str) -> list[str]:
        self.address(host)
        return ["ssh", "-F", str(self.settings.ssh_config), host]

    def reboot(self, host: str) -> float:
        """Restart a host as a reboot does, wait until it is up again; returns the seconds it took."""
        self.address(host)
        begun = time.monotonic()
        with step(f"Rebooting {host}"):
            self.engine.docker("restart", "--time=90", self.settings.container(host))
            self._wait_for_boot(host)
        return time.monotonic() - begun

    def status(self) -> dict[str, str]:
        """Host -> what the engine says of it, e.g. "Up 3 minutes"; empty without an engine."""
        if not self.engine.answers():
            return {}
        prefix = f"{self.settings.name}-"
        # By network, not by name alone: another fleet's name may begin with this one's.
        found = self.engine.containers("--filter", f"network={self.settings.name}")
        return {name.removeprefix(prefix): status for name, status in found.items() if name.startswith(prefix)}

    def down(self) -> None:
        """Remove the hosts, their volumes, the network and the state folder."""
        with self._alone():
            self._remove_all()

    def _remove_all(self) -> None:
        if self.engine.answers():
            names = list(self.status())
            with step(f"Removing {len(names)} hosts"):
                with ThreadPoolExecutor(max_workers=8) as pool:
                    list(pool.map(self._remove_host, names))
                self.engine.docker("network", "rm", self.settings.name, check=False)
        remove_tree(self.settings.state)

    def clean(self, caches: bool = False) -> None:
        """down, then stop the engine and put the machine's settings back.

        With caches the cache folder goes too, and with it every fleet that lives in its engine.
        """
        with self._alone():
            self._remove_all()
            others = list(self.engine.containers()) if self.engine.answers() else []
            if others and caches:
                with step(f"Removing the hosts of other fleets: {', '.join(others)}"):
                    self.engine.docker("rm", "--force", "--volumes", *others)
            elif others:
                say(f"Other fleets use the engine, so it keeps running: {', '.join(others)}")
                return
            self.engine.stop()
            machine.restore(self.settings)
            if caches:
                say(f"Removing {self.settings.cache}")
                remove_tree(self.settings.cache)
        say("Clean. The apt packages that prepare installed stay." + ("" if caches else f" Caches stay in {self.settings.cache}."))

    # ------------------------------------------------------------------ hosts

    @staticmethod
    def _image(host: Host) -> str:
        return "services" if host.role == "services" else host.image

    def _ensure_host(self, host: Host, image: str, layout: Layout) -> None:
        container = self.settings.container(host.name)
        public_key = Path(f"{self.settings.ssh_key}.pub").read_text()
        address = layout.services.address if layout.services else None
        files = seed.seed_files(host, public_key, address)
        if address and host.image == "ubuntu2404":
            files["/etc/llmops-standin/apt-key.asc"] = seed.File(services.public_key(self.settings).encode())
        links = nvidia_hostfiles.links(host.gpus) if host.gpus else {}
        archive = seed.seed_archive(files, links)
        flags = [*HOST_FLAGS, *self._place(host), *(services.mounts(self.settings) if host.role == "services" else [])]
        spec = hashlib.sha256(json.dumps([image, flags, hashlib.sha256(archive).hexdigest()]).encode()).hexdigest()[:16]
        found = self.engine.docker("inspect", "--format", f'{{{{index .Config.Labels "{SPEC_LABEL}"}}}} {{{{.State.Status}}}}', container, check=False)
        same, state = (found.stdout.split() + ["", ""])[:2] if found.returncode == 0 else ("", "")
        begun = time.monotonic()
        if same == spec:
            if state != "running":
                self.engine.docker("start", container)
        else:
            self._remove_host(host.name)
            self.engine.docker("create", f"--label={SPEC_LABEL}={spec}", *flags, image, "/usr/local/sbin/fleet-init")
            self.engine.docker("cp", "-", f"{container}:/", stdin=archive)
            self.engine.docker("start", container)
        self._wait_for_boot(host.name)
        kept = same == spec and state == "running"
        say(f"  {host.name} ({host.image}, {host.address}): {'kept' if kept else f'up in {time.monotonic() - begun:.1f} s'}")

    def _place(self, host: Host) -> list[str]:
        container = self.settings.container(host.name)
        # The nested engine cannot use overlay on overlay, so its folder is a volume.
        volumes = [f"--volume={self.settings.volume(host.name)}:/var/lib/docker"]
        if host.gpus:
            # Weights on disk, as a site without a model hub has them; `images` fills the folder.
            models = self.settings.cache / "models"
            models.mkdir(parents=True, exist_ok=True)
            volumes.append(f"--volume={models}:{MODELS}:ro")
        return [f"--name={container}", f"--hostname={host.name}", f"--network={self.settings.name}", f"--ip={host.address}", *volumes]

    def _wait_for_boot(self, host: str) -> None:
        """Wait until systemd calls the host running and sshd listens. A degraded host is an error that names the units."""
        container = self.settings.container(host)
        until = time.monotonic() + BOOT_TIMEOUT
        state = ""
        while time.monotonic() < until:
            done = self.engine.docker("exec", container, "systemctl", "is-system-running", check=False)
            state = done.stdout.strip() or done.stderr.strip()
            if state == "running":
                return
            if state == "degraded":
                units = self.engine.docker("exec", container, "systemctl", "--failed", "--no-legend", "--plain").stdout.strip()
                raise FleetError(f"{host} booted, but these units failed:\n{units}")
            if "is not running" in state:
                logs = self.engine.docker("logs", "--tail=20", container, check=False)
                raise FleetError(
                    f"{host} ended while it booted. Its last lines:\n{logs.stdout}{logs.stderr}\n"
                    "systemd exiting with status 255 without a word means too few inotify instances: see sysctl in docs/fleet.md."
                )
            time.sleep(0.5)
        raise FleetError(f"{host} did not boot within {BOOT_TIMEOUT:g} s; systemd says: {state}")

    def _remove_host(self, host: str) -> None:
        self.engine.docker("rm", "--force", "--volumes", self.settings.container(host), check=False)
        self.engine.docker("volume", "rm", "--force", self.settings.volume(host), check=False)

    def _remove_strangers(self, layout: Layout) -> None:
        for name in self.status():
            if name not in layout.hosts:
                say(f"Removing {name}, which the layout does not name")
                self._remove_host(name)

    # ------------------------------------------------------------------ network, key, state

    def _ensure_network(self) -> None:
        found = self.engine.docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", self.settings.name, check=False)
        if found.returncode == 0:
            if found.stdout.strip() != str(self.settings.subnet):
                raise FleetError(
                    f"The network {self.settings.name} has {found.stdout.strip()}, wanted is {self.settings.subnet}. "
                    "Run `python -m tests.fleet down` with the FLEET_SUBNET it was made with."
                )
            return
        taken = machine.interface_in(self.settings.subnet)
        if taken:
            raise FleetError(
                f"The interface {taken} of this machine already has an address in {self.settings.subnet}. "
                "Set FLEET_SUBNET to another network, e.g. 10.213.97.0/24."
            )
        self.engine.docker(
            "network", "create", f"--subnet={self.settings.subnet}", f"--opt=com.docker.network.bridge.name={self.settings.bridge}", self.settings.name
        )

    def _ensure_key(self) -> None:
        self.settings.state.mkdir(parents=True, exist_ok=True)
        self.settings.state.chmod(0o700)
        if not self.settings.ssh_key.exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "llmops-fleet", "-f", str(self.settings.ssh_key)])

    def _write_state(self, layout: Layout) -> None:
        fleet_vars: dict[str, Any] = {}
        if layout.services:
            fleet_vars = services.inventory_vars(self.settings, layout.services.address)
        # The tiny models are nobody's built-in models: layouts register them with this.
        fleet_vars["fleet_model_registrations"] = inventory.as_is(model_specs.registrations(MODELS))
        data = inventory.inventory(layout, self.settings, fleet_vars)
        text = "# Written by `python -m tests.fleet up`; the next run overwrites it.\n" + inventory.to_yaml(data)
        self.settings.inventory.write_text(text)
        self.settings.ssh_config.write_text(inventory.ssh_config(layout, self.settings))
        services_host = layout.services.name if layout.services else ""
        state = {"name": self.settings.name, "services": services_host, "hosts": {host.name: host.address for host in layout.hosts.values()}}
        (self.settings.state / "state.json").write_text(json.dumps(state, indent=2) + "\n")
        say(f"Inventory: {self.settings.inventory}; shell on a host: ssh -F {shlex.quote(str(self.settings.ssh_config))} NAME")

    def _state(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.settings.state / "state.json").read_text()))
        except FileNotFoundError as error:
            raise FleetError("No fleet is up from this checkout. Run `python -m tests.fleet up`.") from error
