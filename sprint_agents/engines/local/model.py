"""A Hugging Face causal language model whose attention reads our tree; imports torch and transformers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from sprint_agents.errors import InvalidCheckpoint

from .attention import NAME, Chunk, Step, StepCache
from .storage import Geometry, Store


@dataclass(frozen=True, slots=True)
class Model:
    """Loaded weights, and what must be known about them."""

    network: Any
    geometry: Geometry
    vocabulary: int
    limit: int
    """The longest context that it computes exactly, in tokens."""
    end_ids: frozenset[int]

    def forward(self, ids: Tensor, positions: Tensor, wanted: Tensor | None, step: Step) -> Tensor:
        """Logits ``[queries, vocabulary]`` of the ``wanted`` queries (None: of all)."""
        output = self.network(
            input_ids=ids,
            position_ids=positions,
            past_key_values=StepCache(step),
            use_cache=True,
            logits_to_keep=0 if wanted is None else wanted,
            step=step,
        )
        return output.logits[0]


def load_model(directory: Path, *, device: str | None, dtype: "torch.dtype | str | None") -> Model:
    """Load the weights in ``directory`` and compute two tokens to see that they work.

    Raises:
        InvalidCheckpoint: they are missing, damaged, or of an architecture that this engine cannot run.

    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        with _no_progress_bar():
            network, report = AutoModelForCausalLM.from_pretrained(
                directory,
                dtype=dtype or "auto",
                attn_implementation=NAME,
                local_files_only=True,
                output_loading_info=True,
            )
        network = network.to(place).eval()
    except Exception as error:  # a damaged file fails in many ways
        raise InvalidCheckpoint(
            f"{directory} cannot be loaded: {type(error).__name__}: {error}. "
            "Copy config.json and the *.safetensors files again from where they came from"
        ) from error
    if missing := sorted(report["missing_keys"]):
        raise InvalidCheckpoint(
            f"{directory} lacks {len(missing)} of the model's weights, {missing[0]} first: "
            "copy the *.safetensors files again from where they came from"
        )
    model = _describe(directory, network, place)
    _try_out(directory, model)
    return model


def _describe(directory: Path, network: Any, device: torch.device) -> Model:
    config = network.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    if network.config.is_encoder_decoder or kinds - {"full_attention", "sliding_attention"}:
        raise InvalidCheckpoint(
            f"{directory} is a {config.model_type} model with layers {sorted(kinds)}: this engine runs decoders "
            "whose layers are ordinary attention, such as Llama, Mistral, Qwen2 and Qwen3"
        )
    heads = config.num_attention_heads
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    limits = [config.max_position_embeddings]
    # Within its window, sliding attention is full attention: beyond it we would compute something else.
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
    return Model(network, geometry, config.vocab_size, min(limits), _end_ids(network))


def _end_ids(network: Any) -> frozenset[int]:
    ids: set[int] = set()
    for config in (network.generation_config, network.config.get_text_config()):
        end = getattr(config, "eos_token_id", None)
        ids.update(end if isinstance(end, list) else [] if end is None else [end])
    return frozenset(ids)


def _try_out(directory: Path, model: Model) -> None:
    """Compute two tokens, so that what is wrong shows now and not in the first request."""
    store = Store(model.geometry, tail_tokens=2)
    step = Step(store, [], [Chunk(store.begin(2), [], 0, 2)])
    step.advance()
    device = model.geometry.device
    try:
        with torch.inference_mode():
            logits = model.forward(torch.tensor([[0, 0]], device=device), torch.tensor([[0, 1]], device=device), None, step)
    except Exception as error:
        raise InvalidCheckpoint(
            f"{directory} is a {model.network.config.model_type} model, which this engine cannot run: "
            f"{type(error).__name__}: {error}. Llama, Mistral, Qwen2 and Qwen3 are known to work"
        ) from error
    if logits.isnan().any():
        raise InvalidCheckpoint(f"{directory} computes NaN: its weights are damaged, copy them again")


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
