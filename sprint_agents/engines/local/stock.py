"""Transformers' own model code over the radix tree, for every architecture that ``lean`` does not compute.

The stock code reaches a ``ForwardBatch`` through a ``Cache`` and through transformers' ``AttentionInterface``. Only
``loading`` imports this module, and only when it must: importing transformers and its model code takes seconds.
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AttentionInterface, AutoModelForCausalLM
from transformers.cache_utils import Cache
from transformers.utils import logging as transformers_logging

from sprint_agents.errors import InvalidCheckpoint

from .attention import ForwardBatch
from .kv_cache import Geometry
from .model import Model

NAME = "sprint_shared_prefix"
"""The name under which the attention is registered with transformers."""


class StockNetwork:
    """A causal language model of transformers."""

    __slots__ = ("_cache_parameter", "module")

    def __init__(self, module: Any) -> None:
        self.module = module
        # What the module calls its cache: `cache`, or `past_key_values` in older versions of transformers.
        self._cache_parameter = "cache" if "cache" in signature(module.forward).parameters else "past_key_values"

    def __call__(self, ids: Tensor, positions: Tensor, wanted: Tensor | None, batch: ForwardBatch) -> Tensor:
        """Compute the logits, ``[wanted, vocabulary]``, of the ``wanted`` queries, or of all if None."""
        output = self.module(
            input_ids=ids[None],
            position_ids=positions[None],
            use_cache=True,
            logits_to_keep=0 if wanted is None else wanted,
            batch=batch,
            **{self._cache_parameter: BatchCache(batch)},
        )
        return output.logits[0]


class BatchCache(Cache):
    """The cache that the stock model writes to: it passes everything to a ``ForwardBatch``."""

    def __init__(self, batch: ForwardBatch) -> None:
        super().__init__(layers=[])
        self.batch = batch

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Store the keys and values; the attention function finds them through its ``batch``."""
        self.batch.write(layer_idx, torch.cat([key_states, value_states]).permute(2, 0, 1, 3))
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return 0: sequences differ in length, and the positions are always passed."""
        return 0


def shared_prefix_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    batch: ForwardBatch,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend over the tree. The signature is that of transformers' attention functions, plus ``batch``."""
    if softcap is not None or s_aux is not None:
        raise NotImplementedError("soft-capped attention and attention sinks are not supported")
    layer: Any = module.layer_idx
    by_group = query.view(key.shape[1], -1, *query.shape[2:]).permute(2, 1, 0, 3)
    found = batch.attend(layer, by_group, scale=scaling)
    return found.transpose(1, 2).flatten(1, 2)[None], None


AttentionInterface.register(NAME, shared_prefix_attention)  # pyright: ignore[reportUnknownMemberType]


def open_stock(directory: Path, *, device: torch.device, dtype: "torch.dtype | str | None") -> Model:
    """Load the weights in ``directory`` into transformers' module.

    Raises:
        InvalidCheckpoint: the weights are missing or damaged, or the model is no decoder with ordinary attention.
    """
    load = cast(
        "Callable[..., tuple[Any, dict[str, set[str]]]]",
        AutoModelForCausalLM.from_pretrained,  # pyright: ignore[reportUnknownMemberType]
    )
    try:
        with _no_progress_bar():
            module, report = load(
                directory,
                dtype=dtype or "auto",
                attn_implementation=NAME,
                local_files_only=True,
                output_loading_info=True,
            )
        module = module.to(device).eval()
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
    return _describe(directory, module, device)


def _describe(directory: Path, module: Any, device: torch.device) -> Model:
    config = module.config.get_text_config()
    kinds: set[str] = set(getattr(config, "layer_types", None) or ())
    if module.config.is_encoder_decoder or kinds - {"full_attention", "sliding_attention"}:
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
        dtype=module.dtype,
        device=device,
    )
    return Model(
        network=StockNetwork(module),
        parameters=sum(weight.numel() for weight in module.parameters()),
        geometry=geometry,
        vocabulary=config.vocab_size,
        context_limit=min(limits),
        end_ids=_end_ids(module),
    )


def _end_ids(module: Any) -> frozenset[int]:
    ids: set[int] = set()
    for config in (module.generation_config, module.config.get_text_config()):
        end: int | Iterable[int] | None = getattr(config, "eos_token_id", None)
        ids.update([end] if isinstance(end, int) else end or [])
    return frozenset(ids)


@contextmanager
def _no_progress_bar() -> Generator[None]:
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
