"""Files of a GPU host."""

from __future__ import annotations


def files(profile: str) -> dict[str, tuple[bytes, int]]:
    return {}


def links(profile: str) -> dict[str, str]:
    return {}
