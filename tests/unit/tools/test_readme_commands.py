from __future__ import annotations

import pathlib

from ansible_collections.llmops.dify_xinference.tests.tools import readme_commands

TARGETS = {"demo", "test"}


def problems(text: str, root: pathlib.Path) -> list:
    return readme_commands.problems(text, TARGETS, root, root)


def test_targets_of_a_makefile() -> None:
    makefile = ".PHONY: demo\ndemo: venv ## shows it\n\t@echo x: y\nVENV := .venv\ntest:\n"
    assert readme_commands.make_targets(makefile) == {"demo", "test"}


def test_a_missing_target_is_named(tmp_path: pathlib.Path) -> None:
    text = "```sh\nmake demo  # shows all of it\nmake tset PYTHON=python3.12\nKEEP=1 make demo ARGS=\"-s docker\"\napt-get install git make python3\n```\n"
    assert problems(text, tmp_path) == ["make tset: the Makefile has no such target"]


def test_prose_is_no_command(tmp_path: pathlib.Path) -> None:
    assert problems("These make nonsense.\n\n```yaml\nmake nonsense\n```\n", tmp_path) == []


def test_playbooks_must_exist(tmp_path: pathlib.Path) -> None:
    (tmp_path / "site.yml").touch()
    text = "```bash\nansible-playbook -i inventory.yml \\\n  site.yml\nansible-playbook playbooks/none.yml\n```\n"
    assert problems(text, tmp_path) == ["ansible-playbook playbooks/none.yml: no such file"]


def test_relative_links_must_lead_somewhere(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.md").touch()
    text = "[a](a.md#part) [b](b.md) [web](https://example.org/c.md) [here](#part)\n"
    assert problems(text, tmp_path) == ["link to b.md: no such file"]
