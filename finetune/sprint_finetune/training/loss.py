"""The loss of a batch of flattened tries, on any causal model of transformers.

The logits of a large vocabulary need more memory than the rest of a model's activations: 12,000 tokens times 152,064
words are 7 GiB in float32, and autograd keeps several copies. With a ``head``, ``edge_loss`` has those of ``chunk``
tokens at a time. With the loss of a chunk it computes the chunk's gradients, and overwrites the logits with them, as
Liger's fused kernel does, so nothing is computed twice. The head is called inside the model's own forward pass, so
wrappers that gather its weights (DDP, FSDP, ZeRO-3) work as usual.
"""

# pyright: reportUnknownMemberType=false
# The annotations of torch are partial.

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel

from sprint_agents.errors import ConfigurationError

from .collation import Batch
from .masks import attention_masks

CHUNK = 512
"""Number of tokens whose logits are in memory at the same time: 300 MiB in float32 for 152,064 words."""

_VOCABULARY_PART = 16_384  # the gradient of the head's weights is summed in parts of this many words


def edge_loss(
    model: Callable[..., Any],
    batch: Batch,
    *,
    config: PreTrainedConfig,
    head: nn.Linear | None = None,
    chunk: int = CHUNK,
    kind: Literal["chunks", "liger"] = "chunks",
) -> Tensor:
    """Sum ``-weight * log p(target)`` over all edges of the batch.

    Logits are computed only at tokens where an edge starts, and with ``head`` (see ``plain_head``) only ``chunk`` of
    them at a time. ``model`` may be wrapped (for several devices, or with adapters). ``config`` is that of the wrapped
    model. ``kind="liger"`` computes the loss with liger-kernel, which needs a ``head`` and weights of 1.

    Raises:
        ConfigurationError: liger-kernel cannot compute this model's logits.
    """
    if kind == "liger" and head is None:
        raise ConfigurationError(
            f'the logits of {config.model_type} are not the output of its last layer, so loss = "liger" cannot compute '
            'them: use loss = "chunks"'
        )
    arguments = {"input_ids": batch["input_ids"], "use_cache": False, **attention_arguments(batch, config)}
    if head is not None:
        with _computing_loss(head, _Edges.of(batch, chunk=chunk), kind):
            return model(**arguments).logits
    # A model accepts one list of positions for all rows, so take the union of the rows' parents.
    kept, places = _unique(batch["parents"])
    logits: Tensor = model(**arguments, logits_to_keep=kept).logits
    # Several edges share the logits of a branching token: gather numbers, not copies of a vocabulary-sized row.
    totals = logits.float().logsumexp(-1).gather(1, places)
    rows = torch.arange(len(places), device=places.device)[:, None]
    chosen = logits[rows, places, batch["targets"]].float()
    return ((totals - chosen) * batch["weights"]).sum()


