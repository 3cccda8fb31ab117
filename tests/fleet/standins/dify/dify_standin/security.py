# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Passwords, tokens, ids and stored secrets.

The formats that a client sees (JWT, password rule, masks) are Dify's. How secrets are stored is ours: Dify encrypts with
an RSA key pair per workspace whose private half lies in storage/privkeys/<tenant>/private.pem; here that file holds
random bytes from which a keystream and a MAC key are derived. The consequences stay the same: stored text begins with
``SFlCUklEO`` (base64 of ``HYBRID:``), and without the file nothing can be read.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import threading
import time
import uuid
from typing import Any

from .files import Files

HIDDEN = "[__HIDDEN__]"
EMAIL = re.compile(r"^[\w.!#$%&'*+\-/=?^`{|}~]+@([\w-]+(?:\.[\w-]+)+)$")
_PREFIX = b"HYBRID:"
_last = 0
_last_lock = threading.Lock()


def now() -> float:
    """Seconds since the epoch; one place, so that tests can stop the clock of tokens."""
    return time.time()


def new_id() -> str:
    """A version 7 UUID: later ones sort after earlier ones, which the lists rely on."""
    global _last
    with _last_lock:
        # 48 bits of milliseconds and 12 bits of order within them, never going back.
        _last = max(_last + 1, int(time.time() * 1000) << 12)
        order = _last
    value = (order >> 12) << 80 | 0x7 << 76 | (order & 0xFFF) << 64 | 0x2 << 62
    value |= int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
    return str(uuid.UUID(int=value))


def is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except (ValueError, AttributeError, TypeError):
        return False
    return True


def valid_password(text: str) -> bool:
    """At least 8 characters, with a letter and a digit."""
    return bool(re.fullmatch(r"(?=.*[a-zA-Z])(?=.*\d).{8,}", text))


def hash_password(password: str, salt: bytes) -> str:
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 10000).hex()


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def jwt_encode(payload: dict[str, Any], key: str) -> str:
    head = _b64(json.dumps({"alg": "HS256", "typ": "JWT"}, separators=(",", ":")).encode())
    body = _b64(json.dumps(payload, separators=(",", ":")).encode())
    sign = hmac.new(key.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{_b64(sign)}"


class Expired(ValueError):
    """A token of ours whose time is over."""


def jwt_read(token: str, key: str, skew: float = 0.0) -> dict[str, Any]:
    """The payload; raises Expired, or ValueError when the token is malformed or forged. ``skew``: seconds that our clock is ahead."""
    head, body, sign = token.split(".")
    wanted = hmac.new(key.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
    if not hmac.compare_digest(wanted, _unb64(sign)):
        raise ValueError("forged")
    payload = json.loads(_unb64(body))
    if not isinstance(payload, dict):
        raise ValueError("no object")
    if payload.get("exp", 0) < now() + skew:
        raise Expired(payload.get("exp", 0))
    return payload


def jwt_decode(token: str, key: str, skew: float = 0.0) -> dict[str, Any] | None:
    """The payload, or None when the token is malformed, forged or has expired."""
    try:
        return jwt_read(token, key, skew)
    except ValueError:
        return None


def mask(value: str, stars: int = 12) -> str:
    """How a secret is shown: 20 stars when short, else first 6 and last 2 characters around ``stars`` (0: one for each hidden one)."""
    if not value:
        return value
    return "*" * 20 if len(value) <= 8 else f"{value[:6]}{'*' * (stars or len(value) - 8)}{value[-2:]}"


def _key_name(tenant_id: str) -> str:
    return f"privkeys/{tenant_id}/private.pem"


def make_tenant_key(files: Files, tenant_id: str) -> str:
    """Writes a workspace's private key and returns its public side (here: a fingerprint) for the database."""
    body = base64.encodebytes(os.urandom(192)).decode()
    text = f"-----BEGIN DIFY STAND-IN PRIVATE KEY-----\n{body}-----END DIFY STAND-IN PRIVATE KEY-----\n"
    files.write(_key_name(tenant_id), text.encode("ascii"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _keys(files: Files, tenant_id: str) -> tuple[bytes, bytes]:
    try:
        material = files.read(_key_name(tenant_id))
    except OSError as error:
        raise PrivateKeyMissing(f"Private key not found, tenant_id: {tenant_id}") from error
    return hashlib.sha256(b"encrypt" + material).digest(), hashlib.sha256(b"authenticate" + material).digest()


class PrivateKeyMissing(Exception):
    """privkeys/<tenant>/private.pem cannot be read from the storage."""


def _stream(key: bytes, nonce: bytes, length: int) -> bytes:
    blocks = (hmac.new(key, nonce + index.to_bytes(8, "big"), hashlib.sha256).digest() for index in range(length // 32 + 1))
    return b"".join(blocks)[:length]


def encrypt(files: Files, tenant_id: str, text: str) -> str:
    """base64(HYBRID: + nonce(16) + mac(32) + text XOR keystream)."""
    key, mac_key = _keys(files, tenant_id)
    data = text.encode()
    nonce = os.urandom(16)
    cipher = bytes(a ^ b for a, b in zip(data, _stream(key, nonce, len(data)), strict=True))
    mac = hmac.new(mac_key, nonce + cipher, hashlib.sha256).digest()
    return base64.b64encode(_PREFIX + nonce + mac + cipher).decode()


def decrypt(files: Files, tenant_id: str, text: str) -> str:
    """The clear text; raises ValueError when it was not made with this workspace's key."""
    key, mac_key = _keys(files, tenant_id)
    raw = base64.b64decode(text)
    if not raw.startswith(_PREFIX):
        raise ValueError("not an encrypted value")
    raw = raw[len(_PREFIX) :]
    nonce, mac, cipher = raw[:16], raw[16:48], raw[48:]
    if not hmac.compare_digest(mac, hmac.new(mac_key, nonce + cipher, hashlib.sha256).digest()):
        raise ValueError("the value was not encrypted with this workspace's key")
    return bytes(a ^ b for a, b in zip(cipher, _stream(key, nonce, len(cipher)), strict=True)).decode()
