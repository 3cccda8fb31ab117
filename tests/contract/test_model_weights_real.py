# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a declaration with ``weights`` to a vector: what the module brings is what a real Xinference 4.1.0 serves from."""

from __future__ import annotations

import json
import os
import pathlib
import typing as t
import urllib.request

import pytest
from ansible_collections.llmops.dify_xinference.plugins.module_utils._weights_declared import weights_of, with_weights

from tests.contract.dify_client_stack import run_module
from tests.contract.xinference_server import environment
from tests.contract.xinference_server.server import Server

pytestmark = [
    pytest.mark.real_xinference,
    pytest.mark.skipif(os.environ.get("XINFERENCE_TEST_THOROUGH") != "1", reason="XINFERENCE_TEST_THOROUGH=1 (make test-all) runs this"),
]


@pytest.fixture()
def server(tmp_path: pathlib.Path) -> t.Iterator[Server]:
    running = Server(environment.ensure(), tmp_path / "home", auth=False)
    running.start()
    yield running
    running.stop()


def test_a_model_is_served_from_the_weights_that_were_brought(server: Server, tmp_path: pathlib.Path) -> None:
    # A repository that no hub has: without its model_path this model could not be launched.
    spec = {"model_format": "pytorch", "model_hub": "huggingface", "model_id": "acme/tiny-embedding", "model_revision": None, "quantization": "none"}
    register = {"version": 2, "model_name": "brought", "dimensions": 32, "max_tokens": 128, "language": ["en"], "model_specs": [spec]}
    brought = {"uid": "embed", "type": "embedding", "register": register, "weights": {"source": "local", "src": str(server.tiny / "tiny-embedding")}}
    lost = {"uid": "lost", "type": "embedding", "register": register, "weights": {"source": "local", "src": "/nowhere/at/all"}}
    declared = [brought, lost]
    weights = tmp_path / "weights"

    def converge() -> tuple[dict[str, t.Any], dict[str, t.Any]]:
        found = run_module("model_weights", False, path=str(weights), models=weights_of(declared), reserve_gib=0).result
        models = with_weights(declared, str(weights), found["models"])
        state = str(tmp_path / "launched.json")
        launched = run_module("xinference_models", False, url=server.url, state_file=state, models=models, wait_timeout=180).result
        return found, launched

    found, launched = converge()
    assert [row["failed"] for row in found["models"]] == [False, True]
    rows = {row["uid"]: row for row in launched["models"]}
    assert (rows["embed"]["state"], rows["embed"]["action"]) == ("ready", "launch"), rows
    assert (rows["lost"]["action"], rows["lost"]["failed"]) == ("refuse", True)
    assert "/nowhere/at/all" in rows["lost"]["reason"]

    question = urllib.request.Request(
        server.url + "/v1/embeddings", json.dumps({"model": "embed", "input": "hello"}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(question, timeout=60) as answer:
        assert len(json.load(answer)["data"][0]["embedding"]) == 32

    found, launched = converge()
    assert (found["changed"], launched["changed"]) == (False, False)
