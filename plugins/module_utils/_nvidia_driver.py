# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Which NVIDIA driver a host gets: branch, kernel modules, packages, and why not. Pure.

Sources: docs.nvidia.com/datacenter/tesla (driver branches and their ends), the README of NVIDIA/open-gpu-kernel-modules
(open modules from Turing on, and only they from Blackwell on), the driver installation guide (packages of NVIDIA's repository;
those with a branch in their name stop at 580), Ubuntu's and Debian's archives. State of 2026-11.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._cuda import version_key

LONG_TERM, PRODUCTION = 580, 595
# Architecture -> last branch that supports it; those that are not named are supported by all that follow.
LAST_BRANCH = {"kepler": 470, "maxwell": 580, "pascal": 580, "volta": 580, "pre-Turing": 580}
FIRST_BRANCH = {"ada": 525, "hopper": 525, "blackwell": 570}
PROPRIETARY_ONLY = frozenset(LAST_BRANCH)
OPEN_ONLY = frozenset(["blackwell"])
ENDED = {470: "July 2024", 535: "June 2026", 550: "June 2025", 570: "February 2026", 610: "August 2026"}
# What Debian's own archive (non-free) has.
DEBIAN_BRANCHES = {"12": 535, "13": 550}
# NVIDIA's repository has packages with the branch in their name up to here; newer ones are pinned by a package.
LAST_NAMED_BRANCH = 580
OWN = re.compile(
    r"^(?:nvidia-(?!container)|libnvidia-(?!container)|cuda-drivers|libcuda1|libcudadebugger1|libnvcuvid1|libnvoptix1|nvlsm$|firmware-nvidia-gsp|"
    r"linux-(?:modules|objects|signatures)-nvidia-|xserver-xorg-video-nvidia)"
)
# Its version is the driver's, whatever the archive calls it.
LIBRARY = re.compile(r"^(?:libnvidia-compute(?:-\d+.*)?|libcuda1|nvidia-driver-cuda|nvidia-utils-\d+.*|libnvidia-ml1)$")


class Found(t.NamedTuple):
    """A host. ``cards`` are those of the PCI bus, ``packages`` maps a name to (version, held); ``secure_boot`` is None when it cannot be told."""

    os_id: str
    os_version: str
    kernel: str
    cards: t.List[t.Dict[str, t.Any]]
    secure_boot: t.Optional[bool]
    nouveau: bool
    loaded: str
    packages: t.Dict[str, t.Tuple[str, bool]]
    run_file: bool = False
    wsl: bool = False


class Wish(t.NamedTuple):
    """What is asked for; empty or auto leaves the choice to the plan. ``minimum`` is the driver that the image needs."""

    branch: str = "auto"
    modules: str = "auto"
    source: str = "auto"
    version: str = ""
    minimum: str = ""
    key_enrolled: bool = False
    headers: bool = True


class Plan(t.NamedTuple):
    """``refusal`` is empty when the host can be served. ``packages`` are apt's words, with versions where one was asked for.

    ``release`` are held packages that are in the way of them: apt moves a held one only when it is named itself.
    """

    refusal: str
    messages: t.List[str]
    branch: int
    modules: str
    source: str
    packages: t.List[str]
    satisfied: bool
    hold: t.List[str]
    release: t.List[str]
    installed: str
    fabric_manager: bool
    reboot: str


def _refused(text: str) -> Plan:
    return Plan(text, [], 0, "", "", [], False, [], [], "", False, "")


def upstream(version: str) -> str:
    """580.95.05 of ``1:580.95.05-0ubuntu0.24.04.1``; empty when there is none."""
    match = re.search(r"(?:^|:)(\d{3,}(?:\.\d+)+)", version)
    return match.group(1) if match else ""


def installed_version(packages: t.Mapping[str, t.Tuple[str, bool]]) -> str:
    """The driver's version by its packages; empty when none of its libraries is installed."""
    found = sorted({upstream(version) for name, (version, dummy) in packages.items() if LIBRARY.match(name)} - {""}, key=version_key)
    return found[-1] if found else ""


def architecture(card: t.Mapping[str, t.Any]) -> str:
    """Of a card on the bus. The table begins with Turing, whose ids begin at 1e00; what is above it and unknown is newer than the table."""
    if card.get("arch"):
        return str(card["arch"])
    return "pre-Turing" if re.match(r"^[01][0-9a-f]{3}$", card["device_id"]) and card["device_id"] < "1e00" else "new"


def _name(card: t.Mapping[str, t.Any]) -> str:
    return f"{card.get('name') or '10de:' + card['device_id']} ({card['bus_id']}, {architecture(card)})"


