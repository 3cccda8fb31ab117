# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python3 -m dify_standin <role>``: one container's process. Without a role, MODE says it (as in the real api image)."""

from __future__ import annotations

import os
import sys

from .config import Settings
from .processes import ROLES, migrate_data, reset_password, run


def main(arguments: list[str]) -> int:
    if len(arguments) == 3 and arguments[0] == "reset_password":
        return reset_password(Settings.from_environment(), arguments[1], arguments[2])
    if arguments == ["migrate_data_for_plugin"]:
        return migrate_data(Settings.from_environment())
    role = arguments[0] if arguments else os.environ.get("MODE", "")
    if len(arguments) > 1 or role not in ROLES:
        print(f"usage: python3 -m dify_standin <{'|'.join(ROLES)}>, or reset_password <e-mail> <password>, or migrate_data_for_plugin", file=sys.stderr)
        return 2
    run(role)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
