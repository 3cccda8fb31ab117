# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python -m tests.fleet.images --registry HOST:PORT``: build and push the images. ``--models``: make the tiny models."""

from __future__ import annotations

import argparse
import json
import sys

from tests.fleet import images, shell


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fleet.images", description=__doc__)
    parser.add_argument("--registry", metavar="HOST:PORT", help="push to this registry")
    parser.add_argument("--only", metavar="NAME", action="append", default=[], help="only this image (repository or repository:tag); repeatable")
    parser.add_argument("--models", action="store_true", help="make the tiny models")
    parser.add_argument("--json", action="store_true", help="print the digests as JSON")
    options = parser.parse_args()
    if not options.registry and not options.models:
        parser.error("say --registry HOST:PORT, --models, or both")

    def log(message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    try:
        if options.models:
            folder = images.ensure_models(log)
            if not options.json:
                print(folder)
        if options.registry:
            digests = images.ensure(options.registry, log, options.only)
            print(json.dumps(digests) if options.json else "\n".join(f"{name}@{digest}" for name, digest in digests.items()))
    except shell.FleetError as error:
        print(str(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
