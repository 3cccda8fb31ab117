"""Other databases and vector stores: MySQL of one's own and MySQL elsewhere, pgvector elsewhere, and what a release does not have."""

from __future__ import annotations

import json

import pytest

from tests.fleet import Fleet, images
from tests.fleet.dify.conftest import SITE, WIPE, secrets
from tests.fleet.suite import Play

# For these tests alone.
DATABASE, VECTORS = "TestsMysql1", "TestsVectors1"
SERVERS = f"""
set -e
sudo apt-get install -y -qq mariadb-server postgresql-17-pgvector >/dev/null
printf '[mysqld]\\nbind-address = 0.0.0.0\\n' | sudo tee /etc/mysql/mariadb.conf.d/99-tests.cnf >/dev/null
sudo systemctl restart mariadb
sudo mariadb -e "DROP DATABASE IF EXISTS dify; DROP DATABASE IF EXISTS dify_plugin; CREATE DATABASE dify"
sudo mariadb -e "CREATE OR REPLACE USER dify@'%' IDENTIFIED BY '{DATABASE}'"
sudo mariadb -e "GRANT ALL ON dify.* TO dify@'%'; GRANT ALL ON dify_plugin.* TO dify@'%'"
echo "listen_addresses = '*'" | sudo tee /etc/postgresql/17/main/conf.d/tests.conf >/dev/null
echo 'host vectors vectors all scram-sha-256' | sudo tee -a /etc/postgresql/17/main/pg_hba.conf >/dev/null
sudo systemctl restart postgresql
sudo -u postgres psql -qc 'DROP DATABASE IF EXISTS vectors' -c 'DROP ROLE IF EXISTS vectors'
sudo -u postgres psql -qc "CREATE ROLE vectors LOGIN PASSWORD '{VECTORS}'" -c 'CREATE DATABASE vectors OWNER vectors'
sudo -u postgres psql -qc 'CREATE EXTENSION vector' vectors
"""


def test_mysql_and_pgvector_elsewhere(fleet: Fleet, play: Play, docker: None) -> None:
    fleet.ssh("svc", SERVERS, check=True, timeout=600)
    fleet.ssh("dify1", WIPE, check=True, timeout=300)
    address = fleet.address("svc")
    variables = {
        "dify_database_type": "mysql",
        # Extra variables are those of every host, and two hosts on one database need more than this.
        "dify_database_host": f"{{{{ '{address}' if inventory_hostname == 'dify1' else '' }}}}",
        "dify_database_user": "dify",
        "dify_vector_store": "pgvector",
        "dify_vector_store_external": True,
        "dify_env": {"PGVECTOR_HOST": address, "PGVECTOR_USER": "vectors", "PGVECTOR_DATABASE": "vectors"},
        "dify_secrets": {"DB_PASSWORD": DATABASE, "PGVECTOR_PASSWORD": VECTORS},
    }
    run = play(*SITE, "dify1", "-e", json.dumps(variables))
    assert run.rc == 0, run.messages("dify1")
    rows = fleet.ssh("svc", "sudo mariadb -N -e 'SELECT email FROM dify.accounts; SHOW TABLES FROM dify_plugin'", check=True).stdout.split()
    print(rows)
    assert "admin@example.com" in rows and "plugin_installations" in rows
    assert "vector" in fleet.ssh("svc", "sudo -u postgres psql -qAtc 'SELECT extname FROM pg_extension' vectors", check=True).stdout
    names = fleet.ssh("dify1", "sudo docker ps --format '{{.Names}}'", check=True).stdout
    assert "dify-api-1" in names and "db_" not in names and "weaviate" not in names
    again = play(*SITE, "dify1", "-e", json.dumps(variables))
    assert again.rc == 0 and again.recap["dify1"].changed == 0, again.text[-3000:]
    backup = play("backup.yml", "--limit", "dify1", "-e", json.dumps({**variables, "dify_backup_key": "x" * 32}))
    message = backup.messages("dify1")
    print(message)
    assert backup.rc == 2 and "DB_TYPE is mysql" in message


