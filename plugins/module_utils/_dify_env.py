# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.
"""Dify's ``.env``: made from the release's own ``.env.example``, our settings and the host's secrets.

The release's file stays the frame (comments and order included), so a diff against upstream shows only what differs.
"""

from __future__ import annotations

import difflib
import re
import typing as t

from ansible_collections.llmops.dify_xinference.plugins.module_utils._secrets import is_public_default

_LINE = re.compile(r"^(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$")
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::?-([^}]*))?")
_BARE = re.compile(r"^[A-Za-z0-9_./:,@%+=*{}()?&~^;!\[\]|<>-]*$")

# Honoured by the containers of every release, but in no example file or compose map.
ALWAYS_KNOWN = frozenset(
    [
        "ADMIN_API_KEY",
        "ADMIN_API_KEY_ENABLE",
        "COMPOSE_PROFILES",
        "ENFORCE_LANGGENIUS_PLUGIN_SIGNATURES",
        "PIP_EXTRA_ARGS",
        "PIP_MIRROR_AUTO_DETECT",
        "PIP_MIRROR_URL",
        "PLUGIN_IGNORE_UV_LOCK",
        "PLUGIN_INSTALL_TIMEOUT",
        "SSRF_PROXY_ALLOW_PRIVATE_DOMAINS",
        "SSRF_PROXY_ALLOW_PRIVATE_IPS",
        "THIRD_PARTY_SIGNATURE_VERIFICATION_ENABLED",
        "THIRD_PARTY_SIGNATURE_VERIFICATION_PUBLIC_KEYS",
    ]
)


class SecretRule(t.NamedTuple):
    """One secret of the stack and every variable that must carry it (``{}`` stands for the value)."""

    name: str
    variables: dict[str, str]
    length: int = 42
    permanent: bool = False
    kind: str = "token"
    always: bool = False  # also where no file of the release names the variable


# Source: the compose files of the releases, 0.6 to 1.16: what repeats, and what a service keeps from its first start.
SECRET_RULES = [
    SecretRule("SECRET_KEY", {"SECRET_KEY": "{}"}, permanent=True),
    SecretRule("DB_PASSWORD", {"DB_PASSWORD": "{}"}, length=32, permanent=True),
    SecretRule("REDIS_PASSWORD", {"REDIS_PASSWORD": "{}", "CELERY_BROKER_URL": "redis://:{}@redis:6379/1"}, length=32),
    SecretRule("SANDBOX_API_KEY", {"SANDBOX_API_KEY": "{}", "CODE_EXECUTION_API_KEY": "{}"}, length=32),
    SecretRule("PLUGIN_DAEMON_KEY", {"PLUGIN_DAEMON_KEY": "{}"}),
    SecretRule("PLUGIN_DIFY_INNER_API_KEY", {"PLUGIN_DIFY_INNER_API_KEY": "{}"}),
    SecretRule("WEAVIATE_API_KEY", {"WEAVIATE_API_KEY": "{}", "WEAVIATE_AUTHENTICATION_APIKEY_ALLOWED_KEYS": "{}"}, length=32),
    SecretRule("QDRANT_API_KEY", {"QDRANT_API_KEY": "{}"}, length=32),
    SecretRule("PGVECTOR_PASSWORD", {"PGVECTOR_PASSWORD": "{}", "PGVECTOR_POSTGRES_PASSWORD": "{}", "PGVECTO_RS_PASSWORD": "{}"}, length=32, permanent=True),
    # Of the other stores, where one is used: _dify_vector says which variables carry it.
    SecretRule("VECTOR_PASSWORD", {}, length=32, permanent=True),
    SecretRule("DIFY_AGENT_API_TOKEN", {"DIFY_AGENT_API_TOKEN": "{}", "AGENT_BACKEND_API_TOKEN": "{}"}),
    SecretRule("DIFY_AGENT_SERVER_SECRET_KEY", {"DIFY_AGENT_SERVER_SECRET_KEY": "{}"}, kind="key32"),
    SecretRule("DIFY_AGENT_SHELLCTL_AUTH_TOKEN", {"DIFY_AGENT_SHELLCTL_AUTH_TOKEN": "{}", "SHELLCTL_AUTH_TOKEN": "{}"}),
    # At most 30 characters: a longer one can never be proven (Dify's own schema refuses it).
    SecretRule("INIT_PASSWORD", {"INIT_PASSWORD": "{}"}, length=24, always=True),
    SecretRule("ADMIN_API_KEY", {"ADMIN_API_KEY": "{}"}, always=True),
    SecretRule("ADMIN_PASSWORD", {}, length=24),
]
SECRET_VARIABLES = frozenset(variable for rule in SECRET_RULES for variable in rule.variables)

# Settings that follow from having secrets at all; a user's own setting wins.
SECURE_SETTINGS = {"ADMIN_API_KEY_ENABLE": "true", "WEAVIATE_AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false"}


class EnvRefused(Exception):
    """A setting cannot be used; the message names it and what to do."""


def parse(text: str) -> dict[str, str]:
    """Names and raw values of an env file, in order; the last of a repeated name wins."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.match(line.strip())
        if match:
            found[match.group(1)] = unquote(match.group(2).strip())
    return found


def unquote(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == "'":
        return value[1:-1]
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    return value


def quote(name: str, value: str) -> str:
    """A value as Docker Compose's env parser reads it back unchanged. Raises :class:`EnvRefused` for line breaks."""
    if "\n" in value or "\r" in value:
        raise EnvRefused(f"{name}: the value contains a line break, which an env file cannot carry.")
    if _BARE.match(value):
        return value
    if "'" not in value:
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'


