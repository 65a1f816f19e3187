"""Attention of one forward pass over the radix tree: each stored range of keys is read once for all its queries.

A forward pass computes tokens of many sequences, flattened to a batch of one: first the next token of each decoding
sequence, in the order of the slab's rows, then the chunks of the prompts. A query sees a list of ranges of keys, each
of which is a prefix of a range that other queries see too. The ranges are attended one by one, each for all its queries
together, and the partial results are merged by their log-sum-exps (Hydragen, arXiv 2402.05099; DeFT, arXiv 2404.00242).
The private tails of the decoding sequences are one more part, a batched one.

Example: sequences 0 and 1 decode over a shared prompt P, and sequence 2 computes two more tokens of its prompt, which
begins with P. The queries are 0, 1, 2 and 3, and the parts are

    the tails      queries 0 and 1, each against its own row of the slab
    P              queries 0, 1, 2 and 3
    2's segment    queries 2 and 3; query 2 does not see the token of query 3

Invariants:

- Every query has at least one part in which it sees at least one key: its own.
- A ``ForwardBatch`` is valid as long as the same sequences decode and no tensor of the cache is replaced. Until then
  only ``advance`` is called between forward passes.

The model's code is stock: it reaches ``ForwardBatch`` through a ``Cache`` and through transformers'
``AttentionInterface``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.cache_utils import Cache

from .kv_cache import Geometry, KVCache, KVSegment
from .radix import SegmentRange

NAME = "sprint_shared_prefix"
"""The name under which the implementation is registered with transformers."""

_TAIL_STEP = 16
"""Tails are read up to a multiple of this many tokens, so that their views seldom change."""


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """The next ``tokens`` tokens of a prompt, after its ``prefix`` and the ``done`` first tokens of ``segment``."""

    segment: KVSegment
    prefix: Sequence[SegmentRange[KVSegment]]
    done: int
    tokens: int


@dataclass(frozen=True, slots=True)
class _Queries:
    """Consecutive queries of one range: the first sees its tokens before ``stop``, each later one ``step`` more."""

    first: int
    count: int
    stop: int
    step: int


@dataclass(frozen=True, slots=True)
class _Part:
    """Keys and values per layer, and the queries that see them, in order; ``mask`` where not all see all of them."""

    queries: list[int]
    keys: Sequence[Tensor]
    values: Sequence[Tensor]
    mask: Tensor | None


class ForwardBatch:
    """The keys that each query of a forward pass sees, for all layers."""

    def __init__(
        self,
        cache: KVCache,
        decoding: Sequence[Sequence[SegmentRange[KVSegment]]],
        chunks: Sequence[PrefillChunk],
    ) -> None:
        """Prepare a pass in which the sequence of each slab row sees the ranges ``decoding[row]`` and its tail."""
        self._geometry = cache.geometry
        self._chunks = chunks
        self._decoding = len(decoding)
        self._tails = _Tails(cache) if decoding else None
        parts = _parts(cache, decoding, chunks)
        device = cache.geometry.device
        self._parts = [(_selection(part.queries, cache.geometry.group, device), part) for part in parts]
        queries = len(decoding) + sum(chunk.tokens for chunk in chunks)
        tails = [[*range(len(decoding))]] if decoding else []
        self._table, self._absent = _merge_table(tails + [part.queries for part in parts], queries, device)

    def advance(self) -> None:
        """Prepare for the next token of every decoding sequence. Call it before each forward pass."""
        if self._tails is not None:
            self._tails.advance()

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Store the keys and values, ``[heads, queries, width]``, of the tokens that are being computed."""
        first = self._decoding
        if self._tails is not None:
            self._tails.write(layer, keys[:, :first], values[:, :first])
        for chunk in self._chunks:
            body = chunk.segment.body
            assert body is not None
            body[layer, 0, :, chunk.done : chunk.done + chunk.tokens] = keys[:, first : first + chunk.tokens]
            body[layer, 1, :, chunk.done : chunk.done + chunk.tokens] = values[:, first : first + chunk.tokens]
            first += chunk.tokens

    def attend(self, layer: int, query: Tensor, *, scale: float) -> Tensor:
        """Attend for ``query``, ``[query heads, queries, width]``; return ``[queries, query heads, width]``."""
        shape, tokens = self._geometry, query.shape[1]
        by_token = query.transpose(0, 1).reshape(tokens, shape.heads, shape.group, shape.width)
        by_head = by_token.transpose(0, 1).reshape(1, shape.heads, tokens * shape.group, shape.width)
        found = [
            _attend(by_head[:, :, selection], part.keys[layer], part.values[layer], part.mask, scale=scale)
            for selection, part in self._parts
        ]
        if self._tails is not None:
            found.insert(0, self._tails.attend(layer, by_token[: self._decoding], scale=scale))
        total = found[0][0] if len(found) == 1 else self._merge(found, tokens)
        total = total.view(shape.heads, tokens, shape.group, shape.width).transpose(0, 1)
        return total.reshape(tokens, shape.heads * shape.group, shape.width).to(query.dtype)

    def _merge(self, found: Sequence[tuple[Tensor, Tensor]], tokens: int) -> Tensor:
        """Weight the partial results of every query by their log-sum-exps."""
        shape = self._geometry
        parts = torch.cat([part for part, _ in found], 2).view(shape.heads, -1, shape.group, shape.width)
        weights = torch.cat([weight for _, weight in found], 2).view(shape.heads, -1, shape.group)
        if self._table is not None:
            parts = parts.index_select(1, self._table)
            weights = weights.index_select(1, self._table)
        weights = weights.view(shape.heads, -1, tokens, shape.group)
        if self._absent is not None:
            weights.masked_fill_(self._absent, float("-inf"))
        shares = torch.softmax(weights, 1).unsqueeze(-1)
        return (parts.view(shape.heads, -1, tokens, shape.group, shape.width) * shares).sum(1)


