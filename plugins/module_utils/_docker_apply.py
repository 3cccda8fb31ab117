# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Bring daemon.json and the running dockerd to what one section wants: the steps in their order, each safe to be interrupted at."""

from __future__ import annotations

import json
import os
import time
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils import _docker_daemon as daemon
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _docker_plan as planning
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_checks import old_engines_refuse, own_checks
from ansible_collections.llmops.dify_xinference.plugins.module_utils._docker_host import DockerHost, HostError, back_up, read_file, write_file


class Request(t.NamedTuple):
    """One call of the module."""

    section: str
    config: t.Dict[str, t.Any]
    path: str = "/etc/docker/daemon.json"
    owners_path: str = "/etc/docker/daemon.owners.json"
    manage_service: bool = True
    allow_start: bool = True
    allow_restart: bool = True
    restart_after: t.Tuple[str, ...] = ()
    restart_reason: str = ""
    repair: bool = False
    allow_hidden_images: bool = False
    check_mode: bool = False
    reload_timeout: float = 10.0


class ApplyError(Exception):
    """It did not work; the text says what, and in what state things were left."""


class _RestartRefused(HostError):
    """The restart was not even tried: dockerd still runs, with its containers."""


class _Record:
    """The sidecar: owners, files that a dockerd found at its start, keys that wait for a restart, a reload under way."""

    def __init__(self, path: str) -> None:
        self.path = path
        text = read_file(path) or ""
        self.sections = daemon.parse_owners(text, path)
        extra = json.loads(text) if text.strip() else {}
        self.seen: dict[str, float] = dict(extra.get("seen_by_dockerd") or {})
        self.waiting: dict[str, t.Any] = dict(extra.get("waiting_for_restart") or {})
        self.transition: dict[str, t.Any] = dict(extra.get("transition") or {})
        self._written = text

    def save(self) -> None:
        document = {
            "about": "Who owns which key of daemon.json, so that a role can take back its own and nothing else. "
            "Written by llmops.dify_xinference.docker_daemon_config.",
            "version": daemon.OWNERS_VERSION,
            "sections": self.sections,
            "seen_by_dockerd": self.seen,
            "waiting_for_restart": self.waiting,
            "transition": self.transition,
        }
        text = daemon.render(document)
        if text != self._written:
            write_file(self.path, text)
            self._written = text


def _load(request: Request, record: _Record, warnings: list[str]) -> tuple[str | None, daemon.Document, bool]:
    """Text and document found, and whether it has to be repaired. What an interrupted reload left in the file is taken out."""
    text = read_file(request.path)
    try:
        found = daemon.parse_document(text or "", request.path)
    except daemon.DocumentError:
        if not request.repair:
            raise
        return text, {}, True
    flaw = old_engines_refuse(text) if text is not None else ""
    if flaw and not request.repair:
        warnings.append(f"{request.path} {flaw}, which Docker before 23.0 does not start with. Set repair: true to have it written anew.")
    for key, value in record.transition.items():
        if key in found and found[key] == value:
            del found[key]
    return text, found, bool(flaw) and request.repair


def _changed_at(paths: t.Iterable[str]) -> dict[str, float]:
    found = {}
    for path in paths:
        try:
            found[path] = os.stat(path).st_ctime
        except OSError:
            continue
    return found


