import asyncio

import pytest
from pydantic import ValidationError

from sprint_agents.context import Context
from sprint_agents.dialects.tags.format import load_tags
from sprint_agents.errors import (
    EngineOverloaded,
    EngineProtocolError,
    EngineRejected,
    EngineUnavailable,
    InvalidRequest,
)
from sprint_agents.testing import FakeEngine, Fault, Latency, Prompt, Reply, run_virtual


def test_a_sequence_is_used_in_order_of_arrival_and_then_refused(ask) -> None:
    async def main() -> None:
        engine = FakeEngine(["first", "second", Reply("third")])
        answers = await asyncio.gather(*(ask(engine, "go") for _ in range(3)))
        assert [answer.text for answer in answers] == ["first", "second", "third"]
        with pytest.raises(EngineRejected, match=r"script of 3 replies is used up, and request 4 .* after 'go'"):
            await ask(engine, "go")

    asyncio.run(main())


def test_the_key_that_occurs_last_answers(ask) -> None:
    async def main() -> list[str]:
        engine = FakeEngine({"sum": "4", "product": "6", "er product": "longer", "": "anything else"})
        prompts = [
            "the sum",
            "the sum, the product",
            "the product, the sum",
            "another product",
            "no key",
            "sum no key",
            "sum, product, sum",
        ]
        return [(await ask(engine, prompt)).text for prompt in prompts]

    assert asyncio.run(main()) == ["4", "6", "4", "longer", "anything else", "4", "4"]


def test_no_key_is_a_clear_refusal(ask) -> None:
    with pytest.raises(EngineRejected, match=r"none of \['sum'\] occurs .* ends in 'the product'"):
        asyncio.run(ask(FakeEngine({"sum": "4"}), "the product"))


def test_forms_nest(ask) -> None:
    async def main() -> list[str]:
        engine = FakeEngine({"flaky": ["one", lambda prompt: f"two for {prompt.number}"], "steady": "same"})
        return [(await ask(engine, prompt)).text for prompt in ("flaky", "steady", "flaky", "steady")]

    assert asyncio.run(main()) == ["one", "same", "two for 3", "same"]


def test_a_function_sees_what_the_model_reads_and_may_be_async(ask) -> None:
    async def respond(prompt: Prompt) -> Reply:
        await asyncio.sleep(2)
        assert prompt.ids == prompt.request.context.flatten()
        return Reply(f"{prompt.number} {prompt.text!r} {prompt.tail(5)!r} {prompt.tail(0)!r} {prompt.tail(99)!r}")

    async def main() -> None:
        engine = FakeEngine(respond)
        # The text comes from the ids: these are the truth, whatever the context calls them.
        context = (
            Context().extend(await engine.encode("head and "), "wrong").extend(await engine.encode("tail"), "wrong")
        )
        answer = await ask(engine, context)
        assert answer.text == "1 'head and tail' ' tail' '' 'head and tail'"
        assert asyncio.get_running_loop().time() == 2

    run_virtual(main())


@pytest.mark.parametrize("error", [ValueError("a bug in the test"), EngineOverloaded("later", retry_after=3)])
def test_what_a_function_raises_reaches_the_reader(ask, error: Exception) -> None:
    def respond(prompt: Prompt) -> str:
        raise error

    engine = FakeEngine(respond)
    with pytest.raises(type(error)) as caught:
        asyncio.run(ask(engine, "go"))
    assert caught.value is error
    assert engine.account().failed == 1


def test_a_function_that_returns_no_reply_is_reported(ask) -> None:
    with pytest.raises(EngineProtocolError, match="reply to request 1 is None"):
        asyncio.run(ask(FakeEngine(lambda prompt: None), "go"))


async def read(engine: FakeEngine, request) -> tuple[str, Exception | None]:
    text = ""
    try:
        async for chunk in engine.complete(request):
            text += chunk.text
    except EngineUnavailable as error:
        return text, error
    except EngineOverloaded as error:
        return text, error
    return text, None


@pytest.mark.parametrize("chunk_tokens", [None, 1, 2])
@pytest.mark.parametrize(
    ("after", "text"), [(0, ""), (1, "one"), (3, "one two three"), (4, "one two three"), (9, "one two three")]
)
def test_an_error_or_lost_connection_strikes_after_so_many_tokens(make_request, chunk_tokens, after, text) -> None:
    busy = EngineOverloaded("busy", retry_after=1)

    async def main() -> None:
        faults = [Fault.drop(after=after), Fault.error(busy, after=after)]
        engine = FakeEngine([Reply("one two three", fault=fault) for fault in faults], chunk_tokens=chunk_tokens)
        lost, lost_error = await read(engine, await make_request(engine, "go"))
        failed, failed_error = await read(engine, await make_request(engine, "go"))
        assert lost == failed == text
        assert isinstance(lost_error, EngineUnavailable)
        assert lost_error.retryable
        assert failed_error is busy
        assert [record.outcome for record in engine.requests] == ["failed", "failed"]
        assert {record.generated_tokens for record in engine.requests} == {min(after, 4)}

    asyncio.run(main())


def test_a_hanging_request_stays_until_its_reader_gives_up(ask) -> None:
    async def main() -> None:
        engine = FakeEngine(Reply("one two three", fault=Fault.hang(after=2)), latency=Latency(token=1.0))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await ask(engine, "go")
        (record,) = engine.requests
        assert (record.outcome, record.generated_tokens, record.ended) == ("aborted", 2, 60)

    run_virtual(main())


def test_garbage_is_noise_with_tags_that_its_seed_decides(ask) -> None:
    async def main() -> None:
        def garbage(seed: int) -> FakeEngine:
            return FakeEngine(Reply("it starts well", fault=Fault.garbage(after=2, tokens=200, seed=seed)))

        texts = [(await ask(garbage(seed), "go", max_tokens=1000)).text for seed in (1, 1, 2)]
        assert texts[0] == texts[1] != texts[2]
        assert all(text.startswith("it starts") for text in texts)
        assert any(tag in texts[0] for tag in load_tags().special_tokens)
        stopped = await ask(garbage(1), "go", max_tokens=1000, stop_ids=("</Plan_",))
        assert stopped.text == texts[0][: texts[0].index("</Plan_") + len("</Plan_")]

    asyncio.run(main())


def test_faults_can_be_given_by_request_number_whatever_the_reply(ask) -> None:
    async def main() -> None:
        engine = FakeEngine("fine", faults={2: Fault.drop(), 4: Fault.drop()})
        assert (await ask(engine, "go")).text == "fine"
        with pytest.raises(EngineUnavailable, match="lost after 0 tokens"):
            await ask(engine, "go")
        assert (await ask(engine, "go")).text == "fine"
        with pytest.raises(EngineUnavailable):
            await ask(engine, "go", max_tokens=0)

    asyncio.run(main())


def test_impossible_faults_and_latencies_are_refused() -> None:
    with pytest.raises(ValidationError, match="after"):
        Fault.hang(after=-1)
    with pytest.raises(ValidationError, match="token"):
        Latency(token=-0.1)
    with pytest.raises(ValidationError, match="tokens_per_second"):
        Latency(tokens_per_second=3)


def test_a_script_is_not_used_up_by_requests_that_generate_nothing(ask) -> None:
    async def main() -> None:
        engine = FakeEngine(["only one"])
        await ask(engine, "go", max_tokens=0)
        with pytest.raises(InvalidRequest):
            await ask(engine, "go", max_tokens=-1)
        assert (await ask(engine, "go")).text == "only one"

    asyncio.run(main())