def choose_modules(cards: t.Sequence[t.Mapping[str, t.Any]], wanted: str) -> tuple[str, str]:
    """open or proprietary, and why not."""
    old = [_name(card) for card in cards if architecture(card) in PROPRIETARY_ONLY]
    new = [_name(card) for card in cards if architecture(card) in OPEN_ONLY]
    if old and new:
        return "", f"No driver serves both {old[0]}, which needs the proprietary modules, and {new[0]}, which needs the open ones. Move one of the cards."
    if wanted == "open" and old:
        return "", f"The open modules do not know {', '.join(old)}. Set nvidia_driver_modules to auto or proprietary."
    if wanted == "proprietary" and new:
        return "", f"The proprietary modules do not know {', '.join(new)}. Set nvidia_driver_modules to auto or open."
    return ("proprietary" if old else "open") if wanted == "auto" else wanted, ""


def choose_branch(cards: t.Sequence[t.Mapping[str, t.Any]], wish: Wish, installed: str, archive: int) -> tuple[int, str]:
    """The branch, and why not. auto keeps an installed one that will do; ``archive`` is the only one of the archive, 0 when it has several."""
    needed = version_key(wish.minimum)[0] if version_key(wish.minimum) else 0
    last = min([(LAST_BRANCH[architecture(card)], _name(card)) for card in cards if architecture(card) in LAST_BRANCH], default=(0, ""))
    first = max([(FIRST_BRANCH[architecture(card)], _name(card)) for card in cards if architecture(card) in FIRST_BRANCH], default=(0, ""))

    def trouble(branch: int) -> str:
        if last[0] and branch > last[0]:
            return f"Branch {branch} does not know {last[1]} any more; its last branch is {last[0]}."
        if branch < first[0]:
            return f"Branch {branch} does not know {first[1]} yet; its first branch is {first[0]}."
        if needed and branch < needed:
            return f"Branch {branch} is too old for the image, which needs driver {wish.minimum} or newer."
        return ""

    if wish.version and upstream(wish.version):
        branch = version_key(upstream(wish.version))[0]
        if wish.branch not in ("auto", str(branch)):
            return 0, f"nvidia_driver_version {wish.version} is not of branch {wish.branch}. Set one of them."
    elif wish.branch != "auto":
        branch = int(wish.branch)
    elif archive:
        branch = archive
    else:
        there = version_key(installed)[0] if version_key(installed) else 0
        if there and not trouble(there):
            return there, ""
        branch = LONG_TERM if needed <= LONG_TERM and first[0] <= LONG_TERM else PRODUCTION
        if last[0]:
            branch = min(branch, last[0])
    problem = trouble(branch)
    if problem and last[0] and needed > last[0]:
        problem += f" No driver serves both the card and this image: use an image for CUDA {'12' if last[0] >= 525 else '11'}, or another card."
    return (0, problem) if problem else (branch, "")


def _ubuntu(branch: int, modules: str, kernel: str, fabric: bool) -> list[str]:
    suffix = f"{branch}-server{'-open' if modules == 'open' else ''}"
    flavour = kernel.split("-", 2)[2] if kernel.count("-") >= 2 else "generic"
    names = [f"linux-modules-nvidia-{suffix}-{flavour}", f"nvidia-headless-no-dkms-{suffix}", f"nvidia-utils-{branch}-server"]
    return names + ([f"nvidia-fabricmanager-{branch}"] if fabric else [])


def _nvidia(branch: int, modules: str, kernel: str, fabric: bool, headers: bool) -> list[str]:
    meta = "nvidia-open" if modules == "open" else "cuda-drivers"
    if branch <= LAST_NAMED_BRANCH:
        names = [f"{meta}-{branch}"] + ([f"nvidia-fabricmanager-{branch}"] if fabric else [])
    else:
        names = [f"nvidia-driver-pinning-{branch}", meta] + (["nvidia-fabricmanager"] if fabric else [])
    return names + ([f"linux-headers-{kernel}"] if headers else [])


def _debian(modules: str, kernel: str, headers: bool) -> list[str]:
    names = ["nvidia-open-kernel-dkms" if modules == "open" else "nvidia-kernel-dkms", "libcuda1", "nvidia-smi", "nvidia-persistenced", "firmware-nvidia-gsp"]
    return names + ([f"linux-headers-{kernel}"] if headers else [])


def _hold(found: Found, source: str) -> list[str]:
    """What has to be held and is not. Ubuntu's signed modules are built for one kernel, so the kernel's own names belong to them."""
    kernels = re.compile(r"^linux-(?:image-|headers-)?(?:generic|aws|azure|gcp|oracle|kvm|lowlatency|nvidia)\S*$") if source == "ubuntu" else None
    names = [name for name in found.packages if OWN.match(name) or (kernels and kernels.match(name))]
    return sorted(name for name in names if not found.packages[name][1])


