"""Sprints inside sprints: each subtask is a separate run, on its own context."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents import Answer, Budget, Planner, Sprint
from sprint_agents.errors import BudgetExceeded, ExecutionFailed
from sprint_agents.events import InnerEvent, PlannerWrote
from sprint_agents.testing import FakeEngine, Latency, Reply, run_virtual


def run(engine, task="question", **options):
    return run_virtual(Sprint(engine, **options).run(task))


def outer(*prompts, answer="done"):
    plan = "<Plan_1>" + "".join(f"<prompt_1.{n}>{p}</prompt_1.{n}>" for n, p in enumerate(prompts, 1)) + "</Plan_1>"
    return {"": plan, "</Execution_1>": f"<Final_answer>\\boxed{{{answer}}}</Final_answer>"}


def inner(delay: float = 0.0):
    return FakeEngine(
        {
            "": "<Plan_1><prompt_1.1>a</prompt_1.1><prompt_1.2>b</prompt_1.2></Plan_1>",
            "<execution_1.1>": Reply("20", delay=delay),
            "<execution_1.2>": Reply("22", delay=delay),
            "</Execution_1>": "<Final_answer>\\boxed{42}</Final_answer>",
        }
    )


def test_a_sprint_carries_out_subtasks_as_tasks_of_its_own():
    engine, within = FakeEngine(outer("first", "second")), inner(delay=10)
    events = []

    async def watch():
        async with Sprint(engine, executor=Sprint(within, planner=Planner(int))).stream("question") as stream:
            events.extend([event async for event in stream])

    run_virtual(watch())
    result = events[-1].run
    assert result.stages[0].results == [42, 42]
    assert result.usage.seconds == pytest.approx(10)  # both at the same time
    assert {record.request.context.text.split("\n")[0] for record in within.requests} == {"first", "second"}
    total, account, nested = result.usage, engine.account(), within.account()
    assert total.calls == account.started + nested.started == 10
    assert total.total_tokens == account.generated_tokens + nested.generated_tokens
    assert total.prompt_tokens == account.prompt_tokens + nested.prompt_tokens
    assert total.subtasks == 2 + 4
    execution = result.stages[0].executions[0]
    assert [len(stage.executions) for stage in execution.stages] == [2, 0]
    assert execution.usage.calls == 4
    assert execution.transcript.startswith("first\n<Plan_1>")
    inside = [event for event in events if isinstance(event, InnerEvent)]
    assert {event.number for event in inside} == {1, 2}
    assert any(isinstance(event.event, PlannerWrote) for event in inside)
    assert [event.event.kind for event in inside if event.number == 1][-1] == "run_finished"
    assert "<execution_1.1>\n42\n</execution_1.1>" in result.transcript


@given(tokens=st.integers(0, 250), calls=st.integers(0, 20), subtasks=st.integers(0, 20), own=st.integers(0, 60))
def test_the_budget_of_the_whole_holds_for_sprints_inside(tokens: int, calls: int, subtasks: int, own: int):
    engine, within = FakeEngine(outer(*"abcd"), latency=Latency(token=0.01)), inner(delay=1)
    nested = Sprint(within, budget=Budget(tokens=own))
    budget = Budget(tokens=tokens, calls=calls, subtasks=subtasks)
    try:
        result = run(engine, executor=nested, budget=budget)
    except BudgetExceeded as error:
        result = error.run
    account, inside = engine.account(), within.account()
    assert account.generated_tokens + inside.generated_tokens <= tokens
    assert account.started + inside.started <= calls
    assert result.usage.subtasks <= subtasks
    assert inside.generated_tokens <= 4 * own
    assert result.usage.total_tokens == account.generated_tokens + inside.generated_tokens
    assert account.running == inside.running == 0


@pytest.mark.parametrize("failure", ["collect", "fail_fast"])
def test_a_sprint_that_fails_inside_is_a_failed_execution_with_its_cost(failure: Any):
    within = FakeEngine("<Final_answer>\\boxed{none}</Final_answer>")
    engine = FakeEngine(outer("first"))
    sprint = Sprint(engine, executor=Sprint(within, planner=Planner(int, attempts=1)), failure=failure)
    if failure == "fail_fast":
        with pytest.raises(ExecutionFailed, match=r"subtask 1\.1 failed: 'none' is no int"):
            run_virtual(sprint.run("question"))
        return
    result = run_virtual(sprint.run("question"))
    (execution,) = result.stages[0].executions
    assert execution.failure.type == "InvalidResult"
    assert execution.usage.generated_tokens == within.account().generated_tokens > 0


def test_leaving_a_run_ends_the_sprints_inside():
    engine, within = FakeEngine(outer("first", "second")), inner(delay=100)

    async def leave():
        async with Sprint(engine, executor=Sprint(within)).stream("question") as events:
            async for event in events:
                if isinstance(event, InnerEvent) and event.event.kind == "subtask_started":
                    break
        assert engine.account().running == within.account().running == 0

    run_virtual(leave())
    assert within.account().aborted > 0


def test_sprints_inside_sprints_are_restored_from_a_journal(tmp_path):
    engine, within = FakeEngine(outer("first")), inner()
    seen = []

    async def policy(planning):
        stage = yield planning.ask()
        seen.extend(stage.results)
        yield Answer(value="done")

    sprint = Sprint(engine, policy=policy, executor=Sprint(within, planner=Planner(int | None)))
    for _ in range(2):
        run_virtual(sprint.run("question", journal=tmp_path / "run.jsonl"))
    assert seen == [42, 42]
    assert within.account().started == 4
