#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: secrets_file
short_description: Make secrets once and keep them on the host they serve
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Keeps a JSON file of secrets, readable by its owner only. What is missing is generated from letters and digits, once;
    what is there stays, whatever happens to the controller.
  - Values that stand in public example files are refused.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Names only. A value is never shown.
  idempotent:
    support: full
options:
  path:
    description: The file. Its folder is created with mode V(0755) when missing; the file itself always has mode V(0600).
    type: path
    required: true
  secrets:
    description: What is wanted. Secrets in the file that are not named here stay.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the secret.
        type: str
        required: true
      length:
        description: Characters to generate.
        type: int
        default: 32
      permanent:
        description: Whether the service keeps the first value it was started with, so that another one given later is refused.
        type: bool
        default: false
      kind:
        description: V(token) is O(secrets[].length) letters and digits; V(key32) is 43 characters that decode, as base64url, to 32 bytes.
        type: str
        choices: [token, key32]
        default: token
  values:
    description: Values of your own by name, used instead of generated ones. Empty counts as not given.
    type: dict
    default: {}
  reveal:
    description: Whether the values are returned. Put C(no_log) on the task then.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Make the secrets of a service
  llmops.dify_xinference.secrets_file:
    path: /opt/service/secrets.json
    secrets:
      - name: DB_PASSWORD
        permanent: true
      - name: ADMIN_PASSWORD
        length: 24
    values:
      ADMIN_PASSWORD: "{{ service_admin_password }}"
"""

RETURN = r"""
made:
  description: Names of the secrets that were not there before.
  type: list
  elements: str
  returned: success
  sample: [DB_PASSWORD]
replaced:
  description: Names of the secrets that took a value given by the user.
  type: list
  elements: str
  returned: success
  sample: []
secrets:
  description: All values of the file.
  type: dict
  returned: when O(reveal=true)
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _secrets


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "secrets": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "no_log": False,
                "options": {
                    "name": {"type": "str", "required": True},
                    "length": {"type": "int", "default": 32},
                    "permanent": {"type": "bool", "default": False},
                    "kind": {"type": "str", "choices": ["token", "key32"], "default": "token"},
                },
            },
            "values": {"type": "dict", "default": {}, "no_log": True},
            "reveal": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    path = module.params["path"]
    given = {name: str(value) for name, value in module.params["values"].items() if value}
    unknown = sorted(set(given) - {item["name"] for item in module.params["secrets"]})
    if unknown:
        module.fail_json(msg=f"values: {', '.join(unknown)} is not among the secrets.")
    try:
        stored = _secrets.load(path)
        values, made, replaced = _secrets.plan(stored, [_secrets.Wanted(value=given.get(item["name"]), **item) for item in module.params["secrets"]])
    except (ValueError, OSError, _secrets.SecretRefused) as error:
        module.fail_json(msg=str(error))

    module.no_log_values.update(values.values())
    mode = os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0o600
    changed = bool(made or replaced or mode != 0o600)
    if changed and not module.check_mode:
        try:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            _secrets.save(path, values)
        except OSError as error:
            module.fail_json(msg=f"{path} cannot be written: {error}")
    before = dict.fromkeys(stored, "(kept)")
    after = dict.fromkeys(values, "(kept)")
    after.update(dict.fromkeys(made, "(new)"))
    after.update(dict.fromkeys(replaced, "(replaced)"))
    result = {"changed": changed, "made": sorted(made), "replaced": sorted(replaced)}
    shown = {"mode": f"{mode:04o}", **before} if stored else {}
    result["diff"] = {"before": shown, "after": {"mode": "0600", **after}, "before_header": path, "after_header": path}
    if module.params["reveal"]:
        module.no_log_values.clear()  # the caller asked for them, and puts no_log on the task
        result["secrets"] = values
    module.exit_json(**result)


if __name__ == "__main__":
    main()
