#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dify_rag_check
short_description: Ask one question through Dify, with retrieval, and clean up again
version_added: 0.1.0
author: The llmops.dify_xinference contributors (@llmops)
description:
  - Makes a temporary knowledge base with one short document (default embedding model), looks for a passage (default
    rerank model), asks a temporary chat application about it through Dify's service API (default chat model), and
    deletes everything again, also what an interrupted run left behind.
  - Nothing that lasts is changed, so it never reports a change.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes
  - llmops.dify_xinference.dify
attributes:
  check_mode:
    support: none
    details: It has to make temporary objects to learn anything, so it is skipped in check mode.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  question:
    description: What to ask.
    type: str
    default: What is the name of the lamp of the lighthouse of Port Amberley?
  document:
    description: Text of the document that holds the answer. A made-up one by default.
    type: str
  max_tokens:
    description: Longest answer, in tokens.
    type: int
    default: 64
  index_timeout:
    description: Seconds until the document must be embedded.
    type: int
    default: 300
"""

EXAMPLES = r"""
- name: Prove that Dify answers with its own documents
  llmops.dify_xinference.dify_rag_check:
    url: http://127.0.0.1
    admin_key_file: /opt/dify/secrets.json
  register: answer
"""

RETURN = r"""
chat:
  description: The chat model's part.
  type: dict
  returned: success
  sample:
    model: chat
    answer: Its lamp is named Old Marigold.
    seconds: 1.2
    sources: [llmops-verify-1.txt]
    tokens: 130
embedding:
  description: The embedding model's part, from upload to indexed.
  type: dict
  returned: success
  sample:
    model: embed
    segments: 2
    seconds: 2.5
rerank:
  description: The retrieval, ordered by the rerank model where there is a default one.
  type: dict
  returned: success
  sample:
    model: rerank
    top_score: 0.97
    top_passage: The lighthouse of Port Amberley ...
    passages: 2
    seconds: 0.3
models:
  description: Default models that were used, by type.
  type: dict
  returned: success
leftovers_removed:
  description: Temporary objects of interrupted runs that were deleted.
  type: int
  returned: success
layer:
  description: Which layer failed (defaults, embedding, rerank, chat).
  type: str
  returned: failure
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify import DifyError, DifyUsageError
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_args import client_of, connection_arguments
from ansible_collections.llmops.dify_xinference.plugins.module_utils._dify_rag import DOCUMENT, QUESTION, RagCheck, RagFailed
from ansible_collections.llmops.dify_xinference.plugins.module_utils._http import ServerUnreachable


def main() -> None:
    arguments = connection_arguments()
    arguments.update(
        {
            "question": {"type": "str", "default": QUESTION},
            "document": {"type": "str"},
            "max_tokens": {"type": "int", "default": 64, "no_log": False},
            "index_timeout": {"type": "int", "default": 300},
        }
    )
    module = AnsibleModule(argument_spec=arguments)
    params = module.params
    check = RagCheck(client_of(module), params["question"], params["document"] or DOCUMENT, params["index_timeout"], params["max_tokens"])
    try:
        result = check.run()
    except RagFailed as error:
        for text in check.warnings:
            module.warn(text)
        module.fail_json(msg=f"Dify could not answer ({error.layer}): {error}", layer=error.layer, **error.partial)
    except (DifyError, DifyUsageError, ServerUnreachable) as error:
        module.fail_json(msg=f"Dify could not answer: {error}", layer="dify")
    for text in check.warnings:
        module.warn(text)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
