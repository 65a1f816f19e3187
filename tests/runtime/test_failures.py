import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents import Answer, Budget, Executor, FailurePolicy, Limits, Plan, Planner, Sprint
from sprint_agents.errors import (
    BudgetExceeded,
    ConfigurationError,
    ContextOverflow,
    DeadlineExceeded,
    EngineRejected,
    EngineUnavailable,
    ExecutionFailed,
    InvalidResult,
    PolicyError,
    UnknownPolicy,
    UnsupportedTask,
)
from sprint_agents.events import ExecutionRetried, RunFinished
from sprint_agents.testing import FakeEngine, Fault, Latency, Reply, run_virtual
from sprint_agents.wrapped_engine import WrappedEngine


def run(engine, task="question", **options):
    return run_virtual(Sprint(engine, **options).run(task))


def failing(number, fault):
    return lambda stage, at: Reply(f"result {at}\n", fault=fault if at == number else None)


def test_requests_that_an_engine_sent_again_are_retries(model):
    class Patient(FakeEngine):
        async def complete(self, request):
            async with aclosing(super().complete(request)) as chunks:
                async for chunk in chunks:
                    yield chunk if chunk.finish is None else replace(chunk, finish=replace(chunk.finish, retries=2))

    result = run(Patient(model(["a", "b"])))
    assert result.usage.retries == 2 * result.usage.calls
    assert sum(stage.usage.total.retries for stage in result.stages) == result.usage.retries


def test_collect_shows_the_failure_to_the_planner_and_loses_nothing(model):
    engine = FakeEngine(model(["a", "b", "c"], execute=failing(2, Fault.drop(after=1))))
    result = run(engine, failure="collect")
    stage = result.stages[0]
    assert stage.results == ["result 1", "result 3"]
    assert [execution.number for execution in stage.failures] == [2]
    assert stage.failures[0].failure.type == "EngineUnavailable"
    assert "<execution_1.2>\n[failed: EngineUnavailable: " in result.transcript
    assert result.usage.failures == 1


def test_fail_fast_ends_the_run_and_aborts_the_siblings(model):
    def execute(stage, number):
        return Reply("x", delay=1, fault=Fault.drop()) if number == 2 else Reply("x", fault=Fault.hang())

    engine = FakeEngine(model(["a", "b", "c"], execute=execute))
    with pytest.raises(ExecutionFailed, match=r"subtask 1\.2 failed") as caught:
        run(engine, failure="fail_fast")
    assert isinstance(caught.value.__cause__, EngineUnavailable)
    assert caught.value.run.error.type == "ExecutionFailed"
    assert engine.account().running == 0
    assert engine.account().aborted == 2


def test_retry_tries_again_what_may_succeed_later(model):
    tries = []

    def execute(stage, number):
        tries.append(number)
        return Reply("fine\n", fault=Fault.drop() if len(tries) < 3 else None)

    events = []

    async def watch():
        async with Sprint(FakeEngine(model(["a"], execute=execute)), failure="retry").stream("question") as stream:
            events.extend([event async for event in stream])

    run_virtual(watch())
    assert [event.attempt for event in events if isinstance(event, ExecutionRetried)] == [2, 3]
    result = events[-1].run
    assert result.stages[0].results == ["fine"]
    assert result.usage.retries == 2
    assert len(tries) == 3


def test_a_retry_is_an_event_whatever_the_error_says(model):
    fault = Fault.error(EngineUnavailable("caf\udce9"))
    engine, heard = FakeEngine(model(["a"]), faults={2: fault}), []
    assert run(engine, failure="retry", listeners=[heard.append]).stages[0].executions[0].succeeded
    (retried,) = [event for event in heard if isinstance(event, ExecutionRetried)]
    assert r"caf\\udce9" in retried.model_dump_json()


class RefusesAtOnce(WrappedEngine):
    """Has no async generator: the request with this number fails when it is made, not when it is read."""

    def __init__(self, engine, number):
        super().__init__(engine)
        self.left = number

    def complete(self, request):
        self.left -= 1
        if not self.left:
            raise EngineRejected("too long")
        return self._engine.complete(request)


