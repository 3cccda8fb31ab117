"""Writes data through Dify's console, and reads back what is there: rows, files, secrets."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify import DifyClient
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_rag import RagCheck
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import JsonClient, open_url_transport

from tests.fleet import Fleet

# What must come through everything, by table: columns that no sign-in and no start changes.
TABLES = {
    "dify": {
        "accounts": "id, email, password, password_salt",
        "tenants": "id, encrypt_public_key",
        "provider_models": "provider_name, model_name, model_type, is_valid",
        "provider_model_credentials": "provider_name, model_name, model_type, credential_name, encrypted_config",
        "tenant_default_models": "provider_name, model_name, model_type",
        "datasets": "id, name, embedding_model",
        "documents": "id, dataset_id, name, indexing_status, word_count",
        "document_segments": "id, document_id, content, embedding",
        "upload_files": "id, storage_key, size, hash",
    },
    "dify_plugin": {"plugin_installations": "plugin_unique_identifier"},
}


def _in_database(fleet: Fleet, host: str, database: str, sql: str) -> str:
    find = "sudo docker ps -q --filter label=com.docker.compose.project=dify --filter label=com.docker.compose.service=db"
    server = f"$({find}_postgres; {find})"
    return fleet.ssh(host, f'set -- {server}; sudo docker exec -i "$1" psql -X -At -U postgres -d {database} <<"END"\n{sql}\nEND', check=True).stdout


def fingerprint(fleet: Fleet, host: str) -> dict[str, str]:
    """Table -> rows and checksum; and the checksum of every stored file."""
    found = {}
    for database, tables in TABLES.items():
        for table, columns in tables.items():
            rows = f"SELECT md5(ROW({columns})::text) AS h FROM {table}"
            found[table] = _in_database(fleet, host, database, f"SELECT count(*), md5(string_agg(h, '' ORDER BY h)) FROM ({rows}) AS rows;").strip()
    files = "cd /opt/dify/volumes/app/storage && find . -type f ! -name .init_permissions -exec sha256sum {} + | sort"
    found["files"] = fleet.ssh(host, f"sudo sh -c '{files}'", check=True).stdout
    return found


def secrets(fleet: Fleet, host: str) -> dict[str, str]:
    return dict(json.loads(fleet.ssh(host, "sudo cat /opt/dify/secrets.json", check=True).stdout))


def version(fleet: Fleet, host: str) -> str:
    client = DifyClient(JsonClient(f"http://{fleet.address(host)}", open_url_transport(), timeout=30))
    client.setup_state()
    return str(client.version)


def client_of(fleet: Fleet, host: str) -> DifyClient:
    kept = secrets(fleet, host)
    http = JsonClient(f"http://{fleet.address(host)}", open_url_transport(), timeout=120)
    return DifyClient(http, admin_key=kept["ADMIN_API_KEY"], email="admin@example.com", password=kept["ADMIN_PASSWORD"])


class _Kept(RagCheck):
    """The check's knowledge base, made and left there."""

    def make(self) -> str:
        return self._embed({**self._defaults()["text-embedding"]}, self._defaults().get("rerank"))


def write_knowledge(fleet: Fleet, host: str, name: str) -> str:
    """A knowledge base with one embedded document; returns its id."""
    document = "\n\n".join(f"{name}, passage {number}: the answer is {number * 7}." for number in range(20))
    check = _Kept(client_of(fleet, host), document=document)
    check.name = name
    return check.make()


def running_since(fleet: Fleet, host: str) -> str:
    """When every container was started, and whether it is paused."""
    form = "{{.Name}} {{.State.StartedAt}} {{.State.Status}} {{.RestartCount}}"
    find = "sudo docker ps -aq --filter label=com.docker.compose.project=dify"
    return fleet.ssh(host, f"{find} | xargs -r sudo docker inspect -f '{form}' | sort", check=True).stdout


def newest_backup(fleet: Fleet, host: str) -> str:
    return fleet.ssh(host, "sudo sh -c 'ls -d /var/backups/llmops/dify-*' | tail -1", check=True).stdout.strip()


def summary(found: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value.split('|')[0]}" for name, value in found.items() if name != "files") + f", files {len(found['files'].splitlines())}"
