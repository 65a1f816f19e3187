"""The answers of ``/v1/responses``: one object, or events (https://platform.openai.com/docs/api-reference/responses).

A response has two items: the reasoning, as a summary of one part, and the message with the answer.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from time import time
from typing import Any

from .answering import Answered, Reasoning, Tokens
from .questions import Question


async def response(name: str, question: Question, items: AsyncIterator[Reasoning | Answered]) -> dict[str, Any]:
    """Return the response ``name`` as one object."""
    last: Mapping[str, Any] = {}
    async for event in events(name, question, items):
        last = event
    return last["response"]


async def events(
    name: str, question: Question, items: AsyncIterator[Reasoning | Answered]
) -> AsyncGenerator[Mapping[str, Any]]:
    """Yield the events of the response ``name``; the last one has all of it."""
    stream = _Events(name, question)
    yield stream.event("response.created", response=stream.response("in_progress"))
    yield stream.event("response.in_progress", response=stream.response("in_progress"))
    for event in stream.open_reasoning():
        yield event
    async for item in items:
        if isinstance(item, Reasoning):
            yield stream.think(item.text)
            continue
        for event in (*stream.close_reasoning(), *stream.say(item)):
            yield event


@dataclass(slots=True)
class _Events:
    """Numbers the events of a response, and keeps its items."""

    name: str
    question: Question
    number: int = 0
    created: int = field(default_factory=lambda: int(time()))
    thoughts: list[str] = field(default_factory=list[str])
    output: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def event(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Make the next event."""
        number, self.number = self.number, self.number + 1
        return {"type": kind, "sequence_number": number, **fields}

    def response(self, status: str, tokens: Tokens | None = None) -> dict[str, Any]:
        """Return the response so far."""
        question = self.question
        return {
            "id": f"resp_{self.name}",
            "object": "response",
            "created_at": self.created,
            "status": status,
            "model": question.model,
            "output": list(self.output),
            "usage": tokens and _usage(tokens),
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": None,
            "max_output_tokens": question.max_tokens,
            "metadata": {},
            "parallel_tool_calls": True,
            "temperature": question.temperature,
            "tool_choice": "none",
            "tools": [],
            "top_p": question.top_p,
        }

    def open_reasoning(self) -> list[dict[str, Any]]:
        """Begin the first item."""
        item: dict[str, Any] = {"type": "reasoning", "id": f"rs_{self.name}", "summary": []}
        return [
            self.event("response.output_item.added", output_index=0, item=item),
            self.event("response.reasoning_summary_part.added", **self._part({"type": "summary_text", "text": ""})),
        ]

    def think(self, text: str) -> dict[str, Any]:
        """Add to the first item."""
        self.thoughts.append(text)
        place = {"item_id": f"rs_{self.name}", "output_index": 0, "summary_index": 0}
        return self.event("response.reasoning_summary_text.delta", **place, delta=text)

    def close_reasoning(self) -> list[dict[str, Any]]:
        """End the first item."""
        text = "".join(self.thoughts)
        part = {"type": "summary_text", "text": text}
        item = {"type": "reasoning", "id": f"rs_{self.name}", "summary": [part]}
        self.output.append(item)
        place = {"item_id": f"rs_{self.name}", "output_index": 0, "summary_index": 0}
        return [
            self.event("response.reasoning_summary_text.done", **place, text=text),
            self.event("response.reasoning_summary_part.done", **self._part(part)),
            self.event("response.output_item.done", output_index=0, item=item),
        ]

    def say(self, answered: Answered) -> list[dict[str, Any]]:
        """Write the second item, and end the response."""
        status = "completed" if answered.complete else "incomplete"
        place = {"item_id": f"msg_{self.name}", "output_index": 1, "content_index": 0}
        empty: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        part = {**empty, "text": answered.text}
        item = {"type": "message", "id": f"msg_{self.name}", "role": "assistant"}
        done: dict[str, Any] = {**item, "status": status, "content": [part]}
        self.output.append(done)
        whole = self.response(status, answered.tokens)
        return [
            self.event(
                "response.output_item.added", output_index=1, item={**item, "status": "in_progress", "content": []}
            ),
            self.event("response.content_part.added", **place, part=empty),
            self.event("response.output_text.delta", **place, delta=answered.text, logprobs=[]),
            self.event("response.output_text.done", **place, text=answered.text, logprobs=[]),
            self.event("response.content_part.done", **place, part=part),
            self.event("response.output_item.done", output_index=1, item=done),
            self.event(f"response.{status}", response=whole),
        ]

    def _part(self, part: Mapping[str, str]) -> dict[str, Any]:
        return {"item_id": f"rs_{self.name}", "output_index": 0, "summary_index": 0, "part": part}


def _usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "input_tokens": tokens.prompt,
        "input_tokens_details": {"cached_tokens": tokens.cached},
        "output_tokens": tokens.completion,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "total_tokens": tokens.prompt + tokens.completion,
    }
