#!/usr/bin/python
# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_weights
short_description: Bring models' weights to a host, resumed and verified
version_added: 0.1.0
author:
  - The llmops.dify_xinference contributors (@llmops)
description:
  - Takes the whole list of models, and gives each a folder of its own below O(path) with exactly the files that its source lists,
    from Hugging Face, ModelScope, a plain HTTP folder or archive, or a folder on the host.
  - A download that breaks off goes on where it was, in this run or the next, after a cut connection, a killed module or a reboot.
    A file gets its name when its size and its checksum are right.
  - What has to come is checked against the free disk space before the first byte. A model that cannot come gets its verdict, the
    others go on, and the module fails at the end with all that failed.
  - Beside the files lies C(.weights.json) with what was verified. With it the next run asks one question per repository, and none
    where O(models[].revision) is a commit, or the files are listed with their checksums.
  - When a source cannot be asked, and what it listed in an earlier run is all here, that is kept with a warning.
  - Network errors and the answers 429 and 5xx are tried again, for as long as the server asks; 401, 403 and 404 are not.
  - Proxies are taken from the environment (C(http_proxy), C(https_proxy), C(no_proxy)). Tokens are sent to their hub only, never to
    the host that a hub sends a download on to.
extends_documentation_fragment:
  - llmops.dify_xinference.attributes
  - llmops.dify_xinference.weights
