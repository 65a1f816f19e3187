"""Servers that send something other than OpenAI's API promises: what is there is used, and budgets hold."""

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from sprint_agents import Budget, Sprint
from sprint_agents.engine import Chunk, Finish, ToolBrief
from sprint_agents.engines.error_text import message_of
from sprint_agents.engines.http import HttpClient, failure
from sprint_agents.engines.openai import OpenAIEngine
from sprint_agents.engines.sglang import SGLangEngine
from sprint_agents.engines.sglang.generate import GenerateReader
from sprint_agents.errors import (
    BudgetExceeded,
    ConfigurationError,
    EngineError,
    EngineOverloaded,
    EngineProtocolError,
    EngineRejected,
    EngineUnavailable,
)
from sprint_agents.retries import retry
from tests.engines.openai.scripted import Act, Exchange, ScriptedServer, answers, chunk, events, says, stream, usage
from tests.engines.openai.test_chat import complete, heard, play, request
from tests.engines.sglang.scripted import frame


def raw(*choices: object, counts: object = None, **fields: object) -> str:
    """One event with these choices, in whatever form."""
    return json.dumps({"choices": list(choices), "usage": counts, **fields})


def wire(*data: str, done: bool = True) -> Act:
    """Stream events whose data may be anything."""
    text = "".join(f"data: {each}\n\n" for each in data) + ("data: [DONE]\n\n" if done else "")
    return stream(text.encode("utf-8", "surrogatepass"))


def said(*data: str) -> str:
    return heard(wire(*data))[0]


class TestFinishReasons:
    @pytest.mark.reported("pydantic/pydantic-ai#2844", "pydantic/pydantic-ai#7816", "microsoft/autogen#5020")
    @pytest.mark.parametrize(
        "reason", ["end_turn", "STOP", "complete", "null", "tool_use", "weary", "Stop", "EOS", "7"]
    )
    def test_an_unknown_one_keeps_the_text(self, reason: str) -> None:
        assert heard(says("4", " of them", finish=reason)) == ("4 of them", Finish("stop", None, 9, 4, 2))

    @pytest.mark.reported("vercel/ai#1832")
    @pytest.mark.parametrize("reason", [7, True, {"type": "stop"}, ["stop"]])
    def test_one_that_is_no_text(self, reason: object) -> None:
        last = raw({"index": 0, "delta": {}, "finish_reason": reason})
        assert heard(wire(chunk("4"), last)) == ("4", Finish("stop", None, 3, 0, 1))

    @pytest.mark.parametrize(
        "reason", ["MAX_TOKENS", "Length", "max_output_tokens", "model_context_window_exceeded", "max_new_tokens"]
    )
    def test_the_limit_by_other_names(self, reason: str) -> None:
        assert heard(says("4", finish=reason))[1].reason == "length"

    def test_an_unknown_one_never_replaces_a_known_one(self) -> None:
        sent = [chunk("4", finish="null"), chunk(finish="length"), chunk(finish="null")]
        assert heard(wire(*sent))[1].reason == "length"

    @pytest.mark.parametrize(
        ("reason", "error"),
        [
            ("SAFETY", EngineRejected),
            ("content_filter", EngineRejected),
            ("content_filter: PROHIBITED_CONTENT", EngineRejected),
            ("sensitive", EngineRejected),
            ("ERROR", EngineUnavailable),
            ("function_call_filter: MALFORMED_FUNCTION_CALL", EngineUnavailable),
        ],
    )
    def test_a_completion_that_was_withheld_or_failed_is_no_text(self, reason: str, error: type[EngineError]) -> None:
        async def scene(engine: OpenAIEngine, _: ScriptedServer) -> None:
            with pytest.raises(error):
                await complete(engine)

        play([says(finish=reason)], scene, patience=0)

    @pytest.mark.reported("openclaw/openclaw#4298", "anomalyco/opencode#43882")
    @pytest.mark.parametrize(("most", "reason"), [(20, "stop"), (2, "length")])
    def test_none_at_all_where_the_usage_says_that_the_completion_ended(self, most: int, reason: str) -> None:
        sent = wire(chunk("4"), chunk(" of them"), usage(9, 2))
        assert heard(sent, request(max_tokens=most)) == ("4 of them", Finish(reason, None, 9, 0, 2))

    @pytest.mark.parametrize("sent", [[chunk("4")], [usage(9, 1), chunk("4")], [usage(9, 0)], []])
    def test_none_at_all_otherwise_is_a_broken_stream(self, sent: list[str]) -> None:
        with pytest.raises(EngineUnavailable, match="before the request was finished"):
            heard(wire(*sent), patience=0)

    def test_it_is_logged_once(self) -> None:
        async def scene(engine: OpenAIEngine, _: ScriptedServer) -> None:
            for _ in range(3):
                await complete(engine)

        with capture_logs() as logs:
            play([says("4", finish="weary\x1b[2J")], scene)
        (entry,) = logs
        assert entry["event"] == "engine.odd_answer"
        assert "finish_reason 'weary\\x1b[2J'" in entry["note"]


