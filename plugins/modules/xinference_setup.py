#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: xinference_setup
short_description: Create the first administrator of an Xinference server, and a key for those who use it
version_added: 0.1.0
author:
  - The llmops.dify_xinference contributors (@llmops)
description:
  - From Xinference 3.0 on a new server has no account, and whoever comes first makes himself its administrator.
    This module does that, keeps the password in a file on the host, and creates an API key that can only look and infer.
  - Run it while the server listens on the loopback address only. RV(ready) says when it may be opened.
  - It converges from any interruption. The password is written to the file before it is sent.
  - A server that does not answer is no error, but is told by RV(reachable). What the file says then decides RV(ready).
  - A server that runs without authentication needs nothing. Before 3.0 accounts come from the file of C(--auth-config).
    With O(accounts_file) this module writes that file, with an administrator and an inference-only key. Without it, it proves
    that O(username) and O(password) work and keeps them for the other modules; then it makes no key.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details: With O(rotate) set, a run makes a new secret every time; without it, nothing is done twice.
options:
  url:
    description:
      - Where the server's REST API is, as seen from the host that the module runs on.
      - If not set, the environment variable E(XINFERENCE_URL) is used.
    type: str
    default: http://127.0.0.1:9997
  credentials_file:
    description:
      - Where the credentials are kept, with mode C(0600). This module owns the file.
      - It is what the other modules take as O(llmops.dify_xinference.xinference_models#module:credentials_file).
    type: path
    required: true
  username:
    description: Name of the administrator.
    type: str
    default: admin
  password:
    description:
      - Password of the administrator, at least 8 characters. If not set, one is generated.
      - For a server that already has an administrator, the password of that one.
    type: str
  api_key_name:
    description: Name of the API key to create.
    type: str
    default: dify
  accounts_file:
    description:
      - Where the file of C(--auth-config) of a server before 3.0 is, with mode C(0600). This module owns the file.
      - The server reads it when it starts. RV(accounts_digest) tells whether it has to be started anew.
      - Passwords are in it in plain text, because these servers want them so.
      - Keys cannot be rotated with it, see O(rotate).
    type: path
  rotate:
    description:
      - What to make anew, on top of making what is missing.
      - V(api_key) creates a new key beside the old one; both are valid until O(revoke_old_key) takes the old one back. While
        an old key waits for that, no third key is made, so a rotation that was cut off goes on where it was.
      - V(password) gives the administrator a new password, O(new_password) or a generated one.
      - Every run that is told to rotate rotates, so this is for a playbook that is run for this purpose.
    type: list
    elements: str
    choices: [api_key, password]
    default: []
  new_password:
    description:
      - The password that O(rotate) gives the administrator. If not set, one is generated. Needed when O(password) is given.
    type: str
  revoke_old_key:
    description: Whether to revoke the predecessor of a rotated key. Nothing happens when there is none.
    type: bool
    default: false
  data_dir:
    description:
      - The folder on the host that is the server's C(XINFERENCE_HOME).
      - With it, credentials whose server lost its data are not trusted while the server is down.
    type: path
  container:
    description: The Docker container whose log holds the setup token of Xinference 4.
    type: str
  log_file:
    description: A file that holds the setup token, for a server that runs outside of Docker.
    type: path
  setup_token:
    description: The setup token itself, instead of O(container) and O(log_file).
    type: str
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
seealso:
  - module: llmops.dify_xinference.xinference_models
"""

EXAMPLES = r"""
- name: Create the first administrator and the key for Dify
  llmops.dify_xinference.xinference_setup:
    url: http://127.0.0.1:9997
    credentials_file: /opt/xinference/credentials.json
    container: xinference
  register: xinference_setup
  no_log: true

- name: Create a new key; the old one stays valid
  llmops.dify_xinference.xinference_setup:
    credentials_file: /opt/xinference/credentials.json
    rotate: [api_key]
  register: xinference_setup
  no_log: true

- name: Revoke the old key, after all who used it have the new one
  llmops.dify_xinference.xinference_setup:
    credentials_file: /opt/xinference/credentials.json
    revoke_old_key: true
  no_log: true

- name: Write the accounts of a server before 3.0, which is started with --auth-config
  llmops.dify_xinference.xinference_setup:
    credentials_file: /opt/xinference/credentials.json
    accounts_file: /opt/xinference/accounts.json
  register: xinference_setup
  no_log: true
"""

RETURN = r"""
ready:
  description: Whether an administrator exists (or none is needed), so that the server may be opened to others.
  returned: success
  type: bool
  sample: true
reachable:
  description: Whether the server answered.
  returned: success
  type: bool
  sample: true
auth:
  description: Whether the server asks for a login. V(null) when it did not answer.
  returned: success
  type: bool
  sample: true
api_key:
  description:
    - The inference-only key. It is a secret, so set C(no_log) on the task. Empty where there is none (authentication is off,
      a server older than 3.0 without O(accounts_file), check mode before it exists).
  returned: success
  type: str
  sample: xf-...
old_key_valid:
  description: Whether the predecessor of a rotated key is still valid, and O(revoke_old_key) would revoke it.
  returned: success
  type: bool
  sample: false
username:
  description: Name of the administrator.
  returned: success
  type: str
  sample: admin
done:
  description: What was done, or would be done in check mode.
  returned: success
  type: list
  elements: str
  sample: [create the first administrator admin, create the API key dify]
accounts_digest:
  description: A digest of what O(accounts_file) holds, or would hold; empty without that option.
  returned: success
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
docker:
  description: Whether the host has a C(docker) command, which tells a bare host in check mode.
  returned: success
  type: bool
  sample: true
"""

import shutil

from ansible.module_utils.basic import AnsibleModule, env_fallback
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import JsonClient, ServerUnreachable, open_url_transport
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference import XinferenceError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_files import UnreadableFile
from ansible_collections.llmops.dify_xinference.plugins.module_utils._xinference_setup import Setup, container_log, setup_token_in


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "default": "http://127.0.0.1:9997", "fallback": (env_fallback, ["XINFERENCE_URL"])},
            "credentials_file": {"type": "path", "required": True},
            "username": {"type": "str", "default": "admin"},
            "password": {"type": "str", "no_log": True},
            "api_key_name": {"type": "str", "default": "dify", "no_log": False},
            "accounts_file": {"type": "path"},
            "rotate": {"type": "list", "elements": "str", "choices": ["api_key", "password"], "default": []},
            "new_password": {"type": "str", "no_log": True},
            "revoke_old_key": {"type": "bool", "default": False, "no_log": False},
            "data_dir": {"type": "path"},
            "container": {"type": "str"},
            "log_file": {"type": "path"},
            "setup_token": {"type": "str", "no_log": True},
            "validate_certs": {"type": "bool", "default": True},
            "ca_path": {"type": "path"},
            "timeout": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    params = module.params

    def token() -> str | None:
        if params["setup_token"]:
            return str(params["setup_token"])
        if params["log_file"]:
            with open(params["log_file"], encoding="utf-8", errors="replace") as handle:
                return setup_token_in(handle.read())
        return setup_token_in(container_log(params["container"])) if params["container"] else None

    try:
        outcome = Setup(
            JsonClient(params["url"], open_url_transport(params["validate_certs"], params["ca_path"], use_proxy=False), timeout=params["timeout"], retries=0),
            params["credentials_file"],
            params["username"],
            params["password"] or None,
            params["api_key_name"],
            params["data_dir"],
            token,
            module.check_mode,
            params["rotate"],
            params["revoke_old_key"],
            params["new_password"] or None,
            params["accounts_file"],
        ).run()
    except (XinferenceError, ServerUnreachable, UnreadableFile, OSError) as problem:
        module.fail_json(msg=str(problem))
    else:
        difference = {"before": "", "after": "".join(line + "\n" for line in outcome.done)}
        module.exit_json(docker=bool(shutil.which("docker")), diff=difference, **outcome._asdict())


if __name__ == "__main__":
    main()
