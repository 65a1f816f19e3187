"""A tiny random model for conversations, with a chat template of one's choice; needs torch and transformers."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from .chat_templates import SPECIAL, settings

CONTEXT = 4096
SIZE = 1024
# A snapshot of some sources. It never changes, so that a random model writes the same from one commit to the next.
_CORPUS = Path(__file__).with_name("tokenizer_corpus.txt")


@cache
def build_tokenizer() -> Tokenizer:
    """Learn byte pairs from a fixed text, and add every special token of the templates."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train([str(_CORPUS)], trainer)
    return tokenizer


def save_instruct_model(directory: Path, template: str | None, **changes: Any) -> Path:
    """Write a checkpoint whose template is one of ``chat_templates.TEMPLATES``, or none."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    tokenizer.save(str(directory / "tokenizer.json"))
    if template is not None:
        (directory / "tokenizer_config.json").write_text(json.dumps(settings(template) | changes), encoding="utf-8")
    torch.manual_seed(0)
    end = settings(template)["eos_token"] if template is not None else SPECIAL[0]
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        bos_token_id=None,
        eos_token_id=tokenizer.token_to_id(end),
        pad_token_id=0,
        initializer_range=0.3,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory
