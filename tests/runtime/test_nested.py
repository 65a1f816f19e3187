"""Policies inside a run: subtasks carried out by one, and attempts."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sprint_agents import Answer, Budget, Executor, Limits, Plan, Planner, Sprint
from sprint_agents.errors import PolicyError
from sprint_agents.events import ExecutionFinished, ExecutorWrote, StageFinished, StageStarted, SubtaskStarted
from sprint_agents.markup import markup
from sprint_agents.policies import interleaved, sequential
from sprint_agents.testing import FakeEngine, Fault, Latency, Reply, run_virtual


def run(engine, policy, journal=None, **options):
    return run_virtual(Sprint(engine, policy=policy, **options).run("question", journal=journal))


def once(step):
    """A policy of one step, whose answer is the first value of its stage."""

    async def policy(planning):
        stage = yield step(planning)
        values = [execution.value for execution in stage.executions]
        yield Answer(value=values[0] if values else stage.answer)

    return policy


async def halves(planning):
    """A nested policy with its own plan."""
    stage = yield Plan.of(f"left of {planning.task}", f"right of {planning.task}")
    yield Answer(value=" + ".join(stage.results))


def handing_over_to(nested):
    """A policy with one subtask, which another policy carries out."""

    async def policy(planning):
        yield Plan.of("a", nested=nested)
        yield Answer(value="done")

    return policy


def test_a_nested_policy_works_behind_the_header_and_its_result_joins(model):
    engine = FakeEngine(model())
    result = run(engine, once(lambda planning: Plan.of("a", "b", nested=halves)))
    before = "question\n<Plan_1>\n<prompt_1.1>a</prompt_1.1>"
    inner = "\n<Plan_2>\n<prompt_2.1>left of a</prompt_2.1>"
    texts = [record.request.context.text for record in engine.requests]
    assert f"{before}\n<execution_1.1>{inner}\n<execution_2.1>\n" in texts
    assert f"{before}\n<execution_1.1>{inner}\n<prompt_2.2>right of a</prompt_2.2>\n<execution_2.2>\n" in texts
    assert result.transcript == (
        f"{before}\n<prompt_1.2>b</prompt_1.2>\n</Plan_1>\n"
        "<Execution_1>\n<execution_1.1>\nresult 2.1 + result 2.2\n</execution_1.1>\n"
        "<execution_1.2>\nresult 2.1 + result 2.2\n</execution_1.2>\n</Execution_1>\n"
    )
    first = result.stages[0].executions[0]
    assert [execution.prompt for execution in first.stages[0].executions] == ["left of a", "right of a"]
    assert first.usage.calls == 2
    assert result.usage.subtasks == 2 + 4
    assert result.usage.total_tokens == engine.account().generated_tokens
    assert result.usage.sequential_tokens_strict == first.stages[0].usage.sequential_tokens_strict


def test_a_result_that_the_model_wrote_joins_as_its_ids(model):
    def respond(prompt):
        if prompt.text.endswith("<execution_1.1>\n"):
            return "odd  ids ,joined\n</execution_1.1>"
        return model(["a"])(prompt)

    engine = FakeEngine(respond)
    result = run(engine, once(lambda planning: planning.ask(nested=interleaved)))
    assert result.stages[0].executions[0].value == "odd  ids ,joined"
    assert result.stages[0].executions[0].stages[0].diagnostics == ()
    encoded = run_virtual(engine.encode(markup("odd  ids ,joined\n</execution_")))
    planner = engine.requests[0].request.context
    assert engine.requests[1].request.context.text.startswith(planner.text)
    assert result.transcript.endswith("<execution_1.1>\nodd  ids ,joined\n</execution_1.1>\n</Execution_1>\n")
    assert len(encoded) == result.stages[0].executions[0].usage.generated_tokens


def test_a_nested_answer_is_of_the_executors_type(model):
    async def text(planning):
        yield Answer(value="17" if planning.task == "a" else "many")

    async def number(planning):
        yield Answer(value=18)

    engine = FakeEngine(model())
    for nested, expected in ((text, [17, None]), (number, [18, 18])):
        result = run(
            engine, once(lambda planning, nested=nested: Plan.of("a", "b", nested=nested)), executor=Executor(int)
        )
        assert [execution.value for execution in result.stages[0].executions] == expected
    failure = (
        run(engine, once(lambda planning: Plan.of("a", "b", nested=text)), executor=Executor(int)).stages[0].failures[0]
    )
    assert failure.failure.type == "InvalidResult"


def test_a_nested_policy_reads_what_its_subtask_waited_for(model):
    seen = []

    async def nested(planning):
        stage = yield planning.ask()
        yield Answer(value=stage.answer)

    def respond(prompt):
        seen.append(prompt.text)
        return f"word {len(seen)}\n</execution_"

    run(FakeEngine(respond), once(lambda planning: Plan.of("a", "b", after={2: (1,)}, nested=nested)))
    assert seen[1].endswith("<prompt_1.2>b</prompt_1.2>\n<execution_1.1>\nword 1\n</execution_1.1>\n<execution_1.2>\n")


def test_a_nested_failure_is_data_with_the_stages_that_there_were(model):
    async def nested(planning):
        yield Plan.of("x")
        yield planning.ask()

    def respond(prompt):
        if prompt.text.endswith("</Execution_2>\n"):
            return Reply("lost", fault=Fault.drop())
        return "fine\n</execution_"

    result = run(FakeEngine(respond), handing_over_to(nested))
    (execution,) = result.stages[0].executions
    assert execution.failure.type == "EngineUnavailable"
    assert execution.stages[0].results == ["fine"]
    assert "[failed: EngineUnavailable: " in result.transcript


def test_a_mistake_in_a_nested_policy_ends_the_run(model):
    async def nested(planning):
        yield "no step"

    with pytest.raises(PolicyError, match="not 'no step'"):
        run(FakeEngine(model()), handing_over_to(nested))
    with pytest.raises(PolicyError, match="async generator function"):
        run(FakeEngine(model()), handing_over_to(lambda planning: None))


def test_policies_cannot_be_nested_without_end(model):
    async def again(planning):
        stage = yield Plan.of("deeper", nested=again)
        yield Answer(value=stage.results[0])

    with pytest.raises(PolicyError, match=r"policies are nested 8 deep: .* planning\.depth"):
        run(FakeEngine(model()), again)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_nested_executions_cannot_wait_for_each_other(model, concurrency):
    """An execution that waits for its own executions does not count towards the limit."""
    engine = FakeEngine(model(execute=lambda s, n: Reply("x\n", delay=1)), latency=Latency(token=0.01))

    async def deep(planning):
        nested = deep if planning.depth < 3 else None
        stage = yield Plan.of("a", "b", nested=nested)
        yield Answer(value=" ".join(stage.results))

    result = run(engine, deep, limits=Limits(concurrency=concurrency))
    assert engine.account().peak == concurrency
    assert result.answer == " ".join(["x"] * 16)


def test_attempts_share_the_context_and_leave_nothing_in_it(model):
    async def policy(planning):
        yield Plan.of("a")
        stage = yield planning.attempt(interleaved, sequential)
        assert [execution.value for execution in stage.executions] == ["42", "42"]
        second = yield Plan.of("b")
        assert (second.number, second.plan_number) == (3, 2)
        yield Answer(value="done")

    def respond(prompt):
        if prompt.text.endswith("<think>\n"):
            return "hm</think>\n<Final_answer>\\boxed{42}</Final_answer>"
        return model(["unused"], ["c"], answer="42")(prompt)

    engine = FakeEngine(respond)
    result = run(engine, policy)
    assert "c</prompt_2.1>\n<execution_2.1>\n" in engine.requests[3].request.context.text
    assert result.transcript.endswith(
        "</Execution_1>\n<Plan_2>\n<prompt_2.1>b</prompt_2.1>\n</Plan_2>\n"
        "<Execution_2>\n<execution_2.1>\nresult 2.1\n</execution_2.1>\n</Execution_2>\n"
    )
    planned = result.stages[1].executions[0]
    assert planned.text.startswith("<Plan_2>")
    assert len(planned.stages) == 2
    assert result.stages[1].usage.total.calls == 4


def test_an_attempt_may_correct_its_answer_as_a_run_does(model):
    answers = iter(["many", "42"])
    engine = FakeEngine(lambda prompt: f"<Final_answer>\\boxed{{{next(answers)}}}</Final_answer>")
    result = run(engine, once(lambda planning: planning.attempt(interleaved)), planner=Planner(int, attempts=2))
    assert result.answer == 42
    assert result.usage.retries == 1


def test_events_of_nested_policies_are_those_of_their_execution(model):
    events = []

    async def policy(planning):
        yield planning.attempt(sequential)
        yield planning.ask(nested=interleaved)
        yield Answer(value="done")

    def respond(prompt):
        if prompt.text.endswith("<think>\n"):
            return "thinking</think>\n<Final_answer>\\boxed{1}</Final_answer>"
        return (
            "<Plan_1>\n<prompt_1.1>a</prompt_1.1>\n</Plan_1>" if prompt.text == "question\n" else "words\n</execution_"
        )

    async def watch():
        async with Sprint(FakeEngine(respond), policy=policy).stream("question") as stream:
            events.extend([event async for event in stream])

    run_virtual(watch())

    def of(kind):
        return [(e.stage, e.number) for e in events if isinstance(e, kind)]

    assert [event.stage for event in events if isinstance(event, StageStarted)] == [1, 2]
    assert [event.stage.number for event in events if isinstance(event, StageFinished)] == [1, 2]
    assert of(SubtaskStarted) == [(1, 1), (2, 1)]
    assert [(e.stage, e.execution.number) for e in events if isinstance(e, ExecutionFinished)] == [(1, 1), (2, 1)]
    written = {}
    for event in events:
        if isinstance(event, ExecutorWrote):
            written[event.stage, event.number] = written.get((event.stage, event.number), "") + event.text
    assert written[1, 1].startswith("thinking")
    assert written[2, 1] == "words\n</execution_"


def test_a_finished_stage_of_attempts_is_not_run_again(model, tmp_path):
    async def policy(planning):
        stage = yield planning.attempt(interleaved, halves)
        other = yield Plan.of("c", nested=halves)
        yield Answer(value=f"{stage.executions[1].value}; {other.results[0]}")

    engine = FakeEngine(model(["x"], answer="42"))
    first = run(engine, policy, journal=tmp_path / "run.jsonl")
    started = engine.account().started
    again = run(engine, policy, journal=tmp_path / "run.jsonl")
    assert engine.account().started == started
    assert (again.answer, again.stages, again.transcript) == (first.answer, first.stages, first.transcript)


@settings(max_examples=50)
@given(
    tokens=st.integers(0, 300),
    calls=st.integers(0, 40),
    subtasks=st.integers(0, 40),
    share=st.floats(0.1, 1.0),
    width=st.integers(1, 6),
)
def test_no_budget_is_exceeded_and_no_share_is(model, tokens, calls, subtasks, share, width):
    used = []

    async def deep(planning):
        used.append(planning.ledger)
        nested = deep if planning.depth < 2 else None
        stage = yield Plan.of(*map(str, range(width)), nested=nested, share=share)
        yield Answer(value=" ".join(stage.results) or "nothing")

    engine = FakeEngine(model(execute=lambda s, n: Reply("a b c d\n", delay=n % 3)), latency=Latency(token=0.001))
    usage = run(engine, deep, budget=Budget(tokens=tokens, calls=calls, subtasks=subtasks)).usage
    account = engine.account()
    assert account.generated_tokens == usage.total_tokens <= tokens
    assert account.started == usage.calls <= calls
    assert usage.subtasks <= subtasks
    assert account.running == 0
    for ledger in used:
        assert ledger.tokens <= ledger.budget.tokens
        assert ledger.calls <= ledger.budget.calls
        assert ledger.subtasks <= ledger.budget.subtasks
    for ledger in used[1:]:
        assert ledger.budget.tokens <= share * tokens


async def everything(planning):
    """Everything that can run at the same time: nested, dependent, pending, attempts, and an accepted execution."""
    nested = everything if planning.depth < 2 else None
    yield Plan.of("a", "b", "c", after={3: (1,)}, nested=nested, wait=False)
    stage = yield planning.attempt(sequential, halves, accept=lambda attempt: planning.depth > 0)
    yield Plan.of("d", "e", "f", after={1: (3,)}, accept=lambda execution: execution.number == 2, width=2, wait=False)
    if planning.depth:
        yield planning.join()
    yield Answer(value=stage.executions[-1].value)


def slow(prompt):
    size = len(prompt.text) % 7
    if prompt.text.endswith("<think>\n"):
        return Reply("hm</think>\n<Final_answer>\\boxed{1}</Final_answer>", delay=size)
    return Reply("x y z\n</execution_", delay=size, fault=Fault.drop(after=1) if size == 3 else None)


@settings(max_examples=60)
@given(
    at=st.floats(0, 15),
    failure=st.sampled_from(["collect", "retry", "fail_fast"]),
    concurrency=st.sampled_from([None, 1, 3]),
    by=st.sampled_from(["cancel", "leave", "deadline"]),
)
def test_cancelling_at_any_time_leaves_nothing_running(at, failure, concurrency, by):
    engine = FakeEngine(slow, latency=Latency(token=0.01, request=0.05))
    sprint = Sprint(
        engine,
        policy=everything,
        failure=failure,
        limits=Limits(concurrency=concurrency),
        budget=Budget(seconds=at + 0.01 if by == "deadline" else None),
    )

    async def leave():
        async with sprint.stream("question") as events:
            async for _ in events:
                if asyncio.get_running_loop().time() >= at:
                    break

    async def main():
        task = asyncio.create_task(leave() if by == "leave" else sprint.run("question"))
        await asyncio.sleep(at)
        if by == "cancel":
            task.cancel()
        await asyncio.wait([task])
        account = engine.account()
        assert account.running == 0
        assert account.started == account.finished + account.aborted + account.failed
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others
        if not task.cancelled():
            task.exception()

    run_virtual(main())