attributes:
  check_mode:
    support: full
    details: The sources are asked what they have; the answer says which files and how many bytes would come.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  models:
    description: The models whose weights are wanted.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the folder below O(path).
        type: str
        required: true
      source:
        description: Where the weights come from.
        type: str
        choices: [huggingface, modelscope, http, local]
        default: huggingface
      repo:
        description: The repository, as V(Qwen/Qwen2.5-7B-Instruct-AWQ). For V(huggingface) and V(modelscope).
        type: str
      revision:
        description:
          - Branch, tag or commit. Only a commit makes sure that every host gets the same, and needs no question later.
          - The default is C(main) on Hugging Face and C(master) on ModelScope.
        type: str
      allow:
        description: Patterns of the files that come, as V(*.safetensors). Without any, all come. C(*) matches slashes too.
        type: list
        elements: str
        default: []
      ignore:
        description: Patterns of files that stay away, as V(onnx/*) or V(*.bin) where there are safetensors too.
        type: list
        elements: str
        default: []
      url:
        description: Address of a folder, or of an archive (C(.tar), C(.tar.gz), C(.tgz), C(.tar.bz2), C(.tar.xz), C(.zip)). For V(http).
        type: str
      checksums:
        description:
          - Name of a file in the folder O(models[].url) with lines as C(sha256sum) writes them. It says which files there are.
        type: str
        default: SHA256SUMS
      files:
        description: The files of the folder O(models[].url), in place of O(models[].checksums).
        type: list
        elements: dict
        suboptions:
          path: {description: Path below the folder., type: str, required: true}
          sha256: {description: Its checksum., type: str, required: true}
          size: {description: Its size in bytes., type: int}
      sha256:
        description: Checksum of the archive O(models[].url).
        type: str
      src:
        description: A folder on the host, as one that is mounted. For V(local). What changes in size or time of change comes again.
        type: path
  path:
    description: Folder on the host for all models.
    type: path
    default: /opt/xinference/weights
  reserve_gib:
    description: Free space that has to be left on the disk, in GiB.
    type: float
    default: 1
  checksum:
    description: Whether files that were verified in an earlier run are read again in full, also when nothing about them changed.
    type: bool
    default: false
seealso:
  - module: llmops.dify_xinference.xinference_models
"""

EXAMPLES = r"""
- name: Bring the weights of two models from ModelScope
  llmops.dify_xinference.model_weights:
    path: /opt/xinference/weights
    models:
      - {name: chat, source: modelscope, repo: Qwen/Qwen2.5-7B-Instruct-AWQ}
      - {name: embed, source: modelscope, repo: Xorbits/bge-m3}

- name: Bring one pinned revision from a mirror of Hugging Face, without the files that nobody needs
  llmops.dify_xinference.model_weights:
    huggingface_endpoint: https://hf-mirror.com
    models:
      - name: embed
        repo: BAAI/bge-m3
        revision: 5617a9f61b028005a4858fdac845db406aefb181
        ignore: [onnx/*, "*.jpg", imgs/*]

- name: Bring what a server in the own network has, checked against its list
  llmops.dify_xinference.model_weights:
    models:
      - {name: chat, source: http, url: "https://files.example.com/models/chat"}
"""

RETURN = r"""
models:
  description: One result per model, in the order of the declaration.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Its name., type: str, returned: always, sample: chat}
    path: {description: Its folder on the host., type: str, returned: always, sample: /opt/xinference/weights/chat}
    source: {description: Where it comes from., type: str, returned: always, sample: modelscope}
    repo: {description: "The repository, if it has one.", type: str, returned: always, sample: Qwen/Qwen2.5-7B-Instruct-AWQ}
    revision: {description: The revision that was asked for., type: str, returned: always, sample: master}
    commit: {description: "The commit that this was, if the source says so.", type: str, returned: always, sample: 5617a9f61b028005a4858fdac845db406aefb181}
    action: {description: "V(keep), V(fetch) or V(refuse).", type: str, returned: always, sample: fetch}
    changed: {description: Whether anything was changed for it., type: bool, returned: always, sample: true}
    failed: {description: Whether it is not as declared., type: bool, returned: always, sample: false}
    reason: {description: "Why the action, or what went wrong and what to do.", type: str, returned: always, sample: all of it is here and verified}
    files: {description: Number of its files., type: int, returned: always, sample: 12}
    bytes: {description: Their bytes in all., type: int, returned: always, sample: 5571000000}
    missing: {description: Files that had to come., type: list, elements: str, returned: always, sample: [model-00002-of-00002.safetensors]}
    missing_bytes: {description: "Bytes that had to come, without those that lay here already.", type: int, returned: always, sample: 1594000000}
    fetched_bytes: {description: Bytes that came., type: int, returned: always, sample: 1594000000}
    resumed_bytes: {description: Bytes of broken downloads that were used., type: int, returned: always, sample: 400000000}
    seconds: {description: Seconds until its last file was here., type: float, returned: always, sample: 131.5}
requests:
  description: Number of HTTP requests that were sent, redirects included.
  returned: always
  type: int
  sample: 3
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_args import hub_spec, web_of
from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_run import (
    Model,
    check_room,
    difference_of,
    fetch_all,
    look_at,
    only_one,
)
from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_sources import source_of

FILE = {"path": {"type": "str", "required": True}, "sha256": {"type": "str", "required": True}, "size": {"type": "int"}}
MODEL = {
    "name": {"type": "str", "required": True},
    "source": {"type": "str", "choices": ["huggingface", "modelscope", "http", "local"], "default": "huggingface"},
    "repo": {"type": "str"},
    "revision": {"type": "str"},
    "allow": {"type": "list", "elements": "str", "default": []},
    "ignore": {"type": "list", "elements": "str", "default": []},
    "url": {"type": "str"},
    "checksums": {"type": "str", "default": "SHA256SUMS"},
    "files": {"type": "list", "elements": "dict", "options": FILE},
    "sha256": {"type": "str"},
    "src": {"type": "path"},
}


def models_of(params: dict[str, t.Any]) -> list[Model]:
    """The declared models; one that is declared wrongly already has its verdict."""
    result: list[Model] = []
    for declared in params["models"]:
        source, problem = source_of(declared, params)
        model = Model(declared["name"], source, params["path"], params["checksum"])
        if any(other.name == model.name for other in result):
            problem = f"the name {model.name!r} is declared twice"
        if problem:
            model.refuse(problem)
        result.append(model)
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **hub_spec(),
            "models": {"type": "list", "elements": "dict", "required": True, "options": MODEL},
            "path": {"type": "path", "default": "/opt/xinference/weights"},
            "reserve_gib": {"type": "float", "default": 1},
            "checksum": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    web = web_of(params)
    models = models_of(params)

    def plan() -> None:
        look_at([model for model in models if not model.failed], web, params["concurrency"])
        check_room(models, params["path"], params["reserve_gib"])

    try:
        if module.check_mode:
            plan()
            difference = difference_of(models)
        else:
            with only_one(params["path"]):
                plan()
                difference = difference_of(models)
                fetch_all(models, web, params["concurrency"])
    except OSError as problem:
        module.fail_json(msg=f"{params['path']}: {problem}", models=[model.row() for model in models], requests=len(web.requests))
    for model in models:
        if model.warning:
            module.warn(model.warning)
    rows = [model.row() for model in models]
    result = {"changed": any(row["changed"] for row in rows), "models": rows, "requests": len(web.requests), "diff": difference.diff()}
    failed = [row for row in rows if row["failed"]]
    if failed:
        module.fail_json(msg=f"{len(failed)} of {len(rows)} models failed: " + "; ".join(f"{row['name']}: {row['reason']}" for row in failed), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
