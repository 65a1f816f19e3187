"""Stages that do not wait for their executions, and joins."""

import asyncio
import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sprint_agents import Answer, Budget, Executor, Plan, Sprint, Trajectory
from sprint_agents.errors import DeadlineExceeded, EngineUnavailable, ExecutionFailed, PolicyError
from sprint_agents.events import StageFinished
from sprint_agents.testing import FakeEngine, Fault, Latency, Reply, run_virtual


def run(engine, policy, journal=None, **options):
    return run_virtual(Sprint(engine, policy=policy, **options).run("question", journal=journal))


async def ahead(planning):
    """Two pending plans, of which the later one joins first."""
    first = yield Plan.of("a", "b", wait=False)
    assert (first.pending, first.executions, planning.pending) == ((1, 2), (), [1])
    yield Plan.of("c", wait=False)
    assert planning.pending == [1, 2]
    second = yield planning.join(2)
    assert (second.number, second.results, planning.pending) == (2, ["result 2.1"], [1])
    first = yield planning.join()
    assert (first.number, first.results, first.pending) == (1, ["result 1.1", "result 1.2"], ())
    yield Answer(value=" and ".join(execution.text for stage in planning.stages for execution in stage.executions))


def test_a_join_brings_the_executions_behind_what_was_written_meanwhile(model):
    result = run(FakeEngine(model()), ahead)
    assert result.transcript == (
        "question\n"
        "<Plan_1>\n<prompt_1.1>a</prompt_1.1>\n<prompt_1.2>b</prompt_1.2>\n</Plan_1>\n"
        "<Plan_2>\n<prompt_2.1>c</prompt_2.1>\n</Plan_2>\n"
        "<Execution_2>\n<execution_2.1>\nresult 2.1\n</execution_2.1>\n</Execution_2>\n"
        "<Execution_1>\n<execution_1.1>\nresult 1.1\n</execution_1.1>\n<execution_1.2>\nresult 1.2\n</execution_1.2>\n"
        "</Execution_1>\n"
    )
    assert [len(stage.executions) for stage in result.stages] == [2, 1]


def test_the_critical_path_hides_what_ran_meanwhile(model):
    """While executions of 10 and 50 tokens run, the planner writes 30: the longer execution hides them."""

    def respond(prompt):
        if prompt.text.endswith("<think>\n"):
            return "t " * 15 + "</think>\n<Final_answer>\n"
        return "x " * (5 if "<execution_1.1>" in prompt.text else 25)

    async def policy(planning):
        yield Plan.of("a", "b", wait=False)
        yield planning.ask("chain")
        yield planning.join()
        yield Answer(value="done")

    engine = FakeEngine(respond)
    result = run(engine, policy)
    joined, chain = result.stages
    longest = max(execution.usage.generated_tokens for execution in joined.executions)
    written = chain.usage.total.generated_tokens
    assert 0 < written < longest
    assert result.usage.sequential_tokens_strict == longest
    assert joined.usage.sequential_tokens_strict == longest - written
    assert result.usage.total_tokens == engine.account().generated_tokens


def test_an_answer_gives_up_what_is_pending_and_keeps_what_finished(model):
    async def policy(planning):
        yield Plan.of("a", "b", wait=False)
        yield Plan.of("c")
        yield Answer(value="done")

    engine = FakeEngine(model(execute=lambda s, n: Reply("x\n", delay=9 if (s, n) == (1, 2) else 1)))
    result = run(engine, policy)
    assert result.usage.seconds == 1
    pending = result.stages[0]
    assert pending.pending == ()
    assert pending.results == ["x"]
    assert pending.failures[0].failure.type == "Superseded"
    assert "its run ended first" in pending.failures[0].failure.message
    assert "<Execution_1>" not in result.transcript
    account = engine.account()
    assert (account.running, account.aborted) == (0, 1)
    assert result.usage.total_tokens == account.generated_tokens


@pytest.mark.parametrize("failure", ["collect", "fail_fast"])
def test_a_run_that_fails_keeps_what_its_pending_stages_had(model, failure):
    async def policy(planning):
        yield Plan.of("a", "b", "c", wait=False)
        yield planning.ask()

    def respond(prompt):
        if prompt.text.endswith("</Plan_1>\n"):
            return Reply("<Plan_2>", delay=2, fault=Fault.drop())
        return Reply("x\n</execution_", delay=9 if "1.2>\n<execution" in prompt.text else 1)

    engine = FakeEngine(respond)
    with pytest.raises(EngineUnavailable) as caught:
        run(engine, policy, failure=failure)
    (stage,) = caught.value.run.stages
    assert [execution.failure and execution.failure.type for execution in stage.executions] == [
        None,
        "Superseded",
        None,
    ]
    assert engine.account().running == 0


def test_under_fail_fast_a_pending_failure_ends_the_run_whatever_it_is_doing(model):
    async def policy(planning):
        yield Plan.of("a", wait=False)
        yield Plan.of("b", wait=False)
        yield planning.ask()

    def respond(prompt):
        if "<execution_1.1>" in prompt.text:
            return Reply("x", delay=1, fault=Fault.drop())
        return Reply("never", delay=99)

    engine = FakeEngine(respond)

    async def main():
        with pytest.raises(ExecutionFailed, match=r"subtask 1\.1 failed") as caught:
            await Sprint(engine, policy=policy, failure="fail_fast").run("question")
        assert isinstance(caught.value.__cause__, EngineUnavailable)
        assert engine.account().running == 0
        assert [record.ended for record in engine.requests] == [1, 1, 1]
        # The cancellation was the run's own affair: this task goes on.
        return len(caught.value.run.stages)

    assert run_virtual(main()) == 2


