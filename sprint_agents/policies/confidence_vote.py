"""DeepConf (arXiv 2508.15260): a vote in which each attempt weighs as much as its model was sure of it."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from math import ceil
from typing import Any

from sprint_agents.arguments import at_least, at_most_one
from sprint_agents.confidence import LEAST_ALTERNATIVES, ConfidenceBound, lowest_confidence
from sprint_agents.errors import ConfigurationError
from sprint_agents.plan import Answer, Execution, Stage, Step

from .combinators import no_answer
from .policy import Planning, Policy, factory
from .self_consistency import heaviest
from .sequential import sequential


@factory
def confidence_vote(
    samples: int = 8,
    *,
    keep: float = 0.9,
    warmup: int | None = None,
    consensus: float = 0.95,
    window: int = 128,
    alternatives: int = 5,
    policy: Policy = sequential,
) -> Policy:
    """Make a policy that runs ``policy`` on the task ``samples`` times at once and votes by confidence.

    The confidence of an attempt is that of its weakest ``window`` tokens, from the log-probabilities of so many
    ``alternatives`` at each (``sprint_agents.confidence``). The attempts that give an answer are ordered by it: the
    share ``keep`` of them votes, and each vote weighs as much as its confidence.

    With ``warmup``, so many attempts come first. If at least a share ``consensus`` of their votes agrees, that is the
    answer. Otherwise the other attempts follow, and each is aborted as soon as it is less confident than the least
    confident one that may vote.

    The engine needs ``Capabilities.logprobs``. The attempts differ only at a temperature above 0.
    """
    at_least(1, samples=samples, warmup=warmup, window=window)
    at_least(LEAST_ALTERNATIVES, alternatives=alternatives)
    at_most_one(keep=keep, consensus=consensus)
    first = samples if warmup is None else warmup
    if first > samples:
        raise ConfigurationError(f"warmup= is {warmup}, and there are {samples} samples in all: make it smaller")

    async def vote(planning: Planning) -> AsyncGenerator[Step, Stage]:
        stage = yield planning.attempt(*[policy] * first, logprobs=alternatives)
        tried = [*stage.executions]
        voters = _most_confident(tried, keep, window)
        if voters and first < samples:
            least = min(weight for _, weight in voters)
            answer, share = _vote(voters)
            if share >= consensus:
                yield Answer(value=answer)
                return
            bound = ConfidenceBound(least=least, window=window)
            stage = yield planning.attempt(*[policy] * (samples - first), logprobs=alternatives, bound=bound)
            voters += [voter for voter in _most_confident(stage.executions, 1.0, window) if voter[1] >= least]
        elif first < samples:
            stage = yield planning.attempt(*[policy] * (samples - first), logprobs=alternatives)
            tried += stage.executions
            voters = _most_confident(stage.executions, keep, window)
        if not voters:
            raise no_answer(tried)
        yield Answer(value=_vote(voters)[0])

    return vote


_Voter = tuple[Execution[Any], float]


def _most_confident(attempts: Sequence[Execution[Any]], keep: float, window: int) -> list[_Voter]:
    """Return the share ``keep`` of the attempts with an answer that are the most confident, in order, by confidence."""
    found = [(attempt, confidence_of(attempt, window=window)) for attempt in attempts if attempt.succeeded]
    kept = sorted(range(len(found)), key=lambda index: -found[index][1])[: ceil(keep * len(found))]
    return [found[index] for index in sorted(kept)]


def _vote(voters: Sequence[_Voter]) -> tuple[object, float]:
    weights = [weight for _, weight in voters]
    # Where no model wrote anything, such as in a policy that answers by a function, the votes are equal.
    return heaviest([attempt for attempt, _ in voters], weights if any(weights) else [1.0] * len(weights))


def confidence_of(execution: Execution[Any], *, window: int = 128) -> float:
    """Return the confidence of the weakest ``window`` tokens that models wrote for an execution, or an attempt.

    Each completion is looked at alone. 0 if none has log-probabilities with alternatives.
    """
    return min(_confidences(execution, window), default=0.0)


def _confidences(execution: Execution[Any], window: int) -> Iterator[float]:
    parts = [execution.logprobs, *(stage.logprobs for stage in execution.stages)]
    found = [lowest_confidence(part, window=window) for part in parts]
    yield from [confidence for confidence in found if confidence is not None]
    for stage in execution.stages:
        for inner in stage.executions:
            yield from _confidences(inner, window)