class TestUsage:
    @pytest.mark.reported("NousResearch/hermes-agent#12023", "betalgo/openai#404")
    @pytest.mark.parametrize(
        "counts",
        [
            {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None},
            {"prompt_tokens": 0, "completion_tokens": 0},
            {"prompt_tokens": -1, "completion_tokens": -5},
            {"prompt_tokens": "many", "completion_tokens": []},
            {"prompt_tokens": 1e300, "completion_tokens": 10**30},
            {"prompt_tokens": 1, "completion_tokens": 1},
            {"prompt_tokens": True, "completion_tokens": False},
            {"completion_tokens_details": None},
            {"prompt_tokens_details": [], "completion_tokens": None},
            {},
            [],
            "none",
            0,
        ],
    )
    def test_counts_that_cannot_be_are_estimated(self, counts: object) -> None:
        sent = wire(chunk("one two three four "), chunk("five"), chunk(finish="stop"), raw(counts=counts))
        assert heard(sent, request("x" * 41)) == ("one two three four five", Finish("stop", None, 11, 0, 5))

    @pytest.mark.parametrize("bad", ["NaN", "Infinity", "-Infinity", "1e999"])
    def test_counts_that_json_does_not_know(self, bad: str) -> None:
        last = f'{{"choices": [], "usage": {{"prompt_tokens": {bad}, "completion_tokens": {bad}}}}}'
        assert heard(wire(chunk("four"), chunk(finish="stop"), last))[1] == Finish("stop", None, 3, 0, 1)

    @pytest.mark.parametrize("counts", [(9.0, 5.0), (8.6, 4.7), ("9", "5")])
    def test_counts_in_other_forms_are_read(self, counts: tuple[object, object]) -> None:
        last = raw(counts={"prompt_tokens": counts[0], "completion_tokens": counts[1]})
        assert heard(wire(chunk("one two"), chunk(finish="stop"), last))[1] == Finish("stop", None, 9, 0, 5)

    @pytest.mark.parametrize("zeros_first", [True, False])
    def test_zeros_beside_the_real_counts(self, zeros_first: bool) -> None:
        counts = [usage(0, 0, cached=0), usage(9, 3, cached=4)]
        sent = wire(chunk("one two"), chunk(finish="stop"), *(counts if zeros_first else reversed(counts)))
        assert heard(sent)[1] == Finish("stop", None, 9, 4, 3)

    def test_no_more_tokens_come_from_the_cache_than_were_sent(self) -> None:
        sent = wire(chunk("one"), chunk(finish="stop"), usage(9, 1, cached=4000))
        assert heard(sent)[1] == Finish("stop", None, 9, 9, 1)

    @settings(max_examples=60, deadline=None)
    @given(
        texts=st.lists(st.text("ab ", min_size=1, max_size=40), min_size=1, max_size=5),
        count=st.one_of(st.none(), st.integers(-5, 60), st.floats(), st.text(max_size=3), st.booleans()),
    )
    def test_the_account_is_never_below_what_the_text_must_have_cost(self, texts: list[str], count: object) -> None:
        last = raw(counts={"prompt_tokens": count, "completion_tokens": count})
        text, finish = heard(wire(*map(chunk, texts), chunk(finish="stop"), last), request(max_tokens=200))
        assert text == "".join(texts)
        assert finish.generated_tokens is not None
        assert finish.generated_tokens * 8 >= len(text)
        assert finish.prompt_tokens >= 2

    @pytest.mark.reported("BerriAI/litellm#8349", "mudler/LocalAI#9927")
    def test_a_budget_holds_where_the_server_says_zero(self) -> None:
        answer = json.dumps({"plan": [{"task": f"Think about number {number} for a while"} for number in range(4)]})
        sent = wire(chunk(answer), chunk(finish="stop"), usage(0, 0))

        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            with pytest.raises(BudgetExceeded) as raised:
                await Sprint(engine, budget=Budget(tokens=100)).run("How many?")
            run = raised.value.run
            assert run is not None
            assert 0 < run.usage.total_tokens <= 100
            assert len(server.sent) < 10

        play([sent], scene)

    def test_sglang_counts_at_least_the_ids_that_it_was_sent(self) -> None:
        sent = json.loads(frame("a", [7], type="weary"))
        sent["meta_info"] |= {"prompt_tokens": None, "cached_tokens": 99}
        part = GenerateReader(prompt_tokens=3).read(json.dumps(sent))
        assert part == Chunk([7], "a", Finish("stop", None, 3, 3))

    def test_sglang_without_a_count_is_an_error_and_no_silent_loss(self) -> None:
        with pytest.raises(EngineProtocolError, match="counts 0"):
            GenerateReader().read(frame("a", [7], total=0))


