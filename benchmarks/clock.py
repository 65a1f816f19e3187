"""Where planning is faster by the clock: sprint-nano against its sequential twin on the same held-out problems.

    python benchmarks/clock.py --out runs/clock.jsonl
    python benchmarks/clock.py --settings all --out runs/ablation.jsonl

Both models solve each problem greedily, one at a time, on embedded engines with the same options. Which of them begins
alternates from problem to problem. "Times as fast" is the twin's time divided by the planner's, the median over the
problems with its bootstrap interval. Thirds are by the length of the twin's chain, and programs check the answers.
Problems are held out from training, and ``--seed`` draws others.

``--settings`` compares several ways to run the planner; the twin runs on the same engine. Each setting has engines of
its own, so no run finds its tokens in a cache. The file has every run as a line of JSON, and an interrupted
measurement resumes from it.
"""

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

from sprint_agents import Limits, Policy, Sampling, Sprint
from sprint_agents.engines import LocalEngine
from sprint_agents.nano import nano_path
from sprint_agents.settles import Settles
from sprint_agents.step_costs import StepCosts
from sprint_finetune.evaluation import (
    Case,
    Methods,
    OutcomeFile,
    Row,
    compare,
    held_out,
    held_out_problems,
    summarise,
)
from sprint_finetune.evaluation.tables import speed_up_text
from sprint_finetune.nano.splits import Family

ROOT = Path(__file__).parents[1]
FAMILIES: tuple[Family, ...] = get_args(Family)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How the planner runs, by the options of ``Sprint``.

    Attributes:
        settles: what settles a stage; None for what the checkpoint says, False for nothing.
        at_once: executions at once; None for as many as pay.
        costs: of the planner's steps; None for those that the engine knows.
        stock: whether both models run transformers' model code.
    """

    policy: Policy | str = "interleaved"
    settles: Settles | Literal[False] | None = None
    at_once: int | None = None
    costs: StepCosts | None = None
    stock: bool = False


FIRST = Settles(holds="answer=", chance=0.4)
"""The first execution to find an answer settles its stage, wherever it is in the plan."""

SETTINGS = {
    "shipped": Setting(),
    "all at once": Setting(costs=StepCosts(seconds={1: 1.0})),
    "4 at once": Setting(at_once=4),
    "first find": Setting(settles=FIRST),
    "no early ends": Setting(settles=False),
    "stock model code": Setting(stock=True),
    "stock model code, no early ends": Setting(stock=True, settles=False),
}
"""The rows that ``--settings`` may name."""


def twin_of(setting: Setting) -> str:
    """Return the name of the twin's runs on the same engine."""
    return "twin, stock" if setting.stock else "twin"


def cases_of(family: Family, options: argparse.Namespace) -> list[Case]:
    """Draw the problems of a family."""
    count = dict(zip(FAMILIES, options.problems, strict=True))[family]
    return held_out(held_out_problems(family, seed=options.seed), name=family, count=count)


async def methods(options: argparse.Namespace, opened: AsyncExitStack) -> Methods:
    """Load the models, and solve an easy problem with each method, which is not timed."""

    async def engine(model: Path, *, stock: bool, costs: StepCosts | None = None) -> LocalEngine:
        return await opened.enter_async_context(
            LocalEngine(
                model,
                device=options.device,
                threads=options.threads,
                stock=stock,
                cache_tokens=options.cache_tokens,
                step_costs=costs,
            )
        )

    made: dict[str, Sprint] = {}
    greedy = Sampling(temperature=0)
    for name in options.settings:
        setting = SETTINGS[name]
        twin = twin_of(setting)
        if twin not in made:
            planless = await engine(options.twin, stock=setting.stock)
            made[twin] = Sprint(planless, policy="sequential", sampling=greedy)
        planner = await engine(options.model, stock=setting.stock, costs=setting.costs)
        made[name] = Sprint(
            planner,
            policy=setting.policy,
            settles=setting.settles,
            limits=Limits(concurrency=setting.at_once),
            sampling=greedy,
        )
    for sprint in made.values():
        await sprint.run("Use 9, 5, 3 to make 42.")
    return made


async def measure(options: argparse.Namespace, out: OutcomeFile) -> None:
    """Solve what ``out`` does not have yet."""
    async with AsyncExitStack() as opened:
        compared = await methods(options, opened)
        for family in FAMILIES:
            await compare(compared, cases_of(family, options), out=out)


def table(options: argparse.Namespace, out: OutcomeFile) -> str:
    """Return the table as Markdown: each family and all of them, in thirds, by setting."""
    lines = [
        "| problems | part | setting | pairs | right, % (95 %): twin | planner | strict tokens: twin | planner "
        "| ms: twin | planner | times as fast (95 %) |",
        "|---|---|---" + "|---:" * 8 + "|",
    ]
    cases = {family: {case.id for case in cases_of(family, options)} for family in FAMILIES}
    groups: dict[str, set[str]] = {**cases, "all": {id_ for ids in cases.values() for id_ in ids}}
    for group, ids in groups.items():
        for name in options.settings:
            twin = twin_of(SETTINGS[name])
            rows = {(row.part, row.method): row for row in summarise(out, twin=twin, cases=ids)}
            lines += [line(group, row, rows[part, twin]) for (part, method), row in rows.items() if method == name]
    return "\n".join(lines)


def line(group: str, row: Row, twin: Row) -> str:
    """Write the planner's row beside the twin's."""
    right = [f"{100 * each.accuracy:.1f} ({100 * each.low:.1f} to {100 * each.high:.1f})" for each in (twin, row)]
    tokens = [f"{each.sequential_tokens_strict:.0f}" for each in (twin, row)]
    seconds = [f"{1000 * (each.seconds or 0):.0f}" for each in (twin, row)]
    cells = [group, row.part, row.method, f"{row.runs}", *right, *tokens, *seconds, speed_up_text(row)]
    return f"| {' | '.join(cells)} |"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=nano_path())
    parser.add_argument("--twin", type=Path, default=ROOT / "finetune/models/sprint-nano-rft")
    parser.add_argument(
        "--problems", type=int, nargs=3, default=[150, 100, 100], metavar="N", help=f"of {', '.join(FAMILIES)}"
    )
    parser.add_argument("--settings", nargs="+", choices=[*SETTINGS, "all"], default=["shipped"])
    parser.add_argument("--seed", type=int, default=0, help="which problems are drawn")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache-tokens", type=int, default=32_768, help="of each engine")
    parser.add_argument("--out", type=Path, help="the JSONL file of all runs, which is continued if it exists")
    options = parser.parse_args(arguments)
    options.settings = [*SETTINGS] if "all" in options.settings else options.settings
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    options = parse(arguments)
    with TemporaryDirectory() as folder, OutcomeFile(options.out or Path(folder, "clock.jsonl")) as out:
        asyncio.run(measure(options, out))
        print(f"{options.model.name} against {options.twin.name}, seed {options.seed}, {options.threads} thread(s)\n")
        print(table(options, out))


if __name__ == "__main__":
    main()
