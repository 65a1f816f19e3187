"""Sampling the next token of every sequence of a step.

Each sequence draws with its own random numbers, one per token, by inverting its cumulative probabilities. So its tokens
depend on its logits and its seed only, never on what else runs in the same step.
"""

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any, cast

import torch
from torch import Tensor

from sprint_agents.engine import Sampling, TokenLogprob

from .grammar import Grammar

_GREEDY = 1e-5
"""Temperatures below this count as 0, because dividing logits by them would overflow."""


class Sampler:
    """The sampling settings of one sequence, its random numbers and its counts, after the tokens ``written`` so far."""

    __slots__ = ("_random", "adjusts", "counts", "greedy", "sampling")

    def __init__(self, sampling: Sampling, *, written: Sequence[int] = ()) -> None:
        self.sampling = sampling
        self.greedy = sampling.temperature < _GREEDY or sampling.top_k == 1
        penalties = sampling.presence_penalty, sampling.frequency_penalty, sampling.repetition_penalty - 1
        self.counts = Counter(written) if any(penalties) else None
        """How often each token has occurred; None if no penalty depends on it."""
        self.adjusts = self.counts is not None or bool(sampling.logit_bias)
        self._random = Random(sampling.seed)  # noqa: S311 - not a secret; the same in all versions of Python
        if sampling.seed is not None:
            for _ in written:
                self._random.random()

    def uniform(self) -> float:
        """Draw a random number in [0, 1)."""
        return self._random.random()

    def adjust(self, logits: Tensor) -> None:
        """Apply the penalties and the bias to ``logits``, ``[vocabulary]``, in place."""
        sampling = self.sampling
        if self.counts:
            seen = torch.tensor([*self.counts], device=logits.device)
            times = torch.tensor([*self.counts.values()], dtype=logits.dtype, device=logits.device)
            found, factor = logits[seen], sampling.repetition_penalty
            found = torch.where(found > 0, found / factor, found * factor)
            logits[seen] = found - sampling.presence_penalty - sampling.frequency_penalty * times
        if sampling.logit_bias:
            biased = torch.tensor([*sampling.logit_bias], device=logits.device)
            logits[biased] += torch.tensor([*sampling.logit_bias.values()], dtype=logits.dtype, device=logits.device)


Drawn = tuple[int, tuple[TokenLogprob, ...]]
"""A token with its log-probability, if its sequence asks for that."""


def draw(logits: Tensor, sequences: Sequence[tuple[Sampler, Grammar | None]]) -> list[Drawn]:
    """Draw one token for each row of ``logits``, ``[sequences, vocabulary]``, that its grammar allows.

    The log-probabilities are of the logits as the model computed them. The logits are changed in place.
    """
    samplers = [sampler for sampler, _ in sequences]
    asking = [row for row, sampler in enumerate(samplers) if sampler.sampling.logprobs is not None]
    distributions = torch.log_softmax(logits[asking].float(), -1) if asking else None
    for row, (sampler, grammar) in enumerate(sequences):
        if sampler.adjusts:
            sampler.adjust(logits[row])
        if grammar is not None:
            grammar.restrict(logits[row])
    tokens = sample(logits, samplers)
    logprobs: dict[int, tuple[TokenLogprob, ...]] = {}
    if distributions is not None:
        drawn = _logprobs(distributions, [(tokens[row], samplers[row].sampling.logprobs or 0) for row in asking])
        logprobs = {row: (each,) for row, each in zip(asking, drawn, strict=True)}
    for token, sampler in zip(tokens, samplers, strict=True):
        if sampler.counts is not None:
            sampler.counts[token] += 1
    return [(token, logprobs.get(row, ())) for row, token in enumerate(tokens)]


def _logprobs(distributions: Tensor, drawn: Sequence[tuple[int, int]]) -> list[TokenLogprob]:
    """Read the token drawn from each row, and as many of the most likely ones as it asks for."""
    most = max(count for _, count in drawn)
    own = distributions.gather(-1, torch.tensor([[token] for token, _ in drawn], device=distributions.device))
    top = distributions.topk(min(most, distributions.shape[-1]), dim=-1)
    rows = zip(drawn, _to_list(own.squeeze(-1)), _to_list(top.indices), _to_list(top.values), strict=True)
    return [
        TokenLogprob(token, value, tuple(zip(ids[:count], values[:count], strict=True)))
        for (token, count), value, ids, values in rows
    ]


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
    if any(each.top_k is not None or each.top_p < 1 or each.min_p > 0 for each in sampling):
        probabilities = _filter(probabilities, sampling)
    # Example: probabilities 0.5, 0.2, 0 and 0.3 cumulate to 0.5, 0.7, 0.7 and 1. The random number 0.6 falls below
    # 0.7 first at token 1. Token 2 was filtered out: it adds nothing, so no number can select it.
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    uniform = torch.tensor([[sampler.uniform()] for sampler in samplers], dtype=torch.float64, device=logits.device)
    found = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    return _to_list(found.squeeze(-1).clamp_(max=logits.shape[-1] - 1))


def _filter(probabilities: Tensor, sampling: Sequence[Sampling]) -> Tensor:
    """Set to 0 the tokens outside ``top_k``, then those not needed to reach ``top_p``, then those below ``min_p``."""
    size = probabilities.shape[-1]
    device = probabilities.device
    top_k = torch.tensor([each.top_k or size for each in sampling], device=device)[:, None]
    top_p = torch.tensor([each.top_p for each in sampling], device=device)[:, None]
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    ordered = ordered.masked_fill(torch.arange(size, device=device) >= top_k, 0)
    above = ordered.cumsum(-1) - ordered
    ordered = ordered.masked_fill(above >= top_p * ordered.sum(-1, keepdim=True), 0)
    min_p = torch.tensor([each.min_p for each in sampling], device=device)[:, None]
    ordered = ordered.masked_fill(ordered < min_p * ordered[:, :1], 0)
    return torch.zeros_like(probabilities).scatter_(-1, order, ordered)


def _to_list(tokens: Tensor) -> list[Any]:
    return cast("list[Any]", tokens.tolist())  # pyright: ignore[reportUnknownMemberType]