def plain_head(model: Callable[..., Any], unwrapped: PreTrainedModel) -> nn.Linear | None:
    """Return the output layer of a model if the model's logits are that layer's output, else None.

    Some models scale or cap their logits, and some adapters replace the layer. One forward pass with a known output of
    the layer shows it, without dropout, so that no random number is drawn. ``model`` is ``unwrapped`` or its wrapper.
    """
    head = cast("nn.Module | None", unwrapped.get_output_embeddings())
    if type(head) is not nn.Linear:  # a subclass may compute something else
        return None

    def replaced(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        # Whole numbers up to 60 are exact in every type, also where a wrapper turns half precision into float32.
        return (torch.arange(output.shape[-1]) % 121 - 60).to(output).expand_as(output)

    hook, training = head.register_forward_hook(replaced), unwrapped.training
    unwrapped.eval()
    try:
        with torch.no_grad(), _not_compiled(unwrapped.config):
            ids = torch.zeros(1, 2, dtype=torch.long, device=unwrapped.device)
            logits: Tensor = model(input_ids=ids, use_cache=False).logits
    finally:
        hook.remove()
        unwrapped.train(training)
    return head if torch.equal(logits, replaced(head, None, logits)) else None


@contextmanager
def _not_compiled(config: PreTrainedConfig) -> Generator[None]:
    """Use SDPA instead of flex attention, which would be compiled for a pass of two tokens alone."""
    settings: Any = config
    used = settings._attn_implementation
    if used == "flex_attention":
        settings._attn_implementation = "sdpa"
    try:
        yield
    finally:
        settings._attn_implementation = used


def attention_arguments(batch: Batch, config: PreTrainedConfig) -> dict[str, Any]:
    """Return the model's arguments for what each token sees, or none if that is ordinary causal attention."""
    if "ends" not in batch:
        return {}
    positions = batch["positions"]
    return {
        "position_ids": positions,
        "attention_mask": attention_masks(config, batch["ends"], positions=positions),
    }


@dataclass(frozen=True, slots=True)
class _Edges:
    """The learned edges of a batch in the order of their parents, and where each chunk of parents begins.

    ``parents`` are distinct places in the flattened batch (row * tokens + token), in order. Edge ``e`` starts at
    ``parents[origins[e]]``. The edges of the parents ``chunk * n`` to ``chunk * (n + 1)`` are ``bounds[n]`` to
    ``bounds[n + 1]``.
    """

    parents: Tensor
    origins: Tensor
    targets: Tensor
    weights: Tensor
    bounds: list[int]
    chunk: int

    @classmethod
    def of(cls, batch: Batch, *, chunk: int) -> "_Edges":
        rows, places = batch["weights"].nonzero(as_tuple=True)
        found, inverse = _unique(batch["parents"][rows, places] + rows * batch["input_ids"].shape[1])
        origins, order = inverse.sort(stable=True)
        rows, places = rows[order], places[order]
        starts = torch.arange(0, len(found) + chunk, chunk, device=found.device)
        bounds = cast(list[int], torch.searchsorted(origins, starts).tolist())
        return cls(found, origins, batch["targets"][rows, places], batch["weights"][rows, places], bounds, chunk)


@contextmanager
def _computing_loss(head: nn.Linear, edges: _Edges, kind: Literal["chunks", "liger"]) -> Generator[None]:
    """Let ``head`` return the loss of ``edges`` instead of logits, inside this block."""

    def loss_of(hidden: Tensor) -> Tensor:
        states = hidden.flatten(0, 1)[edges.parents]
        if kind == "liger":
            return _liger_loss(states[edges.origins], head, edges.targets)
        return cast(Any, _ChunkedLoss).apply(states, head.weight, head.bias, edges)

    module: Any = head
    module.forward = loss_of
    try:
        yield
    finally:
        del module.forward  # the method of the class is visible again


def _liger_loss(states: Tensor, head: nn.Linear, targets: Tensor) -> Tensor:
    """Sum the loss of edges with liger-kernel, from the hidden state at the start of each: of shape (edges, width).

    Source: ``LigerFusedLinearCrossEntropyLoss`` of liger-kernel 0.6. It was never run on a GPU here.
    """
    from liger_kernel import transformers as liger  # pyright: ignore

    device = states.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else head.weight.dtype
    bias = cast("Tensor | None", head.bias)
    fused = cast(Any, liger).LigerFusedLinearCrossEntropyLoss(reduction="sum")
    return fused(head.weight.to(dtype), states.to(dtype), targets, None if bias is None else bias.to(dtype))


class _ChunkedLoss(torch.autograd.Function):
    """The loss of edges, from the hidden states of their parents: of shape (parents, width)."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, edges: _Edges) -> Tensor:
        device = states.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        gradients = [
            torch.zeros_like(value) if value is not None and needed else None
            for value, needed in zip((states, weight, bias), ctx.needs_input_grad, strict=False)
        ]
        loss = torch.zeros((), device=states.device)
        with torch.autocast(device, enabled=False):
            inputs, layer = states.to(dtype), weight.to(dtype)
            for number, start in enumerate(range(0, len(states), edges.chunk)):
                part = slice(start, start + edges.chunk)
                logits = functional.linear(inputs[part], layer, None if bias is None else bias.to(dtype)).float()
                loss += _loss_and_gradient(logits, edges, number)
                if any(gradient is not None for gradient in gradients):
                    _add_gradients(gradients, logits.to(dtype), inputs[part], layer, part)
                del logits  # before the next chunk's are made
        ctx.gradients = gradients
        return loss

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (factor,), gradients = grad_outputs, ctx.gradients
        del ctx.gradients  # they are scaled in place, so a second backward pass must fail
        return *(None if gradient is None else gradient.mul_(factor) for gradient in gradients), None


def _loss_and_gradient(logits: Tensor, edges: _Edges, number: int) -> Tensor:
    """Return the loss of chunk ``number``, and overwrite its logits with their gradient. No copy of them is made.

    With weights ``w`` of the edges that start at a token, the gradient is ``softmax(logits) * sum(w)``, less ``w`` at
    each edge's target.
    """
    of_chunk = slice(edges.bounds[number], edges.bounds[number + 1])
    origins = edges.origins[of_chunk] - number * edges.chunk
    targets, weights = edges.targets[of_chunk], edges.weights[of_chunk].float()
    chosen = logits.sub_(logits.amax(1, keepdim=True))[origins, targets]
    totals = logits.exp_().sum(1)
    loss = ((totals.log()[origins] - chosen) * weights).sum()
    learned = torch.zeros_like(totals).index_add_(0, origins, weights)
    logits.mul_((learned / totals)[:, None]).index_put_((origins, targets), -weights, accumulate=True)
    return loss


def _add_gradients(
    gradients: list[Tensor | None], of_logits: Tensor, inputs: Tensor, layer: Tensor, part: slice
) -> None:
    of_states, of_weight, of_bias = gradients
    if of_states is not None:
        of_states[part] = of_logits @ layer
    if of_weight is not None:
        for start in range(0, len(layer), _VOCABULARY_PART):
            words = slice(start, start + _VOCABULARY_PART)
            of_weight[words] += of_logits[:, words].T @ inputs
    if of_bias is not None:
        of_bias += of_logits.sum(0)


def _unique(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct values, and the index of each value among them."""
    return cast(Any, torch).unique(values, return_inverse=True)
