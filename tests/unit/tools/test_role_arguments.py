from __future__ import annotations

import pathlib

import pytest
from ansible_collections.llmops.dify_xinference.tests.tools import role_arguments


def option(**more):
    return {"description": "What it does.", "type": "str", **more}


def test_equal_sides_are_no_problem() -> None:
    defaults = {"shop_port": 80, "shop_hosts": [], "shop_note": None, "shop_url": "http://{{ shop_port }}"}
    options = {
        "shop_port": option(type="int", default=80),
        "shop_hosts": option(type="list", default=[]),
        "shop_note": option(),
        "shop_url": option(default="http://{{ shop_port }}"),
        "shop_key": option(required=True),
    }
    assert role_arguments.compare("shop", defaults, options) == []


@pytest.mark.parametrize(
    ("defaults", "options", "expected"),
    [
        ({"shop_a": 1}, {}, "shop_a: is in defaults/main.yml only"),
        ({}, {"shop_a": option()}, "shop_a: is in meta/argument_specs.yml only"),
        ({"shop_a": 1}, {"shop_a": option(type="int", default=2)}, "defaults/main.yml says 1, meta/argument_specs.yml says 2"),
        # 1 == True in Python; a survey would show the difference.
        ({"shop_a": 1}, {"shop_a": option(type="int", default=True)}, "says 1, meta/argument_specs.yml says True"),
        ({"shop_a": "1"}, {"shop_a": option(type="int", default="1")}, "is not of type int"),
        ({"shop_a": True}, {"shop_a": option(type="int", default=True)}, "is not of type int"),
        ({"shop_a": "x"}, {"shop_a": option()}, "gives no default"),
        ({"shop_a": "x"}, {"shop_a": option(required=True)}, "is required"),
        ({"shop_a": "x"}, {"shop_a": {"type": "str", "default": "x"}}, "has no description"),
        ({"shop_a": "x"}, {"shop_a": option(default="x", choices=["y"])}, "is none of ['y']"),
        ({"port": 1}, {"port": option(type="int", default=1)}, "port: does not start with shop_"),
    ],
)
def test_each_difference_is_named(defaults, options, expected) -> None:
    problems = role_arguments.compare("shop", defaults, options)
    assert len(problems) == 1
    assert expected in problems[0]


def test_a_templated_list_may_stay_out_of_the_specification() -> None:
    defaults = {"shop_ports": ["{{ shop_port | int }}"]}
    assert role_arguments.compare("shop", defaults, {"shop_ports": option(type="list", elements="int")}) == []


def test_a_role_without_a_specification_fails(tmp_path: pathlib.Path) -> None:
    (tmp_path / "tasks").mkdir()
    assert role_arguments.check(tmp_path) == ["meta/argument_specs.yml with a main entry point is missing"]


def test_a_folder_without_tasks_is_no_role(tmp_path: pathlib.Path) -> None:
    assert role_arguments.check(tmp_path) == []


def test_files_on_disk_are_read(tmp_path: pathlib.Path) -> None:
    role = tmp_path / "shop"
    for folder in ("tasks", "defaults", "meta"):
        (role / folder).mkdir(parents=True)
    (role / "defaults" / "main.yml").write_text("shop_port: 80\n")
    (role / "meta" / "argument_specs.yml").write_text(
        "argument_specs: {main: {options: {shop_port: {description: The port., type: int, default: 81}}}}\n"
    )
    assert role_arguments.check(role) == ["shop_port: defaults/main.yml says 80, meta/argument_specs.yml says 81"]
