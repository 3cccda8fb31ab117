"""What docker_daemon_config makes of generated files, held against a real dockerd's own ``--validate`` (Docker 26.1, out of Debian's package)."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from tests.fleet.checks.playbook import ROOT
from tests.fleet.config import Settings

CASES = int(os.environ.get("LLMOPS_DAEMON_CASES", "200"))
# Keys of people and other programs, all known to this dockerd: it takes no others.
FOREIGN = {
    "bip": ["192.168.200.1/24"],
    "data-root": ["/srv/docker"],
    "default-ulimits": [{"nofile": {"Name": "nofile", "Hard": 64000, "Soft": 64000}}],
    "proxies": [{"http-proxy": "http://user:pw@p:1"}],
    "storage-driver": ["overlay2"],
    "userland-proxy": [True, False],
}


def load() -> ModuleType:
    """The generator of the unit tests, so that both see the same files."""
    spec = importlib.util.spec_from_file_location("docker_apply_cases", ROOT / "tests/unit/plugins/module_utils/test_docker_apply.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dockerd")
    debs = sorted((Settings.from_environment(os.environ).cache / "debian-docker").glob("docker.io_26*.deb"))
    if not debs:
        pytest.skip("Debian 13's docker.io is not in the fleet's cache yet: python -m tests.fleet prepare")
    subprocess.run(["dpkg-deb", "-x", debs[-1], folder], check=True)
    return folder / "usr/sbin/dockerd"


def validate(dockerd: Path, file: Path) -> str:
    done = subprocess.run([dockerd, "--validate", "--config-file", file], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr.strip()


def test_the_real_dockerd_knows_what_is_wrong(dockerd: Path, tmp_path: Path) -> None:
    (tmp_path / "daemon.json").write_text('{"registry-mirrors": ["https://a"], "live-restore": "yes"}')
    assert validate(dockerd, tmp_path / "daemon.json")


def test_what_is_written_validates_and_so_does_what_is_left(dockerd: Path, tmp_path: Path) -> None:
    cases = load()
    # What people write and dockerd refuses (a size that is a number) is for the unit tests alone.
    keys = {**cases.KEYS, "default-shm-size": ["1G", "64M"]}
    generator = random.Random(26)
    written = 0
    for number in range(CASES):
        path = tmp_path / str(number) / "daemon.json"
        path.parent.mkdir()
        start = {**cases.some(generator, FOREIGN, 0.5), **cases.some(generator, keys)}
        path.write_text(cases.as_file(generator, start), encoding="utf-8")
        assert not validate(dockerd, path), (start, validate(dockerd, path))
        host = cases.Dockerd(path, active=False, installed=False)
        for section in ("docker", "toolkit"):
            pool = keys if section == "docker" else {"runtimes": cases.KEYS["runtimes"][:2]}
            try:
                cases.ask(path, host, cases.some(generator, pool), section)
            except cases.DocumentError:  # two sections want one key
                continue
            written += 1
            assert not validate(dockerd, path), (json.loads(path.read_text(encoding="utf-8-sig")), validate(dockerd, path))
        for section in ("docker", "toolkit"):
            cases.ask(path, host, {}, section)
            assert not validate(dockerd, path)
    print(f"\n{CASES} files, {written} times written")
