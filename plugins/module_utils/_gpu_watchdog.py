# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""The host's GPU watchdog: one look, a verdict, and the one restart that helps. It is also the program that runs on the host.

The module gpu_watchdog copies this very file to the host, so it imports the standard library only. ``decide`` is pure;
what looks and acts stands below it. It restarts a container only when the container alone lost its GPUs: no restart
mends a lost GPU, a driver that does not match, or a Xid.

Sources: NVIDIA's catalogue of Xid errors (docs.nvidia.com/deploy/xid-errors), exit statuses of nvidia-smi (manual page of
550.163.01; 18 was seen), and the loss of devices at a daemon-reload (nvidia-container-toolkit issue 48, seen as
``Failed to initialize NVML: Unknown Error`` with exit status 255).
"""

from __future__ import annotations

import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import typing as t

OK, WARN, FAIL, UNKNOWN = "ok", "warn", "fail", "unknown"
DAY = 86400.0
DEFAULTS: dict[str, t.Any] = {
    "containers": [],  # names of those that have GPUs
    "restart": True,
    "min_interval": 300,  # seconds between two restarts of a container; doubled with each restart of the last day
    "max_restarts": 4,  # in a day
    "state_dir": "/var/lib/llmops/gpu-watchdog",
    "metrics_dir": "",  # node_exporter's --collector.textfile.directory; no metrics when empty
    "root": "/",
    "docker": "docker",
    "nvidia_smi": "nvidia-smi",
}
_XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]+)\): (\d+),?\s*(.*)")
# By the catalogue's immediate action. What is not named concerns the application: it was told, and goes on or starts anew.
HARDWARE = frozenset([46, 48, 54, 62, 64, 74, 79, 95, 109, 110, 119, 120, 136, 140, 142, 143, *range(144, 151), 151, 154, 155, 156, 158])
# 45 follows another one, or a program that was stopped.
IGNORED = frozenset([37, 38, 43, 44, 45, 63, 66, 67, 92, 93, 106, 107, 121, 137, 141, 152, 153, 157, 160, 161])
_XID_REMEDIES = {79: "Power-cycle the host; check the card's power and seat.", 54: "Connect the GPU's power cable.", 74: "Look at nvidia-smi nvlink -s."}
_HEALTHY = (0, 14)  # 14: the infoROM is damaged, everything else is complete
_SMI_WORDS = {
    9: "the kernel module is not loaded",
    12: "libnvidia-ml.so is missing",
    15: "a GPU fell off the bus",
    18: "driver and library do not match",
    124: "nvidia-smi does not answer",
    127: "nvidia-smi is missing",
}


class Look(t.NamedTuple):
    """What was seen. ``containers`` maps a name to (runs, exit status, output) of ``nvidia-smi -L`` in it; ``expected`` is the number of GPUs on the bus.

    ``blind`` is why the kernel log was not seen; empty when it was.
    """

    now: float
    boot_id: str
    smi_status: int
    smi_text: str
    expected: int
    loaded: str
    on_disk: str
    xids: t.List[t.Tuple[float, str, int, str]]
    cursor: str
    containers: t.Dict[str, t.Tuple[bool, int, str]]
    blind: str = ""


class Decision(t.NamedTuple):
    """``verdicts`` for people and programs, ``restarts`` is what to do, ``state`` is kept until the next look."""

    verdicts: t.List[t.Dict[str, t.Any]]
    restarts: t.List[str]
    state: t.Dict[str, t.Any]
    numbers: t.Dict[str, int]


def verdict(identity: str, status: str, message: str, remedy: str = "") -> dict[str, t.Any]:
    return {"id": identity, "status": status, "message": message, "remedy": remedy}


def parse_xids(lines: t.Iterable[t.Tuple[float, str]]) -> list[tuple[float, str, int, str]]:
    """(time, bus address, number, words) of the Xid errors among kernel messages."""
    found = []
    for when, text in lines:
        match = _XID.search(text)
        if match:
            found.append((when, match.group(1), int(match.group(2)), match.group(3).strip()))
    return found


def answering(text: str) -> int:
    """How many GPUs a listing names that are not lost."""
    return len([line for line in text.splitlines() if re.match(r"GPU \d+: .*\(UUID: GPU-", line)])


def lost_words(text: str) -> str:
    """The line that tells of a lost GPU; empty when there is none. nvidia-smi may end with 0 all the same."""
    for line in text.splitlines():
        if "GPU is lost" in line or "Unable to determine the device handle" in line or "GPU requires reset" in line:
            return line.strip()
    return ""


def container_lost(status: int, text: str) -> bool:
    """Whether a container lost its GPUs: NVML's words, whatever the exit status."""
    return status != 0 and "Failed to initialize NVML: Unknown Error" in text


