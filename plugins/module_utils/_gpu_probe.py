# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""cuInit in a container: the program that asks, and what the answers of Docker 20.10 to 29, the toolkit and CUDA mean. Pure.

nvidia-smi is no proof: it looks fine while the fabric manager is missing (802) or cuInit is refused (999).
Sources: messages of the moby tags 20.10 to 29.8 and of nvidia-container-toolkit 1.13 to 1.20, most of them seen; CUresult of cuda.h.
"""

from __future__ import annotations

import json
import re
import typing as t

OK, FAIL, UNKNOWN = "ok", "fail", "unknown"
MARK = "llmops-gpu-probe: "
# No CUDA toolkit and no framework is needed: libcuda.so.1 comes from the host's driver, by the same way as in the real container.
PROGRAM = f"""
import ctypes, json
found = {{}}
try:
    cuda = ctypes.CDLL("libcuda.so.1")
except OSError as error:
    found["library"] = str(error)
else:
    found["init"] = cuda.cuInit(0)
    version = ctypes.c_int(0)
    cuda.cuDriverGetVersion(ctypes.byref(version))
    found["cuda"] = version.value
    if found["init"] == 0:
        count = ctypes.c_int(0)
        found["counted"] = cuda.cuDeviceGetCount(ctypes.byref(count))
        found["count"] = count.value
