"""Commits: requests for no tokens, for an engine that caches a completion only when it has ended."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sprint_agents import Answer, Budget, Capabilities, Plan, Sprint
from sprint_agents.testing import FakeEngine, Fault, Latency, RequestRecord, run_virtual


class Forgetful(FakeEngine):
    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(caches_running=False)


def run(engine, **options):
    return run_virtual(Sprint(engine, **options).run("question"))


def given_plan(*prompts: str):
    async def policy(planning):
        yield Plan.of(*prompts)
        yield Answer(value="done")

    return policy


def commits(engine: FakeEngine) -> Sequence[RequestRecord]:
    return [record for record in engine.requests if record.request.max_tokens == 0]


def executions(engine: FakeEngine) -> Sequence[RequestRecord]:
    return [record for record in engine.requests if record.request.context.own_text.startswith("\n<execution_")]


def starts(engine: FakeEngine) -> list[str]:
    """The context of each executor up to the end of its prompt."""
    return [record.request.context.text.rpartition("\n<execution_")[0] for record in executions(engine)]


def test_a_policys_plan_is_committed_once_for_all(model):
    prompts = [f"part {number}" for number in range(8)]
    engine = Forgetful(model(prompts))
    result = run(engine, policy=given_plan(*prompts))
    (commit,) = commits(engine)
    assert engine.requests[0] == commit
    assert commit.request.context.text == max(starts(engine), key=len)
    assert commit.ended is not None
    assert all(record.started >= commit.ended for record in executions(engine))
    plain = FakeEngine(model(prompts))
    assert result.transcript == run(plain, policy=given_plan(*prompts)).transcript
    assert commits(plain) == []


def test_a_single_subtask_has_nobody_to_share_with(model):
    engine = Forgetful(model(["alone"]))
    run(engine, policy=given_plan("alone"))
    assert commits(engine) == []


@settings(max_examples=40)
@given(width=st.integers(1, 9), chunk=st.sampled_from([1, 3, 1000]), token=st.sampled_from([0.0, 0.01, 3.0]))
def test_whatever_the_planner_wrote_so_far_is_committed_once(model, width: int, chunk: int, token: float):
    """One commit after the other while the planner writes slowly; at most one if its text comes at once."""
    engine = Forgetful(
        model([f"part {number}" for number in range(width)]),
        latency=Latency(token=token, request=0.001),
        chunk_tokens=chunk,
    )
    run(engine)
    lengths = [len(commit.request.context) for commit in commits(engine)]
    assert lengths == sorted(set(lengths))
    planner = engine.requests[0]
    for record, start in zip(executions(engine), starts(engine), strict=True):
        written = start[: start.rindex("</prompt_") + len("</prompt_")]
        assert planner.ended is not None
        ready = [commit.ended for commit in commits(engine) if commit.request.context.text.startswith(written)]
        assert min(end for end in [*ready, planner.ended] if end is not None) <= record.started
    if chunk == 1000 or not token:
        assert len(lengths) <= 1


def test_a_commit_is_part_of_what_a_run_cost(model):
    engine = Forgetful(model(["a", "b"]), latency=Latency(token=0.01))
    result = run(engine)
    account = engine.account()
    assert len(commits(engine)) > 0
    assert (result.usage.calls, result.usage.prompt_tokens) == (account.started, account.prompt_tokens)
    assert result.usage.cached_tokens == account.cached_tokens
    assert result.usage.total_tokens == account.generated_tokens


def test_a_function_reads_no_context(model):
    engine = Forgetful(model(["a", "b"]), latency=Latency(token=0.01))
    result = run(engine, executor=lambda subtask: subtask.number)
    assert [execution.value for execution in result.stages[0].executions] == [1, 2]
    assert commits(engine) == []


@pytest.mark.parametrize("fault", [Fault.drop(after=0), Fault.drop()])
def test_a_commit_that_fails_is_left_to_the_executors(model, fault: Fault):
    engine = Forgetful(model(["a", "b"]), faults={1: fault})
    result = run(engine, policy=given_plan("a", "b"))
    assert len(commits(engine)) == 1
    assert [execution.value for execution in result.stages[0].executions] == ["result 1.1", "result 1.2"]


def test_a_commit_takes_no_call_that_there_is_not(model):
    engine = Forgetful(model(["a", "b"]))
    result = run(engine, policy=given_plan("a", "b"), budget=Budget(calls=0))
    assert engine.requests == ()
    assert [execution.failure.type for execution in result.stages[0].executions if execution.failure] == [
        "BudgetExceeded",
        "BudgetExceeded",
    ]


def test_leaving_a_run_ends_its_commit(model):
    engine = Forgetful(model(["a", "b"]), faults={1: Fault.hang()})

    async def leave():
        async with Sprint(engine, policy=given_plan("a", "b")).stream("question") as events:
            async for event in events:
                if event.kind == "stage_started":
                    break

    run_virtual(leave())
    account = engine.account()
    assert account.started == account.aborted