def judge_host(look: Look) -> tuple[list[dict[str, t.Any]], int, bool]:
    """Verdicts on the host, how many GPUs answer, and whether a container's loss can only be its own."""
    verdicts = []
    count = answering(look.smi_text)
    lost = lost_words(look.smi_text)
    if look.smi_status == 18 or "Driver/library version mismatch" in look.smi_text:
        verdicts.append(
            verdict("driver_mismatch", FAIL, f"The driver was upgraded under the loaded module {look.loaded}.", "Reboot, then hold the driver's packages.")
        )
    elif look.smi_status == 15 or lost:
        verdicts.append(
            verdict("gpu_lost", FAIL, f"A GPU is lost: {lost or _SMI_WORDS[15]}.", "Power-cycle the host; no restart of a container brings a GPU back.")
        )
    elif look.smi_status not in _HEALTHY:
        words = _SMI_WORDS.get(look.smi_status, (look.smi_text.strip().splitlines() or ["no words"])[0])
        verdicts.append(verdict("smi_failed", FAIL, f"nvidia-smi ends with {look.smi_status}: {words}.", "Run preflight.yml: it says what to do."))
    elif count < look.expected:
        verdicts.append(
            verdict("gpu_lost", FAIL, f"{count} of {look.expected} GPUs on the bus answer.", "Look for Xid in the kernel log; power-cycle the host.")
        )
    healthy = not verdicts
    if healthy and look.loaded and look.on_disk and look.loaded != look.on_disk:
        message = f"Driver {look.on_disk} is installed and {look.loaded} is loaded: what runs goes on, and the next start of a container fails."
        verdicts.append(verdict("driver_mismatch", WARN, message, "Reboot in a maintenance window."))
    return verdicts, count, healthy


