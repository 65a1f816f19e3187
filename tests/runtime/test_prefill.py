"""The join is computed ahead: results that are there are read while later executions still run."""

from collections.abc import Callable, Sequence

import pytest

from sprint_agents import Answer, Budget, Capabilities, Limits, Plan, Sprint
from sprint_agents.policies import interleaved
from sprint_agents.testing import FakeEngine, Fault, Latency, Reply, RequestRecord, run_virtual

WIDTH = 12
WORDS = 100
TOKEN = 0.01
LATENCY = Latency(token=TOKEN, prompt_token=TOKEN / 10, request=TOKEN / 10)


class Prefilling(FakeEngine):
    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(caches_contexts=True)


def one_after_the_other(stage: int, number: int) -> Reply:
    """Results of the same length, each of which comes half a second after the one before it."""
    return Reply(f"{number} " * WORDS, delay=0.5 * number)


def at_once(stage: int, number: int) -> Reply:
    return Reply(f"{number} " * WORDS)


def last_first(stage: int, number: int) -> Reply:
    return Reply(f"{number} " * WORDS, delay=0.5 * (WIDTH - number))


Make = Callable[..., Callable[..., object]]


def engines(
    model: Make,
    execute: Callable[[int, int], Reply],
    kind: type[FakeEngine] = Prefilling,
    *,
    width: int = WIDTH,
    **options,
):
    return kind(model([f"part {number}" for number in range(width)], execute=execute), latency=LATENCY, **options)


def run(engine: FakeEngine, **options):
    return run_virtual(Sprint(engine, **options).run("question"))


def prefills(engine: FakeEngine) -> Sequence[RequestRecord]:
    return [record for record in engine.requests if record.request.max_tokens == 0]


def first_token(engine: FakeEngine) -> float:
    """How long the first token of the answer took after the last execution had ended."""
    *_, last = engine.requests
    executions = [record for record in engine.requests if record.request.context.own_text.startswith("\n<execution_")]
    computed = last.prompt_tokens - last.cached_tokens
    begun = last.started + LATENCY.request + computed * LATENCY.prompt_token + TOKEN
    return begun - max(record.ended for record in executions if record.ended is not None)


def test_the_first_token_after_a_wide_join_comes_in_a_fraction_of_the_time(model):
    ahead, plain = engines(model, one_after_the_other), engines(model, one_after_the_other, FakeEngine)
    result, other = run(ahead), run(plain)
    assert result.transcript == other.transcript
    assert prefills(plain) == []
    assert 0 < len(prefills(ahead)) < WIDTH
    assert first_token(ahead) < first_token(plain) / 3
    assert ahead.requests[-1].request.context.flatten() == plain.requests[-1].request.context.flatten()
    # No token is computed twice.
    assert result.usage.recomputed_tokens <= other.usage.recomputed_tokens + len(prefills(ahead))


def test_each_prefill_continues_the_last_one_and_counts(model):
    engine = engines(model, one_after_the_other)
    result = run(engine)
    account, found = engine.account(), prefills(engine)
    assert (result.usage.calls, result.usage.prompt_tokens) == (account.started, account.prompt_tokens)
    assert result.usage.cached_tokens == account.cached_tokens
    lengths = [record.prompt_tokens for record in found]
    assert lengths == sorted(lengths)
    assert [record.cached_tokens for record in found[1:]] == lengths[:-1]
    ids = engine.requests[-1].request.context.flatten()
    assert all(record.request.context.flatten() == ids[: record.prompt_tokens] for record in found)


def test_what_arrives_during_a_prefill_is_computed_when_that_ends(model):
    slow = Latency(token=TOKEN, request=50 * TOKEN)
    closely = [f"part {number}" for number in range(WIDTH)]
    engine = Prefilling(model(closely, execute=lambda _, number: Reply("7 " * WORDS, delay=0.1 * number)), latency=slow)
    run(engine)
    first, second, *_ = prefills(engine)
    assert second.started == first.ended


@pytest.mark.parametrize("execute", [at_once, last_first])
def test_results_that_come_together_are_joined_together(model, execute):
    engine = engines(model, execute, chunk_tokens=1000)
    run(engine)
    assert prefills(engine) == []


def test_a_short_result_is_not_worth_a_request(model):
    engine = engines(model, lambda stage, number: Reply("7", delay=0.5 * number), width=4)
    run(engine)
    assert prefills(engine) == []


def test_a_failed_prefill_is_left_to_the_next_plan(model):
    fault = Fault.drop(after=0)
    number = next(record.number for record in failing(model) if record.request.max_tokens == 0)
    engine = engines(model, one_after_the_other, faults={number: fault})
    result = run(engine)
    assert prefills(engine)[0].outcome == "failed"
    assert result.transcript == run(engines(model, one_after_the_other)).transcript


def failing(model) -> Sequence[RequestRecord]:
    engine = engines(model, one_after_the_other)
    run(engine)
    return engine.requests


def test_leaving_a_run_ends_its_prefill(model):
    number = next(record.number for record in failing(model) if record.request.max_tokens == 0)
    engine = engines(model, one_after_the_other, faults={number: Fault.hang()})

    async def leave():
        finished = 0
        async with Sprint(engine).stream("question") as events:
            async for event in events:
                finished += event.kind == "execution_finished"
                if finished == WIDTH - 1:
                    break

    run_virtual(leave())
    account = engine.account()
    assert account.running == 0
    assert [record.outcome for record in prefills(engine)] == ["aborted"]


def test_the_next_plan_waits_for_no_hanging_prefill_longer_than_a_call_may_take(model):
    number = next(record.number for record in failing(model) if record.request.max_tokens == 0)
    engine = engines(model, one_after_the_other, faults={number: Fault.hang()})
    result = run(engine, limits=Limits(call_seconds=30))
    assert result.answer == "done"
    assert result.usage.failures == 0


def test_only_whole_pages_are_computed_ahead(model):
    class Paged(Prefilling):
        @property
        def capabilities(self) -> Capabilities:
            return Capabilities(caches_contexts=True, page_tokens=16)

    engine = engines(model, one_after_the_other, Paged)
    run(engine)
    assert prefills(engine)
    assert {record.prompt_tokens % 16 for record in prefills(engine)} == {0}


class Evicting(Prefilling):
    """Its cache loses everything between two requests."""

    async def complete(self, request):
        self._trie = type(self._trie)(self._tokenizer.own_text)
        async for chunk in super().complete(request):
            yield chunk


def test_an_engine_that_evicts_is_not_asked_again(model):
    engine = engines(model, one_after_the_other, Evicting)
    run(engine)
    assert len(prefills(engine)) == 1


def test_nothing_is_computed_ahead_of_a_choice(model):
    async def chooses(planning):
        stage = yield planning.ask(keep=lambda executions: [1])
        stage = yield planning.ask("answer")
        yield Answer(value=stage.answer)

    async def writes(planning):
        yield Plan.of(*(f"part {number}" for number in range(WIDTH)))
        yield Answer(value="done")

    for options in ({"policy": chooses}, {"policy": writes}, {"budget": Budget(calls=50), "policy": interleaved}):
        engine = engines(model, one_after_the_other)
        run(engine, **options)
        assert prefills(engine) == []
