"""Two Difys on one PostgreSQL and one Redis: what one stores the other has, and neither starts servers of its own."""

from __future__ import annotations

import json

from tests.fleet import Fleet
from tests.fleet.dify.conftest import SITE, WIPE
from tests.fleet.suite import Play

NAMES = (
    "SECRET_KEY DB_PASSWORD REDIS_PASSWORD SANDBOX_API_KEY PLUGIN_DAEMON_KEY PLUGIN_DIFY_INNER_API_KEY WEAVIATE_API_KEY DIFY_AGENT_API_TOKEN"
    " DIFY_AGENT_SHELLCTL_AUTH_TOKEN INIT_PASSWORD ADMIN_API_KEY ADMIN_PASSWORD"
).split()
# For these tests alone.
SECRETS = {name: "Shared" + name.title().replace("_", "")[:20] + "1" for name in NAMES}
STORES = (
    "sudo docker run -d --name shared-db -p 15432:5432 -e POSTGRES_PASSWORD={DB_PASSWORD} -e POSTGRES_DB=dify"
    " -e PGDATA=/var/lib/postgresql/data/pgdata postgres:15-alpine && "
    "sudo docker run -d --name shared-redis -p 16379:6379 redis:6-alpine redis-server --requirepass {REDIS_PASSWORD}"
)


def workspaces(fleet: Fleet, host: str) -> list[str]:
    """Ids, as the console of that host tells them."""
    url = "http://127.0.0.1/console/api/all-workspaces?page=1&limit=20"
    text = fleet.ssh(host, f"curl -s -H 'Authorization: Bearer {SECRETS['ADMIN_API_KEY']}' '{url}'", check=True).stdout
    return [item["id"] for item in json.loads(text)["data"]]


def test_two_hosts_share_a_database_and_a_queue(fleet: Fleet, play: Play, docker: None) -> None:
    for host in ("dify1", "dify2"):
        fleet.ssh(host, WIPE, check=True, timeout=300)
    fleet.ssh("dify1", STORES.format(**SECRETS), check=True, timeout=300)
    shared = {
        "dify_database_host": fleet.address("dify1"),
        "dify_database_port": 15432,
        "dify_redis_host": fleet.address("dify1"),
        "dify_redis_port": 16379,
        "dify_secrets": SECRETS,
    }
    for host in ("dify1", "dify2"):
        run = play(*SITE, host, "-e", json.dumps(shared))
        assert run.rc == 0, run.messages(host)
    ids = {host: workspaces(fleet, host) for host in ("dify1", "dify2")}
    assert len(ids["dify1"]) == 1 and ids["dify1"] == ids["dify2"], ids
    for host in ("dify1", "dify2"):
        names = fleet.ssh(host, "sudo docker ps --format '{{.Names}}'", check=True).stdout
        assert "dify-api-1" in names and "dify-db_postgres-1" not in names and "dify-redis-1" not in names
        again = play(*SITE, host, "-e", json.dumps(shared))
        assert again.rc == 0 and again.recap[host].changed == 0, again.text[-3000:]