class TestContent:
    @pytest.mark.parametrize("done", [True, False])
    def test_one_message_instead_of_deltas(self, done: bool) -> None:
        whole = raw({"index": 0, "message": {"role": "assistant", "content": "4 of them"}, "finish_reason": "stop"})
        assert heard(wire(whole, done=done)) == ("4 of them", Finish("stop", None, 3, 0, 2))

    @pytest.mark.parametrize("indent", [None, 2])
    @pytest.mark.parametrize("kind", ["application/json", "text/plain", ""])
    def test_a_server_that_does_not_stream(self, indent: int | None, kind: str) -> None:
        choice = {"index": 0, "message": {"role": "assistant", "content": "4 of\u2028them"}, "finish_reason": "stop"}
        whole = {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}
        text = json.dumps(whole, indent=indent, ensure_ascii=False)
        assert heard(answers(text, content_type=kind)) == ("4 of\u2028them", Finish("stop", None, 9, 0, 4))

    def test_an_error_with_status_200(self) -> None:
        with pytest.raises(EngineRejected, match=r"^bad top_p$"):
            heard(answers({"error": {"message": "bad top_p", "code": 400}}))

    @pytest.mark.parametrize(
        "messages", [["4", " of", " them"], ["4", "4 of", "4 of them"]], ids=["parts", "repeating all so far"]
    )
    def test_several_messages(self, messages: list[str]) -> None:
        sent = [raw({"message": {"content": text}}) for text in messages]
        assert said(*sent, chunk(finish="stop")) == "4 of them"

    def test_a_message_that_repeats_the_deltas(self) -> None:
        last = raw({"index": 0, "delta": {}, "message": {"content": "4 of"}, "finish_reason": "stop"})
        assert said(chunk("4"), chunk(" of"), last) == "4 of"

    @pytest.mark.reported("microsoft/agent-framework#6978", "RooCodeInc/Roo-Code#6842", "n8n-io/n8n#37352")
    def test_parts_of_text_and_thinking(self) -> None:
        thinking = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm, four?"}]}]
        text = [{"type": "text", "text": "4 "}, {"type": "text", "text": "of them"}]
        parts = play(
            [wire(chunk(delta={"content": thinking}), chunk(delta={"content": text}), chunk(finish="stop"))],
            lambda engine, _: complete(engine),
        )
        assert [(part.text, part.tokens) for part in parts[:-1]] == [("", 2), ("4 of them", 2)]

    @pytest.mark.parametrize(
        ("content", "text"),
        [
            ([{"type": "text", "text": "4"}], "4"),
            ([{"type": "output_text", "text": "4"}], "4"),
            ([{"type": "text", "text": {"value": "4"}}], "4"),
            ([{"text": "hm", "thought": True}, {"text": "4"}], "4"),
            ([{"type": "reasoning", "summary": [{"text": "hm"}]}, "4"], "4"),
            ([{"type": "redacted_thinking", "data": "eA=="}, {"type": "text", "text": "4"}], "4"),
            ([{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "4"}], "4"),
            ({"type": "text", "text": "4"}, "4"),
            ([], ""),
        ],
    )
    def test_parts_of_all_kinds(self, content: object, text: str) -> None:
        assert said(chunk(delta={"content": content}), chunk(finish="stop")) == text

    @pytest.mark.parametrize(
        "choice",
        [
            {"index": None, "delta": {"content": "4"}, "finish_reason": "stop"},
            {"delta": "4", "finish_reason": "stop"},
            {"text": "4", "finish_reason": "stop"},
            {"delta": {"content": "4", "tool_calls": []}, "finish_reason": "stop", "stop_reason": 1.5},
            {"delta": {"content": "4", "reasoning_content": [], "refusal": {}}, "finish_reason": "stop"},
        ],
    )
    def test_choices_in_other_forms(self, choice: dict[str, Any]) -> None:
        assert said(raw(choice)) == "4"
        assert said(json.dumps({"choices": choice})) == "4"

    def test_the_prefix_of_a_line_written_twice(self) -> None:
        assert said(f"data: {chunk('4', finish='stop')}") == "4"

    @pytest.mark.parametrize("content", [[1], 4, [[{"text": "4"}]], True])
    def test_content_that_cannot_be_understood_is_an_error(self, content: object) -> None:
        with pytest.raises(EngineProtocolError, match="an invalid event"):
            said(chunk(delta={"content": content}))


def halves(text: str) -> list[str]:
    """Write a text as the contents of events, with each character beyond U+FFFF cut in two."""
    units = text.encode("utf-16-le")
    return [f'"\\u{int.from_bytes(units[at : at + 2], "little"):04x}"' for at in range(0, len(units), 2)]


def with_content(written: str, key: str = "content") -> str:
    return f'{{"choices": [{{"index": 0, "delta": {{"{key}": {written}}}}}]}}'


