"""A server with OpenAI's API that lies: odd usage, odd events, errors, and streams that break or stop."""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from random import Random

import httpx2

from sprint_agents.engines import OpenAIEngine

from .model import ScriptedModel

_USAGES: tuple[object, ...] = (
    None,
    {},
    "much",
    {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    {"prompt_tokens": None, "completion_tokens": None},
    {"prompt_tokens": 9.0, "completion_tokens": 2.5},
    {"prompt_tokens": -4, "completion_tokens": -9},
    {"prompt_tokens": 10**30, "completion_tokens": 3},
    {"prompt_tokens": "9", "completion_tokens": "3", "prompt_tokens_details": None},
    {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 99}},
)
_REASONS: tuple[object, ...] = ("stop", "end_turn", "STOP", None, "content_filter", 7, {"type": "stop"}, "length")
_REFUSALS = (400, 401, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529)
_NOISE = (
    "data: \n\n",
    ": ping\n\n",
    'event: ping\ndata: {"type":"ping"}\n\n',
    'data: {"choices":[]}\n\n',
    "data: []\n\n",
)


@dataclass(slots=True)
class LyingServer:
    """Answers as ``model`` says; ``open`` counts the streams that a client still reads."""

    model: ScriptedModel
    open: int = 0

    def engine(self) -> OpenAIEngine:
        """Return an engine that asks this server."""
        client = httpx2.AsyncClient(transport=httpx2.MockTransport(self._answer))
        return OpenAIEngine("http://127.0.0.1:9/v1", model="odd", client=client, patience=1.0)

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        text = "\n".join(str(message.get("content")) for message in body["messages"])
        random = self.model.random(text)
        if random.random() < self.model.odd / 4:
            return self._refusal(random)
        most = body.get("max_tokens", 8000)
        reply = self.model.write(text)[: 4 * most]
        body = _Body(self._stream(random, reply, most))
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=body)

    def _refusal(self, random: Random) -> httpx2.Response:
        body = random.choice(
            (
                json.dumps({"error": {"message": "bad \x1b]52;c;aGk=\x07"}}).encode(),
                json.dumps({"object": "error", "message": ["odd"]}).encode(),
                b"[" * 10_000,
                b"<html>502</html>",
                b"\xff\xfe\x00",
                b"",
            )
        )
        return httpx2.Response(random.choice(_REFUSALS), content=body)

    async def _stream(self, random: Random, text: str, most: int) -> AsyncGenerator[bytes]:
        self.open += 1
        try:
            pieces = random.randint(1, 4)
            size = max(1, -(-len(text) // pieces))
            for start in range(0, len(text), size):
                await asyncio.sleep(random.random() * self.model.seconds)
                if random.random() < self.model.odd / 8:
                    yield random.choice(_NOISE).encode()
                if random.random() < self.model.odd / 16:
                    if self.model.hangs and random.random() < 0.3:
                        await asyncio.Event().wait()
                    return  # the connection ends in the middle
                yield _event({"choices": [_choice(random, text[start : start + size], odd=self.model.odd)]})
            odd = random.random() < self.model.odd
            reason = random.choice(_REASONS) if odd else "stop"
            yield _event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
            usage = random.choice(_USAGES) if odd else {"prompt_tokens": 9, "completion_tokens": len(text) // 4 + 1}
            if isinstance(usage, dict) and float(usage.get("completion_tokens") or 0) > most:
                # No budget holds against a server that sends more than it was asked for.
                usage = {**usage, "completion_tokens": most}
            yield _event({"choices": [], "usage": usage})
            yield b"data: [DONE]\n\n"
        finally:
            self.open -= 1


class _Body(httpx2.AsyncByteStream):
    """A body that ends when its client closes it."""

    def __init__(self, pieces: AsyncGenerator[bytes]) -> None:
        self._pieces = pieces

    def __aiter__(self) -> AsyncGenerator[bytes]:
        return self._pieces

    async def aclose(self) -> None:
        await self._pieces.aclose()


def _choice(random: Random, text: str, *, odd: float) -> dict[str, object]:
    if random.random() >= odd / 8:
        return {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return random.choice(
        (
            {"index": 0, "delta": {"content": [{"type": "text", "text": text}]}},
            {"index": 0, "message": {"content": text}, "finish_reason": None},
            {"delta": {"content": text, "reasoning_content": "hm"}, "logprobs": 7},
            {"index": 3, "delta": {"content": text}},
            {"index": 0, "delta": {"content": 7}},
            {"index": 0, "delta": None, "text": text},
        )
    )


def _event(value: object) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()
