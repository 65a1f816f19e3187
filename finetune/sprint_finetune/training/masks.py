"""Attention masks for flattened tries, in the forms that transformers accepts.

All masks follow from one test on ``Flattened.ends``: token ``i`` sees token ``j`` iff ``j <= i < ends[j]``. Stock
models pass a four-dimensional mask on unchanged, so no model code is needed here. Each padding token sees only itself,
because attention over an empty set has no gradient.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask
from transformers import PreTrainedConfig

from sprint_agents.errors import ConfigurationError

BLOCK = 128
"""Number of tokens in a block of flex attention."""

Mask = Tensor | BlockMask
"""A mask for SDPA, or for flex attention."""

_FULL, _SLIDING = "full_attention", "sliding_attention"


def ancestor_mask(ends: Tensor, *, positions: Tensor, window: int | None = None) -> Tensor:
    """Build the mask for SDPA: True where a query sees a key, of shape (rows, 1, tokens, tokens).

    ``ends`` and ``positions`` have shape (rows, tokens). With sliding attention of size ``window``, a token sees itself
    and the ``window - 1`` tokens before it on its path.

    >>> ends = torch.tensor([[4, 4, 3, 4]])  # a, b, and then two branches: c and d, each after b
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
    """Build the same mask for flex attention, which skips blocks that no query sees.

    The largest and the smallest end in a block of keys decide how a block of queries sees it, so this takes
    O(tokens + blocks²) and never builds a mask of tokens by tokens. For blocks of 4 tokens and the queries 8 to 11::

        ends of keys 0 to 3     largest > 8?   smallest > 11?
        12, 12, 12, 12              yes             yes          whole block visible: no test per token
        12, 12, 10, 10              yes             no           partly visible: ``sees`` decides per token
         7,  7,  6,  5              no              no           invisible: skipped

    The block of the queries themselves is always partly visible, since ``j <= i``. With a window, no block counts as
    wholly visible.
    """
    rows, tokens = ends.shape
    count = -(-tokens // BLOCK)
    ends_in = functional.pad(ends, (0, count * BLOCK - tokens)).view(rows, 1, 1, count, BLOCK)
    index = torch.arange(count, device=ends.device)
    first, last = index[:, None] * BLOCK, (index[:, None] + 1).mul(BLOCK).clamp(max=tokens) - 1  # queries in a block
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
    """Count the visible blocks of keys for each block of queries, and list them first, as ``BlockMask`` expects."""
    order = dense.int().argsort(dim=-1, descending=True, stable=True)
    return dense.sum(-1, dtype=torch.int32), order.to(torch.int32)


def attention_masks(config: PreTrainedConfig, ends: Tensor, *, positions: Tensor) -> Mask | dict[str, Mask]:
    """Build the ``attention_mask`` argument for a model with ``config``, matching its layers and attention kernel.

    Raises:
        ConfigurationError: some layers are not plain attention, so their output depends on more than the path.
    """
    make = ancestor_blocks if config._attn_implementation == "flex_attention" else ancestor_mask  # pyright: ignore[reportPrivateUsage]
    settings: Any = config
    kinds: set[str] = set(getattr(settings, "layer_types", None) or ())
    if other := kinds - {_FULL, _SLIDING}:
        raise ConfigurationError(
            f"{settings.model_type} has {', '.join(sorted(other))} layers, which cannot process several paths in "
            'one sequence: train it with way = "calls" and pack = false'
        )
    window: int | None = getattr(settings, "sliding_window", None)
    if _SLIDING in kinds:
        return {_FULL: make(ends, positions=positions), _SLIDING: make(ends, positions=positions, window=window)}
    return make(ends, positions=positions, window=None if kinds else window)