def judge_xids(look: Look, state: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    """Verdicts on the Xid errors since the host's start; ``state`` gets the new ones."""
    known = state.setdefault("xids", {})
    for when, bus, number, words in look.xids:
        entry = known.setdefault(f"{number} {bus}", {"count": 0})
        entry.update(count=entry["count"] + 1, last=when, words=words[:200])
    verdicts = []
    for key, entry in sorted(known.items()):
        number, bus = int(key.split()[0]), key.split()[1]
        said = f"Xid {number} on {bus}, {entry['count']} times, last {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(entry['last']))} UTC"
        if number in HARDWARE:
            remedy = _XID_REMEDIES.get(number, "Drain the host and reset the GPU (nvidia-smi -r) or reboot.")
            verdicts.append(verdict("xid", FAIL, f"{said}: {entry['words']}", remedy))
        elif number not in IGNORED and look.now - entry["last"] < DAY:
            verdicts.append(verdict("xid", WARN, f"{said}: {entry['words']}", "An error of the application, as a rule: look at its log."))
    return verdicts


def allowed_at(times: t.Sequence[float], config: t.Mapping[str, t.Any]) -> float | None:
    """When a container may be restarted again, given its restarts of the last day; ``None`` when it had enough of them."""
    if len(times) >= config["max_restarts"]:
        return None
    return times[-1] + config["min_interval"] * 2.0 ** (len(times) - 1) if times else 0.0


def judge_container(name: str, look: Look, healthy: bool, state: dict[str, t.Any], config: t.Mapping[str, t.Any]) -> tuple[dict[str, t.Any], bool]:
    """The verdict on one container, and whether to restart it; ``state`` gets the restart."""
    runs, status, text = look.containers[name]
    if not runs:
        return verdict("container", UNKNOWN, f"{name} does not run."), False
    if not container_lost(status, text):
        if status in _HEALTHY:
            return verdict("container", OK, f"{name} has {answering(text)} GPUs."), False
        words = (text.strip().splitlines() or ["no words"])[0][:200]
        return verdict("container", UNKNOWN, f"nvidia-smi in {name} ends with {status}: {words}", "A restart would not help; look at the host first."), False
    said = f"{name} lost its GPUs (NVML: Unknown Error)"
    if not healthy:
        return verdict("container_lost", FAIL, f"{said}, and the host has trouble of its own: it is not restarted.", "Mend the host first."), False
    every = state.setdefault("restarts", {})
    times = every[name] = [when for when in every.get(name, []) if look.now - when < DAY]
    allowed = allowed_at(times, config)
    if not config["restart"]:
        return verdict("container_lost", FAIL, f"{said}; restarts are switched off.", f"docker restart {name}"), False
    if allowed is None:
        remedy = "Find what does it: a daemon-reload, as packages run it. See nvidia_container_toolkit_prevent_gpu_loss."
        return verdict("container_lost", FAIL, f"{said} again after {len(times)} restarts in a day: it is left alone.", remedy), False
    if look.now < allowed:
        return verdict("container_lost", FAIL, f"{said}; it is restarted in {int(allowed - look.now)} s at the earliest.", f"docker restart {name}"), False
    times.append(look.now)
    return verdict("container_lost", WARN, f"{said} while the host is healthy: it is restarted."), True


def decide(look: Look, state: t.Mapping[str, t.Any], config: t.Mapping[str, t.Any]) -> Decision:
    """What is wrong, and which containers to restart. Pure: ``state`` is what the last decision left."""
    new: dict[str, t.Any] = json.loads(json.dumps(dict(state)))
    if new.get("boot_id") != look.boot_id:
        # What the kernel said before its start is past: the cards were reset with it.
        new.update(boot_id=look.boot_id, xids={})
    new["cursor"] = look.cursor
    verdicts, count, healthy = judge_host(look)
    if healthy:
        verdicts.insert(0, verdict("host", OK, f"{count} of {look.expected} GPUs answer, driver {look.loaded or 'unknown'}."))
    verdicts += judge_xids(look, new)
    if look.blind:
        verdicts.append(verdict("kernel_log", UNKNOWN, f"The kernel log cannot be seen ({look.blind}), and so no Xid.", "systemctl status systemd-journald."))
    restarts = []
    for name in sorted(look.containers):
        said, act = judge_container(name, look, healthy, new, config)
        verdicts.append(said)
        if act:
            restarts.append(name)
            new.setdefault("restarted", {})[name] = new.get("restarted", {}).get(name, 0) + 1
    return Decision(verdicts, restarts, new, {"answering": count, "expected": look.expected})


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def metrics(decision: Decision, look: Look) -> str:
    """node_exporter's textfile format."""
    rows: list[tuple[str, str, str, list[tuple[dict[str, str], float]]]] = []
    worst = {"driver_mismatch": 0, "gpu_lost": 0, "smi_failed": 0, "xid": 0, "container_lost": 0}
    for entry in decision.verdicts:
        if entry["id"] in worst:
            worst[entry["id"]] = max(worst[entry["id"]], 2 if entry["status"] == FAIL else 1)
    rows.append(("llmops_gpu_watchdog_last_run_seconds", "gauge", "When the watchdog looked last, seconds since the epoch.", [({}, round(look.now))]))
    rows.append(("llmops_gpu_count", "gauge", "GPUs on the bus and those that answer.", [({"state": key}, n) for key, n in sorted(decision.numbers.items())]))
    rows.append(("llmops_gpu_trouble", "gauge", "0 none, 1 to be looked at, 2 broken.", [({"kind": kind}, n) for kind, n in sorted(worst.items())]))
    xids = []
    for key, entry in sorted(decision.state.get("xids", {}).items()):
        number, bus = key.split()
        xids.append(({"xid": number, "bus": bus}, float(entry["count"])))
    rows.append(("llmops_gpu_xid_total", "counter", "Xid errors since the host's start.", xids))
    good = [({"container": name}, float(not container_lost(*found[1:]))) for name, found in sorted(look.containers.items()) if found[0]]
    rows.append(("llmops_gpu_container_ok", "gauge", "Whether a running container has its GPUs.", good))
    restarted = [({"container": name}, float(decision.state.get("restarted", {}).get(name, 0))) for name in sorted(look.containers)]
    rows.append(("llmops_gpu_container_restarts_total", "counter", "Restarts by the watchdog.", restarted))
    lines = []
    for name, kind, about, values in rows:
        lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
        for labels, value in values:
            words = ",".join(f'{key}="{_label(text)}"' for key, text in labels.items())
            lines.append(f"{name}{'{' + words + '}' if words else ''} {value:g}" if value < 1e6 else f"{name} {value:.0f}")
    return "\n".join(lines) + "\n"


# What looks and acts, on the host only.


def run(argv: t.Sequence[str], timeout: float = 30.0) -> tuple[int, str]:
    """Exit status (124 when it took too long, 127 when there is no such command) and everything that was said."""
    nothing, pipe, together, lean = subprocess.DEVNULL, subprocess.PIPE, subprocess.STDOUT, dict(os.environ, LC_ALL="C")
    try:
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            list(argv), stdin=nothing, stdout=pipe, stderr=together, timeout=timeout, env=lean, check=False
        )
    except subprocess.TimeoutExpired:
        return 124, ""
    except OSError:
        return 127, ""
    return done.returncode, done.stdout.decode("utf-8", "replace")


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def kernel_messages(cursor: str) -> tuple[list[tuple[float, str]], str, str]:
    """Kernel messages after a journal cursor (of this boot when there is none) that name NVIDIA's driver, the new cursor, and why they were not seen."""
    argv = ["journalctl", "--dmesg", "--boot", "--output=json", "--no-pager", "--show-cursor", "--grep=NVRM"]
    status, out = run(argv + ([f"--after-cursor={cursor}"] if cursor else []))
    found = []
    for line in out.splitlines():
        if line.startswith("-- cursor: "):
            cursor = line[len("-- cursor: ") :].strip()
            continue
        try:
            entry = json.loads(line)
            message = entry["MESSAGE"]
            when = int(entry["__REALTIME_TIMESTAMP"]) / 1e6
        except (ValueError, KeyError, TypeError):
            continue
        cursor = str(entry.get("__CURSOR") or cursor)
        found.append((when, message if isinstance(message, str) else bytes(message).decode("utf-8", "replace")))
    # 1 is what a search ends with that finds nothing.
    return found, cursor, f"journalctl ends with {status}" if status not in (0, 1) else ""


