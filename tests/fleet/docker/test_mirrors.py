"""Twelve mirrors that misbehave, each before a good one: the class that the probe gives it, and what real pulls make of it."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from tests.fleet import Fleet
from tests.fleet.standins.registry import misbehaving
from tests.fleet.suite import Play

# kind: class, and whether it stays in the configuration
CLASSES = {
    "down": ("dead", False),
    "token-403": ("denied", False),
    "401": ("denied", False),
    "404": ("missing", True),
    "429": ("throttled", True),
    "500": ("dead", False),
    "html": ("html", False),
    "wrong-bytes": ("wrong", False),
    "short-blob": ("wrong", False),
    "blob-403": ("denied", False),
    "slow": ("slow", True),
    "wrong-repository": ("wrong", False),
}


@pytest.fixture(scope="module")
def digest(fleet: Fleet, engines: None) -> str:
    """Of the image that is pulled; the misbehaving registries run then."""
    program = Path(misbehaving.__file__).read_text()
    fleet.ssh("svc", f"cat >/tmp/misbehaving.py <<'END'\n{program}\nEND", check=True)
    fleet.ssh(
        "svc",
        "sudo systemctl stop misbehaving 2>/dev/null;"
        " sudo systemd-run --unit=misbehaving python3 /tmp/misbehaving.py --upstream http://127.0.0.1:5000 --delay 1.5",
        check=True,
    )
    request = urllib.request.Request(
        f"http://{fleet.services_address()}:5000/v2/library/busybox/manifests/latest",
        headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
    )
    with urllib.request.urlopen(request) as answer:
        return str(answer.headers["Docker-Content-Digest"])


@pytest.mark.parametrize(("store", "hosts"), [("graphdriver", ["old", "new"]), ("containerd", ["new"])])
def test_the_probe_keeps_what_a_pull_survives(play: Play, digest: str, tmp_path: Path, store: str, hosts: list[str]) -> None:
    kinds = ["-e", f"store={store}", "-e", f"image_digest={digest}", "-e", f"outcome_folder={tmp_path}"]
    play("tests/fleet/docker/mirrors.yml", "--limit", ",".join(hosts), *kinds)
    wrong = []
    for host in hosts:
        print(f"\n{host}, {store} store\n{'mirror':18}{'class':11}{'kept':6}{'pull through it and a good one':52}through what is kept")
        for entry in json.loads((tmp_path / f"{store}-{host}.json").read_text()):
            kept = entry["judged"]["url"] in entry["usable"]
            raw, resulting = (_say(entry[name], digest) for name in ("raw", "resulting"))
            print(f"{entry['kind']:18}{entry['judged']['verdict']:11}{'yes' if kept else 'no':6}{raw:52}{resulting}")
            if (entry["judged"]["verdict"], kept) != CLASSES[entry["kind"]] or not resulting.startswith("works"):
                wrong.append((host, entry))
    assert not wrong


def _say(line: str, digest: str) -> str:
    code, seconds, found, _words = (line.split(" ", 3) + [""])[:4]
    if code != "0":
        return f"FAILS after {seconds} s"
    return f"works, {seconds} s" if found == digest else f"ANOTHER IMAGE, {seconds} s"
