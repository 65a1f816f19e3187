"""What sprint-nano could gain by its modes: the seconds of an oracle that follows the traces, by a cost model.

    python -m sprint_finetune.nano.oracle --problems 500 --hits 0.45 0.12 0.08 0.05 --promise 2

The oracle writes every token of the traces of held-out problems rightly, so it is a bound for a model, and no model has
to be trained for it. Two things it is told: how often each guess is right (``--hits``), and how well it knows which
openings lead to a solution (``--promise``). Every row is compared with the sequential twin's chain of the same
problems, in thirds by the length of that chain.
"""

import argparse
import itertools
import math
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from sprint_agents.nano.tasks import Countdown
from sprint_finetune.costs import NANO_ON_CPU, CostModel

from .countdown import PHASES, problems, solution_of
from .countdown_search import explore, openings
from .modes import GUESSES, Count, Ends, chain_shape, guessed, in_quicker_mode, settled, shape_of
from .splits import Family
from .traces import Solution, SolutionStage, in_chain

AT_ONCE = 6
"""How many executions run at the same time. A run begins with fewer and widens, which takes about as long in all."""

FEW = (3, 3, 6)
"""How many openings each plan has, if a search is planned a few at a time. One more plan has all others."""

THIRDS = ("all", "shortest", "middle", "longest")


def counter() -> Count:
    """Return a function that counts the tokens of sprint-nano."""
    from .tokenizer import build_tokenizer

    tokenizer = build_tokenizer()

    @lru_cache(maxsize=100_000)
    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    return count


def drawn_guesses(works: Sequence[Solution], hits: Sequence[float], *, seed: int) -> Iterator[tuple[int, bool]]:
    """Draw for each problem how many guesses miss, and whether one is right after them.

    ``hits`` are the shares of all problems at which each guess is the first to be right. The more openings lead to a
    solution, the earlier one of them is guessed, so problems with short chains are guessed more often.
    """
    rng = random.Random(seed)
    ways = [sum(subtask.found for stage in work.stages for subtask in stage.subtasks) for work in works]
    places = [min(rng.random() for _ in range(max(1, count))) for count in ways]
    order = sorted(range(len(works)), key=lambda index: (not works[index].solved, places[index]))
    ranks = {index: rank / len(works) for rank, index in enumerate(order)}
    for index, work in enumerate(works):
        first = next((n for n, share in enumerate(itertools.accumulate(hits)) if ranks[index] < share), None)
        yield (len(hits), False) if first is None or not work.solved else (first, True)


def in_order(work: Solution, rng: random.Random, *, promise: float) -> Solution:
    """Search all openings of a Countdown problem in one stage, in the order of how promising they look.

    Each opening has a random score, which is higher by ``promise`` if the opening leads to a solution. With 0, the
    order is the usual one.
    """
    assert isinstance(work.task, Countdown)
    numbers = tuple(sorted(work.task.numbers, reverse=True))
    steps = [step for ops in PHASES for step in openings(numbers, ops)]
    explored = [explore(numbers, step, work.task.target) for step in steps]
    if promise:
        # The noise is Gumbel's, so the first opening is drawn with odds of exp(promise) to 1.
        noise = [-math.log(-math.log(rng.uniform(1e-9, 1 - 1e-9))) for _ in explored]
        scores = [score + promise * (one.found is not None) for score, one in zip(noise, explored, strict=True)]
        explored = [explored[index] for index in sorted(range(len(explored)), key=lambda index: -scores[index])]
    return solution_of(work.task, [explored])


def few_at_a_time(work: Solution) -> Solution:
    """Divide the only stage of a search into ``FEW`` and the rest, and end each stage with its first find."""
    (whole,) = work.stages
    stages: list[SolutionStage] = []
    for start, stop in itertools.pairwise([0, *itertools.accumulate(FEW), None]):
        if part := whole.subtasks[start:stop]:
            stages.append(replace(whole, subtasks=part))
        if any(subtask.found for subtask in part):
            break
    return settled(replace(work, stages=tuple(stages)))


