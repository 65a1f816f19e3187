"""The program that plays the model writes runs that are true."""

from hypothesis import given, settings, strategies

from sprint_agents import Sprint
from sprint_agents.cli.stand_in import stand_in
from sprint_agents.nano.tasks import Countdown
from sprint_agents.trajectory import Trajectory

numbers = strategies.lists(strategies.integers(1, 30), min_size=2, max_size=4)


@settings(max_examples=30)
@given(
    numbers=numbers, target=strategies.integers(1, 60), policy=strategies.sampled_from(["interleaved", "sequential"])
)
def test_its_answers_are_right_or_there_are_none(numbers: list[int], target: int, policy: str) -> None:
    task = Countdown(numbers=tuple(numbers), target=target)
    run = Sprint(stand_in(), policy=policy).run_sync(task.prompt)
    assert run.verified or run.answer == "no solution found"
    assert all(not stage.diagnostics for stage in run.stages)
    assert Trajectory.from_text(run.transcript).answer == run.answer


@given(numbers=numbers, signs=strategies.lists(strategies.sampled_from("+-*"), min_size=3, max_size=3))
def test_it_finds_a_solution_where_there_is_one(numbers: list[int], signs: list[str]) -> None:
    target = numbers[0]
    for number, sign in zip(numbers[1:], signs, strict=False):
        target = {"+": target + number, "-": abs(target - number), "*": target * number}[sign]
    if 1 <= target <= 10_000:
        task = Countdown(numbers=tuple(numbers), target=target)
        assert Sprint(stand_in()).run_sync(task.prompt).verified


def test_both_policies_agree() -> None:
    for target in range(10, 40):
        task = f"countdown 3 7 25 {target}"
        answers = {
            Sprint(stand_in(), policy=policy).run_sync(task).verified for policy in ("interleaved", "sequential")
        }
        assert len(answers) == 1
