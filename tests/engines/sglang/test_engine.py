import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.context import Context
from sprint_agents.engine import Chunk, Engine, Finish, Request, Sampling
from sprint_agents.engines.sglang import SGLangEngine
from sprint_agents.errors import (
    ConfigurationError,
    ContextOverflow,
    EngineOverloaded,
    EngineProtocolError,
    EngineRejected,
    EngineTimeout,
    EngineUnavailable,
    InvalidCheckpoint,
    InvalidRequest,
)
from sprint_agents.markup import markup

from .scripted import (
    CONTEXT_LIMIT,
    VOCABULARY,
    Act,
    Exchange,
    ScriptedServer,
    answers,
    begins,
    completes,
    dies,
    events,
    frame,
    frames,
    hangs,
    name_of,
    stream,
)

T = TypeVar("T")
Scene = Callable[[SGLangEngine, ScriptedServer], Awaitable[T]]


def play(acts: Sequence[Act], scene: Scene[T], **options: Any) -> T:
    async def main() -> T:
        async with ScriptedServer(acts) as server, SGLangEngine(server.url, **options) as engine:
            return await scene(engine, server)

    return asyncio.run(main())


def request(ids: Sequence[int] = (1, 2, 3), *, name: str = "r-1", max_tokens: int = 20, **changes: Any) -> Request:
    context = Context().extend(ids, "?")
    return Request(id=name, context=context, max_tokens=max_tokens, sampling=Sampling(), **changes)


async def complete(engine: SGLangEngine, asked: Request | None = None) -> list[Chunk]:
    return [chunk async for chunk in engine.complete(asked or request())]


def joined(chunks: Sequence[Chunk]) -> tuple[list[int], str]:
    return [token for chunk in chunks for token in chunk.ids], "".join(chunk.text for chunk in chunks)


def test_is_an_engine() -> None:
    assert isinstance(SGLangEngine("http://127.0.0.1:1"), Engine)


def test_streams_the_completion() -> None:
    async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
        chunks = await complete(engine)
        assert [(list(chunk.ids), chunk.text) for chunk in chunks] == [([7], "a"), ([8], "b"), ([9], "c")]
        assert [chunk.finish for chunk in chunks] == [None, None, Finish("stop", 9, 3, 2)]
        assert server.aborts == []

    play([completes()], scene)


@pytest.mark.parametrize("kind", ["Text/Event-Stream", "TEXT/EVENT-STREAM;charset=UTF-8"])
def test_the_content_type_is_read_in_any_case(kind: str) -> None:
    async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
        assert joined(await complete(engine)) == ([7, 8, 9], "abc")

    play([stream(events(frames("abc", [7, 8, 9], prompt=3, type="stop", matched=9)), kind=kind)], scene)


def test_asks_for_everything_explicitly() -> None:
    async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
        sampling = Sampling(temperature=0.5, top_p=0.9, top_k=5, seed=11)
        asked = request(max_tokens=4, stop_ids=frozenset({9, 4}), stop_texts=("</a",))
        await complete(engine, replace(asked, sampling=sampling))
        (body,) = server.bodies("/generate")
        assert name_of(body.pop("rid")) == "r-1"
        assert body == {
            "input_ids": [1, 2, 3],
            "stream": True,
            "sampling_params": {
                "max_new_tokens": 4,
                "min_new_tokens": 0,
                "temperature": 0.5,
                "top_p": 0.9,
                "top_k": 5,
                "min_p": 0.0,
                "frequency_penalty": 0.0,
                "presence_penalty": 0.0,
                "repetition_penalty": 1.0,
                "n": 1,
                "ignore_eos": False,
                "stop": ["</a"],
                "stop_token_ids": [4, 9],
                "no_stop_trim": True,
                "skip_special_tokens": False,
                "spaces_between_special_tokens": False,
                "sampling_seed": 11,
            },
        }

    play([completes()], scene)


