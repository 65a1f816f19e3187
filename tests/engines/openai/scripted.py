"""A loopback HTTP server that plays a script of streams and failures, as servers with OpenAI's API send them."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.engines.sglang.scripted import Act, Exchange, answers, dies, events, hangs, stream
from tests.engines.sglang.scripted import ScriptedServer as AnyServer

__all__ = [
    "Act",
    "Exchange",
    "ScriptedServer",
    "answers",
    "begins",
    "chunk",
    "dies",
    "events",
    "hangs",
    "listed",
    "says",
    "served",
    "stream",
    "tokens",
    "usage",
    "weighed",
    "writes",
]

CHAT, COMPLETIONS, ABOUT = "/v1/chat/completions", "/v1/completions", ("/v1/models", "/props")


@dataclass
class ScriptedServer(AnyServer):
    """Plays one act per request, in order; it repeats the last one."""

    goodbyes: asyncio.Queue[None] = field(default_factory=asyncio.Queue[None])

    async def deserted(self) -> None:
        """Wait until every client has closed its connection."""
        while self.open_connections:
            await self.goodbyes.get()

    @property
    def base(self) -> str:
        return f"{self.url}/v1"

    @property
    def sent(self) -> list[Any]:
        """The bodies of all requests, in order."""
        return [exchange.body for exchange in self.exchanges]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await super()._serve(reader, writer)
        self.goodbyes.put_nowait(None)

    async def _act(self, exchange: Exchange) -> None:
        if exchange.path in ABOUT:  # no part of the script: the engine asks some servers about their models
            self.exchanges.remove(exchange)
        if exchange.path not in (CHAT, COMPLETIONS):
            return await exchange.answer({"detail": "Not Found"}, 404)
        self.arrivals.put_nowait(exchange.path)
        return await self.acts[min(len(self.exchanges), len(self.acts)) - 1](exchange)


def chunk(text: str | None = None, *, finish: str | None = None, delta: object = None, **choice: object) -> str:
    """One event of a chat, as OpenAI writes it; ``choice`` are fields that other servers add."""
    delta = ({} if text is None else {"content": text}) if delta is None else delta
    return _event({"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish, **choice})


def tokens(text: str, ids: Sequence[int] | None, *, finish: str | None = None, **choice: object) -> str:
    """One event of a completion with token ids, as vLLM and SGLang write it."""
    known = {} if ids is None else {"token_ids": list(ids)}
    return _event({"index": 0, "text": text, "logprobs": None, "finish_reason": finish, **known, **choice})


def usage(prompt: int, completion: int, *, cached: int | None = None) -> str:
    """The last event, which has the counts and no choice."""
    details = None if cached is None else {"cached_tokens": cached, "audio_tokens": 0}
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return _event(None, {**counts, "prompt_tokens_details": details})


def whole_of(events: Sequence[str], counts: str) -> dict[str, Any]:
    """Return the answer that has the content of these events, where it is not streamed."""
    choices = [json.loads(event)["choices"][0] for event in events]
    whole = dict(choices[-1])
    if "delta" in whole:
        content = "".join(choice["delta"]["content"] for choice in choices)
        whole["message"] = {"role": "assistant", "content": content, "refusal": None, "tool_calls": []}
        del whole["delta"]
    else:
        whole["text"] = "".join(choice["text"] for choice in choices)
        whole["token_ids"] = [token for choice in choices for token in choice["token_ids"]]
    return {**json.loads(counts), "object": "chat.completion", "choices": [whole]}


def _event(choice: object, counts: object = None) -> str:
    found = {
        "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG",
        "object": "chat.completion.chunk",
        "created": 1741570283,
        "model": "gpt-4o-2024-08-06",
        "service_tier": "default",
        "system_fingerprint": "fp_fc9f1d7035",
        "choices": [] if choice is None else [choice],
        "usage": counts,
        "obfuscation": "Xr5vYq",
    }
    return json.dumps(found)


def says(*texts: str, finish: str = "stop", **end: object) -> Act:
    """Answer with a text in these pieces."""
    opening = chunk(delta={"role": "assistant", "content": "", "refusal": None})
    ending = chunk(finish=finish, **end)
    return stream(events([opening, *map(chunk, texts), ending, usage(9, len(texts), cached=4)]))


def begins(*texts: str, then: Callable[[Exchange], Awaitable[None] | None] = Exchange.hold) -> Act:
    """Stream some words, then do something else: by default, stay silent until the client hangs up."""

    async def act(exchange: Exchange) -> None:
        exchange.head(content_type="text/event-stream")
        for text in texts:
            await exchange.send(f"data: {chunk(text)}\n\n".encode())
        if result := then(exchange):
            await result

    return act


def weighed(text: str, alternatives: int) -> object:
    """The log-probabilities of a token of a chat, with one alternative too many, in another order."""
    top = [{"token": "?" * number, "logprob": -1.0 - number} for number in range(alternatives, 0, -1)]
    return {"content": [{"token": text, "logprob": -0.5, "top_logprobs": [*top, {"token": text, "logprob": -0.5}]}]}


def listed(token: int, alternatives: int) -> object:
    """The log-probabilities of a token of a completion, as vLLM writes them if it is asked for ids."""
    names = [f"token_id:{token + number}" for number in range(alternatives)]
    top = {name: -0.5 - number for number, name in enumerate(names)}
    return {"tokens": names[:1], "token_logprobs": [-0.5], "top_logprobs": [top] if top else None}


def writes(
    answer: Callable[[Any], list[tuple[int, str]]], *, keeps_stops: bool, stop_key: str | None, chat: bool
) -> Act:
    """Behave like a model: complete with the tokens of ``answer``, up to the limit or a stop."""

    def event(token: int, own: str, text: str, end: str | None, matched: object, *, body: Any) -> str:
        told: dict[str, Any] = {stop_key: matched} if stop_key and end else {}
        if (asked := body.get("logprobs")) is not None and asked is not False:
            told["logprobs"] = weighed(own, body["top_logprobs"]) if chat else listed(token, body["logprobs"])
        return chunk(text, finish=end, **told) if chat else tokens(text, [token], finish=end, **told)

    async def act(exchange: Exchange) -> None:
        body = exchange.body
        limit = body.get("max_tokens") or body["max_completion_tokens"]
        whole = sent = ""
        parts: list[str] = []
        if body["stream"]:
            exchange.head(content_type="text/event-stream")
        prompt = sum(len(message["content"]) for message in body["messages"]) if chat else len(body["prompt"])
        for number, (token, text) in enumerate(answer(body)[:limit], start=1):
            whole += text
            matched = next((stop for stop in body.get("stop", []) if stop in whole), None)
            if token in body.get("stop_token_ids", []):
                matched = token
            end = "stop" if matched is not None else "length" if number == limit else None
            shown = whole
            if isinstance(matched, str):
                at = whole.index(matched)
                shown = whole[: at + len(matched)] if keeps_stops else whole[:at]
            # What may be the beginning of a stop is held back by a server that trims it.
            if end is None and not keeps_stops:
                shown = whole[: len(whole) - max((len(stop) for stop in body.get("stop", [])), default=1) + 1]
            parts.append(event(token, text, shown[len(sent) :], end, matched, body=body))
            sent = max(sent, shown, key=len)
            if body["stream"]:
                await exchange.send(f"data: {parts[-1]}\n\n".encode())
            if end:
                counts = usage(prompt, number, cached=prompt // 2)
                if not body["stream"]:
                    return await exchange.answer(whole_of(parts, counts))
                await exchange.send(f"data: {counts}\n\ndata: [DONE]\n\n".encode())
                return await exchange.end()
        raise AssertionError("the answer is shorter than what was asked for")

    return act


@contextmanager
def served(*acts: Act) -> Iterator[ScriptedServer]:
    """Run a server in a thread, for clients on several event loops."""
    server = ScriptedServer(acts)
    up, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def main() -> None:
        async with server:
            up.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=[main()])
    thread.start()
    up.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
