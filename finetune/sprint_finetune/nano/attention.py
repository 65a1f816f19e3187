"""Causal attention for training on a CPU, a block of queries at a time: about twice as fast as SDPA there.

Each block of queries is multiplied by all keys up to its end in one product for all rows and heads, and what no query
of the block sees is skipped. The probabilities are kept for the backward pass: two bytes for each pair of tokens,
head and layer.
"""

# pyright: reportUnknownMemberType=false
# The annotations of torch are partial.

from typing import Any

import torch
from torch import Tensor, library, nn
from transformers import AttentionInterface

BLOCKS = "sprint_blocks"
"""The name of this attention for transformers' ``attn_implementation``, once ``register_blocks`` was called."""

_QUERIES = 256
"""Queries in a block. With 128 and with 512, rows of 1,000 to 3,000 tokens took longer."""

_UNSEEN = -1e30


def register_blocks() -> None:
    """Make ``BLOCKS`` known to transformers."""
    AttentionInterface.register(BLOCKS, attend)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    **_others: Any,
) -> tuple[Tensor, None]:
    """Return what each token reads, of shape (rows, tokens, heads, width), as transformers calls an attention.

    ``query``, ``key`` and ``value`` have shape (rows, heads, tokens, width). ``attention_mask`` is True where a query
    sees a key, and only keys up to the query may be seen; None means all of those. There is no cache, and no dropout.
    """
    read, _ = _forward((query * scaling).to(value.dtype), key.to(value.dtype), value, attention_mask)
    return read, None


def _blocks(tokens: int) -> list[tuple[int, int]]:
    return [(start, min(start + _QUERIES, tokens)) for start in range(0, tokens, _QUERIES)]


@library.custom_op("sprint::attention", mutates_args=())
def _forward(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor]:
    rows, heads, tokens, width = query.shape
    read = query.new_empty(rows, tokens, heads, width)
    chances = query.new_empty(rows, heads, tokens, tokens)  # the part after each block's end is never touched
    later = torch.ones(_QUERIES, _QUERIES, dtype=torch.bool).triu(1)
    unseen = None if seen is None else ~seen
    for start, end in _blocks(tokens):
        scores = query[:, :, start:end] @ key[:, :, :end].mT
        if unseen is None:
            scores[..., start:].masked_fill_(later[: end - start, : end - start], _UNSEEN)
        else:
            scores.masked_fill_(unseen[:, :, start:end, :end], _UNSEEN)
        part = scores.softmax(-1)
        chances[:, :, start:end, :end] = part
        read[:, start:end] = (part @ value[:, :, :end]).transpose(1, 2)
    return read, chances


@_forward.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor]:
    rows, heads, tokens, width = query.shape
    return query.new_empty(rows, tokens, heads, width), query.new_empty(rows, heads, tokens, tokens)


@library.custom_op("sprint::attention_backward", mutates_args=())
def _backward(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, read: Tensor, chances: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    of_query = torch.empty_like(query)
    of_key, of_value = torch.zeros_like(key, dtype=torch.float32), torch.zeros_like(value, dtype=torch.float32)
    gradient = gradient.transpose(1, 2)
    mean = (gradient.float() * read.transpose(1, 2)).sum(-1, keepdim=True).to(query.dtype)
    for start, end in _blocks(query.shape[2]):
        part, wanted = chances[:, :, start:end, :end], gradient[:, :, start:end]
        of_value[:, :, :end] += part.mT @ wanted
        of_scores = (wanted @ value[:, :, :end].mT).sub_(mean[:, :, start:end]).mul_(part)
        of_query[:, :, start:end] = of_scores @ key[:, :, :end]
        of_key[:, :, :end] += of_scores.mT @ query[:, :, start:end]
    return of_query, of_key.to(key.dtype), of_value.to(value.dtype)


@_backward.register_fake
def _(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, read: Tensor, chances: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor | None], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:3], *output)


def _differentiate(ctx: Any, gradient: Tensor, _of_chances: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
    return *_backward(gradient, *ctx.saved_tensors), None


_forward.register_autograd(_differentiate, setup_context=_keep)