@given(
    texts=st.lists(st.text(max_size=3), min_size=1, max_size=6),
    cumulative=st.booleans(),
    data=st.data(),
)
def test_packets_may_be_cut_anywhere(texts: list[str], cumulative: bool, data: st.DataObject) -> None:
    ids = list(range(len(texts)))
    sent = events(frames(texts, ids, prompt=3, cumulative=cumulative, type="length"))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(sent) - 1), max_size=20)))

    async def scene(engine: SGLangEngine, _: ScriptedServer) -> None:
        chunks = await complete(engine)
        assert joined(chunks) == (ids, "".join(texts))
        assert [chunk.finish is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]

    play([stream(sent, cuts=cuts)], scene)


def test_a_late_event_may_hold_more_ids_than_it_counts() -> None:
    # The server goes on appending to the list of an event that waits to be sent.
    late = [frame("a", [7], total=1), frame("ab", [7, 8, 9], total=2), frame("abc", [7, 8, 9], type="length", length=3)]
    chunks = play([stream(events(late))], lambda engine, _: complete(engine))
    assert joined(chunks) == ([7, 8, 9], "abc")


def test_a_commit_has_no_tokens() -> None:
    sent = events([frame("", [], prompt=3, type="length", length=0)])
    chunks = play([stream(sent)], lambda engine, _: complete(engine, request(max_tokens=0)))
    assert chunks == [Chunk([], "", Finish("length", None, 3, 2))]


def test_says_which_stop_text_matched() -> None:
    sent = events(frames(["x", "</a>"], [7, 8], prompt=3, type="stop", matched="</a"))
    chunks = play([stream(sent)], lambda engine, _: complete(engine))
    assert chunks[-1].finish == Finish("stop", "</a", 3, 2)
    assert joined(chunks)[1] == "x</a>"


def test_the_end_of_the_context_ends_a_completion() -> None:
    async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
        await complete(engine, request([1] * (CONTEXT_LIMIT - 5), max_tokens=100))
        assert server.bodies("/generate")[0]["sampling_params"]["max_new_tokens"] == 5

    play([completes()], scene)


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        (request([1, VOCABULARY]), InvalidRequest, f"token id {VOCABULARY} is outside the vocabulary of tiny"),
        (request([-1, 1]), InvalidRequest, "token id -1"),
        (request(stop_ids=frozenset({VOCABULARY})), InvalidRequest, "outside the vocabulary"),
        (request([]), InvalidRequest, "empty"),
        (request(max_tokens=-1), InvalidRequest, "-1"),
        (request([1] * CONTEXT_LIMIT), ContextOverflow, f"{CONTEXT_LIMIT} tokens"),
    ],
)
def test_what_must_not_be_sent_is_not(asked: Request, error: type[Exception], words: str) -> None:
    async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
        with pytest.raises(error, match=words):
            await complete(engine, asked)
        assert server.bodies("/generate") == server.aborts == []

    play([completes()], scene)


def test_an_id_in_use_is_refused_and_the_first_request_unharmed() -> None:
    async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
        first = engine.complete(request())
        chunks = [await anext(first)]
        with pytest.raises(InvalidRequest, match="in use"):
            await complete(engine)
        chunks += [chunk async for chunk in first]
        assert joined(chunks) == ([7, 8, 9], "abc")
        assert joined(await complete(engine))[0] == [7, 8, 9]
        assert server.aborts == []

    play([completes()], scene)


def refusal(message: str) -> Act:
    """A refusal as the server streams it, under status 200."""
    return stream(events([json.dumps({"error": {"message": message, "code": 400, "retryable": False}})]))


OVERFLOWS = (
    "The input (70 tokens) is longer than the model's context length (64 tokens).",
    "Requested token count exceeds the model's maximum context length of 64 tokens. You requested a total of 70 tokens",
    "Input length (70 tokens) exceeds the maximum allowed length (64 tokens). Use a shorter input",
)


@pytest.mark.parametrize("message", OVERFLOWS)
@pytest.mark.parametrize("play_it", [refusal, lambda message: answers({"error": {"message": message}}, 400)])  # type: ignore[misc]
def test_recognises_a_context_overflow(message: str, play_it: Callable[[str], Act]) -> None:
    with pytest.raises(ContextOverflow) as raised:
        play([play_it(message)], lambda engine, _: complete(engine))
    assert (raised.value.tokens, raised.value.limit) == (70, 64)


