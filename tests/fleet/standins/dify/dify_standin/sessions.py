# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a session is handed out, renewed and shown: one JWT, two tokens in the body, or cookies with CSRF."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any

from .accounts import cookie_names
from .errors import unauthorized
from .http import Request, Response, reply
from .security import Expired, jwt_decode, jwt_read

if TYPE_CHECKING:
    from .api import Api

_ORDER_LOGIN = ("access_token", "refresh_token", "csrf_token")
_ORDER_REFRESH = ("csrf_token", "access_token", "refresh_token")

def bearer(request: Request) -> str:
    text = request.headers.get("authorization", "")
    return text[7:] if text.lower().startswith("bearer ") else ""


class Session:
    """One JWT in the body of the sign-in, which nothing renews."""

    def signed_in(self, api: Api, account: str) -> Response:
        return reply({"result": "success", "data": api.accounts.tokens(account)["access_token"]})

    def refresh(self, api: Api, request: Request) -> Response:
        raise NotImplementedError

    def signed_out(self, api: Api, request: Request) -> Response:
        return reply({"result": "success"})

    def enter(self, api: Api, request: Request) -> None:
        """Fills in account, workspace and role; raises the recorded 401."""
        token = self.token(api, request)
        if not token:
            raise unauthorized("Invalid Authorization token.")
        if api.settings.admin_api_key_enable and is_admin_key(api, token):
            workspace = request.headers.get("x-workspace-id", "")
            if workspace:
                api.enter(request, api.accounts.owner(workspace), workspace)
                if not api.generation.admin_key:
                    # The key is taken, and then the request lacks the CSRF token that only a sign-in gives (1.9.2-1.10.1).
                    raise unauthorized("CSRF token is missing or invalid.")
                return
        payload = self._passport(api, token)
        self.check(api, request, payload)
        api.enter(request, api.accounts.get(payload["user_id"]), None)

    def token(self, api: Api, request: Request) -> str:
        return bearer(request)

    def check(self, api: Api, request: Request, payload: dict[str, Any]) -> None:
        return

    @staticmethod
    def _passport(api: Api, token: str) -> dict[str, Any]:
        try:
            payload = jwt_read(token, api.settings.secret_key, api.accounts.skew)
        except Expired:
            raise unauthorized("Token has expired.") from None
        except ValueError:
            raise unauthorized("Invalid token.") from None
        if "user_id" not in payload:
            raise unauthorized("Invalid token.")
        return payload


class PairSession(Session):
    """Two tokens in the body; the second buys a new pair once."""

    def signed_in(self, api: Api, account: str) -> Response:
        tokens = api.accounts.tokens(account)
        return reply({"result": "success", "data": {"access_token": tokens["access_token"], "refresh_token": tokens["refresh_token"]}})

    def refresh(self, api: Api, request: Request) -> Response:
        account = api.accounts.use_refresh_token(api.checks("RefreshToken", request.json).string("refresh_token") or "")
        if account is None:
            return reply({"result": "fail", "data": "Invalid refresh token"}, 401)
        return self.signed_in(api, account)


class CookieSession(Session):
    """Three cookies; every call also needs the CSRF token as a header."""

    def signed_in(self, api: Api, account: str) -> Response:
        response = reply({"result": "success"})
        api.accounts.put_cookies(response, api.accounts.tokens(account), _ORDER_LOGIN)
        return response

    def refresh(self, api: Api, request: Request) -> Response:
        token = request.cookies.get(cookie_names(api.settings)["refresh_token"])
        if not token:
            return reply({"result": "fail", "message": "No refresh token provided"}, 401)
        account = api.accounts.use_refresh_token(token)
        if account is None:
            return reply({"result": "fail", "message": "Invalid refresh token"}, 401)
        response = reply({"result": "success"})
        api.accounts.put_cookies(response, api.accounts.tokens(account), _ORDER_REFRESH)
        return response

    def signed_out(self, api: Api, request: Request) -> Response:
        token = request.cookies.get(cookie_names(api.settings)["refresh_token"])
        if token:
            api.accounts.use_refresh_token(token)
        response = reply({"result": "success"})
        api.accounts.put_cookies(response, {}, _ORDER_LOGIN)
        return response

    def token(self, api: Api, request: Request) -> str:
        # A cookie goes before the header: a stray one shadows the admin key (recorded, fixed after 1.16.1).
        return request.cookies.get(cookie_names(api.settings)["access_token"]) or bearer(request)

    def check(self, api: Api, request: Request, payload: dict[str, Any]) -> None:
        sent, kept = request.headers.get("x-csrf-token", ""), request.cookies.get(cookie_names(api.settings)["csrf_token"], "")
        csrf = jwt_decode(sent, api.settings.secret_key, api.accounts.skew) if sent and sent == kept else None
        if csrf is None or csrf.get("sub") != payload["user_id"]:
            raise unauthorized("CSRF token is missing or invalid.")


SESSIONS = {"token": Session(), "pair": PairSession(), "cookies": CookieSession()}


def is_admin_key(api: Api, token: str) -> bool:
    key = api.settings.admin_api_key
    return bool(key) and hmac.compare_digest(token.encode(), key.encode())
