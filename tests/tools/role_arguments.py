"""Holds every role's defaults/main.yml and meta/argument_specs.yml to each other.

``python -m tests.tools.role_arguments [ROLE_FOLDER...]``: names must be the same on both sides, an option's default
must be the variable's value and of the option's type. Required options stay out of the defaults.
A variable starts with the first word of its role's name.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "path": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
}
TEMPLATE = re.compile(r"{[{%]")


def is_template(value: Any) -> bool:
    return isinstance(value, str) and TEMPLATE.search(value) is not None


def has_template(value: Any) -> bool:
    """Whether a template is anywhere inside."""
    if isinstance(value, dict):
        return any(has_template(item) for item in [*value, *value.values()])
    if isinstance(value, list):
        return any(has_template(item) for item in value)
    return is_template(value)


def fits(value: Any, kind: str) -> bool:
    """Whether a default is of the option's type; a template's type shows at run time only."""
    if kind in ("raw", "any") or is_template(value) or value is None:
        return True
    if isinstance(value, bool):
        return kind == "bool"
    return isinstance(value, TYPES.get(kind, ()))


def compare(role: str, defaults: dict[str, Any], options: dict[str, dict[str, Any]]) -> list[str]:
    """What is wrong with one role's ``main`` entry point; one line each, empty when nothing is."""
    problems = []
    for name in sorted(set(defaults) | set(options)):
        # dify_models takes dify_default_models: a family of roles shares its first word.
        family = role.split("_")[0] + "_"
        if not name.startswith(family):
            problems.append(f"{name}: does not start with {family}")
        if name not in options:
            problems.append(f"{name}: is in defaults/main.yml only; describe it in meta/argument_specs.yml")
            continue
        option = options[name] or {}
        kind = option.get("type", "str")
        if not option.get("description"):
            problems.append(f"{name}: has no description in meta/argument_specs.yml")
        if option.get("required"):
            if name in defaults:
                problems.append(f"{name}: is required, so a value in defaults/main.yml hides that it is missing")
            continue
        if name not in defaults:
            problems.append(f"{name}: is in meta/argument_specs.yml only; give it a value in defaults/main.yml or make it required")
            continue
        value = defaults[name]
        if "default" not in option:
            # Null needs no word. A template where a number or a list is due cannot be stated: documentation tools refuse it.
            if value is not None and not (kind not in ("str", "path") and has_template(value)):
                problems.append(f"{name}: defaults/main.yml says {value!r}, meta/argument_specs.yml gives no default")
        elif type(option["default"]) is not type(value) or option["default"] != value:
            problems.append(f"{name}: defaults/main.yml says {value!r}, meta/argument_specs.yml says {option['default']!r}")
        if not fits(value, kind):
            problems.append(f"{name}: the default {value!r} is not of type {kind}")
        choices = option.get("choices")
        if choices and value is not None and not is_template(value) and value not in choices:
            problems.append(f"{name}: the default {value!r} is none of {choices!r}")
    return problems


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None


def check(folder: Path) -> list[str]:
    """What is wrong with one role on disk. A folder without tasks is no role."""
    if not (folder / "tasks").is_dir():
        return []
    specs = load(folder / "meta" / "argument_specs.yml")
    if not isinstance(specs, dict) or "main" not in (specs.get("argument_specs") or {}):
        return ["meta/argument_specs.yml with a main entry point is missing"]
    main = specs["argument_specs"]["main"] or {}
    return compare(folder.name, load(folder / "defaults" / "main.yml") or {}, main.get("options") or {})


def main(arguments: list[str]) -> int:
    folders = [Path(argument) for argument in arguments] or sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
    failed = 0
    for folder in folders:
        for problem in check(folder):
            failed += 1
            print(f"roles/{folder.name}: {problem}")
    print(f"role arguments: {len(folders)} roles, {failed} problems")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
