"""Build the collection and hand it to Galaxy's importer; fails when Galaxy would refuse it.

``python -m tests.tools.importer ENVIRONMENT``: galaxy-importer lives in an environment of its own, and finds
community.docker in this one, so that Galaxy is not asked for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from tests.tools import tree


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        raise SystemExit("usage: python -m tests.tools.importer ENVIRONMENT")
    environment = Path(arguments[0]).absolute()
    galaxy = Path(sys.executable).with_name("ansible-galaxy")
    with tempfile.TemporaryDirectory(prefix="llmops-import-") as folder:
        build = subprocess.run(
            [str(galaxy), "collection", "build", "--force", "--output-path", folder, str(tree.TREE)], stdout=subprocess.DEVNULL, check=False
        )
        archives = list(Path(folder).glob("*.tar.gz"))
        if build.returncode != 0 or len(archives) != 1:
            print(f"ansible-galaxy collection build made no archive (exit status {build.returncode}); its words are above.")
            return 1
        variables = {
            **os.environ,
            "PATH": os.pathsep.join([str(environment / "bin"), "/usr/bin", "/bin"]),
            "ANSIBLE_COLLECTIONS_PATH": sysconfig.get_path("purelib"),
        }
        # Away from the checkout: the importer writes where it is called, and reads an ansible.cfg there.
        importer = [str(environment / "bin" / "python"), "-m", "galaxy_importer.main", str(archives[0])]
        done = subprocess.run(importer, cwd=folder, env=variables, check=False)
        return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
