"""Attention of one forward pass over the radix tree: each stored range of keys is read once for all its queries.

A forward pass computes tokens of many sequences, flattened to a batch of one: first the next token of each decoding
sequence, in the order of the slab's rows, then the chunks of the prompts. A query sees a list of ranges of keys, each
of which is a prefix of a range that other queries see too. The ranges are attended one by one, each for all its queries
together, and the partial results are merged by their log-sum-exps (Hydragen, arXiv 2402.05099; DeFT, arXiv 2404.00242).
The private tails of the decoding sequences are one more part, a batched one.

A sequence that decodes alone shares nothing, so its keys are copied into one range, which is its only part.

Example: sequences 0 and 1 decode over a shared prompt P, and sequence 2 computes two more tokens of its prompt, which
begins with P. The queries are 0, 1, 2 and 3, and the parts are

    the tails      queries 0 and 1, each against its own row of the slab
    P              queries 0, 1, 2 and 3
    2's segment    queries 2 and 3; query 2 does not see the token of query 3

Invariants:

- Every query has at least one part in which it sees at least one key: its own.
- A ``ForwardBatch`` is valid as long as the same sequences decode and no tensor of the cache is replaced. Until then
  only ``advance`` is called between forward passes.

Two kinds of model code use a ``ForwardBatch``: that of ``lean``, and transformers' own, through ``stock``. Queries are
``[queries, group, heads, width]``: all query heads of a group in turn, each with the key heads in order. The kernel
writes its results in this order, so they are merged as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .kv_cache import Geometry, KVCache, KVSegment
from .radix import SegmentRange

_TAIL_STEP = 16
"""Tails are read up to a multiple of this many tokens, so that their views seldom change."""

_COPIED = 1024
"""The keys of a sequence that decodes alone are copied into one range if there are at most so many."""


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
        alone = len(decoding) == 1 and not chunks and _count(decoding[0]) <= _COPIED
        self._lone = _Lone(cache, decoding[0]) if alone else None
        parts = [] if alone else _parts(cache, decoding, chunks)
        device = cache.geometry.device
        self._parts = [(_selection(part.queries, device), part) for part in parts]
        queries = len(decoding) + sum(chunk.tokens for chunk in chunks)
        tails = [[*range(len(decoding))]] if decoding else []
        self._table, self._absent = _merge_table(tails + [part.queries for part in parts], queries, device)

    def advance(self) -> None:
        """Prepare for the next token of every decoding sequence. Call it before each forward pass."""
        if self._tails is not None:
            self._tails.advance()
        if self._lone is not None:
            self._lone.advance()

    def write(self, layer: int, new: Tensor) -> None:
        """Store the keys and values, ``[queries, 2, heads, width]``, of the tokens that are being computed."""
        first = self._decoding
        if self._tails is not None:
            self._tails.write(layer, new[:first] if self._chunks else new)
        if self._lone is not None:
            self._lone.write(layer, new)
        for chunk in self._chunks:
            body = chunk.segment.body
            assert body is not None
            own = new[first : first + chunk.tokens].permute(1, 2, 0, 3)
            body[layer, :, :, chunk.done : chunk.done + chunk.tokens] = own
            first += chunk.tokens

    def attend(self, layer: int, query: Tensor, *, scale: float) -> Tensor:
        """Attend for ``query``, ``[queries, group, heads, width]``; return the same shape."""
        if self._lone is not None:
            return self._lone.attend(layer, query, scale=scale)
        query = query.contiguous() if self._parts and query.shape[1] > 1 else query
        found: list[_Found] = []
        if self._tails is not None:
            decoding = query[: self._decoding] if self._chunks else query
            found.append(self._tails.attend(layer, decoding, scale=scale))
        for selection, part in self._parts:
            chosen = query[selection] if isinstance(selection, slice) else query.index_select(0, selection)
            by_head = chosen.flatten(0, 1).transpose(0, 1).unsqueeze(0)
            result, weight = _attend(by_head, part.keys[layer], part.values[layer], part.mask, scale=scale)
            shape = chosen.shape
            found.append((result[0].transpose(0, 1).view(shape), weight[0].transpose(0, 1).view(shape[:3])))
        if self._table is not None:
            return self._merge(found, query.shape[0]).to(query.dtype)
        return _merge_all(found).to(query.dtype)

    def _merge(self, found: Sequence["_Found"], queries: int) -> Tensor:
        """Weight the partial results of every query by their log-sum-exps, where queries have different parts."""
        assert self._table is not None
        parts = torch.cat([part for part, _ in found]).index_select(0, self._table)
        weights = torch.cat([weight for _, weight in found]).index_select(0, self._table)
        parts, weights = (each.view(-1, queries, *each.shape[1:]) for each in (parts, weights))
        if self._absent is not None:
            weights.masked_fill_(self._absent, float("-inf"))
        return (parts * torch.softmax(weights, 0).unsqueeze(-1)).sum(0)


_Found = tuple[Tensor, Tensor]
"""The results of a part, ``[queries, group, heads, width]``, and their log-sum-exps, ``[queries, group, heads]``."""


class _Tails:
    """The part that every decoding sequence has for itself: one batched operation over the rows of the slab."""

    def __init__(self, cache: KVCache) -> None:
        slab = cache.slab
        assert slab is not None
        self._rows, self._slab = cache.rows, slab
        shape, size = cache.geometry, slab.shape[4]
        device = shape.device
        rows = len(cache.rows)
        # Where a row's keys and values are in a layer of the slab, head by head: the order in which they are written.
        places = torch.arange(2 * slab.shape[2] * shape.heads, device=device) * size
        self._bases = places.view(2, -1, shape.heads)[:, :rows].transpose(0, 1)
        self._visible = torch.full((size, size), float("-inf"), dtype=shape.dtype, device=device).triu_(1)
        self._flat = [*slab.view(shape.layers, -1, shape.width)]
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
        self._places = (self._bases + places.view(-1, 1, 1)).flatten()
        self._mask = self._visible[places, :length][:, None, None]

    def write(self, layer: int, new: Tensor) -> None:
        self._flat[layer].index_copy_(0, self._places, new.reshape(-1, self._slab.shape[5]))

    def attend(self, layer: int, query: Tensor, *, scale: float) -> "_Found":
        """Attend for ``query``, ``[rows, group, heads, width]``."""
        result, weight = _attend(query.transpose(1, 2), self._keys[layer], self._values[layer], self._mask, scale=scale)
        return result.transpose(1, 2), weight.transpose(1, 2)


class _Lone:
    """A copy of all keys of a sequence that decodes alone, in one range, so that one operation attends to them.

    Nothing is shared then, and for a short context the operations cost more than the keys. The copy is written to as
    well as the slab, which keeps the keys.
    """

    def __init__(self, cache: KVCache, ranges: Sequence[SegmentRange[KVSegment]]) -> None:
        (segment,) = cache.rows
        body = segment.body_length
        self._segment, self._before = segment, _count(ranges)
        keys = cache.empty(self._before + cache.tail_capacity)
        place = 0
        for seen in [*ranges, SegmentRange(segment, body, body + segment.tail_length)]:
            for tensor, first, last in cache.slices(seen.segment, seen.start, seen.stop):
                keys[:, :, :, place : place + last - first] = tensor[:, :, :, first:last]
                place += last - first
        self._layers = [*keys]
        self._pairs = [(each[:1], each[1:]) for each in keys]

    def advance(self) -> None:
        self._place = self._before + self._segment.tail_length

    def write(self, layer: int, new: Tensor) -> None:
        self._layers[layer].select(2, self._place).copy_(new[0])

    def attend(self, layer: int, query: Tensor, *, scale: float) -> Tensor:
        """Attend for ``query``, ``[1, group, heads, width]``."""
        keys, values = (each.narrow(2, 0, self._place + 1) for each in self._pairs[layer])
        return _attend(query.transpose(1, 2), keys, values, None, scale=scale)[0].transpose(1, 2)


def _count(ranges: Sequence[SegmentRange[KVSegment]]) -> int:
    return sum(seen.stop - seen.start for seen in ranges)


def _merge_all(found: Sequence["_Found"]) -> Tensor:
    """Weight the partial results by their log-sum-exps, where every query has all parts, in the same order."""
    total, weight = found[0]
    for number, (part, other) in enumerate(found[1:], start=2):
        share = torch.sigmoid(other - weight).unsqueeze(-1)
        total = torch.lerp(total.float(), part.float(), share)
        if number < len(found):
            weight = torch.logaddexp(weight, other)
    return total


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
    scores = ((query * scale) @ keys.transpose(-1, -2)).float()  # scaled first: float16 holds no more than 65,504
    if mask is not None:
        scores += mask
    weight = scores.logsumexp(-1)
    return (scores - weight.unsqueeze(-1)).exp().to(values.dtype) @ values, weight


def _selection(queries: list[int], device: torch.device) -> slice | Tensor:
    """Select the rows of ``queries``."""
    if queries[-1] - queries[0] + 1 == len(queries):
        return slice(queries[0], queries[-1] + 1)
    return torch.tensor(queries, device=device)


def _merge_table(parts: Sequence[list[int]], queries: int, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
    """Index the partial results of each query, given the queries of each part.

    Returns:
        Where the results of each query are in the concatenation of all parts, ``[depth * queries]``, or None if they
        are in that order already; and which of them are missing, ``[depth, queries, 1, 1]``, or None if none are. Depth
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
        torch.tensor(absent, device=device).view(depth, queries, 1, 1) if any(absent) else None,
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
