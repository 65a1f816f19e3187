"""`sprint demo`: five held-out problems."""

from itertools import islice

from sprint_agents.cli.run import PROBLEMS
from sprint_agents.manifest import Manifest
from sprint_agents.nano import nano_path
from sprint_agents.nano.tasks import Countdown
from sprint_agents.testing import FakeEngine, Fault
from sprint_finetune.nano.countdown import problems
from sprint_finetune.nano.splits import split_of


def test_the_problems_are_the_first_held_out_ones() -> None:
    drawn = [task for task, _ in islice(problems(seed=0, split="held_out"), len(PROBLEMS))]
    assert [Countdown.parse(problem) for problem in PROBLEMS] == drawn
    assert {split_of(task) for task in drawn} == {"held_out"}
    assert {len(task.numbers) for task in drawn} == {3, 4}


def test_five_runs_and_a_table(call) -> None:
    result = call("demo", "--engine", "fake")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "5 of 5 solved, each answer checked by a program." in result.stdout
    table = result.stdout[result.stdout.index("total tokens") :]
    for problem in PROBLEMS:
        assert problem.removeprefix("countdown ") in table


def test_wrong_answers_and_failures_are_reported(call, use_engine) -> None:
    answer = "<Final_answer>\\boxed{1+1}</Final_answer>"
    use_engine(FakeEngine(answer, faults={2: Fault.drop()}, manifest=Manifest.load(nano_path())))
    result = call("demo", "--engine", "fake")
    assert result.exit_code == 0
    assert "0 of 5 solved" in result.stdout
    assert "EngineUna" in result.stdout
    assert result.stdout.count(" wrong ") >= 4
