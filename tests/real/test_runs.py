"""Whole runs of a real instruct model: its words are weak, and every promise of the runtime holds."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sprint_agents import Budget, Executor, Limits, Planner, Run, Sampling, Sprint
from sprint_agents.engine import Engine
from sprint_agents.errors import BudgetExceeded
from sprint_agents.events import (
    Event,
    ExecutionFinished,
    ExecutorWrote,
    PlannerWrote,
    RunFinished,
    RunStarted,
    StageFinished,
    SubtaskStarted,
)

from .conftest import Place
from .program import FRUITS, LIMITS, TASK, Price, Total, prices

QUESTION = "Plan two subtasks: add 3 and 4, and multiply 5 by 6. Then answer with the sum of both results."
MOST_TRIES = 20
LONG = Limits(stages=3, plan_tokens=200, execution_tokens=1200, answer_tokens=80)
"""With limits that leave room for minutes of thoughts."""


@dataclass(frozen=True)
class Whole:
    """The events of a run, and its journal."""

    events: list[Event]
    journal: Path

    @property
    def run(self) -> Run[Total, Price]:
        assert isinstance(self.events[-1], RunFinished)
        return self.events[-1].run


def on(place: Place, work: Callable[[Engine], Awaitable[None]]) -> None:
    """Do ``work`` with an engine, which nothing occupies afterwards."""

    async def main() -> None:
        async with place.make() as engine:  # type: ignore[attr-defined]
            await work(engine)
            await place.idle(engine)

    asyncio.run(main())


def run_in(place: Place, journal: Path) -> Whole:
    events: list[Event] = []

    async def work(engine: Engine) -> None:
        async with prices(engine).stream(TASK, journal=journal) as stream:
            async for event in stream:
                events.append(event)
                if isinstance(event, RunFinished):  # if the run failed, its error is in there
                    break

    on(place, work)
    return Whole(events, journal)


@pytest.fixture(scope="session")
def whole(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """One whole run in each place."""
    return run_in(place, tmp_path_factory.mktemp("whole") / "run.jsonl")


def test_a_typed_run_and_its_events(place: Place, whole: Whole) -> None:
    assert isinstance(whole.events[0], RunStarted)
    run = whole.run
    assert_answered(run, place)
    first = run.stages[0]
    assert [execution.prompt for execution in first.executions] == [
        f"Find the price of the {fruit}." for fruit in FRUITS
    ]
    for execution in first.executions:
        if execution.failure is None or place.bounds:
            assert isinstance(execution.value, Price), execution.failure
        else:
            assert execution.failure.type == "InvalidResult"
    assert run.usage.width == len(FRUITS)
    assert_in_order(whole.events)


def assert_answered(run: Run[Total, Price], place: Place) -> None:
    if run.error is None or place.bounds:
        assert isinstance(run.answer, Total), run.error
    else:
        assert run.error.type == "InvalidResult"


def assert_in_order(events: list[Event]) -> None:
    """Each execution starts, writes and finishes, in this order, and its stage finishes after it."""
    order = {SubtaskStarted: 0, ExecutorWrote: 1, ExecutionFinished: 2, StageFinished: 3}
    for number in range(1, len(FRUITS) + 1):
        kinds = [
            order[type(event)]
            for event in events
            if type(event) in order and event_stage(event) == 1 and event_number(event) in (number, None)
        ]
        assert kinds == sorted(kinds)
        assert set(kinds) == {0, 1, 2, 3}


def event_stage(event: Event) -> int:
    stage = getattr(event, "stage")  # noqa: B009 - the union has several types for it
    return stage if isinstance(stage, int) else stage.number


def event_number(event: Event) -> int | None:
    return event.execution.number if isinstance(event, ExecutionFinished) else getattr(event, "number", None)


def test_executions_start_while_the_model_still_writes_its_plan(fast_place: Place) -> None:
    async def work(engine: Engine) -> None:
        for seed in range(MOST_TRIES):
            events = await first_stage(engine, Sampling(temperature=1.0, seed=seed))
            starts = [at for at, event in enumerate(events) if isinstance(event, SubtaskStarted)]
            if len(starts) > 1:
                written = [at for at, event in enumerate(events) if isinstance(event, PlannerWrote)]
                assert starts[0] < written[-1]
                return
        pytest.fail(f"the model planned no two subtasks in {MOST_TRIES} tries")

    on(fast_place, work)


async def first_stage(engine: Engine, sampling: Sampling) -> list[Event]:
    """The events of the first stage of a run, up to the start of its second subtask."""
    events: list[Event] = []
    sprint = Sprint(engine, planner=Planner(str), executor=Executor(str), limits=LIMITS, sampling=sampling)
    async with sprint.stream(QUESTION) as stream:
        async for event in stream:
            events.append(event)
            if isinstance(event, StageFinished) or sum(isinstance(each, SubtaskStarted) for each in events) > 1:
                break
    return events


def test_leaving_a_run_ends_every_request(place: Place) -> None:
    async def work(engine: Engine) -> None:
        async with prices(engine, limits=LONG).stream(TASK) as stream:
            writing: set[int] = set()
            async for event in stream:
                if isinstance(event, ExecutorWrote):
                    writing.add(event.number)
                    break
        assert writing

    on(place, work)


def test_a_budget_is_never_exceeded(fast_place: Place) -> None:
    async def work(engine: Engine) -> None:
        with pytest.raises(BudgetExceeded) as raised:
            await prices(engine, budget=Budget(tokens=20)).run(TASK)
        assert raised.value.run is not None
        assert raised.value.run.usage.total_tokens <= 20

    on(fast_place, work)


def test_a_journal_is_resumed(place: Place, whole: Whole, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    lines = whole.journal.read_bytes().splitlines(keepends=True)
    first = next(at for at, line in enumerate(lines) if json.loads(line)["record"].get("kind") == "stage")
    path.write_bytes(b"".join(lines[: first + 1]))  # as after a crash in the second stage
    resumed = run_in(place, path).run
    assert resumed.stages[0] == whole.run.stages[0]  # each with its times, so nothing was computed again
    assert_answered(resumed, place)
    if place.exact:
        assert resumed.transcript == whole.run.transcript
