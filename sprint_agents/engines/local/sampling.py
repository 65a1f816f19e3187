"""Drawing the next token of every branch of a step.

A branch draws by its own random numbers, one per token, from the inverse of its cumulated probabilities: what it
gets depends on its logits and its seed, never on what runs beside it.
"""

from collections.abc import Sequence
from random import Random
from typing import cast

import torch
from torch import Tensor

from sprint_agents.engine import Sampling

_GREEDY = 1e-5
"""Temperatures below this are 0: dividing by them would overflow."""


class Draw:
    """How one branch draws its tokens, and the state of its random numbers."""

    __slots__ = ("_random", "greedy", "sampling")

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self.greedy = sampling.temperature < _GREEDY or sampling.top_k == 1
        self._random = Random(sampling.seed)  # noqa: S311 - no secret; stable over versions of Python

    def uniform(self) -> float:
        """Draw a random number in [0, 1)."""
        return self._random.random()


def draw(logits: Tensor, branches: Sequence[Draw]) -> list[int]:
    """Draw one token for each row of ``logits``, ``[branches, vocabulary]``."""
    tokens = _to_list(logits.argmax(-1))
    random = [row for row, branch in enumerate(branches) if not branch.greedy]
    if random:
        chosen = [branches[row] for row in random]
        for row, token in zip(random, _draw(logits[random], chosen), strict=True):
            tokens[row] = token
    return tokens


def _draw(logits: Tensor, branches: Sequence[Draw]) -> list[int]:
    sampling = [branch.sampling for branch in branches]
    temperature = torch.tensor([each.temperature for each in sampling], device=logits.device)
    probabilities = torch.softmax(logits.float() / temperature[:, None], -1)
    if any(each.top_k is not None or each.top_p < 1 for each in sampling):
        probabilities = _filter(probabilities, sampling)
    cumulated = probabilities.cumsum(-1, dtype=torch.float64)
    uniform = torch.tensor([[branch.uniform()] for branch in branches], dtype=torch.float64, device=logits.device)
    # The first token whose cumulated probability is above the drawn number; excluded ones add nothing.
    found = torch.searchsorted(cumulated, uniform * cumulated[:, -1:], right=True)
    return _to_list(found.squeeze(-1).clamp_(max=logits.shape[-1] - 1))


def _filter(probabilities: Tensor, sampling: Sequence[Sampling]) -> Tensor:
    """Set to 0 what is not among the ``top_k``, then what the likelier tokens' ``top_p`` does not need."""
    size = probabilities.shape[-1]
    device = probabilities.device
    top_k = torch.tensor([each.top_k or size for each in sampling], device=device)[:, None]
    top_p = torch.tensor([each.top_p for each in sampling], device=device)[:, None]
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    ordered = ordered.masked_fill(torch.arange(size, device=device) >= top_k, 0)
    above = ordered.cumsum(-1) - ordered
    ordered = ordered.masked_fill(above >= top_p * ordered.sum(-1, keepdim=True), 0)
    return torch.zeros_like(probabilities).scatter_(-1, order, ordered)


def _to_list(tokens: Tensor) -> list[int]:
    return cast("list[int]", tokens.tolist())  # pyright: ignore[reportUnknownMemberType]
