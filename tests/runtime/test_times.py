"""The times in the record of a run and in its events, on the virtual clock: one second per token."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sprint_agents import Answer, Budget, Executor, Limits, Plan, Run, Sprint
from sprint_agents.errors import BudgetExceeded, EngineUnavailable
from sprint_agents.events import Event, InnerEvent, RunStarted
from sprint_agents.testing import FakeEngine, Fault, Latency, Reply, run_virtual

PLAN = "<Plan_1>\nTwo parts.\n<prompt_1.1>6*7</prompt_1.1>\n<prompt_1.2>100/4</prompt_1.2>\nThat is all.\n</Plan_1>"
REPLIES: dict[str, Any] = {
    "": PLAN,
    "<execution_1.1>": "it is 6 + 6 + 6 + 6 + 6 + 6 + 6 = 42",
    "<execution_1.2>": "25",
    "</Execution_1>": r"<Final_answer>\boxed{67}</Final_answer>",
}


def slow(replies: Any = REPLIES) -> FakeEngine:
    return FakeEngine(replies, latency=Latency(token=1))


async def events_of(sprint: Sprint[Any, Any], **options: Any) -> list[Event]:
    async with sprint.stream("question", **options) as stream:
        return [event async for event in stream]


def test_everything_that_takes_time_has_its_times() -> None:
    engine = slow()
    run = run_virtual(Sprint(engine).run("question"))
    stage, last = run.stages
    first, second = stage.executions
    assert (stage.started, stage.ended, last.started, last.ended) == (0, 46, 46, 53)
    assert (first.prompt_closed, first.started, first.ended, first.plan_tokens) == (21, 21, 46, 21)
    assert (second.prompt_closed, second.started, second.ended, second.plan_tokens) == (35, 35, 37, 35)
    calls = [*stage.calls, *first.calls, *second.calls, *last.calls]
    assert [call.role for call in calls] == ["plan", "execution", "execution", "plan"]
    assert [call.request_ids for call in calls] == [(request.id,) for request in engine.requests]
    assert [(call.started, call.ended) for call in calls] == [(0, 42), (21, 46), (35, 37), (46, 53)]
    assert [call.usage.generated_tokens for call in calls] == [42, 25, 2, 7]
    assert sum(call.usage.cached_tokens for call in calls) == run.usage.cached_tokens


def test_the_critical_path_in_seconds_names_its_requests() -> None:
    engine = slow()
    run = run_virtual(Sprint(engine).run("question"))
    plan, first, _, answer = engine.requests
    assert run.usage.sequential_seconds == run.usage.sequential_tokens_strict == run.usage.seconds == 53
    assert run.usage.sequential_requests == (plan.id, first.id, answer.id)
    assert run.stages[0].usage.sequential_seconds == 46
    assert run.stages[0].usage.sequential_requests == (plan.id, first.id)


def test_a_plan_that_is_longer_than_its_executions_is_the_path() -> None:
    engine = slow(REPLIES | {"<execution_1.1>": "42"})
    run = run_virtual(Sprint(engine).run("question"))
    assert run.stages[0].usage.sequential_seconds == 42
    assert run.usage.sequential_requests == (engine.requests[0].id, engine.requests[-1].id)


def test_the_path_follows_dependencies() -> None:
    async def policy(planning: Any) -> Any:
        stage = yield Plan.of("short", "long", "last", "free", after={3: (1, 2)})
        yield Answer(value=len(stage.results))

    seconds = {"short": 1, "long": 5, "last": 2, "free": 6}
    engine = FakeEngine({name: Reply("x", delay=delay) for name, delay in seconds.items()})
    run = run_virtual(Sprint(engine, policy=policy).run("question"))
    (stage,) = run.stages
    _, long, last, _ = stage.executions
    assert stage.usage.sequential_seconds == run.usage.seconds == 7
    assert stage.usage.sequential_requests == (*long.calls[0].request_ids, *last.calls[0].request_ids)
    assert (last.prompt_closed, last.started, last.ended) == (0, 5, 7)
    assert {execution.plan_tokens for execution in stage.executions} == {0}


def test_time_in_which_executions_wait_is_not_on_the_path() -> None:
    async def policy(planning: Any) -> Any:
        yield Plan.of(*"abcd")
        yield Answer(value=4)

    engine = FakeEngine(lambda prompt: Reply("x", delay=3))
    run = run_virtual(Sprint(engine, policy=policy, limits=Limits(concurrency=1)).run("question"))
    assert [(one.prompt_closed, one.started) for one in run.stages[0].executions] == [(0, 0), (0, 3), (0, 6), (0, 9)]
    assert (run.usage.seconds, run.usage.sequential_seconds) == (12, 3)


def test_a_call_that_waits_for_the_budget_says_so() -> None:
    async def policy(planning: Any) -> Any:
        yield Plan.of(*"ab")
        yield Answer(value=2)

    engine = FakeEngine(lambda prompt: "one two three four five six seven", latency=Latency(token=1))
    sprint = Sprint(engine, policy=policy, limits=Limits(execution_tokens=10), budget=Budget(tokens=18))
    run = run_virtual(sprint.run("question"))
    calls = [execution.calls[0] for execution in run.stages[0].executions]
    assert sorted((call.started, call.ended, call.waited) for call in calls) == [(0, 8, 0), (0, 16, 8)]
    assert (run.usage.seconds, run.usage.sequential_seconds) == (16, 8)


def test_a_repeated_request_is_a_call_of_its_own() -> None:
    engine = slow(REPLIES | {"<execution_1.2>": ["five and twenty", "25"]})
    run = run_virtual(Sprint(engine, executor=Executor(int | str)).run("question"))
    assert len(run.stages[0].executions[1].calls) == 1
    engine = slow(REPLIES | {"<execution_1.1>": "42", "<execution_1.2>": ["five and twenty", "25"]})
    run = run_virtual(Sprint(engine, executor=Executor(int)).run("question"))
    wrong, right = run.stages[0].executions[1].calls
    assert (wrong.usage.retries, right.usage.retries) == (0, 1)
    assert wrong.ended == right.started


def test_failed_calls_are_in_the_record_of_their_stage() -> None:
    engine = slow({"": [Reply(PLAN, fault=Fault.drop(after=5)), PLAN]} | {k: v for k, v in REPLIES.items() if k})
    run = run_virtual(Sprint(engine, failure="retry").run("question"))
    stage = run.stages[0]
    failed, whole = stage.calls
    assert (failed.started, failed.ended, failed.usage.generated_tokens) == (0, 5, 5)
    assert whole.started > failed.ended
    assert stage.started == 0
    assert stage.usage.sequential_requests[0] == whole.request_ids[0]


def test_events_say_which_run_and_when() -> None:
    events = run_virtual(events_of(Sprint(slow())))
    run = events[-1].run  # type: ignore[union-attr]
    assert {event.run_id for event in events} == {run.id}
    assert [event.at for event in events] == sorted(event.at for event in events)
    at = {event.kind: event.at for event in events}
    assert (at["run_started"], at["run_finished"]) == (0, 53)
    (started,) = [event for event in events if isinstance(event, RunStarted)]
    assert started.origin == run.origin
    assert abs(datetime.now(UTC) - started.origin) < timedelta(minutes=10)
    assert [event.at for event in events if event.kind == "subtask_started"] == [21, 35]
    assert [event.at for event in events if event.kind == "execution_finished"] == [37, 46]
    assert [event.at for event in events if event.kind == "stage_finished"] == [46, 53]


def test_a_run_within_another_has_its_clock() -> None:
    inner = Sprint(slow())
    events = run_virtual(events_of(Sprint(slow(), executor=inner)))
    run = events[-1].run  # type: ignore[union-attr]
    within = [event.event for event in events if isinstance(event, InnerEvent) and event.number == 1]
    (inner_id,) = {event.run_id for event in within}
    assert inner_id != run.id
    execution = run.stages[0].executions[0]
    assert within[0].at == execution.started == execution.stages[0].started == 21
    assert within[-1].at == execution.ended == execution.stages[-1].ended == 21 + 53
    assert within[-1].run.usage.seconds == 53  # type: ignore[union-attr]
    assert execution.calls == ()
    assert run.usage.sequential_seconds == 35 + 53 + 7
    assert run.usage.sequential_requests[1:-1] == tuple(
        one for stage in run.stages[0].executions[1].stages for one in stage.usage.sequential_requests
    )


def test_a_resumed_run_keeps_the_times_of_its_parts(tmp_path: Any) -> None:
    path = tmp_path / "run.jsonl"
    replies = REPLIES | {"</Execution_1>": [Reply("", fault=Fault.drop(), delay=10), REPLIES["</Execution_1>"]]}
    engine = slow(replies)
    with pytest.raises(EngineUnavailable) as caught:
        run_virtual(Sprint(engine).run("question", journal=path))
    failed = caught.value.run
    assert failed is not None
    assert failed.usage.seconds == 56

    async def resume() -> list[Event]:
        await asyncio.sleep(1000)  # time in which no process works on the run does not count
        return await events_of(Sprint(engine), journal=path)

    events = run_virtual(resume())
    run = events[-1].run  # type: ignore[union-attr]
    assert (run.origin, run.stages[0]) == (failed.origin, failed.stages[0])
    assert (run.stages[1].started, run.stages[1].ended, run.usage.seconds) == (56, 63, 63)
    assert {event.at for event in events if getattr(event, "replayed", False)} == {56}


def test_kept_parts_of_an_open_stage_keep_their_times(tmp_path: Any) -> None:
    path, engine = tmp_path / "run.jsonl", slow()
    with pytest.raises(BudgetExceeded):
        run_virtual(Sprint(engine, budget=Budget(calls=2)).run("question", journal=path))
    events = run_virtual(events_of(Sprint(engine), journal=path))
    run = events[-1].run  # type: ignore[union-attr]
    assert events[0].at == 46
    stage = run.stages[0]
    first, second = stage.executions
    assert [(call.started, call.ended) for call in stage.calls] == [(0, 42)]
    assert (first.prompt_closed, first.ended, second.prompt_closed, second.ended) == (21, 46, 46, 48)
    assert (first.plan_tokens, second.plan_tokens) == (21, 35)
    assert (stage.started, stage.ended, run.usage.seconds) == (0, 48, 55)
    assert stage.usage.sequential_seconds == 46


def test_times_survive_json() -> None:
    run = run_virtual(Sprint(slow()).run("question"))
    assert Run[str, str].model_validate_json(run.model_dump_json()) == run


def test_times_are_the_same_in_every_simulation() -> None:
    def times(run: Run[Any, Any]) -> Any:
        return [
            (stage.started, stage.ended, [(one.started, one.ended, one.plan_tokens) for one in stage.executions])
            for stage in run.stages
        ]

    runs = [run_virtual(Sprint(slow()).run("question")) for _ in range(2)]
    assert times(runs[0]) == times(runs[1])