print("{MARK}" + json.dumps(found))
"""


class Verdict(t.NamedTuple):
    """``cause`` is a stable word for programs, ``message`` and ``remedy`` are for people. ``devices`` is None when nothing could be counted."""

    status: str
    cause: str
    message: str
    remedy: str
    devices: t.Optional[int] = None
    cuda: str = ""


class Cause(t.NamedTuple):
    """One way to fail: ``pattern`` is looked for in what docker says."""

    cause: str
    pattern: str
    message: str
    remedy: str
    status: str = FAIL


_TOOLKIT = "Run the role nvidia_container_toolkit, which installs the toolkit and restarts Docker once; Docker looks for it at its start only."
# The first that fits counts, so what is precise stands before what is general.
CAUSES = (
    Cause(
        "runtime_unknown",
        r"unknown or invalid runtime name: nvidia|Unknown runtime specified nvidia",
        "Docker does not know the runtime nvidia.",
        "Run the role nvidia_container_toolkit, or reload Docker when daemon.json names the runtime already.",
    ),
    Cause(
        "cdi_off",
        r'could not select device driver "?cdi"?|CDI (?:support )?is not enabled',
        "Docker's CDI support is off.",
        "Use Docker 28.2 or newer, or set features.cdi in docker_daemon_options (needs a restart).",
    ),
    Cause(
        "toolkit_after_docker",
        r"AMD CDI spec not found",
        "The toolkit was installed after Docker started (Docker 29.3 and newer look for AMD's GPUs then).",
        _TOOLKIT,
    ),
    Cause(
        "toolkit_missing",
        r"failed to discover GPU vendor from CDI|no known GPU vendor found|could not select device driver",
        "Docker has no driver for GPUs: the toolkit is missing, or it was installed after Docker started.",
        _TOOLKIT,
    ),
    Cause(
        "runtime_missing",
        r"nvidia-container-runtime(?:-hook)?\S*: (?:executable file not found|no such file)",
        "Docker looks for a program of the toolkit that is not installed.",
        "Run the role nvidia_container_toolkit.",
    ),
    Cause(
        "cdi_unresolvable",
        r"unresolvable CDI devices",
        "No CDI specification names the GPU.",
        "systemctl restart nvidia-cdi-refresh, or nvidia-ctk cdi generate --output=/var/run/cdi/nvidia.yaml.",
    ),
    Cause(
        "hook_in_cdi_mode",
        r"invoking the NVIDIA Container Runtime Hook directly",
        "The toolkit's configuration says mode = cdi, and Docker before 29.2 gives GPUs by the hook.",
        'Set mode = "auto" in /etc/nvidia-container-runtime/config.toml.',
    ),
    Cause(
        "driver_too_old",
        r"unsatisfied condition: cuda\s*>=?\s*(?P<detail>[0-9.]+)",
        "The image wants CUDA {detail}, and the driver is too old for it.",
        "Install a newer driver (role nvidia_driver), or use an older tag of the image.",
    ),
    Cause(
        "condition_unmet",
        r"requirement error: (?P<detail>[^\n]*)",
        "The image's conditions are not met: {detail}.",
        "Install a newer driver (role nvidia_driver), or use another tag of the image.",
    ),
    Cause(
        "driver_mismatch",
        r"driver/library version mismatch",
        "The driver was upgraded under the loaded kernel module.",
        "Reboot the host; then hold the driver's packages (role nvidia_driver does).",
    ),
    Cause(
        "driver_not_loaded",
        r"nvml error: driver not loaded|couldn't communicate with the NVIDIA driver",
        "The NVIDIA kernel module is not loaded.",
        "Run preflight.yml: it tells nouveau, Secure Boot and a module that was not built apart.",
    ),
    Cause(
        "driver_library_missing",
        r"load library failed: (?P<detail>lib\S+?)[:,]|couldn't find libnvidia-ml",
        "The driver's libraries are not on the host.",
        "Install the driver's user-space packages at the version of the loaded module.",
    ),
    Cause(
        "device_unknown",
        r"device error: (?:\S+ )?unknown device|unknown device",
        "The container asks for a GPU that the host does not have.",
        "Compare xinference_gpus with nvidia-smi -L.",
    ),
    Cause(
        "cgroup_v2_unsupported",
        r"cgroup subsystem devices not found|bpf_prog_query\(BPF_CGROUP_DEVICE\)",
        "The toolkit is too old for this host's cgroups, or may not set device rules in them.",
        "Upgrade the toolkit to 1.8 or newer; in a container of its own set no-cgroups = true.",
    ),
    Cause(
        "persistenced_dead",
        r"/run/nvidia-persistenced/socket",
        "nvidia-persistenced does not run, and the container wants its socket.",
        "systemctl restart nvidia-persistenced; after a driver upgrade reboot.",
    ),
    Cause(
        "permission",
        r"Insufficient Permissions",
        "The container may not open the GPU (SELinux or device permissions).",
        "setsebool -P container_use_devices 1, and look at the modes of /dev/nvidia*.",
    ),
    Cause(
        "nvml_lost",
        r"Failed to initialize NVML: Unknown Error",
        "The container lost its GPUs after it was started (a systemctl daemon-reload).",
        "Restart the container; the role nvidia_container_toolkit defends against it.",
    ),
    Cause(
        "cdi_stale",
        r"(?:lib(?:cuda|nvidia)\S*\.so\.\d+\S*|nvidia\S*\.bin)\S*: no such file",
        "A CDI specification or a mount names a file of another driver version.",
        "systemctl restart nvidia-cdi-refresh, and delete /etc/cdi/nvidia.yaml when it was made by hand.",
    ),
    Cause(
        "toolkit_error",
        r"nvidia-container-cli: (?P<detail>[^\n]*)",
        "The toolkit cannot give the GPU to the container: {detail}.",
        "Look at journalctl -u docker and at nvidia-container-cli -k -d /dev/tty info.",
    ),
    Cause(
        "no_python",
        r'exec: "?python3"?: executable file not found|python3: (?:not found|no such file)',
        "The image has no python3, so CUDA could not be asked in it.",
        "Nothing is known; set nvidia_container_toolkit_probe to false for such an image.",
        UNKNOWN,
    ),
    Cause(
        "image_missing",
        r"No such image|pull access denied|manifest (?:for \S+ )?(?:unknown|not found)|Unable to find image|repository does not exist",
        "The image is not there and could not be pulled.",
        "Look at the image's name and at the registry mirrors.",
        UNKNOWN,
    ),
    Cause(
        "docker_unreachable",
        r"Cannot connect to the Docker daemon|permission denied while trying to connect|docker: not found",
        "Docker does not answer.",
        "systemctl status docker; run with become: true.",
        UNKNOWN,
    ),
)
# CUresult -> cause, message, remedy
CU_RESULTS = {
    2: ("out_of_memory", "there is no memory left on a GPU", "Stop what fills the GPU (nvidia-smi)."),
    3: ("not_initialized", "CUDA was not initialised", "Reboot; look for NVRM lines in the kernel log."),
    34: ("stub_library", "the image's libcuda.so.1 is a stub that was meant for linking", "Take /usr/local/cuda/lib64/stubs out of the image's library path."),
    46: ("device_busy", "the GPU is taken exclusively or prohibited", "nvidia-smi -c 0, or stop the process that has it."),
    100: ("no_device", "CUDA sees no GPU", "Compare /dev/nvidia* with the container's; with MIG on, create instances; then restart the container."),
    101: ("invalid_device", "the GPU that was asked for is not valid", "Compare xinference_gpus with nvidia-smi -L."),
    304: ("os_refused", "the operating system refused a call", "nvidia-modprobe -u -c0, so that /dev/nvidia-uvm is there."),
    800: ("not_permitted", "the call is not permitted", "Look at MPS, MIG and the compute mode (nvidia-smi -q)."),
    801: ("not_supported", "the call is not supported on this system", "Compare the driver with what the GPU needs."),
    802: (
        "system_not_ready",
        "the system is not yet initialised, although nvidia-smi looks fine",
        "On NVSwitch machines start nvidia-fabricmanager at exactly the driver's version (role nvidia_driver).",
    ),
    803: ("driver_mismatch", "the driver and its library do not match", "Reboot after a driver upgrade, then recreate the container."),
    804: (
        "forward_compatibility",
        "the image's CUDA compatibility library does not support this GPU",
        "Install a newer driver, or use an older tag of the image: forward compatibility works on data-centre GPUs only.",
    ),
    805: ("mps", "the MPS server does not answer", "Restart nvidia-cuda-mps-control, or unset CUDA_MPS_PIPE_DIRECTORY."),
    999: (
        "unknown_error",
        "CUDA gives an unknown error, although nvidia-smi may look fine",
        "Look for NVRM lines in the kernel log and at /dev/nvidia-uvm. Toolkits 1.19.0 to 1.20.0 do it with systemd cgroups: try another version.",
    ),
}


def gpu_request(gpus: t.Sequence[str]) -> str:
    """The word for ``docker run --gpus``, as Compose asks: all, or indexes and UUIDs. The inner quotes are Docker's, for commas."""
    if list(gpus) == ["all"]:
        return "driver=nvidia,count=all"
    return 'driver=nvidia,"device={}"'.format(",".join(gpus))


