"""A clone of the repository run as AWX runs it, by ansible-runner: what is found there, and what is handed on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fleet import Fleet
from tests.fleet.checks.playbook import ROOT, Run
from tests.tools.tree import wanted


@pytest.fixture(scope="module")
def job(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ansible-runner's folder for a job: the project, and the fleet's inventory."""
    folder = tmp_path_factory.mktemp("awx job")
    project = folder / "project"
    for name in [*wanted(), "collections/ansible_collections/llmops/dify_xinference"]:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, project / name, follow_symlinks=False)
    (folder / "inventory").mkdir()
    listed = subprocess.run(
        [Path(sys.executable).with_name("ansible-inventory"), "-i", fleet.inventory, "--list", "--export"], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    # AWX's inventory is a program that prints one document.
    program = folder / "inventory" / "hosts"
    program.write_text(f"#!/usr/bin/env python3\nprint({listed.stdout.decode()!r})\n")
    program.chmod(0o755)
    return folder


def run(job: Path, ident: str, playbook: str, *arguments: str) -> tuple[int, dict]:
    """The job's exit status and artifacts."""
    # What AWX sets, and nothing of the user's own.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment.update(ANSIBLE_COLLECTIONS_PATH=str(job / "requirements_collections"), ANSIBLE_HOST_KEY_CHECKING="False", ANSIBLE_FORCE_COLOR="True")
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    command = ["ansible-runner", "run", str(job), "--ident", ident, "--inventory", str(job / "inventory" / "hosts")]
    done = subprocess.run(
        [*command, "--playbook", playbook, "--cmdline", " ".join(arguments)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    artifacts: dict = {}
    for path in (job / "artifacts" / ident / "job_events").glob("*-*.json"):
        event = json.loads(path.read_text())
        if event["event"] == "playbook_on_stats":
            artifacts = event["event_data"]["artifact_data"]
    print(f"\n{playbook}: exit status {done.returncode}; {artifacts}")
    assert artifacts, done.stdout.decode()[-3000:]
    return done.returncode, artifacts


def test_preflight_as_a_job_names_the_hosts_that_fail(job: Path) -> None:
    status, artifacts = run(job, "preflight", "preflight.yml")
    assert status != 0
    assert artifacts["llmops_preflight"] == {"passed": False, "failed": ["broken"]}


def test_a_job_hands_on_where_the_platform_is(job: Path, fleet: Fleet, first: Run) -> None:
    status, artifacts = run(job, "report", "site.yml", "--limit", "gpu1,dify1", "--tags", "report,xinference,dify")
    report = artifacts["llmops_report"]
    assert report["passed"] and not report["failed"], "hosts that the limit left out have not failed"
    assert status == 0 and fleet.address("dify1") in report["dify_urls"]["dify1"] and fleet.address("gpu1") in report["xinference_urls"]["gpu1"], report
