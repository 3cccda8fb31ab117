# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _dify_env as env

EXAMPLE = """# Common
CONSOLE_API_URL=
LOG_LEVEL=INFO
SECRET_KEY=
DB_PASSWORD=difyai123456
REDIS_PASSWORD=difyai123456
CELERY_BROKER_URL=redis://:difyai123456@redis:6379/1
SANDBOX_API_KEY=dify-sandbox
CODE_EXECUTION_API_KEY=dify-sandbox

EXPOSE_NGINX_PORT=80
"""
COMPOSE = "services:\n  api:\n    environment:\n      X: ${SSRF_HTTP_PORT:-3128}\n      T: ${DIFY_AGENT_API_TOKEN:-dify-agent-run-token-for-dev-only}\n"
SECRETS = {rule.name: f"{rule.name}Value1".replace("_", "") for rule in env.SECRET_RULES}


def test_every_variable_that_repeats_a_secret_carries_the_same():
    known = env.known_names(EXAMPLE, COMPOSE)
    text = env.render(EXAMPLE, env.secret_settings(SECRETS, known))
    values = env.parse(text)
    assert values["CELERY_BROKER_URL"] == f"redis://:{values['REDIS_PASSWORD']}@redis:6379/1"
    assert values["SANDBOX_API_KEY"] == values["CODE_EXECUTION_API_KEY"] == SECRETS["SANDBOX_API_KEY"]
    assert values["DIFY_AGENT_API_TOKEN"] == SECRETS["DIFY_AGENT_API_TOKEN"]
    assert values["INIT_PASSWORD"] == SECRETS["INIT_PASSWORD"]
    assert "WEAVIATE_API_KEY" not in values  # this release has no such variable
    assert "difyai123456" not in text
    assert env.public_leftovers(text, EXAMPLE, COMPOSE) == []


def test_public_values_that_would_stay_are_named():
    assert env.public_leftovers(EXAMPLE, EXAMPLE, COMPOSE) == [
        "CELERY_BROKER_URL",
        "CODE_EXECUTION_API_KEY",
        "DB_PASSWORD",
        "DIFY_AGENT_API_TOKEN",
        "REDIS_PASSWORD",
        "SANDBOX_API_KEY",
    ]


def test_the_examples_frame_stays_and_new_names_follow():
    text = env.render(EXAMPLE, {"LOG_LEVEL": "DEBUG", "MY_OWN": True})
    assert text.splitlines()[:3] == ["# Common", "CONSOLE_API_URL=", "LOG_LEVEL=DEBUG"]
    assert text.splitlines()[-1] == "MY_OWN=true"
    assert env.render(EXAMPLE, {}) == EXAMPLE


def test_a_name_that_is_repeated_is_written_every_time():
    assert env.parse(env.render("A=1\nA=2\n", {"A": "3"})) == {"A": "3"}


def test_unknown_name_comes_with_the_nearest_known_one():
    with pytest.raises(env.EnvRefused, match=r"LOG_LEVL is unknown to this release; did you mean LOG_LEVEL\?"):
        env.check_names({"LOG_LEVL": "x"}, env.known_names(EXAMPLE, COMPOSE))


def test_names_of_optional_files_and_commented_ones_are_known():
    known = env.known_names(EXAMPLE, COMPOSE, ["# QDRANT_URL=http://qdrant:6333\n"])
    env.check_names({"QDRANT_URL": "x", "SSRF_HTTP_PORT": 1, "PLUGIN_IGNORE_UV_LOCK": True}, known)


def test_secrets_are_not_taken_as_plain_settings():
    with pytest.raises(env.EnvRefused, match="dify_secrets"):
        env.check_names({"DB_PASSWORD": "x"}, env.known_names(EXAMPLE))


@pytest.mark.parametrize("value", ["plain", "a b", "cash$money", "hash # tag", 'say "hi"', "it's", 'it\'s $5 "x" \\n', ""])
def test_values_come_back_as_they_went_in(value):
    assert env.parse(f"X={env.quote('X', value)}") == {"X": value}


def test_line_breaks_are_refused():
    with pytest.raises(env.EnvRefused, match="X: the value contains a line break"):
        env.quote("X", "a\nb")


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "redis://:{}@redis:6379/1"),
        ({"REDIS_HOST": "cache.example.com", "REDIS_PORT": 6380, "REDIS_USERNAME": "dify", "REDIS_USE_SSL": True}, "rediss://dify:{}@cache.example.com:6380/1"),
    ],
)
def test_the_broker_is_where_redis_is(settings, url):
    assert env.broker_url(settings) == url
    found = env.secret_settings(SECRETS, env.known_names(EXAMPLE, COMPOSE), settings)
    assert found["CELERY_BROKER_URL"] == url.format(SECRETS["REDIS_PASSWORD"])


def test_profiles_keep_their_references():
    example = "COMPOSE_PROFILES=${VECTOR_STORE:-weaviate},${DB_TYPE:-postgresql},collaboration\n"
    assert env.profiles(example, ["certbot"]) == "${VECTOR_STORE:-weaviate},${DB_TYPE:-postgresql},collaboration,certbot"
    assert env.profiles(example, [], ["postgresql", "weaviate"]) == "collaboration"
    assert env.profiles("A=1\n", ["certbot"]) == "certbot"
    assert env.render(example, {}, {"COMPOSE_PROFILES": "${A:-b},c"}) == "COMPOSE_PROFILES=${A:-b},c\n"


def test_public_values_that_services_already_keep_are_found():
    assert env.public_in_use(env.parse(EXAMPLE)) == ["DB_PASSWORD"]
    assert env.public_in_use({"SECRET_KEY": "sk-9f73s3ljTXVcMT3Blb3ljTqtsKiGHXVcMT3BlbkFJLK7U"}) == ["SECRET_KEY"]
    assert env.public_in_use({"REDIS_PASSWORD": "difyai123456"}) == []  # the next start replaces it


def test_the_chosen_store_must_not_run_on_a_public_default():
    values = {"CHROMA_AUTH_CREDENTIALS": "difyai123456", "CHROMA_HOST": "chroma", "QDRANT_API_KEY": "difyai123456", "OPENSEARCH_PASSWORD": "admin"}
    assert env.public_of_store(values, "chroma") == ["CHROMA_AUTH_CREDENTIALS"]
    assert env.public_of_store(values, "opensearch") == ["OPENSEARCH_PASSWORD"]
    assert env.public_of_store({**values, "CHROMA_AUTH_CREDENTIALS": "MyOwnValue1"}, "chroma") == []
    assert env.public_of_store(values, "weaviate") == []


@pytest.mark.parametrize(
    ("without", "values", "left"),
    [
        ([], {}, "${VECTOR_STORE:-weaviate},${DB_TYPE:-postgresql},collaboration"),
        (["postgresql"], {}, "${VECTOR_STORE:-weaviate},collaboration"),
        # What the reference stands for counts, not its default.
        (["mysql"], {"DB_TYPE": "mysql"}, "${VECTOR_STORE:-weaviate},collaboration"),
        (["milvus"], {"VECTOR_STORE": "milvus"}, "${DB_TYPE:-postgresql},collaboration"),
        (["weaviate"], {"VECTOR_STORE": "milvus"}, "${VECTOR_STORE:-weaviate},${DB_TYPE:-postgresql},collaboration"),
    ],
)
def test_profiles_of_servers_elsewhere_are_left_out(without, values, left):
    assert env.profiles("COMPOSE_PROFILES=${VECTOR_STORE:-weaviate},${DB_TYPE:-postgresql},collaboration\n", [], without, values) == left