class TestHalfCharacters:
    @pytest.mark.reported("elizaOS/eliza#30904", "elie222/rakazo#416")
    def test_an_emoji_in_two_events(self) -> None:
        assert said(with_content('"\\ud83d"'), with_content('"\\ude00"'), chunk(finish="stop")) == "😀"

    @settings(max_examples=40, deadline=None)
    @given(st.text(st.characters(exclude_categories=("Cs", "Cn")), min_size=1, max_size=9))
    def test_any_text_cut_anywhere(self, text: str) -> None:
        assert said(*map(with_content, halves(text)), chunk(finish="stop")) == text

    def test_events_between_the_halves(self) -> None:
        between = [chunk(), "", "ping", chunk(""), usage(9, 1), with_content('"hm"', "reasoning_content")]
        assert said(with_content('"a\\ud83d"'), *between, with_content('"\\ude00b"'), chunk(finish="stop")) == "a😀b"

    @pytest.mark.parametrize(
        ("contents", "text"),
        [
            (['"\\ud83d"'], "\ufffd"),
            (['"\\ude00"', '"a"'], "\ufffda"),
            (['"\\ud83d"', '"a"'], "\ufffda"),
            (['"\\ud83d"', '"\\ud83d\\ude00"'], "\ufffd😀"),
        ],
    )
    def test_a_half_that_is_never_completed(self, contents: list[str], text: str) -> None:
        assert said(*map(with_content, contents), chunk(finish="stop")) == text

    def test_in_the_last_event(self) -> None:
        last = '{"choices": [{"delta": {"content": "\\ude00"}, "finish_reason": "stop"}]}'
        assert said(with_content('"\\ud83d"'), last) == "😀"


class TestEvents:
    @pytest.mark.reported(
        "modelcontextprotocol/python-sdk#1670", "maximhq/bifrost#5874", "netease-lcap/wave-agent#1326"
    )
    @pytest.mark.parametrize(
        "extra",
        ["", " ", "ping", "[PING]", '"ping"', "keep-alive", "heartbeat", "null", "{}", '{"type": "ping"}', ": hi"],
    )
    def test_keepalives_as_data(self, extra: str) -> None:
        assert said(extra, chunk("4"), extra, chunk(finish="stop"), extra) == "4"

    @pytest.mark.parametrize(
        "event", ["event: close\ndata: bye\n\n", "data: bye\n\n", "data: [1]\n\n", 'data: {"error": "ill"}\n\n']
    )
    def test_what_is_wrong_after_the_end_is_left_out(self, event: str) -> None:
        assert heard(stream(events([chunk("4"), chunk(finish="stop")])[:-14] + event.encode()))[0] == "4"

    @pytest.mark.parametrize("then", [Exchange.die, Exchange.hold])
    @pytest.mark.parametrize("last", [chunk(finish="stop"), usage(9, 1), f"{chunk(finish='stop')}\n\ndata: [DONE]"])
    def test_a_stream_that_breaks_after_the_end(self, last: str, then: Callable[[Exchange], Any]) -> None:
        async def act(exchange: Exchange) -> None:
            exchange.head(content_type="text/event-stream")
            await exchange.send(f"data: {chunk('4')}\n\ndata: {last}\n\n".encode())
            if result := then(exchange):
                await result

        assert heard(act, read_timeout=0.1, patience=0)[0] == "4"

    def test_a_verdict_after_the_end(self) -> None:
        with pytest.raises(EngineRejected, match="content filter"):
            heard(wire(chunk("4"), chunk(finish="stop"), chunk(finish="content_filter")))

    def test_events_of_other_types_without_json(self) -> None:
        sent = b"event: open\ndata: connected\n\n" + events([chunk("4"), chunk(finish="stop")])
        assert heard(stream(sent))[0] == "4"

    @pytest.mark.parametrize("kind", ["ping", "keepalive", "PING"])
    @pytest.mark.parametrize("data", ["", "1718000000", "[]", '{"time": 1}'])
    def test_keepalives_as_a_type(self, kind: str, data: str) -> None:
        sent = f"event: {kind}\ndata: {data}\n\n".encode() + events([chunk("4"), chunk(finish="stop")])
        assert heard(stream(sent))[0] == "4"

    def test_comments_and_retry_lines(self) -> None:
        sent = b": hi\n\nretry: 100\n\nid: 4\n\n" + events([chunk("4"), chunk(finish="stop")])
        assert heard(stream(sent))[0] == "4"

    def test_a_byte_order_mark(self) -> None:
        assert heard(stream(b"\xef\xbb\xbf" + events([chunk("4"), chunk(finish="stop")])))[0] == "4"

    def test_events_are_utf8_whatever_the_header_says(self) -> None:
        async def act(exchange: Exchange) -> None:
            exchange.head(content_type="text/event-stream; charset=latin-1")
            await exchange.send(wire_bytes("größer"))
            await exchange.end()

        def wire_bytes(text: str) -> bytes:
            event = json.loads(chunk(text, finish="stop"))
            return f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()

        assert heard(act)[0] == "größer"

    @pytest.mark.parametrize("done", ["[DONE]", " [DONE]", "[done]"])
    def test_the_end_in_other_forms(self, done: str) -> None:
        assert heard(wire(chunk("4"), chunk(finish="stop"), done, done=False))[0] == "4"

    @pytest.mark.parametrize(
        ("data", "error", "words"),
        [
            (
                {"object": "error", "message": "bad top_p", "type": "BadRequestError", "code": 400},
                EngineRejected,
                "bad top_p",
            ),
            ({"object": "error", "message": "ill", "code": 500}, EngineUnavailable, "ill"),
            ({"type": "error", "message": "ill"}, EngineUnavailable, "ill"),
            ({"detail": "ill"}, EngineUnavailable, "ill"),
            ({"error": "ill"}, EngineUnavailable, "ill"),
            ({"error": {"message": "ill", "code": "9" * 5000}}, EngineUnavailable, "ill"),
            ({"error": {"message": "\ud83d ill\x1b[2J", "code": 400}}, EngineRejected, "\ufffd ill\ufffd"),
            ({"error": "ill", "error_type": "validation"}, EngineRejected, "^ill$"),
            ({"error": "ill", "error_type": "overloaded"}, EngineOverloaded, "ill"),
            ({"error": "ill", "status_code": 400}, EngineRejected, "^ill$"),
            ({"error": {"message": "ill", "type": "authentication_error"}}, EngineRejected, "ill"),
            ({"error": {"message": "ill", "code": "insufficient_quota"}}, EngineRejected, "^ill$"),
            ([{"error": {"message": "ill", "code": 400}}], EngineRejected, "^ill$"),
            (
                {"choices": [{"delta": {}, "finish_reason": "error", "error": {"message": "ill", "code": 400}}]},
                EngineRejected,
                "^ill$",
            ),
            ({"error": {"message": "", "type": "ValueError", "code": 400}}, EngineRejected, "ValueError"),
        ],
    )
    def test_errors_keep_their_message(self, data: object, error: type[EngineError], words: str) -> None:
        async def scene(engine: OpenAIEngine, _: ScriptedServer) -> None:
            with pytest.raises(error, match=words):
                await complete(engine)

        play([wire(json.dumps(data))], scene, patience=0)

    def test_an_event_of_type_error(self) -> None:
        async def scene(engine: OpenAIEngine, _: ScriptedServer) -> None:
            with pytest.raises(EngineUnavailable, match="ill"):
                await complete(engine)

        play([stream(b'event: error\ndata: {"message": "ill"}\n\n')], scene, patience=0)

    @pytest.mark.parametrize("error", [{}, "", False, {"message": "", "type": "", "code": None}])
    def test_an_empty_error_in_each_event(self, error: object) -> None:
        sent = [json.dumps({**json.loads(each), "error": error}) for each in (chunk("4"), chunk(finish="stop"))]
        assert said(*sent) == "4"

    def test_news_that_are_no_errors(self) -> None:
        assert said(
            '{"status": "loading", "message": "wait"}', '{"code": 0, "message": "ok"}', chunk("4", finish="stop")
        )


