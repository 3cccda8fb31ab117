# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The error answers of Dify's API, as recorded: one shape for most of it, another for /setup and /init since 1.12. Bad bodies: checks.py."""

from __future__ import annotations

from typing import Any

from .http import HttpError, Response, html, reply

FORBIDDEN = "You don't have the permission to access the requested resource. It is either read-protected or not readable by the server."
NOT_SETUP = "Dify has not been initialized and installed yet. Please proceed with the initialization and installation process first."
NOT_INIT = "Init validation has not been completed yet. Please proceed with the init validation process first."
ALREADY_SETUP = "Dify has been successfully installed. Please refresh the page or return to the dashboard homepage."
INIT_FAILED = "Init validation failed. Please check the password and try again."
NOT_FOUND_PAGE = (
    "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n"
    "<p>The requested URL was not found on the server. If you entered the URL manually please check your spelling and try again.</p>\n"
)


def failure(status: int, code: str, message: str) -> HttpError:
    return HttpError(reply({"code": code, "message": message, "status": status}, status))


def invalid(message: str) -> HttpError:
    """What the API makes of a ValueError: most provider, plugin and parameter errors."""
    return failure(400, "invalid_param", message)


def unauthorized(message: str) -> HttpError:
    return failure(401, "unauthorized", message)


def not_found(message: str) -> HttpError:
    return failure(404, "not_found", message)


def plugin_error(message: str) -> HttpError:
    return HttpError(reply({"code": "plugin_error", "message": message}, 400))


class Internal(Exception):
    """An error that the real one does not foresee either: 500, without a trace in our log."""


def setup_error(status: int, kind: str, message: str, details: str = "") -> HttpError:
    """The shape of /setup and /init."""
    error: dict[str, Any] = {"type": kind, "message": message, "status": status}
    if details:
        error["details"] = details
    return HttpError(reply({"error": error}, status))


def setup_validation() -> HttpError:
    text = "Validation error for parameter 'payload'"
    return setup_error(422, "validation_error", text, text)


def missing_page() -> Response:
    return html(NOT_FOUND_PAGE, 404)


def not_implemented(method: str, path: str) -> Response:
    """Our own answer: the stand-in does not copy this call."""
    text = f"The Dify stand-in of the test fleet does not implement {method} {path}."
    return reply({"code": "stand_in_not_implemented", "message": text, "status": 501}, 501)
