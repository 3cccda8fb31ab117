# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Accounts, workspaces, sign-in and its lockout."""

from __future__ import annotations

import base64
import email.utils
import json
import time
import uuid
from collections.abc import Callable

from . import security
from .config import Settings
from .errors import failure
from .generations import generation
from .http import HttpError, Response, reply
from .security import hash_password, jwt_encode, make_tenant_key, new_id
from .storage import Cache, Database, Row

LOGIN_TRIES = 5


def _refused_by_cause(cause: str) -> HttpError:
    if cause == "unknown":
        return failure(400, "account_not_found", "Account not found.")
    return failure(400, "email_or_password_mismatch", "The email or password is mismatched.")


# What a refused sign-in gets, by ``Generation.refusal``; and the causes that bring the lockout nearer.
REFUSALS: dict[str, Callable[[str], HttpError]] = {
    "unauthorized": lambda _cause: HttpError(reply({"code": "unauthorized", "message": "Invalid email or password."}, 401)),
    "by cause": _refused_by_cause,
    "authentication_failed": lambda _cause: failure(401, "authentication_failed", "Invalid email or password."),
}
COUNTED = {"unauthorized": (), "by cause": ("wrong",), "authentication_failed": ("unknown", "wrong")}
TIMEZONES = {
    "en-US": "America/New_York",
    "zh-Hans": "Asia/Shanghai",
    "zh-Hant": "Asia/Taipei",
    "pt-BR": "America/Sao_Paulo",
    "es-ES": "Europe/Madrid",
    "fr-FR": "Europe/Paris",
    "de-DE": "Europe/Berlin",
    "ja-JP": "Asia/Tokyo",
    "ko-KR": "Asia/Seoul",
    "ru-RU": "Europe/Moscow",
    "it-IT": "Europe/Rome",
    "uk-UA": "Europe/Kyiv",
    "vi-VN": "Asia/Ho_Chi_Minh",
    "pl-PL": "Europe/Warsaw",
}


def cookie_names(settings: Settings) -> dict[str, str]:
    start = "__Host-" if settings.secure_cookies else ""
    return {name: f"{start}{name}" for name in ("access_token", "refresh_token", "csrf_token")}


