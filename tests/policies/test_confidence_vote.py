"""Votes by confidence: whose vote counts, how much, and what is aborted before it ends."""

from dataclasses import replace

import pytest

from sprint_agents import Answer, Capabilities, Executor, Planner, Run, Sampling, Sprint
from sprint_agents.errors import ConfigurationError, NoAnswer
from sprint_agents.policies import confidence_of, confidence_vote, interleaved
from sprint_agents.testing import FakeEngine, Latency, Reply, run_virtual


@pytest.fixture
def sure(chain):
    """A chain with this answer, by a model that gives each token this probability."""
    return lambda value, *probabilities: replace(chain(value), probability=probabilities)


def test_two_that_are_sure_outvote_three_that_are_not(script, sure, run):
    chains = [sure(1, 0.5), sure(1, 0.5), sure(2, 0.999), sure(2, 0.999), sure(1, 0.5)]
    result = run(FakeEngine(script({"chain": chains})), policy=confidence_vote(5, keep=1.0), planner=Planner(int))
    assert result.answer == 2
    assert [round(confidence_of(attempt), 2) for attempt in result.stages[0].executions] == [1.8, 1.8, 6.64, 6.64, 1.8]


def test_only_the_most_sure_vote(script, sure, run):
    chains = [sure(1, 0.9), sure(1, 0.9), sure(1, 0.9), sure(2, 0.99)]
    assert run(FakeEngine(script({"chain": chains})), policy=confidence_vote(4, keep=1.0)).answer == "1"
    assert run(FakeEngine(script({"chain": chains})), policy=confidence_vote(4, keep=0.25)).answer == "2"


def test_an_attempt_is_as_sure_as_its_weakest_tokens(script, sure, run):
    """The second attempt is surer on the whole, and was torn once."""
    chains = [sure(1, 0.9), sure(2, 0.999, 0.999, 0.3, 0.3, 0.999)]
    answers = {
        window: run(FakeEngine(script({"chain": chains})), policy=confidence_vote(2, keep=0.5, window=window)).answer
        for window in (2, 99)
    }
    assert answers == {2: "1", 99: "2"}


def test_after_a_warm_up_an_unsure_attempt_is_aborted(script, sure, run):
    chains = [sure(1, 0.9), sure(2, 0.99), sure(3, 0.999, 0.999, 0.999, 0.3), sure(2, 0.999)]
    engine = FakeEngine(script({"chain": chains}), latency=Latency(token=1))
    policy = confidence_vote(4, warmup=2, keep=1.0, window=2)
    result = run(engine, policy=policy)
    assert result.answer == "2"
    assert [record.outcome for record in engine.requests] == ["finished", "finished", "aborted", "finished"]
    aborted, _ = result.stages[1].executions
    assert aborted.failure.type == "LowConfidence"
    assert aborted.failure.message.startswith("the model was not sure: over 2 tokens its confidence is")
    assert aborted.usage.generated_tokens == engine.requests[2].generated_tokens == 5
    assert len(aborted.stages[-1].logprobs) == 5


def test_a_warm_up_that_agrees_is_enough(script, sure, run):
    engine = FakeEngine(script({"chain": [sure(7, 0.9), sure(7, 0.9)]}))
    assert run(engine, policy=confidence_vote(8, warmup=2)).answer == "7"
    assert engine.account().started == 2


def test_a_warm_up_without_an_answer_is_followed_by_the_others(script, sure, run):
    chains = [sure("many", 0.9), sure(8, 0.9)]
    policy = confidence_vote(2, warmup=1)
    result = run(FakeEngine(script({"chain": chains})), policy=policy, planner=Planner(int, attempts=1))
    assert result.answer == 8
    engine = FakeEngine(script({"chain": [sure("many", 0.9), sure("few", 0.9)]}))
    with pytest.raises(NoAnswer, match="none of 2 attempts"):
        run(engine, policy=policy, planner=Planner(int, attempts=1))


def test_a_resumed_run_votes_by_the_recorded_confidence(script, sure, run, tmp_path):
    chains = [sure(1, 0.9), sure(2, 0.99)]
    engine = FakeEngine(script({"chain": chains}))
    first = run_virtual(Sprint(engine, policy=confidence_vote(2)).run("question", journal=tmp_path / "run.jsonl"))
    again = run_virtual(Sprint(engine, policy=confidence_vote(2)).run("question", journal=tmp_path / "run.jsonl"))
    assert again.stages == first.stages
    assert len(first.stages[0].executions[0].stages[0].logprobs) > 5
    assert engine.account().started == 2
    assert Run.model_validate_json(first.model_dump_json()) == first


def test_the_executors_of_an_attempt_count_too(script, plan, answer, run):
    engine = FakeEngine(script({"plan": [plan(1, "a"), answer(3)], "1.1": Reply("perhaps\n", probability=0.4)}))
    executor = Executor(sampling=Sampling(temperature=0))
    result = run(engine, policy=confidence_vote(1, policy=interleaved), executor=executor)
    (attempt,) = result.stages[0].executions
    assert (
        confidence_of(attempt)
        == confidence_of(attempt.stages[0].executions[0])
        < 2
        < confidence_of(attempt.model_copy(update={"stages": attempt.stages[1:]}))
    )


def test_votes_are_equal_where_no_model_wrote(script, run):
    async def knows(value):
        yield Answer(value=value)

    values = iter(["1", "2", "2"])
    result = run(FakeEngine(script({})), policy=confidence_vote(3, policy=lambda planning: knows(next(values))))
    assert result.answer == "2"


def test_an_engine_without_log_probabilities_is_refused_before_anything_is_sent(script, chain, run):
    engine = FakeEngine(script({"chain": chain(1)}), capabilities=Capabilities())
    with pytest.raises(ConfigurationError, match=r"fake returns no log-probabilities, and Sampling\(logprobs=5\)"):
        run(engine, policy=confidence_vote(2))
    assert engine.account().started == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples"),
        ({"keep": 0}, "keep is 0"),
        ({"alternatives": 1}, "alternatives"),
        ({"samples": 4, "warmup": 5}, "warmup= is 5, and there are 4 samples"),
    ],
)
def test_impossible_parameters_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        confidence_vote(**options)
