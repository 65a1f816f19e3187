"""A question is sent at a pace, within a budget, and once."""

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from sprint_agents.errors import BudgetExceeded, ConfigurationError, EngineOverloaded, EngineRejected
from sprint_agents.testing import FakeEngine, Fault, Latency, VirtualTimeLoop
from sprint_finetune.curation import (
    AnswerRecord,
    CurationSettings,
    LLMExtractor,
    Pace,
    PricePerMillion,
    Rejection,
    Spending,
    Trace,
    curate,
    estimate,
)
from sprint_finetune.curation.records import Extraction
from sprint_finetune.curation.spending import CallTokens

from .test_llm_extractor import STEPS, TRACE, dag_json, steps_json

TRACES = [TRACE.model_copy(update={"id": f"t{number}", "problem": f"How many of {number}?"}) for number in range(4)]
UNUSABLE = "I have to think."


def ask(extractor: LLMExtractor, *traces: Trace) -> list[Extraction | Rejection]:
    async def main() -> list[Extraction | Rejection]:
        return list(await asyncio.gather(*map(extractor.steps, traces)))

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main())


def test_a_recorded_answer_is_used_instead_of_a_request(tmp_path: Path) -> None:
    path = tmp_path / "new" / "completions.jsonl"
    engine = FakeEngine([UNUSABLE, steps_json(STEPS)])
    with AnswerRecord(path) as record:
        first = ask(LLMExtractor(engine, record=record), TRACE)
    assert engine.account().started == 2  # and one repair
    silent = FakeEngine([])
    with AnswerRecord(path) as record:
        spending = Spending()
        assert ask(LLMExtractor(silent, record=record, spending=spending), TRACE) == first
        # Another question, or other limits, are not in the record.
        with pytest.raises(EngineRejected, match="used up"):
            ask(LLMExtractor(silent, record=record, max_tokens=7), TRACE)
    account = engine.account()
    assert spending.spent.tokens == account.prompt_tokens + account.generated_tokens
    path.write_bytes(path.read_bytes()[:-5])  # a kill within a line
    again = FakeEngine([steps_json(STEPS)])
    with AnswerRecord(path) as record:
        assert ask(LLMExtractor(again, record=record), TRACE) == first
    assert again.account().started == 1


def test_the_ids_of_an_answer_come_back(tmp_path: Path) -> None:
    """A repair after a resumed first answer has the same context, token for token."""
    contexts: list[list[int]] = []

    def repaired(prompt) -> str:
        contexts.append(list(prompt.ids))
        return steps_json(STEPS)

    for replies in ([UNUSABLE, repaired], [repaired]):
        with AnswerRecord(tmp_path / "completions.jsonl") as record:
            ask(LLMExtractor(FakeEngine(replies), record=record), TRACE)
        kept = (tmp_path / "completions.jsonl").read_bytes().splitlines(keepends=True)
        (tmp_path / "completions.jsonl").write_bytes(kept[0])
    assert contexts[0] == contexts[1]


