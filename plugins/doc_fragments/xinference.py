# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # How every Xinference module reaches a server.
    DOCUMENTATION = r"""
options:
  url:
    description:
      - Where the server's REST API is, as seen from the host that the module runs on.
      - If not set, the environment variable E(XINFERENCE_URL) is used.
    type: str
    default: http://127.0.0.1:9997
  username:
    description:
      - The account to log in with. From Xinference 3.0 on only an account may launch; API keys can look and infer.
      - It is used only when the server asks for a login.
      - If not set, the environment variable E(XINFERENCE_USERNAME) is used, then O(credentials_file).
    type: str
  password:
    description:
      - The password of O(username). A refused one is never tried again, since ten of them ban the address for an hour.
      - If not set, the environment variable E(XINFERENCE_PASSWORD) is used.
    type: str
  api_key:
    description:
      - A key to use where there is no account. From Xinference 3.0 on a key can only look and infer; before, one of the file of
        C(--auth-config) may do what its user may.
      - If not set, the environment variable E(XINFERENCE_API_KEY) is used.
    type: str
  credentials_file:
    description:
      - A file on the host with the credentials, as M(llmops.dify_xinference.xinference_setup) writes it.
      - If not set, the environment variable E(XINFERENCE_CREDENTIALS_FILE) is used.
    type: path
  validate_certs:
    description: Whether the certificate of an C(https) server is checked.
    type: bool
    default: true
  ca_path:
    description: A file with the certificates of an own certification authority.
    type: path
  timeout:
    description: Seconds that one request may take.
    type: float
    default: 60
"""
