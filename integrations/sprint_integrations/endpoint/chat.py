"""The answers of ``/v1/chat/completions``: one object, or chunks (https://platform.openai.com/docs/api-reference/chat)."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from time import time
from typing import Any

from .answering import Answered, Reasoning, Tokens
from .questions import Question


async def completion(name: str, question: Question, items: AsyncIterator[Reasoning | Answered]) -> dict[str, Any]:
    """Return the completion ``name`` as one object."""
    thought: list[str] = []
    answered: Answered | None = None
    async for item in items:
        if isinstance(item, Answered):
            answered = item
        else:
            thought.append(item.text)
    assert answered is not None
    message = {"role": "assistant", "content": answered.text, "refusal": None, "reasoning_content": "".join(thought)}
    return {
        **_head(name, question, "chat.completion"),
        "choices": [{"index": 0, "message": message, "finish_reason": _reason(answered), "logprobs": None}],
        "usage": _usage(answered.tokens),
    }


async def chunks(
    name: str, question: Question, items: AsyncIterator[Reasoning | Answered]
) -> AsyncGenerator[Mapping[str, Any]]:
    """Yield the completion ``name`` in chunks: the reasoning line by line, then the answer."""
    head = _head(name, question, "chat.completion.chunk")

    def chunk(delta: Mapping[str, object], reason: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}]}

    yield chunk({"role": "assistant", "content": ""})
    async for item in items:
        if isinstance(item, Reasoning):
            yield chunk({"reasoning_content": item.text})
            continue
        if item.text:
            yield chunk({"content": item.text})
        yield chunk({}, _reason(item))
        if question.counted:
            yield {**head, "choices": [], "usage": _usage(item.tokens)}


def _head(name: str, question: Question, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{name}", "object": kind, "created": int(time()), "model": question.model}


def _reason(answered: Answered) -> str:
    return "stop" if answered.complete else "length"


def _usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion,
        "total_tokens": tokens.prompt + tokens.completion,
        "prompt_tokens_details": {"cached_tokens": tokens.cached},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning},
    }