def references(compose_text: str) -> dict[str, str]:
    """Variables a compose file interpolates, with their built-in defaults (empty when none)."""
    found: dict[str, str] = {}
    for name, default in _REFERENCE.findall(compose_text):
        found[name] = found.get(name) or default
    return found


def known_names(example: str, compose_text: str = "", more_examples: t.Iterable[str] = (), extra: t.Iterable[str] = ()) -> set[str]:
    """Every variable this release understands: its example files, its compose file, and the few that stand nowhere."""
    names = set(parse(example)) | set(references(compose_text)) | set(ALWAYS_KNOWN) | set(extra)
    for text in more_examples:
        # In the optional files most names are commented out; they count as known all the same.
        names |= set(parse("\n".join(line.lstrip("# ") for line in text.splitlines())))
    return names


def check_names(settings: dict[str, t.Any], known: set[str]) -> None:
    """Refuse names this release does not know, with the nearest one; and secrets, which have a place of their own."""
    problems = []
    for name in sorted(settings):
        if name in SECRET_VARIABLES:
            problems.append(f"{name} is a secret of the stack: give it through dify_secrets, so that every variable that repeats it stays equal")
        elif name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
            advice = f"did you mean {near[0]}?" if near else "add it to dify_env_known_names if you are sure"
            problems.append(f"{name} is unknown to this release; {advice}")
    if problems:
        raise EnvRefused("dify_env: " + "; ".join(problems))


def broker_url(settings: dict[str, t.Any]) -> str:
    """Where Celery finds Redis, as a template for the password. Database 1, as in every release."""
    host, port = text_of(settings.get("REDIS_HOST")) or "redis", text_of(settings.get("REDIS_PORT")) or "6379"
    scheme = "rediss" if text_of(settings.get("REDIS_USE_SSL")) == "true" else "redis"
    return f"{scheme}://{text_of(settings.get('REDIS_USERNAME'))}:{{}}@{host}:{port}/1"


def secret_settings(secrets: dict[str, str], known: set[str], others: dict[str, t.Any] | None = None) -> dict[str, str]:
    """Every variable that must carry a secret, as far as this release has it. ``others`` say where Redis is."""
    settings = {}
    for rule in SECRET_RULES:
        if rule.name in secrets:
            for variable, template in rule.variables.items():
                if variable in known or rule.always:
                    shape = broker_url(others or {}) if variable == "CELERY_BROKER_URL" else template
                    settings[variable] = shape.format(secrets[rule.name])
    return settings


def text_of(value: t.Any) -> str:
    """A YAML value as env text: true/false in lower case, numbers as they are, ``None`` as empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def profiles(example: str, more: t.Iterable[str], without: t.Iterable[str] = (), values: t.Mapping[str, t.Any] | None = None) -> str:
    """``COMPOSE_PROFILES`` of the example, still with its references, plus and minus some. ``values``: what the references stand for."""

    def meant(part: str) -> str:
        found = _REFERENCE.match(part)
        return text_of((values or {}).get(found.group(1))) or found.group(2) or "" if found else part

    shipped = [part for part in parse(example).get("COMPOSE_PROFILES", "").split(",") if part]
    kept = [part for part in shipped if meant(part) not in without]
    return ",".join(kept + [name for name in more if name not in kept])


def public_in_use(found: dict[str, str]) -> list[str]:
    """Permanent secrets of a ``.env`` that is there and whose values are public: the services already keep them."""
    return sorted(variable for rule in SECRET_RULES if rule.permanent for variable in rule.variables if is_public_default(found.get(variable, "")))


def public_of_store(values: dict[str, str], store: str) -> list[str]:
    """Credentials of the chosen vector store that are still a public default. Other stores do not run, and theirs open nothing."""
    prefix = store.upper().replace("-", "_") + "_"
    words = ("PASSWORD", "KEY", "CREDENTIALS", "TOKEN")
    return sorted(name for name, value in values.items() if name.startswith(prefix) and any(word in name for word in words) and is_public_default(value))


def render(example: str, settings: dict[str, t.Any], raw: dict[str, str] | None = None) -> str:
    """The example with ``settings`` put in; names it lacks follow at the end, sorted. ``raw`` values are for Compose to interpolate."""
    raw = raw or {}
    left = {name: f"{name}={quote(name, text_of(value))}" for name, value in settings.items()}
    left.update({name: f"{name}={value}" for name, value in raw.items()})
    lines = []
    done = set()
    for line in example.splitlines():
        match = _LINE.match(line.strip())
        name = match.group(1) if match else None
        if name in left:
            # A name repeated further down would win over this line: it is written each time.
            lines.append(left[name])
            done.add(name)
        else:
            lines.append(line.rstrip())
    rest = sorted(set(left) - done)
    if rest:
        lines += ["", "# Not in this release's .env.example, set by the dify role"]
        lines += [left[name] for name in rest]
    return "\n".join(lines).rstrip("\n") + "\n"


def public_leftovers(rendered: str, example: str, compose_text: str) -> list[str]:
    """Secret variables that still carry the release's own public value; must come out empty."""
    values = parse(rendered)
    shipped = references(compose_text)
    shipped.update({name: value for name, value in parse(example).items() if value})
    return sorted(name for name in SECRET_VARIABLES if shipped.get(name) and "$" not in shipped[name] and values.get(name, shipped[name]) == shipped[name])


__all__ = [
    "SECRET_RULES",
    "SECRET_VARIABLES",
    "SECURE_SETTINGS",
    "EnvRefused",
    "SecretRule",
    "broker_url",
    "check_names",
    "known_names",
    "parse",
    "profiles",
    "public_in_use",
    "public_leftovers",
    "public_of_store",
    "quote",
    "references",
    "render",
    "secret_settings",
    "text_of",
]
