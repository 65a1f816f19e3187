"""Attention of one step's tokens over the tree: each stored run of keys is read once for all queries below it.

A step is one forward pass over tokens of many branches, flattened to a batch of one: first the next token of each
branch that decodes, in the order of the slab's rows, then the chunks of the prompts. What a query sees is a list of
runs of keys, each a prefix of a run that other queries see too; the runs are attended one by one, each for all its
queries together, and the parts are merged by their log-sum-exps (Hydragen, arXiv 2402.05099; DeFT, 2404.00242).
The private tails of the branches are one more part, a batched one.

The model's code is stock: it reaches ``Step`` through a ``Cache`` and through transformers' ``AttentionInterface``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.cache_utils import Cache

from .radix import Run
from .storage import Geometry, Span, Store

NAME = "sprint_shared_prefix"
"""What the implementation is registered as."""

_LENGTHS = 16
"""Tails are read to a multiple of this many tokens, so that their views seldom change."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next ``tokens`` tokens of a prompt, of which ``done`` are in the body of ``span`` already."""

    span: Span
    runs: Sequence[Run[Span]]
    done: int
    tokens: int


@dataclass(frozen=True, slots=True)
class _Reader:
    """Consecutive queries of a run: the first sees it to ``stop``, each later one ``step`` tokens further."""

    query: int
    count: int
    stop: int
    step: int


@dataclass(frozen=True, slots=True)
class _Part:
    """A run of keys and the queries that see it, in order; ``mask`` where not all see all of it."""

    queries: list[int]
    keys: Sequence[Tensor]
    values: Sequence[Tensor]
    mask: Tensor | None


class Step:
    """What the queries of one forward pass see, for all layers; lasts as long as the batch stays the same."""

    def __init__(self, store: Store, decoding: Sequence[Sequence[Run[Span]]], chunks: Sequence[Chunk]) -> None:
        self._store = store
        self._geometry = store.geometry
        self._chunks = chunks
        self._decoding = len(decoding)
        self._tails = _Tails(store) if decoding else None
        parts = _parts(store, decoding, chunks)
        device = store.geometry.device
        self._parts = [(_selection(part.queries, store.geometry.group, device), part) for part in parts]
        queries = len(decoding) + sum(chunk.tokens for chunk in chunks)
        tails = [[*range(len(decoding))]] if decoding else []
        self._table, self._absent = _table(tails + [part.queries for part in parts], queries, device)

    def advance(self) -> None:
        """Get ready for the next token of every decoding branch."""
        if self._tails is not None:
            self._tails.advance()

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Store the new keys and values, ``[heads, tokens, width]``, of all queries."""
        first = self._decoding
        if self._tails is not None:
            self._tails.write(layer, keys[:, :first], values[:, :first])
        for chunk in self._chunks:
            body = chunk.span.body
            assert body is not None
            body[layer, 0, :, chunk.done : chunk.done + chunk.tokens] = keys[:, first : first + chunk.tokens]
            body[layer, 1, :, chunk.done : chunk.done + chunk.tokens] = values[:, first : first + chunk.tokens]
            first += chunk.tokens

    def attend(self, layer: int, query: Tensor, *, scale: float) -> Tensor:
        """Return ``[tokens, query heads, width]`` for ``query`` of shape ``[query heads, tokens, width]``."""
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
        """Weigh every query's parts by their log-sum-exps."""
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
    """The part of a step that is each branch's own: one batched operation over the rows of the slab."""

    def __init__(self, store: Store) -> None:
        slab = store.slab
        assert slab is not None
        self._store, self._slab = store, slab
        shape, size = store.geometry, slab.shape[4]
        device = shape.device
        rows = len(store.rows)
        self._bases = torch.arange(rows * shape.heads, device=device).view(rows, shape.heads) * size
        self._visible = torch.full((size, size), float("-inf"), dtype=shape.dtype, device=device).triu_(1)
        flat = slab.view(shape.layers, 2, -1, shape.width)
        self._flat_keys, self._flat_values = [*flat[:, 0]], [*flat[:, 1]]
        self._length = 0

    def advance(self) -> None:
        tails = [span.tail for span in self._store.rows]
        length = min(-(-(max(tails) + 1) // _LENGTHS) * _LENGTHS, self._slab.shape[4])
        if length != self._length:
            views = self._slab[:, :, : len(tails), :, :length]
            self._keys, self._values = [*views[:, 0]], [*views[:, 1]]
            self._length = length
        places = torch.tensor(tails, device=self._slab.device)
        self._places = (self._bases + places.unsqueeze(1)).view(-1)
        self._mask = self._visible[places, :length][:, None, None]

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        width = self._slab.shape[5]
        self._flat_keys[layer].index_copy_(0, self._places, keys.transpose(0, 1).reshape(-1, width))
        self._flat_values[layer].index_copy_(0, self._places, values.transpose(0, 1).reshape(-1, width))

    def attend(self, layer: int, query: Tensor, *, scale: float) -> tuple[Tensor, Tensor]:
        """Return parts and weights as ``[1, heads, tokens * group(, width)]`` for ``[tokens, heads, group, width]``."""
        part, weight = _attend(query, self._keys[layer], self._values[layer], self._mask, scale=scale)
        _, heads, _, width = part.shape
        return part.transpose(0, 1).reshape(1, heads, -1, width), weight.transpose(0, 1).reshape(1, heads, -1)


class StepCache(Cache):
    """The cache that the stock model writes to: it hands everything on to ``step``."""

    def __init__(self, step: Step) -> None:
        super().__init__(layers=[])
        self.step = step

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Store the keys and values of this step; the attention function finds them through the step."""
        self.step.write(layer_idx, key_states[0], value_states[0])
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """No length is right for all branches; positions are always passed."""
        return 0


def shared_prefix_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    step: Step,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend over the tree; the signature is that of transformers' attention functions plus ``step``."""
    if softcap is not None or s_aux is not None:
        raise NotImplementedError("soft-capped attention and attention sinks are not supported")
    layer: Any = module.layer_idx
    return step.attend(layer, query[0], scale=scaling)[None], None


AttentionInterface.register(NAME, shared_prefix_attention)  # pyright: ignore[reportUnknownMemberType]


def _attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, *, scale: float) -> tuple[Tensor, Tensor]:
    """Attention and its log-sum-exp, ``[batch, heads, queries(, width)]``; ``mask`` is added to the scores."""
    if query.device.type != "cpu":
        return plain_attention(query, keys, values, mask, scale=scale)
    # The operation behind ``scaled_dot_product_attention``, which keeps the log-sum-exp to itself.
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, keys, values, attn_mask=mask, scale=scale)


