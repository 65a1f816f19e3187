"""Token ids both ways, as vLLM and SGLang stream them."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sprint_agents import State
from sprint_agents.context import Context
from sprint_agents.engine import Finish, Request, Sampling
from sprint_agents.engines.openai import OpenAIEngine
from sprint_agents.errors import ConfigurationError, EngineProtocolError, InvalidCheckpoint, InvalidRequest
from sprint_agents.markup import markup
from sprint_agents.state import Stops

from .scripted import Act, ScriptedServer, chunk, events, stream, tokens, usage

tokenizers = pytest.importorskip("tokenizers")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """One byte a token, and one special token, 256."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE({letter: n for n, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "sprint.json").write_text('{"model": "tiny-model"}')
    return tmp_path


async def completed(
    checkpoint: Path, act: Act, *, text: str = "one", **changes: Any
) -> tuple[list[int], str, Finish, dict[str, Any]]:
    server_kind = changes.pop("server", "vllm")
    async with (
        ScriptedServer([act]) as server,
        OpenAIEngine(server.base, model="tiny", api="completions", server=server_kind, tokenizer=checkpoint) as engine,
    ):
        context = Context().extend(await engine.encode(markup(text)), text)
        chunks = [
            part
            async for part in engine.complete(
                Request(id="r-1", context=context, max_tokens=9, sampling=Sampling(), **changes)
            )
        ]
        ids = [token for part in chunks for token in part.ids]
        assert "".join(part.text for part in chunks) == await engine.decode(ids)
        assert chunks[-1].finish is not None
        return ids, await engine.decode(ids), chunks[-1].finish, server.sent[0]


@pytest.mark.parametrize("counts", [(0, 0), (2, 1), None])
def test_the_ids_are_counted_whatever_the_server_says(checkpoint: Path, counts: tuple[int, int] | None) -> None:
    ids = ids_of(checkpoint, "two")
    last = [] if counts is None else [usage(*counts, cached=50)]
    act = stream(events([tokens("two", ids, finish="weary"), *last]))
    found, text, finish, _ = asyncio.run(completed(checkpoint, act))
    assert (found, text) == (ids, "two")
    assert finish == Finish("stop", ids[-1], 3, 0 if counts is None else 3)


def ids_of(checkpoint: Path, text: str) -> list[int]:
    return tokenizers.Tokenizer.from_file(str(checkpoint / "tokenizer.json")).encode(text).ids


def streamed(checkpoint: Path, text: str, ends: Sequence[tuple[str, Sequence[int]]], **end: object) -> Act:
    """A completion of one token per event, then more texts and ids; the last event ends it."""
    ids = ids_of(checkpoint, text)
    sent = [tokens(letter, [token]) for letter, token in zip(text, ids, strict=True)]
    *middle, (last, last_ids) = ends
    sent += [tokens(part, part_ids) for part, part_ids in middle]
    return stream(events([*sent, tokens(last, last_ids, **end), usage(3, len(ids) + 1, cached=2)]))  # type: ignore[arg-type]


class TestEndings:
    def test_of_the_models_own_which_vllm_does_not_name(self, checkpoint: Path) -> None:
        act = streamed(checkpoint, "two", [("<end>", [256])], finish="stop", stop_reason=None)
        ids, text, finish, _ = asyncio.run(completed(checkpoint, act))
        assert (ids, text) == ([*ids_of(checkpoint, "two"), 256], "two<end>")
        assert finish == Finish("stop", 256, 3, 2)

    def test_of_the_models_own_which_sglang_names(self, checkpoint: Path) -> None:
        act = streamed(checkpoint, "two", [("<end>", [256])], finish="stop", matched_stop=256)
        assert asyncio.run(completed(checkpoint, act, server="sglang"))[2] == Finish("stop", 256, 3, 2)

    def test_by_a_text_that_the_server_trimmed(self, checkpoint: Path) -> None:
        ids = ids_of(checkpoint, "</a>")
        act = streamed(checkpoint, "two", [("", ids)], finish="stop", stop_reason="</a")
        _, text, finish, _ = asyncio.run(completed(checkpoint, act, stop_texts=("</a",)))
        assert (text, finish) == ("two</a>", Finish("stop", "</a", 3, 2))

    def test_by_the_limit_inside_a_character(self, checkpoint: Path) -> None:
        first, _ = ids_of(checkpoint, "é")
        act = streamed(checkpoint, "two", [("", [first])], finish="length")
        _, text, finish, _ = asyncio.run(completed(checkpoint, act))
        assert (text, finish) == ("two\ufffd", Finish("length", None, 3, 2))

    def test_without_usage_the_prompt_is_what_was_sent(self, checkpoint: Path) -> None:
        act = stream(events([tokens("t", ids_of(checkpoint, "t"), finish="length")]))
        assert asyncio.run(completed(checkpoint, act))[2] == Finish("length", None, 3, 0)


