"""A budget bounds what a run generates, and does not switch its parallelism off."""

import random
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from sprint_agents import Answer, Budget, Limits, Plan, Run, Sprint
from sprint_agents.budget import LEAST_SHARE
from sprint_agents.engine import Capabilities, Chunk, Request
from sprint_agents.errors import SprintError
from sprint_agents.events import BudgetAwaited, Event, RunFinished
from sprint_agents.policies import BUILT_IN, Policy, interleaved
from sprint_agents.testing import Account, FakeEngine, Fault, Latency, Prompt, Reply, run_virtual

EXECUTION = re.compile(r"<execution_1\.(\d+)>\n$")
WORDS = 51


class Watched(FakeEngine):
    """Checks at every request that what the active ones may generate is never more than the budget has left."""

    budget: int | None = None
    outstanding: int = 0
    settled: int = 0

    async def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        self.outstanding += request.max_tokens
        assert self.budget is None or self.settled + self.outstanding <= self.budget
        stream, generated = super().complete(request), 0
        try:
            async for chunk in stream:
                generated += len(chunk.ids)
                yield chunk
        finally:
            await stream.aclose()
            self.outstanding -= request.max_tokens
            self.settled += generated


def fan_out(*words: int) -> Policy:
    """Make a policy of one stage, whose executions write so many words each."""

    async def policy(planning: object) -> AsyncGenerator[Plan | Answer, object]:
        yield Plan.of(*(f"write {count} words" for count in words))
        yield Answer(value="done")

    return policy  # type: ignore[return-value]


def planned(*words: int) -> str:
    prompts = "".join(
        f"<prompt_1.{number}>write {count} words</prompt_1.{number}>" for number, count in enumerate(words, 1)
    )
    return f"<Plan_1>{prompts}</Plan_1>"


def model(plan: str = ""):
    def respond(prompt: Prompt) -> str:
        if match := EXECUTION.search(prompt.tail(30)):
            number = match[1]
            count = int(re.findall(rf"<prompt_1\.{number}>\s*write (\d+) words", prompt.text)[-1])
            return " ".join(f"w{number}" for _ in range(count)) + f"</execution_1.{number}>"
        return plan if "</Plan_1>" not in prompt.text else r"<Final_answer>\boxed{done}</Final_answer>"

    return respond


def measured(
    policy: Policy,
    budget: Budget | None = None,
    *,
    plan: str = "",
    capabilities: Capabilities | None = None,
    limits: Limits | None = None,
    token: float = 0.01,
) -> tuple[Run[str, str], Account, list[Event]]:
    engine = Watched(model(plan), latency=Latency(token=token), chunk_tokens=8, capabilities=capabilities)
    engine.budget = budget.tokens if budget else None
    seen: list[Event] = []

    async def main() -> None:
        async with Sprint(engine, policy=policy, budget=budget, limits=limits).stream("go") as events:
            async for event in events:
                seen.append(event)  # noqa: PERF401 - a run that fails leaves the events before

    with suppress(SprintError):
        run_virtual(main())
    finished = seen[-1]
    assert isinstance(finished, RunFinished)
    return finished.run, engine.account(), seen


@pytest.mark.parametrize(("times", "width"), [(3, 64), (1.5, 64), (1.1, 64), (1, 64)])
def test_a_budget_of_what_a_run_needs_leaves_its_width(times: float, width: int) -> None:
    free, account, _ = measured(fan_out(*[WORDS] * 64))
    assert account.peak == 64
    budget = Budget(tokens=int(times * free.usage.total_tokens))
    run, account, _ = measured(fan_out(*[WORDS] * 64), budget)
    assert account.peak >= width
    assert run.stages[0].results == free.stages[0].results
    assert run.usage.total_tokens == free.usage.total_tokens


@pytest.mark.parametrize("token", [0.01, 0])
def test_it_leaves_the_width_of_a_plan_that_a_model_writes(token: float) -> None:
    plan = planned(*[WORDS] * 64)
    free, without, _ = measured(interleaved, plan=plan, token=token)
    run, account, _ = measured(interleaved, Budget(tokens=3 * free.usage.total_tokens), plan=plan, token=token)
    assert account.peak == without.peak
    assert run.stages[0].results == free.stages[0].results