@pytest.mark.parametrize(
    ("act", "error", "words"),
    [
        (
            answers({"error": {"message": "top_p must be in (0, 1]"}}, 400),
            EngineRejected,
            r"^top_p must be in \(0, 1\]$",
        ),
        (answers({"error": "invalid type"}, 400), EngineRejected, "^invalid type$"),
        (answers({"detail": "no such route"}, 404), EngineRejected, "^no such route$"),
        (refusal("top_p must be in (0, 1]"), EngineRejected, "^top_p must be"),
        (answers({"message": "bad key"}, 401), EngineRejected, "api_key"),
        (answers("<html>hello</html>", content_type="text/html"), EngineProtocolError, "text/html: <html>hello"),
        (answers({"text": "a"}), EngineProtocolError, "application/json"),
        (stream(b"data: {broken\n\n"), EngineProtocolError, "{broken"),
        (stream(events(['{"text": 1}'])), EngineProtocolError, "an invalid event"),
        (stream(events([frame("ab", [7, 8]), frame("x", [1], total=5)])), EngineProtocolError, "2 tokens.* 1, of 5"),
        (answers("gone", 302), EngineProtocolError, "302"),
        (stream(events(['{"error": {"message": "bad top_p", "code": "400"}}'])), EngineRejected, "^bad top_p$"),
    ],
)
def test_a_typed_error_with_the_servers_words(act: Act, error: type[Exception], words: str) -> None:
    async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
        with pytest.raises(error, match=words):
            await complete(engine)
        assert len(server.bodies("/generate")) == 1

    play([act], scene)


@pytest.mark.parametrize("error", ["worker died", {"message": "worker died", "code": "upstream_error"}])
def test_an_error_of_a_router_may_pass(error: object) -> None:
    act = stream(events([json.dumps({"error": error})]))
    with pytest.raises(EngineUnavailable, match="worker died"):
        play([act], lambda engine, _: complete(engine), patience=0)


