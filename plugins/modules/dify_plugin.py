#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dify_plugin
short_description: Have a Dify plugin at a version
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Installs, upgrades or downgrades a plugin, from the marketplace or from a C(.difypkg), and waits to the very end.
  - Success is only reported when the wanted version is installed and, with O(provider), that provider is listed.
  - A plugin with a O(version) is taken out of Dify's automatic upgrades, which would move it otherwise.
  - Before Dify 1.0 providers are built in. Then nothing is done, as long as the provider is there.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes.converging_module
  - llmops.dify_xinference.dify
options:
  id:
    description: The plugin, as C(author/name).
    type: str
    required: true
  version:
    description: Version to have. Without one, any installed version will do and the newest is installed.
    type: str
  state:
    description: Whether the plugin shall be there. Registered models survive its removal and come back with it.
    type: str
    choices: [present, absent]
    default: present
  identifier:
    description:
      - The marketplace's full identifier, C(author/name:version@hash). With it O(version) need not be the newest one.
      - Only used with O(source=marketplace). O(version) follows from it.
    type: str
  source:
    description:
      - Where it comes from. Dify itself fetches from the V(marketplace); a V(package) and a release on V(github) are
        fetched by the host that runs the module and uploaded, so Dify needs no internet for them.
    type: str
    choices: [marketplace, github, package]
    default: marketplace
  package:
    description:
      - Path on the host that runs the module, or URL, of the C(.difypkg). Needed with O(source=package).
      - With O(source=github), the name of the file in the release.
    type: str
  repo:
    description: Repository on GitHub, as C(owner/name). Needed with O(source=github).
    type: str
  release:
    description: Tag of the release on GitHub. By default O(version).
    type: str
  github_url:
    description: Where GitHub, or a mirror of it, is.
    type: str
    default: https://github.com
  provider:
    description: Model provider that must be listed afterwards, for example V(langgenius/xinference/xinference).
    type: str
  pin:
    description: Whether the plugin is taken out of Dify's automatic upgrades. By default when O(version) is given.
    type: bool
  wait_timeout:
    description: Seconds to wait for the plugin daemon, which builds a Python environment for the plugin.
    type: int
    default: 1200
"""

EXAMPLES = r"""
- name: Have the Xinference provider, without a marketplace
  llmops.dify_xinference.dify_plugin:
    url: http://127.0.0.1
    admin_key_file: /opt/dify/secrets.json
    id: langgenius/xinference
    version: 0.0.15
    source: package
    package: http://files.example.com/langgenius-xinference_0.0.15.difypkg
    provider: langgenius/xinference/xinference

- name: Have the version of a GitHub release
  llmops.dify_xinference.dify_plugin:
    url: http://127.0.0.1
    admin_key_file: /opt/dify/secrets.json
    id: example/provider
    version: 1.2.0
    source: github
    repo: example/dify-provider
    release: v1.2.0
    package: example-provider_1.2.0.difypkg
"""

RETURN = r"""
action:
  description: What was done, or would be done in check mode.
  type: str
  returned: success
  sample: upgrade
before:
  description: Version installed before; empty when none was.
  type: str
  returned: success
version:
  description: Version installed now; empty when none is.
  type: str
  returned: success
  sample: 0.0.15
built_in:
  description: Whether this Dify has no plugins and the provider is part of it.
  type: bool
  returned: success
seconds:
  description: How long it took.
  type: float
  returned: success
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url
from ansible_collections.llmops.dify_xinference.plugins.module_utils._difference import Difference
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify import DifyError, DifyUsageError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_args import client_of, connection_arguments
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_plugins import Identifier, PluginError, Plugins, pinned_settings, plan_plugin
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import ServerUnreachable


def fetch_package(module: AnsibleModule, package: str) -> bytes:
    try:
        if "://" in package:
            answer = open_url(package, timeout=60, validate_certs=module.params["validate_certs"], http_agent="llmops.dify_xinference", follow_redirects="all")
            return bytes(answer.read())
        with open(package, "rb") as handle:
            return handle.read()
    except Exception as error:  # urllib's, ssl's and module_utils.urls' own
        raise PluginError(f"the package {package} cannot be had: {error}. Is it there, and can this host reach it?") from error


def package_url(params: dict) -> str:
    if params["source"] == "package":
        return params["package"]
    release = params["release"] or params["version"]
    return f"{params['github_url'].rstrip('/')}/{params['repo']}/releases/download/{release}/{params['package']}"


