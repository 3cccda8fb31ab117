# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.llmops.dify_xinference.plugins.filter import place_models as plugin

GPU = {"index": 0, "bus_id": "0000:01:00.0", "name": "NVIDIA L4", "memory_total_mib": 23034, "memory_used_mib": 0, "faults": []}
EMBED = {"uid": "embed", "type": "embedding", "name": "bge-m3"}


def test_what_the_host_remembers_is_read_in_every_form() -> None:
    launch = {"model_uid": "embed", "gpu_idx": [1]}
    content = {"version": 1, "models": {"embed": {"launch": launch, "launched_at": "2026-01-01T00:00:00Z"}}}
    assert plugin.remembered(json.dumps(content)) == plugin.remembered(content) == plugin.remembered({"embed": launch}) == {"embed": launch}
    assert plugin.remembered("") == plugin.remembered("{damaged") == plugin.remembered(None) == plugin.remembered("[]") == {}


def test_one_line_per_model_and_gpu() -> None:
    found = plugin.place_models([EMBED, {"uid": "big", "name": "qwen2.5-instruct", "engine": "vllm", "size": 72}], [GPU])
    assert [line.split(":")[0] for line in found["table"]] == ["embed (embedding)", "big (LLM)", "GPU 0 NVIDIA L4"]
    assert "embed 3.8" in found["table"][2]
    assert found["refused"] == ["big"]


def test_a_cluster() -> None:
    found = plugin.place_models([EMBED], {"192.0.2.1:9999": {"gpus": []}, "192.0.2.2:9999": {"gpus": [GPU], "visible": "all"}})
    assert found["models"] == [dict(EMBED, gpus=[0], worker_ip="192.0.2.2:9999")]


def test_bad_input_is_named() -> None:
    with pytest.raises(AnsibleFilterError, match="mode is 'some'"):
        plugin.place_models([EMBED], [GPU], mode="some")
    with pytest.raises(AnsibleFilterError, match="list of dictionaries"):
        plugin.place_models(["embed"], [GPU])  # type: ignore[list-item]
