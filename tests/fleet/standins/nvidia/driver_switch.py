#!/usr/bin/python3
"""STAND-IN of what a driver's packages do to a host: which version is on disk, loaded, and in the library.

    driver-switch module VERSION open|proprietary    a module was built; it is loaded when none is, as modprobe would
    driver-switch library VERSION                    the libraries were installed
    driver-switch boot                               the host starts: what is on disk is loaded

nvidia-smi and CUDA answer by it: without a module as without a driver, with another version as after an upgrade.
"""

import glob
import importlib
import json
import os
import sys

ROOT = "/opt/llmops-standin/root"
LIBRARY = "/usr/lib/llmops-standin"
PROFILE = "/etc/llmops-standin/nvidia.json"
DISK = ROOT + "/var/lib/nvidia-module"
LOADED = ROOT + "/proc/driver/nvidia/version"
CUDA = {"580": "13.0", "595": "13.2"}
NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is installed and running.\n\n"
)
KINDS = {"open": "NVIDIA UNIX Open Kernel Module for x86_64", "proprietary": "NVIDIA UNIX x86_64 Kernel Module"}


def read(path):
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except OSError:
        return ""


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)


def load():
    """The module on disk, if there is one, gets the cards."""
    if not read(DISK):
        return
    version, kind = read(DISK).split()
    write(LOADED, "NVRM version: {}  {}  Release Build  (stand-in@fleet)\n".format(KINDS[kind], version))
    write(ROOT + "/sys/module/nvidia/version", version + "\n")
    write(ROOT + "/sys/bus/pci/drivers/nvidia/module", "nvidia\n")
    for name in ("nvidiactl", "nvidia-uvm"):
        write(ROOT + "/dev/" + name, "")
    index = 0
    for folder in sorted(glob.glob(ROOT + "/sys/bus/pci/devices/*")):
        if not read(folder + "/class").startswith("0x03"):
            continue
        address = os.path.basename(folder)
        write(ROOT + "/proc/driver/nvidia/gpus/" + address + "/information", "Bus Location: \t " + address + "\n")
        write("{}/dev/nvidia{}".format(ROOT, index), "")
        if not os.path.islink(folder + "/driver"):
            os.symlink("../../drivers/nvidia", folder + "/driver")
        index += 1


def settle(library=None):
    """What nvidia-smi and CUDA answer from now on."""
    profile = json.loads(read(PROFILE))
    if library:
        profile.update(driver_version=library, cuda_version=CUDA.get(library.split(".")[0], "13.0"))
    version = profile["driver_version"]
    words = read(LOADED)
    init = 0
    profile["failure"] = {}
    if not words:
        profile["failure"] = {"exit_status": 9, "stdout": NO_DRIVER}
    elif " {} ".format(version) not in words:
        said = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: {}\n".format(".".join(version.split(".")[:2]))
        profile["failure"] = {"exit_status": 18, "stdout": said}
        init = 803
    write(PROFILE, json.dumps(profile, indent=1) + "\n")
    if words:
        sys.path.insert(0, LIBRARY)
        build = importlib.import_module("libcuda").build
        with open(LIBRARY + "/libcuda.so.1", "wb") as stream:
            stream.write(build(len(profile["gpus"]), profile["cuda_version"], init))


def main(words):
    if words[:1] == ["module"]:
        write(DISK, " ".join(words[1:]) + "\n")
        if not read(LOADED):
            load()
        settle()
    elif words[:1] == ["library"]:
        settle(words[1])
    elif words == ["boot"]:
        load()
        settle()
    else:
        print("STAND-IN driver-switch: {} is not answered".format(words), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
