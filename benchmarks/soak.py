"""Run sprints whose models, servers, functions and policies misbehave at random, and check what must hold after each.

    python benchmarks/soak.py
    python benchmarks/soak.py --only 17/4711      (repeats one case)

Every case is drawn from ``--seed`` and its number: the engine and its faults, the policy, the executor, the budget, the
failure mode, and the way in which the run is started, stopped and resumed. Some are in a separate process that is
killed. After each, no run, stage or execution may be lost or doubled; no task, thread or request may be alive; budgets
hold; and a resumed run agrees with an uninterrupted one. Memory must not grow over the second half of the cases.
Violations are printed with the case that repeats them.
"""

import argparse
import asyncio
import gc
import os
import sys
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from chaos.case import Case
from chaos.invariants import engine_problems, thread_problems
from chaos.ways import WAYS, Killer, Watch, quiet

from sprint_agents.testing import VirtualTimeLoop


async def settled(watch: Watch, way: Callable[[Watch], Awaitable[object]]) -> None:
    """Run a case in its loop; afterwards no other task may be alive."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: watch.problems.append(f"the loop says {context}"))
    await way(watch)
    if alive := asyncio.all_tasks() - {asyncio.current_task()}:
        watch.problems.append(f"tasks are alive: {alive}")


def try_case(seed: str) -> tuple[str, Watch]:
    """Try the case of a seed, ``5/17``; return its way and what happened."""
    random = Random(f"way {seed}")
    (name,) = random.choices(list(WAYS), [way.share for way in WAYS.values()])
    way = WAYS[name]
    with TemporaryDirectory() as folder:
        case = Case(seed, steady=way.steady, real=way.real, moment=Killer(0).reached)
        watch = Watch(case, random, Path(folder, "journal.jsonl"))
        try:
            if way.real:
                way.run(watch)
            else:
                with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
                    runner.run(settled(watch, way.run))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            watch.problems.append(f"raised {error!r}")
        finally:
            watch.case.functions.release()
        watch.problems += engine_problems(watch.case)
        watch.problems += thread_problems()
    return name, watch


LEAST_FOR_MEMORY = 2000
"""Fewer runs do not fill the caches of the library and of Python."""


class Memory:
    """The memory that Python has allocated and the process holds, in MiB, over the soak."""

    def __init__(self) -> None:
        self.readings: list[tuple[float, float]] = []
        tracemalloc.start()

    def read(self) -> None:
        """Take a reading."""
        gc.collect()
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        self.readings.append((tracemalloc.get_traced_memory()[0] / 2**20, resident / 2**20))

    def growth(self) -> str | None:
        """Say if what is allocated grew over the second half, beyond caches that fill up."""
        half, end = self.readings[len(self.readings) // 2][0], self.readings[-1][0]
        return f"allocated memory grew from {half:.1f} to {end:.1f} MiB" if end > half * 1.1 + 1 else None


def print_ways(ways: Mapping[str, Counter[str]]) -> None:
    """Print how the runs of each way ended."""
    print("| way | runs | answered | cancelled, left or killed | errors |\n|---|---:|---:|---:|---|")
    for name, outcomes in ways.items():
        ended = sum(outcomes[one] for one in ("cancelled", "left", "killed", "ended before the kill"))
        errors = ", ".join(f"{one} {many}" for one, many in sorted(outcomes.items()) if one[0].isupper())
        print(f"| {name} | {outcomes.total()} | {outcomes['answered']} | {ended} | {errors} |")


def soak_nano(seed: int, runs: int) -> int:
    """Run tasks on sprint-nano; print the table and return the number of violations."""
    from chaos.local import soak_local  # loads torch

    done = asyncio.run(soak_local(seed, runs))
    for problem in done.violations:
        print(problem)
    print(f"\nsprint-nano, seed {seed}: {runs} runs, {len(done.violations)} violations\n")
    print_ways(done.outcomes)
    return len(done.violations)


def soak(seed: int, runs: int) -> int:
    """Try cases until there were so many runs; print the tables and return the number of violations."""
    ways: dict[str, Counter[str]] = {name: Counter() for name in WAYS}
    kinds: Counter[str] = Counter()
    violations = done = 0
    memory = Memory()
    memory.read()
    for number in count():
        name, watch = try_case(f"{seed}/{number}")
        ways[name].update(watch.outcomes)
        kinds.update(set(watch.case.kinds))
        done += len(watch.outcomes)
        for problem in watch.problems:
            violations += 1
            print(f"{watch.case.seed} ({name}; {', '.join(watch.case.kinds)}): {problem}", flush=True)
        if done * 10 >= len(memory.readings) * runs:
            memory.read()
        if done >= runs:
            break
    tracemalloc.stop()
    if runs >= LEAST_FOR_MEMORY and (grown := memory.growth()):
        violations += 1
        print(grown)
    print(f"seed {seed}: {done} runs in {number + 1} cases, {violations} violations\n")
    print_ways(ways)
    print("\n| kind | cases |\n|---|---:|")
    for kind, many in sorted(kinds.items()):
        print(f"| {kind} | {many} |")
    print("\n| memory after | allocated, MiB | resident, MiB |\n|---|---:|---:|")
    for tenth, (allocated, resident) in enumerate(memory.readings):
        print(f"| {tenth * 10} % | {allocated:.1f} | {resident:.1f} |")
    return violations


def main() -> None:
    """Read the options, and soak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--local-runs", type=int, default=200, help="runs on sprint-nano")
    parser.add_argument("--only", help="the one case to try, as a violation names it")
    options = parser.parse_args()
    quiet()
    if options.only:
        name, watch = try_case(options.only)
        print(name, *watch.case.kinds, *watch.outcomes, *watch.problems, sep="\n")
        sys.exit(bool(watch.problems))
    violations = soak(options.seed, options.runs)
    if options.local_runs:
        violations += soak_nano(options.seed, options.local_runs)
    sys.exit(bool(violations))


if __name__ == "__main__":
    main()