def test_one_process_at_a_time_has_a_record(tmp_path: Path) -> None:
    with AnswerRecord(tmp_path / "a.jsonl"), pytest.raises(ConfigurationError, match="another process"):
        AnswerRecord(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").write_text('{"id": "x", "record": {}}\nnotes\n')
    with pytest.raises(ConfigurationError, match="not a line"):
        AnswerRecord(tmp_path / "b.jsonl")


def test_the_budget_ends_the_run_and_everything_is_kept(tmp_path: Path, make_trace, verifier) -> None:
    """The longest answer that a question may get must fit, so nothing is overspent, and what was asked is answered."""
    traces = [make_trace(f"t{number}", problem=f"How many of {number}?") for number in range(6)]
    engine = FakeEngine(lambda prompt: answer_of(prompt.text))
    asked = 0
    budget = 40_000
    for _ in range(9):
        with AnswerRecord(tmp_path / "completions.jsonl") as record:
            spending = Spending(tokens=budget)
            extractor = LLMExtractor(engine, record=record, spending=spending, max_tokens=2_000)
            work = curate(
                traces, tmp_path, extractor=extractor, verifier=verifier, settings=CurationSettings(eval_share=0)
            )
            try:
                report = asyncio.run(work)
                break
            except BudgetExceeded:
                pass
            assert spending.spent.tokens <= budget
            assert engine.account().started > asked
            asked, budget = engine.account().started, budget + 4_000
            written = (tmp_path / "train.jsonl").read_text().count("\n")
            assert written <= asked // 2
    assert report.traces == 6
    assert engine.account().started == 12  # two questions for each trace, and none twice


def answer_of(prompt: str) -> str:
    if "how a solution was found" in prompt:
        return steps_json([*STEPS[:1], *([{**STEPS[1], "plan": [[2, 2]], "execution": [[3, 13]]}])])
    return dag_json([[], [1]])


def test_a_budget_in_dollars_waits_for_running_requests() -> None:
    price = PricePerMillion(Decimal(0), Decimal(1_000_000))  # a dollar per token
    engine = FakeEngine(lambda _: steps_json(STEPS), latency=Latency(request=1.0))
    size = len(asyncio.run(engine.encode(steps_json(STEPS)))) + 1  # and the end token
    most = size + 5
    spending = Spending(dollars=Decimal(most + 2 * size), prices={engine.name: price})
    extractor = LLMExtractor(engine, spending=spending, max_tokens=most)
    # Only one question fits at once, and three in a row.
    ask(extractor, *TRACES[:3])
    assert spending.spent.dollars == 3 * size
    with pytest.raises(BudgetExceeded, match=r"use a larger budget to continue"):
        ask(extractor, TRACES[3])


def test_a_refusal_pauses_all_requests_for_as_long_as_the_server_asks() -> None:
    refusal = Fault.error(EngineOverloaded("slow down", retry_after=100.0))
    engine = FakeEngine(lambda _: steps_json(STEPS), faults={1: refusal})

    async def main() -> list[float]:
        clock = asyncio.get_running_loop().time
        start, pace = clock(), Pace()
        extractor = LLMExtractor(engine, pace=pace)
        times: list[float] = []

        async def one(trace: Trace, *, after: float) -> None:
            await asyncio.sleep(after)
            assert isinstance(await extractor.steps(trace), Extraction)
            times.append(clock() - start)

        await asyncio.gather(one(TRACES[0], after=0), one(TRACES[1], after=1))
        return times

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        times = runner.run(main())
    assert all(100 <= time <= 126 for time in times)


def test_a_refusal_without_advice_is_retried_with_growing_pauses_until_patience_ends() -> None:
    refusal = EngineOverloaded("slow down")
    engine = FakeEngine(lambda _: steps_json(STEPS), faults={number: Fault.error(refusal) for number in range(1, 30)})
    assert isinstance(ask(LLMExtractor(engine), TRACE)[0], Extraction)
    assert engine.account().started == 30
    with pytest.raises(EngineOverloaded):
        ask(LLMExtractor(FakeEngine("", faults=dict.fromkeys(range(1, 99), Fault.error(refusal))), patience=9), TRACE)


def test_a_failed_engine_ends_the_run_after_what_was_asked_is_answered(tmp_path: Path, make_trace, verifier) -> None:
    traces = [make_trace(f"t{number}", problem=f"How many of {number}?") for number in range(3)]
    engine = FakeEngine(
        lambda prompt: answer_of(prompt.text),
        latency=Latency(token=0.01),
        faults={1: Fault.error(EngineRejected("wrong key"))},
    )

    async def main() -> None:
        with AnswerRecord(tmp_path / "completions.jsonl") as record:
            await curate(traces, tmp_path, extractor=LLMExtractor(engine, record=record), verifier=verifier)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner, pytest.raises(EngineRejected, match="wrong key"):
        runner.run(main())
    assert engine.account().started == 3
    assert (tmp_path / "completions.jsonl").read_text().count("\n") == 2


def test_an_estimate_sends_and_writes_nothing_and_counts_what_is_left(tmp_path: Path, make_trace, verifier) -> None:
    traces = [make_trace(f"t{number}", problem=f"How many of {number}?") for number in range(4)]
    traces.append(make_trace("wrong", answer="13"))
    engine = FakeEngine(lambda prompt: answer_of(prompt.text))
    folder = tmp_path / "out"

    def estimated() -> tuple[int, int, int]:
        work = estimate(traces, folder, extractor=LLMExtractor(engine), verifier=verifier)
        found = asyncio.run(work)
        return found.traces, found.steps.requests, found.dags.requests

    assert estimated() == (4, 4, 4)
    assert (engine.account().started, folder.exists()) == (0, False)
    asyncio.run(curate(traces[:3], folder, extractor=LLMExtractor(engine), verifier=verifier))
    assert estimated() == (1, 1, 1)
    (folder / "dags.jsonl").unlink()
    assert estimated() == (4, 1, 4)
    with pytest.raises(ConfigurationError, match="another extractor"):
        asyncio.run(estimate(traces, folder, extractor=LLMExtractor(engine, dag_engine=Other(""))))


class Other(FakeEngine):
    """An engine with another model."""

    name = "other"


def test_prices() -> None:
    price = PricePerMillion(Decimal("0.25"), Decimal(2))
    assert Spending(prices={"a": price}).price("a", CallTokens(1_000_000, 500_000)) == Decimal("1.25")
    assert Spending().price("b", CallTokens(1, 1)) == 0
