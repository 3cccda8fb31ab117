# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host of files and answers for the checks of the preflight."""

from __future__ import annotations

import os
import sys

from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight._context import Options
from ansible_collections.llmops.dify_xinference.plugins.module_utils._preflight.run import preflight, reasons_of

ROW = "{index}, GPU-{index}, 00000000:{bus}:00.0, {name}, {driver}, {memory}, {cc}, {mig}, {mig}, Enabled"
HEALTH = {
    "compute_mode": "Default",
    "display_active": "Disabled",
    "pcie.link.gen.current": "1",
    "pcie.link.gen.max": "4",
    "pcie.link.width.current": "16",
    "pcie.link.width.max": "16",
    "temperature.gpu": "34",
    "power.limit": "450.00",
    "power.default_limit": "450.00",
    "gpu_recovery_action": "None",
    "clocks_event_reasons.active": "0x0000000000000001",
}


class Machine:
    """A host made of files and of what its commands answer."""

    def __init__(self, root):
        self.root = root
        self.smi = (0, "")
        self.listing = ""
        self.cuinit = (0, "0 1\n")
        self.commands = {"dpkg --audit": (0, ""), "dpkg-query": (1, ""), "systemd-detect-virt": (1, "none\n")}
        self.health = {}
        self.asked = []
        self.write("etc/os-release", 'ID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\n')
        self.write("proc/meminfo", "MemTotal:       131072000 kB\nMemAvailable:   100000000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n")
        self.write("proc/sys/kernel/osrelease", "6.12.0\n")
        self.write("sys/fs/cgroup/cgroup.controllers", "cpu\n")
        self.write("proc/self/mountinfo", "1 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
        self.write("var/lib/dpkg/lock-frontend", "")
        (root / "etc/apt").mkdir(parents=True)
        (root / "sys/module").mkdir(parents=True)
        for name in ("nvidiactl", "nvidia-uvm", "nvidia0"):
            self.write("dev/" + name, "")
            os.chmod(root / "dev" / name, 0o666)

    def write(self, path, text):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def card(self, address, device, kind="0x030000", **more):
        values = {"vendor": "0x10de", "class": kind, "device": device, "numa_node": "0", "current_link_width": "16", "max_link_width": "16", **more}
        for name, value in values.items():
            self.write(f"sys/bus/pci/devices/{address}/{name}", value + "\n")
        self.write(f"sys/bus/pci/devices/{address}/resource", "0x00000000f0000000 0x00000000f0ffffff 0x0000000000040200\n")
        (self.root / f"sys/bus/pci/devices/{address}/driver").symlink_to("../../../drivers/nvidia")

    def driver(self, version, words="NVIDIA UNIX Open Kernel Module for x86_64"):
        self.write("proc/driver/nvidia/version", f"NVRM version: {words}  {version}  Release Build\n")

    def gpu(self, index, bus, name="NVIDIA GeForce RTX 4090", driver="580.95.05", cc="8.9", memory="24564, 1, 24080", mig="[N/A]"):
        self.smi = (self.smi[0], self.smi[1] + ROW.format(index=index, bus=bus, name=name, driver=driver, cc=cc, memory=memory, mig=mig) + "\n")

    def packages(self, **versions):
        lines = [
            f"{'hi' if version.startswith('held ') else 'ii'} \t{name.replace('_', '-')}\t{version.replace('held ', '')}" for name, version in versions.items()
        ]
        self.commands["dpkg-query"] = (0, "\n".join(lines) + "\n")

    def run(self, argv, timeout):
        self.asked.append((argv, timeout))
        if argv[0] == "nvidia-smi":
            if argv[1] == "-L":
                return 0, self.listing, ""
            if argv[1] == "-q":
                return 0, self.commands.get("nvidia-smi -q", (0, ""))[1], ""
            if argv[1] == "nvlink" or "compute-apps" in argv[1]:
                return (*self.commands.get("nvidia-smi " + argv[1].split("=")[0], (0, "")), "")
            fields = argv[1].split("=", 1)[1].split(",")[12:]
            values = {**dict.fromkeys(fields, "[N/A]"), **HEALTH, **self.health}
            tail = "".join(", " + values[field] for field in fields)
            # Only rows have health fields; everything else is printed as it is.
            text = "".join(line + (tail if line[:1].isdigit() else "") + "\n" for line in self.smi[1].splitlines())
            return self.smi[0], text, ""
        if argv[0].startswith(sys.executable[:1]) and "-c" in argv:
            return (*self.cuinit, "")
        words = " ".join(argv)
        for start, answer in self.commands.items():
            if words.startswith(start):
                return (*answer, "")
        return 127, "", ""

    def verdicts(self, ignored=(), **options):
        options = {"image_version": "v4.1.0", "docker_space_gib": 0.001, "docker_root": str(self.root), "docker_socket": "run/docker.sock", **options}
        result = preflight(Options(root=str(self.root), **options), reasons_of(list(ignored)), self.run, str(self.root))
        return {entry["id"]: entry for entry in result["verdicts"]}, result

    def failures(self, **options):
        return self.verdicts(**options)[1]["failures"]
