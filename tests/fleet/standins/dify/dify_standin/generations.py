# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What differs between the versions of Dify that the stand-in can be: one table, read by whoever behaves differently.

Held by the recordings of each version (tests/contract/recordings/dify).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Generation:
    """One version. The words in the fields name classes and shapes in the modules that read them."""

    version: str
    # Tag of the plugin daemon; "" where providers are part of the API (before 1.0).
    daemon: str
    # sessions.py: "token" (one JWT in the body), "pair" (two tokens in the body), "cookies" (with CSRF).
    session: str
    base64_password: bool
    # accounts.py: what a refused sign-in gets, and whether it brings a lockout nearer.
    refusal: str
    # The admin key runs console calls; without it only GET /all-workspaces takes the key.
    admin_key: bool
    # checks.py: how a bad body is refused ("flask-restful", "flask-restx", "pydantic").
    checks: str
    # routes_setup.py: "flask" or "fastopenapi".
    setup: str
    # Whether the set-up takes the administrator's language.
    setup_language: bool
    password_text: str
    # Method of /workspaces/current; the other one is refused with 405.
    current_workspace: str
    # "upsert" (one credential per model, POST .../models) or "credentials" (several, each with an id).
    registration: str
    # The list of providers stays in Redis for 24 h.
    providers_cached: bool
    # The first POST of a default of these types writes a row that nobody reads.
    lost_defaults: tuple[str, ...]
    default_checks_model: bool
    # Keys that answers of this version do not have yet, or no longer, by what they describe (see ``trim``).
    unknown_keys: dict[str, tuple[str, ...]]
    # Console paths that the real one answers with Flask's 404 page.
    gone: tuple[str, ...]
    # Groups of routes that are copied for this version.
    groups: tuple[str, ...]
    number_is_500: bool = False
    invoke_error_is_500: bool = False
    status_in_500: bool = True
    # How many stars a masked secret has: 0 for as many as it has hidden characters.
    mask_stars: int = 12
    remember_cookie: bool = False
    # Before 1.0: what Xinference's provider asks for, and then it has no text-to-speech; () for all there is.
    provider_fields: tuple[str, ...] = ()

    @property
    def plugins(self) -> bool:
        return bool(self.daemon)

    def trim(self, what: str, value: Mapping[str, Any]) -> dict[str, Any]:
        """``value`` without the keys that this version does not send in a ``what``."""
        unknown = self.unknown_keys.get(what, ())
        return {key: item for key, item in value.items() if key not in unknown}


_PLUGIN = "/console/api/workspaces/current/plugin"
_LOST = ("llm", "text-embedding", "rerank")
_LATE_WORKSPACE = ("trial_credits", "trial_credits_used", "trial_credits_exhausted_at", "next_credit_reset_date")
_LATE_CUSTOM = ("current_credential_id", "current_credential_name", "available_credentials", "custom_models", "can_added_models")
_KEYED = ("server_url", "model_uid", "api_key")
_PASSWORD_TEXT = "Password must contain letters and numbers, and the length must be greater than 8."

_1_16_1 = Generation(
    version="1.16.1",
    daemon="0.6.3-local",
    session="cookies",
    base64_password=True,
    refusal="authentication_failed",
    admin_key=True,
    checks="pydantic",
    setup="fastopenapi",
    setup_language=True,
    password_text=_PASSWORD_TEXT,
    current_workspace="POST",
    registration="credentials",
    providers_cached=True,
    lost_defaults=(),
    default_checks_model=True,
    unknown_keys={"provider": ("icon_large",), "nested provider": ("icon_large",), "declared provider": ("icon_large", "icon_large_dark")},
    gone=(f"{_PLUGIN}/preferences/fetch",),
    groups=("members", "apps", "datasets", "service", "auto-upgrade"),
    number_is_500=True,
)