def _mtime(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _await_loaded(host: DockerHost, document: daemon.Document, unit: planning.Unit, timeout: float) -> dict[str, tuple[t.Any, t.Any]]:
    """Wait until ``/info`` shows the document: a reload that dockerd refuses is logged as done, so only this tells."""
    deadline = time.monotonic() + timeout
    while True:
        missing = planning.not_loaded(document, host.wait_for_info(), unit.flags)
        if not missing or time.monotonic() >= deadline:
            return missing
        time.sleep(0.2)


def _describe(missing: t.Mapping[str, tuple[t.Any, t.Any]]) -> str:
    return "; ".join(f"{key} is {json.dumps(running)}, not {json.dumps(wanted)}" for key, (wanted, running) in sorted(missing.items()))


def _restart(host: DockerHost, request: Request, document: daemon.Document, unit: planning.Unit, containers: int) -> None:
    """Restart dockerd, with the containers kept alive where they can be."""
    wants_live = bool(document.get("live-restore")) or "live-restore" in unit.flags
    if containers and wants_live:
        # The file is loaded first: only a dockerd that knows of live-restore leaves its containers alone.
        host.act("reload")
        _await_loaded(host, document, unit, request.reload_timeout)
        if not host.info().get("LiveRestoreEnabled"):
            raise _RestartRefused(f"live-restore could not be switched on, so a restart would stop {containers} running containers. {host.last_errors()}")
    elif containers and host.info().get("LiveRestoreEnabled"):
        # It is on its way out, and serves once more: dockerd stops its containers when it ends, and when it starts, without it.
        write_file(request.path, daemon.render({**document, "live-restore": True}))
        host.act("restart")
        host.wait_for_info()
        write_file(request.path, daemon.render({**document, "live-restore": False}))
        host.act("reload")
        _await_loaded(host, {**document, "live-restore": False}, unit, request.reload_timeout)
        write_file(request.path, daemon.render(document))
        return
    host.act("restart")
    host.wait_for_info()


def _shown(text: str) -> str:
    return daemon.without_credentials(text).encode("utf-8", "backslashreplace").decode("utf-8")


def _refusal(request: Request, host: DockerHost, document: daemon.Document, found: daemon.Document, info: t.Mapping[str, t.Any]) -> str:
    """Why this engine, with what it holds now, may not get this file; empty when it may."""
    missing = [str(name) for name in document.get("authorization-plugins") or [] if not host.knows_plugin(str(name))]
    if missing:
        return f"there is no authorization plugin {', '.join(missing)}, and dockerd would end over it. Install and start it first."
    if document.get("live-restore") and (info.get("Swarm") or {}).get("LocalNodeState") == "active":
        return "this host is in a swarm, which dockerd does not start with when live-restore is on. Set docker_live_restore: false for it."
    if request.allow_hidden_images:
        return ""
    return planning.hidden_store(document, found, info)


def apply(request: Request, host: DockerHost) -> dict[str, t.Any]:
    """Do it, and return the module's result. Raises :class:`ApplyError` and :class:`daemon.DocumentError`."""
    record = _Record(request.owners_path)
    warnings: list[str] = []
    text, found, repaired = _load(request, record, warnings)
    merged = daemon.merge(found, record.sections, request.section, request.config)
    written = repaired or not daemon.same(merged.document, daemon.parse_document(text or "", request.path))
    unit = host.unit() if request.manage_service else planning.Unit(False, False, 0.0, {}, [])
    problems = own_checks(merged.document, unit.flags)
    after = daemon.render(merged.document)
    if problems and written:
        raise ApplyError(f"{request.path} was not changed, because dockerd would not take the result: {' '.join(problems)}")
    warnings += [f"{request.path}: {problem}" for problem in problems]
    if written:
        complaint = host.validate(after, unit, set(merged.document) - set(found))
        if complaint:
            raise ApplyError(f"{request.path} was not changed, because dockerd refuses the result: {complaint}")
    info: dict[str, t.Any] = {}
    unloaded: dict[str, tuple[t.Any, t.Any]] = {}
    waiting: list[str] = []
    if unit.active:
        try:
            info = host.wait_for_info(15.0)
        except HostError as error:
            raise ApplyError(f"Docker runs, but its state cannot be read: {error}. Nothing was changed. Run with become: true.") from error
        refusal = _refusal(request, host, merged.document, found, info) if written else ""
        if refusal:
            raise ApplyError(f"{request.path} was not changed: {refusal}")
        unloaded = planning.not_loaded(merged.document, info, unit.flags)
        if record.waiting.get("since", 0.0) > unit.started:
            waiting = list(record.waiting.get("keys", []))
        if _mtime(request.path) > unit.started:
            # A dockerd that started from this very file shows what it makes of it; asking it again would change nothing.
            waiting += planning.needs_restart_by_info(merged.document, info)
        # What the daemon still holds of keys that nobody wants: also from an interrupted run, or taken out by hand.
        merged = merged._replace(transition=daemon.transition_of({**dict.fromkeys(unloaded), **found}, merged.document))
    changed_at = _changed_at(request.restart_after)
    late = planning.late_files(unit.started, changed_at, record.seen) if unit.active else []
    change = daemon.cost(found, merged.document)
    decision = planning.decide(unit, written, change, unloaded, waiting, late, request.allow_start, request.allow_restart, request.restart_reason)
    containers = int(info.get("ContainersRunning") or 0)
    result: dict[str, t.Any] = {
        "changed": written or decision.action != planning.NONE,
        "actions": [decision.action],
        "reasons": decision.reasons,
        "pending": decision.pending,
        "config": json.loads(daemon.without_credentials(daemon.render(merged.document))),
        "backup_file": None,
        "containers_running": containers,
        "warnings": warnings,
        "diff": {
            "before_header": request.path,
            "after_header": request.path,
            "before": _shown(text or ""),
            "after": _shown(after if written else text or ""),
        },
        "engine": _engine_facts(info),
    }
    if request.check_mode:
        return result
    _carry_out(request, host, record, merged, decision, unit, text, written, change, containers, result)
    if unit.active or decision.action == planning.START:
        unit = host.unit()
        result["engine"] = _engine_facts(host.wait_for_info())
        # Remember which dockerd found the files, so that an upgrade of their package costs no restart.
        for path, when in changed_at.items():
            found_it = when <= unit.started + planning.CLOCK_GRAIN or path not in late
            if found_it and abs(record.seen.get(path, 0.0) - unit.started) > planning.CLOCK_GRAIN:
                record.seen[path] = round(unit.started, 1)
        record.save()
    return result


def _carry_out(
    request: Request,
    host: DockerHost,
    record: _Record,
    merged: daemon.Merge,
    decision: planning.Decision,
    unit: planning.Unit,
    text: str | None,
    written: bool,
    change: daemon.Cost,
    containers: int,
    result: dict[str, t.Any],
) -> None:
    old_sections = record.sections
    record.sections = merged.owners
    undone = {key: value for key, value in merged.transition.items() if key not in merged.document}
    record.transition = undone if decision.action in (planning.RELOAD, planning.RESTART) else {}
    if change.restart:
        record.waiting = {"since": time.time(), "keys": change.restart}
    touched = written or bool(record.transition)
    if touched or merged.owners != old_sections:
        # The record first: a key in it that is not in the file yet harms nothing, a key nobody remembers stays for ever.
        record.save()
    if written:
        result["backup_file"] = back_up(request.path)
    if touched:
        write_file(request.path, daemon.render(merged.transition if record.transition else merged.document))
    try:
        if decision.action == planning.START:
            host.act("start")
            host.wait_for_info()
        elif decision.action == planning.RELOAD:
            begun = time.time()
            host.act("reload")
            missing = _await_loaded(host, merged.transition, unit, request.reload_timeout)
            # Half of what a reload applies shows in no answer of the engine; its log tells when it took none of it.
            errors = host.reload_errors(begun) or (host.last_errors() if missing else "")
            if missing or errors:
                raise HostError(f"dockerd did not take over the file{': ' if missing else ''}{_describe(missing)}. {errors}")
        elif decision.action == planning.RESTART:
            _restart(host, request, merged.transition, unit, containers)
    except HostError as error:
        if touched:
            went_down = decision.action in (planning.RESTART, planning.START) and not isinstance(error, _RestartRefused)
            _roll_back(request, host, record, old_sections, text, "restart" if went_down else "reload")
            raise ApplyError(f"{error} The old {request.path} was put back; the new one was {result['config']!r}.".replace("\n", " ")) from error
        raise ApplyError(str(error)) from error
    if record.transition:
        write_file(request.path, daemon.render(merged.document))
        record.transition = {}
    if decision.action in (planning.RESTART, planning.START):
        record.waiting = {}
    record.save()


def _roll_back(request: Request, host: DockerHost, record: _Record, sections: daemon.Owners, text: str | None, verb: str) -> None:
    """Put the old file back, and bring dockerd up with it when it went down over the new one."""
    if text is None:
        os.unlink(os.path.realpath(request.path))
    else:
        write_file(request.path, text)
    record.sections, record.transition, record.waiting = sections, {}, {}
    record.save()
    try:
        # A reload that ended dockerd, as one over a missing plugin does, leaves nothing to reload.
        host.act(verb if host.unit().active else "restart")
    except HostError:
        # The first error is the one to tell; this one follows from it.
        pass


def _engine_facts(info: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The part of ``/info`` that roles decide by."""
    if not info:
        return {}
    return {
        "version": info.get("ServerVersion"),
        "live_restore": bool(info.get("LiveRestoreEnabled")),
        "runtimes": sorted(info.get("Runtimes") or {}),
        "default_runtime": info.get("DefaultRuntime"),
        "registry_mirrors": list((info.get("RegistryConfig") or {}).get("Mirrors") or []),
        "data_root": info.get("DockerRootDir"),
        "cgroup_driver": info.get("CgroupDriver"),
        "containerd_image_store": any(entry[:2] == ["driver-type", "io.containerd.snapshotter.v1"] for entry in info.get("DriverStatus") or []),
    }


__all__ = ["ApplyError", "Request", "apply"]
