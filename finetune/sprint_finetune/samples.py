"""Training samples: each sees exactly the token ids that the model sees in a run (DESIGN: training equals inference).

A sample is one path of a trajectory. The planner's requests lie on one path, since each context continues
the one before; an executor's path leaves it at the end of its prompt and never meets a sibling.
"""

import itertools
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from transformers import PreTrainedTokenizerBase

from sprint_agents.tasks import Countdown

from . import arithmetic, multiplication
from .problems import Family, problems, solved
from .traces import Call, Solved, chain, executors, planner


@dataclass(frozen=True, slots=True)
class Sample:
    """Token ids of one path, and how much each of them counts in training, both of shape (tokens,)."""

    ids: list[int]
    learned: list[float]


def encode(call: Call, tokenizer: PreTrainedTokenizerBase) -> Sample:
    """Encode a call piece by piece, as the runtime does; each token is learned as its piece is."""
    encoded: list[list[int]] = tokenizer([piece.text for piece in call.pieces], add_special_tokens=False)["input_ids"]
    ids = list(itertools.chain.from_iterable(encoded))
    return Sample(ids, [piece.learned for piece, tokens in zip(call.pieces, encoded, strict=True) for _ in tokens])


Mix = Literal["chains", "roles"]
"""What a problem is told as: one sequential chain, or the calls of both modes."""

_COUNTS = (3, 4, 4)
_UNSOLVABLE = 0.05
_SLIPS = 0.05
_CHAINS = 0.2
_REHEARSAL = 0.2
_EXECUTORS = 3
_LATER_EXECUTORS = 0.4
_TWO_STAGES = 0.25
_PAIRS = 0.35
_MOST_STAGES = 3
_LONG = 2

_PAIR_OF_PAIRS = re.compile(r"\).\(")

_WORKED_OUT = {"arithmetic": arithmetic.problems, "multiplication": multiplication.problems}


def calls_of_problem(rng: random.Random, *, seed: str, mix: Mix, family: Family = "countdown") -> list[Call]:
    """Take some calls of one training problem, which is the same for every ``mix``.

    Executors of later stages are taken less often: long contexts with little to learn.
    """
    if family == "countdown":
        stages = 2 if rng.random() < _TWO_STAGES else 1
        drawn = _searches(rng, seed=seed, counts=_COUNTS, unsolvable=_UNSOLVABLE)
        work = next(work for _, work in drawn if len(work.stages) >= stages)
    else:
        work = next(_WORKED_OUT[family](seed=seed, split="train", slips=_SLIPS))
    if mix == "chains":
        return [chain(work)]
    calls = [planner(work, rehearsal=_REHEARSAL)]
    if rng.random() < _CHAINS:
        calls.append(chain(work))
    every = list(executors(work))
    found = [call for call in every if call.found]
    calls += rng.sample(found, k=min(1, len(found)))
    first = len(work.stages[0].subtasks)
    calls += rng.sample(every[:first], k=min(_EXECUTORS, first))
    if every[first:] and rng.random() < _LATER_EXECUTORS:
        calls.append(rng.choice(every[first:]))
    return calls


def _searches(
    rng: random.Random, *, seed: str, counts: Sequence[int], unsolvable: float = 0.0
) -> Iterator[tuple[Countdown, Solved]]:
    """Draw training problems with their searches; of ``_PAIRS`` the answer is a pair of pairs, the hardest to copy."""
    pairs = rng.random() < _PAIRS
    for task, searched in problems(seed=seed, split="train", counts=counts, unsolvable=unsolvable):
        work = solved(task, searched)
        if not pairs or _PAIR_OF_PAIRS.search(work.answer):
            yield task, work


def drills(rng: random.Random, *, seed: str, family: Family) -> list[Call]:
    """Take calls of further problems, with what is the hardest to learn in each family.

    Of the worked-out ones that is planning, which copies the problem piece by piece; of a search the verdicts.
    """
    if family == "countdown":
        return _verdicts(rng, seed=seed)
    drawn = _WORKED_OUT[family](seed=f"drills:{seed}", split="train")
    if family == "multiplication":
        return [first_plan(planner(next(drawn)))]
    long = (work for work in drawn if len(work.stages) == _MOST_STAGES)
    return [planner(work, rehearsal=_REHEARSAL) for work in itertools.islice(long, _LONG)]


def _verdicts(rng: random.Random, *, seed: str) -> list[Call]:
    """Take two executors of one search, for its verdicts: of four numbers two that meet the target, of three only one.

    In whole traces one verdict in twenty is a yes, and a model that always says no has learned nearly all of them.
    """
    task, work = next(_searches(rng, seed=f"verdicts:{seed}", counts=(3, 4)))
    every = list(executors(work))
    wanted = (True, len(task.numbers) == 4)
    return [rng.choice([call for call in every if call.found is found] or every) for found in wanted]


def first_plan(path: Call) -> Call:
    """Cut a planner's path after its first plan, which is much to learn from a short context."""
    end = next(index for index, piece in enumerate(path.pieces) if piece.learned)
    return Call(path.role, path.pieces[: end + 1])


def batches(
    tokenizer: PreTrainedTokenizerBase,
    *,
    seed: int,
    step: int,
    problems_per_step: int,
    tokens_per_batch: int,
    mix: Mix,
    families: Mapping[Family, float] = MappingProxyType({"countdown": 1.0}),
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Make the micro-batches (ids, learned) of one optimiser step, each of shape (samples, tokens).

    Each problem is of one of ``families``, drawn by its weight. They are a function of the arguments alone.
    """
    samples: list[Sample] = []
    for index in range(problems_per_step):
        key = f"{seed}:{step}:{index}"
        (family,) = random.Random(f"{key}:family").choices(list(families), weights=list(families.values()))
        calls = calls_of_problem(random.Random(key), seed=key, mix=mix, family=family)
        if mix == "roles":
            calls += drills(random.Random(f"{key}:drills"), seed=key, family=family)
        samples += [encode(call, tokenizer) for call in calls]
    samples.sort(key=lambda sample: len(sample.ids))
    while samples:
        widest = len(samples[-1].ids)
        rows = [samples.pop()]
        # Rows of like length: padding is work for nothing.
        while samples and 2 * len(samples[-1].ids) > widest and (len(rows) + 1) * widest <= tokens_per_batch:
            rows.append(samples.pop())
        yield _pad([row.ids for row in rows]), _pad([row.learned for row in rows])


def _pad(rows: Sequence[Sequence[float]]) -> torch.Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