def test_an_engine_that_refuses_at_once_fails_like_any_other(model):
    budget, limits = Budget(tokens=200), Limits(call_seconds=1, execution_tokens=100)
    result = run(RefusesAtOnce(FakeEngine(model(["a", "b"])), 2), budget=budget, limits=limits)
    first, second = result.stages[0].executions
    assert (first.failure.type, second.succeeded) == ("EngineRejected", True)

    async def caller():
        with pytest.raises(EngineRejected):
            await Sprint(RefusesAtOnce(FakeEngine(model()), 1), limits=limits).run("question")
        await asyncio.sleep(2)  # no timer of the run cancels its caller's task

    run_virtual(caller())


def test_retry_gives_up_and_collects(model):
    engine = FakeEngine(model(["a"], execute=lambda s, n: Reply("x", fault=Fault.drop())))
    result = run(engine, failure=FailurePolicy(mode="retry", attempts=2))
    assert len(result.stages[0].failures) == 1
    assert result.stages[0].executions[0].usage.retries == 1


def test_what_can_never_succeed_is_not_tried_again(model):
    engine = FakeEngine(model(["a"], execute=lambda s, n: Reply("x", fault=Fault.error(EngineRejected("no")))))
    result = run(engine, failure="retry")
    assert result.usage.retries == 0
    assert result.stages[0].failures[0].failure.message == "no"


def test_a_result_of_the_wrong_type_is_a_typed_failure_with_the_text(model):
    engine = FakeEngine(model(["a", "b"], execute=lambda s, n: "17\n" if n == 1 else "many\n"))
    result = run(engine, executor=Executor(int))
    stage = result.stages[0]
    assert stage.results == [17]
    assert stage.failures[0].failure.type == "InvalidResult"
    assert "'many' is no int" in stage.failures[0].failure.message


def test_an_answer_of_the_wrong_type_is_an_error_with_the_text(model):
    with pytest.raises(InvalidResult, match="'plenty' is no int") as caught:
        run(FakeEngine(model(answer="plenty")), planner=Planner(int))
    assert caught.value.text == "plenty"
    assert caught.value.run.stages[0].answer == "plenty"


def test_a_plain_function_can_be_the_executor(model):
    async def lookup(subtask):
        await asyncio.sleep(1)
        if subtask.prompt == "b":
            raise LookupError("not there")
        return len(subtask.prompt)

    result = run(FakeEngine(model(["a", "b", "ccc"])), executor=lookup)
    assert result.stages[0].results == [1, 3]
    assert result.stages[0].failures[0].failure.type == "LookupError"
    assert result.usage.seconds == pytest.approx(1)


def test_a_planner_that_fails_ends_the_run_with_what_it_had(model):
    script = model(["a"], ["b"])

    def respond(prompt):
        text = script(prompt)
        broken = "</Plan_1>" in prompt.text and isinstance(text, str) and text.startswith("<Plan_2>")
        return Reply(text, fault=Fault.drop(after=2)) if broken else text

    engine = FakeEngine(respond)
    with pytest.raises(EngineUnavailable) as caught:
        run(engine)
    finished, interrupted = caught.value.run.stages
    assert (finished.interrupted, interrupted.interrupted) == (False, True)
    assert (len(interrupted.executions), interrupted.usage.total.generated_tokens) == (0, 2)
    assert caught.value.run.usage.stages == 1
    assert caught.value.run.transcript.endswith("</Execution_1>\n")


def test_a_planner_is_tried_again_under_retry(model):
    result = run(FakeEngine(model(["a"], answer="ok"), faults={1: Fault.drop(after=3)}), failure="retry")
    assert result.answer == "ok"
    assert result.usage.calls == 4


def test_an_executor_that_hangs_is_given_up(model):
    engine = FakeEngine(model(["a", "b"], execute=failing(1, Fault.hang())))
    result = run(engine, limits=Limits(call_seconds=30))
    assert result.stages[0].failures[0].failure.type == "EngineTimeout"
    assert result.stages[0].results == ["result 2"]
    assert engine.account().running == 0


def test_the_deadline_ends_everything(model):
    engine = FakeEngine(model(["a", "b"], execute=failing(1, Fault.hang())))
    with pytest.raises(DeadlineExceeded, match=r"the run's 5 s are over") as caught:
        run(engine, budget=Budget(seconds=5))
    assert caught.value.run.usage.seconds == pytest.approx(5)
    assert engine.account().running == 0


