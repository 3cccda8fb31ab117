#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dify_setup
short_description: Wait for Dify and make its first administrator
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Waits until Dify's console answers, with the wanted version when O(expected_version) is given.
  - Makes the first administrator when there is none yet, proving C(INIT_PASSWORD) on the way, so that no stranger can.
  - An existing administrator is left alone. Names, e-mail addresses and passwords that Dify would refuse are named
    before anything is sent, since Dify's own answer does not say which one it means.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes
  - llmops.dify_xinference.dify
attributes:
  check_mode:
    support: full
    details: In check mode a Dify that does not answer is no error, since the run before it may be the one that starts it.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  email:
    required: true
  name:
    description: Name shown for the administrator, at most 30 characters.
    type: str
    default: Admin
  password:
    description:
      - The administrator's password. When empty, C(ADMIN_PASSWORD) of O(secrets_file) is used.
      - Falls back to the environment variable E(DIFY_PASSWORD).
  init_password:
    description: Dify's C(INIT_PASSWORD), at most 30 characters. When empty, that of O(secrets_file) is used.
    type: str
  secrets_file:
    description: JSON file on the host that runs the module, with C(ADMIN_PASSWORD) and C(INIT_PASSWORD), so that they need not travel.
    type: path
  language:
    description: Language of the administrator's console, for example V(en-US) or V(zh-Hans). It is left alone when empty.
    type: str
  workspace_name:
    description: Name of the workspace. It is left alone when empty.
    type: str
  expected_version:
    description: Version that must answer. Any by default.
    type: str
  wait_timeout:
    description: Seconds to wait for the console. The first start fills the database and takes a minute or more.
    type: int
    default: 600
  verify_login:
    description:
      - Whether to log in once and so prove the password of an administrator that was there already. A wrong one counts
        towards Dify's lockout (six a day).
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Claim a fresh Dify
  llmops.dify_xinference.dify_setup:
    url: http://127.0.0.1
    email: admin@example.com
    password: "{{ vault_dify_password }}"
    init_password: "{{ vault_dify_init_password }}"
    expected_version: 1.16.1
"""

RETURN = r"""
version:
  description: Version that answered.
  type: str
  returned: when Dify answered
  sample: 1.16.1
step:
  description: Dify's own word for its set-up state at the end, V(finished) or V(not_started), or V(no_answer) in check mode.
  type: str
  returned: success
  sample: finished
workspace_id:
  description: The workspace, when an admin key was given.
  type: str
  returned: when an admin key was given
seconds:
  description: How long the console took to be ready.
  type: float
  returned: success
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _secrets
from ansible_collections.llmops.dify_xinference.plugins.module_utils._difference import Difference
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify import DifyError, DifyUsageError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_args import client_of, connection_arguments
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_setup import (
    WaitTimeout,
    check_administrator,
    make_administrator,
    wait_until_ready,
    wanted_settings,
)
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import ServerUnreachable


def main() -> None:
    arguments = connection_arguments()
    arguments["email"]["required"] = True
    arguments.update(
        {
            "name": {"type": "str", "default": "Admin"},
            "init_password": {"type": "str", "no_log": True},
            "secrets_file": {"type": "path", "no_log": False},
            "language": {"type": "str"},
            "workspace_name": {"type": "str"},
            "expected_version": {"type": "str"},
            "wait_timeout": {"type": "int", "default": 600},
            "verify_login": {"type": "bool", "default": False},
        }
    )
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)
    params = module.params
    password, init_password = params["password"], params["init_password"]
    if params["secrets_file"]:
        try:
            stored = _secrets.load(params["secrets_file"])
        except (OSError, ValueError) as error:
            module.fail_json(msg=f"secrets_file cannot be read: {error}")
        module.no_log_values.update(stored.values())
        password = password or stored.get("ADMIN_PASSWORD")
        init_password = init_password or stored.get("INIT_PASSWORD")

    client = client_of(module)
    client.email, client.password = params["email"], password
    start = time.monotonic()
    try:
        state = wait_until_ready(client, params["expected_version"], 0 if module.check_mode else params["wait_timeout"])
    except WaitTimeout as error:
        if module.check_mode:
            text = f"Dify does not answer yet at {params['url']}; it would be waited for and set up."
            module.exit_json(changed=True, step="no_answer", seconds=0.0, msg=text)
        module.fail_json(
            msg=f"Dify at {params['url']} was not ready within {params['wait_timeout']} s; last seen: {error.last[0]}. "
            "Look at: docker compose ps, and docker compose logs --tail 50 api nginx"
        )
    difference = Difference()
    result = {"changed": False, "seconds": round(time.monotonic() - start, 2), "version": client.version, "step": state["step"]}
    try:
        if state["step"] != "finished":
            problems = check_administrator(params["email"], params["name"], password, init_password)
            if problems:
                module.fail_json(msg="Dify's first administrator cannot be made: " + "; ".join(problems) + ".", version=client.version)
            difference.add("administrator", params["email"], None)
            difference.add("name", params["name"], None)
            if not module.check_mode:
                make_administrator(client, params["email"], params["name"], password, params["language"], init_password)
                result["step"] = client.setup_state().get("step")
        elif params["verify_login"]:
            client.login()
        if result["step"] == "finished":
            for path, body in wanted_settings(client, params["workspace_name"], params["language"], difference):
                if not module.check_mode:
                    client.call("POST", path, json=body)
            if client.admin_key and client.capabilities.admin_key:
                client.call("GET", "/workspaces")
                result["workspace_id"] = client.workspace_id
        else:
            # Nobody to ask yet; a fresh Dify has neither.
            for name in ("workspace_name", "language"):
                difference.add(name, params[name] or None, None)
    except (DifyError, DifyUsageError, ServerUnreachable) as error:
        module.fail_json(msg=f"Dify's set-up failed: {error}", **{**result, "changed": difference.changed})
    module.exit_json(**{**result, "changed": difference.changed, "diff": difference.diff()})


if __name__ == "__main__":
    main()
