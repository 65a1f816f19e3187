"""How a step bounds its subtasks: width, the first accepted, and what joins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents import Answer, Plan, Sprint
from sprint_agents.errors import PolicyError
from sprint_agents.events import ExecutionFinished, SubtaskStarted
from sprint_agents.testing import FakeEngine, Fault, Latency, Reply, run_virtual


def run(engine, *steps, **options):
    async def policy(planning):
        for step in steps:
            yield step(planning) if callable(step) else step
        yield Answer(value="done")

    return run_virtual(Sprint(engine, policy=policy, **options).run("question"))


def test_an_execution_that_is_accepted_ends_the_stage_but_not_the_plan(model):
    """Subtasks that the planner writes afterwards are not started, but stay in the plan."""
    engine = FakeEngine(
        model(["a", "b", "c", "d"], execute=lambda s, n: Reply("x " * (20 if n == 1 else 2) + "\n")),
        latency=Latency(token=1.0),
    )
    result = run(engine, lambda planning: planning.ask(accept=lambda execution: execution.number == 2))
    stage = result.stages[0]
    assert stage.accepted == 2
    assert [execution.failure and execution.failure.type for execution in stage.executions] == [
        "Superseded",
        None,
        *["Superseded"] * (len(stage.executions) - 2),
    ]
    assert "not started: 1.2 was accepted before" in stage.executions[-1].failure.message
    assert "<prompt_1.4>d</prompt_1.4>\n</Plan_1>\n<Execution_1>\n<execution_1.2>" in result.transcript
    assert "</execution_1.2>\n</Execution_1>\n" in result.transcript
    account = engine.account()
    assert (account.running, account.aborted) == (0, 1)
    assert (
        result.usage.total_tokens
        == account.generated_tokens
        == sum(s.usage.total.generated_tokens for s in result.stages)
    )
    assert stage.executions[0].usage.generated_tokens > 0


def test_every_subtask_of_a_stage_that_ends_early_has_its_event(model):
    events = []

    async def policy(planning):
        yield Plan.of("a", "b", "c", accept=lambda execution: execution.number == 1, width=2)
        yield Answer(value="done")

    async def watch():
        engine = FakeEngine(model(execute=lambda s, n: Reply("x\n", delay=n)))
        async with Sprint(engine, policy=policy).stream("question") as stream:
            events.extend([event async for event in stream])

    run_virtual(watch())
    assert [event.number for event in events if isinstance(event, SubtaskStarted)] == [1, 2]
    finished = [event.execution for event in events if isinstance(event, ExecutionFinished)]
    assert {execution.number: execution.failure and execution.failure.type for execution in finished} == {
        1: None,
        2: "Superseded",
        3: "WidthExceeded",
    }
    assert len(finished) == 3


def test_a_failure_is_not_asked_whether_it_is_accepted(model):
    asked = []

    def accept(execution):
        asked.append(execution.number)
        return False

    engine = FakeEngine(model(execute=lambda s, n: Reply("x\n", fault=Fault.drop() if n == 1 else None)))
    run(engine, Plan.of("a", "b", accept=accept))
    assert asked == [2]


def test_dependents_of_what_was_given_up_are_given_up_too(model):
    engine = FakeEngine(model(execute=lambda s, n: Reply("x\n", delay=n)))
    plan = Plan.of("a", "b", "c", after={3: (2,)}, accept=lambda execution: execution.number == 1)
    result = run(engine, plan)
    assert [execution.succeeded for execution in result.stages[0].executions] == [True, False, False]
    assert engine.account().started == 2


@given(
    seconds=st.lists(st.integers(0, 3), min_size=1, max_size=8),
    good=st.sets(st.integers(1, 8)),
    width=st.integers(1, 8),
)
def test_accept_and_width_account_for_every_subtask(model, seconds, good, width):
    engine = FakeEngine(model(execute=lambda s, n: Reply("x\n", delay=seconds[n - 1])))
    plan = Plan.of(*map(str, seconds), accept=lambda execution: execution.number in good, width=width)
    result = run(engine, plan)
    stage = result.stages[0]
    open_ = range(1, min(width, len(seconds)) + 1)
    first = min((seconds[number - 1] for number in open_ if number in good), default=None)
    assert result.usage.seconds == (max(seconds[: len(open_)]) if first is None else first)
    assert (stage.accepted in good) if first is not None else stage.accepted is None
    for execution in stage.executions:
        if execution.number not in open_:
            assert execution.failure.type == "WidthExceeded"
        elif first is not None and seconds[execution.number - 1] > first:
            assert execution.failure.type == "Superseded"
        elif first is None or seconds[execution.number - 1] < first:
            assert execution.succeeded
    account = engine.account()
    assert account.running == 0
    assert account.started == len(open_) == result.usage.subtasks
    assert account.aborted == sum(e.failure is not None and e.failure.type == "Superseded" for e in stage.executions)


def test_only_what_is_kept_joins(model):
    result = run(FakeEngine(model()), Plan.of("a", "b", "c", keep=lambda executions: [executions[1].number]))
    assert [execution.value for execution in result.stages[0].executions] == ["result 1.1", "result 1.2", "result 1.3"]
    assert result.transcript.endswith(
        "</Plan_1>\n<Execution_1>\n<execution_1.2>\nresult 1.2\n</execution_1.2>\n</Execution_1>\n"
    )
    nothing = run(FakeEngine(model()), Plan.of("a", "b", keep=lambda executions: []))
    assert nothing.transcript.endswith("</Plan_1>\n")


def test_what_was_accepted_is_always_kept(model):
    plan = Plan.of("a", "b", accept=lambda execution: execution.number == 2, keep=lambda executions: [])
    engine = FakeEngine(model(execute=lambda s, n: Reply("x\n", delay=3 - n)))
    assert "<Execution_1>\n<execution_1.2>\nx\n</execution_1.2>\n</Execution_1>" in run(engine, plan).transcript


def failing(execution):
    return execution.value["key"]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (
            Plan.of("a", keep=lambda executions: [failing(executions[0])]),
            "keep= failed on the executions of stage 1, TypeError.*returns the numbers",
        ),
        (Plan.of("a", accept=failing), r"accept= failed on execution 1\.1, TypeError.*it is given each Execution"),
        (
            Plan.of("a", keep=lambda executions: [7]),
            "keep= named 7 of stage 1, which is not an execution that it was given",
        ),
    ],
)
def test_wrong_use_is_told_how(model, plan, message):
    engine = FakeEngine(model())
    with pytest.raises(PolicyError, match=message) as caught:
        run(engine, plan)
    assert caught.value.run.error.type == "PolicyError"
    assert engine.account().running == 0


@pytest.mark.parametrize("form", ["chain", "answer"])
def test_options_of_subtasks_where_there_are_none_are_refused(model, form):
    engine = FakeEngine(model())
    with pytest.raises(PolicyError, match=rf"ask\('{form}'\) starts no subtasks, so width= says nothing: leave it out"):
        run(engine, lambda planning: planning.ask(form, width=2))
    assert engine.account().started == 0
