"""Policies made of policies, and their schedules."""

import pytest

from sprint_agents import Answer, Executor, Plan, Planner, Sampling
from sprint_agents.errors import NoAnswer, PolicyError
from sprint_agents.policies import (
    first_success,
    interleaved,
    limit_width,
    race,
    self_consistency,
    sequential,
    tree_search,
    until,
    with_fallback,
)
from sprint_agents.testing import FakeEngine, Fault, Reply


def test_limit_width_starts_no_more_and_tells_the_planner(script, plan, answer, schedule, run):
    engine = FakeEngine(script({"plan": [plan(1, "a", "b", "c", "d"), answer(42)]}))
    result = run(engine, policy=limit_width(interleaved, 2))
    assert schedule(engine) == [("plan", 0, 1), ("1.1", 1, 2), ("1.2", 1, 2), ("plan", 2, 3)]
    stage = result.stages[0]
    assert stage.results == ["result 1.1", "result 1.2"]
    assert [execution.failure.type for execution in stage.failures] == ["WidthExceeded"] * 2
    assert (
        "<execution_1.4>\n[failed: WidthExceeded: not started: the policy limits a stage to 2 sub" in result.transcript
    )
    assert result.usage.subtasks == 2
    assert result.policy == "limit_width(interleaved, 2)"


@pytest.mark.parametrize(("outer", "inner", "started"), [(1, 2, 1), (2, 1, 1), (3, 3, 3), (9, 3, 3)])
def test_the_lower_of_two_limits_holds(script, run, outer, inner, started):
    async def plans(planning):
        yield Plan.of("a", "b", "c")
        yield Answer(value="done")

    engine = FakeEngine(script({}))
    run(engine, policy=limit_width(limit_width(plans, inner), outer))
    assert engine.account().started == started


def test_first_success_cancels_the_siblings_at_the_engine(script, plan, answer, schedule, run):
    table = {
        "plan": [plan(1, "a", "b", "c", "d"), answer(42)],
        "1.1": "7\n",
        "1.2": Reply("42\n", delay=2),
        "1.3": Reply("43\n", delay=9),
    }
    engine = FakeEngine(script({**table, "1.4": Reply("no number\n", delay=1)}))
    policy = first_success(interleaved, lambda execution: execution.value == 42)
    result = run(engine, policy=policy, executor=Executor(int, attempts=1))
    assert schedule(engine) == [
        ("plan", 0, 1),
        ("1.1", 1, 2),
        ("1.4", 1, 2),
        ("1.2", 1, 3),
        ("1.3 x", 1, 3),
        ("plan", 3, 4),
    ]
    stage = result.stages[0]
    assert stage.accepted == 2
    assert stage.results == [7, 42]
    assert [execution.failure.type for execution in stage.failures] == ["Superseded", "InvalidResult"]
    assert "1.2 was accepted first" in stage.failures[0].failure.message
    assert "<execution_1.3>" not in result.transcript
    assert "<execution_1.4>\n[failed: InvalidResult" in result.transcript


def test_first_success_without_one_is_the_policy_itself(script, plan, answer, schedule, run):
    table = {"plan": [plan(1, "a", "b"), answer(42)], "1.2": Reply("x\n", delay=5)}
    engine, plain = FakeEngine(script(table)), FakeEngine(script(table))
    result = run(engine, policy=first_success(interleaved, lambda execution: False))
    assert result.transcript == run(plain).transcript
    assert schedule(engine) == schedule(plain)
    assert result.stages[0].accepted is None


def test_first_success_ends_a_tree_search_early(script, run):
    engine = FakeEngine(script({"1.2": "42\n", "answer": "\\boxed{42}</Final_answer>"}))
    policy = first_success(tree_search(lambda proposal: 1.0), lambda execution: execution.value == "42")
    result = run(engine, policy=policy)
    assert [stage.accepted for stage in result.stages] == [2, None]


def test_a_race_is_over_with_the_first_good_answer(script, answer, chain, schedule, run):
    engine = FakeEngine(script({"plan": [answer(41), Reply(answer(42), delay=3)], "chain": chain(42, 9)}))
    policy = race(interleaved, sequential, interleaved, check=lambda value: value == 42)
    result = run(engine, policy=policy, planner=Planner(int, attempts=1))
    assert result.answer == 42
    assert schedule(engine) == [("plan", 0, 1), ("chain x", 0, 3), ("plan", 0, 3)]
    assert result.policy == "race(interleaved, sequential, interleaved, check=<lambda>)"
    assert [execution.succeeded for execution in result.stages[0].executions] == [True, False, True]


