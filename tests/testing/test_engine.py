import asyncio
import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.context import Context
from sprint_agents.engine import Chunk, Engine, Request, Sampling
from sprint_agents.errors import ConfigurationError, ContextOverflow, EngineUnavailable, InvalidRequest
from sprint_agents.generation import Generation
from sprint_agents.manifest import Manifest
from sprint_agents.state import State
from sprint_agents.testing import Account, FakeEngine, Fault, Latency, Reply, run_virtual


def now() -> float:
    return asyncio.get_running_loop().time()


def test_it_is_an_engine_with_a_name_and_the_manifest_it_was_given() -> None:
    manifest = Manifest(model="scripted")
    engine = FakeEngine("", manifest=manifest)
    assert isinstance(engine, Engine)
    assert (engine.name, engine.manifest, FakeEngine("").manifest) == ("fake", manifest, None)


# Latency


@given(
    delay=st.integers(0, 9),
    request_seconds=st.integers(0, 9),
    prompt_seconds=st.integers(0, 3),
    token_seconds=st.integers(1, 3),
    words=st.integers(0, 6),
    chunk_tokens=st.none() | st.integers(1, 4),
)
def test_every_chunk_comes_when_its_last_token_is_due(
    delay, request_seconds, prompt_seconds, token_seconds, words, chunk_tokens
) -> None:
    latency = Latency(request=request_seconds, prompt_token=prompt_seconds, token=token_seconds)

    async def main() -> None:
        engine = FakeEngine(Reply(" x" * words, delay=delay), latency=latency, chunk_tokens=chunk_tokens)
        context = Context().extend(await engine.encode("a b c"), "a b c")
        for computed in (3, 0):
            begin, sent = now(), 0
            prefilled = begin + delay + request_seconds + computed * prompt_seconds
            request = Request(id="1", context=context, max_tokens=50, sampling=Sampling())
            async for chunk in engine.complete(request):
                sent += len(chunk.ids)
                assert len(chunk.ids) <= (chunk_tokens or 1)
                assert now() == prefilled + sent * token_seconds
            assert sent == words + 1

    run_virtual(main())


def test_a_slow_reader_finds_the_tokens_waiting(make_request) -> None:
    async def main() -> list[float]:
        engine = FakeEngine("a b c d", latency=Latency(token=1.0))
        times: list[float] = []
        async for _ in engine.complete(await make_request(engine, "go")):
            times.append(now())
            await asyncio.sleep(2.5 if len(times) == 1 else 0)
        return times

    assert run_virtual(main()) == [1.0, 3.5, 3.5, 4.0, 5.0]


def test_without_latency_no_time_passes_but_requests_still_run_at_once(ask) -> None:
    async def main() -> Account:
        engine = FakeEngine("a completion of several words")
        answers = await asyncio.gather(*(ask(engine, "go") for _ in range(20)))
        assert {len(answer.chunks) for answer in answers} == {1}
        assert now() == 0
        return engine.account()

    assert run_virtual(main()).peak == 20


# The account


def check(account: Account) -> None:
    assert account.started == account.running + account.finished + account.aborted + account.failed


def test_records_say_what_was_asked_and_what_it_cost(ask, make_request) -> None:
    async def main() -> None:
        engine = FakeEngine("four tokens in all", latency=Latency(token=1.0, prompt_token=1.0))
        request = await make_request(engine, "a b c")
        await ask(engine, request.context, max_tokens=2, request_id="first")
        stream = engine.complete(request)
        await anext(stream)
        first, second = engine.requests
        assert (first.number, first.id, first.request.max_tokens, first.outcome) == (1, "first", 2, "finished")
        assert (first.prompt_tokens, first.cached_tokens, first.generated_tokens) == (3, 0, 2)
        assert (first.started, first.ended) == (0, 5)
        assert (second.number, second.request, second.outcome, second.ended) == (2, request, "running", None)
        assert (second.prompt_tokens, second.cached_tokens, second.generated_tokens) == (3, 3, 1)
        await stream.aclose()
        assert engine.requests[0] == first
        assert (engine.requests[1].outcome, engine.requests[1].ended) == ("aborted", 6)
        assert engine.account() == Account(
            started=2, running=0, finished=1, aborted=1, failed=0, peak=1,
            prompt_tokens=6, cached_tokens=3, generated_tokens=3,
        )  # fmt: skip

    run_virtual(main())


ends = st.sampled_from(["read", "cancel", "close", "abort", "drop", "hang"])