WORDS = events([chunk("4"), chunk(finish="stop")])
WHOLE = json.dumps({"choices": [{"index": 0, "message": {"content": "4"}, "finish_reason": "stop"}]}).encode()


def answered(content: bytes, *, kind: str = "text/event-stream", status: int = 200) -> str:
    """Return the text of a completion that a server answers in these bytes."""
    return mocked(
        lambda _: httpx2.Response(status, content=content, headers={"content-type": kind}), "http://example.org/v1"
    )


class TestForms:
    """Events, whole answers and errors under the wrong content type, or not quite in their form."""

    @pytest.mark.parametrize("kind", ["text/plain", "application/json", "application/octet-stream", ""])
    @pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b": hi\n\n", b"\n", b"event: message\n", b"id: 1\n"])
    def test_events_of_another_content_type(self, kind: str, before: bytes) -> None:
        assert answered(before + WORDS, kind=kind) == "4"

    @pytest.mark.parametrize("content", [WHOLE, b"\n " + WHOLE, json.dumps(json.loads(WHOLE), indent=1).encode()])
    def test_a_whole_answer_as_an_event_stream(self, content: bytes) -> None:
        assert answered(content) == "4"

    def test_events_in_bytes_one_by_one(self) -> None:
        async def act(exchange: Exchange) -> None:
            exchange.head(content_type="text/plain")
            for number in range(len(WORDS)):
                await exchange.send(WORDS[number : number + 1])
            await exchange.end()

        assert heard(act)[0] == "4"

    @pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\ndata: [DONE]", b"\n\ndata: [DONE]\n"])
    def test_a_last_event_without_a_blank_line(self, end: bytes) -> None:
        first, last = chunk("4"), chunk(finish="stop")
        assert answered(f"data: {first}\n\ndata: {last}".encode() + end) == "4"

    def test_an_event_that_was_cut_off(self) -> None:
        cut = f"data: {chunk('4')}\n\ndata: {chunk(finish='stop')}".encode()[:-9]
        with pytest.raises(EngineUnavailable, match="before the request was finished"):
            answered(cut)

    @pytest.mark.parametrize(
        "content",
        [
            b'{"error": {"message": "bad top_p", "code": 400}}',
            b'error: {"code": 400, "message": "bad top_p", "type": "invalid_request_error"}\n\n',
            b": hi\n\n" + b'error: {"code": 400, "message": "bad top_p"}',
            b'event: error\ndata: {"code": 400, "message": "bad top_p"}',
        ],
    )
    def test_errors_in_an_event_stream(self, content: bytes) -> None:
        with pytest.raises(EngineRejected, match=r"^bad top_p$"):
            answered(content)

    @pytest.mark.parametrize("content", [b"", b"<html>:</html>", b'{"hello": 1}', b"hello: data: 1", b"date: 1"])
    def test_anything_else(self, content: bytes) -> None:
        with pytest.raises(EngineProtocolError, match=r"answered with text/plain"):
            answered(content, kind="text/plain")

    @pytest.mark.parametrize("status", [201, 202, 206])
    def test_other_statuses_of_success(self, status: int) -> None:
        assert answered(WORDS, status=status) == "4"

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ([{"error": {"code": 400, "message": "bad top_p", "status": "INVALID_ARGUMENT"}}], "bad top_p"),
            ({"error": {"message": "", "type": "ValueError"}}, '{"message": "", "type": "ValueError"}'),
            ({"error": {"message": None, "code": 400}}, '{"message": null, "code": 400}'),
            ({"error": "", "message": "bad top_p"}, "bad top_p"),
        ],
    )
    def test_errors_have_words(self, body: object, message: str) -> None:
        with pytest.raises(EngineRejected) as raised:
            answered(json.dumps(body).encode(), status=400)
        assert str(raised.value) == message


