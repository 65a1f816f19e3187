"""Chats as real servers stream them: OpenAI's events, other servers' additions, and failures."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sprint_agents.context import Context
from sprint_agents.engine import Chunk, Finish, Request, Sampling
from sprint_agents.engines.openai import OpenAIEngine
from sprint_agents.engines.openai.conversation import unmarked
from sprint_agents.errors import (
    ContextOverflow,
    EngineOverloaded,
    EngineProtocolError,
    EngineRejected,
    EngineTimeout,
    EngineUnavailable,
)

from .scripted import (
    Act,
    Exchange,
    ScriptedServer,
    answers,
    begins,
    chunk,
    dies,
    events,
    hangs,
    says,
    stream,
    usage,
    whole_of,
)

T = TypeVar("T")
Scene = Callable[[OpenAIEngine, ScriptedServer], Awaitable[T]]


def play(acts: Sequence[Act], scene: Scene[T], **options: Any) -> T:
    async def main() -> T:
        async with (
            ScriptedServer(acts) as server,
            OpenAIEngine(server.base, **{"model": "tiny", **options}) as engine,
        ):
            return await scene(engine, server)

    return asyncio.run(main())


def request(text: str = "How many?", *, name: str = "r-1", max_tokens: int = 20, **changes: Any) -> Request:
    context = Context().extend(map(ord, text), text)
    return Request(id=name, context=context, max_tokens=max_tokens, sampling=Sampling(), **changes)


async def complete(engine: OpenAIEngine, asked: Request | None = None) -> list[Chunk]:
    return [part async for part in engine.complete(asked or request())]


def heard(act: Act, asked: Request | None = None, **options: Any) -> tuple[str, Finish]:
    """Return the text of a completion and its finish."""
    *parts, last = play([act], lambda engine, _: complete(engine, asked), **options)
    assert [part.finish for part in parts] == [None] * len(parts)
    assert last.finish is not None
    whole = "".join(part.text for part in [*parts, last])
    assert [number for part in [*parts, last] for number in part.ids] == [ord(character) for character in whole]
    return whole, last.finish


class TestOfficialShapes:
    def test_a_role_then_words_then_the_end_then_the_usage(self) -> None:
        assert heard(says("4", " of", " them")) == ("4 of them", Finish("stop", None, 9, 4, 3))

    def test_a_completion_that_is_too_long(self) -> None:
        assert heard(says("4", " of", finish="length"))[1] == Finish("length", None, 9, 4, 2)

    def test_azure_begins_with_a_verdict_on_the_prompt(self) -> None:
        verdict = json.dumps({"choices": [], "prompt_filter_results": [{"prompt_index": 0}]})
        sent = events([verdict, chunk("4"), chunk(finish="stop"), usage(9, 1)])
        assert heard(stream(sent)) == ("4", Finish("stop", None, 9, 0, 1))

    def test_a_refusal_is_an_error_with_the_models_words(self) -> None:
        sent = events(
            [
                chunk(delta={"role": "assistant", "content": None, "refusal": ""}),
                chunk(delta={"refusal": "I'm sorry, "}),
                chunk(delta={"refusal": "I can't."}),
                chunk(finish="stop"),
                usage(9, 6),
            ]
        )
        with pytest.raises(EngineRejected, match=r"refused: I'm sorry, I can't\."):
            heard(stream(sent))

    def test_a_content_filter_is_an_error(self) -> None:
        with pytest.raises(EngineRejected, match="content filter"):
            heard(says("4", finish="content_filter"))

    @pytest.mark.parametrize("finish", ["tool_calls", None])
    def test_tool_calls_that_nobody_asked_for(self, finish: str | None) -> None:
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
        sent = events([chunk(delta={"tool_calls": [call]}), chunk(finish=finish)])
        with pytest.raises(EngineProtocolError, match="tool parser"):
            heard(stream(sent))


class TestOtherServers:
    @pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
    def test_hidden_words_are_counted_and_not_kept(self, name: str) -> None:
        sent = events([chunk(delta={name: "hm"}), chunk(delta={name: " hm"}), chunk("4"), chunk(finish="stop")])
        parts = play([stream(sent)], lambda engine, _: complete(engine))
        assert [(part.text, part.tokens) for part in parts[:-1]] == [("", 1), ("", 1), ("4", 1)]
        assert [part.reasoning for part in parts] == ["hm", " hm", "", ""]
        assert parts[-1].finish == Finish("stop", None, 3, 0, 3)

    def test_hidden_words_beside_others_are_counted_too(self) -> None:
        sent = events([chunk(delta={"reasoning_content": "x" * 40, "content": "y" * 8}), chunk(finish="stop")])
        parts = play([stream(sent)], lambda engine, _: complete(engine))
        assert (parts[0].text, parts[0].reasoning, parts[0].tokens) == ("y" * 8, "x" * 40, 12)

    def test_hidden_parts_of_a_content_are_reasoning(self) -> None:
        content = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "4"}]
        parts = play(
            [stream(events([chunk(delta={"content": content}), chunk(finish="stop")]))], lambda e, _: complete(e)
        )
        assert ("".join(part.text for part in parts), "".join(part.reasoning for part in parts)) == ("4", "hm")

    def test_without_usage_tokens_are_estimated(self) -> None:
        sent = events([chunk("one two three four "), chunk("five"), chunk(finish="stop")])
        asked = request("x" * 41)
        assert heard(stream(sent), asked)[1] == Finish("stop", None, 11, 0, 5)

    def test_an_estimate_stays_below_what_was_asked_for(self) -> None:
        sent = events([*[chunk("abcdefgh")] * 9, chunk(finish="length")])
        assert heard(stream(sent), request(max_tokens=7))[1].generated_tokens == 7

    def test_usage_in_the_last_words(self) -> None:
        last = json.loads(chunk("4", finish="stop")) | {"usage": {"prompt_tokens": 3, "completion_tokens": 1}}
        assert heard(stream(events([json.dumps(last)]))) == ("4", Finish("stop", None, 3, 0, 1))

    def test_usage_in_every_event(self) -> None:
        sent = [json.loads(chunk(text)) for text in "ab"] + [json.loads(chunk(finish="stop"))]
        for number, event in enumerate(sent):
            event["usage"] = {"prompt_tokens": 3, "completion_tokens": number}
        assert heard(stream(events(map(json.dumps, sent))))[1].generated_tokens == 2

    def test_no_choices_at_all_in_an_event(self) -> None:
        sent = events([chunk("4"), chunk(finish="stop"), '{"choices": null, "usage": {"prompt_tokens": 3}}'])
        assert heard(stream(sent))[1] == Finish("stop", None, 3, 0, 1)

    def test_a_stream_without_done(self) -> None:
        sent = f"data: {chunk('4')}\n\ndata: {chunk(finish='stop')}\n\n"
        assert heard(stream(sent.encode()))[0] == "4"

    def test_a_server_that_does_not_hang_up_after_done(self) -> None:
        async def act(exchange: Exchange) -> None:
            exchange.head(content_type="text/event-stream")
            await exchange.send(events([chunk("4", finish="stop")]))
            await exchange.hold()

        assert heard(act)[0] == "4"

    @pytest.mark.parametrize(
        ("reason", "ours"), [("eos", "stop"), ("model_length", "length"), ("max_tokens", "length")]
    )
    def test_other_words_for_the_end(self, reason: str, ours: str) -> None:
        assert heard(says("4", finish=reason))[1].reason == ours

    def test_an_unknown_end_is_a_stop(self) -> None:
        assert heard(says("4", finish="weary")) == ("4", Finish("stop", None, 9, 4, 1))

    def test_a_request_that_was_aborted_at_the_server(self) -> None:
        async def scene(engine: OpenAIEngine, _: ScriptedServer) -> None:
            parts = engine.complete(request())
            assert (await anext(parts)).text == "4"
            with pytest.raises(EngineUnavailable, match="'abort'"):
                await anext(parts)

        play([says("4", finish="abort")], scene)


class TestStops:
    ends = chunk(finish="stop")

    def test_the_only_one_is_written_where_the_server_trimmed_it(self) -> None:
        asked = request(stop_texts=("</a>",))
        assert heard(says("one "), asked) == ("one </a>", Finish("stop", "</a>", 9, 4, 1))

    def test_not_where_the_limit_came_first(self) -> None:
        asked = request(stop_texts=("</a>",))
        assert heard(says("one ", finish="length"), asked) == ("one ", Finish("length", None, 9, 4, 1))

    def test_one_of_several_is_found_in_the_stream_which_is_left(self) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            parts = await complete(engine, request(stop_texts=("</a>", "</b>")))
            assert "".join(part.text for part in parts) == "one </b>"
            # The server had no chance to count.
            assert parts[-1].finish == Finish("stop", "</b>", 3, 0, 3)
            await server.deserted()

        play([begins("one <", "/b", "> two")], scene)

    @pytest.mark.parametrize("server", ["vllm", "sglang"])
    def test_a_server_that_keeps_it_and_says_so(self, server: str) -> None:
        key = {"vllm": "stop_reason", "sglang": "matched_stop"}[server]
        asked = request(stop_texts=("</a>", "</b>"))
        sent = says("one <", "/b> t", **{key: "</b>"})
        assert heard(sent, asked, server=server) == ("one </b>", Finish("stop", "</b>", 9, 4, 2))

    def test_a_server_that_says_so_but_trims_it(self) -> None:
        asked = request(stop_texts=("</a>", "</b>"))
        assert heard(says("one ", stop_reason="</b>"), asked, server="vllm")[0] == "one </b>"

    def test_a_server_that_says_so_and_ends_by_itself(self) -> None:
        asked = request(stop_texts=("</a>",))
        for end in ({}, {"stop_reason": None}, {"matched_stop": 2}, {"matched_stop": "<|im_end|>"}):
            assert heard(says("one", **end), asked, server="sglang") == ("one", Finish("stop", None, 9, 4, 1))

    def test_a_server_that_does_not_stop_is_left(self) -> None:
        asked = request(stop_texts=("</a>",))
        assert heard(says("one </a>", " two", finish="length"), asked)[:1] == ("one </a>",)

    def test_an_id_is_a_character(self) -> None:
        asked = request(stop_ids=frozenset({ord("}")}))
        assert heard(says("{1"), asked) == ("{1}", Finish("stop", ord("}"), 9, 4, 1))

    @pytest.mark.parametrize(
        ("server", "texts", "sent"),
        [
            ("other", ("a",), ["a"]),
            ("other", ("a", "b"), None),
            ("openai-reasoning", ("a",), None),
            ("vllm", tuple("abcdef"), list("abcdef")),
            ("ollama", (), None),
            ("vllm", ("\ufdd3", ""), None),
        ],
    )
    def test_what_the_server_is_told(self, server: str, texts: tuple[str, ...], sent: list[str] | None) -> None:
        async def scene(engine: OpenAIEngine, scripted: ScriptedServer) -> None:
            await complete(engine, request(stop_texts=texts))
            assert scripted.sent[0].get("stop") == sent

        play([says("-")], scene, server=server)


def pieces(texts: Sequence[str], form: str) -> bytes:
    """Return an event stream in one of the forms that the format allows."""
    wire = events([*map(chunk, texts), chunk(finish="stop"), usage(9, 4)]).decode()
    match form:
        case "crlf":
            wire = wire.replace("\n", "\r\n")
        case "cr":
            wire = wire.replace("\n", "\r")
        case "comments":
            wire = wire.replace("data:", ": OPENROUTER PROCESSING\n\n:\ndata:")
        case "lines":
            wire = wire.replace(', "choices"', ',\ndata: "choices"')
        case "fields":
            wire = wire.replace("data: ", "event: message\nid: 7\ndata:")
        case _:
            pass
    return wire.encode()


@settings(max_examples=40)
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=3), max_size=4),
    form=st.sampled_from(["plain", "crlf", "cr", "comments", "lines", "fields"]),
    data=st.data(),
)
def test_packets_may_be_cut_anywhere(texts: list[str], form: str, data: st.DataObject) -> None:
    sent = pieces(texts, form)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(sent) - 1), max_size=20)))
    assert heard(stream(sent, cuts=cuts)) == (unmarked("".join(texts)), Finish("stop", None, 9, 0, 4))


def refused(message: str, status: int = 400, **error: object) -> Act:
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None, **error}}
    return answers(body, status)


class TestRefusals:
    @pytest.mark.parametrize(
        ("act", "error", "words"),
        [
            (refused("Incorrect API key provided: sk-1.", 401), EngineRejected, "api_key"),
            (refused("You are not allowed to sample from this model", 403), EngineRejected, "refuses access"),
            (refused("The model `tiny` does not exist", 404), EngineRejected, "^The model `tiny` does not exist$"),
            (answers({"detail": "Not Found"}, 404), EngineRejected, "ends with /v1"),
            (answers({"object": "error", "message": "bad top_p", "code": 400}, 400), EngineRejected, "^bad top_p$"),
            (
                refused("You exceeded your current quota, please check your plan.", 429, code="insufficient_quota"),
                EngineRejected,
                "current quota",
            ),
            (
                answers("<html><h1>Hello</h1></html>", content_type="text/html"),
                EngineProtocolError,
                "text/html: <html>",
            ),
            (answers({"choices": []}), EngineProtocolError, "application/json"),
            (stream(b"data: <html>\n\n"), EngineProtocolError, "<html>"),
            (stream(b"data: []\n\n"), EngineProtocolError, "an invalid event"),
            (stream(events([chunk(delta={"content": [1]})])), EngineProtocolError, "an invalid event"),
            (stream(events([json.dumps({"error": {"message": "no", "code": 400}})])), EngineRejected, "^no$"),
            (
                stream(events([json.dumps({"error": {"message": "no", "type": "invalid_request_error"}})])),
                EngineRejected,
                "^no$",
            ),
        ],
    )
    def test_a_typed_error_with_the_servers_words(self, act: Act, error: type[Exception], words: str) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            with pytest.raises(error, match=words):
                await complete(engine)
            assert len(server.sent) == 1

        play([act], scene)

    @pytest.mark.parametrize(
        "message",
        [
            "This model's maximum context length is 64 tokens. However, your messages resulted in 70 tokens. Please …",
            "This model's maximum context length is 64 tokens. However, you requested 90 tokens (70 in the messages, "
            "20 in the completion). Please reduce the length of the messages or completion.",
            "This model's maximum context length is 64 tokens. However, you requested 8 output tokens and your prompt "
            "contains at least 70 input tokens, for a total of at least 78 tokens.",
            "The input (70 tokens) is longer than the model's context length (64 tokens).",
            "Requested token count exceeds the model's maximum context length of 64 tokens. You requested a total of "
            "90 tokens: 70 tokens from the input messages and 20 tokens for the completion.",
            "request (70 tokens) exceeds the available context size (64 tokens), try increasing it",
            "Input tokens exceed the configured limit of 64 tokens. Your messages resulted in 70 tokens.",
        ],
    )
    def test_a_context_that_is_too_long(self, message: str) -> None:
        with pytest.raises(ContextOverflow) as raised:
            heard(refused(message, code="context_length_exceeded"))
        assert (raised.value.tokens, raised.value.limit) == (70, 64)

    @pytest.mark.parametrize(
        ("messages", "asked"),
        [
            (["maximum context length is 64 tokens. However, you requested 70 tokens (50 in the messages"], [20, 14]),
            (
                [
                    "'max_tokens' or 'max_completion_tokens' is too large: 20. This model's maximum context length is "
                    "64 tokens and your request has 50 input tokens (20 > 64 - 50)."
                ],
                [20, 14],
            ),
            (
                [
                    "max_tokens is too large: 20. This model supports at most 16 completion tokens.",
                    "model's maximum context length of 64 tokens. You requested a total of 66 tokens: 50 tokens from "
                    "the input messages and 16 tokens for the completion.",
                ],
                [20, 16, 14],
            ),
        ],
    )
    def test_the_end_of_the_context_ends_a_completion(self, messages: list[str], asked: list[int]) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            await complete(engine)
            assert [body["max_tokens"] for body in server.sent] == asked

        play([*map(refused, messages), says("4", finish="length")], scene)

    def test_a_server_that_is_never_content_is_asked_no_more(self) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            with pytest.raises(EngineRejected, match="at most 3"):
                await complete(engine)
            assert len(server.sent) == 2

        play([refused("This model supports at most 3 completion tokens.")], scene)


class TestRetries:
    @pytest.mark.parametrize(
        "trouble",
        [
            dies,
            refused("Rate limit reached for tiny", 429),
            answers("<html><title>502 Bad Gateway</title></html>", 502, content_type="text/html"),
            answers("busy", 503, retry_after="0"),
            answers("busy", 429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"),
            answers("busy", 429, retry_after="600", retry_after_ms="1"),
            stream(events([json.dumps({"error": {"message": "ill", "type": "server_error", "code": None}})])),
            stream(events([json.dumps({"error": {"message": "slow down", "code": "rate_limit_exceeded"}})])),
            stream(b""),
            stream(events([])),
        ],
    )
    def test_before_the_first_token(self, trouble: Act) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            parts = await complete(engine)
            assert "".join(part.text for part in parts) == "4 of"
            assert len(server.sent) == 3

        play([trouble, trouble, says("4", " of")], scene)

    def test_an_answer_begins_anew_after_a_retry(self) -> None:
        cut_short = stream(events([chunk(delta={"role": "assistant", "content": ""})]))
        assert play([cut_short, says("4")], lambda engine, _: complete(engine))[-1].finish is not None

    def test_are_limited(self) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            with pytest.raises(EngineOverloaded, match="busy") as raised:
                await complete(engine)
            assert raised.value.retry_after == 0.01
            assert len(server.sent) > 1

        play([answers("busy", 429, retry_after="0.01")], scene, patience=0.05)

    def test_not_where_the_server_wants_a_longer_pause_than_we_have(self) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            with pytest.raises(EngineOverloaded) as raised:
                await complete(engine)
            assert raised.value.retry_after == 600
            assert len(server.sent) == 1

        play([answers("busy", 429, retry_after="600")], scene)

    @pytest.mark.parametrize("ending", [Exchange.die, Exchange.end])
    def test_not_after_the_first_token(self, ending: Callable[[Exchange], Awaitable[None] | None]) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            parts = engine.complete(request())
            assert (await anext(parts)).text == "4"
            with pytest.raises(EngineUnavailable, match=r"broke|before the request was finished"):
                await anext(parts)
            assert len(server.sent) == 1

        play([begins("4", then=ending)], scene)

    def test_not_after_a_silence(self) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            with pytest.raises(EngineTimeout, match=r"silent for 0.05 s"):
                await complete(engine)
            assert len(server.sent) == 1

        play([hangs], scene, read_timeout=0.05)


WHOLE = answers(whole_of([chunk("4 of", finish="stop", stop_reason=None)], usage(9, 2, cached=4)))


class TestWhole:
    """Known servers are asked for a whole answer where nobody reads it before its end."""

    def test_what_is_sent_and_read(self) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            last = (await complete(engine, request(whole=True)))[-1]
            assert last.finish == Finish("stop", None, 9, 4, 2)
            await complete(engine, request())
            assert [body["stream"] for body in server.sent] == [False, True]
            assert [sorted(body.keys() & {"stream_options"}) for body in server.sent] == [[], ["stream_options"]]

        play([WHOLE, says("4")], scene, server="vllm")
        assert heard(WHOLE, request(whole=True), server="vllm")[0] == "4 of"

    @pytest.mark.parametrize("server", ["other", "openai", "ollama"])
    def test_other_servers_stream(self, server: str) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            await complete(engine, request(whole=True))
            assert server.sent[0]["stream"] is True

        play([says("4")], scene, server=server)

    def test_a_stop_that_the_server_does_not_know_needs_the_stream(self) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            assert "".join(part.text for part in await complete(engine, request(whole=True, stop_texts=("a", "b"))))
            assert server.sent[0]["stream"] is True

        play([says("4a")], scene, server="llama.cpp")

    def test_one_that_breaks_is_requested_again_and_nothing_doubles(self) -> None:
        async def breaks(exchange: Exchange) -> None:
            exchange.head(content_type="application/json")
            await exchange.send(b'{"choices": [{"message": {"content": "4')
            exchange.die()

        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            *_, last = parts = await complete(engine, request(whole=True))
            assert "".join(part.text for part in parts) == "4 of"
            assert last.finish == Finish("stop", None, 9, 4, 2, retries=1)
            assert len(server.sent) == 2

        play([breaks, WHOLE], scene, server="vllm")

    def test_one_may_take_longer_than_a_silence(self) -> None:
        async def late(exchange: Exchange) -> None:
            await released.wait()
            await WHOLE(exchange)

        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            reading = asyncio.create_task(complete(engine, request(whole=True)))
            await server.arrivals.get()
            with pytest.raises(EngineTimeout):
                await complete(engine, request(name="r-2"))
            released.set()
            assert (await reading)[-1].finish is not None

        released = asyncio.Event()
        play([late, hangs], scene, server="vllm", read_timeout=0.05)

    def test_leaving_one_closes_its_connection(self) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            reading = asyncio.create_task(complete(engine, request(whole=True)))
            await server.arrivals.get()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await server.deserted()
            reading = asyncio.create_task(complete(engine, request(whole=True)))
            await server.arrivals.get()
            await engine.abort("r-1")
            with pytest.raises(EngineUnavailable, match="r-1 was aborted"):
                await reading
            await server.deserted()

        play([hangs], scene, server="vllm")


class TestLeavingEarly:
    """Closing the connection ends the request, and the server sees it close."""

    def test_closing_the_stream(self) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            parts = engine.complete(request())
            await anext(parts)
            await parts.aclose()
            await server.deserted()

        play([begins("4")], scene)

    @pytest.mark.parametrize("act", [begins("4"), hangs])
    def test_cancellation(self, act: Act) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            reading = asyncio.create_task(complete(engine))
            await server.arrivals.get()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await server.deserted()

        play([act], scene)

    @pytest.mark.parametrize("act", [begins("4"), hangs])
    def test_an_abort_while_its_reader_waits(self, act: Act) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            reading = asyncio.create_task(complete(engine))
            await server.arrivals.get()
            await engine.abort("r-1")
            with pytest.raises(EngineUnavailable, match="r-1 was aborted"):
                await reading
            assert len(server.sent) == 1
            await server.deserted()

        play([act], scene)

    def test_an_abort_while_its_reader_waits_for_the_next_words(self) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            parts = engine.complete(request())
            await anext(parts)
            reading = asyncio.ensure_future(anext(parts))
            await asyncio.sleep(0)
            await engine.abort("r-1")
            with pytest.raises(EngineUnavailable, match="r-1 was aborted"):
                await reading
            await server.deserted()

        play([begins("4")], scene)

    def test_an_abort_while_its_reader_does_something_else(self) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            parts = engine.complete(request())
            await anext(parts)
            await engine.abort("r-1")
            await server.deserted()
            with pytest.raises(EngineUnavailable, match="r-1 was aborted"):
                await anext(parts)

        play([begins("4")], scene)

    def test_an_abort_between_two_attempts(self) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            reading = asyncio.create_task(complete(engine))
            await server.goodbyes.get()
            await engine.abort("r-1")
            with pytest.raises(EngineUnavailable, match="r-1 was aborted"):
                await reading
            assert len(server.sent) == 1

        play([dies], scene)

    def test_unknown_and_finished_ids_are_ignored(self) -> None:
        async def scene(engine: OpenAIEngine, _: ScriptedServer) -> None:
            await complete(engine)
            await engine.abort("r-1")
            await engine.abort("unknown")

        play([says("4")], scene)

    def test_closing_the_engine_ends_all_readers(self) -> None:
        async def main() -> None:
            async with ScriptedServer([begins("4"), hangs, hangs]) as server:
                async with OpenAIEngine(server.base, model="tiny") as engine:
                    reading = [asyncio.create_task(complete(engine, request(name=f"r-{n}"))) for n in range(3)]
                    for _ in reading:
                        await server.arrivals.get()
                for error in await asyncio.gather(*reading, return_exceptions=True):
                    assert isinstance(error, EngineUnavailable)
                await server.deserted()

        asyncio.run(main())

    def test_a_client_of_ones_own_loses_its_streams_and_stays_open(self) -> None:
        async def main() -> None:
            async with ScriptedServer([begins("4"), says("4")]) as server:
                async with httpx2.AsyncClient(headers={"x": "1"}) as client:
                    async with OpenAIEngine(server.base, model="tiny", client=client) as engine:
                        parts = engine.complete(request())
                        await anext(parts)
                    with pytest.raises(EngineUnavailable, match="aborted"):
                        await anext(parts)
                    await server.deserted()
                    assert (await client.post(f"{server.base}/chat/completions", json={})).status_code == 200
                assert {exchange.headers["x"] for exchange in server.exchanges} == {"1"}

        asyncio.run(main())


class TestConnections:
    def test_are_used_again(self) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            for number in range(4):
                await complete(engine, request(name=f"r-{number}"))
            assert server.connections == 1

        play([says("4")], scene)

    def test_are_no_more_than_allowed(self) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            parts = await asyncio.gather(*(complete(engine, request(name=f"r-{n}")) for n in range(32)))
            assert all("".join(part.text for part in each) == "4 of" for each in parts)
            assert server.connections <= 4

        play([says("4", " of")], scene, max_connections=4)

    def test_a_refused_connection(self) -> None:
        async def main() -> None:
            async with ScriptedServer() as server:
                url = server.base
            with pytest.raises(EngineUnavailable, match=f"no connection to {url}"):
                await complete(OpenAIEngine(url, model="tiny", patience=0))

        asyncio.run(main())

    def test_the_key_is_sent(self) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            await complete(engine)
            assert server.exchanges[0].headers["authorization"] == "Bearer secret"

        play([says("4")], scene, api_key="secret")
