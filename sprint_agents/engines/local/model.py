"""A Hugging Face causal language model whose attention reads the radix tree. Imports torch and transformers."""

import os
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from sprint_agents.errors import ConfigurationError, InvalidCheckpoint

from .attention import NAME, BatchCache, ForwardBatch, PrefillChunk
from .kv_cache import Geometry, KVCache

_MIN_CACHE_TOKENS, _MAX_CACHE_TOKENS = 1024, 65_536


@dataclass(frozen=True, slots=True)
class Model:
    """Loaded weights and their dimensions."""

    network: Any
    geometry: Geometry
    vocabulary: int
    context_limit: int
    """The longest context that the engine computes exactly, in tokens."""
    end_ids: frozenset[int]
    cache_parameter: str
    """What the network calls its cache: ``cache``, or ``past_key_values`` in older versions of transformers."""

    def forward(self, ids: Tensor, positions: Tensor, wanted: Tensor | None, batch: ForwardBatch) -> Tensor:
        """Compute the logits, ``[wanted, vocabulary]``, of the ``wanted`` queries, or of all if None."""
        output = self.network(
            input_ids=ids,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=0 if wanted is None else wanted,
            batch=batch,
            **{self.cache_parameter: BatchCache(batch)},
        )
        return output.logits[0]

    def default_cache_tokens(self) -> int:
        """Count the tokens whose keys and values fit into a quarter of the free memory: 1,024 to 65,536."""
        device = self.geometry.device
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _free_memory()
        return max(_MIN_CACHE_TOKENS, min(_MAX_CACHE_TOKENS, free // 4 // self.geometry.bytes_per_token))


def load_model(directory: Path, *, device: str | None, dtype: "torch.dtype | str | None") -> Model:
    """Load the weights in ``directory``, and compute two tokens as a test.

    Raises:
        ConfigurationError: the device or dtype does not exist.
        InvalidCheckpoint: the weights are missing or damaged, or this engine cannot run their architecture.

    """
    placed_on = _device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if isinstance(dtype, str) and not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise ConfigurationError(f"torch has no dtype {dtype!r}: use float32, bfloat16 or float16")
    load = cast(
        "Callable[..., tuple[Any, dict[str, set[str]]]]",
        AutoModelForCausalLM.from_pretrained,  # pyright: ignore[reportUnknownMemberType]
    )
    try:
        with _no_progress_bar():
            network, report = load(
                directory,
                dtype=dtype or "auto",
                attn_implementation=NAME,
                local_files_only=True,
                output_loading_info=True,
            )
        network = network.to(placed_on).eval()
    except Exception as error:  # damaged files raise errors of many types
        raise InvalidCheckpoint(
            f"{directory} cannot be loaded: {type(error).__name__}: {error}. "
            "Copy config.json and the *.safetensors files again from their source"
        ) from error
    if missing := sorted(report["missing_keys"]):
        raise InvalidCheckpoint(
            f"{directory} lacks {len(missing)} of the model's weights, such as {missing[0]}: "
            "copy the *.safetensors files again from their source"
        )
    model = _describe(directory, network, placed_on)
    _try_out(directory, model)
    return model


def _device(device: str) -> torch.device:
    try:
        return torch.empty(1, device=device).device
    except (RuntimeError, AssertionError) as error:  # the latter from a torch without CUDA
        raise ConfigurationError(f"device {device!r} cannot be used: {error}") from error


def _describe(directory: Path, network: Any, device: torch.device) -> Model:
    config = network.config.get_text_config()
    kinds: set[str] = set(getattr(config, "layer_types", None) or ())
    if network.config.is_encoder_decoder or kinds - {"full_attention", "sliding_attention"}:
        raise InvalidCheckpoint(
            f"{directory} is a {config.model_type} model with layers {sorted(kinds)}: this engine runs decoders "
            "whose layers are ordinary attention, such as Llama, Mistral, Qwen2 and Qwen3"
        )
    heads = config.num_attention_heads
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    limits = [config.max_position_embeddings]
    # Sliding attention equals full attention, which is all that we compute, up to the length of its window.
    if getattr(config, "sliding_window", None) and (not kinds or "sliding_attention" in kinds):
        limits.append(config.sliding_window)
    geometry = Geometry(
        layers=config.num_hidden_layers,
        heads=key_heads,
        group=heads // key_heads,
        width=getattr(config, "head_dim", None) or config.hidden_size // heads,
        dtype=network.dtype,
        device=device,
    )
    known = signature(network.forward).parameters
    cache_parameter = "cache" if "cache" in known else "past_key_values"
    return Model(network, geometry, config.vocab_size, min(limits), _end_ids(network), cache_parameter)


def _end_ids(network: Any) -> frozenset[int]:
    ids: set[int] = set()
    for config in (network.generation_config, network.config.get_text_config()):
        end: int | Iterable[int] | None = getattr(config, "eos_token_id", None)
        ids.update([end] if isinstance(end, int) else end or [])
    return frozenset(ids)


def _try_out(directory: Path, model: Model) -> None:
    """Compute two tokens, so that a broken model fails now and not in its first request."""
    cache = KVCache(model.geometry, tail_capacity=2)
    batch = ForwardBatch(cache, [], [PrefillChunk(cache.allocate(2), [], 0, 2)])
    batch.advance()
    device = model.geometry.device
    try:
        with torch.inference_mode():
            logits = model.forward(
                torch.tensor([[0, 0]], device=device), torch.tensor([[0, 1]], device=device), None, batch
            )
    except Exception as error:
        raise InvalidCheckpoint(
            f"{directory} is a {model.network.config.model_type} model, which this engine cannot run: "
            f"{type(error).__name__}: {error}. Llama, Mistral, Qwen2 and Qwen3 are known to work"
        ) from error
    if logits.isnan().any():
        raise InvalidCheckpoint(f"{directory} computes NaN: its weights are damaged, copy them again")


def _free_memory() -> int:
    """Count the bytes of free main memory; a quarter of all where the system does not report them (macOS)."""
    if "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4


@contextmanager
def _no_progress_bar() -> Generator[None]:
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
