"""Holds the documents to what is there: make targets, playbooks, and files that links point to.

``python -m tests.tools.readme_commands [FILE...]`` reads the shell blocks and relative links of Markdown files.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^ *```[ \t]*(?:sh|bash|shell|console)[^\n]*\n(.*?)^ *```", re.M | re.S)
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s#]+)[^)\n]*\)")
TARGET = re.compile(r"^([A-Za-z][\w-]*):(?!=)", re.M)
# A command, not a word: `apt-get install git make python3` asks for no target.
MAKE = re.compile(r"""(?:^|[;&|$(])\s*(?:\w+=\S+\s+)*make((?:[ \t]+[\w-]+(?:=(?:"[^"]*"|\S+))?)*)""")
SETTING = re.compile(r"""\w+=(?:"[^"]*"|\S*)""")
PLAYBOOK = re.compile(r"\bansible-playbook\b([^\n|;&]*)")


def make_targets(makefile: str) -> set[str]:
    """The targets that a Makefile names itself."""
    return set(TARGET.findall(makefile))


def problems(text: str, targets: set[str], root: Path, folder: Path) -> list[str]:
    """What a document promises and the checkout does not hold. ``folder`` is where the document lies."""
    found = []
    for block in BLOCK.findall(text):
        # Lines joined, comments dropped: what is left is what a reader would paste.
        lines = [line.split(" #")[0] for line in block.replace("\\\n", " ").splitlines() if not line.lstrip().startswith("#")]
        for line in lines:
            for words in MAKE.findall(line):
                named = [word for word in SETTING.sub("", words).split() if not word.startswith("-")]
                found += [f"make {word}: the Makefile has no such target" for word in named if word not in targets]
            for words in PLAYBOOK.findall(line):
                # Only files of the checkout: an inventory of the reader's own is his.
                named = [word for word in words.split() if word == "site.yml" or word.startswith("playbooks/")]
                found += [f"ansible-playbook {word}: no such file" for word in named if not (root / word).is_file()]
    for link in LINK.findall(BLOCK.sub("", text)):
        if "://" not in link and not link.startswith("mailto:") and not (folder / link).exists():
            found.append(f"link to {link}: no such file")
    return found


def documents() -> list[Path]:
    """Every Markdown file of the checkout."""
    listing = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return [ROOT / name for name in sorted(set(listing.stdout.split("\n"))) if name and (ROOT / name).is_file()]


def main(arguments: list[str]) -> int:
    files = [Path(argument).resolve() for argument in arguments] or documents()
    targets = make_targets((ROOT / "Makefile").read_text(encoding="utf-8"))
    failed = 0
    for file in files:
        for problem in problems(file.read_text(encoding="utf-8"), targets, ROOT, file.parent):
            failed += 1
            print(f"{file.relative_to(ROOT)}: {problem}")
    print(f"documents: {len(files)} files, {failed} problems")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
