"""Log-probabilities in the events of servers: their tokens are those of the chunks."""

import asyncio
from collections.abc import Sequence

import pytest

from sprint_agents.context import Context
from sprint_agents.engine import Chunk, Request, Sampling
from sprint_agents.engines.openai import OpenAIEngine
from sprint_agents.errors import EngineProtocolError
from sprint_agents.nano import nano_path

from .scripted import ScriptedServer, chunk, events, stream, tokens, usage


def read(lines: Sequence[str], *, stops: tuple[str, ...] = (), api: str = "chat", logprobs: int = 2) -> list[Chunk]:
    """Complete a request with these events."""

    async def main() -> list[Chunk]:
        options = {"api": api, "tokenizer": nano_path()} if api == "completions" else {}
        async with (
            ScriptedServer([stream(events([*lines, usage(9, len(lines))]))]) as server,
            OpenAIEngine(server.base, model="tiny", server="vllm", **options) as engine,
        ):
            context = Context().extend(await engine.encode("? "), "? ")
            sampling = Sampling(logprobs=logprobs)
            request = Request(id="r-1", context=context, max_tokens=9, sampling=sampling, stop_texts=stops)
            return [each async for each in engine.complete(request)]

    return asyncio.run(main())


def weighed(*texts: str, **fields: object) -> dict[str, object]:
    """The log-probabilities of some tokens."""
    return {"logprobs": {"content": [{"token": text, "logprob": -0.5, **fields} for text in texts]}}


def told(chunks: Sequence[Chunk]) -> list[tuple[str, list[object]]]:
    return [(each.text, [one.token for one in each.logprobs]) for each in chunks]


def test_several_tokens_in_an_event() -> None:
    found = read([chunk("ab c", **weighed("ab", " c")), chunk("!", finish="stop", **weighed("!"))])
    assert told(found) == [("ab c", ["ab", " c"]), ("!", ["!"]), ("", [])]


def test_tokens_of_a_text_that_is_held_back_wait_for_it() -> None:
    held = chunk("", **weighed("<"))
    assert told(read([chunk("a", **weighed("a")), held, chunk("<b", **weighed("b")), chunk(finish="stop")])) == [
        ("a", ["a"]),
        ("<b", ["<", "b"]),
        ("", []),
    ]
    assert told(read([chunk("a", **weighed("a")), held, chunk(finish="stop")])) == [("a", ["a"]), ("", ["<"])]


def test_tokens_after_a_stop_are_dropped_with_their_text() -> None:
    found = read([chunk("a;b", **weighed("a", ";", "b")), chunk("c", **weighed("c"))], stops=(";",))
    assert told(found)[0] == ("a;", ["a", ";"])


def test_tokens_of_thoughts_come_with_them() -> None:
    thought = chunk(delta={"reasoning_content": "hm"}, **weighed("hm"))
    first, *_ = read([thought, chunk("4", finish="stop", **weighed("4"))])
    assert (first.reasoning, [each.token for each in first.logprobs]) == ("hm", ["hm"])


def test_the_best_alternatives_in_order() -> None:
    top = [{"token": text, "logprob": value} for text, value in (("x", -3), ("a", -0.5), ("y", -1))]
    first, *_ = read([chunk("a", finish="stop", **weighed("a", top_logprobs=top))])
    assert first.logprobs[0].top == (("a", -0.5), ("y", -1.0))


@pytest.mark.parametrize("content", [[{"token": 4}], "none", {"content": [{"logprob": -1}]}])
def test_another_form_is_refused(content: object) -> None:
    with pytest.raises(EngineProtocolError, match="in a form that is not OpenAI's"):
        read([chunk("a", finish="stop", logprobs=content)])


def test_those_of_completions_belong_to_ids() -> None:
    pytest.importorskip("tokenizers")
    ids, endless = [40, 41], f"token_id:{'9' * 5000}"
    told_ids = {"token_logprobs": [-0.5, None], "top_logprobs": [{"token_id:40": -0.5, "a": -2, endless: -3}, None]}
    first, *_ = read([tokens("??", ids, finish="length", logprobs=told_ids)], api="completions", logprobs=5)
    assert [(each.token, each.logprob, each.top) for each in first.logprobs] == [
        (40, -0.5, ((40, -0.5), ("a", -2.0), (endless, -3.0))),
        (41, 0.0, ()),
    ]
    for wrong, message in ({"token_logprobs": [-0.5]}, "1 log-probabilities with 2 tokens"), (None, "not OpenAI's"):
        with pytest.raises(EngineProtocolError, match=message):
            read([tokens("??", ids, finish="length", logprobs=wrong)], api="completions")
