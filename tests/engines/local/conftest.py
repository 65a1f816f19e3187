"""Tiny random models of four architectures, with a byte tokenizer, written once per test run."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from sprint_agents.engines.local import LocalEngine

VOCABULARY = 260
CONTEXT = 512
SIZE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "head_dim": 16,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 1,
    "initializer_range": 0.3,  # far from uniform: greedy choices are no near ties
}


def build_models() -> dict[str, PreTrainedModel]:
    torch.manual_seed(0)
    return {
        "llama": LlamaForCausalLM(LlamaConfig(**SIZE, num_key_value_heads=4)),
        "qwen2": Qwen2ForCausalLM(Qwen2Config(**SIZE, num_key_value_heads=2)),
        "qwen3": Qwen3ForCausalLM(Qwen3Config(**SIZE, num_key_value_heads=1)),
        "mistral": MistralForCausalLM(MistralConfig(**SIZE, num_key_value_heads=2, sliding_window=None)),
        "window": MistralForCausalLM(MistralConfig(**SIZE, num_key_value_heads=2, sliding_window=96)),
    }


def build_bytes() -> Tokenizer:
    """One token per byte, and four special ones, of which ``</stop_`` is longer than a character."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|end|>", "<|pad|>", "</stop_", "<go>"]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate([*special, *alphabet])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


@pytest.fixture(scope="session")
def byte_tokenizer() -> Tokenizer:
    return build_bytes()


@pytest.fixture(scope="session")
def references() -> dict[str, PreTrainedModel]:
    """The same models, for stock ``generate``."""
    return {name: model.eval() for name, model in build_models().items()}


@pytest.fixture(scope="session")
def checkpoints(
    tmp_path_factory: pytest.TempPathFactory, references: dict[str, PreTrainedModel], byte_tokenizer: Tokenizer
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    for name, model in references.items():
        model.save_pretrained(folder / name)
        byte_tokenizer.save(str(folder / name / "tokenizer.json"))
    return {name: folder / name for name in references}


@pytest.fixture(scope="session")
def checkpoint(checkpoints: dict[str, Path]) -> Path:
    return checkpoints["qwen2"]  # has grouped queries


@pytest.fixture
def make_engine(checkpoint: Path) -> Callable[..., LocalEngine]:
    def make(directory: Path = checkpoint, **options: int) -> LocalEngine:
        return LocalEngine(directory, threads=1, **options)

    return make


@pytest.fixture(scope="session")
def generate(references: dict[str, PreTrainedModel]) -> Callable[..., list[int]]:
    """Greedy tokens of transformers' own ``generate``."""

    def run(ids: list[int], tokens: int, *, model: str = "qwen2") -> list[int]:
        output = references[model].generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=tokens,
            do_sample=False,
        )
        return output[0, len(ids) :].tolist()

    return run
