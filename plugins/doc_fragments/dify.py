# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # How a module reaches Dify's console API.
    DOCUMENTATION = r"""
options:
  url:
    description:
      - Address of Dify's console, as the host that runs the module sees it, for example V(http://127.0.0.1).
      - Falls back to the environment variable E(DIFY_URL).
    type: str
    required: true
  admin_key:
    description:
      - Value of C(ADMIN_API_KEY) of Dify's C(api) container. Preferred over O(email) and O(password), since it needs no
        login and cannot lock an account. Dify 1.9.2 to 1.10.1 do not honour it.
      - Falls back to the environment variable E(DIFY_ADMIN_KEY).
    type: str
  admin_key_file:
    description:
      - File on the host that runs the module, holding the admin key, or a JSON object with C(ADMIN_API_KEY) in it (as the
        C(dify) role keeps it). So the key never leaves that host.
      - C(ADMIN_PASSWORD) of that JSON object is used for a login with O(email) when O(password) is not given.
      - Falls back to the environment variable E(DIFY_ADMIN_KEY_FILE).
    type: path
  email:
    description:
      - E-mail address of an owner or administrator of the workspace; used when there is no usable admin key.
      - Falls back to the environment variable E(DIFY_EMAIL).
    type: str
  password:
    description:
      - Password that belongs to O(email). One login is sent per run, and a refused one is never repeated.
      - Falls back to the environment variable E(DIFY_PASSWORD).
    type: str
  session_file:
    description:
      - File on the host that runs the module, in which the session of a login with O(email) is kept, with mode C(0600), so that the
        next run needs no login. A session is as good as the password until it ends, so keep the file where that is kept.
      - Not written in check mode. It may be deleted at any time.
    type: path
  workspace_id:
    description:
      - Workspace to work on. With the admin key the oldest one by default.
      - A login works in the workspace that its account was last in. When that is another one, nothing is changed and the module fails.
      - Falls back to the environment variable E(DIFY_WORKSPACE_ID).
    type: str
  validate_certs:
    description: Whether TLS certificates are verified.
    type: bool
    default: true
  ca_path:
    description: File with the certificate authorities to trust, for a Dify behind an own certificate.
    type: path
  timeout:
    description: Seconds to wait for one answer. A model server that hangs keeps a registration waiting for 40 seconds.
    type: float
    default: 120.0
"""
