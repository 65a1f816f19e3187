"""`--engine fake` replays runs that sprint-nano wrote, and nothing else."""

import pytest

from sprint_agents import Limits, Sprint
from sprint_agents.cli.engines import RECORDED_RUNS, RecordedRun, recorded_engine
from sprint_agents.cli.run import PROBLEMS
from sprint_agents.errors import UnsupportedTask
from sprint_agents.trajectory import Trajectory

RUNS = [RecordedRun.model_validate_json(line) for line in RECORDED_RUNS.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("recorded", RUNS, ids=lambda run: f"{run.task}, {run.policy}")
def test_every_recorded_run_is_replayed_to_its_end(recorded: RecordedRun) -> None:
    engine = recorded_engine()
    at_once = recorded.policy == "interleaved" and len(recorded.completions) == 1
    limits = Limits.of(engine.manifest).model_copy(update={"stages": 1} if at_once else {})
    run = Sprint(engine, policy=recorded.policy, limits=limits).run_sync(recorded.task)
    account = engine.account()
    assert 0 < account.started <= len(recorded.completions)
    assert account.failed == 0
    assert Trajectory.from_text(run.transcript).answer == run.answer
    assert run.verified or run.answer == "no solution found"
    assert at_once or all(not stage.diagnostics for stage in run.stages)


def test_the_problems_of_the_demo_are_recorded() -> None:
    assert {run.task for run in RUNS}.issuperset(PROBLEMS)


def test_another_task_or_policy_says_what_can_be_asked() -> None:
    for task, policy in (("countdown 4 9 24 37", "interleaved"), (PROBLEMS[1], "sequential")):
        with pytest.raises(UnsupportedTask, match=r"use --engine local, or ask: countdown 3 7 25 46; 12 \* 345; "):
            Sprint(recorded_engine(), policy=policy).run_sync(task)


def test_the_recording_is_small() -> None:
    assert RECORDED_RUNS.stat().st_size < 120_000