def test_a_context_that_outgrows_the_model_in_mid_run_is_typed_and_keeps_the_stages(model):
    engine = FakeEngine(model(*[["a", "b"]] * 20), context_limit=200)
    with pytest.raises(ContextOverflow) as caught:
        run(engine, limits=Limits(stages=30))
    assert caught.value.run.stages


@given(tokens=st.integers(0, 400), calls=st.integers(0, 30), subtasks=st.integers(0, 30), width=st.integers(1, 64))
def test_no_budget_is_ever_exceeded_at_any_width(model, tokens, calls, subtasks, width):
    engine = FakeEngine(
        model([f"task {n}" for n in range(width)], execute=lambda s, n: Reply("a b c d e f g\n", delay=n % 3)),
        latency=Latency(token=0.001),
    )
    try:
        usage = run(engine, budget=Budget(tokens=tokens, calls=calls, subtasks=subtasks)).usage
    except (BudgetExceeded, InvalidResult) as error:
        usage = error.run.usage
    account = engine.account()
    assert account.generated_tokens <= tokens
    assert account.started <= calls
    assert usage.subtasks <= subtasks
    assert usage.total_tokens == account.generated_tokens
    assert account.running == 0


@given(width=st.integers(1, 16), at=st.integers(0, 200), failure=st.sampled_from(["collect", "retry", "fail_fast"]))
def test_cancelling_at_any_event_leaves_nothing_running(model, width, at, failure):
    engine = FakeEngine(
        model([f"task {n}" for n in range(width)], ["last"], execute=lambda s, n: Reply("a b c\n", delay=n / 10)),
        latency=Latency(token=0.01),
    )

    async def main():
        count = 0
        async with Sprint(engine, failure=failure).stream("question") as events:
            async for _ in events:
                count += 1
                if count > at:
                    break
        account = engine.account()
        assert account.running == 0
        assert account.started == account.finished + account.aborted + account.failed

    run_virtual(main())


@given(at=st.floats(0, 3))
def test_cancelling_the_task_at_any_time_leaves_nothing_running(model, at):
    engine = FakeEngine(
        model(["a", "b", "c"], execute=lambda s, n: Reply("x y\n", delay=n)), latency=Latency(token=0.01)
    )

    async def main():
        task = asyncio.create_task(Sprint(engine).run("question"))
        await asyncio.sleep(at)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or at > 2
        assert engine.account().running == 0

    run_virtual(main())


async def no_step(planning):
    yield "a string"


async def no_answer(planning):
    yield Plan.of("a")


async def too_many(planning):
    while True:
        yield Plan.of("a")


def not_a_generator(planning):
    return Answer(value=1)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (no_step, "not 'a string'"),
        (no_answer, "ended without an answer"),
        (too_many, "wants stage 13 of at most 12"),
        (not_a_generator, "a policy is an async generator function"),
    ],
)
def test_a_policy_that_does_it_wrong_is_told_how(model, policy, message):
    with pytest.raises(PolicyError, match=message):
        run(FakeEngine(model()), policy=policy)


def test_a_policy_is_closed_when_its_run_ends(model):
    closed = []

    async def careful(planning):
        try:
            while True:
                yield planning.ask()
        finally:
            closed.append(True)

    with pytest.raises(DeadlineExceeded):
        run(FakeEngine(model(["a"], execute=failing(1, Fault.hang()))), policy=careful, budget=Budget(seconds=1))
    assert closed == [True]


def test_wrong_use_is_found_before_anything_runs(model):
    engine = FakeEngine(model())
    with pytest.raises(UnknownPolicy, match="'interlaced': use one of interleaved, sequential"):
        Sprint(engine, policy="interlaced")
    with pytest.raises(UnsupportedTask, match="the task is empty"):
        run(engine, task="  \n")
    with pytest.raises(ConfigurationError, match="pydantic has no schema"):
        Planner(type("Odd", (), {}))
    assert engine.account().started == 0


def test_the_last_event_of_a_failed_run_has_its_error(model):
    events = []

    async def watch():
        async with Sprint(FakeEngine(model(["a"])), budget=Budget(calls=0)).stream("question") as stream:
            async for event in stream:
                events.append(event)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(BudgetExceeded):
        run_virtual(watch())
    assert isinstance(events[-1], RunFinished)
    assert events[-1].run.error.type == "BudgetExceeded"