def plain_attention(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, *, scale: float
) -> tuple[Tensor, Tensor]:
    """Compute the same by operations that every device has."""
    scores = (query @ keys.transpose(-1, -2)).float() * scale
    if mask is not None:
        scores += mask
    weight = scores.logsumexp(-1)
    return (scores - weight.unsqueeze(-1)).exp().to(values.dtype) @ values, weight


def _selection(queries: list[int], group: int, device: torch.device) -> slice | Tensor:
    """Select the rows of ``queries`` where each query has ``group`` rows."""
    if queries[-1] - queries[0] + 1 == len(queries):
        return slice(queries[0] * group, (queries[-1] + 1) * group)
    return torch.tensor([query * group + row for query in queries for row in range(group)], device=device)


def _table(parts: Sequence[list[int]], queries: int, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
    """Where each query's parts are in the row of all parts, and which places of ``[parts, queries, 1]`` are empty.

    The table is None where the parts already lie like that: all of them seen by all queries.
    """
    if all(len(part) == queries for part in parts):
        return None, None
    places: list[list[int]] = [[] for _ in range(queries)]
    row = 0
    for part in parts:
        for query in part:
            places[query].append(row)
            row += 1
    depth = max(map(len, places))
    table = [place[level] if level < len(place) else 0 for level in range(depth) for place in places]
    absent = [level >= len(place) for level in range(depth) for place in places]
    return (
        torch.tensor(table, device=device),
        torch.tensor(absent, device=device).view(depth, queries, 1) if any(absent) else None,
    )


def _parts(store: Store, decoding: Sequence[Sequence[Run[Span]]], chunks: Sequence[Chunk]) -> list[_Part]:
    """Group what all queries see by the run that they see it in."""
    readers: dict[tuple[int, int], tuple[Span, list[_Reader]]] = {}

    def read(run: Run[Span], reader: _Reader) -> None:
        readers.setdefault((id(run.span), run.start), (run.span, []))[1].append(reader)

    for query, runs in enumerate(decoding):
        for run in runs:
            read(run, _Reader(query, 1, run.stop, 0))
    query = len(decoding)
    for chunk in chunks:
        for run in chunk.runs:
            read(run, _Reader(query, chunk.tokens, run.stop, 0))
        own = Run(chunk.span, 0, chunk.done + chunk.tokens)
        read(own, _Reader(query, chunk.tokens, chunk.done + 1, 1))
        query += chunk.tokens
    return [part for (_, start), (span, found) in readers.items() for part in _part(store, span, start, found)]


def _part(store: Store, span: Span, start: int, readers: Sequence[_Reader]) -> list[_Part]:
    """One part, or two where the run goes on in the tail of a branch that is still being decoded."""
    parts: list[_Part] = []
    offset, end = start, max(reader.stop + reader.step * (reader.count - 1) for reader in readers)
    for tensor, first, last in store.pieces(span, start, end):
        length = last - first
        queries: list[int] = []
        seen: list[int] = []
        for reader in readers:
            for index in range(reader.count):
                visible = min(reader.stop + reader.step * index - offset, length)
                if visible > 0:
                    queries.append(reader.query + index)
                    seen.append(visible)
        layers = tensor[:, :, :, first:last].unsqueeze(2)
        parts.append(_Part(queries, [*layers[:, 0]], [*layers[:, 1]], _mask(store.geometry, seen, length)))
        offset += length
    return parts


def _mask(shape: Geometry, seen: list[int], length: int) -> Tensor | None:
    if min(seen) == length:
        return None
    limits = torch.tensor(seen, device=shape.device).repeat_interleave(shape.group)
    hidden = torch.arange(length, device=shape.device) >= limits[:, None]
    return torch.zeros(hidden.shape, dtype=shape.dtype, device=shape.device).masked_fill_(hidden, float("-inf"))[
        None, None
    ]
