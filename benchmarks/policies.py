"""Compare all policies of the library on the same held-out Countdown problems, with sprint-nano.

    python benchmarks/policies.py --problems 200

Every policy solves every problem. The first ``--timed`` problems run one at a time, so their wall times are latencies
and can be compared within a problem. The others run ``--concurrency`` at once and are not timed. Decoding is greedy,
except for the votes, which need a temperature. Policies beyond the paper's format are limited to what the
model can follow: ``fork_join_async`` joins at once, ``as_needed`` and ``spawn_join`` do not plan within subtasks.
``tree_search`` takes ten times as long, with prompts that sprint-nano was not trained on, so it solves only the timed
problems. With ``--out`` an interrupted run resumes.
"""

import argparse
import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from sprint_agents import Engine, Sampling, Sprint
from sprint_agents.engines import LocalEngine
from sprint_agents.nano import nano_path
from sprint_agents.policies import BUILT_IN, as_needed, fork_join_async, self_consistency, spawn_join
from sprint_finetune.evaluation import Case, OutcomeFile, compare, held_out, markdown, summarise
from sprint_finetune.nano.countdown import problems

TWIN = "sequential"
FITTED = {
    "self_consistency": self_consistency(samples=8),
    "fork_join_async": fork_join_async(ahead=0),
    "as_needed": as_needed(depth=0),
    "spawn_join": spawn_join(depth=0),
}
DRAWN = dict.fromkeys(("confidence_vote", "self_consistency"), Sampling(temperature=0.7))
TIMED_ONLY = {"tree_search"}


def methods(engine: Engine) -> dict[str, Sprint]:
    """Make one method a policy, the sequential one first."""
    policies = BUILT_IN | FITTED
    return {
        name: Sprint(engine, policy=policies[name], sampling=DRAWN.get(name, Sampling(temperature=0)))
        for name in sorted(policies, key=lambda name: name != TWIN)
    }


async def measure(engine: Engine, cases: list[Case], out: Path, *, timed: int, concurrency: int) -> str:
    """Solve every case with every policy, and return the table of all cases as Markdown."""
    compared = methods(engine)
    untimed = {name: sprint for name, sprint in compared.items() if name not in TIMED_ONLY}
    with OutcomeFile(out) as outcomes:
        await compare(compared, cases[:timed], out=outcomes)
        await compare(untimed, cases[timed:], out=outcomes, concurrency=concurrency)
        return markdown([row for row in summarise(outcomes, twin=TWIN) if row.part == "all"], twin=TWIN)


async def main(arguments: argparse.Namespace) -> None:
    """Draw the problems, solve them, and print the table."""
    drawn = (task for task, _ in problems(seed=arguments.seed, split="held_out", counts=(arguments.numbers,)))
    name = f"countdown-{arguments.numbers}-seed-{arguments.seed}"
    cases = held_out(drawn, name=name, count=arguments.problems)
    with TemporaryDirectory() as folder:
        async with LocalEngine(arguments.model, threads=1) as engine:
            table = await measure(
                engine,
                cases,
                arguments.out or Path(folder, "outcomes.jsonl"),
                timed=arguments.timed,
                concurrency=arguments.concurrency,
            )
    print(f"{len(cases)} held-out problems of {arguments.numbers} numbers, seed {arguments.seed}\n\n{table}", end="")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=nano_path())
    parser.add_argument("--problems", type=int, default=10)
    parser.add_argument("--timed", type=int, default=10, help="problems that run alone, for wall times")
    parser.add_argument("--concurrency", type=int, default=32, help="runs at once of the other problems")
    parser.add_argument("--numbers", type=int, default=4, choices=(3, 4))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=None, help="a JSONL file to keep outcomes in, and to go on from")
    asyncio.run(main(parser.parse_args()))
