"""Compare a vote by confidence (DeepConf) with a plain one, over the same attempts of sprint-nano.

    python benchmarks/confidence.py --problems 100 --seeds 3

Each problem gets ``--samples`` attempts, one chain each, at a temperature at which the model errs. All votes are
counted over these same attempts, so the comparison is paired: a difference is the vote's, not the draw's. A vote with
a warm-up takes half of the attempts for it, and of the others only the tokens before they would have been aborted. The
problems are held out, and their answers are numbers, which can be compared exactly.
"""

import argparse
import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import ceil
from typing import Any

from sprint_agents import Sampling, Sprint
from sprint_agents.confidence import ConfidenceBound, ConfidenceWatch
from sprint_agents.engines import LocalEngine
from sprint_agents.errors import LowConfidence
from sprint_agents.nano import nano_path
from sprint_agents.plan import Answer, Execution, Stage, Step
from sprint_agents.policies import Planning, confidence_of, sequential
from sprint_agents.policies.self_consistency import heaviest
from sprint_finetune.evaluation.intervals import wilson
from sprint_finetune.nano import arithmetic, multiplication

ALTERNATIVES = 5
WINDOWS = (16, 64, 128, 100_000)
SHARES = (0.9, 0.5, 0.25)
Attempt = Execution[Any]


@dataclass
class Count:
    """How many problems a vote had right, and the tokens that its attempts took."""

    right: int = 0
    problems: int = 0
    tokens: int = 0
    differs: list[int] = field(default_factory=lambda: [0, 0])
    """Problems that only this vote had right, and that only the plain one had."""


def drawing(samples: int) -> Callable[[Planning], AsyncGenerator[Step, Stage]]:
    """Make a policy that only draws the attempts."""

    async def draw(planning: Planning) -> AsyncGenerator[Step, Stage]:
        stage = yield planning.attempt(*[sequential] * samples, logprobs=ALTERNATIVES)
        yield Answer(value=str(len(stage.executions)))

    return draw


def vote(attempts: Sequence[Attempt], weights: Sequence[float], keep: float) -> str:
    """Return the answer of the most weight among the share ``keep`` of the attempts with the highest weights."""
    kept = sorted(range(len(attempts)), key=lambda index: -weights[index])[: ceil(keep * len(attempts))]
    kept = sorted(kept)
    if not kept:
        return ""
    return str(heaviest([attempts[index] for index in kept], [weights[index] for index in kept])[0])


def tokens_until(attempt: Attempt, bound: ConfidenceBound) -> int | None:
    """Return how many tokens an attempt had when it would have been aborted; None if it would not."""
    watch, tokens = ConfidenceWatch(bound), attempt.stages[-1].logprobs
    for number, token in enumerate(tokens, 1):
        try:
            watch([token])
        except LowConfidence:
            return number
    return None


def with_warmup(attempts: Sequence[Attempt], keep: float, window: int) -> tuple[str, int]:
    """Return the answer of a vote whose warm-up is the first half of the attempts, and its tokens."""
    half = len(attempts) // 2
    warm = [attempt for attempt in attempts[:half] if attempt.succeeded]
    weights = [confidence_of(attempt, window=window) for attempt in warm]
    spent = sum(attempt.usage.generated_tokens for attempt in attempts[:half])
    if not warm:
        return "", spent
    voters = sorted(weights, reverse=True)[: ceil(keep * len(warm))]
    bound = ConfidenceBound(least=voters[-1], window=window)
    found = [(attempt, weight) for attempt, weight in zip(warm, weights, strict=True) if weight >= bound.least]
    answer, share = heaviest([attempt for attempt, _ in found], [weight for _, weight in found])
    if share >= 0.95:
        return str(answer), spent
    for attempt in attempts[half:]:
        stopped = tokens_until(attempt, bound)
        spent += attempt.usage.generated_tokens if stopped is None else stopped
        if stopped is None and attempt.succeeded:
            weight = confidence_of(attempt, window=window)
            found += [(attempt, weight)] if weight >= bound.least else []
    return str(heaviest([attempt for attempt, _ in found], [weight for _, weight in found])[0]), spent


