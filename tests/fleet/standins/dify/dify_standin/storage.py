# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The database and the cache behind one small interface: PostgreSQL and Redis in the fleet, sqlite3 and a dict in tests."""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from typing import Any

from . import VERSION
from .config import Settings
from .schema import migrations

Row = dict[str, Any]


class Database:
    """SQL with ``?`` placeholders; every statement is its own transaction.

    One connection per process behind a lock: the stand-in serves a handful of requests at a time.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def execute(self, sql: str, *values: Any) -> int:
        """Runs a statement; returns the number of rows it touched."""
        with self._lock:
            return self._run(sql, values)[0]

    def query(self, sql: str, *values: Any) -> list[Row]:
        with self._lock:
            return self._run(sql, values)[1]

    def one(self, sql: str, *values: Any) -> Row | None:
        rows = self.query(sql, *values)
        return rows[0] if rows else None

    def insert(self, table: str, **columns: Any) -> None:
        names = ", ".join(columns)
        marks = ", ".join("?" for _column in columns)
        self.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", *columns.values())  # names are ours

    def _run(self, sql: str, values: tuple[Any, ...]) -> tuple[int, list[Row]]:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class SqliteDatabase(Database):
    def __init__(self, path: str = ":memory:") -> None:
        super().__init__()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row

    def _run(self, sql: str, values: tuple[Any, ...]) -> tuple[int, list[Row]]:
        cursor = self._connection.execute(sql, values)
        return cursor.rowcount, [dict(row) for row in cursor.fetchall()]

    def close(self) -> None:
        self._connection.close()


class PostgresDatabase(Database):
    """Reconnects once per statement: the database may have been restarted under us."""

    def __init__(self, settings: Settings, database: str) -> None:
        super().__init__()
        self._settings = settings
        self._name = database
        self._connection: Any = None

    def _connect(self) -> Any:
        import psycopg2

        parts = self._settings
        connection = psycopg2.connect(
            host=parts.db_host,
            port=parts.db_port,
            user=parts.db_username,
            password=parts.db_password,
            dbname=self._name,
            connect_timeout=5,
        )
        connection.autocommit = True
        return connection

    def _run(self, sql: str, values: tuple[Any, ...]) -> tuple[int, list[Row]]:
        import psycopg2

        for attempt in (1, 2):
            try:
                if self._connection is None:
                    self._connection = self._connect()
                with self._connection.cursor() as cursor:
                    cursor.execute(sql.replace("%", "%%").replace("?", "%s"), values)
                    if cursor.description is None:
                        return cursor.rowcount, []
                    names = [column[0] for column in cursor.description]
                    return cursor.rowcount, [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                self.close()
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except Exception:  # it is broken anyway
                pass


class MysqlDatabase(Database):
    """MySQL or MariaDB. Its indexes take no unbounded text: what is part of a key becomes text of a fixed length."""

    _KEYS = re.compile(r"\b(id|\w+_id|version|email|token|category|provider_name|model_name|model_type|plugin_unique_identifier) TEXT\b")

    def __init__(self, settings: Settings, database: str) -> None:
        super().__init__()
        self._settings = settings
        self._name = database
        self._connection: Any = None

    def _connect(self) -> Any:
        import pymysql

        parts = self._settings
        return pymysql.connect(
            host=parts.db_host,
            port=parts.db_port,
            user=parts.db_username,
            password=parts.db_password,
            database=self._name or None,
            charset="utf8mb4",
            connect_timeout=5,
            autocommit=True,
            cursorclass=pymysql.cursors.DictCursor,
            # Rows that a statement touched, whether or not it changed anything in them, as the others count.
            client_flag=pymysql.constants.CLIENT.FOUND_ROWS,
        )

    def _run(self, sql: str, values: tuple[Any, ...]) -> tuple[int, list[Row]]:
        import pymysql

        if sql.startswith("CREATE TABLE"):
            sql = self._KEYS.sub(r"\1 VARCHAR(160)", sql).replace(" TEXT", " LONGTEXT")
        for attempt in (1, 2):
            try:
                if self._connection is None:
                    self._connection = self._connect()
                with self._connection.cursor() as cursor:
                    count = cursor.execute(sql.replace("%", "%%").replace("?", "%s"), values)
                    return count, list(cursor.fetchall()) if cursor.description else []
            except (pymysql.err.OperationalError, pymysql.err.InterfaceError):
                self.close()
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except Exception:  # it is broken anyway
                pass


class Cache:
    """What the stand-in uses of Redis: strings with a life time, counters, one lock."""

    def get(self, key: str) -> str | None:
        raise NotImplementedError

    def set(self, key: str, value: str, seconds: int) -> None:
        raise NotImplementedError

    def delete(self, key: str) -> None:
        raise NotImplementedError

    def increment(self, key: str, seconds: int) -> int:
        raise NotImplementedError

    def acquire(self, key: str, seconds: int) -> bool:
        """True when the lock is now ours; it falls open by itself after ``seconds``."""
        raise NotImplementedError

    def ping(self) -> None:
        raise NotImplementedError


class MemoryCache(Cache):
    def __init__(self) -> None:
        self._values: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> str | None:
        value, until = self._values.get(key, ("", 0.0))
        return value if until > time.monotonic() else None

    def set(self, key: str, value: str, seconds: int) -> None:
        self._values[key] = (value, time.monotonic() + seconds)

    def delete(self, key: str) -> None:
        self._values.pop(key, None)

    def delete_prefix(self, start: str) -> None:
        """For tests only: Redis has no such command."""
        for key in [key for key in self._values if key.startswith(start)]:
            self.delete(key)

    def increment(self, key: str, seconds: int) -> int:
        with self._lock:
            value = int(self.get(key) or 0) + 1
            self.set(key, str(value), seconds)
            return value

    def acquire(self, key: str, seconds: int) -> bool:
        with self._lock:
            if self.get(key) is not None:
                return False
            self.set(key, "1", seconds)
            return True

    def ping(self) -> None:
        return


class RedisCache(Cache):
    def __init__(self, settings: Settings) -> None:
        import redis

        self._client = redis.Redis(
            host=settings.redis_host,
            port=settings.redis_port,
            username=settings.redis_username or None,
            password=settings.redis_password or None,
            db=settings.redis_db,
            decode_responses=True,
            socket_connect_timeout=5,
        )

    def get(self, key: str) -> str | None:
        return self._client.get(key)

    def set(self, key: str, value: str, seconds: int) -> None:
        self._client.set(key, value, ex=seconds)

    def delete(self, key: str) -> None:
        self._client.delete(key)

    def increment(self, key: str, seconds: int) -> int:
        value = int(self._client.incr(key))
        self._client.expire(key, seconds)
        return value

    def acquire(self, key: str, seconds: int) -> bool:
        return bool(self._client.set(key, "1", nx=True, ex=seconds))

    def ping(self) -> None:
        self._client.ping()


def open_database(settings: Settings, database: str = "") -> Database:
    """PostgreSQL or MySQL when DB_HOST is set; otherwise a database in memory, for tests."""
    if not settings.db_host:
        return SqliteDatabase()
    kind = MysqlDatabase if settings.db_type == "mysql" else PostgresDatabase
    return kind(settings, database or settings.db_database)


def open_cache(settings: Settings) -> Cache:
    return RedisCache(settings) if settings.redis_host else MemoryCache()


def migrate(database: Database, cache: Cache, kind: str, seconds: float = 0.0, version: str = VERSION) -> bool:
    """Brings the schema up to a version of Dify under a lock, as ``flask upgrade-db`` does; True when something was done.

    Of several starting processes one migrates; the others wait for it. ``seconds`` stretches the first migration,
    because the real one takes a while (136 tables, 45 s measured on two cores).
    """
    lock = f"db_upgrade_lock:{kind}"
    while not cache.acquire(lock, 60):
        time.sleep(0.2)
    try:
        database.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num TEXT NOT NULL)")
        done = {row["version_num"] for row in database.query("SELECT version_num FROM alembic_version")}
        todo = [migration for migration in migrations(kind, version) if migration.name not in done]
        for migration in todo:
            time.sleep(seconds / len(todo))
            for statement in migration.statements:
                database.execute(statement)
            database.insert("alembic_version", version_num=migration.name)
        return bool(todo)
    finally:
        cache.delete(lock)


def schema_ready(database: Database, kind: str, version: str = VERSION) -> bool:
    """Whether every migration has run; False also when the database does not answer."""
    try:
        done = {row["version_num"] for row in database.query("SELECT version_num FROM alembic_version")}
    except Exception:  # no database, no table: not ready
        return False
    return done >= {migration.name for migration in migrations(kind, version)}