DEEP = ["[" * 200_000 + "]" * 200_000, '{"error":' * 100_000 + "1" + "}" * 100_000, "[" * 200_000, '{"a":' * 990 + "1"]


class TestDeepNesting:
    @pytest.mark.reported("run-llama/llama_index#18877", "BasedHardware/omi#13521")
    @pytest.mark.parametrize("body", DEEP)
    def test_in_the_body_of_an_error(self, body: str) -> None:
        async def scene(engine: OpenAIEngine, _: ScriptedServer) -> None:
            with pytest.raises(EngineRejected) as raised:
                await complete(engine)
            assert len(str(raised.value)) < 1000

        play([answers(body, 400)], scene)

    @pytest.mark.parametrize("body", DEEP)
    def test_in_an_event(self, body: str) -> None:
        async def scene(engine: OpenAIEngine, _: ScriptedServer) -> None:
            with pytest.raises(EngineError):
                await complete(engine)

        play([wire(body)], scene, patience=0)

    @pytest.mark.parametrize("body", DEEP)
    def test_in_an_answer(self, body: str) -> None:
        async def main() -> None:
            async with ScriptedServer([answers(body)]) as server:
                http = client(server.base)
                with pytest.raises(EngineProtocolError, match="without JSON"):
                    await http.post("/chat/completions", {})
                await http.aclose()

        asyncio.run(main())

    @pytest.mark.parametrize("status", [400, 503])
    def test_a_body_that_never_ends(self, status: int) -> None:
        async def act(exchange: Exchange) -> None:
            exchange.head(status, content_type="text/plain")
            while True:
                await exchange.send(b"no " * 100_000)

        async def scene(engine: OpenAIEngine, _: ScriptedServer) -> None:
            with pytest.raises(EngineError, match="no no"):
                await complete(engine)

        play([act], scene, patience=0)

    @pytest.mark.parametrize("depth", [100, 199, 201, 900, 985, 200_000])
    def test_in_the_arguments_of_a_call(self, depth: int) -> None:
        arguments = ['"' + "[" * depth + "]" * depth + '"', "[" * depth + "]" * depth]
        asked = request(tools=(ToolBrief(name="f", description="", schema="{}"),), may_call=True)
        for written in arguments:
            call = f'{{"index": 0, "function": {{"name": "f", "arguments": {written}}}}}'
            sent = wire(f'{{"choices": [{{"delta": {{"tool_calls": [{call}, {call}]}}}}]}}', chunk(finish="tool_calls"))
            with suppress(EngineError):
                heard(sent, asked, tools="native", patience=0)

    def test_a_long_message_is_shortened(self) -> None:
        assert len(message_of(json.dumps({"error": {"message": "x" * 10**6}}))) < 2100

    def test_a_number_of_many_digits(self) -> None:
        message = (
            f"maximum context length is {'9' * 5000} tokens. However, your messages resulted in {'9' * 5000} tokens."
        )

        async def scene(engine: OpenAIEngine, _: ScriptedServer) -> None:
            with pytest.raises(EngineRejected):
                await complete(engine)

        play([answers({"error": {"message": message}}, 400)], scene)


