"""Two Difys on one PostgreSQL, one Redis and one bucket: what is uploaded through one is read through the other."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fleet import Fleet
from tests.fleet.dify import s3
from tests.fleet.dify.conftest import SITE, WIPE, running
from tests.fleet.suite import Play

NAMES = (
    "SECRET_KEY DB_PASSWORD REDIS_PASSWORD SANDBOX_API_KEY PLUGIN_DAEMON_KEY PLUGIN_DIFY_INNER_API_KEY WEAVIATE_API_KEY DIFY_AGENT_API_TOKEN"
    " DIFY_AGENT_SHELLCTL_AUTH_TOKEN INIT_PASSWORD ADMIN_API_KEY ADMIN_PASSWORD"
).split()
# For these tests alone.
SECRETS = {name: "Shared" + name.title().replace("_", "")[:20] + "1" for name in NAMES}
HOSTS = ("dify1", "dify2")
STORES = (
    "sudo docker run -d --name shared-db -p 15432:5432 -e POSTGRES_PASSWORD={DB_PASSWORD} -e POSTGRES_DB=dify"
    " -e PGDATA=/var/lib/postgresql/data/pgdata postgres:15-alpine && "
    "sudo docker run -d --name shared-redis -p 16379:6379 redis:6-alpine redis-server --requirepass {REDIS_PASSWORD}"
)
TEXT = "What is uploaded through one host can be read through the other."


def console(fleet: Fleet, host: str, path: str, workspace: str = "", body: dict[str, Any] | None = None, more: str = "") -> Any:
    """An answer of that host's console, as its owner."""
    curl = f"curl -s -H 'Authorization: Bearer {SECRETS['ADMIN_API_KEY']}' -H 'X-WORKSPACE-ID: {workspace}' {more}"
    data = f"-H 'Content-Type: application/json' -d '{json.dumps(body)}'" if body is not None else ""
    return json.loads(fleet.ssh(host, f"{curl} {data} 'http://127.0.0.1/console/api{path}'", check=True).stdout)


def workspaces(fleet: Fleet, host: str) -> list[str]:
    return [item["id"] for item in console(fleet, host, "/all-workspaces?page=1&limit=20")["data"]]


@pytest.fixture(scope="module")
def shared(fleet: Fleet, play: Play, docker: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Both hosts on the same servers: the bucket's folder, and the variables."""
    folder: Path = tmp_path_factory.mktemp("s3")
    with s3.server(fleet, folder) as url:
        for host in HOSTS:
            fleet.ssh(host, WIPE, check=True, timeout=300)
        fleet.ssh("dify1", STORES.format(**SECRETS), check=True, timeout=300)
        variables = {
            "dify_database_host": fleet.address("dify1"),
            "dify_database_port": 15432,
            "dify_redis_host": fleet.address("dify1"),
            "dify_redis_port": 16379,
            "dify_secrets": SECRETS,
            "dify_s3": {"endpoint": url, "bucket": "dify", "access_key": s3.ACCESS_KEY, "secret_key": s3.SECRET_KEY},
        }
        yield folder, variables


def test_a_shared_database_without_shared_files_is_refused(fleet: Fleet, play: Play, shared: tuple[Path, dict[str, Any]]) -> None:
    _folder, variables = shared
    # As an inventory would say it: extra variables would be those of every host, and hostvars has them too.
    run = play(*SITE, "dify2", "-e", json.dumps({**variables, "dify_s3": {}}))
    message = run.messages("dify2")
    print(message)
    assert run.rc == 2 and "dify1 and dify2 use the same database" in message and "dify_s3" in message and "dify_files_shared" in message
    assert "dify-api-1" not in running(fleet, "dify2")


def test_two_hosts_share_a_database_a_queue_and_files(fleet: Fleet, play: Play, shared: tuple[Path, dict[str, Any]]) -> None:
    folder, variables = shared
    for host in HOSTS:
        run = play(*SITE, host, "-e", json.dumps(variables))
        assert run.rc == 0, run.messages(host)
        assert s3.SECRET_KEY not in json.dumps([result for result in run.results if "diff" in result])
    ids = {host: workspaces(fleet, host) for host in HOSTS}
    assert len(ids["dify1"]) == 1 and ids["dify1"] == ids["dify2"], ids
    assert list(folder.glob("dify/privkeys/*/private.pem*")), "the workspace's key is not in the bucket"
    for host in HOSTS:
        names = fleet.ssh(host, "sudo docker ps --format '{{.Names}}'", check=True).stdout
        assert "dify-api-1" in names and "dify-db_postgres-1" not in names and "dify-redis-1" not in names
        again = play(*SITE, host, "-e", json.dumps(variables))
        assert again.rc == 0 and again.recap[host].changed == 0, again.text[-3000:]


def test_a_file_uploaded_through_one_is_read_through_the_other(fleet: Fleet, play: Play, shared: tuple[Path, dict[str, Any]]) -> None:
    folder, variables = shared
    workspace = workspaces(fleet, "dify1")[0]
    fleet.ssh("dify1", f"printf '%s' '{TEXT}' > /tmp/shared.txt", check=True)
    file = console(fleet, "dify1", "/files/upload", workspace, more="-F file=@/tmp/shared.txt")
    assert file["size"] == len(TEXT), file
    assert [path for path in folder.glob("dify/upload_files/*/*") if TEXT.encode() in path.read_bytes()]
    # Only the second host works now: its worker has to read what the first one was given.
    fleet.ssh("dify1", "sudo docker stop dify-worker-1", check=True, timeout=120)
    try:
        rule = {"mode": "custom", "rules": {"pre_processing_rules": [], "segmentation": {"separator": "\n", "max_tokens": 500}}}
        source = {"info_list": {"data_source_type": "upload_file", "file_info_list": {"file_ids": [file["id"]]}}}
        body = {"indexing_technique": "economy", "data_source": source, "process_rule": rule, "doc_form": "text_model", "doc_language": "English"}
        made = console(fleet, "dify2", "/datasets/init", workspace, body)
        dataset = f"/datasets/{made['dataset']['id']}"
        until = time.monotonic() + 60
        status: dict[str, Any] = {}
        while time.monotonic() < until and status.get("indexing_status") not in ("completed", "error"):
            time.sleep(1)
            status = console(fleet, "dify2", f"{dataset}/indexing-status", workspace)["data"][0]
        assert status["indexing_status"] == "completed", status
        for host in HOSTS:
            found = console(fleet, host, f"{dataset}/hit-testing", workspace, {"query": "uploaded through host"})["records"]
            assert [record["segment"]["content"] for record in found] == [TEXT], host
    finally:
        fleet.ssh("dify1", "sudo docker start dify-worker-1", check=True)


def test_a_host_that_has_the_database_and_not_the_keys_is_refused(fleet: Fleet, play: Play, shared: tuple[Path, dict[str, Any]]) -> None:
    """The inventory does not know of the other one, or it says that files are shared, and they are not."""
    _folder, variables = shared
    run = play(*SITE, "dify2", "-e", json.dumps({**variables, "dify_s3": {}, "dify_files_shared": True}))
    message = run.messages("dify2")
    print(message)
    assert run.rc == 2 and "private key is not in" in message
    run = play(*SITE, "dify2", "-e", json.dumps(variables))
    assert run.rc == 0, run.messages("dify2")