def test_with_plenty_of_tokens_each_request_reserves_its_whole_cap():
    limits = Limits(plan_tokens=1000, execution_tokens=1000)
    _, without, _ = measured(interleaved, plan=planned(*[WORDS] * 20), limits=limits)
    _, account, events = measured(interleaved, Budget(tokens=200_000), plan=planned(*[WORDS] * 20), limits=limits)
    assert account == without
    assert not any(isinstance(event, BudgetAwaited) for event in events)


words = st.lists(st.integers(0, 90), min_size=1, max_size=6)


@settings(max_examples=60)
@given(words, st.floats(0.05, 1.5), st.booleans(), st.booleans(), st.sampled_from([None, 10, 200]))
@example([40, 0, 90], 1.0, True, False, None)
def test_no_run_exceeds_its_budget_or_loses_what_it_could_afford(
    words: Sequence[int], part: float, model_plans: bool, continues: bool, calls: int | None
) -> None:
    policy, plan = (interleaved, planned(*words)) if model_plans else (fan_out(*words), "")
    capabilities = Capabilities(continues=continues)
    free, _, _ = measured(policy, plan=plan, capabilities=capabilities)
    budget = Budget(tokens=int(part * free.usage.total_tokens), calls=calls)
    run, account, _ = measured(policy, budget, plan=plan, capabilities=capabilities)  # its engine checks each request
    assert account.generated_tokens == run.usage.total_tokens <= (budget.tokens or 0)
    assert account.started == run.usage.calls
    assert account.running == 0
    assert calls is None or account.started <= calls
    if part >= 1 and (calls is None or calls >= free.usage.calls):
        assert run.error is None
        assert run.stages[0].results == free.stages[0].results
        assert run.usage.total_tokens == free.usage.total_tokens


def test_a_completion_that_takes_several_requests_is_one_to_its_run():
    budget = Budget(tokens=4 * LEAST_SHARE)
    run, account, events = measured(fan_out(50, 1, 1, 1), budget)
    execution = run.stages[0].executions[0]
    assert execution.text.strip().split() == ["w1"] * 50
    assert execution.usage.calls > 1
    assert execution.usage.generated_tokens == 51
    first = execution.usage.prompt_tokens - execution.usage.cached_tokens
    assert execution.usage.prompt_tokens == 2 * first + LEAST_SHARE  # its second request found all that it read cached
    assert account.started == run.usage.calls == 3 + execution.usage.calls
    assert [event.execution.number for event in events if event.kind == "execution_finished"].count(1) == 1


def test_a_request_that_waits_is_reported_with_what_to_do():
    with capture_logs() as logs:
        _, _, events = measured(fan_out(*[50] * 4), Budget(tokens=3 * LEAST_SHARE))
    waits = [event for event in events if isinstance(event, BudgetAwaited)]
    assert {event.number for event in waits} <= {1, 2, 3, 4}
    assert (waits[0].stage, waits[0].number, waits[0].wanted, waits[0].left) == (1, 4, 8000, 0)
    lines = [line for line in logs if line["event"] == "waiting for budget"]
    assert len(lines) == 1
    assert lines[0]["branch"] == "1.4"
    assert "Budget(tokens=" in lines[0]["advice"]


def test_what_was_written_when_the_budget_ended_is_kept():
    run, _, _ = measured(fan_out(100, 100), Budget(tokens=100))
    first, second = run.stages[0].executions
    assert len(first.text.split()) + len(second.text.split()) in (99, 100)
    assert run.usage.total_tokens == 100


def test_a_bound_on_calls_is_never_spent_on_continuations_that_a_later_request_may_need():
    run, account, _ = measured(fan_out(*[50] * 8), Budget(tokens=8 * 51, calls=8))
    assert run.usage.failures == 0
    assert account.started == 8


def test_an_engine_that_cannot_continue_reserves_the_whole_cap():
    limits = Limits(execution_tokens=100)
    run, account, _ = measured(fan_out(*[10] * 8), Budget(tokens=400), capabilities=Capabilities(), limits=limits)
    assert account.peak == 4
    assert account.started == 8
    assert run.usage.failures == 0


