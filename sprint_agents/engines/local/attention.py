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
"""Tails are read to a multiple of this many tokens, so that their views change seldom."""


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
    """A run of keys and the queries that see it; ``mask`` where not all see all of it."""

    queries: slice | Tensor
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
        self._rows = torch.arange(len(decoding), device=store.geometry.device)
        self._parts = _parts(store, decoding, chunks)
        self._tail_keys: list[Tensor] = []
        self._tail_values: list[Tensor] = []
        self._tail_length = 0
        if decoding:
            slab = store.slab
            assert slab is not None
            size = slab.shape[4]
            self._visible = torch.full((size, size), float("-inf"), dtype=slab.dtype, device=slab.device).triu_(1)

    def advance(self) -> None:
        """Get ready for the next token of every decoding branch."""
        if not self._decoding:
            return
        tails = [span.tail for span in self._store.rows]
        length = min(-(-(max(tails) + 1) // _LENGTHS) * _LENGTHS, self._visible.shape[0])
        if length != self._tail_length:
            slab = self._store.slab
            assert slab is not None
            views = slab[:, :, : self._decoding, :, :length]
            self._tail_keys, self._tail_values = [*views[:, 0]], [*views[:, 1]]
            self._tail_length = length
        self._places = torch.tensor(tails, device=self._geometry.device)
        self._mask = self._visible[self._places, :length][:, None, None]

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Store the new keys and values, ``[heads, tokens, width]``, of all queries."""
        first = self._decoding
        if first:
            place = (self._rows, slice(None), self._places)
            self._tail_keys[layer][place] = keys[:, :first].transpose(0, 1)
            self._tail_values[layer][place] = values[:, :first].transpose(0, 1)
        for chunk in self._chunks:
            body = chunk.span.body
            assert body is not None
            body[layer, 0, :, chunk.done : chunk.done + chunk.tokens] = keys[:, first : first + chunk.tokens]
            body[layer, 1, :, chunk.done : chunk.done + chunk.tokens] = values[:, first : first + chunk.tokens]
            first += chunk.tokens

    def attend(self, layer: int, query: Tensor, *, scale: float) -> Tensor:
        """Return ``[tokens, query heads, width]`` for ``query`` of shape ``[query heads, tokens, width]``."""
        shape = self._geometry
        tokens = query.shape[1]
        by_token = query.transpose(0, 1).reshape(tokens, shape.heads, shape.group, shape.width)
        by_head = by_token.transpose(0, 1).reshape(1, shape.heads, tokens * shape.group, shape.width)
        total, weight = self._begin(layer, by_token, scale=scale)
        for index, part in enumerate(self._parts):
            queries = _select(by_head, part.queries, shape.group)
            found, found_weight = _attend(queries, part.keys[layer], part.values[layer], part.mask, scale=scale)
            found = found.view(shape.heads, -1, shape.group, shape.width).transpose(0, 1).float()
            found_weight = found_weight.view(shape.heads, -1, shape.group).transpose(0, 1)
            before = weight[part.queries]
            share = torch.sigmoid(found_weight - before).unsqueeze(-1)
            if isinstance(part.queries, slice):
                total[part.queries].lerp_(found, share)
            else:
                total[part.queries] = total[part.queries].lerp(found, share)
            if index + 1 < len(self._parts):
                weight[part.queries] = torch.logaddexp(before, found_weight)
        return total.reshape(tokens, shape.heads * shape.group, shape.width).to(query.dtype)

    def _begin(self, layer: int, query: Tensor, *, scale: float) -> tuple[Tensor, Tensor]:
        """Attend to the tails; the queries of chunks have seen nothing yet."""
        count = self._decoding
        if count == query.shape[0]:
            total, weight = _attend(query, self._tail_keys[layer], self._tail_values[layer], self._mask, scale=scale)
            return total.float(), weight
        total = torch.zeros_like(query, dtype=torch.float32)
        weight = torch.full(query.shape[:-1], float("-inf"), dtype=torch.float32, device=query.device)
        if count:
            total[:count], weight[:count] = _attend(
                query[:count], self._tail_keys[layer], self._tail_values[layer], self._mask, scale=scale
            )
        return total, weight


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
    if query.device.type == "cpu":
        # The operation behind ``scaled_dot_product_attention``, which keeps the log-sum-exp to itself.
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, keys, values, attn_mask=mask, scale=scale
        )
    scores = (query @ keys.transpose(-1, -2)).float() * scale
    if mask is not None:
        scores += mask
    weight = scores.logsumexp(-1)
    return (scores - weight.unsqueeze(-1)).exp().to(values.dtype) @ values, weight


def _select(by_head: Tensor, queries: slice | Tensor, group: int) -> Tensor:
    if isinstance(queries, slice):
        return by_head[:, :, queries.start * group : queries.stop * group]
    batch, heads, _, width = by_head.shape
    return by_head.view(batch, heads, -1, group, width)[:, :, queries].reshape(batch, heads, -1, width)


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
        parts.append(
            _Part(
                _compact(queries, tensor.device), [*layers[:, 0]], [*layers[:, 1]], _mask(store.geometry, seen, length)
            )
        )
        offset += length
    return parts


def _compact(queries: list[int], device: torch.device) -> slice | Tensor:
    if queries[-1] - queries[0] + 1 == len(queries):
        return slice(queries[0], queries[-1] + 1)
    return torch.tensor(queries, device=device)


def _mask(shape: Geometry, seen: list[int], length: int) -> Tensor | None:
    if min(seen) == length:
        return None
    limits = torch.tensor(seen, device=shape.device).repeat_interleave(shape.group)
    hidden = torch.arange(length, device=shape.device) >= limits[:, None]
    return torch.zeros(hidden.shape, dtype=shape.dtype, device=shape.device).masked_fill_(hidden, float("-inf"))[
        None, None
    ]
