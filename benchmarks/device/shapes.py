"""Models with random weights: their speed is that of trained models of the same shape."""

from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from sprint_finetune.nano.tokenizer import build_tokenizer

HALF_BILLION = {
    "vocab_size": 151_936,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32_768,
}
"""Qwen2.5-0.5B's shape."""

TINY = {
    "vocab_size": 2000,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
}
"""A shape for dry runs."""


def write_random(folder: Path, shape: dict[str, int], *, dtype: torch.dtype) -> Path:
    """Write a checkpoint of a shape with random weights and sprint-nano's tokenizer, if it is not there already."""
    if not (folder / "model.safetensors").exists():
        torch.manual_seed(0)
        config = Qwen2Config(**shape, tie_word_embeddings=True, dtype=dtype)  # pyright: ignore[reportArgumentType]
        model = Qwen2ForCausalLM(config).to(dtype)  # pyright: ignore[reportArgumentType]
        build_tokenizer().save_pretrained(folder)
        model.save_pretrained(folder)
    return folder
