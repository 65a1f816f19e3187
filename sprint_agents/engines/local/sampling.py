"""Sampling the next token of every sequence of a step.

Each sequence draws with its own random numbers, one per token, by inverting its cumulative probabilities. So its tokens
depend on its logits and its seed only, never on what else runs in the same step.
"""

from collections.abc import Sequence
from random import Random
from typing import cast

import torch
from torch import Tensor

from sprint_agents.engine import Sampling

_GREEDY = 1e-5
"""Temperatures below this count as 0, because dividing logits by them would overflow."""


class Sampler:
    """The sampling settings of one sequence, and its random numbers, after the first ``drawn``."""

    __slots__ = ("_random", "greedy", "sampling")

    def __init__(self, sampling: Sampling, *, drawn: int = 0) -> None:
        self.sampling = sampling
        self.greedy = sampling.temperature < _GREEDY or sampling.top_k == 1
        self._random = Random(sampling.seed)  # noqa: S311 - not a secret; the same in all versions of Python
        if sampling.seed is not None:
            for _ in range(drawn):
                self._random.random()

    def uniform(self) -> float:
        """Draw a random number in [0, 1)."""
        return self._random.random()


def sample(logits: Tensor, samplers: Sequence[Sampler]) -> list[int]:
    """Sample one token for each row of ``logits``, ``[sequences, vocabulary]``."""
    tokens = _to_list(logits.argmax(-1))
    random = [row for row, sampler in enumerate(samplers) if not sampler.greedy]
    if random:
        chosen = [samplers[row] for row in random]
        for row, token in zip(random, _draw(logits[random], chosen), strict=True):
            tokens[row] = token
    return tokens


def _draw(logits: Tensor, samplers: Sequence[Sampler]) -> list[int]:
    sampling = [sampler.sampling for sampler in samplers]
    temperature = torch.tensor([each.temperature for each in sampling], device=logits.device)
    probabilities = torch.softmax(logits.float() / temperature[:, None], -1)
    if any(each.top_k is not None or each.top_p < 1 for each in sampling):
        probabilities = _filter(probabilities, sampling)
    # Example: probabilities 0.5, 0.2, 0 and 0.3 cumulate to 0.5, 0.7, 0.7 and 1. The random number 0.6 falls below
    # 0.7 first at token 1. Token 2 was filtered out: it adds nothing, so no number can select it.
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    uniform = torch.tensor([[sampler.uniform()] for sampler in samplers], dtype=torch.float64, device=logits.device)
    found = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    return _to_list(found.squeeze(-1).clamp_(max=logits.shape[-1] - 1))


def _filter(probabilities: Tensor, sampling: Sequence[Sampling]) -> Tensor:
    """Set to 0 the tokens outside ``top_k``, then those that are not needed to reach ``top_p``."""
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
