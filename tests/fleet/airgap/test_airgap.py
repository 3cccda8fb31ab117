"""A bundle is made from the fleet's repositories; these are shut; bare hosts are installed from the bundle alone. The tests build on each other."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet import Fleet, images
from tests.fleet.checks.playbook import ROOT, Run, run_playbook
from tests.fleet.suite import suite_fleet

WORK = ROOT / ".cache" / "fleet-airgap"
BUNDLE = WORK / "bundle"
LOCK = WORK / "bundle.lock.json"
HOSTS = ("gpu1", "dify1")
SUITES = ("bookworm", "trixie")
OLD, NEW = "1.9.2", "1.16.1"
UPSTREAMS = "hub nginx docker-registry"

HUB = """
set -e
sudo rm -rf /srv/hub; sudo mkdir -p /srv/hub
sudo tar xzf /srv/www/archives/tiny-models.tar.gz -C /srv/hub
sudo chmod -R a+rX /srv/hub
cd /srv/hub/tiny-embedding
find . -type f ! -name SHA256SUMS | sed 's#^./##' | sort | xargs sha256sum | sudo tee SHA256SUMS >/dev/null
sudo systemctl stop hub 2>/dev/null || true
sudo systemd-run --unit=hub python3 -m http.server 8090 -d /srv/hub
"""


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    WORK.mkdir(parents=True, exist_ok=True)
    with suite_fleet("airgap", "airgap.yml") as made:
        images.ensure(f"http://{made.services_address()}:5000")
        made.ssh("svc", HUB, check=True)
        yield made


def play(fleet: Fleet, name: str, playbook: str, *arguments: str, version: str = OLD) -> Run:
    run = run_playbook(fleet.inventory, playbook, "-e", f"bundle={BUNDLE}", "-e", f"dify_version={version}", *arguments, log=WORK / f"{name}.log")
    print(f"\n{name}: exit status {run.rc} after {run.seconds:.0f} s")
    return run


def build(fleet: Fleet, name: str, monkeypatch: pytest.MonkeyPatch, *arguments: str, version: str = OLD) -> Run:
    monkeypatch.setenv("http_proxy", f"http://{fleet.services_address()}:3142")
    monkeypatch.setenv("no_proxy", fleet.services_address())
    # Where a host's own packages come from, over the fleet's apt proxy: each is fetched once for all runs.
    ask = "apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/*$'"
    url = fleet.ssh("gpu1", ask, check=True).stdout.strip()
    sources = {f"debian-{suite}": [{"url": url, "suite": suite, "components": ["main"]}] for suite in SUITES}
    settings = {"bundle_systems": list(sources), "bundle_distribution_sources": sources, "bundle_lock": str(LOCK)}
    return play(fleet, name, "bundle.yml", "-e", json.dumps(settings), *arguments, version=version)


def changed(run: Run) -> dict[str, int]:
    return {host: recap.changed for host, recap in run.recap.items()}


def test_a_bundle_is_made_and_made_again_without_a_change(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(BUNDLE, ignore_errors=True)
    LOCK.unlink(missing_ok=True)
    check = build(fleet, "bundle-check", monkeypatch, "--check")
    assert check.rc == 0 and sum(changed(check).values()) == 1, check.text[-3000:]
    assert not BUNDLE.exists() and not LOCK.exists()
    first = build(fleet, "bundle", monkeypatch)
    assert first.rc == 0, first.text[-3000:]
    files = json.loads((BUNDLE / "bundle.json").read_text())["files"]
    print(f"{len(files)} files, {sum(entry['size'] for entry in files.values()) / 1e6:.0f} MB")
    before = {path: path.stat().st_mtime_ns for path in BUNDLE.rglob("*")}
    again = build(fleet, "bundle-again", monkeypatch)
    assert again.rc == 0 and not sum(changed(again).values()), again.text[-3000:]
    assert {path: path.stat().st_mtime_ns for path in BUNDLE.rglob("*")} == before


def test_the_lock_alone_makes_the_same_bundle_elsewhere(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = (BUNDLE / "bundle.sha256").read_text()
    shutil.rmtree(BUNDLE)
    lock = LOCK.read_text()
    run = build(fleet, "bundle-elsewhere", monkeypatch)
    assert run.rc == 0, run.text[-3000:]
    assert ((BUNDLE / "bundle.sha256").read_text(), LOCK.read_text()) == (wanted, lock)


def test_one_flipped_byte_is_refused_before_any_host_is_touched(fleet: Fleet) -> None:
    fleet.ssh("svc", f"sudo systemctl stop {UPSTREAMS}", check=True)
    layer = max((path for path in (BUNDLE / "images" / "blobs").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    _flip(layer)
    try:
        run = play(fleet, "flipped", "site.yml", "-vvv")
    finally:
        _flip(layer)
    assert run.rc != 0 and layer.name in run.said and "is damaged" in run.said, run.text[-3000:]
    assert not any(run.module_calls(fleet.address(host)) for host in HOSTS)
    assert "SSH: EXEC" not in run.text


def test_the_preflight_of_bare_hosts_misses_nothing_outside(fleet: Fleet, tmp_path: Path) -> None:
    written = tmp_path / "preflight.json"
    outside = {"gpu_preflight_json": str(written), "gpu_preflight_model_hubs": [f"http://{fleet.services_address()}:8090"]}
    run = play(fleet, "preflight", "preflight.yml", "-e", json.dumps({"gpu_preflight_json": str(written)}))
    assert run.rc == 0, run.text[-3000:]
    alone = run_playbook(fleet.inventory, "preflight.yml", "-e", json.dumps(outside), log=WORK / "preflight-without.log")
    assert alone.rc != 0, "without the bundle, what is shut is missed: the test can fail"


def test_bare_hosts_are_installed_from_the_bundle_alone(fleet: Fleet) -> None:
    run = play(fleet, "site", "site.yml")
    assert run.rc == 0, run.text[-4000:]
    assert fleet.ssh("svc", "ss -ltn | grep -cE ':(80|3142|5000|8090) '").stdout.strip() == "0", "an upstream is not shut"
    locked = json.loads(LOCK.read_text())["images"]
    seen = set()
    for host in HOSTS:
        listed = fleet.ssh(host, "sudo docker image ls --digests --format '{{.Repository}}:{{.Tag}} {{.Digest}}'", check=True).stdout.split("\n")
        seen |= {tuple(line.split(" ")) for line in listed if line}
    assert seen == set(locked.items()), "images have the digests that they have upstream"
    again = play(fleet, "site-again", "site.yml")
    assert again.rc == 0 and not sum(changed(again).values()), again.text[-4000:]


@pytest.mark.parametrize("walk", ["weights", "pull", "models", "verify"])
def test_every_other_walk_sees_the_same_sources(fleet: Fleet, walk: str) -> None:
    run = play(fleet, walk, f"{walk}.yml")
    assert run.rc == 0 and not sum(changed(run).values()), run.text[-4000:]


def test_who_is_not_of_the_fleet_gets_nothing(fleet: Fleet) -> None:
    ask = f"curl -s -o /dev/null -w '%{{http_code}}' http://{fleet.address('dify1')}:5080/v2/"
    assert fleet.ssh("svc", ask).stdout == "403"
    assert fleet.ssh("gpu1", ask).stdout == "200"


def test_a_newer_dify_comes_with_a_newer_bundle(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.ssh("svc", f"sudo systemctl start nginx docker-registry; {HUB}", check=True)
    before = json.loads(LOCK.read_text())
    newer = build(fleet, "bundle-newer", monkeypatch, version=NEW)
    assert newer.rc == 0, newer.text[-3000:]
    after = json.loads(LOCK.read_text())
    assert after["debs"] == before["debs"] and any(NEW in name for name in after["images"]) and not any(OLD in name for name in after["images"])
    fleet.ssh("svc", f"sudo systemctl stop {UPSTREAMS}", check=True)
    upgraded = play(fleet, "upgrade", "upgrade.yml", "-e", "dify_backup_key=a-key-for-a-bundle", "-e", "dify_upgrade_image_space_gib=1", version=NEW)
    assert upgraded.rc == 0, upgraded.text[-4000:]
    again = play(fleet, "site-upgraded", "site.yml", version=NEW)
    assert again.rc == 0 and not sum(changed(again).values()), again.text[-4000:]


def _flip(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size // 2)
        byte = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte[0] ^ 1]))
