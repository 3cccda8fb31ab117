# Copyright (c) 2026, The llmops.dify_xinference contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa
# mypy: ignore-errors

"""Build tiny, randomly initialised models that a real Xinference can launch on CPU.

usage: make_tiny_models.py OUT_DIR
writes OUT_DIR/tiny-llm        (2-layer Qwen2ForCausalLM, ~0.3 MB)
       OUT_DIR/tiny-llm-2      (same, other seed; for "the model changed" tests)
       OUT_DIR/tiny-reranker   (2-layer BertForSequenceClassification, 1 label)
       OUT_DIR/tiny-embedding  (2-layer BERT + mean pooling, sentence-transformers layout)
No network is used.  Needs: torch, transformers, tokenizers (sentence-transformers is not needed).
"""
import json
import os
import sys

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (BertConfig, BertForSequenceClassification, BertModel,
                          PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM)

CORPUS = [
    "Xinference serves embedding, rerank and language models over a REST API.",
    "Ansible is idempotent: a second run changes nothing.",
    "The quick brown fox jumps over the lazy dog. 0123456789",
    "hello world, what is the capital of France? Paris is the capital of France.",
    "user assistant system <|im_start|> <|im_end|> yes no",
] * 4

CHATML = ("{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
          "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


def byte_bpe():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tr = trainers.BpeTrainer(vocab_size=600, show_progress=False,
                             initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                             special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tok.train_from_iterator(CORPUS, tr)
    fast = PreTrainedTokenizerFast(tokenizer_object=tok, eos_token="<|im_end|>", pad_token="<|endoftext|>",
                                   bos_token=None, unk_token=None, model_max_length=2048)
    fast.chat_template = CHATML
    return fast


def wordpiece():
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=True)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tr = trainers.WordPieceTrainer(vocab_size=400, show_progress=False,
                                   special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tok.train_from_iterator(CORPUS, tr)
    cls, sep = tok.token_to_id("[CLS]"), tok.token_to_id("[SEP]")
    tok.post_processor = processors.BertProcessing(("[SEP]", sep), ("[CLS]", cls))
    tok.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=tok, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
                                   sep_token="[SEP]", mask_token="[MASK]", model_max_length=512)


def dump(path, obj):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        json.dump(obj, f, indent=1)


def portable(d, chat_template=None):
    """transformers 5 writes tokenizer_class=TokenizersBackend, which transformers 4 cannot load; both load this one."""
    p = os.path.join(d, "tokenizer_config.json")
    with open(p) as f:
        cfg = json.load(f)
    cfg["tokenizer_class"] = "PreTrainedTokenizerFast"
    if chat_template:
        cfg["chat_template"] = chat_template
    dump(p, cfg)
    p = os.path.join(d, "tokenizer.json")
    with open(p) as f:
        tok = json.load(f)
    merges = tok["model"].get("merges")
    if merges and isinstance(merges[0], list):  # tokenizers >= 0.20 writes pairs, older ones read "a b" strings only
        tok["model"]["merges"] = [" ".join(m) for m in merges]
        dump(p, tok)


def main(out):
    for name, seed in (("tiny-llm", 0), ("tiny-llm-2", 1)):
        torch.manual_seed(seed)
        tok = byte_bpe()
        cfg = Qwen2Config(vocab_size=len(tok), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                          num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048,
                          eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id, bos_token_id=None,
                          tie_word_embeddings=True)
        m = Qwen2ForCausalLM(cfg).to(torch.float32).eval()
        m.generation_config.eos_token_id = tok.eos_token_id
        m.generation_config.pad_token_id = tok.pad_token_id
        m.save_pretrained(os.path.join(out, name))
        tok.save_pretrained(os.path.join(out, name))
        portable(os.path.join(out, name), CHATML)

    torch.manual_seed(2)
    tok = wordpiece()
    base = dict(vocab_size=len(tok), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
                max_position_embeddings=512, pad_token_id=tok.pad_token_id)
    d = os.path.join(out, "tiny-reranker")
    BertForSequenceClassification(BertConfig(num_labels=1, **base)).eval().save_pretrained(d)
    tok.save_pretrained(d)
    portable(d)

    d = os.path.join(out, "tiny-embedding")
    BertModel(BertConfig(**base)).eval().save_pretrained(d)
    tok.save_pretrained(d)
    portable(d)
    dump(os.path.join(d, "modules.json"), [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}])
    dump(os.path.join(d, "sentence_bert_config.json"), {"max_seq_length": 128, "do_lower_case": False})
    dump(os.path.join(d, "config_sentence_transformers.json"), {"prompts": {}, "default_prompt_name": None})
    dump(os.path.join(d, "1_Pooling", "config.json"),
         {"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True,
          "pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False})
    for r, _, fs in os.walk(out):
        for f in fs:
            p = os.path.join(r, f)
            print("%9d %s" % (os.path.getsize(p), os.path.relpath(p, out)))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "tiny-models")
