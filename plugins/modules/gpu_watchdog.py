#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_watchdog
short_description: Keep a watchdog on a GPU host that notices lost GPUs, and restarts only what helps
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Installs one Python program, its settings, and a hardened systemd service with a timer, in one call.
  - At each look the watchdog tells lost GPUs, Xid errors, a driver that does not match, and containers that lost their GPUs.
    It restarts a container only when that container alone lost its GPUs, with a back-off and not more often than allowed.
  - Never runs C(systemctl daemon-reload) unless O(allow_reload) says that nothing can get lost by it. New units need none.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes.converging_module
options:
  state:
    description: Whether the watchdog is there and runs.
    type: str
    choices: [present, absent]
    default: present
  containers:
    description: Names of the containers that have GPUs.
    type: list
    elements: str
    default: [xinference]
  interval:
    description: Seconds between two looks.
    type: int
    default: 60
  restart:
    description: Whether a container that lost its GPUs is restarted.
    type: bool
    default: true
  min_interval:
    description: Seconds between the first two restarts of a container; doubled with each further one of the last day.
    type: int
    default: 300
  max_restarts:
    description: Restarts of a container in a day.
    type: int
    default: 4
  metrics_dir:
    description: Folder of node_exporter's textfile collector. No metrics are written when it is empty.
    type: str
    default: ""
  allow_reload:
    description: Whether systemd may be reloaded when a unit that it knows has changed. If not, the change waits for the next reload or start of the host.
    type: bool
    default: true
  root:
    description: Folder below which the watchdog looks for C(proc) and C(sys), for tests.
    type: path
    default: /
"""

EXAMPLES = r"""
- name: Watch the GPUs
  llmops.dify_xinference.gpu_watchdog:
    containers: [xinference]
    metrics_dir: /var/lib/prometheus/node-exporter
"""

RETURN = r"""
verdict:
  description: What the watchdog found at its last look; empty when it has not looked yet.
  returned: always
  type: dict
  sample:
    at: 1795537200
    status: ok
    verdicts:
      - {id: host, status: ok, message: "2 of 2 GPUs answer, driver 595.71.05.", remedy: ""}
pending:
  description: What waits for systemd's next reload; empty when nothing does.
  returned: always
  type: str
  sample: ""
"""

import json
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _gpu_watchdog as watchdog
from ansible_collections.llmops.dify_xinference.plugins.module_utils._difference import Difference
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_host import command, read_file, write_file

NAME = "llmops-gpu-watchdog"
PROGRAM = "/usr/local/lib/llmops/gpu-watchdog.py"
SETTINGS = "/etc/llmops/gpu-watchdog.json"
SERVICE = f"/etc/systemd/system/{NAME}.service"
TIMER = f"/etc/systemd/system/{NAME}.timer"
LINK = f"/etc/systemd/system/timers.target.wants/{NAME}.timer"
# No ProtectKernelModules: it would hide the modules from modinfo. The capabilities are gone anyway.
_SERVICE = """# Written by Ansible (llmops.dify_xinference.gpu_watchdog); changes made here are lost.
[Unit]
Description=Look after the GPUs, and restart containers that lost them
After=docker.service

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 -I {program} {settings}
TimeoutStartSec=900
StateDirectory=llmops/gpu-watchdog
{writable}CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH
LockPersonality=yes
NoNewPrivileges=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelTunables=yes
ProtectSystem=strict
RestrictAddressFamilies=AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
"""
_TIMER = """# Written by Ansible (llmops.dify_xinference.gpu_watchdog); changes made here are lost.
[Unit]
Description=Look after the GPUs

[Timer]
OnActiveSec=5
OnBootSec=120
OnUnitInactiveSec={interval}
AccuracySec=5

[Install]
WantedBy=timers.target
"""


def source() -> str:
    """The watchdog's own text, also out of the archive that a module runs from."""
    loader = watchdog.__loader__
    text = loader.get_source(watchdog.__name__) if hasattr(loader, "get_source") else None
    if not text:
        raise OSError("the watchdog's source cannot be read from the module")
    return str(text)


