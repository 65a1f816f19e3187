"""Rollouts as a Hugging Face data set, one row for each branch."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from sprint_agents.errors import MissingExtra
from sprint_agents.rollouts import Rollout

if TYPE_CHECKING:
    from datasets import Dataset  # pyright: ignore[reportMissingTypeStubs]


def to_dataset(rollouts: Iterable[Rollout]) -> "Dataset":
    """Return the branches as rows that TRL reads as tokenized: ``input_ids`` and ``completion_mask``.

    ``logprobs`` is aligned with ``input_ids``, and null if the engine returned none. ``reward`` is 1 or 0 if the answer
    was checked, and otherwise null. Each row repeats what belongs to its run: ``run``, ``task``, ``answer``, ``error``
    and ``sequential_tokens``, the strict count.

    Raises:
        MissingExtra: datasets is not installed.
    """
    try:
        from datasets import Dataset, Features, List, Value  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        raise MissingExtra("finetune", "datasets") from error
    features = Features(
        {
            "run": Value("string"),
            "task": Value("string"),
            "role": Value("string"),
            "stage": Value("int32"),
            "number": Value("int32"),
            "input_ids": List(Value("int64")),
            "completion_mask": List(Value("int8")),
            "logprobs": List(Value("float32")),
            "text": Value("string"),
            "answer": Value("string"),
            "reward": Value("float32"),
            "error": Value("string"),
            "sequential_tokens": Value("int64"),
        }
    )
    rows = list(_rows(rollouts))
    return Dataset.from_list(rows, features=features)  # pyright: ignore[reportUnknownMemberType]


def _rows(rollouts: Iterable[Rollout]) -> Iterator[dict[str, Any]]:
    for rollout in rollouts:
        for branch in rollout.branches:
            yield {
                "run": rollout.run_id,
                "task": rollout.task,
                "role": branch.role,
                "stage": branch.stage,
                "number": branch.number,
                "input_ids": branch.ids,
                "completion_mask": [int(sampled) for sampled in branch.mask],
                "logprobs": branch.logprobs,
                "text": branch.text,
                "answer": rollout.answer,
                "reward": None if rollout.verified is None else float(rollout.verified),
                "error": None if rollout.error is None else rollout.error.type,
                "sequential_tokens": rollout.usage.sequential_tokens_strict,
            }