@given(
    plan=st.lists(st.tuples(ends, st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=12),
    delay=st.integers(0, 3),
    token=st.sampled_from([0.0, 1.0]),
    close_at=st.none() | st.integers(0, 10),
)
def test_every_request_ends_in_exactly_one_way_whenever_it_is_disturbed(plan, delay, token, close_at) -> None:
    """Cancel, close, abort and break requests at any moment: nothing stays alive, and the account adds up."""

    async def read(engine: FakeEngine, request: Request, *, leave: bool, after: int) -> list[Chunk]:
        chunks: list[Chunk] = []
        stream = engine.complete(request)
        try:
            async for chunk in stream:
                chunks.append(chunk)
                if leave and len(chunks) > after:
                    break
        finally:
            await stream.aclose()
        return chunks

    async def abort(engine: FakeEngine, request: Request, at: float) -> None:
        await asyncio.sleep(at)
        await engine.abort(request.id)

    async def main() -> None:
        faults = {n: Fault.drop(after=k) for n, (end, _, k) in enumerate(plan, 1) if end == "drop"}
        faults |= {n: Fault.hang(after=k) for n, (end, _, k) in enumerate(plan, 1) if end == "hang"}
        engine = FakeEngine(Reply("a b c", delay=delay), latency=Latency(token=token), faults=faults)
        context = Context().extend(await engine.encode("go"), "go")
        tasks: list[asyncio.Task[list[Chunk]]] = []
        aborts: list[asyncio.Task[None]] = []
        for number, (end, at, after) in enumerate(plan, 1):
            request = Request(id=f"{number:03d}", context=context, max_tokens=9, sampling=Sampling())
            task = asyncio.create_task(read(engine, request, leave=end == "close", after=after))
            tasks.append(task)
            if end in ("cancel", "hang"):
                asyncio.get_running_loop().call_later(at, task.cancel)
            if end == "abort":
                aborts.append(asyncio.create_task(abort(engine, request, at)))
        if close_at is not None:
            await asyncio.sleep(close_at)
            check(engine.account())
            await engine.aclose()
            assert engine.account().running == 0
        await asyncio.gather(*aborts)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert engine.account().running == 0
        check(engine.account())
        assert engine.account().started == len(plan)
        for record, result in zip(engine.requests, results, strict=True):
            match record.outcome:
                case "finished":
                    assert result[-1].finish is not None
                case "failed":
                    assert isinstance(result, EngineUnavailable)
                case "aborted":
                    left = isinstance(result, list) and all(chunk.finish is None for chunk in result)
                    assert left or isinstance(result, EngineUnavailable | asyncio.CancelledError)
        if close_at is None:
            expected = {"read": {"finished"}, "drop": {"failed"}, "hang": {"aborted"}}
            for record, (end, _, _) in zip(engine.requests, plan, strict=True):
                assert record.outcome in expected.get(end, {"finished", "aborted"})

    run_virtual(main())


# Abort and close


@pytest.mark.parametrize("engine", [
    FakeEngine(Reply("", fault=Fault.hang())),
    FakeEngine(Reply("a b", fault=Fault.hang(after=1)), latency=Latency(request=1.0)),
    FakeEngine(Reply("long", delay=1000)),
    FakeEngine("a b c d", latency=Latency(token=1000.0)),
    FakeEngine(lambda prompt: asyncio.Event().wait()),
], ids=["hang", "hang later", "delay", "decode", "function"])  # fmt: skip
def test_abort_ends_a_request_at_once_wherever_it_is(ask, engine: FakeEngine) -> None:
    async def main() -> None:
        task = asyncio.create_task(ask(engine, "go", request_id="stuck"))
        await asyncio.sleep(10)
        await engine.abort("unknown")
        assert engine.account().running == 1
        await engine.abort("stuck")
        assert engine.requests[0].outcome == "aborted"
        with pytest.raises(EngineUnavailable, match="'stuck' was aborted"):
            await task
        await engine.abort("stuck")
        assert now() == engine.requests[0].ended == 10
        assert engine.aborts == ("unknown", "stuck", "stuck")

    run_virtual(main())


def test_abort_in_the_first_moment_counts(ask) -> None:
    async def main() -> None:
        engine = FakeEngine("", faults={1: Fault.hang(), 2: Fault.drop()})
        for request_id in ("first", "second"):
            task = asyncio.create_task(ask(engine, "go", request_id=request_id))
            await asyncio.sleep(0)
            assert engine.requests[-1].id == request_id
            await engine.abort(request_id)
            with pytest.raises(EngineUnavailable, match=f"'{request_id}' was aborted"):
                await task

    asyncio.run(main())


def test_abort_between_chunks_ends_the_stream(make_request) -> None:
    async def main() -> None:
        engine = FakeEngine("a b c", chunk_tokens=1)
        stream = engine.complete(await make_request(engine, "go", request_id="mine"))
        await anext(stream)
        await engine.abort("mine")
        with pytest.raises(EngineUnavailable, match="'mine' was aborted"):
            await anext(stream)
        assert engine.requests[0].generated_tokens == 1

    asyncio.run(main())


def test_a_cancelled_reader_stays_cancelled_even_if_its_request_is_aborted_too(ask) -> None:
    async def main() -> None:
        engine = FakeEngine(Reply("", fault=Fault.hang()))
        task = asyncio.create_task(ask(engine, "go", request_id="both"))
        await asyncio.sleep(1)
        task.cancel()
        await engine.abort("both")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.requests[0].outcome == "aborted"

    run_virtual(main())


def test_cancelling_the_reader_cancels_an_async_reply(ask) -> None:
    ended: list[str] = []

    async def respond(prompt: object) -> str:
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append("cleaned up")
        return "late"

    async def main() -> None:
        engine = FakeEngine(respond)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await ask(engine, "go")
        assert engine.account().aborted == 1

    run_virtual(main())
    assert ended == ["cleaned up"]


def test_closing_ends_what_runs_and_refuses_what_comes(ask) -> None:
    async def main() -> None:
        async with FakeEngine(Reply("", fault=Fault.hang())) as engine:
            task = asyncio.create_task(ask(engine, "go"))
            await asyncio.sleep(1)
        with pytest.raises(EngineUnavailable, match="aborted"):
            await task
        with pytest.raises(EngineUnavailable, match="closed"):
            await ask(engine, "go")
        await engine.aclose()
        assert engine.account().started == engine.account().aborted == 1

    run_virtual(main())


# Misuse


def test_an_id_may_be_used_again_but_not_while_it_is_alive(ask) -> None:
    async def main() -> None:
        engine = FakeEngine("done", latency=Latency(token=1.0))
        task = asyncio.create_task(ask(engine, "go", request_id="same"))
        await asyncio.sleep(0.5)
        with pytest.raises(InvalidRequest, match="'same' is in use"):
            await ask(engine, "go", request_id="same")
        assert (await task).text == "done"
        assert (await ask(engine, "go", request_id="same")).text == "done"
        assert engine.account().finished == 2

    run_virtual(main())


@pytest.mark.parametrize(("prompt", "options", "message"), [("", {}, "empty"), ("go", {"max_tokens": -1}, "-1")])
def test_impossible_requests_are_refused(ask, prompt, options, message) -> None:
    with pytest.raises(InvalidRequest, match=message):
        asyncio.run(ask(FakeEngine("never"), prompt, **options))


@pytest.mark.parametrize("chunk_tokens", [0, -1])
def test_a_chunk_has_a_token(chunk_tokens: int) -> None:
    with pytest.raises(ConfigurationError, match=str(chunk_tokens)):
        FakeEngine("", chunk_tokens=chunk_tokens)


def test_the_context_limit_ends_completions_and_refuses_contexts(ask) -> None:
    async def main() -> None:
        engine = FakeEngine("six words that go on on", context_limit=5)
        cut = await ask(engine, "a b c")
        assert (cut.text, cut.finish.reason) == ("six words", "length")
        assert (await ask(engine, "a b c d e", max_tokens=0)).finish.prompt_tokens == 5
        with pytest.raises(ContextOverflow, match="has 6 tokens and the model reads at most 5"):
            await ask(engine, "a b c d e")
        with pytest.raises(ContextOverflow) as caught:
            await ask(engine, "a b c d e f g", max_tokens=0)
        assert (caught.value.tokens, caught.value.limit) == (7, 5)

    asyncio.run(main())


def test_the_log_keeps_requests_without_what_was_read_of_them() -> None:
    def kept() -> int:
        gc.collect()
        return sum(type(each) is Generation for each in gc.get_objects())  # others may load something when asked

    before, engine = kept(), FakeEngine("a reply")

    async def ask() -> None:
        state = State(engine)
        await state.append("a task")
        await state.generate(max_tokens=8)

    asyncio.run(ask())
    assert engine.account().finished == 1
    assert kept() == before
