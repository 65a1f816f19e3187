"""A small soak, and that a soak finds what is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from sprint_agents import Budget, Run
from sprint_agents.errors import BudgetExceeded, InvalidResult
from sprint_agents.plan import Execution, Failure, Stage
from sprint_agents.usage import CallUsage, StageUsage, Usage

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

STAGE_USAGE = StageUsage(total=CallUsage(), sequential_tokens=0, sequential_tokens_strict=0)


@pytest.fixture
def invariants(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from chaos import invariants

    return invariants


@pytest.mark.parametrize("seed", [1, 2])
def test_a_small_soak_finds_nothing(seed: int) -> None:
    options = ["--runs", "60", "--local-runs", "0", "--seed", str(seed)]
    done = subprocess.run([sys.executable, BENCHMARKS / "soak.py", *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 violations" in done.stdout
    assert "killed and resumed" in done.stdout


def test_one_case_can_be_repeated() -> None:
    command = [sys.executable, BENCHMARKS / "soak.py", "--only", "1/3"]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2))
    assert first == second != ""


def record(*stages: Stage, **fields: object) -> Run:
    return Run(id="1", task="task", policy="own", stages=stages, **fields)


def stage(number: int, *executions: int) -> Stage:
    found = tuple(Execution(number=one, prompt="p") for one in executions)
    return Stage(number=number, executions=found, usage=STAGE_USAGE)


@pytest.mark.parametrize(
    ("run", "budget", "problem"),
    [
        (record(stage(1, 1, 2), stage(2)), Budget(), None),
        (record(stage(2)), Budget(), "stages are lost or doubled"),
        (record(stage(1), stage(1)), Budget(), "stages are lost or doubled"),
        (record(stage(1, 1, 1)), Budget(), "executions of stage 1 are doubled"),
        (record(usage=Usage(total_tokens=11)), Budget(tokens=10), "the budget is 10 tokens, and 11 were used"),
        (record(usage=Usage(calls=3)), Budget(calls=2), "the budget is 2 calls"),
        (record(error=Failure(type="ValueError", message="")), Budget(), "the run failed with"),
    ],
)
def test_records_are_checked(run: Run, budget: Budget, problem: str | None, invariants) -> None:
    found = list(invariants.record_problems(run, budget))
    assert [one.startswith(problem) for one in found] == [True] if problem else not found


def test_an_error_has_the_record_of_its_run(invariants) -> None:
    error = BudgetExceeded("spent")
    assert "lost" in next(invariants.outcome_problems(error, Budget()))
    error.run = record(error=Failure.of(InvalidResult("odd", text="")))
    assert "its record says" in next(invariants.outcome_problems(error, Budget()))
    error.run = record(error=Failure.of(error))
    assert list(invariants.outcome_problems(error, Budget())) == []


def test_resumed_runs_are_compared(invariants) -> None:
    one, other = record(stage(1, 1), answer="a"), record(stage(1, 1, 2), answer="b")
    assert list(invariants.difference(one, one, pending=False)) == []
    assert len(list(invariants.difference(one, other, pending=False))) == 2
    assert len(list(invariants.difference(one, BudgetExceeded("spent"), pending=False))) == 1