def client(url: str, *, api_key: str | None = None, own: httpx2.AsyncClient | None = None) -> HttpClient:
    return HttpClient(url, api_key=api_key, client=own, max_connections=9, connect_timeout=1, read_timeout=5)


class TestStatus:
    @pytest.mark.parametrize("status", [408, 409, 425, 429, 503])
    def test_is_tried_again(self, status: int) -> None:
        async def scene(engine: OpenAIEngine, server: ScriptedServer) -> None:
            assert "".join(part.text for part in await complete(engine)) == "4"
            assert len(server.sent) == 2

        play([answers("busy", status, retry_after="0"), says("4")], scene)

    @pytest.mark.reported("NousResearch/hermes-agent#109234", "openclaw/openclaw#68543")
    def test_siblings_that_were_refused_together_come_back_apart(self, monkeypatch: pytest.MonkeyPatch) -> None:
        waits: list[float] = []

        async def record(seconds: float) -> None:
            waits.append(seconds)

        monkeypatch.setattr("asyncio.sleep", record)

        async def refused_once() -> None:
            tries: list[None] = []

            async def work() -> None:
                tries.append(None)
                if len(tries) == 1:
                    raise EngineOverloaded("busy", retry_after=2.0)

            await retry(work, attempts=2)

        async def main() -> None:
            for _ in range(32):
                await refused_once()

        asyncio.run(main())
        assert len(set(waits)) == 32
        assert all(2.0 <= wait <= 2.5 for wait in waits)

    @pytest.mark.parametrize("header", ["nan", "-1", "", "soon", "Mon, 99 Foo 99999", "1e-400"])
    def test_a_retry_after_that_says_nothing(self, header: str) -> None:
        async def scene(engine: OpenAIEngine, _: ScriptedServer) -> None:
            assert await complete(engine)

        play([answers("busy", 429, retry_after=header), says("4")], scene)

    @pytest.mark.parametrize("seconds", [601.0, 86400.0, float("inf")])
    def test_a_server_that_asks_for_a_day_is_not_waited_for(self, seconds: float) -> None:
        async def refused() -> None:
            raise EngineOverloaded("busy", retry_after=seconds)

        with pytest.raises(EngineOverloaded):
            asyncio.run(retry(refused, attempts=2))

    @pytest.mark.reported("browserbase/mcp-server-browserbase#129", "RooCodeInc/Roo-Code#3883")
    def test_the_delay_in_the_body_of_googles_errors(self) -> None:
        delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "47.4s"}
        error = {"message": "You exceeded your current quota", "code": 429, "details": [delay]}
        with pytest.raises(EngineOverloaded) as raised:
            answered(json.dumps([{"error": error}]).encode(), status=429)
        assert raised.value.retry_after == 47.4

    def test_every_status_is_an_engine_error(self) -> None:
        assert all(isinstance(failure(status, "?"), EngineError) for status in range(100, 1000) if status != 200)


