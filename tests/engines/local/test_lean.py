"""The engine's own forward pass computes what transformers' code does, on random models of known architectures."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from sprint_agents.context import Context
from sprint_agents.engine import Request, Sampling
from sprint_agents.engines.local import LocalEngine
from sprint_agents.engines.local import attention as attention_module
from sprint_agents.engines.local import linear as linear_module
from sprint_agents.engines.local.attention import ForwardBatch, PrefillChunk
from sprint_agents.engines.local.kv_cache import KVCache
from sprint_agents.engines.local.lean import LeanNetwork
from sprint_agents.engines.local.linear import PackedLinear, PairedLinear, PlainLinear, has_packed, make_linear
from sprint_agents.engines.local.loading import load_model
from sprint_agents.engines.local.model import Model
from sprint_agents.engines.local.scheduler import Scheduler
from sprint_agents.engines.local.sequence import TokenSequence
from sprint_agents.engines.local.stock import StockNetwork
from sprint_agents.errors import InvalidCheckpoint
from sprint_agents.testing.contract import complete, request_of

from .conftest import SIZE, VOCABULARY

pytestmark = pytest.mark.local

Save = Callable[..., Path]

LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 128}

KNOWN: dict[str, tuple[type[PreTrainedConfig], dict[str, Any]]] = {
    "llama": (LlamaConfig, {"num_key_value_heads": 4}),
    "grouped": (LlamaConfig, {"num_key_value_heads": 2, "head_dim": 8}),
    "tied": (LlamaConfig, {"num_key_value_heads": 1, "tie_word_embeddings": True}),
    "biases": (LlamaConfig, {"num_key_value_heads": 2, "attention_bias": True, "mlp_bias": True}),
    "linear": (LlamaConfig, {"num_key_value_heads": 2, "rope_parameters": LINEAR}),
    "llama3": (LlamaConfig, {"num_key_value_heads": 2, "rope_parameters": LLAMA3}),
    "mistral": (MistralConfig, {"num_key_value_heads": 2, "sliding_window": 96}),
    "qwen2": (Qwen2Config, {"num_key_value_heads": 2, "tie_word_embeddings": True}),
    "qwen3": (Qwen3Config, {"num_key_value_heads": 2}),
    "qwen3-biases": (Qwen3Config, {"num_key_value_heads": 1, "attention_bias": True, "head_dim": 32}),
}
UNKNOWN: dict[str, tuple[type[PreTrainedConfig], dict[str, Any]]] = {
    "yarn": (LlamaConfig, {"num_key_value_heads": 2, "rope_parameters": YARN}),
    "gelu": (LlamaConfig, {"num_key_value_heads": 2, "hidden_act": "gelu"}),
    "gemma": (GemmaConfig, {"num_key_value_heads": 1}),
    "windows": (
        Qwen2Config,
        {"num_key_value_heads": 2, "use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1},
    ),
}


@pytest.fixture
def save(tmp_path: Path, byte_tokenizer: Tokenizer) -> Save:
    """Write a model in which every weight is random, biases and norms included."""

    def run(config: type[PreTrainedConfig], values: dict[str, Any]) -> Path:
        torch.manual_seed(0)
        module = AutoModelForCausalLM.from_config(config(**(SIZE | values)))
        for name, weight in module.named_parameters():
            scale, mean = (0.1, 1.0) if "norm" in name else (0.3, 0.0)
            torch.nn.init.normal_(weight, mean, scale)
        module.save_pretrained(tmp_path / "model")
        byte_tokenizer.save(str(tmp_path / "model" / "tokenizer.json"))
        return tmp_path / "model"

    return run


def both(directory: Path, dtype: str | None = None) -> tuple[Model, Model]:
    own, stock = (load_model(directory, device="cpu", dtype=dtype, stock=stock) for stock in (False, True))
    assert isinstance(own.network, LeanNetwork)
    assert isinstance(stock.network, StockNetwork)
    return own, stock


def logits(model: Model, ids: list[int], wanted: list[int] | None = None) -> torch.Tensor:
    cache = KVCache(model.geometry, tail_capacity=16)
    batch = ForwardBatch(cache, [], [PrefillChunk(cache.allocate(len(ids)), [], 0, len(ids))])
    batch.advance()
    with torch.inference_mode():
        selection = None if wanted is None else torch.tensor(wanted)
        return model.network(torch.tensor(ids), torch.arange(len(ids)), selection, batch).float()


def branches(model: Model, tokenizer: Tokenizer) -> list[TokenSequence]:
    """Decode branches greedily that share prefixes, some of which are cached, and that join while others decode."""
    scheduler = Scheduler(model, tokenizer, cache_tokens=2000, prefill_chunk=16, max_running=8)

    def submit(ids: list[int], tokens: int) -> TokenSequence:
        request = Request(id="", context=Context(), max_tokens=tokens, sampling=Sampling(temperature=0))
        return scheduler.submit(request, [*ids])

    draw = torch.Generator().manual_seed(1)
    prefix = torch.randint(4, VOCABULARY, (40,), generator=draw).tolist()
    sequences = [submit(prefix, 12)]
    for _ in range(6):
        scheduler.step()
    for branch in range(4):
        sequences += [submit([*prefix[: 10 * (branch + 1)], branch, 5], 20), submit([*prefix, branch], 30)]
        scheduler.step()
    while not scheduler.idle:
        scheduler.step()
    return sequences


def check_greedy(sequences: list[TokenSequence], reference: Model) -> None:
    """Every token is the most likely one to ``reference``, or one of two that rounding alone distinguishes."""
    for sequence in sequences:
        found = logits(reference, sequence.tokens[:-1])[sequence.prompt_tokens - 1 :]
        written = torch.tensor(sequence.tokens[sequence.prompt_tokens :])
        assert len(found) == len(written) > 0
        torch.testing.assert_close(found.gather(1, written[:, None])[:, 0], found.amax(1), atol=2e-3, rtol=0)


@pytest.mark.parametrize("name", KNOWN)
def test_known_architectures_have_equal_logits_and_tokens(name: str, save: Save, byte_tokenizer: Tokenizer) -> None:
    own, stock = both(save(*KNOWN[name]))
    assert (own.geometry, own.vocabulary, own.context_limit) == (stock.geometry, stock.vocabulary, stock.context_limit)
    assert own.end_ids == stock.end_ids
    ids = [*range(20, 80)]
    expected = logits(stock, ids)
    torch.testing.assert_close(logits(own, ids), expected, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(logits(own, ids, [3, 59]), expected[[3, 59]], atol=1e-3, rtol=1e-4)
    check_greedy(branches(own, byte_tokenizer), stock)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["biases", "qwen3"])
def test_half_precision_has_logits_as_close_to_exact_ones_as_stock_code_has(
    name: str, dtype: str, save: Save, byte_tokenizer: Tokenizer
) -> None:
    directory = save(*KNOWN[name])
    own, stock = both(directory, dtype)
    assert own.geometry.dtype == stock.geometry.dtype == getattr(torch, dtype)
    ids = [*range(20, 60)]
    exact = logits(load_model(directory, device="cpu", dtype="float32"), ids)
    own_error, stock_error = ((logits(model, ids) - exact).abs().mean() for model in (own, stock))
    assert own_error < 1.5 * stock_error
    assert branches(own, byte_tokenizer)


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_architectures_run_stock_code(name: str, save: Save, byte_tokenizer: Tokenizer) -> None:
    model = load_model(save(*UNKNOWN[name]), device="cpu", dtype=None)
    assert isinstance(model.network, StockNetwork)
    check_greedy(branches(model, byte_tokenizer), model)


@pytest.mark.parametrize(
    "change",
    [
        {"rope_parameters": {"rope_theta": 1e4, "rope_type": "dynamic", "factor": 2.0}},
        {"rope_parameters": {"rope_theta": 1e4, "rope_type": "default", "partial_rotary_factor": 0.5}},
        {"rope_parameters": None},
        {"rms_norm_eps": None},
        {"dtype": "float64"},
        {"hidden_size": "48 or so"},
        {"max_position_embeddings": 1_000_000},
    ],
)
def test_a_configuration_that_leaves_a_doubt_is_left_to_transformers(change: dict[str, Any], save: Save) -> None:
    from sprint_agents.engines.local.architecture import read_architecture

    path = save(*KNOWN["llama"]) / "config.json"
    assert read_architecture(path.parent) is not None
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert read_architecture(path.parent) is None


def test_configurations_of_older_versions_are_read(save: Save) -> None:
    from sprint_agents.engines.local.architecture import read_architecture

    directory = save(*KNOWN["llama3"])
    path = directory / "config.json"
    before = read_architecture(directory)
    config = json.loads(path.read_text())
    rotary = config.pop("rope_parameters")
    config |= {"rope_theta": rotary.pop("rope_theta"), "torch_dtype": config.pop("dtype")}
    config["rope_scaling"] = {"type": rotary.pop("rope_type"), **rotary}
    path.write_text(json.dumps(config))
    assert before is not None
    assert read_architecture(directory) == before


def test_an_adapter_is_left_to_transformers(save: Save) -> None:
    from sprint_agents.engines.local.architecture import read_architecture

    directory = save(*KNOWN["llama"])
    (directory / "adapter_config.json").write_text("{}")
    assert read_architecture(directory) is None


def test_a_damaged_generation_config_is_named(save: Save) -> None:
    directory = save(*KNOWN["llama"])
    (directory / "generation_config.json").write_text("{")
    with pytest.raises(InvalidCheckpoint, match=r"generation_config.json cannot be read"):
        load_model(directory, device="cpu", dtype=None)


def test_weights_in_several_files_are_read(save: Save) -> None:
    directory = save(*KNOWN["llama"])
    ids = [*range(30, 50)]
    expected = logits(load_model(directory, device="cpu", dtype=None), ids)
    module = AutoModelForCausalLM.from_pretrained(directory)
    (directory / "model.safetensors").unlink()
    module.save_pretrained(directory, max_shard_size="50KB")
    own, _ = both(directory)
    assert logits(own, ids).equal(expected)


@pytest.mark.parametrize("name", ["biases", "qwen3"])
def test_the_operations_of_gpus_compute_the_same(
    name: str, save: Save, byte_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They also serve CPUs whose torch lacks oneDNN."""
    directory = save(*KNOWN[name])
    reference = load_model(directory, device="cpu", dtype=None)
    ids = [*range(20, 60)]
    expected = logits(reference, ids)
    with monkeypatch.context() as patch:
        patch.setattr(linear_module, "has_packed", lambda device, dtype: False)
        patch.setattr(attention_module, "_attend", attention_module.plain_attention)
        plain = load_model(directory, device="cpu", dtype=None)
        torch.testing.assert_close(logits(plain, ids), expected, atol=1e-3, rtol=1e-4)
        sequences = branches(plain, byte_tokenizer)
    check_greedy(sequences, reference)