class Accounts:
    def __init__(self, settings: Settings, database: Database, cache: Cache) -> None:
        self.settings = settings
        self.db = database
        self.cache = cache
        # Seconds that the clock of tokens is ahead; tests let sessions expire with it.
        self.skew = 0.0

    # -- set-up -------------------------------------------------------------------------------------------------

    def setup_at(self) -> float | None:
        row = self.db.one("SELECT setup_at FROM dify_setups")
        return row["setup_at"] if row else None

    def set_up(self, mail: str, name: str, password: str, language: str | None, address: str) -> None:
        """The first account and its workspace; the key file first, as a refused write must leave nothing behind."""
        language = language if language in TIMEZONES else "en-US"
        tenant = str(uuid.uuid4())
        public = make_tenant_key(self.settings.files, tenant)
        account = self.create(mail, name, password, language, address)
        self.db.insert(
            "tenants", id=tenant, name=f"{name}'s Workspace", encrypt_public_key=public, plan="basic", status="normal", created_at=time.time()
        )
        self.add(tenant, account, "owner")
        self.db.insert("dify_setups", version=self.settings.version, setup_at=time.time())

    def create(self, mail: str, name: str, password: str | None, language: str, address: str = "", status: str = "active") -> str:
        account, salt = str(uuid.uuid4()), uuid.uuid4().bytes
        self.db.insert(
            "accounts",
            id=account,
            name=name,
            email=mail.lower(),
            password=hash_password(password, salt) if password else None,
            password_salt=base64.b64encode(salt).decode(),
            interface_language=language,
            interface_theme="light",
            timezone=TIMEZONES.get(language, "UTC"),
            status=status,
            last_login_at=time.time(),
            last_login_ip=address,
            created_at=time.time(),
        )
        return account

    def set_password(self, mail: str, password: str) -> bool:
        """Like ``flask reset-password``; False when there is no such account."""
        salt = uuid.uuid4().bytes
        changed = self.db.execute(
            "UPDATE accounts SET password = ?, password_salt = ?, status = 'active' WHERE email = ?",
            hash_password(password, salt),
            base64.b64encode(salt).decode(),
            mail.lower(),
        )
        self.cache.delete(f"login_error_rate_limit:{mail}")
        return changed > 0

    def add(self, tenant: str, account: str, role: str) -> None:
        self.db.insert("tenant_account_joins", id=new_id(), tenant_id=tenant, account_id=account, role=role, last_opened_at=time.time())

    # -- look-ups -----------------------------------------------------------------------------------------------

    def get(self, account: str) -> Row | None:
        return self.db.one("SELECT * FROM accounts WHERE id = ?", account)

    def by_email(self, mail: str) -> Row | None:
        return self.db.one("SELECT * FROM accounts WHERE email = ?", mail.lower())

    def owner(self, tenant: str) -> Row | None:
        """The workspace's owner, None for an unknown workspace; ValueError when the id is none (500, as PostgreSQL refuses it)."""
        uuid.UUID(tenant)
        return self.db.one(
            "SELECT a.* FROM accounts a JOIN tenant_account_joins j ON j.account_id = a.id WHERE j.tenant_id = ? AND j.role = 'owner'", tenant
        )

    def join(self, account: str, tenant: str | None) -> Row | None:
        rows = self.db.query("SELECT * FROM tenant_account_joins WHERE account_id = ? ORDER BY id", account)
        return next((row for row in rows if tenant in (None, row["tenant_id"])), None)

    def tenant(self, tenant: str) -> Row:
        row = self.db.one("SELECT * FROM tenants WHERE id = ?", tenant)
        if row is None:
            raise KeyError(tenant)
        return row

    def workspaces(self, account: str) -> list[Row]:
        return self.db.query(
            "SELECT t.*, j.last_opened_at FROM tenants t JOIN tenant_account_joins j ON j.tenant_id = t.id WHERE j.account_id = ? ORDER BY j.id",
            account,
        )

    # -- sign-in ------------------------------------------------------------------------------------------------

    def sign_in(self, mail: str, encoded: str, address: str) -> Row:
        """The account; raises the recorded errors. Wrong passwords count, and more than five lock the e-mail address."""
        kind = generation(self.settings.version)
        password = self._password(encoded) if kind.base64_password else encoded
        key = f"login_error_rate_limit:{mail}"
        if COUNTED[kind.refusal] and int(self.cache.get(key) or 0) > LOGIN_TRIES:
            raise failure(429, "email_code_login_limit", "Too many incorrect password attempts. Please try again later.")
        account = self.by_email(mail)
        cause = "unknown" if account is None else "wrong"
        if account is None or not account["password"] or not self._matches(account, password):
            if cause in COUNTED[kind.refusal]:
                self.cache.increment(key, self.settings.login_lockout_duration)
            raise REFUSALS[kind.refusal](cause)
        self.cache.delete(key)
        self.db.execute("UPDATE accounts SET last_login_at = ?, last_login_ip = ? WHERE id = ?", time.time(), address, account["id"])
        return account

    @staticmethod
    def _password(encoded: str) -> str:
        try:
            return base64.b64decode(encoded).decode("utf-8")
        except ValueError:
            raise failure(401, "authentication_failed", "Invalid encrypted data") from None

    @staticmethod
    def _matches(account: Row, password: str) -> bool:
        return hash_password(password, base64.b64decode(account["password_salt"])) == account["password"]

    def tokens(self, account: str) -> dict[str, str]:
        """A new set; the refresh token is remembered, so that it dies when it is used."""
        until = int(security.now() + self.skew) + self.settings.access_token_expire_minutes * 60
        access = {"user_id": account, "exp": until, "iss": "SELF_HOSTED", "sub": "Console API Passport"}
        refresh = f"{uuid.uuid4().hex}{uuid.uuid4().hex}"
        self.cache.set(f"refresh_token:{refresh}", json.dumps(account), self.settings.refresh_token_expire_days * 86400)
        return {
            "access_token": jwt_encode(access, self.settings.secret_key),
            "refresh_token": refresh,
            "csrf_token": jwt_encode({"exp": until, "sub": account}, self.settings.secret_key),
        }

    def use_refresh_token(self, token: str) -> str | None:
        key = f"refresh_token:{token}"
        value = self.cache.get(key)
        self.cache.delete(key)
        return json.loads(value) if value else None

    def put_cookies(self, response: Response, tokens: dict[str, str], order: tuple[str, ...]) -> None:
        """Sets the three cookies; empty ``tokens`` removes them."""
        names = cookie_names(self.settings)
        short, long = self.settings.access_token_expire_minutes * 60, self.settings.refresh_token_expire_days * 86400
        for kind in order:
            age = (long if kind == "refresh_token" else short) if tokens else 0
            parts = [f"{names[kind]}={tokens.get(kind, '')}"]
            if self.settings.cookie_domain:
                parts.append(f"Domain={self.settings.cookie_domain}")
            parts += [f"Expires={email.utils.formatdate(security.now() + age, usegmt=True)}", f"Max-Age={age}"]
            if self.settings.secure_cookies:
                parts.append("Secure")
            if kind != "csrf_token":
                parts.append("HttpOnly")
            response.headers.append(("Set-Cookie", "; ".join([*parts, "Path=/", "SameSite=Lax"])))