def test_mysql_of_the_release(fleet: Fleet, play: Play, docker: None) -> None:
    images.ensure(f"http://{fleet.services_address()}:5000", only=["library/mysql:8.0"])
    fleet.ssh("dify2", WIPE, check=True, timeout=300)
    for _turn in ("first", "second"):
        run = play(*SITE, "dify2", "-e", "dify_database_type=mysql")
        assert run.rc == 0, run.messages("dify2")
    assert run.recap["dify2"].changed == 0, run.text[-3000:]
    names = fleet.ssh("dify2", "sudo docker ps --format '{{.Names}}'", check=True).stdout
    assert "dify-db_mysql-1" in names and "dify-db_postgres-1" not in names
    query = "sudo docker exec -e MYSQL_PWD='{}' dify-db_mysql-1 mariadb -uroot -N -e 'SELECT email FROM dify.accounts'"
    assert "admin@example.com" in fleet.ssh("dify2", query.format(secrets(fleet, "dify2")["DB_PASSWORD"]), check=True).stdout
    assert fleet.ssh("dify2", query.format("difyai123456")).returncode != 0, "the public password opens it"


def test_a_redis_that_moved_away_is_taken_from_the_host(fleet: Fleet, play: Play, docker: None) -> None:
    """Goes on from the test before it: a Dify with a Redis of its own gets one elsewhere, and then its own again."""
    kept = secrets(fleet, "dify2")["REDIS_PASSWORD"]
    fleet.ssh("dify1", f"sudo docker run -d --name moved-redis -p 16380:6379 redis:6-alpine redis-server --requirepass {kept}", check=True)
    moved = {
        "dify_database_type": "mysql",
        "dify_redis_host": fleet.address("dify1"),
        "dify_redis_port": 16380,
        "dify_secrets": {"REDIS_PASSWORD": kept},
    }
    try:
        run = play(*SITE, "dify2", "-e", json.dumps(moved))
        assert run.rc == 0, run.messages("dify2")
        assert "taken away: redis" in run.text and "/opt/dify/volumes/redis" in run.text
        names = fleet.ssh("dify2", "sudo docker ps -a --format '{{.Names}}'", check=True).stdout
        assert "redis" not in names and "dify-db_mysql-1" in names
        assert fleet.ssh("dify2", "sudo ls /opt/dify/volumes/redis/data").returncode == 0
        again = play(*SITE, "dify2", "-e", json.dumps(moved))
        assert again.rc == 0 and again.recap["dify2"].changed == 0, again.text[-3000:]
    finally:
        fleet.ssh("dify1", "sudo docker rm -f moved-redis")
    run = play(*SITE, "dify2", "-e", "dify_database_type=mysql")
    assert run.rc == 0, run.messages("dify2")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"dify_vector_store": "weavaite"}, ["weavaite does not come with this release; it has weaviate"]),
        ({"dify_vector_store": "pinecone", "dify_vector_store_external": True}, ["PINECONE_"]),
        ({"dify_version": "1.9.2", "dify_database_type": "mysql", "dify_allow_version_change": True}, ["MySQL needs Dify 1.10.1"]),
    ],
)
def test_what_a_release_does_not_have_is_refused(fleet: Fleet, play: Play, docker: None, variables: dict, said: list[str]) -> None:
    run = play(*SITE, "dify2", "-e", json.dumps(variables))
    message = run.messages("dify2")
    print(message)
    assert run.rc == 2 and all(words in message for words in said)


def test_a_disk_that_is_really_full_is_named_and_nothing_half_is_left(fleet: Fleet, play: Play, docker: None) -> None:
    fleet.ssh("dify2", WIPE, check=True, timeout=300)
    # The look before it is told that this is enough, so that the installation itself meets the end of the disk.
    fleet.ssh("dify2", "sudo mkdir -p /opt/dify && sudo mount -t tmpfs -o size=48k tmpfs /opt/dify", check=True)
    try:
        run = play(*SITE, "dify2", "-e", json.dumps({"dify_space_gib": 0}))
        message = run.messages("dify2")
        print(message)
        assert run.rc == 2 and "There is no space left below /opt/dify" in message and "damaged" not in message
        assert fleet.ssh("dify2", "sudo ls -A /opt/dify/releases").stdout.split() == [], "half a release was left"
    finally:
        fleet.ssh("dify2", "sudo umount /opt/dify", check=True)
