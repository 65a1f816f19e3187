"""A completion that takes several requests to a server; the server's model writes one script, a character a token."""

import asyncio
from collections.abc import Sequence
from typing import Any

from sprint_agents import Sampling, State
from sprint_agents.context import Context
from sprint_agents.engines.sglang import SGLangEngine
from sprint_agents.generation import Generation
from sprint_agents.state import Stops

from .scripted import Act, Exchange, ScriptedServer, events, frame, frames, stream

SCRIPT = "12 </a> 34 </a> 56"
PROMPT = [1, 2, 3]


async def writes(exchange: Exchange) -> None:
    """Continue the script after the tokens of the context, up to the limit or a stop text in what it writes now."""
    body = exchange.body
    start, limit = len(body["input_ids"]) - len(PROMPT), body["sampling_params"]["max_new_tokens"]
    rest = SCRIPT[start : start + limit]
    ends = {rest.find(stop) + len(stop): stop for stop in body["sampling_params"]["stop"] if stop in rest}
    text = rest[: min(ends, default=len(rest))]
    reason: dict[str, Any] = {"type": "stop", "matched": ends[min(ends)]} if ends else {"type": "length"}
    prompt = len(body["input_ids"])
    await stream(events(frames(text, list(text.encode()), prompt=prompt, **reason)))(exchange)


def generate(
    pieces: Sequence[int], acts: Sequence[Act] = (writes,), **options: object
) -> tuple[Generation, ScriptedServer]:
    async def main() -> tuple[Generation, ScriptedServer]:
        async with ScriptedServer(acts) as server, SGLangEngine(server.url) as engine:
            state = State(engine, Context().extend(PROMPT, "???"), sampling=Sampling(seed=5))
            grants = iter(pieces[1:])

            async def extend() -> int:
                return next(grants, 0)

            async with state.stream(max_tokens=pieces[0], extend=extend, **options) as generation:  # type: ignore[arg-type]
                await generation.drain()
            return generation, server

    return asyncio.run(main())


def test_each_request_reads_what_those_before_it_wrote():
    generation, server = generate([4, 5, 9])
    assert generation.text == SCRIPT
    assert bytes(generation.ids).decode() == SCRIPT
    bodies = server.bodies("/generate")
    assert [len(body["input_ids"]) for body in bodies] == [3, 7, 12]
    assert [body["sampling_params"]["max_new_tokens"] for body in bodies] == [4, 5, 9]
    assert len({body["rid"] for body in bodies}) == 3
    assert (generation.prompt_tokens, generation.cached_tokens) == (3 + 7 + 12, 2 + 6 + 11)
    # SGLang draws by the seed and the position in the context: with the same seed, what one request would have drawn.
    assert [body["sampling_params"]["sampling_seed"] for body in bodies] == [5, 5, 5]


def test_a_stop_text_over_the_border_ends_the_completion_and_the_request():
    generation, server = generate([5, 12], stops=Stops(texts=("</a>",)))
    assert generation.text == "12 </a>"
    assert generation.finish is not None
    assert (generation.finish.reason, generation.finish.matched) == ("stop", "</a>")
    assert len(server.aborts) == 1


def test_only_the_first_request_has_the_schema():
    _, server = generate([4, 5], schema='{"type": "string"}')
    first, second = server.bodies("/generate")
    assert "json_schema" in first["sampling_params"]
    assert "json_schema" not in second["sampling_params"]


def test_a_broken_stream_of_a_continuation_is_resumed_although_the_completion_has_a_schema():
    async def breaks(exchange: Exchange) -> None:
        exchange.head(content_type="text/event-stream")
        await exchange.send(f"data: {frame(SCRIPT[4], [ord(SCRIPT[4])], prompt=7)}\n\n".encode())
        exchange.die()

    generation, server = generate([4, 5], acts=[writes, breaks, writes], schema='{"type": "string"}')
    assert generation.text == SCRIPT[:9]
    assert ["json_schema" in body["sampling_params"] for body in server.bodies("/generate")] == [True, False, False]
