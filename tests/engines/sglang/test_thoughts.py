"""Thoughts before JSON of a schema: the server holds a whole completion to it, so they are a separate request."""

from typing import Any

import pytest

from sprint_agents.engine import Chunk, Finish
from sprint_agents.engines.sglang import SGLangEngine

from .scripted import Act, ScriptedServer, events, frames, stream
from .test_engine import complete, joined, play, request

SCHEMA = '{"type":"object"}'


def says(texts: list[str], ids: list[int], **reason: Any) -> Act:
    return stream(events(frames(texts, ids, prompt=3, **reason)))


def run(acts: list[Act], *, thoughts: str, max_tokens: int = 20) -> tuple[list[Chunk], list[Any]]:
    async def scene(engine: SGLangEngine, server: ScriptedServer) -> tuple[list[Chunk], list[Any]]:
        chunks = await complete(engine, request(schema=SCHEMA, thoughts=thoughts, max_tokens=max_tokens))
        return chunks, server.bodies("/generate")

    return play(acts, scene)


@pytest.mark.parametrize(("thoughts", "opening"), [("open", "so"), ("may", "<think>")])
def test_the_schema_begins_after_the_thoughts(thoughts: str, opening: str) -> None:
    first = says([opening, "</think>"], [7, 8], type="stop", matched="</think>")
    chunks, (free, held) = run([first, says(["{", "}"], [9, 10], type="stop", matched=10)], thoughts=thoughts)
    assert joined(chunks) == ([7, 8, 9, 10], f"{opening}</think>{{}}")
    assert [chunk.finish is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert "json_schema" not in free["sampling_params"]
    assert free["sampling_params"]["stop"] == ["</think>"]
    assert held["sampling_params"]["json_schema"] == SCHEMA
    assert held["sampling_params"]["stop"] == []
    assert held["input_ids"] == [*free["input_ids"], 7, 8]
    assert held["sampling_params"]["max_new_tokens"] == 18


def test_a_model_that_does_not_think_begins_again_with_the_schema() -> None:
    first = says([" ", '{"a"', ": 1}"], [7, 8, 9], type="stop", matched=10)
    chunks, (free, held) = run([first, says(["{", "}"], [9, 10], type="stop", matched=10)], thoughts="may")
    assert joined(chunks) == ([9, 10], "{}")
    assert held["input_ids"] == free["input_ids"]
    assert held["sampling_params"]["max_new_tokens"] == 20


def test_thoughts_that_are_cut_off_are_the_completion() -> None:
    chunks, bodies = run([says(["so", " on"], [7, 8], type="length", length=2)], thoughts="open", max_tokens=2)
    assert joined(chunks) == ([7, 8], "so on")
    assert chunks[-1].finish is not None
    assert chunks[-1].finish.reason == "length"
    assert len(bodies) == 1


def test_without_thoughts_there_is_one_request() -> None:
    chunks, (body,) = run([says(["{", "}"], [9, 10], type="stop", matched=10)], thoughts="none")
    assert joined(chunks)[1] == "{}"
    assert chunks[-1].finish == Finish("stop", 10, 3, 2)
    assert body["sampling_params"]["json_schema"] == SCHEMA
