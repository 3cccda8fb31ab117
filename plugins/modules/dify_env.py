#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dify_env
short_description: Write Dify's .env from the release's example, the host's secrets and your settings
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Writes C(.env) beside a release's C(docker-compose.yaml), mode V(0600), from that release's C(.env.example).
  - Every secret is put into every variable that must carry it. Names the release does not know are refused with the
    nearest one it knows. No variable keeps a secret that stands in the public example.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Only variables that differ, secrets hidden.
  idempotent:
    support: full
options:
  path:
    description: The release's C(docker) folder.
    type: path
    required: true
  secrets_file:
    description: JSON file of the host's secrets, as M(llmops.dify_xinference.secrets_file) keeps it.
    type: path
    required: true
  settings:
    description: Variables set by the role. Those the release does not know are left out.
    type: dict
    default: {}
  user_settings:
    description: Variables set by the user; they win over O(settings) and are refused when the release does not know them.
    type: dict
    default: {}
  secret_settings:
    description: As O(user_settings), for values that nobody shall read, for example V(S3_SECRET_KEY). Never shown, never logged.
    type: dict
    default: {}
  profiles:
    description: Compose profiles to run beside those of the release's own C(COMPOSE_PROFILES).
    type: list
    elements: str
    default: []
  without_profiles:
    description: Compose profiles of the release's C(COMPOSE_PROFILES) to leave out.
    type: list
    elements: str
    default: []
  vector_store:
    description:
      - Vector store, as C(VECTOR_STORE) names it. One that the release does not have is refused with those that it has, and so is one whose
        own server cannot be given a password.
      - What it needs to be reached is set, and its password (C(VECTOR_PASSWORD) of O(secrets_file)) put into every variable that must carry it.
    type: str
  vector_store_external:
    description: Whether the vector store is no part of the Compose project. Its address and credentials are O(user_settings) and O(secret_settings).
    type: bool
    default: false
  known_names:
    description: Names to accept although no file of the release mentions them.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Configure Dify
  llmops.dify_xinference.dify_env:
    path: /opt/dify/releases/1.16.1/docker
    secrets_file: /opt/dify/secrets.json
    user_settings:
      LOG_LEVEL: INFO
"""

RETURN = r"""
names:
  description: Names of the variables that differ from before.
  type: list
  elements: str
  returned: success
  sample: [LOG_LEVEL]
joins:
  description: Services of the chosen vector store that the release keeps in a network without the api.
  type: list
  elements: str
  returned: success
  sample: []
not_handed_on:
  description:
    - Variables of O(user_settings) and O(settings) that stand in C(.env), but that no file of the release hands on to a container.
      Releases before 1.14.1 hand on only the variables of the compose file's own list.
  type: list
  elements: str
  returned: success
  sample: []
