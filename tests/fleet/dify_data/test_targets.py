"""Backups in a bucket and on another host: sent, kept, restored from there on a new host; and what a target that fails costs."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet import Fleet
from tests.fleet.dify_data import data
from tests.fleet.suite import Play
from tests.tools import s3_server

KEY = "a key for these tests only"
BACKUP = ["--limit", "dify1", "-e", f"dify_backup_key='{KEY}'"]
# On a host: the server on the controller's loopback, through SSH; nothing of it listens anywhere else.
PORT = 22390


def running(fleet: Fleet, play: Play) -> None:
    if not data.running_since(fleet, "dify1"):
        play("site.yml", "--limit", "gpu1,dify1")
        data.write_knowledge(fleet, "dify1", "kept")


@pytest.fixture(scope="module")
def bucket(fleet: Fleet) -> Iterator[dict[str, str]]:
    with s3_server.serve(PORT) as server:
        forward = ["-N", "-o", "ControlPath=none", "-o", "ExitOnForwardFailure=yes", "-R", f"127.0.0.1:{PORT}:127.0.0.1:{PORT}"]
        links = []
        for host in ("dify1", "dify2"):
            command = fleet.ssh_command(host)
            links.append(subprocess.Popen([*command[:-1], *forward, command[-1]], stdin=subprocess.DEVNULL))
        time.sleep(2)
        try:
            yield {**server._asdict(), "prefix": "dify/fleet"}
        finally:
            for link in links:
                link.terminate()
                link.wait(10)


@pytest.fixture(scope="module")
def folder(fleet: Fleet) -> dict[str, str]:
    """A folder of gpu1 that the two Dify hosts reach by a key that may do nothing else than rsync below it."""
    fleet.ssh("gpu1", "sudo apt-get install -y -qq rsync && sudo mkdir -p /srv/backups && sudo chown ops: /srv/backups", check=True, timeout=300)
    for host in ("dify1", "dify2"):
        make = "sudo sh -c '[ -e /root/.ssh/backup ] || ssh-keygen -q -t ed25519 -N \"\" -C backup -f /root/.ssh/backup; cat /root/.ssh/backup.pub'"
        public = fleet.ssh(host, f"sudo mkdir -p -m 700 /root/.ssh; {make}", check=True).stdout.strip()
        line = f'command="/usr/bin/rrsync /srv/backups",restrict {public}'
        fleet.ssh("gpu1", f"grep -qF '{public}' ~/.ssh/authorized_keys || echo '{line}' >> ~/.ssh/authorized_keys", check=True)
    words = "ssh -i /root/.ssh/backup -o BatchMode=yes -o StrictHostKeyChecking=accept-new"
    return {"dify_backup_rsync_target": f"ops@{fleet.address('gpu1')}:/", "dify_backup_rsync_command": words}


def arguments(target: str, bucket: dict[str, str], folder: dict[str, str], **other: object) -> list[str]:
    chosen: dict[str, object] = {"dify_backup_s3": bucket} if target == "s3" else dict(folder)
    return ["-e", json.dumps({**chosen, **other})]


@pytest.mark.parametrize("target", ["s3", "rsync"])
def test_a_backup_is_restored_from_the_target_on_a_new_host(
    fleet: Fleet, play: Play, bucket: dict[str, str], folder: dict[str, str], target: str, tmp_path: Path
) -> None:
    running(fleet, play)
    before = data.fingerprint(fleet, "dify1")
    chosen = arguments(target, bucket, folder, dify_backup_target_keep=1)
    # Everything that runs on the host meanwhile, by its command line and its environment.
    spy = "sudo sh -c 'while [ ! -e /tmp/enough ]; do ps eww -eo args; sleep 0.2; done > /tmp/seen'"
    with subprocess.Popen([*fleet.ssh_command("dify1"), f"sudo rm -f /tmp/enough; {spy}"], stdin=subprocess.DEVNULL) as watcher:
        play("backup.yml", *BACKUP, *chosen)
        run = play("backup.yml", *BACKUP, *chosen, "-vvv")
        fleet.ssh("dify1", "sudo touch /tmp/enough", check=True)
        watcher.wait(30)
    seen = fleet.ssh("dify1", "sudo cat /tmp/seen", check=True, timeout=300).stdout
    assert "pg_dump" in seen
    for secret in (bucket["secret_key"], KEY):
        assert secret not in seen
    assert bucket["secret_key"] not in run.text
    newest = data.newest_backup(fleet, "dify1").rpartition("/")[2]
    begun = time.monotonic()
    more = arguments(target, bucket, folder, dify_backup_restore_from=target, dify_backup_restore_host="dify1")
    play("restore.yml", "--limit", "dify2", "-e", f"dify_backup_key='{KEY}'", *more)
    print(f"from the {target} target to a new host: {time.monotonic() - begun:.0f} s")
    assert data.newest_backup(fleet, "dify2").rpartition("/")[2] == newest
    assert data.fingerprint(fleet, "dify2") == before
    assert data.secrets(fleet, "dify2") == data.secrets(fleet, "dify1")
    there = fleet.ssh("gpu1", "ls /srv/backups").stdout.split() if target == "rsync" else [newest]
    assert there == [newest]
    play("teardown.yml", "--limit", "dify2", "-e", "dify_teardown_data=dify2")
    fleet.ssh("dify2", "sudo rm -rf /var/backups/llmops", check=True)


@pytest.mark.parametrize("fault", ["wrong secret", "unknown key", "no bucket", "no server", "no host", "full disk"])
def test_a_target_that_fails_touches_nothing(fleet: Fleet, play: Play, bucket: dict[str, str], folder: dict[str, str], fault: str) -> None:
    running(fleet, play)
    before = data.running_since(fleet, "dify1")
    backups = fleet.ssh("dify1", "sudo ls /var/backups/llmops", check=True).stdout
    changed, words = {
        "wrong secret": ({"secret_key": "wrong"}, "the secret key is not the one"),
        "unknown key": ({"access_key": "AKIAWRONGWRONGWRONG1"}, "does not know this access key"),
        "no bucket": ({"bucket": "none-of-that-name"}, "no such bucket"),
        "no server": ({"endpoint": "http://127.0.0.1:9"}, "does not answer"),
        "no host": ({"dify_backup_rsync_target": "ops@10.213.102.250:/"}, "ended with 255"),
        "full disk": ({"dify_backup_rsync_target": "/mnt/small"}, "No space left on device"),
    }[fault]
    by_rsync = fault in ("no host", "full disk")
    chosen = arguments("rsync" if by_rsync else "s3", {**bucket, **changed}, {**folder, **changed})
    if fault == "full disk":
        fleet.ssh("dify1", "sudo mkdir -p /mnt/small && sudo mount -t tmpfs -o size=64k tmpfs /mnt/small", check=True)
    run = play("backup.yml", *BACKUP, *chosen, expected=2)
    said = run.messages("dify1")
    print(said[:400])
    assert words in said
    assert bucket["secret_key"] not in run.text
    after = fleet.ssh("dify1", "sudo ls /var/backups/llmops", check=True).stdout
    if fault == "full disk":
        assert "manifest.json" not in fleet.ssh("dify1", "sudo ls -R /mnt/small; sudo umount /mnt/small").stdout
        # The backup on the host was made before, and stays.
        assert set(after.split()) - set(backups.split())
    else:
        assert after == backups
        assert data.running_since(fleet, "dify1") == before
