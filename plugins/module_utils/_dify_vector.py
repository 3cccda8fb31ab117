# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""The vector stores that come with Dify's releases: what each needs beside its name to be reached, and with a password of its own.

Which of them a release has follows from the profiles of its compose file. Source: the compose files and example files of the
releases 0.15 to 1.16. Weaviate, qdrant, pgvector and pgvecto-rs have secrets of their own (``_dify_env.SECRET_RULES``).
"""

from __future__ import annotations

import typing as t

NO_STORES = frozenset(["", "certbot", "collaboration", "mysql", "postgresql", "unstructured"])
# Stands in every password that is made for a store: some refuse one without a capital, a small letter, a digit and a sign.
PASSWORD = "{}_aA1"


class VectorStore(t.NamedTuple):
    """How the release's own server of this kind is used."""

    settings: dict[str, str] = {}  # the examples name an address that no container of Dify reaches
    carries: tuple[str, ...] = ()  # variables that must carry the store's one password
    joins: tuple[str, ...] = ()  # services that the release keeps in a network without the api
    fixed: str = ""  # why no password of one's own can be given to it
    prefix: str = ""  # of its variables, where that is not its name


_FIXED = "its password stands in the release's files, and no variable of .env changes it"
STORES: dict[str, VectorStore] = {
    "weaviate": VectorStore(),
    "qdrant": VectorStore(),
    "pgvector": VectorStore(),
    "pgvecto-rs": VectorStore(),
    "chroma": VectorStore({"CHROMA_HOST": "chroma"}, ("CHROMA_AUTH_CREDENTIALS", "CHROMA_SERVER_AUTHN_CREDENTIALS")),
    "opensearch": VectorStore({"OPENSEARCH_HOST": "opensearch"}, ("OPENSEARCH_PASSWORD", "OPENSEARCH_INITIAL_ADMIN_PASSWORD"), ("opensearch",)),
    "elasticsearch": VectorStore({"ELASTICSEARCH_HOST": "elasticsearch"}, ("ELASTICSEARCH_PASSWORD",)),
    "elasticsearch-ja": VectorStore({"ELASTICSEARCH_HOST": "elasticsearch"}, ("ELASTICSEARCH_PASSWORD",), prefix="ELASTICSEARCH_"),
    "oceanbase": VectorStore({"OCEANBASE_VECTOR_HOST": "oceanbase"}, ("OCEANBASE_VECTOR_PASSWORD",)),
    "seekdb": VectorStore({"OCEANBASE_VECTOR_HOST": "seekdb", "OCEANBASE_VECTOR_USER": "root"}, ("OCEANBASE_VECTOR_PASSWORD",), prefix="OCEANBASE_VECTOR_"),
    "opengauss": VectorStore({"OPENGAUSS_HOST": "opengauss"}, ("OPENGAUSS_PASSWORD",)),
    "milvus": VectorStore({"MILVUS_URI": "http://milvus-standalone:19530"}, (), ("milvus-standalone",), "its user root has a public password at first"),
    "couchbase": VectorStore(fixed="its health check has the public password in it"),
    "matrixone": VectorStore(fixed=_FIXED),
    "myscale": VectorStore(fixed=_FIXED),
    "oracle": VectorStore(fixed=_FIXED),
    "vastbase": VectorStore(fixed=_FIXED),
    "iris": VectorStore(fixed=_FIXED),
    "tidb": VectorStore(fixed="Dify knows it as tidb_vector, and it starts without a password"),
}


def prefix(name: str) -> str:
    """How the variables of a store begin."""
    return (STORES[name].prefix if name in STORES else "") or name.upper().replace("-", "_") + "_"


def problem(name: str, external: bool, profiles: t.Iterable[str], known: t.Collection[str], given: t.Collection[str]) -> str:
    """Why a release cannot be run with this store; empty when it can.

    :param profiles: of the release's compose file.
    :param known: variables that the release understands.
    :param given: variables that the user sets.
    """
    start = prefix(name)
    offered = sorted(set(profiles) - NO_STORES)
    if external:
        if any(variable.startswith(start) for variable in known):
            return ""
        return f"dify_vector_store: this release knows no {name}: none of its variables begins with {start}. It comes with {', '.join(offered)}."
    if name not in offered:
        return (
            f"dify_vector_store: {name} does not come with this release; it has {', '.join(offered)}. For a server of your own, set "
            "dify_vector_store_external, its address in dify_env and its credentials in dify_env_secrets."
        )
    fixed = STORES[name].fixed if name in STORES else "nothing is known of its password"
    if fixed and not any(variable.startswith(start) for variable in given):
        return (
            f"dify_vector_store: the {name} of this release is not secure as it comes: {fixed}. Run one elsewhere (dify_vector_store_external), or, knowing "
            f"this, give its variables ({start}...) in dify_env and dify_env_secrets."
        )
    return ""


def settings(name: str, password: str, given: t.Mapping[str, t.Any], known: t.Collection[str]) -> tuple[dict[str, str], dict[str, str]]:
    """What the release's own server and its users are told, as (plain, secret). What the user gives wins, and goes to all that must carry it."""
    store = STORES.get(name, VectorStore())
    plain = {variable: value for variable, value in store.settings.items() if variable in known and variable not in given}
    own = next((str(given[variable]) for variable in store.carries if given.get(variable)), "")
    value = own or (PASSWORD.format(password) if password else "")
    secret = {variable: value for variable in store.carries if value and variable in known and variable not in given}
    return plain, secret


__all__ = ["NO_STORES", "STORES", "VectorStore", "prefix", "problem", "settings"]