def test_what_is_sent(checkpoint: Path) -> None:
    act = streamed(checkpoint, "t", [("", [])], finish="length")
    changes: dict[str, Any] = {"stop_ids": frozenset({256, 7}), "stop_texts": ("</a",)}
    *_, body = asyncio.run(completed(checkpoint, act, text="o<end>", **changes))
    assert body == {
        "model": "tiny",
        "prompt": [*ids_of(checkpoint, "o"), 256],
        "return_token_ids": True,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
        "include_stop_str_in_output": True,
        "stop": ["</a"],
        "stop_token_ids": [7, 256],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 9,
        "temperature": 0.6,
        "top_p": 1.0,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
    }


@pytest.mark.parametrize("event", [tokens("two", None), tokens("two", None, finish="stop")])
def test_a_server_that_returns_no_ids(checkpoint: Path, event: str) -> None:
    with pytest.raises(EngineProtocolError, match=r"return_token_ids.*api='chat'.*SGLangEngine"):
        asyncio.run(completed(checkpoint, stream(events([event]))))


def test_a_chat_streamed_by_mistake_is_no_completion(checkpoint: Path) -> None:
    _, text, finish, _ = asyncio.run(completed(checkpoint, stream(events([chunk(finish="stop")]))))
    assert (text, finish.matched) == ("", None)


def test_ids_outside_the_vocabulary(checkpoint: Path) -> None:
    engine = OpenAIEngine(
        "http://127.0.0.1:1/v1", model="tiny", api="completions", server="sglang", tokenizer=checkpoint
    )
    for wrong in (-1, 257):
        with pytest.raises(InvalidRequest, match=f"token id {wrong} is outside the vocabulary of tiny, which has 257"):
            asyncio.run(engine.decode([1, wrong]))


def test_what_it_knows_of_the_checkpoint(checkpoint: Path) -> None:
    engine = OpenAIEngine(
        "http://127.0.0.1:1/v1", model="tiny", api="completions", server="sglang", tokenizer=str(checkpoint)
    )
    assert engine.manifest is not None
    assert engine.manifest.model == "tiny-model"
    # It holds token sequences, not conversations.
    assert engine.capabilities.chat is None


class TestMistakes:
    def test_no_tokenizer(self) -> None:
        with pytest.raises(ConfigurationError, match="needs tokenizer="):
            OpenAIEngine("http://127.0.0.1:1/v1", model="tiny", api="completions", server="vllm")

    def test_a_directory_without_one(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidCheckpoint, match=r"tokenizer\.json"):
            OpenAIEngine("http://127.0.0.1:1/v1", model="tiny", api="completions", server="vllm", tokenizer=tmp_path)

    @pytest.mark.parametrize("server", [None, "openai", "llama.cpp", "ollama"])
    def test_a_server_without_ids(self, checkpoint: Path, server: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"no token ids.*api='chat'"):
            OpenAIEngine("http://127.0.0.1:1/v1", model="tiny", api="completions", server=server, tokenizer=checkpoint)


def test_a_completion_may_take_several_requests(checkpoint: Path) -> None:
    def writes(text: str, finish: str) -> Act:
        return stream(events([tokens(text, ids_of(checkpoint, text), finish=finish), usage(3, len(text), cached=2)]))

    async def main() -> None:
        acts = [writes("one <", "length"), writes("/a> two", "stop")]
        async with (
            ScriptedServer(acts) as server,
            OpenAIEngine(server.base, model="t", api="completions", server="vllm", tokenizer=checkpoint) as engine,
        ):
            assert engine.capabilities.continues
            state = State(engine, Context().extend(await engine.encode("go"), "go"), sampling=Sampling(seed=5))

            async def extend() -> int:
                return 20

            stops = Stops(texts=("</a>",))
            schema = '{"type": "string"}'
            async with state.stream(max_tokens=5, stops=stops, schema=schema, extend=extend) as generation:
                await generation.drain()
            assert generation.text == "one </a>"  # the stop text is over the border, and in one event with more
            assert generation.ids == ids_of(checkpoint, "one </a>")
            first, second = server.sent
            assert second["prompt"] == first["prompt"] + ids_of(checkpoint, "one <")
            assert "response_format" in first
            assert "response_format" not in second  # a server would start the grammar again
            assert (first["seed"], second["seed"]) == (5, 10)  # and the random numbers

    asyncio.run(main())
