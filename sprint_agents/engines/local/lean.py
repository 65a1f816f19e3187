"""The forward pass of known architectures, made for decoding a few tokens of many sequences.

Transformers' model code is general: for small models most of a decode step is spent in its modules and in building
masks, not in arithmetic. This one computes the same function of the same weights by about twenty operations a layer.
It is used for what ``architecture`` knows, on any device. For everything else, ``stock`` runs transformers' own code on
the same ``ForwardBatch``. The tests hold the two to equal logits and equal greedy tokens.

What differs from stock code is where numbers are, not what is computed:

- Activations are ``[queries, ...]``, one row for each token of the pass, whatever sequence it belongs to.
- One product makes queries, keys and values, and their norms and rotation are applied to queries and keys together.
- Query heads are ordered by group, then by key head: ``[group, heads, width]``. This is the order in which the
  attention kernel writes its results, so these are merged and projected without being rearranged.
- The two numbers that rotate together are neighbours instead of half a head apart, so a rotation is one complex
  product. Scores do not depend on the order of the numbers in a head, as queries and keys have the same.
- One product makes the gate and what it is multiplied by, and residuals are part of the products (see ``linear``).
- The last layer's feed-forward is computed only for the queries whose logits are needed.

Example of the order, with two key heads of two query heads each and a width of four. The checkpoint has the rows of
heads 0, 1, 2 and 3, of which 0 and 1 read the first key head; here they are 0, 2, 1 and 3. Within a head, the rows
0, 1, 2 and 3 become 0, 2, 1 and 3 as well: rows 0 and 2 are the first pair.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional

from .architecture import Architecture, Rotary
from .attention import ForwardBatch
from .linear import Linear, make_linear
from .model import SMALL
from .weights import Weights

_length = cast("Callable[..., Tensor]", torch.linalg.vector_norm)  # pyright: ignore[reportUnknownMemberType]


@dataclass(frozen=True, slots=True)
class _Layer:
    """The weights of one layer."""

    attention_norm: Tensor
    projection: Linear
    """To queries, keys and values."""
    head_norms: Tensor | None
    """``[group * heads + heads, width]``, for queries and keys."""
    output: Linear
    feed_forward_norm: Tensor
    gate_and_up: Linear
    down: Linear


class LeanNetwork:
    """The weights of a known architecture, and their forward pass."""

    def __init__(
        self, architecture: Architecture, weights: Weights, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Read the weights.

        Raises:
            LookupError: a tensor is missing or has another shape.
        """
        shape = architecture
        make = partial(make_linear, twice=shape.parameters <= SMALL)
        self._epsilon = shape.rms_norm_eps
        self._epsilon_of_rows = torch.tensor(shape.rms_norm_eps)
        self._heads, self._width = shape.num_key_value_heads, shape.head_dim
        self._group = shape.num_attention_heads // shape.num_key_value_heads
        self._scale = shape.head_dim**-0.5
        self._turns = _turns(shape).to(device)
        self._embedding = weights.read("model.embed_tokens.weight", shape.vocab_size, shape.hidden_size)
        self._layers = [_read_layer(shape, weights, f"model.layers.{n}.", make) for n in range(shape.num_hidden_layers)]
        self._norm = weights.read("model.norm.weight", shape.hidden_size)
        head = self._embedding
        if not shape.tie_word_embeddings:
            head = weights.read("lm_head.weight", shape.vocab_size, shape.hidden_size)
        self._head = make(head)

    def __call__(self, ids: Tensor, positions: Tensor, wanted: Tensor | None, batch: ForwardBatch) -> Tensor:
        """Compute the logits, ``[wanted, vocabulary]``, of the ``wanted`` queries, or of all if None."""
        turns = self._turns.index_select(0, positions)
        rows = functional.embedding(ids, self._embedding)
        for number, layer in enumerate(self._layers):
            found = self._attend(number, layer, rows, turns, batch)
            if wanted is not None and number == len(self._layers) - 1:
                found, rows = found.index_select(0, wanted), rows.index_select(0, wanted)
            rows = layer.output.plus(found, rows)
            gate, up = layer.gate_and_up(self._normalise(rows, layer.feed_forward_norm)).chunk(2, 1)
            rows = layer.down.plus(functional.silu(gate).mul_(up), rows)
        return self._head(self._normalise(rows, self._norm))

    def _attend(self, number: int, layer: _Layer, rows: Tensor, turns: Tensor, batch: ForwardBatch) -> Tensor:
        """Return what the queries of a layer read, ``[queries, group * heads * width]``."""
        heads, width, queries = self._heads, self._width, self._group * self._heads
        made = layer.projection(self._normalise(rows, layer.attention_norm)).view(-1, queries + 2 * heads, width)
        rotated = made[:, : queries + heads]
        if layer.head_norms is not None:
            torch.mul(functional.rms_norm(rotated, (width,), None, self._epsilon), layer.head_norms, out=rotated)
        # For float32 this changes `made` in place; other types have no complex numbers on every device.
        exact = rotated.float()
        torch.view_as_complex(exact.view(-1, queries + heads, width // 2, 2)).mul_(turns)
        if exact is not rotated:
            rotated.copy_(exact)
        batch.write(number, made[:, queries:].view(-1, 2, heads, width))
        query = made[:, :queries].view(-1, self._group, heads, width)
        return batch.attend(number, query, scale=self._scale).reshape(-1, queries * width)

    def _normalise(self, rows: Tensor, weight: Tensor) -> Tensor:
        if rows.dtype != torch.float32 or rows.device.type != "cpu":
            return functional.rms_norm(rows, weight.shape, weight, self._epsilon)
        # On CPUs `rms_norm` runs more than twice as many operations.
        length = _length(rows, dim=-1, keepdim=True)
        scale = torch.addcmul(self._epsilon_of_rows, length, length, value=1 / rows.shape[1]).rsqrt_()
        return (rows * scale).mul_(weight)


def open_network(
    directory: Path, architecture: Architecture, *, device: torch.device, dtype: torch.dtype
) -> LeanNetwork | None:
    """Read the network in ``directory``; None if its files are not as expected, so that transformers says why."""
    try:
        return LeanNetwork(architecture, Weights(directory, device=device, dtype=dtype), device=device, dtype=dtype)
    except (LookupError, OSError, ValueError, SafetensorError):
        return None


def _turns(shape: Architecture) -> Tensor:
    """Compute by how much each pair of a head has turned at each position, ``[positions, 1, width / 2]``, complex."""
    angles = torch.arange(shape.context, dtype=torch.float32).unsqueeze(1) * frequencies(shape.rotary, shape.head_dim)
    return torch.complex(angles.cos(), angles.sin()).unsqueeze(1)


def frequencies(rotary: Rotary, width: int) -> Tensor:
    """Compute the angle, ``[width / 2]``, by which each pair of a head turns from one position to the next."""
    plain = 1.0 / rotary.rope_theta ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
    if rotary.rope_type == "default":
        return plain
    if rotary.rope_type == "linear":
        return plain / rotary.factor
    # Llama 3: pairs that turn often within the original context stay, those that turn seldom are slowed down by
    # `factor`, and between the two limits one passes smoothly into the other.
    low, high, turns = (
        rotary.low_freq_factor,
        rotary.high_freq_factor,
        rotary.original_max_position_embeddings * plain / (2 * math.pi),
    )
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - kept) * plain / rotary.factor + kept * plain


def _read_layer(shape: Architecture, weights: Weights, name: str, make: Callable[..., Linear]) -> _Layer:
    heads, width, hidden, inner = shape.num_key_value_heads, shape.head_dim, shape.hidden_size, shape.intermediate_size
    queries = shape.num_attention_heads
    group = queries // heads

    def linear(part: str, rows: int, columns: int, *, bias: bool) -> tuple[Tensor, Tensor | None]:
        weight = weights.read(f"{name}{part}.weight", rows, columns)
        return weight, weights.read(f"{name}{part}.bias", rows) if bias else None

    def ordered(part: str, count: int) -> tuple[Tensor, Tensor | None]:
        found = linear(f"self_attn.{part}", count * width, hidden, bias=shape.query_bias)
        weight, bias = (
            None if each is None else order_rows(each, heads, width, rotates=part != "v_proj") for each in found
        )
        assert weight is not None
        return weight, bias

    output, output_bias = linear("self_attn.o_proj", hidden, queries * width, bias=shape.output_bias)
    output = output.view(hidden, heads, group, width).transpose(1, 2).reshape(hidden, -1)
    head_norms = None
    if shape.normed_heads:
        norms = [(part, weights.read(f"{name}self_attn.{part}_norm.weight", width)) for part in "qk"]
        pairs = [
            order_rows(norm, 1, width, rotates=True).expand(queries if part == "q" else heads, -1)
            for part, norm in norms
        ]
        head_norms = torch.cat(pairs)
    bias = shape.feed_forward_bias
    return _Layer(
        attention_norm=weights.read(f"{name}input_layernorm.weight", hidden),
        projection=make(*_join(ordered("q_proj", queries), ordered("k_proj", heads), ordered("v_proj", heads))),
        head_norms=head_norms,
        output=make(output, output_bias),
        feed_forward_norm=weights.read(f"{name}post_attention_layernorm.weight", hidden),
        gate_and_up=make(*_join(*(linear(f"mlp.{part}_proj", inner, hidden, bias=bias) for part in ("gate", "up")))),
        down=make(*linear("mlp.down_proj", hidden, inner, bias=bias)),
    )


def _join(*parts: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor | None]:
    """Join projections of the same activations into one."""
    biases = [bias for _, bias in parts if bias is not None]
    return torch.cat([weight for weight, _ in parts]), torch.cat(biases) if biases else None


def order_rows(rows: Tensor, heads: int, width: int, *, rotates: bool) -> Tensor:
    """Order the rows of a projection by group, key head and, if the heads rotate, pairs."""
    parts = rows.view(heads, -1, *((2, width // 2) if rotates else (width, 1)), *rows.shape[1:])
    return parts.transpose(0, 1).transpose(2, 3).reshape(rows.shape)
