"""The contract finds engines that break a promise."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from sprint_agents.context import Context
from sprint_agents.engine import Chunk, Engine, Finish, Request
from sprint_agents.errors import EngineUnavailable, SprintError
from sprint_agents.testing import FakeEngine
from sprint_agents.testing.contract import Completion, EngineContract, complete, request_of

REPLY = "50 + 25 = 75\n75 + 7 = 82\n" * 40


def contract_of(engine: type[FakeEngine]) -> EngineContract:
    class Contract(EngineContract):
        async def make_engine(self) -> Engine:
            return engine(REPLY, chunk_tokens=1)

    return Contract()


def test_an_engine_that_keeps_them_passes() -> None:
    contract_of(FakeEngine).run_all()


def test_the_engine_has_to_be_named() -> None:
    with pytest.raises(NotImplementedError, match="make_engine"):
        EngineContract().run_all()


class Wrong(FakeEngine):
    """Changes the chunks of an engine that keeps its promises."""

    def change(self, request: Request, chunk: Chunk) -> Chunk:
        return chunk

    async def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        stream = super().complete(request)
        try:
            async for chunk in stream:
                yield self.change(request, chunk)
        finally:
            await stream.aclose()


class Mumbles(Wrong):
    def change(self, request: Request, chunk: Chunk) -> Chunk:
        return replace(chunk, text=chunk.text.upper().strip())


class EndsTwice(Wrong):
    def change(self, request: Request, chunk: Chunk) -> Chunk:
        return replace(chunk, finish=Finish("length", None, len(request.context), 0))


class Miscounts(Wrong):
    def change(self, request: Request, chunk: Chunk) -> Chunk:
        finish = chunk.finish and replace(chunk.finish, prompt_tokens=chunk.finish.prompt_tokens + 1)
        return replace(chunk, finish=finish)


class Forgets(FakeEngine):
    async def decode(self, ids: Sequence[int]) -> str:
        return (await super().decode(ids)).removesuffix("\n")


class IgnoresStops(FakeEngine):
    def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        return super().complete(replace(request, stop_ids=frozenset()))


class IgnoresStopTexts(FakeEngine):
    def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        return super().complete(replace(request, stop_texts=()))


class BeginsAgain(FakeEngine):
    """Does not see that a request continues a completion."""

    def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        return super().complete(replace(request, continues=None))


class Mixes(FakeEngine):
    """Gives a request another completion while others run."""

    def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        if self.account().running > 2:
            request = replace(request, max_tokens=request.max_tokens - 1)
        return super().complete(request)


class Swaps(FakeEngine):
    """Answers another request's question while others run."""

    def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        self.before, before = request.context, getattr(self, "before", request.context)
        return super().complete(replace(request, context=before) if self.account().running > 2 else request)


class KeepsRunning(FakeEngine):
    """Leaves a request running whose reader went away."""

    async def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        stream = super().complete(request)
        self.streams: list[object] = [*getattr(self, "streams", []), stream]
        async for chunk in stream:
            yield chunk


class NeverAborts(FakeEngine):
    async def abort(self, request_id: str) -> None:
        pass


class AcceptsAnything(FakeEngine):
    async def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        if not len(request.context):
            yield Chunk((), "", Finish("length", None, 0, 0))
            return
        async for chunk in super().complete(request):
            yield chunk


class BelongsToALoop(FakeEngine):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.loop = asyncio.get_running_loop()

    async def encode(self, text: str) -> list[int]:
        if self.loop is not asyncio.get_running_loop():
            raise EngineUnavailable("another loop")
        return await super().encode(text)


class StaysOpen(FakeEngine):
    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize(
    ("engine", "test", "message"),
    [
        (Mumbles, "a_completion_is_whole", "the text of the chunks"),
        (EndsTwice, "a_completion_is_whole", "before the last"),
        (Miscounts, "a_completion_is_whole", "prompt_tokens"),
        (Forgets, "decoding_restores_encoded_text", "the decoded text"),
        (IgnoresStops, "a_stop_id_ends_it_and_is_included", "the ids up to"),
        (IgnoresStopTexts, "a_stop_text_ends_it_and_is_not_trimmed", "continues after"),
        (BeginsAgain, "a_completion_can_be_continued", "continued after 1"),
        (Mixes, "concurrent_requests_are_independent", "the ids of concurrent"),
        (KeepsRunning, "closing_the_stream_ends_the_request", "in use"),
        (NeverAborts, "abort_ends_the_stream_of_another_reader", "EngineUnavailable should be raised"),
        (AcceptsAnything, "impossible_requests_are_refused", "InvalidRequest should be raised"),
        (BelongsToALoop, "it_works_from_any_loop", "another loop"),
        (StaysOpen, "closing_ends_everything", "EngineUnavailable should be raised"),
    ],
)
def test_a_broken_promise_is_found(engine: type[FakeEngine], test: str, message: str) -> None:
    with pytest.raises((AssertionError, SprintError), match=message):
        getattr(contract_of(engine), f"test_{test}")()


def named_by(engine: type[FakeEngine]) -> EngineContract:
    """A contract whose model answers with the last words of its context."""

    class Contract(EngineContract):
        subjects = ("gravity", "rain", "the sea")

        async def make_engine(self) -> Engine:
            return engine(lambda prompt: prompt.text.removeprefix("What is ") * 8, chunk_tokens=1)

    return Contract()


def test_concurrent_completions_are_told_apart_by_what_they_name() -> None:
    named_by(FakeEngine).test_concurrent_requests_are_independent()
    with pytest.raises(AssertionError, match=r"what the concurrent completion .* names should be"):
        named_by(Swaps).test_concurrent_requests_are_independent()


def test_the_error_of_running_them_all_names_the_test() -> None:
    with pytest.raises(AssertionError) as caught:
        contract_of(Mumbles).run_all()
    assert caught.value.__notes__ == ["in Contract.test_a_completion_is_whole"]


def test_a_completion_without_a_finish_is_not_whole() -> None:
    with pytest.raises(AssertionError, match="no finish"):
        _ = Completion((Chunk((1,), "a"),)).finish
    with pytest.raises(AssertionError, match="no finish"):
        _ = Completion(()).finish


def test_every_request_has_its_own_id() -> None:
    async def main() -> None:
        engine = FakeEngine("a b")
        context = Context().extend(await engine.encode("go"), "go")
        first, second = request_of(context), request_of(context)
        assert first.id != second.id
        assert (await complete(engine, first)).text == (await complete(engine, second)).text == "a b"

    asyncio.run(main())
