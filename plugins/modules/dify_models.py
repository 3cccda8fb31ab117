#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dify_models
short_description: Bring the models registered in Dify, and its default models, to a list
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Takes the whole list, compares it with what Dify has, and creates, updates, re-attaches or enables what differs; then
    reads back. Every model gets a verdict; a bad one never stops the rest, and the module fails at the end naming all
    that failed.
  - Before a model is registered, the model server itself is asked from this host, so that the cause is named (not
    reachable, wrong key, unknown uid, wrong kind, still loading).
extends_documentation_fragment:
  - llmops.dify_xinference.attributes
  - llmops.dify_xinference.dify
attributes:
  check_mode:
    support: full
    details: >-
      The model server is asked in check mode too; Dify is only read. Credentials of other providers than Xinference's are handed to Dify for
      a trial, which stores nothing.
  diff_mode:
    support: full
    details: Keys show as C((hidden)).
  idempotent:
    support: full
options:
  models:
    description: Every model that Dify shall know from this provider.
    type: list
    elements: dict
    default: []
    suboptions:
      model:
        description: Name shown in Dify. The uid by default.
        type: str
      model_type:
        description: Dify's word for the kind of model.
        type: str
        choices: [llm, text-embedding, rerank, speech2text, tts, moderation]
        required: true
      model_uid:
        description: Uid of the model on Xinference. By default O(models[].model).
        type: str
      server_url:
        description: Address of Xinference, as Dify's plugin daemon reaches it from its container. Never C(localhost).
        type: str
      api_key:
        description: Key of that Xinference; empty when it asks for none.
        type: str
      abilities:
        description:
          - What the model server says the model can do, for example V(vision) and V(tools).
          - Dify reads its flags for pictures and tool calls off the server when a model is registered, and never again. So
            a model whose abilities changed since is registered anew. Needs O(state_file).
        type: list
        elements: str
        default: []
      credentials:
        description:
          - More fields of the provider, or all of them for another provider than Xinference. Values become text.
          - A value whose name ends in C(key), C(secret), C(token) or C(password) is kept out of all output, but it is better given in
            O(models[].secret_credentials).
        type: dict
        default: {}
      secret_credentials:
        description: Further such fields that are secrets, for example the API key of another provider.
        type: dict
        default: {}
      state:
        description: V(absent) removes the model and every credential of it, whoever made them.
        type: str
        choices: [present, absent]
        default: present
  default_models:
    description: Default model by type (see the example). Types not named are left alone.
    type: dict
    default: {}
  provider:
    description:
      - The provider, as Dify names it. Any provider whose models are registered one by one works the same.
      - Xinference's is called V(xinference) before Dify 1.0, which is looked after.
    type: str
    default: langgenius/xinference/xinference
  prune:
    description:
      - Whether models of this provider that carry O(credential_name) and are not listed any more are removed.
      - Credentials have no names before Dify 1.8; there the models named in O(state_file) are ours.
    type: bool
    default: false
  credential_name:
    description: Name of the credentials that this module owns, at most 30 characters.
    type: str
    default: ansible
  state_file:
    description:
      - File on the host that runs the module, where fingerprints of the registered keys are kept, so that a key that
        was replaced by a similar one is noticed. Without it keys are compared by the mask Dify shows (before 1.0, and with
        the plugin before 0.0.5, the address of the server too).
    type: path
  probe:
    description: Whether Xinference itself is asked before a model is registered.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Register two models and make them the defaults
  llmops.dify_xinference.dify_models:
    url: http://127.0.0.1
    admin_key_file: /opt/dify/secrets.json
    models:
      - model: chat
        model_type: llm
        model_uid: chat
        server_url: http://192.0.2.10:9997
        api_key: "{{ xinference_key }}"
      - model: embed
        model_type: text-embedding
        model_uid: embed
        server_url: http://192.0.2.10:9997
        api_key: "{{ xinference_key }}"
    default_models:
      llm: chat
      text-embedding: embed

