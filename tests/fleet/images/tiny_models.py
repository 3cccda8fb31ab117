# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

#!/usr/bin/env python3
"""Make the tiny models that a real Xinference serves on CPU: two chat models, an embedding and a rerank model.

usage: tiny_models.py OUT_DIR

Runs alone, inside the Xinference image's own tree (torch, transformers, tokenizers; no network). The embedding and
rerank models have seeded random weights. The chat models learn a handful of questions by heart, so that an answer is a
readable sentence; they know nothing else. The files load in transformers 4 and 5.
"""

from __future__ import annotations

import json
import os
import pathlib
import random
import sys
import time
import typing as t

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from model_specs import CHAT_TEMPLATE, CONTEXT_LENGTH, EMBEDDING_DIMENSIONS, SEQUENCE_LIMIT

FACTS = [
    ("What is Xinference?", "Xinference serves language, embedding and rerank models on your own GPU hosts over a REST API."),
    ("What does Xinference do?", "Xinference serves language, embedding and rerank models on your own GPU hosts over a REST API."),
    ("What is Dify?", "Dify is a platform to build chat applications on your own documents and your own models."),
    ("What does Dify do?", "Dify is a platform to build chat applications on your own documents and your own models."),
    ("What is Ansible?", "Ansible brings hosts to a described state over SSH, and changes nothing when they are there already."),
    ("What does idempotent mean?", "Idempotent means that a second run changes nothing."),
    ("What is idempotence?", "Idempotence means that a second run changes nothing."),
    ("What is idempotence in Ansible?", "Idempotence means that a second run changes nothing."),
    ("What is Ansible idempotence?", "Idempotence means that a second run changes nothing."),
    ("What is RAG?", "RAG means that passages are found in your documents first, and that the answer is written from them."),
    ("What is an embedding?", "An embedding is a list of numbers that stands for the meaning of a text."),
    ("What is reranking?", "Reranking sorts the passages that were found by how well they answer the question."),
    ("Who are you?", "I am a tiny model made for the tests of this collection."),
    ("Hello", "Hello. I am a tiny model made for the tests of this collection."),
    ("ping", "pong"),
]
UNKNOWN = "I am a tiny test model and I do not know that."
CONTEXT = [
    "Xinference serves embedding, rerank and language models over a REST API.",
    "Ansible is idempotent: a second run changes nothing.",
    "Dify is a platform for applications on language models.",
    "Use the following context as your learned knowledge, inside <context></context> XML tags.",
    "When you answer the user: if you don't know, just say that you don't know.",
    "Answer in the language of the question. You are a helpful assistant.",
    "The quick brown fox jumps over the lazy dog. 0123456789",
    "The capital of France is Paris. The first question was asked on Monday.",
    "A GPU host runs the NVIDIA driver, the container toolkit and Docker.",
]
OTHER_QUESTIONS = [
    "What is the capital of France?",
    "Where is the fox?",
    "How old is the dog?",
    "Which driver does a GPU host run?",
    "When was the first question asked?",
    "Tell me a story.",
    "1 + 1 =",
    "Write a poem about Docker.",
]


def chat_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE: any text has tokens, the known sentences have few."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        min_frequency=1,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    )
    corpus = [text for pair in FACTS for text in pair] * 4 + CONTEXT + OTHER_QUESTIONS + [UNKNOWN, "user assistant system"] * 4
    tokenizer.train_from_iterator(corpus, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=CONTEXT_LENGTH)
    fast.chat_template = CHAT_TEMPLATE
    return fast


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Word pieces, as BERT models take them."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    trainer = trainers.WordPieceTrainer(vocab_size=600, show_progress=False, special_tokens=list(special.values()))
    tokenizer.train_from_iterator([text for pair in FACTS for text in pair] + CONTEXT, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", tokenizer.token_to_id("[SEP]")), ("[CLS]", tokenizer.token_to_id("[CLS]")))
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=SEQUENCE_LIMIT, **special)


def _conversation(chance: random.Random, sentences: int) -> t.Tuple[str, str]:
    """One prompt and its answer: a known or unknown question after up to ``sentences`` sentences of other text."""
    question, answer = chance.choice(FACTS) if chance.random() < 0.8 else (chance.choice(OTHER_QUESTIONS), UNKNOWN)
    if answer != UNKNOWN and chance.random() < 0.2:
        question = chance.choice([question.lower(), question.rstrip("?"), f"{question} Please answer briefly.", f"{question}\n"])
    turns = ""
    if chance.random() < 0.7:
        words = " ".join(chance.choice(CONTEXT) for _ in range(chance.randint(1, sentences))).split(" ")
        begin = chance.randint(0, max(0, len(words) - 3))
        turns += f"<|im_start|>system\n{' '.join(words[begin:])}<|im_end|>\n"
    if chance.random() < 0.15:
        turns += f"<|im_start|>user\n{chance.choice(OTHER_QUESTIONS)}<|im_end|>\n<|im_start|>assistant\n{UNKNOWN}<|im_end|>\n"
    return f"{turns}<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n", f"{answer}<|im_end|>"


