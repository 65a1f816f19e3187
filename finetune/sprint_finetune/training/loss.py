"""The loss of a batch of flattened tries, on any causal model of transformers."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from .collate import Batch
from .masks import attention_masks


def edge_loss(model: Callable[..., Any], batch: Batch, *, config: PreTrainedConfig) -> Tensor:
    """Sum ``-weight * log p(target)`` over all edges of the batch; logits are computed where an edge begins, only.

    ``model`` may be wrapped (for several devices, for adapters); ``config`` is that of the model inside.
    """
    # Of the rows' parents together, for a model takes one choice of positions for all rows.
    kept, places = _unique(batch["parents"])
    logits: Tensor = model(
        input_ids=batch["input_ids"], use_cache=False, logits_to_keep=kept, **seen(batch, config)
    ).logits
    # The logits of a branching token serve several edges: gathered here are numbers, not rows of the vocabulary.
    totals = logits.float().logsumexp(-1).gather(1, places)
    rows = torch.arange(len(places), device=places.device)[:, None]
    chosen = logits[rows, places, batch["targets"]].float()
    return ((totals - chosen) * batch["weights"]).sum()


def seen(batch: Batch, config: PreTrainedConfig) -> dict[str, Any]:
    """Say what each token of the batch sees, as arguments of a model; none where that is ordinary causal attention."""
    if "ends" not in batch:
        return {}
    positions = batch["positions"]
    return {
        "position_ids": positions,
        "attention_mask": attention_masks(config, batch["ends"], positions=positions),
    }


def _unique(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the values without repetition, and the place of each among them."""
    return cast(Any, torch).unique(values, return_inverse=True)
