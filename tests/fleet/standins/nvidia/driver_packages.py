"""The driver's stand-in packages, as data: names and dependencies as in NVIDIA's repository, and no driver in them."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from tests.fleet import aptrepo
from tests.fleet.packages import Package
from tests.fleet.shell import step

VERSIONS = ("580.95.05-1", "580.173.02-1", "595.91.07-1")
_HERE = Path(__file__).resolve().parent
_SWITCH = "/usr/lib/llmops-standin/driver-switch"
_BOOT = f"""# STAND-IN: what is installed is loaded when the host starts.
[Unit]
Description=STAND-IN: load the installed NVIDIA module

[Service]
Type=oneshot
ExecStart={_SWITCH} boot

[Install]
WantedBy=multi-user.target
"""
_MANAGER = """# STAND-IN of the fabric manager: it runs, and manages nothing.
[Unit]
Description=STAND-IN of the NVIDIA fabric manager

[Service]
ExecStart=/bin/sleep infinity

[Install]
WantedBy=multi-user.target
"""


def driver_packages() -> list[Package]:
    """Every package in every version; the switch is what they call when they are installed."""
    switch = Package(
        "llmops-standin-driver",
        "1",
        "what a driver's packages do to a host of the fleet",
        ("python3",),
        files={
            _SWITCH: ((_HERE / "driver_switch.py").read_bytes(), 0o755),
            "/usr/lib/llmops-standin/libcuda.py": ((_HERE / "libcuda.py").read_bytes(), 0o644),
            "/usr/lib/systemd/system/llmops-standin-driver.service": (_BOOT.encode(), 0o644),
        },
        links={"/etc/systemd/system/multi-user.target.wants/llmops-standin-driver.service": "/usr/lib/systemd/system/llmops-standin-driver.service"},
        architecture="all",
    )
    return [switch, *[package for version in VERSIONS for package in _of(version)]]


def ensure_repository(cache: Path) -> None:
    """The signed flat repository <services host>/apt-nvidia-driver, unless it is there as this checkout would make it."""
    key = aptrepo.SigningKey(cache / "apt-key")
    recipe = hashlib.sha256(key.fingerprint.encode())
    for source in (Path(__file__), _HERE / "driver_switch.py", _HERE / "libcuda.py"):
        recipe.update(source.read_bytes())
    folder = cache / "www" / "apt-nvidia-driver"
    stamp = folder / ".content"
    if stamp.exists() and stamp.read_text() == recipe.hexdigest():
        return
    with step("Building the driver's stand-in packages"):
        shutil.rmtree(folder, ignore_errors=True)
        aptrepo.write_flat(folder, driver_packages(), key, "llmops NVIDIA driver stand-in")
        stamp.write_text(recipe.hexdigest())


def _of(version: str) -> list[Package]:
    upstream = version.partition("-")[0]
    branch = upstream.partition(".")[0]
    ends = f"-{branch}" if int(branch) <= 580 else ""
    needed = ("llmops-standin-driver",)
    library = Package(
        "nvidia-driver-cuda",
        version,
        "NVIDIA driver, libraries for CUDA",
        needed,
        scripts={"postinst": _call(f"library {upstream}")},
    )
    found = [library, Package("nvidia-persistenced", version, "NVIDIA persistence daemon")]
    for kind, module, other, meta in (
        ("open", "nvidia-kernel-open-dkms", "nvidia-kernel-dkms", "nvidia-open"),
        ("proprietary", "nvidia-kernel-dkms", "nvidia-kernel-open-dkms", "cuda-drivers"),
    ):
        depends = tuple(f"{name} (= {version})" for name in ("nvidia-driver-cuda", module, "nvidia-persistenced"))
        scripts = {"postinst": _call(f"module {upstream} {kind}")}
        found.append(Package(module, version, f"NVIDIA {kind} kernel module", needed, extra={"Conflicts": other}, scripts=scripts))
        found.append(Package(f"{meta}{ends}", version, f"NVIDIA driver, {kind} kernel module", depends))
    unit = {"/usr/lib/systemd/system/nvidia-fabricmanager.service": (_MANAGER.encode(), 0o644)}
    found.append(Package(f"nvidia-fabricmanager{ends}", version, "NVIDIA fabric manager", files=unit))
    return found


def _call(words: str) -> bytes:
    return f'#!/bin/sh\n# STAND-IN\nset -e\n[ "$1" != configure ] || {_SWITCH} {words}\n'.encode()
