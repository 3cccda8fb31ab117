# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Which Debian packages have to come, out of the indexes of repositories: a package with all it depends on, in one version each.

Only what a minimal system lacks: packages with ``Essential: yes`` or ``Priority: required`` are on every host, with what they need. The rules are those of
Debian's policy, chapters 5.6.12 (versions) and 7.1 (dependencies).
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._bundle import BundleError


class Package(t.NamedTuple):
    """One package of an index. ``url``: where its file is; ``stanza``: its lines, for the bundle's own index."""

    name: str
    version: str
    url: str
    size: int
    sha256: str
    stanza: t.Dict[str, str]

    @property
    def file(self) -> str:
        return self.url.rpartition("/")[2].replace("%3a", ":").replace(":", "_")


def _on_every_host(package: Package) -> bool:
    return package.stanza.get("Essential") == "yes" or package.stanza.get("Priority") == "required"


def parse_index(text: str, base: str) -> list[Package]:
    """The packages of a ``Packages`` file; ``base`` is what ``Filename`` is relative to."""
    packages = []
    for block in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        last = ""
        for line in block.splitlines():
            if line[:1] in (" ", "\t") and last:
                fields[last] += "\n" + line
            elif ":" in line:
                last, _colon, value = line.partition(":")
                fields[last] = value.strip()
        if fields.get("Package") and fields.get("Filename") and fields.get("SHA256"):
            url = base.rstrip("/") + "/" + fields["Filename"].lstrip("./")
            packages.append(Package(fields["Package"], fields.get("Version", ""), url, int(fields.get("Size", 0)), fields["SHA256"].lower(), fields))
    return packages


def _order(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256


def _compare_part(one: str, other: str) -> int:
    while one or other:
        text = [re.match(r"\D*", part).group() for part in (one, other)]  # type: ignore[union-attr]
        for position in range(max(map(len, text))):
            left, right = (_order(part[position]) if position < len(part) else 0 for part in text)
            if left != right:
                return 1 if left > right else -1
        one, other = one[len(text[0]) :], other[len(text[1]) :]
        digits = [re.match(r"\d*", part).group() for part in (one, other)]  # type: ignore[union-attr]
        left, right = (int(part or 0) for part in digits)
        if left != right:
            return 1 if left > right else -1
        one, other = one[len(digits[0]) :], other[len(digits[1]) :]
    return 0


def compare_versions(one: str, other: str) -> int:
    """-1, 0 or 1, as dpkg orders versions."""

    def split(version: str) -> tuple[int, str, str]:
        epoch, colon, rest = version.partition(":")
        if not colon:
            epoch, rest = "0", version
        upstream, _dash, revision = rest.rpartition("-") if "-" in rest else (rest, "", "0")
        return int(epoch), upstream, revision

    left, right = split(one), split(other)
    if left[0] != right[0]:
        return 1 if left[0] > right[0] else -1
    return _compare_part(left[1], right[1]) or _compare_part(left[2], right[2])


def _fits(version: str, relation: str, wanted: str) -> bool:
    if not relation:
        return True
    found = compare_versions(version, wanted)
    return {"<<": found < 0, "<=": found <= 0, "=": found == 0, ">=": found >= 0, ">>": found > 0}[relation]


def parse_depends(text: str) -> list[list[tuple[str, str, str]]]:
    """Alternatives of (name, relation, version) for each dependency."""
    result = []
    for group in filter(None, (part.strip() for part in text.split(","))):
        alternatives = []
        for alternative in group.split("|"):
            found = re.match(r"^\s*([a-z0-9][a-z0-9+.-]*)(?::\w+)?\s*(?:\(\s*(<<|<=|=|>=|>>)\s*([^)\s]+)\s*\))?", alternative)
            if found:
                alternatives.append((found.group(1), found.group(2) or "", found.group(3) or ""))
        result.append(alternatives)
    return result


def closure(wanted: t.Iterable[str], packages: t.Iterable[Package]) -> list[Package]:
    """The wanted packages (``name`` or ``name=version``) and all they depend on, by name. Raises :class:`BundleError`."""
    by_name: dict[str, list[Package]] = {}
    providers: dict[str, list[Package]] = {}
    for package in packages:
        by_name.setdefault(package.name, []).append(package)
        for group in parse_depends(package.stanza.get("Provides", "")):
            providers.setdefault(group[0][0], []).append(package)

    def best(name: str, relation: str, version: str) -> Package | None:
        chosen: Package | None = None
        for candidate in by_name.get(name, []):
            if _fits(candidate.version, relation, version) and (chosen is None or compare_versions(candidate.version, chosen.version) > 0):
                chosen = candidate
        if chosen is None and not relation:
            chosen = min(providers.get(name, []), key=lambda package: package.name, default=None)
        return chosen

    def walk(first: t.Iterable[tuple[str, list[tuple[str, str, str]]]], skipped: t.Container[str], strict: bool) -> dict[str, Package]:
        taken: dict[str, Package] = {}
        waiting = [(text, alternatives, "") for text, alternatives in first]
        while waiting:
            text, alternatives, parent = waiting.pop(0)
            if parent and any(name in skipped or name in taken for name, _relation, _version in alternatives):
                continue
            package = next(filter(None, (best(*alternative) for alternative in alternatives)), None)
            if package is None:
                if strict:
                    raise BundleError(f"the package {text}{parent} is in none of the repositories.")
                continue
            if package.name in taken or (parent and package.name in skipped):
                continue
            taken[package.name] = package
            for key in ("Pre-Depends", "Depends"):
                for group in parse_depends(package.stanza.get(key, "")):
                    words = " | ".join(" ".join(filter(None, alternative)) for alternative in group)
                    waiting.append((words, group, f", which {package.name} {package.version} needs,"))
        return taken

    required = [name for name, found in by_name.items() if any(_on_every_host(package) for package in found)]
    base = walk([(name, [(name, "", "")]) for name in required], (), strict=False)
    asked = []
    for text in wanted:
        name, _equals, version = text.partition("=")
        asked.append((text, [(name, "=" if version else "", version)]))
    taken = walk(asked, base, strict=True)
    return [taken[name] for name in sorted(taken)]


def index_of(packages: t.Iterable[Package]) -> str:
    """A ``Packages`` file for a folder with these packages' files."""
    blocks = []
    for package in packages:
        fields = {key: value for key, value in package.stanza.items() if key not in ("Filename", "MD5sum", "SHA1")}
        fields["Filename"] = "./" + package.file
        # The name first, as every index has it, and the rest in an order of its own: a lock does not keep any.
        order = sorted(fields, key=lambda key: (key != "Package", key))
        blocks.append("".join(f"{key}: {fields[key]}\n" for key in order))
    return "\n".join(blocks)


__all__ = ["Package", "closure", "compare_versions", "index_of", "parse_depends", "parse_index"]
