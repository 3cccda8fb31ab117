# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _dify_vector as vector
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_layout import read

# Outlines of what releases have: store -> (its services, names of its variables), written for this test.
OF_0_15 = {
    "weaviate": (["weaviate"], "WEAVIATE_ENDPOINT WEAVIATE_API_KEY"),
    "qdrant": (["qdrant"], "QDRANT_URL QDRANT_API_KEY"),
    "pgvector": (["pgvector"], "PGVECTOR_HOST PGVECTOR_PASSWORD PGVECTOR_POSTGRES_PASSWORD"),
    "pgvecto-rs": (["pgvecto-rs"], "PGVECTO_RS_HOST PGVECTO_RS_PASSWORD"),
    "chroma": (["chroma"], "CHROMA_HOST CHROMA_AUTH_CREDENTIALS CHROMA_SERVER_AUTHN_CREDENTIALS"),
    "oracle": (["oracle"], "ORACLE_HOST ORACLE_PASSWORD"),
    "milvus": (["etcd", "minio", "milvus-standalone"], "MILVUS_URI MILVUS_USER MILVUS_PASSWORD"),
    "opensearch": (["opensearch", "opensearch-dashboards"], "OPENSEARCH_HOST OPENSEARCH_PASSWORD OPENSEARCH_INITIAL_ADMIN_PASSWORD"),
    "myscale": (["myscale"], "MYSCALE_HOST MYSCALE_PASSWORD"),
    "elasticsearch": (["elasticsearch", "kibana"], "ELASTICSEARCH_HOST ELASTICSEARCH_PASSWORD"),
    "couchbase": (["couchbase-server"], "COUCHBASE_CONNECTION_STRING COUCHBASE_PASSWORD"),
}
OF_1_9 = {
    **OF_0_15,
    "oceanbase": (["oceanbase"], "OCEANBASE_VECTOR_HOST OCEANBASE_VECTOR_USER OCEANBASE_VECTOR_PASSWORD"),
    "opengauss": (["opengauss"], "OPENGAUSS_HOST OPENGAUSS_PASSWORD"),
    "vastbase": (["vastbase"], "VASTBASE_HOST VASTBASE_PASSWORD"),
    "matrixone": (["matrixone"], "MATRIXONE_HOST MATRIXONE_PASSWORD"),
}
OF_1_16 = {**OF_1_9, "seekdb": (["seekdb"], "SEEKDB_MEMORY_LIMIT"), "iris": (["iris"], "IRIS_HOST IRIS_PASSWORD")}
RELEASES = {"0.15.8": OF_0_15, "1.9.2": OF_1_9, "1.16.1": OF_1_16}
ELSEWHERE = "TENCENT_VECTOR_DB_URL TIDB_VECTOR_HOST UPSTASH_VECTOR_URL LINDORM_URL".split()
SECURE = sorted(name for name in OF_1_16 if not vector.STORES[name].fixed)


def outline(stores: dict) -> str:
    """A compose file with these stores, and with profiles that are none."""
    parts = [
        "services:",
        "  api:",
        "    image: langgenius/dify-api:x",
        "  db_mysql:",
        "    profiles: [mysql]",
        "  certbot:",
        "    profiles:",
        "      - certbot",
    ]
    for name, (services, _names) in stores.items():
        more = ["      - ''"] if name == "weaviate" else ["      - elasticsearch-ja"] if name == "elasticsearch" else []
        for service in services:
            parts += [f"  {service}:", "    profiles:", *more, f"      - {name}", "    restart: always", "    ports:", "      - 1:1"]
    return "\n".join(parts) + "\n"


def known(stores: dict) -> list[str]:
    return [*ELSEWHERE, *(variable for _services, names in stores.values() for variable in names.split())]


def profiles(stores: dict) -> list[str]:
    return [profile for names in read(outline(stores)).profiles.values() for profile in names]


def test_profiles_are_read_in_both_ways_of_writing_them():
    found = read(outline(OF_0_15)).profiles
    assert (found["db_mysql"], found["weaviate"], found["minio"]) == (("mysql",), ("", "weaviate"), ("milvus",))
    assert "api" not in found


@pytest.mark.parametrize("version", RELEASES)
def test_a_release_offers_exactly_what_comes_with_it(version):
    stores = RELEASES[version]
    for name in OF_1_16:
        said = vector.problem(name, False, profiles(stores), known(stores), [])
        if name not in stores:
            assert "does not come with this release; it has chroma, couchbase, elasticsearch" in said and "dify_vector_store_external" in said
        elif vector.STORES[name].fixed:
            assert "not secure as it comes" in said
        else:
            assert said == ""


@pytest.mark.parametrize("version", RELEASES)
@pytest.mark.parametrize("name", SECURE)
def test_one_password_goes_to_all_that_must_carry_it(version, name):
    stores = RELEASES[version]
    if name not in stores:
        return
    plain, secret = vector.settings(name, "Generated1", {}, known(stores))
    assert set(secret.values()) <= {"Generated1_aA1"}
    assert set(secret) == {variable for variable in vector.STORES[name].carries if variable in known(stores)}
    assert all(value in outline(stores) or "standalone" in value or value == "root" for value in plain.values()), plain
    own = next(iter(secret), "")
    if own:
        others = vector.settings(name, "Generated1", {own: "Mine"}, known(stores))[1]
        assert set(others.values()) <= {"Mine"} and own not in others


def test_a_store_without_a_password_of_ones_own_needs_a_deliberate_one():
    assert "public password" in vector.problem("milvus", False, profiles(OF_1_16), known(OF_1_16), [])
    assert vector.problem("milvus", False, profiles(OF_1_16), known(OF_1_16), ["MILVUS_PASSWORD"]) == ""


def test_one_elsewhere_must_be_one_that_the_release_knows():
    for name in ("tencent_vector_db", "tidb_vector", "qdrant", "elasticsearch-ja", "milvus", "seekdb"):
        assert vector.problem(name, True, profiles(OF_1_16), known(OF_1_16), []) == "", name
    said = vector.problem("pinecone", True, profiles(OF_1_16), known(OF_1_16), [])
    assert "PINECONE_" in said and "weaviate" in said


def test_what_the_user_says_of_the_address_stays():
    plain, _secret = vector.settings("opensearch", "x", {"OPENSEARCH_HOST": "mine"}, ["OPENSEARCH_HOST"])
    assert plain == {}
    assert vector.settings("weaviate", "x", {}, ["WEAVIATE_ENDPOINT"]) == ({}, {})
