# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ``flask migrate-data-for-plugin`` does to a database from before 1.0: providers get their long names.

The credentials keep the short one, and with it they are lost to look-ups (recorded: upgrade-0.15.8-to-1.16.1-*). That look-ups
miss the models' rows too is recorded by its effects; how it comes about is not known.
"""

from __future__ import annotations

from . import security
from .providers import LEGACY_TYPES
from .storage import Database

SHORT, LONG = "xinference", "langgenius/xinference/xinference"


def migrate_data_for_plugin(database: Database) -> int:
    """Renames; returns the number of models. A second run finds nothing to do."""
    rows = database.query(
        "SELECT m.id, m.model_type FROM provider_models m LEFT JOIN provider_model_credentials c ON c.id = m.credential_id "
        "WHERE m.provider_name = ? ORDER BY c.updated_at DESC",
        SHORT,
    )
    for row in rows:
        # A new id: models are listed in the order in which they were rewritten.
        database.execute(
            "UPDATE provider_models SET id = ?, provider_name = ?, model_type = ? WHERE id = ?",
            security.new_id(),
            LONG,
            LEGACY_TYPES[row["model_type"]],
            row["id"],
        )
    for table in ("tenant_default_models", "provider_model_settings"):
        database.execute(f"UPDATE {table} SET provider_name = ? WHERE provider_name = ?", LONG, SHORT)
    return len(rows)
