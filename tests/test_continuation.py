"""A completion that takes several requests reads like one, whatever its engine knows of the requests before."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sprint_agents import State
from sprint_agents.context import Context
from sprint_agents.engine import Capabilities, Chunk, Engine, Finish, Request
from sprint_agents.errors import ContextOverflow, EngineUnavailable
from sprint_agents.generation import Generation
from sprint_agents.state import Stops
from sprint_agents.testing import FakeEngine


class ByteServer(Engine):
    """Continues ``script`` after a context of one byte; each byte is a token, ``size`` of which make a chunk.

    Like a server, it sees each request alone: it decodes only what that request generated, holds back the bytes of an
    incomplete character until the end, and searches only that text for stops.
    """

    def __init__(self, script: str, *, size: int = 1, context_limit: int = 10**9) -> None:
        self.script = script.encode() + b"\0"
        self.size = size
        self.context_limit = context_limit
        self.requests: list[Request] = []
        self.active = 0

    @property
    def name(self) -> str:
        return "bytes"

    @property
    def manifest(self) -> None:
        return None

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(continues=True)

    async def encode(self, text: str) -> list[int]:
        return list(text.encode())

    async def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode(errors="replace")

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        self.requests.append(request)
        start = len(request.context) - 1
        assert bytes(request.context.flatten()[1:]) == self.script[:start]
        if len(request.context) >= self.context_limit:
            raise ContextOverflow(tokens=len(request.context), limit=self.context_limit)
        limit = min(request.max_tokens, self.context_limit - len(request.context))
        self.active += 1
        try:
            generated, sent, reason, matched = b"", 0, "length", None
            pending: list[int] = []
            while len(generated) < limit and matched is None:
                await asyncio.sleep(0)
                token = self.script[start + len(generated)]
                generated += bytes([token])
                pending.append(token)
                text = generated.decode(errors="replace")
                matched = first_stop(text, request.stop_texts) if token else 0
                if len(pending) == self.size and matched is None and len(generated) < limit:
                    shown = text.rstrip("\ufffd")
                    yield Chunk(pending, shown[sent:])
                    sent, pending = len(shown), []
            reason = "length" if matched is None else "stop"
            text = generated.decode(errors="replace")
            yield Chunk(pending, text[sent:], Finish(reason, matched, len(request.context), start))
        finally:
            self.active -= 1

    async def abort(self, request_id: str) -> None: ...

    async def aclose(self) -> None: ...


def first_stop(text: str, stops: Sequence[str]) -> str | None:
    """Return the stop that ends first; of several with the same end, the longest."""
    ends = [(text.find(stop) + len(stop), -len(stop), stop) for stop in stops if stop in text]
    return min(ends)[2] if ends else None


def generate(engine: Engine, pieces: Sequence[int], *, stops: Sequence[str] = ()) -> Generation:
    """Complete a context in pieces of these sizes, and then without a limit."""

    async def main() -> Generation:
        state = State(engine, Context().extend([1], "?"))
        grants = iter(pieces[1:])

        async def extend() -> int:
            return next(grants, 1000)

        async with state.stream(max_tokens=pieces[0], stops=Stops(texts=tuple(stops)), extend=extend) as generation:
            await generation.drain()
        assert state.context.flatten() == [1, *generation.ids]
        return generation

    return asyncio.run(main())


texts = st.text(st.sampled_from("ab</>é€😀"), max_size=14)


@given(
    script=texts,
    size=st.integers(1, 4),
    pieces=st.lists(st.integers(1, 5), min_size=1, max_size=8),
    stops=st.lists(st.text(st.sampled_from("ab</>€"), min_size=1, max_size=4), max_size=2),
)
@example(script="one </a> two", size=1, pieces=[5], stops=["</a>"])
@example(script="one </a> two", size=3, pieces=[5], stops=["</a>"])
@example(script="one </a> two", size=1, pieces=[5, 1, 1, 1], stops=["</a>"])
@example(script="a😀b", size=1, pieces=[2, 1, 1], stops=[])
@example(script="€€€€", size=2, pieces=[1, 1, 1], stops=["€€"])
def test_it_is_the_completion_of_one_request(
    script: str, size: int, pieces: Sequence[int], stops: Sequence[str]
) -> None:
    whole = generate(ByteServer(script, size=1), [1000], stops=stops)
    engine = ByteServer(script, size=size)
    parts = generate(engine, pieces, stops=stops)
    assert parts.ids == whole.ids
    assert parts.text == whole.text
    assert parts.finish is not None
    assert whole.finish is not None
    assert (parts.finish.reason, parts.finish.matched) == (whole.finish.reason, whole.finish.matched)
    assert len(parts.request_ids) == len(engine.requests)
    assert parts.prompt_tokens == sum(len(request.context) for request in engine.requests)
    assert engine.active == 0


def test_each_request_says_which_one_it_continues():
    engine = ByteServer("abcdef")
    assert generate(engine, [2, 3]).text == "abcdef\0"
    first, second, third = engine.requests
    assert (first.continues, first.written) == (None, 0)
    assert (second.continues, second.written, second.max_tokens) == (first, 2, 3)
    assert (third.continues, third.written) == (first, 5)
    assert len({request.id for request in engine.requests}) == 3


def test_only_what_the_last_request_had_to_compute_is_not_cached():
    generation = generate(ByteServer("abcdef"), [2, 3])
    assert (generation.prompt_tokens, generation.cached_tokens) == (1 + 3 + 6, 0 + 2 + 5)


def test_it_ends_where_the_context_of_the_model_ends():
    generation = generate(ByteServer("abcdef", context_limit=5), [2])
    assert (generation.text, len(generation.request_ids)) == ("abcd", 2)
    generation = generate(ByteServer("abcdef", context_limit=3), [2])
    assert (generation.text, len(generation.request_ids)) == ("ab", 2)
    assert generation.finish is not None
    assert generation.finish.reason == "length"


def test_without_more_tokens_it_ends_with_an_incomplete_character():
    generation = generate(ByteServer("a€b"), [3, 0])
    assert (generation.text, len(generation.ids)) == ("a\ufffd", 3)


def test_closing_the_stream_closes_the_request_that_is_active():
    async def main() -> None:
        engine = ByteServer("abcdef")
        state = State(engine, Context().extend([1], "?"))

        async def extend() -> int:
            return 4

        async with state.stream(max_tokens=2, extend=extend) as generation:
            async for chunk in generation:
                if chunk.text == "d":
                    break
            assert engine.active == 1
        assert engine.active == 0
        assert len(engine.requests) == 2
        assert len(state.context) == 1

    asyncio.run(main())


def test_a_prompt_that_crosses_the_border_is_cut_where_it_ends():
    async def main() -> str:
        state = State(ByteServer("<p>one</p><p>two</p>"), Context().extend([1], "?"))

        async def extend() -> int:
            return 3

        async with state.stream(max_tokens=8, extend=extend) as generation:
            cuts: list[Context] = []
            async for _ in generation:
                while (end := generation.text.find("</p>", 1 + 10 * len(cuts))) >= 0:
                    cuts.append(await generation.cut(end + 4))
            return "".join(cut.text[-3:] + str(len(cut)) for cut in cuts)

    assert asyncio.run(main()) == "/p>11/p>21"


def test_an_error_of_a_later_request_is_the_error_of_the_completion():
    async def main() -> None:
        engine = FakeEngine("one two three four")
        state = State(engine, Context().extend(await engine.encode("go"), "go"))

        async def extend() -> int:
            await engine.aclose()
            return 4

        async with state.stream(max_tokens=2, extend=extend) as generation:
            with pytest.raises(EngineUnavailable):
                await generation.drain()
        assert len(generation.request_ids) == 2
        assert generation.text == "one two"

    asyncio.run(main())


def test_the_scripted_engine_continues_its_reply():
    async def main() -> tuple[str, int]:
        asked: list[str] = []

        def reply(prompt: object) -> str:
            asked.append("asked")
            return "one two three four"

        engine = FakeEngine(reply)
        state = State(engine, Context().extend(await engine.encode("go"), "go"))

        async def extend() -> int:
            return 1

        async with aclosing(engine), state.stream(max_tokens=2, extend=extend) as generation:
            await generation.drain()
        return generation.text, len(asked)

    assert asyncio.run(main()) == ("one two three four", 1)