class _Tails:
    """The part that every decoding sequence has for itself: one batched operation over the rows of the slab."""

    def __init__(self, cache: KVCache) -> None:
        slab = cache.slab
        assert slab is not None
        self._rows, self._slab = cache.rows, slab
        shape, size = cache.geometry, slab.shape[4]
        device = shape.device
        rows = len(cache.rows)
        self._bases = torch.arange(rows * shape.heads, device=device).view(rows, shape.heads) * size
        self._visible = torch.full((size, size), float("-inf"), dtype=shape.dtype, device=device).triu_(1)
        flat = slab.view(shape.layers, 2, -1, shape.width)
        self._flat_keys, self._flat_values = [*flat[:, 0]], [*flat[:, 1]]
        self._length = 0

    def advance(self) -> None:
        tails = [segment.tail_length for segment in self._rows]
        length = min(-(-(max(tails) + 1) // _TAIL_STEP) * _TAIL_STEP, self._slab.shape[4])
        if length != self._length:
            views = self._slab[:, :, : len(tails), :, :length]
            self._keys, self._values = [*views[:, 0]], [*views[:, 1]]
            self._length = length
        # A tail of 2 tokens writes its next one to place 2 of its row and sees places 0 to 2: row 2 of the triangle.
        places = torch.tensor(tails, device=self._slab.device)
        self._places = (self._bases + places.unsqueeze(1)).view(-1)
        self._mask = self._visible[places, :length][:, None, None]

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        width = self._slab.shape[5]
        self._flat_keys[layer].index_copy_(0, self._places, keys.transpose(0, 1).reshape(-1, width))
        self._flat_values[layer].index_copy_(0, self._places, values.transpose(0, 1).reshape(-1, width))

    def attend(self, layer: int, query: Tensor, *, scale: float) -> tuple[Tensor, Tensor]:
        """Attend for ``query``, ``[rows, heads, group, width]``, with results ``[1, heads, rows * group(, width)]``."""
        part, weight = _attend(query, self._keys[layer], self._values[layer], self._mask, scale=scale)
        _, heads, _, width = part.shape
        return part.transpose(0, 1).reshape(1, heads, -1, width), weight.transpose(0, 1).reshape(1, heads, -1)


class BatchCache(Cache):
    """The cache that the stock model writes to: it passes everything to a ``ForwardBatch``."""

    def __init__(self, batch: ForwardBatch) -> None:
        super().__init__(layers=[])
        self.batch = batch

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Store the keys and values; the attention function finds them through its ``batch``."""
        self.batch.write(layer_idx, key_states[0], value_states[0])
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
    return batch.attend(layer, query[0], scale=scaling)[None], None


AttentionInterface.register(NAME, shared_prefix_attention)  # pyright: ignore[reportUnknownMemberType]


def _attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, *, scale: float) -> tuple[Tensor, Tensor]:
    """Compute attention and its log-sum-exp, ``[batch, heads, queries(, width)]``; ``mask`` is added to the scores."""
    if query.device.type != "cpu":
        return plain_attention(query, keys, values, mask, scale=scale)
    # ``scaled_dot_product_attention`` calls this operation too, but does not return the log-sum-exp.
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, keys, values, attn_mask=mask, scale=scale)


def plain_attention(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, *, scale: float
) -> tuple[Tensor, Tensor]:
    """Compute the same as ``_attend`` by operations that every device supports."""
    scores = (query @ keys.transpose(-1, -2)).float() * scale
    if mask is not None:
        scores += mask
    weight = scores.logsumexp(-1)
    return (scores - weight.unsqueeze(-1)).exp().to(values.dtype) @ values, weight


def _selection(queries: list[int], group: int, device: torch.device) -> slice | Tensor:
    """Select the rows of ``queries`` in a tensor that has ``group`` rows per query."""
    if queries[-1] - queries[0] + 1 == len(queries):
        return slice(queries[0] * group, (queries[-1] + 1) * group)
    return torch.tensor([query * group + row for query in queries for row in range(group)], device=device)


def _merge_table(parts: Sequence[list[int]], queries: int, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
    """Index the partial results of each query, given the queries of each part.

    Returns:
        Where the results of each query are in the concatenation of all parts, ``[depth * queries]``, or None if they
        are in that order already; and which of them are missing, ``[depth, queries, 1]``, or None if none are. Depth
        is the largest number of parts of a query.

    """
    # Example: three queries, of which 0 and 1 see their tails and all see the trunk: parts [[0, 1], [0, 1, 2]].
    # Concatenated, the results are in the rows
    #
    #     row        0        1        2         3         4
    #     result     0's tail 1's tail 0's trunk 1's trunk 2's trunk
    #
    # so query 0 merges rows 0 and 2, query 1 rows 1 and 3, and query 2 row 4 alone. The table is [0, 1, 4, 2, 3, 0],
    # level by level; its last entry only fills the gap, and `absent` is True there, which gives it no weight.
    if all(len(part) == queries for part in parts):
        return None, None
    rows_of: list[list[int]] = [[] for _ in range(queries)]
    row = 0
    for part in parts:
        for query in part:
            rows_of[query].append(row)
            row += 1
    depth = max(map(len, rows_of))
    table = [rows[level] if level < len(rows) else 0 for level in range(depth) for rows in rows_of]
    absent = [level >= len(rows) for level in range(depth) for rows in rows_of]
    return (
        torch.tensor(table, device=device),
        torch.tensor(absent, device=device).view(depth, queries, 1) if any(absent) else None,
    )


def _parts(
    cache: KVCache, decoding: Sequence[Sequence[SegmentRange[KVSegment]]], chunks: Sequence[PrefillChunk]
) -> list[_Part]:
    """Group the queries by the range that they see, whatever its end."""
    groups: dict[tuple[int, int], tuple[KVSegment, list[_Queries]]] = {}

    def add(seen: SegmentRange[KVSegment], queries: _Queries) -> None:
        groups.setdefault((id(seen.segment), seen.start), (seen.segment, []))[1].append(queries)

    for query, ranges in enumerate(decoding):
        for seen in ranges:
            add(seen, _Queries(query, 1, seen.stop, 0))
    query = len(decoding)
    for chunk in chunks:
        for seen in chunk.prefix:
            add(seen, _Queries(query, chunk.tokens, seen.stop, 0))
        own = SegmentRange(chunk.segment, 0, chunk.done + chunk.tokens)
        add(own, _Queries(query, chunk.tokens, chunk.done + 1, 1))
        query += chunk.tokens
    return [
        part for (_, start), (segment, queries) in groups.items() for part in _parts_of(cache, segment, start, queries)
    ]


def _parts_of(cache: KVCache, segment: KVSegment, start: int, groups: Sequence[_Queries]) -> list[_Part]:
    """Make one part of a segment's tokens from ``start``, or two where they extend into its tail."""
    # Example: the segment has a body of 6 tokens and, since its sequence still decodes, 3 tokens in its tail. Query 0
    # sees 4 of these 9 tokens, and the chunk of queries 1 and 2 sees all of them:
    #
    #     _Queries(0, count=1, stop=4)    body: 4 of 6    tail: 0 of 3
    #     _Queries(1, count=2, stop=9)    body: 6 of 6    tail: 3 of 3
    #
    # The part of the body has queries 0, 1 and 2 and a mask for query 0; the part of the tail has queries 1 and 2 and
    # no mask. A chunk's own segment has step 1: with 5 tokens done and 3 new ones, the queries see 6, 7 and 8 tokens.
    parts: list[_Part] = []
    offset, end = start, max(group.stop + group.step * (group.count - 1) for group in groups)
    for tensor, first, last in cache.slices(segment, start, end):
        length = last - first
        queries: list[int] = []
        seen: list[int] = []
        for group in groups:
            for index in range(group.count):
                visible = min(group.stop + group.step * index - offset, length)
                if visible > 0:
                    queries.append(group.first + index)
                    seen.append(visible)
        layers = tensor[:, :, :, first:last].unsqueeze(2)
        parts.append(_Part(queries, [*layers[:, 0]], [*layers[:, 1]], _mask(cache.geometry, seen, length)))
        offset += length
    return parts


def _mask(shape: Geometry, seen: list[int], length: int) -> Tensor | None:
    """Hide all but the first ``seen`` of ``length`` keys from each query; None if every query sees all of them."""
    if min(seen) == length:
        return None
    limits = torch.tensor(seen, device=shape.device).repeat_interleave(shape.group)
    hidden = torch.arange(length, device=shape.device) >= limits[:, None]
    return torch.zeros(hidden.shape, dtype=shape.dtype, device=shape.device).masked_fill_(hidden, float("-inf"))[
        None, None
    ]
