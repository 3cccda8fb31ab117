"""New secrets for a Dify that runs: the old ones are dead, the new ones are everywhere, and what was there is there."""

from __future__ import annotations

import json
from typing import Any

from tests.fleet import Fleet
from tests.fleet.checks.playbook import Run
from tests.fleet.dify.conftest import SITE, secrets
from tests.fleet.suite import Play


def query(fleet: Fleet, sql: str) -> str:
    return fleet.ssh("dify1", f'sudo docker exec -i dify-db_postgres-1 psql -qAt -U postgres -d dify -c "{sql}"', check=True).stdout.strip()


def test_secrets_are_replaced_and_nothing_else(fleet: Fleet, play: Play, first: tuple[Run, dict[str, Any]]) -> None:
    stored = "select rolpassword from pg_authid where rolname = 'postgres'"
    before, rows, hashed = secrets(fleet, "dify1"), query(fleet, "select id, email from accounts"), query(fleet, stored)
    assert rows
    run = play("rotate_dify.yml", "--limit", "dify1")
    assert run.rc == 0, run.messages("dify1")
    after = secrets(fleet, "dify1")
    same = {name for name, value in before.items() if after[name] == value}
    assert same == {"SECRET_KEY", "ADMIN_PASSWORD", "PGVECTOR_PASSWORD"}
    assert "DB_PASSWORD_NEXT" not in after
    assert not [name for name in set(before) - same if before[name] in run.text or after[name] in run.text], "a secret was printed"
    assert query(fleet, "select id, email from accounts") == rows
    assert query(fleet, stored) != hashed
    again = play(*SITE, "dify1")
    assert again.rc == 0 and again.recap["dify1"].changed == 0, again.text[-3000:]


def test_what_cannot_be_replaced_is_refused(fleet: Fleet, play: Play, first: tuple[Run, dict[str, Any]]) -> None:
    kept = secrets(fleet, "dify1")
    run = play("rotate_dify.yml", "--limit", "dify1", "-e", json.dumps({"dify_rotate": ["ADMIN_API_KEY", "SECRET_KEY"]}))
    assert run.rc == 2 and "SECRET_KEY" in run.messages("dify1") and "signed out" in run.messages("dify1")
    assert secrets(fleet, "dify1") == kept


def test_a_database_password_that_was_left_waiting_is_used(fleet: Fleet, play: Play, first: tuple[Run, dict[str, Any]]) -> None:
    # As after a run that was killed between the database and the file.
    kept = secrets(fleet, "dify1")
    pending = "Waiting" + kept["DB_PASSWORD"][:20] + "1"
    script = f"import json; p = '/opt/dify/secrets.json'; d = json.load(open(p)); d['DB_PASSWORD_NEXT'] = '{pending}'; json.dump(d, open(p, 'w'))"
    fleet.ssh("dify1", f'sudo python3 -c "{script}"', check=True)
    query(fleet, f"alter role postgres password '{pending}'")
    run = play("rotate_dify.yml", "--limit", "dify1", "-e", json.dumps({"dify_rotate": ["DB_PASSWORD"]}))
    assert run.rc == 0, run.messages("dify1")
    assert secrets(fleet, "dify1") == {**kept, "DB_PASSWORD": pending}
