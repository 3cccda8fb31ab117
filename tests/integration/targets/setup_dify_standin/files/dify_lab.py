# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the stand-in of one Dify with a scripted Xinference: dify_lab.py COLLECTION VERSION FOLDER.

What a test needs to know is in FOLDER/lab.json as soon as it serves; FOLDER/*.difypkg are packages of the provider plugin.
"""

from __future__ import annotations

import json
import pathlib
import sys
import time


def main(collection, version, folder):
    sys.path.insert(0, collection)
    from tests.fleet.standins.dify import build
    from tests.fleet.standins.dify.lab import Lab

    place = pathlib.Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    for number in ("0.0.14", "0.0.15"):
        (place / f"xinference-{number}.difypkg").write_bytes(build.plugin_package(number))
    lab = Lab(place / "storage", version, setup=False, init_password="InitPassword123")
    lab.xinference.guarded = None
    known = {"url": lab.url, "xinference_url": lab.xinference_url, "admin_key": lab.admin_key, "key": lab.xinference.KEY}
    (place / "lab.new").write_text(json.dumps(known))
    (place / "lab.new").rename(place / "lab.json")
    time.sleep(900)


if __name__ == "__main__":
    main(*sys.argv[1:])
