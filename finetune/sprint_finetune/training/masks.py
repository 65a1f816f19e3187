"""What each token of a flattened trie sees, in the forms that transformers' attention takes.

All come from one test on ``Flattened.ends``: token ``i`` sees token ``j`` iff ``j <= i < ends[j]``. Stock models hand
a mask of four dimensions on as it is, so no model code is ours. Padding sees itself alone, for attention over nothing
has no gradient.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask
from transformers import PreTrainedConfig

from sprint_agents.errors import ConfigurationError

BLOCK = 128
"""Tokens to a block of flex attention."""

Mask = Tensor | BlockMask

_FULL, _SLIDING = "full_attention", "sliding_attention"


def ancestor_mask(ends: Tensor, *, positions: Tensor, window: int | None = None) -> Tensor:
    """Build the mask that SDPA takes, True where a query sees a key: (rows, 1, tokens, tokens) for (rows, tokens).

    ``window`` is that of sliding attention: a token sees itself and the ``window - 1`` before it on its path.

    >>> ends = torch.tensor([[4, 4, 3, 4]])  # two tokens, and two that follow the second
    >>> ancestor_mask(ends, positions=torch.tensor([[0, 1, 2, 2]]))[0, 0].int().tolist()
    [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1]]
    """
    keys = torch.arange(ends.shape[1], device=ends.device)
    queries = keys[:, None]
    seen = (keys <= queries) & (queries < ends[:, None, None, :])
    if window is not None:
        seen &= positions[:, None, None, :] > positions[:, None, :, None] - window
    return seen


def ancestor_blocks(ends: Tensor, *, positions: Tensor, window: int | None = None) -> BlockMask:
    """Build the same for flex attention, which skips what no token of a block sees.

    Which blocks to skip follows from the largest and smallest end in each; so this takes O(tokens + blocks²), and no
    mask of tokens by tokens is ever made.
    """
    rows, tokens = ends.shape
    count = -(-tokens // BLOCK)
    ends_in = functional.pad(ends, (0, count * BLOCK - tokens)).view(rows, 1, 1, count, BLOCK)
    index = torch.arange(count, device=ends.device)
    first, last = index[:, None] * BLOCK, (index[:, None] + 1).mul(BLOCK).clamp(max=tokens) - 1  # queries of a block
    earlier = index < index[:, None]
    some = (earlier & (ends_in.amax(-1) > first)) | (index == index[:, None])
    whole = earlier & (ends_in.amin(-1) > last)
    if window is not None:
        whole = torch.zeros_like(whole)

    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = (key <= query) & (query < ends[row, key])
        if window is not None:
            seen &= positions[row, key] > positions[row, query] - window
        return seen

    return BlockMask.from_kv_blocks(
        *_ordered(some & ~whole), *_ordered(whole), BLOCK_SIZE=BLOCK, mask_mod=sees, seq_lengths=(tokens, tokens)
    )


def _ordered(dense: Tensor) -> tuple[Tensor, Tensor]:
    """Count the blocks of keys for each block of queries, and list them first: what ``BlockMask`` is made of."""
    order = dense.int().argsort(dim=-1, descending=True, stable=True)
    return dense.sum(-1, dtype=torch.int32), order.to(torch.int32)


def attention_masks(config: PreTrainedConfig, ends: Tensor, *, positions: Tensor) -> Mask | dict[str, Mask]:
    """Build what a model of ``config`` takes as ``attention_mask``, for its layers and its attention.

    Raises:
        ConfigurationError: some layers are no plain attention, so what they compute depends on more than the path.
    """
    make = ancestor_blocks if config._attn_implementation == "flex_attention" else ancestor_mask  # pyright: ignore[reportPrivateUsage]
    settings: Any = config
    kinds: set[str] = set(getattr(settings, "layer_types", None) or ())
    if other := kinds - {_FULL, _SLIDING}:
        raise ConfigurationError(
            f"{settings.model_type} has layers of the kind {', '.join(sorted(other))}, which cannot follow several "
            'paths at once: train it with way = "calls" and pack = false'
        )
    window: int | None = getattr(settings, "sliding_window", None)
    if _SLIDING in kinds:
        return {_FULL: make(ends, positions=positions), _SLIDING: make(ends, positions=positions, window=window)}
    return make(ends, positions=positions, window=None if kinds else window)
