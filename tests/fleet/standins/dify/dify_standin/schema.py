# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tables of the stand-in: named as Dify's where a client or a backup may meet them, cut to the columns that are used.

Ids are text and times are seconds since the epoch, so that the same SQL runs on PostgreSQL and on sqlite3.
"""

from __future__ import annotations

from typing import NamedTuple


def _table(name: str, columns: str) -> str:
    return f"CREATE TABLE IF NOT EXISTS {name} ({columns})"


_ACCOUNTS = [
    _table("dify_setups", "version TEXT PRIMARY KEY, setup_at DOUBLE PRECISION NOT NULL"),
    _table(
        "accounts",
        "id TEXT PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL UNIQUE, password TEXT, password_salt TEXT, "
        "interface_language TEXT, interface_theme TEXT, timezone TEXT, status TEXT NOT NULL, "
        "last_login_at DOUBLE PRECISION, last_login_ip TEXT, created_at DOUBLE PRECISION NOT NULL",
    ),
    _table(
        "tenants",
        "id TEXT PRIMARY KEY, name TEXT NOT NULL, encrypt_public_key TEXT, plan TEXT NOT NULL, status TEXT NOT NULL, "
        "created_at DOUBLE PRECISION NOT NULL",
    ),
    _table(
        "tenant_account_joins",
        "id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, account_id TEXT NOT NULL, role TEXT NOT NULL, "
        "last_opened_at DOUBLE PRECISION, UNIQUE (tenant_id, account_id)",
    ),
]

_MODELS = [
    _table(
        "provider_models",
        "id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, provider_name TEXT NOT NULL, model_name TEXT NOT NULL, "
        "model_type TEXT NOT NULL, credential_id TEXT, is_valid BOOLEAN NOT NULL, created_at DOUBLE PRECISION NOT NULL, "
        "UNIQUE (tenant_id, provider_name, model_name, model_type)",
    ),
    _table(
        "provider_model_credentials",
        "id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, provider_name TEXT NOT NULL, model_name TEXT NOT NULL, "
        "model_type TEXT NOT NULL, credential_name TEXT NOT NULL, encrypted_config TEXT NOT NULL, "
        "created_at DOUBLE PRECISION NOT NULL, updated_at DOUBLE PRECISION NOT NULL",
    ),
    _table(
        "provider_model_settings",
        "id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, provider_name TEXT NOT NULL, model_name TEXT NOT NULL, "
        "model_type TEXT NOT NULL, enabled BOOLEAN NOT NULL, load_balancing_enabled BOOLEAN NOT NULL, "
        "UNIQUE (tenant_id, provider_name, model_name, model_type)",
    ),
    _table(
        "tenant_default_models",
        "id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, provider_name TEXT NOT NULL, model_name TEXT NOT NULL, "
        "model_type TEXT NOT NULL, UNIQUE (tenant_id, model_type)",
    ),
    _table(
        "tenant_plugin_auto_upgrade_strategies",
        "id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, category TEXT NOT NULL, settings TEXT NOT NULL, UNIQUE (tenant_id, category)",
    ),
]

_APPS = [
    _table(
        "apps",
        "id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, name TEXT NOT NULL, description TEXT, mode TEXT NOT NULL, icon_type TEXT, "
        "icon TEXT, icon_background TEXT, app_model_config_id TEXT, enable_site BOOLEAN NOT NULL, enable_api BOOLEAN NOT NULL, "
        "created_by TEXT, created_at DOUBLE PRECISION NOT NULL, updated_at DOUBLE PRECISION NOT NULL",
    ),
    _table(
        "app_model_configs",
        "id TEXT PRIMARY KEY, app_id TEXT NOT NULL, configs TEXT NOT NULL, created_by TEXT, created_at DOUBLE PRECISION NOT NULL",
    ),
    _table(
        "api_tokens",
        "id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, app_id TEXT, type TEXT NOT NULL, token TEXT NOT NULL UNIQUE, "
        "last_used_at DOUBLE PRECISION, created_at DOUBLE PRECISION NOT NULL",
    ),
    _table(
        "conversations",
        "id TEXT PRIMARY KEY, app_id TEXT NOT NULL, from_user TEXT NOT NULL, history TEXT NOT NULL, created_at DOUBLE PRECISION NOT NULL",
    ),
]

_DATASETS = [
    _table(
        "datasets",
        "id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, name TEXT NOT NULL, description TEXT, permission TEXT NOT NULL, "
        "data_source_type TEXT, indexing_technique TEXT, embedding_model TEXT, embedding_model_provider TEXT, "
        "retrieval_model TEXT NOT NULL, created_by TEXT, created_at DOUBLE PRECISION NOT NULL, updated_at DOUBLE PRECISION NOT NULL",
    ),
    _table(
        "upload_files",
        "id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, storage_key TEXT NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL, "
        "extension TEXT, mime_type TEXT, hash TEXT, created_by TEXT, created_at DOUBLE PRECISION NOT NULL",
    ),
    _table(
        "documents",
        "id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, dataset_id TEXT NOT NULL, position INTEGER NOT NULL, batch TEXT NOT NULL, "
        "name TEXT NOT NULL, upload_file_id TEXT NOT NULL, process_rule TEXT NOT NULL, created_from TEXT, created_by TEXT, "
        "created_at DOUBLE PRECISION NOT NULL, indexing_status TEXT NOT NULL, error TEXT, word_count INTEGER, tokens INTEGER, "
        "processing_started_at DOUBLE PRECISION, parsing_completed_at DOUBLE PRECISION, cleaning_completed_at DOUBLE PRECISION, "
        "splitting_completed_at DOUBLE PRECISION, completed_at DOUBLE PRECISION, stopped_at DOUBLE PRECISION",
    ),
    _table(
        "document_segments",
        "id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, dataset_id TEXT NOT NULL, document_id TEXT NOT NULL, position INTEGER NOT NULL, "
        # Not "vector": MariaDB keeps that word for a type of its own since 11.7.
        "content TEXT NOT NULL, word_count INTEGER NOT NULL, tokens INTEGER NOT NULL, index_node_hash TEXT, embedding TEXT, "
        "hit_count INTEGER NOT NULL, status TEXT NOT NULL, created_by TEXT, created_at DOUBLE PRECISION NOT NULL, "
        "completed_at DOUBLE PRECISION",
    ),
]

_PLUGINS = [
    _table(
        "plugins",
        "plugin_unique_identifier TEXT PRIMARY KEY, plugin_id TEXT NOT NULL, declaration TEXT NOT NULL, created_at DOUBLE PRECISION NOT NULL",
    ),
    _table(
        "plugin_installations",
        "id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, plugin_id TEXT NOT NULL, plugin_unique_identifier TEXT NOT NULL, "
        "runtime_type TEXT NOT NULL, source TEXT NOT NULL, meta TEXT NOT NULL, created_at DOUBLE PRECISION NOT NULL, "
        "updated_at DOUBLE PRECISION NOT NULL, UNIQUE (tenant_id, plugin_id)",
    ),
    _table(
        "install_tasks",
        "id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, status TEXT NOT NULL, total_plugins INTEGER NOT NULL, "
        "completed_plugins INTEGER NOT NULL, plugins TEXT NOT NULL, created_at DOUBLE PRECISION NOT NULL, "
        "updated_at DOUBLE PRECISION NOT NULL",
    ),
]

# What a database of 1.9.2 lacks in 1.16.1: little, but its first start has something to do, as Dify's has.
_LATER = ["CREATE INDEX IF NOT EXISTS provider_model_credentials_tenant_idx ON provider_model_credentials (tenant_id, provider_name)"]


class Migration(NamedTuple):
    name: str
    statements: list[str]
    since: str = "0.6.13"


MIGRATIONS: dict[str, list[Migration]] = {
    "dify": [
        Migration("standin_1_accounts", _ACCOUNTS),
        Migration("standin_2_models", _MODELS),
        Migration("standin_3_apps", _APPS),
        Migration("standin_4_datasets", _DATASETS),
        Migration("standin_5_later", _LATER, since="1.16.1"),
    ],
    "dify_plugin": [Migration("standin_1_plugins", _PLUGINS)],
}


def migrations(kind: str, version: str) -> list[Migration]:
    """What a database of that version of Dify has been through, in order."""
    return [migration for migration in MIGRATIONS[kind] if _order(migration.since) <= _order(version)]


def _order(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