def train(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int, seconds: float, steps: int) -> float:
    """Teach the answers; stop after ``steps`` or ``seconds``; return the last loss (nats per token of the answer)."""
    chance = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps, pct_start=0.1)
    deadline = time.monotonic() + seconds
    recent = float("inf")
    model.train()
    for number in range(steps):
        rows = []
        # Retrieved passages make prompts of many hundred tokens; without some as long as that the answers derail on them.
        # They come one at a time, for their cost grows with the square of the length.
        long = number > 150 and number % 4 == 0
        for _ in range(1 if long else 16):
            prompt, reply = _conversation(chance, 60 if long else 5)
            head, tail = tokenizer(prompt)["input_ids"], tokenizer(reply)["input_ids"]
            rows.append((head + tail, [-100] * len(head) + tail))
        width = max(len(tokens) for tokens, _labels in rows)
        tokens = torch.tensor([[tokenizer.pad_token_id] * (width - len(row)) + row for row, _labels in rows])
        labels = torch.tensor([[-100] * (width - len(row)) + row for _tokens, row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row, _labels in rows])
        loss = model(input_ids=tokens, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent = loss.item() if recent == float("inf") else 0.95 * recent + 0.05 * loss.item()
        if number % 100 == 0:
            print(f"step {number}: loss {recent:.3f}", flush=True)
        if time.monotonic() > deadline:
            break
    model.eval()
    return recent


def answer(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, question: str, system: str = "") -> str:
    """Return the greedy answer to ``question``, for a look at what was learnt."""
    turns = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    tokens = tokenizer(f"{turns}<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n", return_tensors="pt")
    out = model.generate(tokens["input_ids"], attention_mask=tokens["attention_mask"], max_new_tokens=60, do_sample=False)
    return tokenizer.decode(out[0][tokens["input_ids"].shape[1] :], skip_special_tokens=True)


def make_chat_model(folder: pathlib.Path, seed: int, seconds: float, steps: int) -> None:
    torch.manual_seed(seed)
    tokenizer = chat_tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT_LENGTH,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        tie_word_embeddings=True,
    )
    model = Qwen2ForCausalLM(config).to(torch.float32)
    loss = train(model, tokenizer, seed, seconds, steps)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    print(f"{folder.name}: loss {loss:.3f}")
    for question in ("What is Xinference?", "What does idempotent mean?", "Where is the fox?"):
        print(f"  {question} -> {answer(model, tokenizer, question, ' '.join(CONTEXT[:2]))}")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _for_every_transformers(folder, CHAT_TEMPLATE)


def make_bert_models(embedding: pathlib.Path, reranker: pathlib.Path) -> None:
    torch.manual_seed(2)
    tokenizer = word_tokenizer()
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": EMBEDDING_DIMENSIONS,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": SEQUENCE_LIMIT,
        "pad_token_id": tokenizer.pad_token_id,
    }
    for folder, model in (
        (reranker, BertForSequenceClassification(BertConfig(num_labels=1, **shape))),
        (embedding, BertModel(BertConfig(**shape))),
    ):
        model.eval().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        _for_every_transformers(folder)
    # what sentence-transformers reads besides: a BERT, then the mean over its tokens
    module = "sentence_transformers.models."
    _write(
        embedding / "modules.json",
        [
            {"idx": 0, "name": "0", "path": "", "type": module + "Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": module + "Pooling"},
        ],
    )
    _write(embedding / "sentence_bert_config.json", {"max_seq_length": SEQUENCE_LIMIT, "do_lower_case": False})
    _write(embedding / "config_sentence_transformers.json", {"prompts": {}, "default_prompt_name": None})
    pooling = {f"pooling_mode_{way}": way == "mean_tokens" for way in ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")}
    _write(embedding / "1_Pooling/config.json", {"word_embedding_dimension": EMBEDDING_DIMENSIONS, **pooling})


def _write(path: pathlib.Path, content: t.Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")


def _for_every_transformers(folder: pathlib.Path, chat_template: str = "") -> None:
    """transformers 5 writes a tokenizer class and a form of BPE merges that transformers 4 cannot read; both read these."""
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if chat_template:
        config["chat_template"] = chat_template
    _write(path, config)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    merges = tokenizer["model"].get("merges") or [""]
    if isinstance(merges[0], list):
        tokenizer["model"]["merges"] = [" ".join(pair) for pair in merges]
        path.write_text(json.dumps(tokenizer, indent=1), encoding="utf-8")


def main(out: str) -> None:
    torch.set_num_threads(1)  # such small products gain nothing from a second core, and lose much on a busy machine
    folder = pathlib.Path(out)
    begun = time.monotonic()
    make_bert_models(folder / "tiny-embedding", folder / "tiny-reranker")
    make_chat_model(folder / "tiny-llm", 0, seconds=120.0, steps=450)
    # The second one is there to be another model, not a better one.
    make_chat_model(folder / "tiny-llm-2", 1, seconds=60.0, steps=220)
    print(f"made in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: tiny_models.py OUT_DIR")
    main(sys.argv[1])