def gpus_on_bus(root: str) -> int:
    """GPUs that are bound to NVIDIA's driver; those given to virtual machines do not count."""
    count = 0
    for folder in glob.glob(os.path.join(root, "sys/bus/pci/devices/*")):
        if read(folder + "/vendor").strip() == "0x10de" and read(folder + "/class").strip()[:6] in ("0x0300", "0x0302"):
            driver = os.path.basename(os.path.realpath(folder + "/driver")) if os.path.islink(folder + "/driver") else ""
            count += driver in ("nvidia", "")
    return count


def look_at(config: t.Mapping[str, t.Any], state: t.Mapping[str, t.Any]) -> Look:
    """One look at the host and its containers."""
    root = config["root"]
    started = re.search(r"^btime (\d+)", read("/proc/stat"), re.M)
    boot_id = f"{read('/proc/sys/kernel/random/boot_id').strip()} {started.group(1) if started else ''}".strip()
    messages, cursor, blind = kernel_messages(str(state.get("cursor") or "") if state.get("boot_id") == boot_id else "")
    status, listing = run([config["nvidia_smi"], "-L"])
    if status in _HEALTHY:
        # A lost GPU shows in a query's cells, with exit status 0; the listing may leave it out or not.
        dummy, cells = run([config["nvidia_smi"], "--query-gpu=index,memory.total,temperature.gpu", "--format=csv,noheader"])
        listing += "".join(line + "\n" for line in cells.splitlines() if "[" in line and ("lost" in line or "reset" in line))
    loaded = re.search(r"Kernel Module.*?\s(\d{3,}(?:\.\d+)+)\b", read(os.path.join(root, "proc/driver/nvidia/version")))
    status_disk, on_disk = run(["modinfo", "-F", "version", "nvidia"])
    containers = {}
    for name in config["containers"]:
        known, running = run([config["docker"], "inspect", "--format", "{{.State.Running}}", name])
        runs = known == 0 and running.strip() == "true"
        containers[name] = (runs, *(run([config["docker"], "exec", name, "nvidia-smi", "-L"]) if runs else (0, "")))
    return Look(
        now=time.time(),
        boot_id=boot_id,
        smi_status=status,
        smi_text=listing,
        expected=gpus_on_bus(root),
        loaded=loaded.group(1) if loaded else "",
        on_disk=on_disk.strip() if status_disk == 0 else "",
        xids=parse_xids(messages),
        cursor=cursor,
        containers=containers,
        blind=blind,
    )