def wanted_count(gpus: t.Sequence[str], on_host: int | None) -> int | None:
    """How many GPUs the container has to see; ``None`` when the host's number is not known."""
    return on_host if list(gpus) == ["all"] else len(gpus)


def has_gpus(container: t.Mapping[str, t.Any]) -> bool:
    """Whether a container (as the engine inspects it) was given GPUs."""
    config = container.get("HostConfig") or {}
    if config.get("Runtime") == "nvidia":
        return True
    for request in config.get("DeviceRequests") or []:
        words = [word for group in request.get("Capabilities") or [] for word in group]
        if request.get("Driver") == "nvidia" or "gpu" in words or any("nvidia.com/gpu" in str(name) for name in request.get("DeviceIDs") or []):
            return True
    return False


def cuda_version(number: int) -> str:
    """13020 as 13.2; empty when there is none."""
    return f"{number // 1000}.{number % 1000 // 10}" if number else ""


def _first_line(text: str) -> str:
    """What docker said, on one line, without the words that every message starts with."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Run 'docker run --help'") and "docker run --help" not in line]
    return re.sub(r"^docker: (Error response from daemon: )?", "", " ".join(lines))[:400]


def classify(status: int, text: str, wanted: int | None) -> Verdict:
    """What came of ``docker run``: its exit status, everything it wrote, and how many GPUs the container should see."""
    answer = re.search(re.escape(MARK) + r"(\{.*\})", text)
    if answer:
        try:
            return _judge_answer(json.loads(answer.group(1)), wanted)
        except (ValueError, TypeError, AttributeError):
            return Verdict(UNKNOWN, "garbled", f"The probe's answer cannot be read: {_first_line(text)}", "Run again; look at the image's python3.")
    if status == 124:
        remedy = "Look for Xid and NVRM lines in the kernel log; a sick GPU hangs in the driver."
        return Verdict(FAIL, "hang", "CUDA did not answer in the container in time.", remedy)
    for cause in CAUSES:
        match = re.search(cause.pattern, text)
        if match:
            detail = (match.groupdict().get("detail") or "").rstrip(".,: ")
            return Verdict(cause.status, cause.cause, cause.message.format(detail=detail) + f" Docker says: {_first_line(text)}", cause.remedy)
    return Verdict(UNKNOWN, "unclassified", f"The container could not be tried (exit status {status}): {_first_line(text)}", "Look at journalctl -u docker.")


def _judge_answer(found: t.Mapping[str, t.Any], wanted: int | None) -> Verdict:
    if "library" in found:
        return Verdict(
            FAIL,
            "no_libcuda",
            f"There is no libcuda in the container ({found['library']}): it was started, but it was given no driver.",
            "The image must allow compute in NVIDIA_DRIVER_CAPABILITIES, and the toolkit must be the real one, newer than Docker's start.",
        )
    version = cuda_version(int(found.get("cuda") or 0))
    code = int(found["init"]) or int(found.get("counted") or 0)
    if code:
        unknown = ("cuda_error", "CUDA refuses", "Look the number up in cuda.h (CUresult), and for NVRM lines in the kernel log.")
        cause, message, remedy = CU_RESULTS.get(code, unknown)
        return Verdict(FAIL, cause, f"cuInit in the container returns {code}: {message}.", remedy, None, version)
    count = int(found.get("count") or 0)
    if count == 0:
        return Verdict(FAIL, "no_device", "CUDA sees no GPU in the container.", CU_RESULTS[100][2], 0, version)
    if wanted is not None and count < wanted:
        return Verdict(
            FAIL,
            "too_few",
            f"CUDA sees {count} of {wanted} GPUs in the container.",
            "Compare with nvidia-smi -L and the kernel log: a GPU may be lost, or in use as MIG.",
            count,
            version,
        )
    return Verdict(OK, "", f"CUDA {version} sees {count} GPU{'' if count == 1 else 's'} in the container.", "", count, version)


def same_probe(stamp: t.Mapping[str, t.Any], wanted: t.Mapping[str, t.Any]) -> bool:
    """Whether a remembered probe was made with all of this; what the stamp does not say counts as different."""
    return bool(stamp) and all(stamp.get(key) == value for key, value in wanted.items())


__all__ = ["CAUSES", "CU_RESULTS", "FAIL", "MARK", "OK", "PROGRAM", "UNKNOWN", "Verdict", "classify", "gpu_request", "has_gpus", "same_probe", "wanted_count"]