def test_the_deadline_ends_what_is_pending(model):
    async def policy(planning):
        yield Plan.of("a", wait=False)
        yield planning.join()

    engine = FakeEngine(model(execute=lambda s, n: Reply("x", fault=Fault.hang())))
    with pytest.raises(DeadlineExceeded):
        run(engine, policy, budget=Budget(seconds=5))
    assert engine.account().running == 0


def test_joins_that_cannot_be_are_told_why(model):
    async def nothing(planning):
        yield planning.join()

    async def twice(planning):
        yield Plan.of("a", wait=False)
        yield planning.join()
        yield planning.join(1)

    async def other(planning):
        yield Plan.of("a", wait=False)
        yield planning.join(2)

    for policy, message in ((nothing, "no stage is pending"), (twice, "stage 1 is not"), (other, "stage 2 is not")):
        with pytest.raises(PolicyError, match=rf"there is nothing to join, {message}.*wait=False"):
            run(FakeEngine(model()), policy)


def test_a_plan_without_subtasks_has_nothing_to_wait_for(model):
    async def policy(planning):
        stage = yield planning.ask(wait=False)
        assert stage.pending == ()
        yield Answer(value=len(planning.pending))

    assert run(FakeEngine(model([])), policy).answer == "0"


async def pipeline(planning):
    """Six plans, up to two of them pending; none is pending after the third and at the end."""
    for number in range(1, 7):
        yield Plan.of(f"{number}a", f"{number}b", wait=False, keep=lambda executions: [1])
        while len(planning.pending) > (0 if number in (3, 6) else 1):
            yield planning.join()
    stage = yield planning.ask()
    yield Answer(value=stage.answer)


def test_only_a_cut_at_which_nothing_is_pending_is_journalled_as_one(model):
    events = []

    async def watch():
        async with Sprint(FakeEngine(model()), policy=pipeline).stream("question") as stream:
            events.extend([event async for event in stream if isinstance(event, StageFinished)])

    run_virtual(watch())
    assert [event.stage.number for event in events] == [1, 2, 3, 4, 5, 6, 7]
    assert [event.cut for event in events] == [False, False, True, False, False, True, True]


@settings(max_examples=30)
@given(cut=st.integers(0, 9000))
def test_a_run_with_pending_stages_resumes_from_its_records(model, tmp_path_factory, cut):
    """Wherever the journal is cut off, the resumed run finds exactly the same, and repeats no recorded request."""
    path = tmp_path_factory.mktemp("journal") / "run.jsonl"
    script = model(execute=lambda stage, number: f"{10 * stage + number}\n", answer="42")
    engine = FakeEngine(script)
    whole = run(engine, pipeline, journal=path, executor=Executor(int))
    started = engine.account().started
    content = path.read_bytes()
    path.write_bytes(content[: max(0, len(content) - cut)])
    records = [json.loads(line)["record"] for line in path.read_text().splitlines(keepends=True) if line[-1] == "\n"]
    kept = sum(record.get("kind") in ("completion", "execution") for record in records)
    spent = records[-1].get("spent", {}).get("calls", 0) if records else 0
    resumed = run(engine, pipeline, journal=path, executor=Executor(int))
    assert resumed.transcript == whole.transcript
    assert found(resumed) == found(whole)
    repeated = engine.account().started - started
    assert repeated == 13 - kept
    assert resumed.usage.calls == spent + repeated


def found(result):
    """Everything in a run that a warm cache and the clock do not change."""
    stages = [
        (stage.number, stage.results, stage.usage.sequential_tokens, stage.usage.sequential_tokens_strict)
        for stage in result.stages
    ]
    usage = result.usage
    return stages, usage.total_tokens, usage.sequential_tokens_strict, usage.subtasks


def test_what_was_given_up_is_not_run_again(model, tmp_path):
    async def policy(planning):
        yield Plan.of("a", wait=False)
        yield Plan.of("b")
        yield Answer(value=len(planning.stages))

    engine = FakeEngine(model(execute=lambda s, n: Reply("x\n", delay=9 if s == 1 else 1)))
    first = run(engine, policy, journal=tmp_path / "run.jsonl")
    started = engine.account().started
    again = run(engine, policy, journal=tmp_path / "run.jsonl")
    assert engine.account().started == started
    assert (again.stages, again.transcript, again.answer) == (first.stages, first.transcript, first.answer)


@given(at=st.floats(0, 12), failure=st.sampled_from(["collect", "retry", "fail_fast"]))
def test_cancelling_at_any_time_leaves_nothing_running(model, at, failure):
    seconds = itertools.cycle((1.0, 5.0, 0.5, 2.5))
    engine = FakeEngine(
        model(execute=lambda s, n: Reply("x y\n", delay=next(seconds))), latency=Latency(token=0.01, request=0.1)
    )

    async def main():
        task = asyncio.create_task(Sprint(engine, policy=pipeline, failure=failure).run("question"))
        await asyncio.sleep(at)
        task.cancel()
        await asyncio.wait([task])
        account = engine.account()
        assert account.running == 0
        assert account.started == account.finished + account.aborted + account.failed

    run_virtual(main())


def test_the_transcript_of_late_joins_parses_back(model):
    trajectory = Trajectory.from_text(run(FakeEngine(model()), ahead).transcript)
    assert [[(s.prompt, s.execution) for s in stage.subtasks] for stage in trajectory.stages] == [
        [("a", "result 1.1"), ("b", "result 1.2")],
        [("c", "result 2.1")],
    ]
    assert {diagnostic.kind for diagnostic in trajectory.diagnostics} == {"no_answer"}
