"""What was written through Dify is there after whatever happens. The tests of this file build on each other."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest

from tests.fleet import Fleet
from tests.fleet.dify_data import data, kills
from tests.fleet.suite import LOGS, Play

OLD, NEW = "1.9.2", "1.16.1"
KEY = "a key for these tests only"
BACKUP = ["--limit", "dify1", "-e", f"dify_backup_key='{KEY}'"]
UPGRADE = ["--limit", "gpu1,dify1", "-e", f"dify_backup_key='{KEY}'", "-e", f"dify_version={NEW}"]
KILLS = int(os.environ.get("FLEET_DATA_KILLS", "10"))

Known = dict[str, dict[str, str]]

# A new index is forbidden, so the new version's migration fails as a real one does.
FORBID = """CREATE FUNCTION forbid() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no index today'; END $$;
CREATE EVENT TRIGGER forbid ON ddl_command_start WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION forbid();"""
ALLOW = "DROP EVENT TRIGGER forbid; DROP FUNCTION forbid();"


def same(fleet: Fleet, host: str, known: Known) -> None:
    assert data.fingerprint(fleet, host) == known["data"]
    assert data.secrets(fleet, host).items() >= known["secrets"].items()


@pytest.fixture(scope="session")
def known(fleet: Fleet, play: Play) -> Known:
    """Dify 1.9.2 with models, credentials and a knowledge base, and what they look like. On hosts that were kept: whichever runs."""
    if not data.running_since(fleet, "dify1"):
        play("site.yml", "--limit", "gpu1,dify1", "-e", f"dify_version={OLD}")
    if not data.client_of(fleet, "dify1").call("GET", "/datasets?page=1&limit=20")["data"]:
        data.write_knowledge(fleet, "dify1", "kept")
    found = data.fingerprint(fleet, "dify1")
    print(f"\nwritten: {data.summary(found)}")
    return {"data": found, "secrets": data.secrets(fleet, "dify1")}


def test_a_second_run_and_a_reboot_keep_it(fleet: Fleet, play: Play, known: Known) -> None:
    again = play("site.yml", "--limit", "gpu1,dify1", "-e", f"dify_version={OLD}")
    assert again.recap["dify1"].changed == 0
    same(fleet, "dify1", known)
    fleet.reboot("dify1")
    play("site.yml", "--limit", "gpu1,dify1", "-e", f"dify_version={OLD}")
    same(fleet, "dify1", known)


def test_a_downgrade_is_refused(fleet: Fleet, play: Play, known: Known) -> None:
    before = data.running_since(fleet, "dify1")
    run = play("upgrade.yml", *UPGRADE, "-e", "dify_version=1.9.1", expected=2)
    assert "no way back" in run.messages("dify1"), run.messages("dify1")
    assert data.running_since(fleet, "dify1") == before


@pytest.mark.parametrize("point", ["backup", "start", "migration", "registration"])
def test_a_failed_upgrade_goes_back_to_the_old_version_with_the_old_data(fleet: Fleet, play: Play, known: Known, point: str) -> None:
    more: list[str] = []
    api = f"langgenius/dify-api:{NEW}"
    if point == "backup":
        # It can be listed, and nothing can be written there: the backup is made, and cannot be sent.
        more = ["-e", "dify_backup_rsync_target=/sys/kernel"]
    if point == "start":
        fleet.ssh("dify1", f"sudo docker pull -q {api} busybox:latest; sudo docker tag busybox:latest {api}", check=True, timeout=600)
    if point == "migration":
        data._in_database(fleet, "dify1", "dify", FORBID)
    if point == "registration":
        more = ["-e", json.dumps({"dify_xinference_plugin": {"id": "langgenius/xinference", "version": "9.9.9", "source": "package", "package": "/nowhere"}})]
    try:
        run = play("upgrade.yml", *UPGRADE, "-e", "dify_wait_timeout=90", *more, expected=2)
    finally:
        if point == "start":
            fleet.ssh("dify1", f"sudo docker rmi {api}; sudo docker pull -q {api}", timeout=600)
        if point == "migration":
            data._in_database(fleet, "dify1", "dify", ALLOW)
    said = run.messages("dify1")
    print(said[:900])
    assert f"{OLD} runs again" in said
    assert data.version(fleet, "dify1") == OLD
    same(fleet, "dify1", known)


def test_an_upgrade_killed_at_random_points_converges(fleet: Fleet, play: Play, known: Known) -> None:
    """One kill in each tenth of the time that an upgrade takes, at a moment of chance in it. A play that had ended before does not count."""
    chance = random.Random(os.environ.get("FLEET_DATA_SEED", "7"))
    whole = play("upgrade.yml", *UPGRADE).seconds
    same(fleet, "dify1", known)
    killed = tries = 0
    while killed < KILLS:
        tries += 1
        assert tries < 3 * KILLS, "plays end before they are killed; is the measured time of one play right?"
        back = kills.go_back(fleet, "dify1", OLD, NEW, KEY)
        assert data.version(fleet, "dify1") == OLD
        same(fleet, "dify1", known)
        moment = (killed + chance.random()) / KILLS * whole
        hit = kills.kill_play(fleet, LOGS / "data" / f"kill-{tries:02d}.log", moment, "upgrade.yml", *UPGRADE)
        again = play("upgrade.yml", *UPGRADE)
        assert data.version(fleet, "dify1") == NEW
        same(fleet, "dify1", known)
        killed += bool(hit.task)
        # Machines are not equally fast all the time.
        whole = whole if hit.task else min(whole, hit.seconds)
        counted = f"kill {killed}" if hit.task else "not counted"
        print(f"{counted}: {hit.seconds:.0f} of {whole:.0f} s, in: {hit.task or 'it had ended'}; again {again.seconds:.0f} s; went back in {back:.0f} s")
        third = play("upgrade.yml", *UPGRADE)
        assert third.recap["dify1"].changed == 0, [result["task"] for result in third.results if result["changed"]]


def test_what_lies_between_the_releases_was_done(fleet: Fleet, play: Play, known: Known) -> None:
    """Step by step as the table of the upgrade has them: the database's service, the files' owner, the layout of .env, the agents."""
    form = '{{.Label "com.docker.compose.service"}}'
    services = fleet.ssh("dify1", f"sudo docker ps --filter label=com.docker.compose.project=dify --format '{form}'", check=True).stdout.split()
    assert "db_postgres" in services and "db" not in services
    assert {"agent_backend", "local_sandbox", "agent_ssrf_proxy"} <= set(services)
    kept = data.secrets(fleet, "dify1")
    assert kept["SECRET_KEY"] == known["secrets"]["SECRET_KEY"] and kept["DIFY_AGENT_API_TOKEN"] and kept["DIFY_AGENT_SERVER_SECRET_KEY"]
    owners = fleet.ssh("dify1", "sudo find /opt/dify/volumes/app/storage ! -user 1001 ! -name .init_permissions | head -3", check=True).stdout
    assert owners == ""
    # What only the new layout does: every variable of .env reaches the container, whether a list names it or not.
    written = fleet.ssh("dify1", f"sudo grep -oE '^[A-Z_0-9]+=.' /opt/dify/releases/{NEW}/docker/.env | cut -d= -f1", check=True).stdout.split()
    find = "$(sudo docker ps -q --filter label=com.docker.compose.project=dify --filter label=com.docker.compose.service=api)"
    reached = dict(line.split("=", 1) for line in fleet.ssh("dify1", f"sudo docker exec {find} env", check=True).stdout.splitlines() if "=" in line)
    assert len(written) > 20 and set(written) <= set(reached)
    assert all(reached[name] == kept[name] for name in ("SECRET_KEY", "ADMIN_API_KEY"))


def test_the_new_version_is_found_as_declared(fleet: Fleet, play: Play, known: Known) -> None:
    again = play("site.yml", "--limit", "gpu1,dify1")
    assert again.recap["dify1"].changed == 0, [result["task"] for result in again.results if result["changed"]]
    assert play("upgrade.yml", *UPGRADE).recap["dify1"].changed == 0


def test_backup_and_drill_leave_the_stack_alone(fleet: Fleet, play: Play, known: Known) -> None:
    play("backup.yml", *BACKUP)
    before = data.running_since(fleet, "dify1")
    run = play("restore.yml", *BACKUP, "-e", "drill=true")
    print([line for line in run.text.splitlines() if "RPO" in line])
    assert data.running_since(fleet, "dify1") == before
    assert fleet.ssh("dify1", "sudo ls -A /opt/dify | grep restore").stdout == ""
    same(fleet, "dify1", known)


@pytest.mark.parametrize("fault", ["damaged", "wrong key", "full disk"])
def test_what_cannot_be_restored_touches_nothing(fleet: Fleet, play: Play, known: Known, fault: str) -> None:
    before = data.running_since(fleet, "dify1")
    backup = data.newest_backup(fleet, "dify1")
    arguments = [*BACKUP, "-e", f"dify_backup_restore={backup}"]
    words = {"damaged": "is damaged: database-dify.enc", "wrong key": "another key", "full disk": "are free"}[fault]
    undo = "true"
    if fault == "damaged":
        part = f"{backup}/database-dify.enc"
        fleet.ssh("dify1", f"sudo cp -a {part} /root/kept; printf x | sudo dd of={part} bs=1 seek=500 conv=notrunc status=none", check=True)
        undo = f"sudo mv /root/kept {part}"
    if fault == "wrong key":
        arguments = ["--limit", "dify1", "-e", "dify_backup_key='not the key at all'", "-e", f"dify_backup_restore={backup}"]
    if fault == "full disk":
        # What restoring takes is looked for where it would go: a home on a small disk.
        fleet.ssh("dify1", "sudo mkdir -p /mnt/small && sudo mount -t tmpfs -o size=60m tmpfs /mnt/small", check=True)
        arguments += ["-e", "dify_home=/mnt/small"]
        undo = "sudo umount /mnt/small"
    run = play("restore.yml", *arguments, expected=2)
    fleet.ssh("dify1", undo, check=True)
    said = run.messages("dify1")
    print(said[:500])
    assert words in said, said
    assert data.running_since(fleet, "dify1") == before
    same(fleet, "dify1", known)


@pytest.mark.parametrize("delay", [0.5, 1.5, 3.0])
def test_a_killed_backup_lets_the_services_go_on(fleet: Fleet, play: Play, known: Known, delay: float) -> None:
    """The module's own process is killed on the host: nothing stays paused, no half backup bears a backup's name."""
    find = "sudo ls /var/backups/llmops"
    before = fleet.ssh("dify1", find, check=True).stdout
    with kills.kill_on_host(fleet, "dify1", 1, delay) as said:
        run = play("backup.yml", *BACKUP, expected=None)
    print(said)
    assert (run.rc == 0) == (said == ["ended before"])
    until = time.monotonic() + 60
    while held := [line for line in data.running_since(fleet, "dify1").splitlines() if " running " not in line and "init_permissions" not in line]:
        assert time.monotonic() < until, held
        time.sleep(1)
    # What is new bears a name only when it is whole: killed after that, the module had only to wait for health.
    for name in set(fleet.ssh("dify1", find, check=True).stdout.split()) - set(before.split()):
        fleet.ssh("dify1", f"sudo test -s /var/backups/llmops/{name}/manifest.hmac", check=True)
    same(fleet, "dify1", known)
    play("backup.yml", *BACKUP)
    assert "unfinished" not in fleet.ssh("dify1", "sudo ls -A /var/backups/llmops", check=True).stdout


@pytest.mark.parametrize(("step", "delay"), [("prepare", 1.0), ("prepare", 4.0), ("switch", 0.5), ("switch", 2.5)])
def test_a_killed_restore_leaves_what_ran_and_works_again(fleet: Fleet, play: Play, known: Known, step: str, delay: float) -> None:
    before = data.running_since(fleet, "dify1")
    # The playbook looks first, which is over before it is noticed, then prepares (1) and switches (2).
    with kills.kill_on_host(fleet, "dify1", {"prepare": 1, "switch": 2}[step], delay) as said:
        run = play("restore.yml", *BACKUP, expected=None)
    print(said)
    if step == "prepare" and run.rc:
        assert data.running_since(fleet, "dify1") == before
    same(fleet, "dify1", known)
    play("restore.yml", *BACKUP)
    same(fleet, "dify1", known)
    assert fleet.ssh("dify1", "sudo ls -A /opt/dify | grep -E 'restore|aside'").stdout == ""


def test_a_backup_that_does_not_fit_leaves_nothing(fleet: Fleet, play: Play, known: Known) -> None:
    before = data.running_since(fleet, "dify1")
    fleet.ssh("dify1", "sudo mkdir -p /mnt/small && sudo mount -t tmpfs -o size=60m tmpfs /mnt/small", check=True)
    run = play("backup.yml", *BACKUP, "-e", "dify_backup_dir=/mnt/small", expected=2)
    left = fleet.ssh("dify1", "ls -A /mnt/small; sudo umount /mnt/small").stdout
    assert "are free" in run.messages("dify1") and left == ""
    assert data.running_since(fleet, "dify1") == before


def test_a_restore_on_another_host_has_the_same(fleet: Fleet, play: Play, known: Known, tmp_path: Path) -> None:
    play("backup.yml", *BACKUP, "-e", f"dify_backup_fetch_dir={tmp_path}")
    backup = next(tmp_path.iterdir())
    run = play("restore.yml", "--limit", "dify2", "-e", f"dify_backup_key='{KEY}'", "-e", f"dify_backup_restore_src={backup}")
    print(f"restored on a host without Docker in {run.seconds:.0f} s")
    same(fleet, "dify2", known)
    assert data.version(fleet, "dify2") == NEW


def test_a_restore_whose_stack_does_not_get_healthy_goes_back(fleet: Fleet, play: Play, known: Known) -> None:
    data.write_knowledge(fleet, "dify1", "after the backup")
    now = data.fingerprint(fleet, "dify1")
    # The role cannot bring it up: somebody else has the port.
    run = play("restore.yml", *BACKUP, "-e", "dify_port=22", expected=2)
    assert "runs again, as it was" in run.messages("dify1"), run.messages("dify1")
    assert data.fingerprint(fleet, "dify1") == now


def test_a_restore_loses_what_came_after_the_backup_and_nothing_else(fleet: Fleet, play: Play, known: Known) -> None:
    play("restore.yml", *BACKUP)
    same(fleet, "dify1", known)


def test_teardown_keeps_the_data_until_it_is_told(fleet: Fleet, play: Play, known: Known) -> None:
    would = play("teardown.yml", "--limit", "dify1", "--check", "-e", "dify_teardown_data=dify1")
    assert "Would go: container agent_backend" in would.said and "/opt/dify/volumes" in would.said
    assert data.running_since(fleet, "dify1")
    play("teardown.yml", "--limit", "dify1")
    assert data.running_since(fleet, "dify1") == ""
    play("site.yml", "--limit", "gpu1,dify1")
    same(fleet, "dify1", known)
    refused = play("teardown.yml", "--limit", "dify1,dify2", "-e", "dify_teardown_data=dify2", expected=2)
    assert "Nothing was changed" in refused.messages("dify1")
    assert fleet.ssh("dify2", "ls /opt/dify 2>&1").stdout.startswith("ls: cannot access")
    same(fleet, "dify1", known)