def _reboot(found: Found, installed: str) -> str:
    if not installed:
        return ""
    if not found.loaded:
        return f"driver {installed} is installed and no module is loaded{', because nouveau has the GPU' if found.nouveau else ''}"
    return f"driver {installed} is installed and {found.loaded} is loaded" if found.loaded != installed else ""


def plan(found: Found, wish: Wish) -> Plan:
    """What the host gets. Nothing is looked at and nothing is done."""
    cards = [card for card in found.cards if card["kind"] == "gpu"]
    fabric = any(card["kind"] == "nvswitch" for card in found.cards)
    if found.wsl:
        return _refused("WSL2: the driver is Windows', and one in Linux would break it.")
    if not cards:
        return _refused("There is no NVIDIA GPU on the PCI bus, so there is nothing to install a driver for.")
    if found.os_id not in ("debian", "ubuntu"):
        return _refused(f"{found.os_id} {found.os_version} is not supported; Debian and Ubuntu are. Install the driver yourself.")
    installed = installed_version(found.packages)
    if found.run_file and not installed:
        return _refused("The driver came from NVIDIA's .run installer. Remove it first (nvidia-uninstall), for packages would lie over it.")
    source = wish.source
    if source == "auto":
        source = "distribution" if found.os_id == "ubuntu" else "nvidia"
    ubuntu = source == "distribution" and found.os_id == "ubuntu"
    archive = DEBIAN_BRANCHES.get(found.os_version, 0) if source == "distribution" and not ubuntu else 0
    modules, problem = choose_modules(cards, wish.modules)
    branch = 0
    if not problem:
        branch, problem = choose_branch(cards, wish, installed, archive)
    if not problem and archive and branch != archive:
        problem = f"Debian {found.os_version} has branch {archive} only, not {branch}. Set nvidia_driver_source to nvidia."
    if problem:
        return _refused(problem + (" Set nvidia_driver_source to nvidia for a newer one." if archive and "too old" in problem else ""))
    if ubuntu:
        packages = _ubuntu(branch, modules, found.kernel, fabric)
    elif source == "nvidia":
        packages = _nvidia(branch, modules, found.kernel, fabric, wish.headers)
    else:
        packages = _debian(modules, found.kernel, wish.headers)
    if fabric and not archive and any(architecture(card) == "blackwell" for card in cards):
        packages.append("nvlsm")
    complete = bool(installed) and version_key(installed)[0] == branch and (not wish.version or upstream(wish.version) == installed)
    # A driver of the right branch is left as it came, unless a part of it is missing that this machine cannot do without.
    lacking = [name for name in packages if name.startswith(("nvidia-fabricmanager", "nvlsm")) and name not in found.packages]
    stale = [name for name in packages if name.startswith("nvidia-fabricmanager") and name in found.packages and upstream(found.packages[name][0]) != installed]
    satisfied = complete and not lacking and not stale
    if found.secure_boot and not satisfied and not ubuntu and not wish.key_enrolled:
        return _refused(
            "Secure Boot is on, and this driver's module is built on the host: the kernel would refuse it after the reboot. Use Ubuntu's signed modules "
            "(nvidia_driver_source distribution), or enrol a key at the console (mokutil --import) and set nvidia_driver_secure_boot_key_enrolled, "
            "or switch Secure Boot off."
        )
    messages = []
    unknown = [_name(card) for card in cards if architecture(card) == "new"]
    if unknown:
        messages.append(f"Not in the table of GPUs, so taken for a new one: {', '.join(unknown)}.")
    if branch in ENDED:
        messages.append(f"Branch {branch} ended in {ENDED[branch]}.")
    if wish.version:
        packages = [f"{name}={wish.version}" if not name.startswith(("linux-headers-", "nvidia-driver-pinning-", "nvlsm")) else name for name in packages]
    elif (lacking or stale) and complete:
        # The fabric manager refuses any driver but its own.
        packages = [f"{name}={found_version(found, installed)}" if name.startswith("nvidia-fabricmanager") else name for name in lacking + stale]
    hold = _hold(found, "ubuntu" if ubuntu else source)
    release = [] if satisfied else sorted(name for name, (dummy, held) in found.packages.items() if held and OWN.match(name))
    return Plan("", messages, branch, modules, source, packages, satisfied, hold, release, installed, fabric, _reboot(found, installed))


def found_version(found: Found, installed: str) -> str:
    """The archive's own word for the installed driver's version."""
    return next((version for name, (version, dummy) in sorted(found.packages.items()) if LIBRARY.match(name) and upstream(version) == installed), installed)


__all__ = ["Found", "OWN", "Plan", "Wish", "architecture", "choose_branch", "choose_modules", "installed_version", "plan", "upstream"]
