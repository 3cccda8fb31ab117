"""A copy of this checkout at ``.cache/ansible_collections/llmops/dify_xinference``.

ansible-test insists on that folder name and resolves links, so the link below ``collections/`` does not help there.
The copy holds what git would: tracked files and new ones that are not ignored. It is brought up to date in place.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / ".cache"
TREE = COLLECTIONS / "ansible_collections" / "llmops" / "dify_xinference"
# In the copy the collection lies where it belongs; the link would make a loop.
LEFT_OUT = ("collections/ansible_collections/",)
# What ansible-test and git write into the copy.
KEPT = (Path("tests/output"), Path(".git"))


def wanted() -> list[str]:
    """Paths of the checkout that belong into the copy, relative to its root."""
    listing = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    names = {name for name in listing.stdout.decode().split("\0") if name and not name.startswith(LEFT_OUT)}
    # A tracked file that was deleted but not committed is still listed.
    return sorted(name for name in names if os.path.lexists(ROOT / name))


def same(source: Path, copy: Path) -> bool:
    """Whether the copy needs no work. Times are kept when copying, so this rarely reads a file."""
    if source.is_symlink() or copy.is_symlink():
        return source.is_symlink() and copy.is_symlink() and os.readlink(source) == os.readlink(copy)
    return copy.is_file() and filecmp.cmp(source, copy) and source.stat().st_mode == copy.stat().st_mode


def sync() -> Path:
    """Bring the copy up to date; returns its root."""
    names = wanted()
    TREE.mkdir(parents=True, exist_ok=True)
    if not (TREE / ".git").exists():
        # ansible-test asks the nearest git checkout what to test. Ours ignores .cache: it would test nothing, and pass.
        subprocess.run(["git", "init", "--quiet", str(TREE)], check=True)
    keep = {Path(name) for name in names}
    for folder, _subfolders, files in os.walk(TREE, topdown=False):
        relative = Path(folder).relative_to(TREE)
        if any(relative == kept or kept in relative.parents for kept in KEPT):
            continue
        for file in files:
            if relative / file not in keep:
                (TREE / relative / file).unlink()
        if relative != Path() and not os.listdir(folder):
            os.rmdir(folder)
    for name in names:
        source, copy = ROOT / name, TREE / name
        if same(source, copy):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(copy):
            copy.unlink()
        shutil.copy2(source, copy, follow_symlinks=False)
    return TREE


if __name__ == "__main__":
    try:
        print(sync())
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"Could not copy the checkout for ansible-test: {error}. It takes the list of files from git: run this inside a git checkout.")
