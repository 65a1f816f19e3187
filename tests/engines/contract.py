"""What every engine promises (`sprint_agents/engine.py`), as checks that any engine can be put through.

    @pytest.mark.parametrize("check", contract.CHECKS, ids=contract.name_of)
    def test_it_keeps_the_contract(check):
        check(contract.Subject(make_engine))

A check makes engines of its own and closes them. It needs greedy completions of the subject's prompt that are the
same every time, have at least 8 tokens, and some text.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

import pytest

from sprint_agents.context import Context
from sprint_agents.engine import Chunk, Engine, Finish, Request, Sampling
from sprint_agents.errors import EngineUnavailable, InvalidRequest

TOKENS = 8
_numbers = count(1)


@dataclass(frozen=True)
class Subject:
    make: Callable[[], Awaitable[Engine]]
    prompt: str = "Use 50, 25, 7, 3 to make 81.\n"
    outside: int = 10**7
    """A token id outside the vocabulary."""
    long: int = 400
    """A number of tokens that takes the engine a while."""

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[Engine]:
        engine = await self.make()
        try:
            yield engine
        finally:
            await engine.aclose()

    async def context(self, engine: Engine, text: str | None = None) -> Context:
        text = self.prompt if text is None else text
        return Context().extend(await engine.encode(text), text)


@dataclass(frozen=True)
class Answer:
    chunks: tuple[Chunk, ...]

    @property
    def ids(self) -> list[int]:
        return [token for chunk in self.chunks for token in chunk.ids]

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)

    @property
    def finish(self) -> Finish:
        *earlier, last = self.chunks
        assert [chunk.finish for chunk in earlier] == [None] * len(earlier)
        assert last.finish is not None
        return last.finish


def request_of(
    context: Context,
    *,
    max_tokens: int = TOKENS,
    request_id: str | None = None,
    sampling: Sampling | None = None,
    stop_ids: Sequence[int] = (),
    stop_texts: tuple[str, ...] = (),
) -> Request:
    return Request(
        id=request_id or f"contract-{next(_numbers)}-",
        context=context,
        max_tokens=max_tokens,
        sampling=sampling or Sampling(temperature=0),
        stop_ids=frozenset(stop_ids),
        stop_texts=stop_texts,
    )


async def ask(engine: Engine, request: Request) -> Answer:
    return Answer(tuple([chunk async for chunk in engine.complete(request)]))


async def drain(stream: AsyncIterator[Chunk]) -> None:
    async for _ in stream:
        pass


def check_a_completion_is_whole(subject: Subject) -> None:
    async def main() -> None:
        async with subject.engine() as engine:
            context = await subject.context(engine)
            answer = await ask(engine, request_of(context))
            assert len(answer.ids) == TOKENS
            assert answer.text == await engine.decode(answer.ids)
            assert (answer.finish.reason, answer.finish.matched) == ("length", None)
            assert answer.finish.prompt_tokens == len(context)
            assert 0 <= answer.finish.cached_tokens <= len(context)

    asyncio.run(main())


def check_text_comes_back_from_its_ids(subject: Subject) -> None:
    async def main() -> None:
        async with subject.engine() as engine:
            assert await engine.decode(await engine.encode(subject.prompt)) == subject.prompt

    asyncio.run(main())


def check_no_tokens_may_be_asked_for(subject: Subject) -> None:
    async def main() -> None:
        async with subject.engine() as engine:
            answer = await ask(engine, request_of(await subject.context(engine), max_tokens=0))
            assert (answer.ids, answer.text) == ([], "")
            assert (answer.finish.reason, answer.finish.matched) == ("length", None)

    asyncio.run(main())


def check_a_stop_id_ends_it_and_is_included(subject: Subject) -> None:
    async def main() -> None:
        async with subject.engine() as engine:
            context = await subject.context(engine)
            whole = (await ask(engine, request_of(context))).ids
            stop = whole[TOKENS // 2]
            answer = await ask(engine, request_of(context, stop_ids=[stop]))
            assert answer.ids == whole[: whole.index(stop) + 1]
            assert (answer.finish.reason, answer.finish.matched) == ("stop", stop)

    asyncio.run(main())


def check_a_stop_text_ends_it_and_is_not_trimmed(subject: Subject) -> None:
    async def main() -> None:
        async with subject.engine() as engine:
            context = await subject.context(engine)
            whole = await ask(engine, request_of(context))
            middle = len(whole.text) // 2
            stop = whole.text[max(0, middle - 2) : middle + 1]
            answer = await ask(engine, request_of(context, stop_texts=("in no text", stop)))
            assert answer.ids == whole.ids[: len(answer.ids)]
            assert stop in answer.text
            assert answer.text.index(stop) == whole.text.index(stop)
            assert stop not in await engine.decode(answer.ids[:-1])
            assert (answer.finish.reason, answer.finish.matched) == ("stop", stop)

    asyncio.run(main())


def check_concurrent_requests_are_independent(subject: Subject) -> None:
    async def main() -> None:
        async with subject.engine() as engine:
            root = await subject.context(engine)
            forks = [root.extend(await engine.encode(text), text) for text in ("", "1", "2", "12", "1", "3\n")]
            alone = [(await ask(engine, request_of(fork))).ids for fork in forks]
            together = await asyncio.gather(*(ask(engine, request_of(fork)) for fork in forks))
            assert [answer.ids for answer in together] == alone

    asyncio.run(main())


def check_closing_the_stream_ends_the_request(subject: Subject) -> None:
    async def main() -> None:
        async with subject.engine() as engine:
            context = await subject.context(engine)
            stream = engine.complete(request_of(context, max_tokens=subject.long, request_id="closed-"))
            await anext(stream)
            await stream.aclose()  # pyright: ignore[reportAttributeAccessIssue]
            await ask(engine, request_of(context, request_id="closed-"))  # the id is free again

    asyncio.run(main())


def check_cancelling_the_reader_ends_the_request(subject: Subject) -> None:
    async def main() -> None:
        async with subject.engine() as engine:
            context = await subject.context(engine)
            begun = asyncio.Event()

            async def read() -> None:
                async for _ in engine.complete(request_of(context, max_tokens=subject.long, request_id="cancelled-")):
                    begun.set()

            reader = asyncio.create_task(read())
            await begun.wait()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            await ask(engine, request_of(context, request_id="cancelled-"))

    asyncio.run(main())


def check_abort_ends_the_stream_of_another_reader(subject: Subject) -> None:
    async def main() -> None:
        async with subject.engine() as engine:
            context = await subject.context(engine)
            await engine.abort("unknown-")
            stream = engine.complete(request_of(context, max_tokens=subject.long, request_id="aborted-"))
            chunk = await anext(stream)
            await engine.abort("aborted-")
            if chunk.finish is None:
                with pytest.raises(EngineUnavailable, match="aborted"):
                    await drain(stream)
            await engine.abort("aborted-")
            await ask(engine, request_of(context, request_id="aborted-"))

    asyncio.run(main())


def check_a_live_id_is_refused(subject: Subject) -> None:
    async def main() -> None:
        async with subject.engine() as engine:
            context = await subject.context(engine)
            stream = engine.complete(request_of(context, max_tokens=subject.long, request_id="live-"))
            if (await anext(stream)).finish is None:
                with pytest.raises(InvalidRequest, match="live-"):
                    await ask(engine, request_of(context, request_id="live-"))
            await stream.aclose()  # pyright: ignore[reportAttributeAccessIssue]

    asyncio.run(main())


def check_impossible_requests_are_refused(subject: Subject) -> None:
    async def main() -> None:
        async with subject.engine() as engine:
            context = await subject.context(engine)
            for wrong in (Context(), context.extend([subject.outside], "?"), context.extend([-1], "?")):
                with pytest.raises(InvalidRequest):
                    await ask(engine, request_of(wrong))
            with pytest.raises(InvalidRequest, match="-1"):
                await ask(engine, request_of(context, max_tokens=-1))
            assert len((await ask(engine, request_of(context))).ids) == TOKENS

    asyncio.run(main())


def check_it_works_from_any_loop(subject: Subject) -> None:
    engine = asyncio.run(subject.make())  # pyright: ignore[reportArgumentType]

    async def main() -> list[int]:
        return (await ask(engine, request_of(await subject.context(engine)))).ids

    assert asyncio.run(main()) == asyncio.run(main())
    asyncio.run(engine.aclose())


def check_closing_ends_everything(subject: Subject) -> None:
    async def main() -> None:
        async with subject.engine() as engine:
            context = await subject.context(engine)
            stream = engine.complete(request_of(context, max_tokens=subject.long))
            first = await anext(stream)
            await engine.aclose()
            await engine.aclose()
            if first.finish is None:
                with pytest.raises(EngineUnavailable):
                    await drain(stream)
            with pytest.raises(EngineUnavailable, match="closed"):
                await ask(engine, request_of(context))

    asyncio.run(main())


CHECKS: tuple[Callable[[Subject], None], ...] = (
    check_a_completion_is_whole,
    check_text_comes_back_from_its_ids,
    check_no_tokens_may_be_asked_for,
    check_a_stop_id_ends_it_and_is_included,
    check_a_stop_text_ends_it_and_is_not_trimmed,
    check_concurrent_requests_are_independent,
    check_closing_the_stream_ends_the_request,
    check_cancelling_the_reader_ends_the_request,
    check_abort_ends_the_stream_of_another_reader,
    check_a_live_id_is_refused,
    check_impossible_requests_are_refused,
    check_it_works_from_any_loop,
    check_closing_ends_everything,
)


def name_of(check: Callable[[Subject], None]) -> str:
    return check.__name__.removeprefix("check_")
