# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings of the stand-in, read from the environment variables of the real containers."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import secrets
from collections.abc import Mapping

from . import VERSION
from .files import Bucket, Files, open_files


def flag(value: str) -> bool:
    """True for the spellings that Dify's settings take as true."""
    return value.strip().lower() in ("true", "1", "yes", "on")


def _bucket(env: Mapping[str, str], access: str, secret: str, region: str, name: str) -> Bucket:
    return Bucket(env.get("S3_ENDPOINT", ""), env.get(region, "us-east-1"), env.get(name, ""), env.get(access, ""), env.get(secret, ""))


@dataclasses.dataclass
class Settings:
    """What one process of the stack needs; names follow the variables, see ``from_environment``."""

    # Which Dify to be (generations.py); the images carry it as STANDIN_DIFY_VERSION.
    version: str = VERSION
    db_type: str = "postgresql"
    db_host: str = ""
    db_port: int = 5432
    db_username: str = "postgres"
    db_password: str = ""
    db_database: str = "dify"
    vector_host: str = ""  # of pgvector, where that is the vector store
    vector_user: str = "postgres"
    vector_password: str = ""
    vector_database: str = "dify"
    redis_host: str = ""
    redis_port: int = 6379
    redis_username: str = ""
    redis_password: str = ""
    redis_db: int = 0
    secret_key: str = "standin-secret-key"
    init_password: str = ""
    admin_api_key: str = ""
    admin_api_key_enable: bool = False
    console_api_url: str = ""
    console_web_url: str = ""
    service_api_url: str = ""
    cookie_domain: str = ""
    access_token_expire_minutes: int = 60
    refresh_token_expire_days: int = 30
    login_lockout_duration: int = 86400
    migration_enabled: bool = True
    migration_seconds: float = 3.0
    deploy_env: str = "PRODUCTION"
    storage: str = "/app/api/storage"
    bucket: Bucket | None = None  # instead of the folder
    plugin_daemon_url: str = "http://plugin_daemon:5002"
    plugin_daemon_key: str = ""
    plugin_daemon_timeout: float = 600.0
    plugin_max_package_size: int = 52428800
    inner_api_key: str = ""
    marketplace_enabled: bool = True
    marketplace_api_url: str = "https://marketplace.dify.ai"
    marketplace_retry_pause: float = 0.5
    marketplace_timeout: float = 10.0
    bind_address: str = "0.0.0.0"
    port: int = 0
    # plugin daemon
    server_key: str = ""
    force_verifying_signature: bool = True
    plugin_storage: str = "/app/storage"
    plugin_bucket: Bucket | None = None
    plugin_install_seconds: float = 2.0
    xinference_retry_pause: float = 1.0
    xinference_timeout: float = 10.0
    pip_mirror_url: str = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Reads the variables; an empty value counts as unset, as compose passes unset ones as empty.

        The ``STANDIN_*`` ones exist here only: they shorten waits in tests.
        """
        env = {name: value for name, value in (os.environ if environ is None else environ).items() if value != ""}
        get = env.get
        storage = get("OPENDAL_FS_ROOT", "storage")
        return cls(
            version=get("STANDIN_DIFY_VERSION", VERSION),
            db_type=get("DB_TYPE", "postgresql"),
            db_host=get("DB_HOST", ""),
            db_port=int(get("DB_PORT", "5432")),
            db_username=get("DB_USERNAME", "postgres"),
            db_password=get("DB_PASSWORD", ""),
            db_database=get("DB_DATABASE", "dify"),
            vector_host=get("PGVECTOR_HOST", "pgvector") if get("VECTOR_STORE") == "pgvector" else "",
            vector_user=get("PGVECTOR_USER", "postgres"),
            vector_password=get("PGVECTOR_PASSWORD", ""),
            vector_database=get("PGVECTOR_DATABASE", "dify"),
            redis_host=get("REDIS_HOST", ""),
            redis_port=int(get("REDIS_PORT", "6379")),
            redis_username=get("REDIS_USERNAME", ""),
            redis_password=get("REDIS_PASSWORD", ""),
            redis_db=int(get("REDIS_DB", "0")),
            secret_key=get("SECRET_KEY", ""),
            init_password=get("INIT_PASSWORD", ""),
            admin_api_key=get("ADMIN_API_KEY", ""),
            admin_api_key_enable=flag(get("ADMIN_API_KEY_ENABLE", "false")),
            console_api_url=get("CONSOLE_API_URL", "").rstrip("/"),
            console_web_url=get("CONSOLE_WEB_URL", "").rstrip("/"),
            service_api_url=get("SERVICE_API_URL", "").rstrip("/"),
            cookie_domain=get("COOKIE_DOMAIN", ""),
            access_token_expire_minutes=int(get("ACCESS_TOKEN_EXPIRE_MINUTES", "60")),
            refresh_token_expire_days=int(get("REFRESH_TOKEN_EXPIRE_DAYS", "30")),
            login_lockout_duration=int(get("LOGIN_LOCKOUT_DURATION", "86400")),
            migration_enabled=flag(get("MIGRATION_ENABLED", "false")),
            migration_seconds=float(get("STANDIN_MIGRATION_SECONDS", "3")),
            deploy_env=get("DEPLOY_ENV", "PRODUCTION"),
            storage=storage if storage.startswith("/") else f"/app/api/{storage}",
            bucket=_bucket(env, "S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_REGION", "S3_BUCKET_NAME") if get("STORAGE_TYPE") == "s3" else None,
            plugin_daemon_url=get("PLUGIN_DAEMON_URL", "http://plugin_daemon:5002").rstrip("/"),
            plugin_daemon_key=get("PLUGIN_DAEMON_KEY", ""),
            plugin_daemon_timeout=float(get("PLUGIN_DAEMON_TIMEOUT", "600")),
            plugin_max_package_size=int(get("PLUGIN_MAX_PACKAGE_SIZE", get("MAX_PLUGIN_PACKAGE_SIZE", "52428800"))),
            inner_api_key=get("INNER_API_KEY_FOR_PLUGIN", get("DIFY_INNER_API_KEY", "")),
            marketplace_enabled=flag(get("MARKETPLACE_ENABLED", "true")),
            marketplace_api_url=get("MARKETPLACE_API_URL", "https://marketplace.dify.ai").rstrip("/"),
            bind_address=get("DIFY_BIND_ADDRESS", "0.0.0.0"),
            server_key=get("SERVER_KEY", ""),
            force_verifying_signature=flag(get("FORCE_VERIFYING_SIGNATURE", "true")),
            plugin_storage=get("PLUGIN_STORAGE_LOCAL_ROOT", "/app/storage"),
            plugin_bucket=(
                _bucket(env, "AWS_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_REGION", "PLUGIN_STORAGE_OSS_BUCKET") if get("PLUGIN_STORAGE_TYPE") == "aws_s3" else None
            ),
            plugin_install_seconds=float(get("STANDIN_PLUGIN_INSTALL_SECONDS", "2")),
            pip_mirror_url=get("PIP_MIRROR_URL", ""),
        )

    @property
    def files(self) -> Files:
        """What the api keeps: uploaded files and the workspaces' private keys."""
        return open_files(self.storage, self.bucket)

    @property
    def plugin_files(self) -> Files:
        return open_files(self.plugin_storage, self.plugin_bucket)

    def ensure_secret_key(self) -> None:
        """An empty SECRET_KEY is made once and kept in the storage folder, as Dify does since 1.14.1."""
        if self.secret_key:
            return
        path = pathlib.Path(self.storage, ".dify_secret_key")
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # api and worker start together: the link makes one of them win, with a whole file.
            draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
            draft.write_text(secrets.token_urlsafe(42), encoding="ascii")
            draft.chmod(0o600)
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            draft.unlink()
        self.secret_key = path.read_text(encoding="ascii").strip()

    @property
    def secure_cookies(self) -> bool:
        """``__Host-`` cookies: only when both console URLs are https and no cookie domain is set."""
        urls = (self.console_web_url, self.console_api_url)
        return all(url.startswith("https") for url in urls) and not self.cookie_domain