def bring(module: AnsibleModule, plugins: Plugins, installed: dict | None, action: str) -> None:
    """Install or upgrade, then check that the version that was asked for is really the one installed."""
    params = module.params
    if params["source"] != "marketplace":
        package = package_url(params)
        identifier = plugins.upload(os.path.basename(package) or "plugin.difypkg", fetch_package(module, package))
    elif params["identifier"]:
        identifier = Identifier.parse(params["identifier"])
    else:
        identifier = plugins.marketplace_identifier(params["id"], params["version"])
    if identifier.plugin_id != params["id"] or (params["version"] and identifier.version != params["version"]):
        wanted = f"{params['id']} {params['version'] or ''}".strip()
        raise PluginError(f"the package is {identifier.plugin_id} {identifier.version}, not {wanted}. Nothing was installed.")
    if action == "install":
        plugins.install(identifier, params["source"])
    else:
        plugins.upgrade(installed["plugin_unique_identifier"], identifier, params["source"])


def without_plugins(plugins: Plugins, params: dict) -> dict:
    """Before 1.0: nothing to do where the provider is built in, and nothing that could be done elsewhere."""
    if params["state"] == "present" and not plugins.built_in(params["id"], params["provider"]):
        plugins.installed(params["id"])  # says why not
    return {"changed": False, "action": "none", "before": "", "version": "", "built_in": params["state"] == "present"}


def decide(module: AnsibleModule, plugins: Plugins, difference: Difference) -> dict:
    """Everything up to the pin; returns what the module reports."""
    params = module.params
    installed = plugins.installed(params["id"])
    before = (installed or {}).get("version") or ""
    if params["state"] == "absent":
        difference.add("version", "", before)
        if installed and not module.check_mode:
            plugins.uninstall(installed["id"])
            installed = plugins.installed(params["id"])
            if installed:
                raise PluginError("Dify accepted the removal, but still lists the plugin")
        return {"action": "uninstall" if before else "none", "before": before, "version": before if module.check_mode else ""}
    action = plan_plugin(before or None, params["version"])
    if action != "none":
        difference.add("version", params["version"] or "newest", before)
        if not module.check_mode:
            bring(module, plugins, installed, action)
            installed = plugins.installed(params["id"])
            now = (installed or {}).get("version")
            if not now or (params["version"] and now != params["version"]):
                raise PluginError(f"Dify reported success, but has {now or 'no version'} installed instead of {params['version'] or 'any'}")
    pin = bool(params["version"]) if params["pin"] is None else params["pin"]
    found = plugins.auto_upgrade() if pin else None
    settings = pinned_settings(found, params["id"]) if found else None
    if settings:
        difference.add("auto_upgrade", settings, found)
        if not module.check_mode:
            plugins.set_auto_upgrade(settings)
    if params["provider"] and not (module.check_mode and action != "none") and not plugins.provider_listed(params["provider"]):
        raise PluginError(
            f"the plugin is installed, but Dify does not list its provider {params['provider']}: its process does not start. "
            "Look at: docker compose logs plugin_daemon"
        )
    return {"action": action, "before": before, "version": before if module.check_mode else (installed or {}).get("version") or ""}


def main() -> None:
    arguments = connection_arguments()
    arguments.update(
        {
            "id": {"type": "str", "required": True},
            "version": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "identifier": {"type": "str"},
            "source": {"type": "str", "choices": ["marketplace", "github", "package"], "default": "marketplace"},
            "package": {"type": "str"},
            "repo": {"type": "str"},
            "release": {"type": "str"},
            "github_url": {"type": "str", "default": "https://github.com"},
            "provider": {"type": "str"},
            "pin": {"type": "bool"},
            "wait_timeout": {"type": "int", "default": 1200},
        }
    )
    module = AnsibleModule(
        argument_spec=arguments,
        required_if=[("source", "package", ("package",)), ("source", "github", ("repo", "package", "version"))],
        supports_check_mode=True,
    )
    params = module.params
    plugins = Plugins(client_of(module), task_timeout=params["wait_timeout"])
    difference = Difference()
    start = time.monotonic()
    result: dict = {"built_in": False}
    try:
        if params["identifier"] and params["source"] == "marketplace":
            params["version"] = Identifier.parse(params["identifier"]).version
        if plugins.supported:
            result.update(decide(module, plugins, difference))
        else:
            result.update(without_plugins(plugins, params))
    except (DifyError, DifyUsageError, PluginError, ServerUnreachable) as error:
        module.fail_json(msg=f"Plugin {params['id']}: {error}")
    result.update(changed=difference.changed, seconds=round(time.monotonic() - start, 2), diff=difference.diff())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
