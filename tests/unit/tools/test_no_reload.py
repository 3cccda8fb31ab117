"""No role makes systemd reload where that can take GPUs from running containers."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]
# On hosts without model servers, or where the reload is the only way and is said so.
ELSEWHERE = {
    "roles/registry_cache/tasks/configure.yml": "the cache's host",
    "roles/bundle/tasks/server.yml": "the bundle's host",
    "roles/docker/tasks/proxies.yml": "Docker before 23.0, whose proxies are the unit's",
}
GUARDS = ("__xinference_models_may_reload",)


def tasks(node):
    """Every mapping of a file of tasks, blocks and their rescues included."""
    if isinstance(node, list):
        for entry in node:
            yield from tasks(entry)
    elif isinstance(node, dict):
        yield node
        for key in ("block", "rescue", "always"):
            yield from tasks(node.get(key))


def test_reloads_are_guarded_and_units_are_not_enabled_through_systemctl() -> None:
    found = {}
    for path in sorted((ROOT / "roles").glob("*/tasks/**/*.yml")):
        name = str(path.relative_to(ROOT))
        for task in tasks(yaml.safe_load(path.read_text())):
            settings = task.get("ansible.builtin.systemd_service") or task.get("ansible.builtin.systemd") or {}
            reload = str(settings.get("daemon_reload", "false"))
            command = str(task.get("ansible.builtin.command", "")) + str(task.get("ansible.builtin.shell", ""))
            if (reload.lower() not in ("false", "no") and not any(guard in reload for guard in GUARDS)) or re.search("daemon-re(load|exec)", command):
                found[name] = task["name"]
            # Enabling a unit reloads systemd behind the scenes. Packages' own units are enabled by their packages, so that nothing is left to do.
            if "enabled" in settings and str(settings.get("name", "")).startswith(("xinference", "llmops-gpu")):
                found[name] = task["name"]
    assert set(found) == set(ELSEWHERE), found