_1_9_2 = dataclasses.replace(
    _1_16_1,
    version="1.9.2",
    daemon="0.3.3-local",
    base64_password=False,
    admin_key=False,
    checks="flask-restx",
    setup="flask",
    current_workspace="GET",
    providers_cached=False,
    lost_defaults=_LOST,
    unknown_keys={
        "setup": ("setup_at",),
        "workspace": _LATE_WORKSPACE,
        "workspace entry": ("last_opened_at",),
        "provider": ("icon_small_dark",),
        "nested provider": ("icon_small_dark", "provider_name"),
        "declared provider": ("provider_name",),
        "declaration": ("trigger",),
        "declared plugins": ("triggers",),
        "model": ("has_invalid_load_balancing_configs",),
        "install": ("task",),
        "task plugin": ("source",),
        "package meta": ("plugin_unique_identifier",),
        "validation": ("error",),
    },
    gone=(f"{_PLUGIN}/auto-upgrade/fetch", f"{_PLUGIN}/auto-upgrade/change"),
    groups=("apps", "datasets", "service", "preferences"),
    number_is_500=False,
)

_1_7_2 = dataclasses.replace(
    _1_9_2,
    version="1.7.2",
    daemon="0.2.0-local",
    session="pair",
    refusal="by cause",
    admin_key=True,
    checks="flask-restful",
    setup_language=False,
    registration="upsert",
    unknown_keys={
        **_1_9_2.unknown_keys,
        "declaration": ("trigger", "datasource"),
        "declared plugins": ("triggers", "datasources"),
        "custom configuration": _LATE_CUSTOM,
    },
    groups=("preferences",),
    invoke_error_is_500=True,
    status_in_500=False,
)

_0_15_8 = dataclasses.replace(
    _1_7_2,
    version="0.15.8",
    daemon="",
    unknown_keys={
        **_1_7_2.unknown_keys,
        "provider": ("icon_small_dark", "tenant_id"),
        "nested provider": ("icon_small_dark", "provider_name", "tenant_id"),
    },
    gone=(f"{_PLUGIN}/*",),
    groups=(),
)

_0_6_13 = dataclasses.replace(
    _0_15_8,
    version="0.6.13",
    session="token",
    refusal="unauthorized",
    password_text="Not a valid password.",
    default_checks_model=False,
    unknown_keys={**_0_15_8.unknown_keys, "profile": ("avatar_url",), "health": ("pid",)},
    gone=(f"{_PLUGIN}/*", "/console/api/refresh-token"),
    mask_stars=0,
    remember_cookie=True,
    provider_fields=("server_url", "model_uid"),
)

GENERATIONS = {generation.version: generation for generation in (_0_6_13, _0_15_8, _1_7_2, _1_9_2, _1_16_1)}

# Releases between the recorded ones, put together from what was read in their tags: nothing recorded holds them. The client has to find
# its way by its own table of versions through combinations that no recorded release has.
BETWEEN = {
    generation.version: generation
    for generation in (
        dataclasses.replace(_0_15_8, version="0.9.2", session="token", refusal="unauthorized", gone=_0_6_13.gone, provider_fields=_KEYED),
        dataclasses.replace(_1_7_2, version="1.0.1", groups=(), gone=(f"{_PLUGIN}/preferences/fetch", f"{_PLUGIN}/preferences/change")),
        dataclasses.replace(_1_9_2, version="1.8.1", session="pair", refusal="by cause", admin_key=True, setup_language=False),
        dataclasses.replace(_1_9_2, version="1.10.1", current_workspace="POST"),
        dataclasses.replace(_1_9_2, version="1.11.1", current_workspace="POST", admin_key=True),
        dataclasses.replace(_1_9_2, version="1.13.3", current_workspace="POST", admin_key=True, base64_password=True, setup="fastopenapi"),
        dataclasses.replace(
            _1_9_2, version="1.14.1", current_workspace="POST", admin_key=True, base64_password=True, setup="fastopenapi", lost_defaults=()
        ),
        dataclasses.replace(_1_16_1, version="1.15.0"),
    )
}


def generation(version: str) -> Generation:
    """The generation of a version; ValueError for one that is not copied."""
    known = {**GENERATIONS, **BETWEEN}
    if version not in known:
        raise ValueError(f"this stand-in is no Dify {version}: it can be {', '.join(GENERATIONS)}")
    return known[version]
