"""Loading a model: by the engine's own forward pass where it knows the architecture, or else by transformers."""

from pathlib import Path

import torch

from sprint_agents.errors import ConfigurationError, InvalidCheckpoint

from .architecture import end_ids, read_architecture
from .attention import ForwardBatch, PrefillChunk
from .kv_cache import Geometry, KVCache
from .lean import open_network
from .model import Model


def load_model(directory: Path, *, device: str | None, dtype: "torch.dtype | str | None", stock: bool = False) -> Model:
    """Load the weights in ``directory``, and compute two tokens as a test.

    Args:
        directory: the checkpoint.
        device: by default the first GPU, or else the CPU.
        dtype: by default the checkpoint's.
        stock: whether to run transformers' code even for a known architecture.

    Raises:
        ConfigurationError: the device or dtype does not exist.
        InvalidCheckpoint: the weights are missing or damaged, or this engine cannot run their architecture.

    """
    placed_on = _device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if isinstance(dtype, str) and not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise ConfigurationError(f"torch has no dtype {dtype!r}: use float32, bfloat16 or float16")
    model = None if stock else _open_known(directory, device=placed_on, dtype=dtype)
    if model is None:
        from .stock import open_stock  # loads transformers' model code

        model = open_stock(directory, device=placed_on, dtype=dtype)
    _try_out(directory, model)
    return model


def _open_known(directory: Path, *, device: torch.device, dtype: "torch.dtype | str | None") -> Model | None:
    """Load a model of a known architecture."""
    architecture = read_architecture(directory)
    if architecture is None:
        return None
    precision = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype or architecture.dtype)
    if precision not in (torch.float32, torch.bfloat16, torch.float16):
        return None
    network = open_network(directory, architecture, device=device, dtype=precision)
    if network is None:
        return None
    geometry = Geometry(
        layers=architecture.num_hidden_layers,
        heads=architecture.num_key_value_heads,
        group=architecture.num_attention_heads // architecture.num_key_value_heads,
        width=architecture.head_dim,
        dtype=precision,
        device=device,
    )
    return Model(
        network=network,
        parameters=architecture.parameters,
        geometry=geometry,
        vocabulary=architecture.vocab_size,
        context_limit=architecture.context,
        end_ids=end_ids(directory, architecture),
    )


def _device(device: str) -> torch.device:
    try:
        return torch.empty(1, device=device).device
    except (RuntimeError, AssertionError) as error:  # the latter from a torch without CUDA
        raise ConfigurationError(f"device {device!r} cannot be used: {error}") from error


def _try_out(directory: Path, model: Model) -> None:
    """Compute two tokens, so that a broken model fails now and not in its first request."""
    cache = KVCache(model.geometry, tail_capacity=2)
    batch = ForwardBatch(cache, [], [PrefillChunk(cache.allocate(2), [], 0, 2)])
    batch.advance()
    device = model.geometry.device
    try:
        with torch.inference_mode():
            logits = model.network(
                torch.tensor([0, 0], device=device), torch.tensor([0, 1], device=device), None, batch
            )
    except Exception as error:
        raise InvalidCheckpoint(
            f"{directory} is a model that this engine cannot run: {type(error).__name__}: {error}. "
            "Llama, Mistral, Qwen2 and Qwen3 are known to work"
        ) from error
    if logits.isnan().any():
        raise InvalidCheckpoint(f"{directory} computes NaN: its weights are damaged, copy them again")
