"""Log-probabilities in SGLang's events, which repeat all of them or send the new ones only."""

import asyncio
import json
from collections.abc import Sequence

import pytest

from sprint_agents.context import Context
from sprint_agents.engine import Chunk, Request, Sampling
from sprint_agents.engines.sglang import SGLangEngine
from sprint_agents.errors import EngineProtocolError, InvalidRequest

from .scripted import VOCABULARY, ScriptedServer, events, frame, stream

IDS = [7, 8, 9]


def weighed(data: str, ids: Sequence[int], *, top: bool = True) -> str:
    """Add the log-probabilities of these ids to an event."""
    event = json.loads(data)
    event["meta_info"]["output_token_logprobs"] = [[-token / 10, token, None] for token in ids]
    if top:
        event["meta_info"]["output_top_logprobs"] = [[[-token / 10, token, None], [None, 1, None]] for token in ids]
    return json.dumps(event)


def told(*, cumulative: bool, top: bool = True) -> list[str]:
    """The events of a completion of three tokens."""
    frames: list[str] = []
    for count in range(1, 4):
        start = 0 if cumulative else count - 1
        reason = {"type": "stop", "matched": 9} if count == 3 else {}
        ids = IDS[start:count]
        frames.append(weighed(frame("abc"[start:count], ids, prompt=3, total=count, **reason), ids, top=top))
    return frames


def read(frames: Sequence[str], sampling: Sampling) -> tuple[list[Chunk], dict[str, object]]:
    async def main() -> tuple[list[Chunk], dict[str, object]]:
        async with ScriptedServer([stream(events(frames))]) as server, SGLangEngine(server.url) as engine:
            context = Context().extend([1, 2, 3], "?")
            request = Request(id="r-1", context=context, max_tokens=20, sampling=sampling)
            chunks = [chunk async for chunk in engine.complete(request)]
            return chunks, server.bodies("/generate")[0]

    return asyncio.run(main())


@pytest.mark.parametrize("cumulative", [True, False])
def test_each_chunk_has_those_of_its_ids(cumulative: bool) -> None:
    chunks, body = read(told(cumulative=cumulative), Sampling(logprobs=2))
    assert [[(each.token, each.logprob, each.top) for each in chunk.logprobs] for chunk in chunks] == [
        [(7, -0.7, ((7, -0.7),))],
        [(8, -0.8, ((8, -0.8),))],
        [(9, -0.9, ((9, -0.9),))],
    ]
    assert (body["return_logprob"], body["logprob_start_len"], body["top_logprobs_num"]) == (True, -1, 2)


def test_without_alternatives() -> None:
    chunks, _ = read(told(cumulative=True, top=False), Sampling(logprobs=0))
    assert [each.top for chunk in chunks for each in chunk.logprobs] == [(), (), ()]


def test_they_are_not_read_unless_asked_for() -> None:
    chunks, body = read(told(cumulative=True), Sampling())
    assert not any(chunk.logprobs for chunk in chunks)
    assert "return_logprob" not in body


@pytest.mark.parametrize("ids", [[], [8]])
def test_those_of_other_tokens_are_refused(ids: list[int]) -> None:
    data = weighed(frame("a", [7], prompt=3, type="stop", matched=7), ids)
    with pytest.raises(EngineProtocolError, match="log-probabilities of other tokens than"):
        read([data], Sampling(logprobs=2))


def test_a_bias_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=str(VOCABULARY)):
        read(told(cumulative=True), Sampling(logit_bias={VOCABULARY: 1}))