"""

import glob
import itertools
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _dify_env, _dify_layout, _dify_vector, _secrets
from ansible_collections.llmops.dify_xinference.plugins.module_utils._difference import Difference


def read(path: str) -> str:
    with open(path, encoding="utf-8") as handle:
        return handle.read()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "secrets_file": {"type": "path", "required": True, "no_log": False},
            "settings": {"type": "dict", "default": {}},
            "user_settings": {"type": "dict", "default": {}},
            "secret_settings": {"type": "dict", "default": {}, "no_log": True},
            "profiles": {"type": "list", "elements": "str", "default": []},
            "without_profiles": {"type": "list", "elements": "str", "default": []},
            "known_names": {"type": "list", "elements": "str", "default": []},
            "vector_store": {"type": "str"},
            "vector_store_external": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    target = os.path.join(params["path"], ".env")
    try:
        example = read(os.path.join(params["path"], ".env.example"))
        compose = read(os.path.join(params["path"], "docker-compose.yaml"))
        more = [read(path) for path in sorted(glob.glob(os.path.join(params["path"], "envs", "**", "*.env.example"), recursive=True))]
        secrets = _secrets.load(params["secrets_file"])
        before = read(target) if os.path.exists(target) else ""
        layout = _dify_layout.read(compose)
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"Dify's configuration cannot be made: {error}")
    module.no_log_values.update(secrets.values())

    known = _dify_env.known_names(example, compose, more, params["known_names"])
    given = {**params["user_settings"], **params["secret_settings"]}
    in_use = _dify_env.public_in_use(_dify_env.parse(before))
    if in_use:
        module.fail_json(
            msg=f"{target} is there, and {', '.join(in_use)} in it is a public default that the services already keep. Change it in the service first "
            "(DB_PASSWORD: ALTER ROLE in the database), put the new value into dify_secrets, and remove this .env. SECRET_KEY: remove this .env; "
            "a new one signs everybody out. Nothing was changed."
        )
    try:
        _dify_env.check_names(given, known)
        settings = {name: value for name, value in {**_dify_env.SECURE_SETTINGS, **params["settings"]}.items() if name in known}
        store, hidden = params["vector_store"], set(params["secret_settings"])
        if store:
            refused = _dify_vector.problem(store, params["vector_store_external"], itertools.chain(*layout.profiles.values()), known, given)
            if refused:
                module.fail_json(msg=refused)
            settings["VECTOR_STORE"] = store
            if not params["vector_store_external"]:
                plain, secret = _dify_vector.settings(store, secrets.get("VECTOR_PASSWORD", ""), given, known)
                settings.update({**plain, **secret})
                hidden |= set(secret)
                module.no_log_values.update(secret.values())
        settings.update(given)
        settings.update(_dify_env.secret_settings(secrets, known, settings))
        raw = {}
        if (params["profiles"] or params["without_profiles"]) and "COMPOSE_PROFILES" not in given:
            raw["COMPOSE_PROFILES"] = _dify_env.profiles(example, params["profiles"], params["without_profiles"], settings)
        text = _dify_env.render(example, settings, raw)
    except _dify_env.EnvRefused as error:
        module.fail_json(msg=str(error))
    leftovers = [] if module.check_mode and not secrets else _dify_env.public_leftovers(text, example, compose)
    if leftovers:
        module.fail_json(msg=f"{', '.join(leftovers)}: would keep a value that stands in Dify's public example. Is {params['secrets_file']} complete?")

    old, new = _dify_env.parse(before), _dify_env.parse(text)
    public = [] if module.check_mode and not secrets else _dify_env.public_of_store(new, new.get("VECTOR_STORE", ""))
    if public:
        module.fail_json(
            msg=f"{', '.join(public)}: the chosen vector store {new['VECTOR_STORE']} would run on a public default. Give a value of your own in "
            "dify_env_secrets, to the variables of its server as well (see the release's .env.example)."
        )
    difference = Difference()
    for name in sorted(set(old) | set(new)):
        hide = name in _dify_env.SECRET_VARIABLES or name in hidden or any(word in name for word in ("PASSWORD", "SECRET", "TOKEN", "_KEY"))
        difference.add(name, new.get(name), old.get(name), secret=hide)
    mode = os.stat(target).st_mode & 0o777 if before else 0o600
    difference.add("mode", "0600", f"{mode:04o}")
    changed = difference.changed or before != text
    if changed and not module.check_mode:
        try:
            _secrets.write_private(target, text)
        except OSError as error:
            module.fail_json(msg=f"{target} cannot be written: {error}")
    left = _dify_layout.not_handed_on(set(settings) - _dify_env.SECRET_VARIABLES, _dify_env.references(compose), layout)
    joins = _dify_vector.STORES[store].joins if store in _dify_vector.STORES and not params["vector_store_external"] else ()
    module.exit_json(
        changed=changed,
        names=difference.names,
        not_handed_on=left,
        joins=[name for name in joins if name in layout.services],
        diff={"before_header": target, "after_header": target, **difference.diff()},
    )


if __name__ == "__main__":
    main()