def write(path: str, text: str) -> None:
    """Replace a file in one step: who reads it, node_exporter as well, never sees half of it."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".gpu-watchdog.")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.chmod(temporary, 0o644)
    os.rename(temporary, path)


def main(argv: t.Sequence[str]) -> int:
    """``gpu-watchdog CONFIG``: look once. Ends with 0 whatever the GPUs are like; what is wrong stands in the verdict."""
    config = dict(DEFAULTS, **json.loads(read(argv[1]) or "{}"))
    kept = os.path.join(config["state_dir"], "state.json")
    try:
        state = json.loads(read(kept) or "{}")
    except ValueError:
        state = {}
    look = look_at(config, state)
    decision = decide(look, state, config)
    # Kept before anything is restarted: a watchdog that is killed meanwhile must not forget it.
    write(kept, json.dumps(decision.state, indent=1, sort_keys=True) + "\n")
    for name in decision.restarts:
        sys.stdout.write(f"restarting {name}: it lost its GPUs\n")
        status, said = run([config["docker"], "restart", "--time", "60", name], 180.0)
        if status != 0:
            decision.verdicts.append(verdict("container_lost", FAIL, f"docker restart {name} failed: {said.strip()[-200:]}", "Restart it by hand."))
    bad = [entry for entry in decision.verdicts if entry["status"] in (WARN, FAIL)]
    status_word = FAIL if any(entry["status"] == FAIL for entry in bad) else WARN if bad else OK
    document = {"about": "Written by the GPU watchdog at each look.", "at": round(look.now), "status": status_word, "verdicts": decision.verdicts}
    write(os.path.join(config["state_dir"], "verdict.json"), json.dumps(document, indent=1) + "\n")
    if config["metrics_dir"]:
        write(os.path.join(config["metrics_dir"], "llmops_gpu.prom"), metrics(decision, look))
    for entry in bad:
        sys.stdout.write(f"{entry['status']}: {entry['message']} {entry['remedy']}".rstrip() + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv))