class TestAddress:
    @pytest.mark.reported("openclaw/openclaw#48107", "continuedev/continue#6227")
    def test_a_query_is_kept_after_the_path(self) -> None:
        async def main() -> list[str]:
            async with ScriptedServer([says("4")]) as server:
                async with OpenAIEngine(f"{server.base}/?api-version=2024-01&x=%2F", model="tiny") as engine:
                    with pytest.raises(EngineRejected):  # the scripted server knows no query
                        await complete(engine)
                return [exchange.path for exchange in server.exchanges]

        assert asyncio.run(main()) == ["/v1/chat/completions?api-version=2024-01&x=%2F"]

    @pytest.mark.reported("openai/openai-python#785", "open-compass/opencompass#2633", "vllm-project/guidellm#148")
    @pytest.mark.parametrize("status", [307, 308])
    def test_a_redirect_within_the_host_is_followed(self, status: int) -> None:
        seen: list[httpx2.Request] = []

        def answer(sent: httpx2.Request) -> httpx2.Response:
            seen.append(sent)
            if sent.url.path == "/v1/chat/completions":
                return httpx2.Response(status, headers={"location": "/v2/chat?k=1#x"})
            return httpx2.Response(200, content=events([chunk("4", finish="stop")]), headers={"content-type": SSE})

        assert mocked(answer, "http://example.org/v1", api_key="sk-12345678") == "4"
        first, second = seen
        assert (second.method, str(second.url)) == ("POST", "http://example.org/v2/chat?k=1")
        assert second.content == first.content
        assert second.headers["authorization"] == "Bearer sk-12345678"

    @pytest.mark.parametrize(
        ("url", "location", "shown"),
        [
            ("http://example.org/v1", "http://evil.test/v1?key=1", "http://evil.test/v1:"),
            ("http://example.org/v1", "//evil.test/x", "//evil.test"),
            ("http://example.org/v1", "http://me:hunter2@evil.test/x", "http://evil.test/x:"),
            ("https://example.org/v1", "http://example.org/v1", "http://example.org/v1:"),
            ("http://example.org/v1", "http://example.org:9000/v1", "http://example.org:9000/v1:"),
            ("http://example.org:8000/v1", "http://example.org:9000/v1", "http://example.org:9000/v1:"),
            ("https://example.org/v1", "https://example.org:9443/v1", "https://example.org:9443/v1:"),
            ("http://example.org/v1", "http://example.org@evil.test/", "http://evil.test/:"),
            ("http://example.org/v1", "file:///etc/passwd", "to "),
            ("http://example.org/v1", "http://h:port/", "nowhere"),
            ("http://example.org/v1", "", "nowhere"),
        ],
    )
    @pytest.mark.reported("aio-libs/aiohttp#12275", "node-fetch/node-fetch#1863")
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_elsewhere_is_an_error_with_its_target(
        self, status: int, url: str, location: str, shown: str
    ) -> None:
        seen: list[str] = []

        def answer(sent: httpx2.Request) -> httpx2.Response:
            seen.append(str(sent.url))
            return httpx2.Response(status, headers={"location": location})

        with pytest.raises(EngineProtocolError, match=r"redirects") as raised:
            mocked(answer, url, api_key="sk-12345678")
        message = str(raised.value)
        assert shown in message
        assert not any(secret in message for secret in ("hunter2", "key=1", "sk-12345678"))
        assert all(each.startswith(url) for each in seen)

    @pytest.mark.parametrize("header", [("X-Key", "ü12345"), ("X-Key", "12345\n"), ("X Key", "12345"), ("", "12345")])
    def test_a_header_that_there_cannot_be(self, header: tuple[str, str]) -> None:
        with pytest.raises(ConfigurationError, match="cannot be sent") as raised:
            SGLangEngine("http://127.0.0.1:1", headers=dict([header]))
        assert "12345" not in str(raised.value)

    def test_a_port_that_there_cannot_be(self) -> None:
        with pytest.raises(ConfigurationError, match="largest is 65535"):
            OpenAIEngine("http://127.0.0.1:99999/v1", model="tiny")

    def test_redirects_in_a_circle(self) -> None:
        def answer(sent: httpx2.Request) -> httpx2.Response:
            return httpx2.Response(307, headers={"location": str(sent.url)})

        with pytest.raises(EngineProtocolError, match="more than 5 times"):
            mocked(answer, "http://example.org/v1")

    def test_from_http_to_https_on_the_same_host(self) -> None:
        def answer(sent: httpx2.Request) -> httpx2.Response:
            if sent.url.scheme == "http":
                return httpx2.Response(308, headers={"location": str(sent.url.copy_with(scheme="https"))})
            return httpx2.Response(200, content=events([chunk("4", finish="stop")]), headers={"content-type": SSE})

        assert mocked(answer, "http://example.org/v1") == "4"

    @pytest.mark.reported("NousResearch/hermes-agent#5834", "hiyouga/LLaMA-Factory#7332")
    @pytest.mark.parametrize(
        ("host", "local"),
        [
            *(
                (host, True)
                for host in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::]", "127.1.2.3", "a.localhost")
            ),
            ("[::ffff:127.0.0.1]", True),
            *(
                (host, False)
                for host in ("example.org", "10.0.0.1", "localhost.example.org", "[2001:db8::1]", "0.0.0.1")
            ),
        ],
    )
    def test_this_machine_is_reached_without_the_proxy(
        self, host: str, local: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        http = client(f"http://{host}:1/v1")
        assert http.local is local
        assert http._client(keep=0).trust_env is not local

    def test_a_server_at_0_0_0_0(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

        async def main() -> str:
            async with ScriptedServer([says("4")]) as server:
                engine = OpenAIEngine(f"http://0.0.0.0:{server.port}/v1", model="tiny")
                async with engine:
                    return "".join(part.text for part in await complete(engine))

        assert asyncio.run(main()) == "4"


SSE = "text/event-stream"


def mocked(answer: Any, url: str, **options: Any) -> str:
    async def main() -> str:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as own:
            engine = OpenAIEngine(url, model="tiny", client=own, patience=0, **options)
            return "".join(part.text for part in await complete(engine))

    return asyncio.run(main())


FIELDS = [
    "choices",
    "delta",
    "message",
    "content",
    "text",
    "finish_reason",
    "usage",
    "index",
    "type",
    "error",
    "tool_calls",
    "prompt_tokens",
    "completion_tokens",
    "prompt_tokens_details",
    "reasoning",
    "function",
    "arguments",
    "code",
]
SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(SHAPES, max_size=3))
def test_whatever_a_server_streams_is_text_or_an_engine_error(shapes: Sequence[object]) -> None:
    sent = [json.dumps(shape) for shape in shapes]
    with suppress(EngineError):
        heard(wire(chunk("4"), *sent, chunk(finish="stop")), patience=0)