- name: Register a model of another provider
  llmops.dify_xinference.dify_models:
    url: http://127.0.0.1
    admin_key_file: /opt/dify/secrets.json
    provider: langgenius/openai_api_compatible/openai_api_compatible
    models:
      - model: gateway-chat
        model_type: llm
        credentials:
          endpoint_url: http://192.0.2.20:8000/v1
          mode: chat
          context_size: 32768
        secret_credentials:
          api_key: "{{ gateway_key }}"
"""

RETURN = r"""
models:
  description: One verdict per model, in the order of the list, pruned ones last.
  type: list
  elements: dict
  returned: always
  contains:
    model:
      description: Name in Dify.
      type: str
    model_type:
      description: Kind.
      type: str
    model_uid:
      description: Uid on Xinference.
      type: str
    action:
      description: What was done, or would be done in check mode (none, create, update, attach, enable, delete).
      type: str
    changed:
      description: Whether it changed.
      type: bool
    verdict:
      description: V(ok) or V(failed).
      type: str
    reason:
      description: Why it was changed, or why it failed.
      type: str
    seconds:
      description: How long it took.
      type: float
default_models:
  description: One verdict per default.
  type: list
  elements: dict
  returned: always
  sample:
    - model_type: llm
      model: chat
      before: other
      changed: true
      verdict: ok
      reason: was another one
version:
  description: Dify's version.
  type: str
  returned: always
requests:
  description: How many requests were sent to Dify.
  type: int
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils import _dify_probe
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify import DifyError, DifyUsageError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_args import (
    client_of,
    connection_arguments,
    hide_secrets,
    http_client,
    model_arguments,
    wanted_defaults,
    wanted_models,
)
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_memory import FileMemory
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_models import Registrar
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_plan import WantedModel
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_probe import Prober
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_versions import XINFERENCE_PROVIDERS
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import ServerUnreachable


def main() -> None:
    arguments = connection_arguments()
    arguments.update(model_arguments())
    arguments["prune"] = {"type": "bool", "default": False}
    arguments["probe"] = {"type": "bool", "default": True}
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)
    params = module.params
    wished = wanted_defaults(module)
    hide_secrets(module)
    prober = Prober(lambda server: http_client(module, server, _dify_probe.TIMEOUT, _dify_probe.RETRIES))

    def ask(item: WantedModel) -> str | None:
        uid, server = item.credentials.get("model_uid"), item.credentials.get("server_url")
        if not (params["probe"] and uid and server and params["provider"] in XINFERENCE_PROVIDERS):
            return None
        return prober(server, uid, item.model_type, item.credentials.get("api_key"))

    client = client_of(module)
    memory = FileMemory(params["state_file"])
    wanted = wanted_models(params)
    registrar = Registrar(client, params["provider"], ask, memory, module.check_mode, params["credential_name"])
    defaults: list = []
    fatal = None
    try:
        registrar.present(wanted, wished)
        if params["prune"]:
            registrar.prune(wanted)
        defaults = registrar.defaults(wished)
    except (DifyError, DifyUsageError, ServerUnreachable) as error:
        fatal = str(error)
    for note in registrar.notes:
        module.warn(note)
    if not module.check_mode:
        try:
            memory.save()
        except OSError as error:
            module.warn(f"{params['state_file']} cannot be written ({error}); keys are compared by their mask only.")

    failures = [f"{item['model_type']}/{item['model']}: {item['reason']}" for item in registrar.results if item["verdict"] == "failed"]
    failures += [f"default {item['model_type']} ({item['model']}): {item['reason']}" for item in defaults if item["verdict"] == "failed"]
    if fatal:
        # Said once in the message, and beside every model that was not come to.
        failures.append(fatal)
        registrar.give_up(wanted, fatal)

    result = {
        "changed": registrar.difference.changed,
        "models": registrar.results,
        "default_models": defaults,
        "version": client.version,
        "requests": client.requests,
        "diff": registrar.difference.diff(),
    }
    if failures:
        good = sum(1 for item in registrar.results if item["verdict"] == "ok")
        module.fail_json(msg=f"{good} of {len(wanted)} models are as wanted. " + " | ".join(failures), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
