# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model server's home: copied while it is written to, put in place, taken back."""

from __future__ import annotations

import os
import shutil
import sqlite3

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _xinference_backup as backup
from ansible_collections.llmops.dify_xinference.plugins.module_utils._backup_seal import BackupError

KEY = "correct horse battery staple"
pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not here")


def accounts(home):
    connection = sqlite3.connect(str(home / "data" / "auth" / "auth.db"))
    rows = connection.execute("SELECT name FROM users ORDER BY name").fetchall()
    connection.close()
    return [row[0] for row in rows]


@pytest.fixture
def home(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(backup, "run_command", lambda argv, timeout: calls.append(argv[1]) or (0, "", ""))
    home = tmp_path / "xinference"
    (home / "data" / "auth").mkdir(parents=True)
    (home / "data" / "cache").mkdir()
    (home / "data" / "cache" / "weights.bin").write_bytes(b"x" * 100000)
    (home / "credentials.json").write_text('{"old": true}')
    connection = sqlite3.connect(str(home / "data" / "auth" / "auth.db"))
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE users (name TEXT)")
    connection.execute("INSERT INTO users VALUES ('admin')")
    connection.commit()
    # Stays open with what it wrote in the journal, as a server's does.
    yield home, calls
    connection.close()


def test_a_database_in_use_is_copied_whole_and_weights_are_not(home, tmp_path):
    folder, calls = home
    made = backup.create(str(folder), str(tmp_path / "backups"), "h", KEY, "v4.1.0", None)
    assert sum(part["plain_size"] for part in made["parts"]) < 50000
    assert backup.check(made["path"], KEY, str(folder))["databases"] == 1
    assert sorted(os.listdir(tmp_path)) == ["backups", "xinference"] and calls == []


def test_restored_kept_and_undone(home, tmp_path):
    folder, calls = home
    made = backup.create(str(folder), str(tmp_path / "backups"), "h", KEY, "v4.1.0", None)
    (folder / "credentials.json").write_text('{"new": true}')
    (folder / "data" / "later").write_text("x")
    backup.restore(made["path"], KEY, str(folder), "xinference")
    assert (folder / "credentials.json").read_text() == '{"old": true}' and accounts(folder) == ["admin"]
    assert not (folder / "data" / "later").exists() and (folder / "data" / "cache" / "weights.bin").exists()
    assert backup.undo(str(folder), "xinference") and not backup.undo(str(folder), "xinference")
    assert (folder / "credentials.json").read_text() == '{"new": true}' and (folder / "data" / "later").exists()
    assert calls == ["stop", "stop", "start"]
    backup.restore(made["path"], KEY, str(folder), "xinference")
    assert backup.commit(str(folder)) and not backup.commit(str(folder))
    assert not (folder / backup.ASIDE).exists()


def test_a_wrong_key_touches_nothing(home, tmp_path):
    folder, calls = home
    made = backup.create(str(folder), str(tmp_path / "backups"), "h", KEY, "v4.1.0", None)
    with pytest.raises(BackupError, match="another key"):
        backup.restore(made["path"], "not the key at all", str(folder), "xinference")
    assert calls == []