class TestRetries:
    @pytest.mark.parametrize(
        "trouble",
        [
            dies,
            answers("busy", 503),
            answers({"error": {"message": "queue full"}}, 429, retry_after="0"),
            answers("worker gone", 502),
            answers("the worker takes too long", 504),
            stream(events([frame("", [], type="abort", message="The request queue is full.", status_code=503)])),
        ],
    )
    def test_before_the_first_token(self, trouble: Act) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            chunks = await complete(engine)
            assert joined(chunks) == ([7, 8, 9], "abc")
            assert len(server.bodies("/generate")) == 3
            assert chunks[-1].finish == Finish("stop", 9, 3, 2, retries=2)

        play([trouble, trouble, completes()], scene)

    def test_have_ids_of_their_own(self) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            await complete(engine)
            await complete(engine)
            rids = [body["rid"] for body in server.bodies("/generate")]
            assert [name_of(rid) for rid in rids] == ["r-1"] * 3
            assert len(set(rids)) == 3

        play([dies, completes()], scene)

    def test_are_limited(self) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            with pytest.raises(EngineOverloaded, match="queue full") as raised:
                await complete(engine)
            assert raised.value.retry_after == 0.01
            assert len(server.bodies("/generate")) > 1

        play([answers({"error": {"message": "queue full"}}, 429, retry_after="0.01")], scene, patience=0.05)

    def test_not_where_the_server_wants_a_longer_pause_than_we_have(self) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            with pytest.raises(EngineOverloaded) as raised:
                await complete(engine)
            assert raised.value.retry_after == 600
            assert len(server.bodies("/generate")) == 1

        play([answers("busy", 503, retry_after="600")], scene)

    def test_a_date_is_a_pause_too(self) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            assert joined(await complete(engine)) == ([7, 8, 9], "abc")

        play([answers("busy", 503, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"), completes()], scene)

    def test_not_after_a_silence(self) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            with pytest.raises(EngineTimeout, match=r"silent for 0.05 s"):
                await complete(engine)
            assert len(server.bodies("/generate")) == 1
            assert server.aborts == ["r-1"]

        play([hangs], scene, read_timeout=0.05)


def breaks(text: str, ids: Sequence[int]) -> Act:
    """A stream that breaks after some tokens; the scripted server's ids are bytes."""

    async def act(exchange: Exchange) -> None:
        exchange.head(content_type="text/event-stream; charset=utf-8")
        await exchange.send(f"data: {frame(text, ids, prompt=3)}\n\n".encode())
        exchange.die()

    return act


def test_texts_that_are_encoded_at_the_same_time_are_one_request() -> None:
    async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
        texts = [f"text {number}" for number in range(20)]
        assert await asyncio.gather(*map(engine.encode, texts)) == [[*text.encode()] for text in texts]
        assert len(server.bodies("/tokenize")) == 1
        assert engine.capabilities.asks_to_encode

    play([], scene)


class TestAStreamThatBrokeOff:
    """It is resumed by a new request after the tokens that had arrived."""

    def test_no_token_is_lost_or_asked_for_twice(self) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            chunks = await complete(engine)
            assert joined(chunks) == (list(b"abc"), "abc")
            assert chunks[-1].finish is not None
            assert chunks[-1].finish.retries == 2
            first, second, third = server.bodies("/generate")
            assert second["input_ids"] == [*first["input_ids"], *b"a"]
            assert third["input_ids"] == [*first["input_ids"], *b"ab"]
            room = [body["sampling_params"]["max_new_tokens"] for body in (first, second, third)]
            assert room == [room[0], room[0] - 1, room[0] - 2]
            assert {name_of(body["rid"]) for body in (first, second, third)} == {"r-1"}
            assert len({body["rid"] for body in (first, second, third)}) == 3

        play([breaks("a", b"a"), breaks("b", b"b"), completes(("c",), (99,))], scene)

    def test_one_that_may_arrive_whole_is_resumed_too(self) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            assert joined(await complete(engine, request(whole=True))) == (list(b"abc"), "abc")
            await complete(engine)
            first, second, streamed = [body["sampling_params"] for body in server.bodies("/generate")]
            assert first["stream_interval"] == second["stream_interval"] > 1
            assert second["max_new_tokens"] == first["max_new_tokens"] - 2
            assert "stream_interval" not in streamed

        play([breaks("ab", b"ab"), completes(("c",), (99,))], scene)

    def test_as_long_as_tokens_arrive(self) -> None:
        """Each stream breaks after a token, which is progress."""

        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            assert joined(await complete(engine)) == (list(b"aaaaac"), "aaaaac")
            assert len(server.bodies("/generate")) == 6

        play([*[breaks("a", b"a")] * 5, completes(("c",), (99,))], scene, patience=1)

    def test_until_no_token_arrives(self) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            with pytest.raises(EngineUnavailable, match="broke"):
                await complete(engine)
            assert len(server.bodies("/generate")) > 2

        play([breaks("a", b"a"), dies], scene, patience=0.3)

    def test_not_inside_a_character(self) -> None:
        """The server holds the text of a token back until the character is complete."""

        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            with pytest.raises(EngineUnavailable, match="broke"):
                await complete(engine)
            assert len(server.bodies("/generate")) == 1

        play([breaks("a", b"ab")], scene)

    def test_not_inside_what_may_be_a_stop(self) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            with pytest.raises(EngineUnavailable, match="broke"):
                await complete(engine, replace(request(), stop_texts=("bar",)))
            assert len(server.bodies("/generate")) == 1

        play([breaks("aba", b"aba")], scene)

    def test_a_schema_without_what_the_server_might_refuse(self) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            with pytest.raises(EngineUnavailable, match="broke"):
                await complete(engine, replace(request(), schema='{"type":"array","uniqueItems":true}'))
            (body,) = server.bodies("/generate")
            assert body["sampling_params"]["json_schema"] == '{"type":"array"}'

        play([breaks("a", b"a")], scene)

    def test_not_inside_a_schema(self) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            with pytest.raises(EngineUnavailable, match="broke"):
                await complete(engine, replace(request(), schema='{"type": "string"}'))
            (body,) = server.bodies("/generate")
            assert body["sampling_params"]["json_schema"] == '{"type": "string"}'

        play([breaks("a", b"a")], scene)

    def test_not_where_it_was_aborted(self) -> None:
        aborted = asyncio.Event()

        async def act(exchange: Exchange) -> None:
            exchange.head(content_type="text/event-stream; charset=utf-8")
            await exchange.send(f"data: {frame('a', b'a', prompt=3)}\n\n".encode())
            await aborted.wait()
            exchange.die()

        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            chunks = engine.complete(request())
            await anext(chunks)
            await engine.abort("r-1")
            aborted.set()
            with pytest.raises(EngineUnavailable):
                await anext(chunks)
            assert len(server.bodies("/generate")) == 1

        play([act], scene)

    def test_what_had_been_said_to_the_end_is_complete(self) -> None:
        async def act(exchange: Exchange) -> None:
            exchange.head(content_type="text/event-stream; charset=utf-8")
            await exchange.send(f"data: {frame('a', b'a', prompt=3, type='stop', matched=97)}\n\n".encode())
            exchange.die()

        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            assert joined(await complete(engine)) == ([97], "a")
            assert len(server.bodies("/generate")) == 1

        play([act], scene)


def test_a_stream_that_just_ends_is_a_dead_server() -> None:
    with pytest.raises(EngineUnavailable, match="before the request was finished"):
        play([begins(then=Exchange.end)], lambda engine, _: complete(engine))


def test_a_refused_connection() -> None:
    async def main() -> None:
        async with ScriptedServer() as server:
            url = server.url
        with pytest.raises(EngineUnavailable, match=f"no connection to {url}"):
            async with SGLangEngine(url, patience=0):
                pass

    asyncio.run(main())


def test_a_server_that_is_not_sglang() -> None:
    async def main() -> None:
        async with ScriptedServer() as server:
            with pytest.raises(EngineRejected, match="Not Found"):
                await SGLangEngine(server.url + "/elsewhere").encode("a")

    asyncio.run(main())


@pytest.mark.parametrize("url", ["127.0.0.1:30000", "ftp://127.0.0.1", "http://", "", "http://[::1"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is not (a|the) URL"):
        SGLangEngine(url)


class TestLeavingEarly:
    def test_closing_the_stream_aborts(self) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            chunks = engine.complete(request())
            await anext(chunks)
            await chunks.aclose()
            assert server.aborts == ["r-1"]
            # The id is free again.
            again = engine.complete(request())
            await anext(again)
            await again.aclose()
            assert server.aborts == ["r-1"] * 2

        play([begins(then=Exchange.hold)], scene)

    @pytest.mark.parametrize("act", [hangs, begins(then=Exchange.hold)])
    def test_cancellation_aborts(self, act: Act) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            reading = asyncio.create_task(complete(engine))
            await server.arrivals.get()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            assert server.aborts == ["r-1"]

        play([act], scene)

    def test_cancelling_twice_loses_no_abort(self) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            reading = asyncio.create_task(complete(engine))
            await server.arrivals.get()
            reading.cancel()
            # Wakes between the cancellation and the end of the abort, at whatever step.
            while not reading.done():
                await asyncio.sleep(0)
                reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            assert server.aborts == ["r-1"]

        play([hangs], scene)

    def test_an_abort_that_hangs_is_given_up(self) -> None:
        class Deaf(ScriptedServer):
            async def _act(self, exchange: Exchange) -> None:
                await (exchange.hold() if exchange.path == "/abort_request" else super()._act(exchange))

        async def main() -> None:
            async with (
                Deaf([begins(then=Exchange.hold)]) as server,
                SGLangEngine(server.url, abort_timeout=0.05) as engine,
            ):
                chunks = engine.complete(request())
                await anext(chunks)
                await chunks.aclose()
                assert server.aborts == ["r-1"]

        asyncio.run(main())

    def test_a_finished_request_is_not_aborted(self) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            chunks = engine.complete(request())
            while (await anext(chunks)).finish is None:
                pass
            await chunks.aclose()
            assert server.aborts == []

        play([completes()], scene)

    def test_no_request_waits_for_a_connection_to_abort(self) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            running = engine.complete(request())
            await anext(running)
            await engine.abort("r-1")
            assert server.aborts == ["r-1"]
            await running.aclose()

        play([begins(then=Exchange.hold)], scene, max_connections=1)

    def test_no_id_at_the_server_is_a_prefix_of_another(self) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            for name in ("1", "10", "1:", "2:1", "", "1"):
                await complete(engine, request(name=name))
            ids = [body["rid"] for body in server.bodies("/generate")]
            assert not [(a, b) for a, b in permutations(ids, 2) if b.startswith(a)]

        play([completes()], scene)

    def test_an_unknown_id_is_ignored(self) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            await complete(engine)
            await engine.abort("r-1")
            await engine.abort("unknown")
            assert server.aborts == []

        play([completes()], scene)

    def test_an_abort_that_overtook_its_request_counts_nevertheless(self) -> None:
        # The server knew nothing of the request when the abort came, and goes on as if nothing had happened.
        async def deaf(exchange: Exchange) -> None:
            exchange.head(content_type="text/event-stream")
            await server_holder[0].aborted.wait()
            for data in frames(["a"] * 9, range(9), prompt=3, type="length"):
                await exchange.send(f"data: {data}\n\n".encode())
            await exchange.hold()

        server_holder: list[ScriptedServer] = []

        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            server_holder.append(server)
            reading = asyncio.create_task(complete(engine))
            await server.arrivals.get()
            await engine.abort("r-1")
            with pytest.raises(EngineUnavailable, match="was aborted"):
                await reading
            assert server.aborts == ["r-1", "r-1"]

        play([deaf], scene)

    def test_a_request_aborted_from_outside_is_not_tried_again(self) -> None:
        async def abort_frame(exchange: Exchange) -> None:
            await server_holder[0].aborted.wait()
            sent = events([frame("", [], type="abort", message="Aborted", status_code=None)])
            await stream(sent)(exchange)

        server_holder: list[ScriptedServer] = []

        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            server_holder.append(server)
            reading = asyncio.create_task(complete(engine))
            await server.arrivals.get()
            await engine.abort("r-1")
            with pytest.raises(EngineUnavailable, match="was aborted"):
                await reading
            assert len(server.bodies("/generate")) == 1

        play([abort_frame], scene)


class TestClosing:
    def test_aborts_what_runs_and_ends_its_readers(self) -> None:
        async def main() -> None:
            async with ScriptedServer([begins(then=Exchange.hold)]) as server:
                engine = SGLangEngine(server.url)
                async with engine:
                    reading = [asyncio.create_task(complete(engine, request(name=f"r-{n}"))) for n in range(3)]
                    for _ in reading:
                        await server.arrivals.get()
                assert sorted(server.aborts) == ["r-0", "r-1", "r-2"]
                for error in await asyncio.gather(*reading, return_exceptions=True):
                    assert isinstance(error, EngineUnavailable)
                await engine.aclose()
                with pytest.raises(EngineUnavailable, match="closed"):
                    await complete(engine)
                await engine.abort("r-1")

        asyncio.run(main())

    def test_a_client_of_ones_own_stays_open(self) -> None:
        async def main() -> None:
            async with ScriptedServer([completes()]) as server, httpx2.AsyncClient(headers={"x-mine": "1"}) as client:
                async with SGLangEngine(server.url, client=client) as engine:
                    await complete(engine)
                assert {exchange.headers["x-mine"] for exchange in server.exchanges} == {"1"}
                assert (await client.get(server.url + "/model_info")).status_code == 200

        asyncio.run(main())

    def test_the_api_key_is_sent(self) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            await complete(engine)
            assert {exchange.headers.get("authorization") for exchange in server.exchanges} == {"Bearer secret"}

        play([completes()], scene, api_key="secret")


class TestConnections:
    def test_are_used_again(self) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            for number in range(5):
                await complete(engine, request(name=f"r-{number}"))
            assert server.connections == 1

        play([completes()], scene)

    def test_none_leaks_from_64_requests_at_once(self) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            chunks = await asyncio.gather(*(complete(engine, request(name=f"r-{n:02}")) for n in range(64)))
            assert all(joined(each) == ([7, 8, 9], "abc") for each in chunks)
            assert len({body["rid"] for body in server.bodies("/generate")}) == 64
            assert server.open_connections <= 8

        play([completes()], scene, max_connections=8)

    def test_an_engine_works_from_loop_after_loop(self) -> None:
        async def once(port: int, engine: SGLangEngine | None) -> tuple[SGLangEngine, int]:
            async with ScriptedServer([completes()], port=port) as server:
                engine = engine or SGLangEngine(server.url)
                ids = joined(await complete(engine))[0]
                assert await engine.decode(ids) == "\x07\x08\t"
                return engine, server.port

        engine, port = asyncio.run(once(0, None))
        asyncio.run(once(port, engine))
        asyncio.run(engine.aclose())


class TestTokenizer:
    def test_by_the_server_once_per_text(self) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            assert await engine.encode("ab") == await engine.encode("ab") == [97, 98]
            (await engine.encode("ab")).append(0)
            assert await engine.encode("ab") == [97, 98]
            assert server.bodies("/tokenize") == [{"prompt": "ab", "add_special_tokens": False}]
            assert await engine.decode([97, 98]) == "ab"
            assert server.bodies("/detokenize") == [{"tokens": [97, 98], "skip_special_tokens": False}]
            assert await engine.encode("") == []
            assert await engine.decode([]) == ""

        play([], scene)

    def test_ids_outside_the_vocabulary_are_not_decoded(self) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            with pytest.raises(InvalidRequest, match="outside the vocabulary"):
                await engine.decode([VOCABULARY])
            assert server.bodies("/detokenize") == []

        play([], scene)

    def test_by_a_directory(self, tmp_path: Path) -> None:
        checkpoint(tmp_path, vocabulary=4)

        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            assert await engine.encode(markup("<tag>") + "ba") == [2, 1, 0]
            assert await engine.decode([2, 1, 0]) == "<tag>ba"
            assert server.bodies("/tokenize") == server.bodies("/detokenize") == []
            assert engine.manifest is not None
            assert engine.manifest.model == "tiny-model"
            # The model has more ids than its tokenizer.
            await complete(engine, request([3]))
            with pytest.raises(InvalidRequest, match="has 4 ids"):
                await complete(engine, request([4]))

        play([completes()], scene, tokenizer=tmp_path)

    @pytest.mark.parametrize("content", [None, "{", "[]"])
    def test_a_directory_without_one(self, tmp_path: Path, content: str | None) -> None:
        if content is not None:
            (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(InvalidCheckpoint, match=r"tokenizer\.json"):
            SGLangEngine("http://127.0.0.1:1", tokenizer=tmp_path)


class TestModel:
    def test_is_asked_for_once(self) -> None:
        async def scene(engine: SGLangEngine, server: ScriptedServer) -> None:
            assert engine.name == "sglang:tiny"
            assert engine.manifest is None
            await complete(engine)
            assert [exchange.path for exchange in server.exchanges] == [
                "/model_info",
                "/generate",
                "/server_info",
                "/v1/models",
                "/tokenize",
                "/generate",
            ]

        play([completes()], scene)

    def test_a_checkpoint_on_this_machine_is_read(self, tmp_path: Path) -> None:
        checkpoint(tmp_path, vocabulary=4)

        async def main() -> None:
            async with ScriptedServer(model_path=str(tmp_path)) as server, SGLangEngine(server.url) as engine:
                assert engine.manifest is not None
                assert engine.manifest.model == "tiny-model"
                with pytest.raises(InvalidRequest, match="has 4 ids"):
                    await complete(engine, request([4]))

        asyncio.run(main())

    def test_a_server_that_does_not_tell_its_context_limit(self) -> None:
        async def main() -> None:
            async with ScriptedServer([completes()], models={"data": []}) as server, SGLangEngine(server.url) as engine:
                await complete(engine, request([1] * CONTEXT_LIMIT, max_tokens=100))
                assert server.bodies("/generate")[0]["sampling_params"]["max_new_tokens"] == 100

        asyncio.run(main())

    def test_the_name_before_it_was_asked(self) -> None:
        assert SGLangEngine("http://127.0.0.1:1/").name == "sglang:http://127.0.0.1:1"


def checkpoint(directory: Path, *, vocabulary: int) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "b": 1}, []))
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(["<tag>"])
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "config.json").write_text(json.dumps({"vocab_size": vocabulary}))
    (directory / "sprint.json").write_text(json.dumps({"model": "tiny-model"}))