def wanted_files(params: dict[str, t.Any]) -> dict[str, str]:
    """Absolute path -> text of all that is on the host."""
    settings = {key: params[key] for key in ("containers", "restart", "min_interval", "max_restarts", "metrics_dir", "root")}
    writable = f"ReadWritePaths=-{params['metrics_dir']}\n" if params["metrics_dir"] else ""
    return {
        PROGRAM: source(),
        SETTINGS: json.dumps(settings, indent=2, sort_keys=True) + "\n",
        SERVICE: _SERVICE.format(program=PROGRAM, settings=SETTINGS, writable=writable),
        TIMER: _TIMER.format(interval=params["interval"]),
    }


def last_verdict() -> dict[str, t.Any]:
    try:
        found = json.loads(read_file(os.path.join(watchdog.DEFAULTS["state_dir"], "verdict.json")) or "{}")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def systemctl(module: AnsibleModule, *words: str) -> None:
    status, out = command(["systemctl", *words], 60.0)
    if status != 0:
        module.fail_json(msg=f"systemctl {' '.join(words)} failed ({status}): {out}. Look at journalctl -u {NAME}.")


def remove(module: AnsibleModule) -> None:
    difference = Difference()
    for path in (LINK, TIMER, SERVICE, PROGRAM, SETTINGS):
        difference.add(path, None, "there" if os.path.lexists(path) else None)
    if difference.changed and not module.check_mode:
        command(["systemctl", "stop", f"{NAME}.timer"])
        for path in difference.names:
            os.unlink(path)
        # systemd forgets units whose files are gone and that nothing uses; a reload is not worth a GPU.
    module.exit_json(changed=difference.changed, diff=difference.diff(), verdict={}, pending="")


def install(module: AnsibleModule) -> None:
    params = module.params
    difference = Difference()
    files = wanted_files(params)
    found = {path: read_file(path) for path in files}
    for path, text in files.items():
        if path == PROGRAM and found[path] is not None:
            # A whole program would drown the rest of the diff.
            difference.add(path, "this version", "this version" if found[path] == text else "another version")
        else:
            difference.add(path, "this version" if path == PROGRAM else text, found[path])
    folder = params["metrics_dir"]
    if folder:
        difference.add(folder, "a folder", "a folder" if os.path.isdir(folder) else None)
    difference.add(LINK, TIMER, os.readlink(LINK) if os.path.islink(LINK) else None)
    active = command(["systemctl", "is-active", f"{NAME}.timer"])[1]
    difference.add("timer", "active", active)
    pending = ""
    known = [path for path in (SERVICE, TIMER) if found[path] is not None and found[path] != files[path]]
    if difference.changed and not module.check_mode:
        for path, text in files.items():
            if found[path] != text:
                write_file(path, text)
        if folder:
            os.makedirs(folder, mode=0o755, exist_ok=True)
        if not os.path.islink(LINK):
            # `systemctl enable` would reload systemd, which takes the GPUs from containers on some hosts.
            os.makedirs(os.path.dirname(LINK), mode=0o755, exist_ok=True)
            os.symlink(TIMER, LINK)
        if known and params["allow_reload"]:
            systemctl(module, "daemon-reload")
        elif known:
            pending = f"{', '.join(known)} changed; systemd takes it over at its next reload, which would take the GPUs from containers now."
        systemctl(module, "restart" if TIMER in known and not pending else "start", f"{NAME}.timer")
    module.exit_json(changed=difference.changed, diff=difference.diff(), verdict=last_verdict(), pending=pending)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "containers": {"type": "list", "elements": "str", "default": ["xinference"]},
            "interval": {"type": "int", "default": 60},
            "restart": {"type": "bool", "default": True},
            "min_interval": {"type": "int", "default": 300},
            "max_restarts": {"type": "int", "default": 4},
            "metrics_dir": {"type": "str", "default": ""},
            "allow_reload": {"type": "bool", "default": True},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    try:
        if module.params["state"] == "absent":
            remove(module)
        else:
            install(module)
    except OSError as error:
        module.fail_json(msg=f"The watchdog cannot be brought to this host: {error}. Run with become: true.")


if __name__ == "__main__":
    main()
