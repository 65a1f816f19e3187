"""The loss of a batch of flattened tries, on any causal model of transformers."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from .collation import Batch
from .masks import attention_masks


def edge_loss(model: Callable[..., Any], batch: Batch, *, config: PreTrainedConfig) -> Tensor:
    """Sum ``-weight * log p(target)`` over all edges of the batch.

    Logits are computed only at tokens where an edge starts. ``model`` may be wrapped (for several devices, or with
    adapters). ``config`` is that of the wrapped model.
    """
    # A model accepts one list of positions for all rows, so take the union of the rows' parents.
    kept, places = _unique(batch["parents"])
    logits: Tensor = model(
        input_ids=batch["input_ids"], use_cache=False, logits_to_keep=kept, **attention_arguments(batch, config)
    ).logits
    # Several edges share the logits of a branching token: gather numbers, not copies of a vocabulary-sized row.
    totals = logits.float().logsumexp(-1).gather(1, places)
    rows = torch.arange(len(places), device=places.device)[:, None]
    chosen = logits[rows, places, batch["targets"]].float()
    return ((totals - chosen) * batch["weights"]).sum()


def attention_arguments(batch: Batch, config: PreTrainedConfig) -> dict[str, Any]:
    """Return the model's arguments for what each token sees, or none if that is ordinary causal attention."""
    if "ends" not in batch:
        return {}
    positions = batch["positions"]
    return {
        "position_ids": positions,
        "attention_mask": attention_masks(config, batch["ends"], positions=positions),
    }


def _unique(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct values, and the index of each value among them."""
    return cast(Any, torch).unique(values, return_inverse=True)
