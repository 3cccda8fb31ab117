# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_layout import not_handed_on, read

# Outlines of the releases' compose files, written for this test: services, and how settings reach them.
V0_6 = """
x-shared-env: &shared-api-worker-env
  LOG_LEVEL: ${LOG_LEVEL:-INFO}

services:
  # API service
  api:
    image: langgenius/dify-api:0.6.13
    environment:
      <<: *shared-api-worker-env
      MODE: api
  worker:
    image: langgenius/dify-api:0.6.13
  web:
    image: langgenius/dify-web:0.6.13
  db:
    image: postgres:15-alpine
    healthcheck:
      test: [ "CMD", "pg_isready" ]
  redis:
    image: redis:6-alpine
  nginx:
    image: nginx:latest
    ports:
      - "${EXPOSE_NGINX_PORT:-80}:${NGINX_PORT:-80}"

networks:
  ssrf_proxy_network:
    internal: true
"""
V1_0 = (
    V0_6.replace("  redis:\n", "    ports:\n      - '${EXPOSE_DB_PORT:-5432}:5432'\n  redis:\n").replace("0.6.13", "1.0.0")
    + """
services:
  plugin_daemon:
    image: langgenius/dify-plugin-daemon:0.0.3-local
    ports:
      - "${EXPOSE_PLUGIN_DEBUGGING_PORT:-5003}:${PLUGIN_DEBUGGING_PORT:-5003}"
"""
)
V1_16 = """
services:
  init_permissions:
    image: busybox:latest
  api:
    image: langgenius/dify-api:1.16.1
    env_file:
      - path: ./envs/core-services/api.env
        required: false
      - path: ./.env
        required: false
    healthcheck: {test: [CMD, "true"]}
  db_postgres:
    image: postgres:15-alpine
    profiles: [postgresql]
  db_mysql:
    image: mysql:8.0
    profiles: [mysql]
"""


def test_0_6_has_a_list_of_variables_and_no_daemon():
    found = read(V0_6)
    assert found.services == ("api", "worker", "web", "db", "redis", "nginx")
    assert (found.published, found.database, found.reads_env, found.one_shot) == (("nginx",), "db", False, ())
    assert found.health_checked == ("db",)


def test_1_0_publishes_its_database():
    assert read(V1_0).published == ("db", "nginx", "plugin_daemon")


def test_1_16_reads_the_whole_env_and_prepares_the_storage():
    found = read(V1_16)
    assert (found.database, found.reads_env, found.one_shot) == ("db_postgres", True, ("init_permissions",))


@pytest.mark.parametrize("entry", ["env_file: ./.env", "env_file: .env", "env_file:\n      - .env", 'env_file:\n      - "./.env"'])
def test_every_way_to_name_the_env_file_is_seen(entry):
    assert read(f"services:\n  api:\n    {entry}\n").reads_env


def test_other_env_files_are_not_the_env():
    assert not read("services:\n  api:\n    env_file:\n      - ./middleware.env\n    volumes:\n      - ./.env.d:/x\n").reads_env


def test_a_text_without_services_is_refused():
    with pytest.raises(ValueError, match="no services"):
        read("volumes:\n  data: {}\n")


def test_what_stops_at_env_is_named():
    assert not_handed_on(["LOG_LEVEL", "PIP_EXTRA_ARGS"], ["LOG_LEVEL"], read(V0_6)) == ["PIP_EXTRA_ARGS"]
    assert not_handed_on(["PIP_EXTRA_ARGS"], [], read(V1_16)) == []


def test_a_service_made_after_another_one_has_its_image():
    found = read("services:\n  one: &squid\n    image: ubuntu/squid:latest\n  two:\n    <<: *squid\n    restart: always\n")
    assert found.images == {"one": "ubuntu/squid:latest", "two": "ubuntu/squid:latest"}
