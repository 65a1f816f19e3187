"""A server with OpenAI's chat completions that plays a model and counts tokens through an ideal prefix cache.

A request becomes the text that Qwen's chat template makes of it: one turn for each message, with the tools at the end
of the system's turn. Its tokens are words and marks. The cache is ideal: it holds everything that any request has read
or generated so far, evicts nothing, and shares what requests at the same time compute. A schema costs no token.
"""

import json
import re
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from .task import Turn, turn, words

_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Counted:
    """A request: the tokens of its prompt, and those of them that were computed."""

    role: str
    prompt: int
    computed: int


@dataclass(slots=True)
class CountingServer:
    """An ASGI application, ``app``, and its ``requests`` so far."""

    requests: list[Counted] = field(default_factory=list[Counted])
    _cache: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def app(self) -> Starlette:
        """The application."""
        models = {"object": "list", "data": [{"id": "any", "object": "model", "created": 0, "owned_by": "us"}]}
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self._complete, methods=["POST"]),
                Route("/v1/models", lambda _: JSONResponse(models)),
            ]
        )

    async def _complete(self, request: Request) -> Response:
        body = await request.json()
        said = turn(body)
        usage = self._count(body, said)
        message = {"role": "assistant", "content": said.text or None}
        if said.calls:
            message["tool_calls"] = [
                {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": json.dumps(given)}}
                for number, (name, given) in enumerate(said.calls)
            ]
        finish = "tool_calls" if said.calls else "stop"
        shared = {"id": "1", "created": int(time.time()), "model": "any"}
        if body.get("stream"):
            assert not said.calls  # no framework streams here but ours, which writes its calls into the text
            return StreamingResponse(_events(shared, said.text, finish, usage), media_type="text/event-stream")
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return JSONResponse({**shared, "object": "chat.completion", "choices": [choice], "usage": usage})

    def _count(self, body: dict[str, Any], said: Turn) -> dict[str, Any]:
        prompt = _TOKEN.findall(rendered(body))
        generated = _TOKEN.findall(_assistant({"content": said.text, "tool_calls": said.calls}))
        cached, place = 0, self._cache
        for token in prompt:
            if token not in place:
                break
            place, cached = place[token], cached + 1
        place = self._cache
        for token in [*prompt, *generated]:
            place = place.setdefault(token, {})
        cached = min(cached, len(prompt) - 1)  # a server computes at least the last token
        self.requests.append(Counted(said.role, len(prompt), len(prompt) - cached))
        return {
            "prompt_tokens": len(prompt),
            "completion_tokens": len(generated),
            "total_tokens": len(prompt) + len(generated),
            "prompt_tokens_details": {"cached_tokens": cached},
        }


async def _events(shared: dict[str, Any], text: str, finish: str, usage: dict[str, Any]) -> AsyncGenerator[str]:
    head = {**shared, "object": "chat.completion.chunk"}
    for delta, reason in (({"role": "assistant", "content": text}, None), ({}, finish)):
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        yield f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"
    yield f"data: {json.dumps({**head, 'choices': [], 'usage': usage})}\n\n"
    yield "data: [DONE]\n\n"


def rendered(body: dict[str, Any]) -> str:
    """Write a request as a chat template does."""
    messages, tools = list(body["messages"]), body.get("tools") or []
    system = "".join(words(message) for message in messages if message["role"] in ("system", "developer"))
    if tools:
        system += "\n\n# Tools\n\n" + "\n".join(json.dumps(tool, sort_keys=True) for tool in tools)
    texts = [f"<|im_start|>system\n{system}<|im_end|>\n"]
    for message in messages:
        if message["role"] in ("system", "developer"):
            continue
        if message["role"] == "assistant":
            calls = [
                (call["function"]["name"], json.loads(call["function"]["arguments"]))
                for call in message.get("tool_calls") or []
            ]
            text = _assistant({"content": words(message), "tool_calls": calls})
        else:
            text = words(message)
        texts.append(f"<|im_start|>{message['role']}\n{text}<|im_end|>\n")
    return "".join([*texts, "<|im_start|>assistant\n"])


def _assistant(message: dict[str, Any]) -> str:
    calls = [json.dumps({"name": name, "arguments": given}, sort_keys=True) for name, given in message["tool_calls"]]
    return message["content"] + "".join(f"\n<tool_call>\n{call}\n</tool_call>" for call in calls)
