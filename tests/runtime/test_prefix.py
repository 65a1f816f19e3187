"""Commits: requests for no tokens, for an engine that caches a completion only when it has ended."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sprint_agents import Answer, Budget, Capabilities, Executor, Limits, Plan, Sprint
from sprint_agents.policies import self_consistency
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


class Reading(FakeEngine):
    """An engine that caches what a request reads with its first token."""

    page_tokens = 1

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(caches_running=False, caches_contexts=True, page_tokens=self.page_tokens)


REQUEST, TOKEN = 0.001, 0.01


def leaders(engine: FakeEngine) -> Sequence[RequestRecord]:
    """The executors that started before what they share with others was in the cache, by the rules of ``Reading``."""
    planner = engine.requests[0]
    found: list[RequestRecord] = []
    for record, start in zip(executions(engine), starts(engine), strict=True):
        written = start[: start.rindex("</prompt_") + len("</prompt_")]
        read = any(
            other.request.context.text.startswith(written) and first_token(other) <= record.started
            for other in executions(engine)
            if other is not record
        )
        assert planner.ended is not None
        if not read and record.started < planner.ended:
            found.append(record)
    return found


def first_token(record: RequestRecord) -> float:
    return round(record.started + REQUEST + TOKEN, 6)


def test_the_executor_with_most_to_read_reads_for_all_others(model):
    prompts = [f"part {number}" for number in range(8)]
    latency = Latency(token=TOKEN, prompt_token=TOKEN)
    engine = Reading(model(prompts), latency=latency)
    result = run(engine, policy=given_plan(*prompts))
    assert commits(engine) == []
    first, *others = executions(engine)
    assert first.request.context.text.endswith("<execution_1.8>\n")
    assert first.cached_tokens == 0
    assert len({record.started for record in others}) == 1
    # The tokens of a prompt's closing tag and of a header.
    assert max(record.prompt_tokens - record.cached_tokens for record in others) < 10
    plain = FakeEngine(model(prompts))
    assert result.transcript == run(plain, policy=given_plan(*prompts)).transcript


@settings(max_examples=40)
@given(width=st.integers(1, 9), chunk=st.sampled_from([1, 3, 1000]), length=st.sampled_from([1, 5, 30]))
def test_one_executor_at_a_time_reads_what_the_planner_wrote(model, width: int, chunk: int, length: int):
    engine = Reading(
        model([f"part {number}" * length for number in range(width)]),
        latency=Latency(token=TOKEN, request=REQUEST),
        chunk_tokens=chunk,
    )
    result = run(engine)
    assert all("<execution_1" in commit.request.context.text for commit in commits(engine))  # they prefill the join
    assert result.usage.failures == 0
    reading = leaders(engine)
    assert all(first_token(one) <= round(after.started, 6) for one, after in pairwise(reading))


@pytest.mark.parametrize("fault", [Fault.drop(after=0), Fault.drop()])
def test_if_the_reader_fails_another_executor_reads(model, fault: Fault):
    engine = Reading(model(["a", "b", "c"]), latency=Latency(token=TOKEN, prompt_token=TOKEN), faults={1: fault})
    result = run(engine, policy=given_plan("a", "b", "c"))
    assert [execution.succeeded for execution in result.stages[0].executions] == [True, True, False]
    second, third = executions(engine)[1:]
    assert second.request.context.text.endswith("<execution_1.2>\n")
    assert third.started > second.started


def test_no_executor_waits_longer_than_the_planner_writes(model):
    engine = Reading(model(["a", "b"]), latency=Latency(token=TOKEN), faults={2: Fault.hang()})
    result = run(engine, limits=Limits(call_seconds=10))
    planner, reader, other, *_ = engine.requests
    assert (reader.outcome, other.outcome) == ("aborted", "finished")
    assert other.started == planner.ended
    assert [execution.succeeded for execution in result.stages[0].executions] == [False, True]


def test_no_executor_waits_for_less_than_a_page(model):
    engine = Reading(model(["a", "b", "c"]), latency=Latency(token=TOKEN, prompt_token=TOKEN))
    engine.page_tokens = 1000
    run(engine, policy=given_plan("a", "b", "c"))
    assert len({record.started for record in executions(engine)}) == 1


def test_leaving_a_run_ends_the_reader_and_starts_no_other(model):
    engine = Reading(model(["a", "b"]), faults={1: Fault.hang()})

    async def leave():
        async with Sprint(engine, policy=given_plan("a", "b")).stream("question") as events:
            async for event in events:
                if event.kind == "subtask_started":
                    break

    run_virtual(leave())
    assert [record.outcome for record in engine.requests] == ["aborted"]


@pytest.mark.parametrize("policy", [None, given_plan("a", "b", "c", "d")])
def test_on_another_engine_one_executor_reads_for_the_others(model, policy):
    """What the planner read and wrote is not in that engine's cache, also once its request has ended."""
    latency = Latency(token=TOKEN, prompt_token=TOKEN)
    planner, executors = FakeEngine(model(["a", "b", "c", "d"])), Reading(model(["a", "b", "c", "d"]), latency=latency)
    result = run(planner, executor=Executor(engine=executors), **({"policy": policy} if policy else {}))
    assert [execution.succeeded for execution in result.stages[0].executions] == [True] * 4
    assert [record.request.max_tokens == 0 for record in executors.requests] == [False] * 4
    first, *others = executors.requests
    assert first.cached_tokens == 0
    assert all(record.started >= round(first.started + first.prompt_tokens * TOKEN, 6) for record in others)
    assert max(record.prompt_tokens - record.cached_tokens for record in others) < first.prompt_tokens


def test_attempts_share_a_commit(model):
    engine = Reading(model(["a"]), latency=Latency(token=TOKEN))
    run(engine, policy=self_consistency(3))
    assert len(commits(engine)) == 1