def test_a_fallback_starts_fresh_when_all_before_it_failed(script, answer, chain, schedule, run):
    engine = FakeEngine(script({"chain": chain("many", 5), "plan": [answer(41), answer(42)]}))
    policy = with_fallback(sequential, interleaved, interleaved, check=lambda value: value == 42)
    assert run(engine, policy=policy, planner=Planner(int, attempts=1)).answer == 42
    assert schedule(engine) == [("chain", 0, 5), ("plan", 5, 6), ("plan", 6, 7)]
    assert engine.requests[1].request.context.text == "question\n"
    engine = FakeEngine(script({"chain": chain(42)}))
    run(engine, policy=with_fallback(sequential, interleaved))
    assert schedule(engine) == [("chain", 0, 1)]


def test_a_failed_attempt_is_no_reason_to_fail_fast(script, answer, chain, run):
    engine = FakeEngine(script({"chain": Reply("lost", fault=Fault.drop()), "plan": answer(42)}))
    assert run(engine, policy=with_fallback(sequential, interleaved), failure="fail_fast").answer == "42"


def test_until_tries_again_fresh_or_with_what_was_wrong(script, chain, schedule, run):
    table = {"chain": [chain(41), chain(42), chain(43)]}
    engine = FakeEngine(script(table))
    assert run(engine, policy=until(sequential, lambda value: value == "42")).answer == "42"
    assert schedule(engine) == [("chain", 0, 1), ("chain", 1, 2)]
    assert engine.requests[1].request.context.text == "question\n<think>\n"
    engine = FakeEngine(script(table))
    policy = until(sequential, lambda value: value == "42", feedback=lambda tried: f"Not {tried.value}.")
    assert run(engine, policy=policy).answer == "42"
    assert engine.requests[1].request.context.text == "question\n<Plan_1>\nNot 41.\n</Plan_1>\n<think>\n"


@pytest.mark.parametrize(
    "policy",
    [
        until(sequential, lambda value: value == "43", attempts=2),
        with_fallback(sequential, sequential, check=lambda value: value == "43"),
        race(sequential, sequential, check=lambda value: value == "43"),
    ],
)
def test_when_no_answer_is_good_the_error_says_what_there_was(script, chain, run, policy):
    engine = FakeEngine(script({"chain": [chain(41), "nothing"], "answer": ["</Final_answer>"] * 3}))
    with pytest.raises(
        NoAnswer, match=r"none of 2 attempts .* 1: the answer '41' did not pass; 2: NoAnswer: "
    ) as caught:
        run(engine, policy=policy)
    assert caught.value.run.stages


def test_each_attempt_has_a_seed_of_its_own_and_the_first_the_runs(script, chain, run):
    def seeds(policy, count):
        engine = FakeEngine(script({"chain": [chain(n) for n in range(count)]}))
        run(engine, policy=policy, sampling=Sampling(seed=5))
        return [record.request.sampling.seed for record in engine.requests]

    assert seeds(sequential, 1) == [5]
    for policy in (self_consistency(4), until(sequential, lambda value: value == "3", attempts=4)):
        drawn = seeds(policy, 4)
        assert drawn[0] == 5
        assert len(set(drawn)) == 4
        assert seeds(policy, 4) == drawn


def test_combinators_combine(script, plan, answer, chain, schedule, run):
    engine = FakeEngine(
        script({"chain": chain(1), "plan": [plan(1, "a", "b", "c"), answer(42)], "1.2": Reply("x\n", delay=9)})
    )
    planned = limit_width(first_success(interleaved, lambda execution: execution.number == 1), 2)
    assert run(engine, policy=with_fallback(sequential, planned, check=lambda value: value == "42")).answer == "42"
    assert schedule(engine) == [
        ("chain", 0, 1),
        ("plan", 1, 2),
        ("1.1", 2, 3),
        ("1.2 x", 2, 3),
        ("plan", 3, 4),
    ]


def test_a_wrapped_policy_is_closed_and_told_of_as_if_it_were_alone(script, run):
    closed = []

    async def careless(planning):
        try:
            yield Plan.of("a")
        finally:
            closed.append(True)

    with pytest.raises(PolicyError, match="ended without an answer"):
        run(FakeEngine(script({})), policy=limit_width(careless, 2))
    with pytest.raises(PolicyError, match="a policy is an async generator function"):
        run(FakeEngine(script({})), policy=limit_width(lambda planning: 3, 2))
    with pytest.raises(PolicyError, match=r"ended without an answer"):
        run(FakeEngine(script({})), policy=race(careless))
    assert closed == [True, True]


def test_first_success_ends_a_search_that_the_model_rates(script, run):
    engine = FakeEngine(script({"1.2": "found\n", "answer": "\\boxed{42}</Final_answer>"}))
    policy = first_success(tree_search(), lambda execution: "found" in execution.text)
    result = run(engine, policy=policy)
    assert [stage.accepted for stage in result.stages] == [2, None]
    assert "<execution_1.2>\nfound\n</execution_1.2>" in result.transcript
