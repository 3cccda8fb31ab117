# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import threading

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _docker_images as images


class Docker:
    """An engine that is played: what it has, what a registry would give, and how often it fails first."""

    def __init__(self, there=(), served=(), failures=None, words="net/http: TLS handshake timeout"):
        self.there = set(there)
        self.served = set(served)
        self.failures = dict(failures or {})
        self.words = words
        self.pulls = []
        self.at_once = self.most = 0
        self.lock = threading.Lock()

    def __call__(self, argv, timeout):
        name = argv[-1]
        if argv[1:3] == ["image", "inspect"]:
            if name not in self.there:
                return 1, "[]\n", f"Error response from daemon: No such image: {name}"
            return 0, f'["{name.rpartition(":")[0]}@sha256:{len(name)}"] sha256:id\n', ""
        assert argv[1] == "pull"
        with self.lock:
            self.pulls.append(name)
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        threading.Event().wait(0.02)
        with self.lock:
            self.at_once -= 1
        if self.failures.get(name, 0) > 0:
            self.failures[name] -= 1
            return 1, "", "noise\n" + self.words
        if name not in self.served:
            return 1, "", f"Error response from daemon: manifest for {name} not found: manifest unknown"
        self.there.add(name)
        return 0, name, ""


def ensure(docker, names, **more):
    return images.ensure(names, docker, sleep=lambda seconds: None, **more)


def test_only_what_is_missing_is_pulled_and_not_twice():
    docker = Docker(there=["a:1"], served=["b:1"])
    before, after = ensure(docker, ["a:1", "b:1"])
    assert [image.present for image in before] == [True, False]
    assert [(image.name, image.pulled, image.digest) for image in after] == [("a:1", False, "sha256:3"), ("b:1", True, "sha256:3")]
    assert docker.pulls == ["b:1"]
    assert not any(image.pulled for image in ensure(docker, ["a:1", "b:1"])[1])
    assert docker.pulls == ["b:1"]


def test_check_mode_says_the_same_and_pulls_nothing():
    docker = Docker(there=["a:1"], served=["b:1"])
    dummy, after = ensure(docker, ["a:1", "b:1"], check=True)
    assert [image.pulled for image in after] == [False, True]
    assert docker.pulls == []


def test_one_that_does_not_come_stops_no_other_and_is_not_tried_in_vain():
    docker = Docker(served=["a:1", "c:1"])
    dummy, after = ensure(docker, ["a:1", "b:1", "c:1"])
    assert [image.present for image in after] == [True, False, True]
    assert (after[1].attempts, "manifest unknown" in after[1].error) == (1, True)


def test_a_network_that_fails_is_tried_again():
    docker = Docker(served=["a:1"], failures={"a:1": 2})
    assert ensure(docker, ["a:1"], retries=2)[1][0].attempts == 3
    docker = Docker(served=["a:1"], failures={"a:1": 2})
    image = ensure(docker, ["a:1"], retries=1)[1][0]
    assert (image.present, image.attempts, image.error) == (False, 2, "net/http: TLS handshake timeout")


def test_side_by_side_and_no_more_than_told():
    names = [f"{letter}:1" for letter in "abcdefgh"]
    docker = Docker(served=names)
    told = []
    ensure(docker, names, parallel=3, progress=told.append)
    assert docker.most == 3
    assert told[-1] == dict.fromkeys(names, "pulled")


def test_an_engine_that_does_not_answer_is_no_missing_image():
    with pytest.raises(images.ImagesError, match="Cannot connect"):
        images.inspect(["a:1"], lambda argv, timeout: (1, "", "Cannot connect to the Docker daemon"))
    with pytest.raises(images.ImagesError, match="not found"):
        images.inspect(["a:1"], lambda argv, timeout: (127, "", ""))


def test_the_list_of_a_compose_project():
    asked = []

    def run(argv, timeout):
        asked.append(argv)
        return 0, "redis:6-alpine\nlanggenius/dify-api:1.16.1\nlanggenius/dify-api:1.16.1\n", ""

    assert images.compose_images("/d", ["a.yml"], ["weaviate"], run) == ["langgenius/dify-api:1.16.1", "redis:6-alpine"]
    assert asked == [["docker", "compose", "--project-directory", "/d", "--file", "a.yml", "--profile", "weaviate", "config", "--images"]]
    with pytest.raises(images.ImagesError, match="no configuration file"):
        images.compose_images("/d", [], [], lambda argv, timeout: (14, "", "no configuration file provided: not found"))


def test_names_are_made_whole_and_told_once():
    assert images.wanted_names(["a", "a:latest", "r:5000/b", "c@sha256:1"]) == ["a:latest", "r:5000/b:latest", "c@sha256:1"]


@pytest.mark.parametrize(
    ("name", "digest"),
    [("redis:6", "sha256:1"), ("docker.io/library/redis:6", "sha256:1"), ("mirror:5000/redis:6", "sha256:2"), ("other:1", ""), ("redis@sha256:1", "sha256:1")],
)
def test_the_digest_is_that_of_the_repository_asked_for(name, digest):
    assert images.digest_of(name, json.loads('["redis@sha256:1", "mirror:5000/redis@sha256:2"]')) == digest
