# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The images that Dify's and Xinference's compose files name are all there, and keys follow from content."""

from __future__ import annotations

import dataclasses

import pytest

from tests.fleet.images import build, catalog, model_specs, xinference


def test_names_are_those_of_docker_hub():
    assert [spec.name for spec in catalog.chosen() if not spec.repository.startswith("langgenius/")] == [
        "xprobe/xinference:v4.1.0",
        "library/postgres:15-alpine",
        "library/redis:6-alpine",
        "library/nginx:latest",
        "ubuntu/squid:latest",
        "library/busybox:latest",
        "semitechnologies/weaviate:1.27.0",
    ]
    assert {spec.name for spec in catalog.IMAGES if spec.repository.startswith("langgenius/")} == {
        "langgenius/dify-api:1.16.1",
        "langgenius/dify-web:1.16.1",
        "langgenius/dify-plugin-daemon:0.6.3-local",
        "langgenius/dify-sandbox:0.2.15",
        "langgenius/dify-agent-backend:1.16.1",
        "langgenius/dify-agent-local-sandbox:1.16.1",
        # A release to upgrade from.
        "langgenius/dify-api:1.9.2",
        "langgenius/dify-web:1.9.2",
        "langgenius/dify-plugin-daemon:0.3.3-local",
        "langgenius/dify-sandbox:0.2.12",
    }


def test_an_image_for_few_tests_is_built_when_it_is_asked_for_by_name():
    assert "xprobe/xinference:v0.13.3" not in {spec.name for spec in catalog.chosen()}
    assert [spec.name for spec in catalog.chosen(["xprobe/xinference"])] == ["xprobe/xinference:v4.1.0"]
    assert [spec.name for spec in catalog.chosen(["xprobe/xinference:v0.13.3"])] == ["xprobe/xinference:v0.13.3"]


def test_every_image_says_what_is_real_in_it_and_has_one_path():
    for spec in catalog.IMAGES:
        config = spec.full_config()
        assert ("real" in config["Labels"][catalog.KIND_LABEL]) != ("stand-in" in config["Labels"][catalog.KIND_LABEL]), spec.name
        assert sum(entry.startswith("PATH=") for entry in config["Env"]) == 1, spec.name


def test_a_changed_source_file_changes_only_the_layers_from_it_on(tmp_path):
    source = tmp_path / "standin"
    source.mkdir()
    (source / "app.py").write_text("one")
    step = dataclasses.replace(catalog.DIFY, files=(("opt/x", source, 0o644),))
    lower = [build.identity(catalog.DEBIAN), build.identity(catalog.PYTHON_CLIENTS)]
    before = catalog.key_of([*lower, build.identity(step)])
    (source / "__pycache__").mkdir()
    (source / "__pycache__/app.pyc").write_text("compiled")
    assert catalog.key_of([*lower, build.identity(step)]) == before
    (source / "app.py").write_text("two")
    assert catalog.key_of([*lower, build.identity(step)]) != before
    assert catalog.key_of(lower) == catalog.key_of([build.identity(catalog.DEBIAN), build.identity(catalog.PYTHON_CLIENTS)])


@pytest.mark.parametrize("version", [xinference.VERSION, xinference.OLD_VERSION])
def test_the_set_of_python_packages_is_complete_and_free_of_cuda(version):
    pinned, sources = xinference._requirements(version)
    names = [line.split("==")[0].lower() for line in pinned + sources]
    assert all("==" in line for line in pinned + sources) and len(names) == len(set(names)) > 90
    assert f"xinference=={version}" in pinned and "torch==2.13.0" in pinned
    assert not {"torchvision", "triton"} & set(names)
    assert [name for name in names if name.startswith("nvidia")] == ["nvidia-ml-py"]


def test_registrations_point_at_the_folder_as_the_server_sees_it():
    for name, spec in model_specs.registrations("/srv/models/").items():
        assert spec["model_specs"][0]["model_uri"] == f"file:///srv/models/{name}"
    assert model_specs.launch("tiny-llm", "chat")["model_uid"] == "chat"
    assert model_specs.launch("tiny-reranker")["model_type"] == "rerank"
