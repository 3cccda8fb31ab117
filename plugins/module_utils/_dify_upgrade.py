# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""What lies between two releases of Dify, and where an upgrade stands. No input or output.

Source: Dify's compose files, migration guides and issues; 0.15.8 to 1.16.1 and 1.9.2 to 1.16.1 were run.
"""

from __future__ import annotations

import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_env import SECRET_VARIABLES
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_versions import version_key

HIDDEN_WORDS = ("PASSWORD", "SECRET", "TOKEN", "_KEY")


class Step(t.NamedTuple):
    """A release from which on something is different.

    ``ask``: data needs a hand afterwards, so somebody has to agree to it. ``command``: what the new version's api container has for the old
    data, run once after it is healthy and before models are registered.
    """

    id: str
    since: tuple[int, int, int, int]
    text: str
    ask: bool = False
    vector_store: str = ""  # only where this vector store is in use
    command: tuple[str, ...] = ()


STEPS = (
    Step(
        "plugins",
        (1, 0, 0, 0),
        "providers become plugins: Xinference's plugin is installed, the data is migrated, and its models, unusable until then, are registered "
        "again; for other providers install their plugins afterwards and enter their credentials again",
        ask=True,
        command=("flask", "migrate-data-for-plugin"),
    ),
    Step(
        "weaviate",
        (1, 9, 2, 0),
        "weaviate goes from 1.19 to 1.27 with another client: knowledge bases made before must be indexed again, or migrated with the script of "
        "Dify's documentation; 1.19 cannot read the files afterwards",
        ask=True,
        vector_store="weaviate",
    ),
    Step("database-service", (1, 10, 1, 0), "the service db is now db_postgres, on the same files; COMPOSE_PROFILES names it"),
    Step("storage-owner", (1, 10, 1, 0), "the api image runs as user 1001: the storage folder is handed to it"),
    Step("env-layout", (1, 14, 1, 0), "containers read .env whole instead of the names of a list; SECRET_KEY has no public default any more"),
    Step("agents", (1, 16, 0, 0), "three new services for agents, with secrets of their own"),
)


def steps_between(running: str, wanted: str, vector_store: str) -> list[Step]:
    """What an upgrade passes, in order."""
    before, after = version_key(running), version_key(wanted)
    return [step for step in STEPS if before < step.since <= after and step.vector_store in ("", vector_store)]


def to_migrate(state: dict[str, t.Any]) -> list[Step]:
    """Steps of the upgrade under way (what is remembered of it, ``{}`` for none) whose command has not been run to its end."""
    if not state:
        return []
    steps = steps_between(str(state["from"]), str(state["to"]), str(state.get("vector_store", "")))
    return [step for step in steps if step.command and step.id not in state.get("migrated", [])]


def refusal(running: str, wanted: str, steps: list[Step], accepted: t.Iterable[str]) -> str | None:
    """Why this upgrade is not begun; None when it may be."""
    if version_key(wanted) < version_key(running):
        return (
            f"Dify {running} runs, and {wanted} is older: databases have no way back. Restore a backup of {wanted} (restore.yml), "
            f"or set dify_version to {running} or newer."
        )
    open_steps = [step for step in steps if step.ask and step.id not in set(accepted)]
    if open_steps:
        said = "; ".join(f"{step.id}: {step.text}" for step in open_steps)
        return (
            f"From {running} to {wanted} something needs your hand afterwards. {said}. When that is what you want: "
            f"-e '{{\"dify_upgrade_accept\": [{', '.join(chr(34) + step.id + chr(34) for step in open_steps)}]}}'. Nothing was changed."
        )
    return None


def env_difference(old: dict[str, str], new: dict[str, str]) -> dict[str, list[str]]:
    """Lines for a person: ``added``, ``removed`` and ``changed`` variables; of secrets only the names."""

    def shown(name: str, value: str) -> str:
        return "(hidden)" if name in SECRET_VARIABLES or any(word in name for word in HIDDEN_WORDS) else value

    return {
        "added": [f"{name}={shown(name, new[name])}" for name in sorted(set(new) - set(old))],
        "removed": [f"{name}={shown(name, old[name])}" for name in sorted(set(old) - set(new))],
        "changed": [f"{name}: {shown(name, old[name])} -> {shown(name, new[name])}" for name in sorted(set(old) & set(new)) if old[name] != new[name]],
    }


def next_phase(state: dict[str, t.Any], running: str, wanted: str) -> str:
    """What an upgrade run does first: ``nothing``, ``begin``, ``go_on`` (the backup is made) or ``roll_back`` (that was under way).

    ``state``: what an interrupted run left, ``{}`` for none.
    """
    if state.get("phase") == "rolling-back":
        return "roll_back"
    if state.get("phase") == "switching":
        return "go_on" if state.get("to") == wanted else "other"
    return "nothing" if version_key(running) == version_key(wanted) else "begin"


__all__ = ["STEPS", "Step", "env_difference", "next_phase", "refusal", "steps_between", "to_migrate"]