def votes(attempts: Sequence[Attempt]) -> Iterable[tuple[str, str, int]]:
    """Yield the name, the answer and the tokens of each kind of vote."""
    found = [attempt for attempt in attempts if attempt.succeeded]
    tokens = sum(attempt.usage.generated_tokens for attempt in attempts)
    yield "one attempt", str(attempts[0].value), attempts[0].usage.generated_tokens
    yield "plain", vote(found, [1.0] * len(found), 1.0), tokens
    for window in WINDOWS:
        name = "the whole attempt" if window == WINDOWS[-1] else f"{window} tokens"
        weights = [confidence_of(attempt, window=window) for attempt in found]
        yield f"by confidence of {name}, all vote", vote(found, weights, 1.0), tokens
        for keep in SHARES:
            yield f"by confidence of {name}, {keep:.0%} vote", vote(found, weights, keep), tokens
            if window != WINDOWS[-1]:
                yield (
                    f"the same, with a warm-up of half, window {window}, {keep:.0%}",
                    *with_warmup(attempts, keep, window),
                )


async def measure(arguments: argparse.Namespace) -> AsyncGenerator[dict[str, Count]]:
    """Solve all problems and count the votes; yield the counts after each seed."""
    counts: dict[str, Count] = {}
    drawn = arithmetic.problems if arguments.kind == "arithmetic" else multiplication.problems
    tasks = [solution.task for solution in islice(drawn(seed=arguments.seed, split="held_out"), arguments.problems)]
    async with LocalEngine(nano_path(), threads=1) as engine:
        for seed in range(arguments.seeds):
            sampling = Sampling(temperature=arguments.temperature, seed=seed)
            sprint = Sprint(engine, policy=drawing(arguments.samples), sampling=sampling)
            gate = asyncio.Semaphore(arguments.concurrency)

            async def solve(task: Any, sprint: Any = sprint, gate: asyncio.Semaphore = gate) -> tuple[Any, Any]:
                async with gate:
                    return task, await sprint.run(task.prompt)

            for task, run in await asyncio.gather(*map(solve, tasks)):
                results = list(votes(run.stages[0].executions))
                plain = task.check(results[1][1])
                for name, answer, tokens in results:
                    count, right = counts.setdefault(name, Count()), task.check(answer)
                    count.right += right
                    count.problems += 1
                    count.tokens += tokens
                    count.differs[0] += right and not plain
                    count.differs[1] += plain and not right
            yield counts


async def main(arguments: argparse.Namespace) -> None:
    """Print the table of all seeds so far, after each seed."""
    seeds = 0
    async for counts in measure(arguments):
        seeds += 1
        show(counts, arguments, seeds)


def show(counts: dict[str, Count], arguments: argparse.Namespace, seeds: int) -> None:
    """Print a table."""
    print(
        f"{arguments.kind}, {arguments.problems} problems, {seeds} seeds, {arguments.samples} attempts, "
        f"temperature {arguments.temperature}\n"
    )
    print("| vote | right, % (95 %) | won, lost against plain | tokens a problem |\n|---|---:|---:|---:|")
    for name, count in counts.items():
        low, high = wilson(count.right, count.problems)
        share = 100 * count.right / count.problems
        print(
            f"| {name} | {share:.1f} ({100 * low:.0f} to {100 * high:.0f}) | {count.differs[0]}, {count.differs[1]} "
            f"| {count.tokens / count.problems:.0f} |"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=("arithmetic", "multiplication"), default="multiplication")
    parser.add_argument("--problems", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1, help="of the problems")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--concurrency", type=int, default=8)
    asyncio.run(main(parser.parse_args()))