def test_products_that_are_missing_or_wrong_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    here = torch.device("cpu")
    for method, replacement in (
        ("__call__", lambda self, rows: rows.new_zeros(rows.shape[0], 48)),
        ("plus", lambda self, rows, other: (_ for _ in ()).throw(RuntimeError("not implemented"))),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(PackedLinear, method, replacement)
            has_packed.cache_clear()
            assert not has_packed(here, torch.float32)
    has_packed.cache_clear()
    assert not has_packed(torch.device("meta"), torch.float32)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(("size", "twice"), [(16, False), (300, False), (300, True)])
def test_every_layout_of_weights_has_the_same_products(rows: int, size: int, twice: bool) -> None:
    torch.manual_seed(0)
    weight, bias, given, other = (torch.randn(*shape) for shape in ((size, 240), (size,), (rows, 240), (rows, size)))
    for offset in (None, bias):
        made = make_linear(weight, offset, twice=twice)
        product = torch.nn.functional.linear(given, weight, offset)
        for found, expected in (
            (made(given), product),
            (made.plus(given, other), product + other),
        ):
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    if has_packed(torch.device("cpu"), torch.float32):
        assert type(made) is (PlainLinear if size == 16 else PairedLinear if twice else PackedLinear)


def test_an_engine_of_a_known_architecture_never_imports_transformers(save: Save) -> None:
    directory = save(*KNOWN["qwen3"])
    code = f"""
import asyncio, sys
from sprint_agents import Context
from sprint_agents.engine import Request, Sampling
from sprint_agents.engines import LocalEngine

async def main():
    async with LocalEngine({str(directory)!r}) as engine:
        context = Context().extend(await engine.encode("hello"), "hello")
        async for chunk in engine.complete(Request(id="1", context=context, max_tokens=3, sampling=Sampling())):
            pass

asyncio.run(main())
assert "torch" in sys.modules and "transformers" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_stock_code_can_be_asked_for(save: Save) -> None:
    directory = save(*KNOWN["llama"])

    async def tokens(*, stock: bool) -> list[int]:
        async with LocalEngine(directory, threads=1, stock=stock) as engine:
            context = Context().extend([*range(20, 40)], "")
            return (await complete(engine, request_of(context, max_tokens=20))).ids

    assert asyncio.run(tokens(stock=True)) == asyncio.run(tokens(stock=False))
