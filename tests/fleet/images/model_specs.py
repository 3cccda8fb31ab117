# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Registrations of the tiny models as custom models of Xinference 4.1.0, and how to launch them.

The formats ("version": 2 with a list of model_specs, model_uri as the place of the files) were accepted by a real
4.1.0 server. Pure data: no import but typing, so that playbooks' tests and the fleet can both use it.
"""

from __future__ import annotations

import typing as t

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTEXT_LENGTH = 2048  # tokens the tiny chat models take
EMBEDDING_DIMENSIONS = 32
SEQUENCE_LIMIT = 512  # tokens of the embedding and rerank models

# folder of the model -> (Xinference's model type, engine)
MODELS: t.Dict[str, t.Tuple[str, str]] = {
    "tiny-llm": ("LLM", "transformers"),
    "tiny-llm-2": ("LLM", "transformers"),
    "tiny-embedding": ("embedding", "sentence_transformers"),
    "tiny-reranker": ("rerank", "sentence_transformers"),
}


def _files(base: str, name: str, **further: t.Any) -> t.List[t.Dict[str, t.Any]]:
    return [
        {
            "model_format": "pytorch",
            "model_hub": "huggingface",
            "model_id": None,
            "model_revision": None,
            "model_uri": f"file://{base.rstrip('/')}/{name}",
            "quantization": "none",
            **further,
        }
    ]


def registration(name: str, base: str = "/models") -> t.Dict[str, t.Any]:
    """Return the registration of the tiny model ``name``.

    ``base`` is the absolute folder of the models as the server sees it (inside its container).
    Raises KeyError for a name that is not in :data:`MODELS`.
    """
    kind = MODELS[name][0]
    if kind == "LLM":
        return {
            "version": 2,
            "model_name": name,
            "model_description": "Two layers, trained on a few sentences: for tests only.",
            "model_family": name,
            "model_lang": ["en"],
            "model_ability": ["generate", "chat"],
            "context_length": CONTEXT_LENGTH,
            "model_specs": _files(base, name, model_size_in_billions="0_1"),
            "chat_template": CHAT_TEMPLATE,
            "stop_token_ids": [2],
            "stop": ["<|im_end|>"],
            "architectures": ["Qwen2ForCausalLM"],
        }
    common: t.Dict[str, t.Any] = {"version": 2, "model_name": name, "language": ["en"], "max_tokens": SEQUENCE_LIMIT}
    if kind == "embedding":
        return {**common, "dimensions": EMBEDDING_DIMENSIONS, "model_specs": _files(base, name)}
    return {**common, "type": "normal", "model_specs": _files(base, name)}


def registrations(base: str = "/models") -> t.Dict[str, t.Dict[str, t.Any]]:
    """Return the registration of every tiny model, by name; see :func:`registration`."""
    return {name: registration(name, base) for name in MODELS}


def launch(name: str, uid: t.Optional[str] = None) -> t.Dict[str, t.Any]:
    """Return the body of POST /v1/models that launches the registered tiny model ``name`` on CPU; KeyError as above."""
    kind, engine = MODELS[name]
    body: t.Dict[str, t.Any] = {"model_uid": uid or name, "model_name": name, "model_type": kind, "model_engine": engine, "n_gpu": None}
    if kind == "LLM":
        body.update(model_format="pytorch", model_size_in_billions="0_1", quantization="none")
    return body