def right_at_once(works: Sequence[Solution]) -> float:
    """Return in which share of the searches the first opening leads to a solution."""
    return statistics.mean(work.stages[0].subtasks[0].found for work in works)


def countdown_seconds(
    works: Sequence[Solution], count: Count, hits: Sequence[float], costs: CostModel, *, promise: float = 2.0
) -> Mapping[str, list[float]]:
    """Return the seconds of each problem in each mode. The first row is the twin's."""
    rng = random.Random(0)
    promising = [in_order(work, rng, promise=promise) for work in works]
    guesses = [
        guessed(work, rng, misses=misses, found=found)
        for work, (misses, found) in zip(works, drawn_guesses(works, hits, seed=0), strict=True)
    ]

    def run(work: Solution, *, ends: Ends = "in order") -> float:
        return costs.seconds(shape_of(work, count, ends=ends, at_once=None if ends == "all" else AT_ONCE))

    planned = [run(work) for work in works]
    chained = [run(in_chain(work)) for work in works]
    return {
        "twin: the chain": [costs.seconds(chain_shape(work, count)) for work in works],
        "plan, all executions to their end": [run(work, ends="all") for work in works],
        "plan, settled by the first find": [run(work, ends="first") for work in works],
        "plan, settled in order": planned,
        "the quicker of chain and plan, known in advance": [*map(min, chained, planned)],
        "guesses, then a settled plan": [run(work) for work in guesses],
        "guesses, then the chain": [run(in_chain(work)) for work in guesses],
        "plan, a few openings at a time": [run(few_at_a_time(in_order(work, rng, promise=0))) for work in works],
        f"the same, promising openings first ({right_at_once(promising):.0%} right at once)": [
            run(few_at_a_time(work)) for work in promising
        ],
        "the chain in that order": [run(in_chain(work)) for work in promising],
    }


def rows(seconds: Mapping[str, list[float]]) -> Iterator[str]:
    """Yield a Markdown table: the median speed-up over pairs, and the ratio of the sums, over all and by thirds."""
    twin = next(iter(seconds.values()))
    order = sorted(range(len(twin)), key=lambda index: twin[index])
    third = len(order) // 3
    groups = (order, order[:third], order[third:-third], order[-third:])
    yield f"| mode | mean, ms | {' | '.join(THIRDS)} |"
    yield "|---|---:|" + "---:|" * len(groups)
    for name, mine in seconds.items():
        cells = [
            f"{statistics.median(twin[i] / mine[i] for i in group):.2f} / "
            f"{sum(twin[i] for i in group) / sum(mine[i] for i in group):.2f}"
            for group in groups
        ]
        yield f"| {name} | {1000 * statistics.mean(mine):.0f} | {' | '.join(cells)} |"


def worked_out(family: Family, count: int) -> list[Solution]:
    """Return held-out problems of a family, always the same."""
    from .batches import WORKED_OUT

    if family == "countdown":
        drawn = problems(seed=1, split="held_out", counts=(4,))
        return [solution_of(*found) for found in itertools.islice(drawn, count)]
    return [*itertools.islice(WORKED_OUT[family](seed=1, split="held_out"), count)]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--hits", type=float, nargs=GUESSES, default=[0.45, 0.12, 0.08, 0.05])
    parser.add_argument(
        "--promise", type=float, default=2.0, help="how much higher an opening that leads somewhere scores"
    )
    arguments = parser.parse_args()
    count = counter()
    works = worked_out("countdown", arguments.problems)
    print("\n".join(rows(countdown_seconds(works, count, arguments.hits, NANO_ON_CPU, promise=arguments.promise))))
    for family in ("arithmetic", "multiplication"):
        works = worked_out(family, arguments.problems)
        rng = random.Random(0)
        seconds = {
            f"{family}, twin": [NANO_ON_CPU.seconds(chain_shape(work, count)) for work in works],
            "plan": [NANO_ON_CPU.seconds(shape_of(work, count)) for work in works],
            "the quicker": [NANO_ON_CPU.seconds(shape_of(in_quicker_mode(work, rng, count), count)) for work in works],
        }
        print("\n" + "\n".join(rows(seconds)))


if __name__ == "__main__":
    main()
