"""Training samples: each sees exactly the token ids that the model sees in a run (DESIGN: training equals inference).

A sample is one path of a trajectory. The planner's requests lie on one path, since each context continues
the one before; an executor's path leaves it at the end of its prompt and never meets a sibling.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from transformers import PreTrainedTokenizerBase

from .problems import problems
from .traces import Call, chain, executors, planner

IGNORED = -100
"""The label of a token that the model reads but does not learn."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Token ids and labels of one path, both of shape (tokens,)."""

    ids: list[int]
    labels: list[int]


def encode(call: Call, tokenizer: PreTrainedTokenizerBase) -> Sample:
    """Encode a call piece by piece, as the runtime does; only learned pieces have labels."""
    encoded: list[list[int]] = tokenizer([piece.text for piece in call.pieces], add_special_tokens=False)["input_ids"]
    ids = list(itertools.chain.from_iterable(encoded))
    labels = [
        token if piece.learned else IGNORED
        for piece, tokens in zip(call.pieces, encoded, strict=True)
        for token in tokens
    ]
    return Sample(ids, labels)


Mix = Literal["chains", "roles"]
"""What a batch holds: sequential chains alone, or the calls of both modes."""

_PLANNERS_OF_FOUR = 0.35
_EXECUTORS = 4


def calls_of_problem(rng: random.Random, *, seed: str, mix: Mix) -> list[Call]:
    """Take some calls of one training problem; long contexts with little to learn less often."""
    counts = (3, 4, 4, 4) if mix == "chains" else (3, 4)
    task, stages = next(problems(seed=seed, split="train", counts=counts, unsolvable=0.05))
    if mix == "chains":
        return [chain(task, stages)]
    calls: list[Call] = []
    short = len(task.numbers) == 3
    if short or rng.random() < 0.5:
        calls.append(chain(task, stages))
    path = planner(task, stages)
    calls.append(path if short or rng.random() < _PLANNERS_OF_FOUR else first_plan(path))
    every = list(executors(task, stages))
    found = [call for call in every if call.found]
    calls += rng.sample(found, k=min(1, len(found)))
    # Executors of a second stage read a long context: only one of them.
    first = len(stages[0])
    calls += rng.sample(every[:first], k=min(_EXECUTORS, first))
    calls += rng.sample(every[first:], k=min(_EXECUTORS if short else 1, len(every) - first))
    return calls


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
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Make the micro-batches (ids, labels) of one optimiser step, each of shape (samples, tokens).

    They are a function of seed and step alone.
    """
    samples: list[Sample] = []
    for index in range(problems_per_step):
        key = f"{seed}:{step}:{index}"
        samples += [encode(call, tokenizer) for call in calls_of_problem(random.Random(key), seed=key, mix=mix)]
    samples.sort(key=lambda sample: len(sample.ids))
    while samples:
        widest = len(samples[-1].ids)
        rows = [samples.pop()]
        # Rows of like length: padding is work for nothing.
        while samples and 2 * len(samples[-1].ids) > widest and (len(rows) + 1) * widest <= tokens_per_batch:
            rows.append(samples.pop())
        yield _pad([row.ids for row in rows], 0), _pad([row.labels for row in rows], IGNORED)


def _pad(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])