def test_the_time_limit_of_a_call_counts_its_continuations_but_not_its_waits():
    def slow(prompt: Prompt) -> Reply:
        return Reply("w " * 40, delay=5 if prompt.number == 1 else 0)

    def failures(seconds: float) -> list[str | None]:
        engine = FakeEngine(slow, latency=Latency(token=0.1))
        limits = Limits(call_seconds=seconds, execution_tokens=1000)
        sprint = Sprint(engine, policy=fan_out(40, 40), budget=Budget(tokens=82), limits=limits)
        run = run_virtual(sprint.run("go"))
        return [execution.failure and execution.failure.type for execution in run.stages[0].executions]

    # The first gets 41 tokens, all that it needs, and takes 9.1 s. The second gets 32, waits from 3.2 to 9.1 s, and has
    # taken 4.1 s when it ends at 10 s.
    assert failures(9.5) == [None, None]
    assert failures(4.05) == ["EngineTimeout", "EngineTimeout"]


def test_executions_of_a_plan_that_continues_start_on_the_same_tokens():
    plan = planned(*[5] * 24)

    def contexts(tokens: int | None) -> dict[str, list[int]]:
        engine = FakeEngine(model(plan), latency=Latency(token=0.01))
        run = run_virtual(Sprint(engine, budget=None if tokens is None else Budget(tokens=tokens)).run("go"))
        assert (run.stages[0].usage.total.calls > len(run.stages[0].executions) + 1) == (tokens is not None)
        first = [record.request for record in engine.requests if record.request.continues is None]
        return {request.context.own_text: request.context.flatten() for request in first}

    free = contexts(None)
    assert len(free) == 26
    assert contexts(700) == free


@settings(max_examples=80)
@given(
    st.sampled_from(sorted(BUILT_IN)),
    st.integers(1, 3000),
    st.sampled_from([None, 20, 500]),
    st.booleans(),
    st.sampled_from(["collect", "retry", "fail_fast"]),
    st.integers(0, 10**6),
)
def test_no_policy_exceeds_a_budget_or_waits_for_ever_whatever_fails(
    name: str, tokens: int, calls: int | None, continues: bool, failure: str, seed: int
) -> None:
    draw = random.Random(seed)

    def respond(prompt: Prompt) -> Reply:
        fault = draw.choice([None] * 8 + [Fault.drop(after=draw.randrange(40)), Fault.garbage(seed=seed)])
        delay = draw.choice([0, 0, 0.5])
        if match := re.search(r"<execution_([\d.]+)>\n$", prompt.tail(30)):
            return Reply("go " * draw.randrange(120) + f"</execution_{match[1]}>", fault=fault, delay=delay)
        stage = prompt.text.count("</Plan_") + 1
        if stage > draw.randrange(1, 4):
            return Reply("so " * draw.randrange(40) + r"<Final_answer>\boxed{1}</Final_answer>", fault=fault)
        prompts = "".join(f"<prompt_{stage}.{n}>do it</prompt_{stage}.{n}>" for n in range(1, draw.randrange(2, 9)))
        return Reply(f"<Plan_{stage}>{prompts}</Plan_{stage}>", fault=fault, delay=delay)

    engine = Watched(
        respond, latency=Latency(token=0.01), chunk_tokens=4, capabilities=Capabilities(continues=continues)
    )
    engine.budget = tokens
    budget = Budget(tokens=tokens, calls=calls, seconds=draw.choice([None, 2]))
    limits = Limits(stages=4, call_seconds=draw.choice([600, 1]), concurrency=draw.choice([None, 2]))
    sprint = Sprint(engine, policy=BUILT_IN[name], budget=budget, limits=limits, failure=failure)  # type: ignore[arg-type]
    with suppress(SprintError):
        run_virtual(sprint.run("go"))  # it would raise RuntimeError where nothing could ever wake it
    account = engine.account()
    assert engine.settled <= tokens
    assert account.running == 0
    assert calls is None or account.started <= calls
