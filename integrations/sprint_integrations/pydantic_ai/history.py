"""A context as pydantic-ai's messages, with the parts that providers want back unchanged.

A context holds the text of the model's turns. A provider's response can have more: thoughts with their signatures, the
signatures of tool calls, ids. Providers expect these in later requests. So the engine keeps the responses that have
such parts, and sends them back where a turn is exactly the text of one, after exactly the context that it answered. A
turn that was cut, such as the planner's in an executor's context, is sent as its text alone.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from pydantic import JsonValue
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from sprint_agents.dialects.json.values import write
from sprint_agents.engines.openai.conversation import CALLS, MARKS, Conversation, Message, is_object
from sprint_agents.markup import markup


class ResponseMemory:
    """The last responses of a model, by the text of the context that ends with them; at most ``most`` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[bytes, ModelResponse] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, context: str, response: ModelResponse) -> None:
        """Remember what a response has besides the text at the end of ``context``, if it has anything.

        Thoughts that the limit cut off have no signature, so such a response is not kept.
        """
        if response.finish_reason != "length" and any(map(_has_more_than_text, response.parts)):
            parts = [_with_an_object(part) for part in response.parts]
            self._kept[_digest(context)] = replace(response, parts=parts)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def recall(self, context: str, ends: Mapping[int, int]) -> Mapping[int, ModelResponse]:
        """Return the remembered responses among the messages that end at these offsets of ``context``."""
        if not self._kept:
            return {}
        found: dict[int, ModelResponse] = {}
        digest, start = hashlib.sha256(), 0
        for index, end in ends.items():
            digest.update(context[start:end].encode())
            start = end
            if response := self._kept.get(digest.digest()):
                self._kept.move_to_end(digest.digest())
                found[index] = response
        return found


def messages_of(conversation: Conversation, recalled: Mapping[int, ModelResponse]) -> list[ModelMessage]:
    """Write a conversation as pydantic-ai's messages; all turns between two of the assistant are one request."""
    found: list[ModelMessage] = []
    asked: list[ModelRequestPart] = []
    names: dict[str, str] = {}
    for index, message in enumerate(conversation.messages):
        if message["role"] != "assistant":
            asked.append(_request_part(message, names))
            continue
        response = recalled.get(index) or ModelResponse(parts=_response_parts(message))
        names |= {part.tool_call_id: part.tool_name for part in response.parts if isinstance(part, ToolCallPart)}
        if response.parts:
            if asked:
                found.append(ModelRequest(parts=asked))
                asked = []
            found.append(response)
    if asked:
        found.append(ModelRequest(parts=asked))
    return found


def calls_of(parts: Sequence[ModelResponsePart]) -> str:
    """Return the tool calls of a response as the API's JSON after the mark; nothing if there are none."""
    calls: list[JsonValue] = [
        {
            "id": part.tool_call_id,
            "type": "function",
            "function": {"name": part.tool_name, "arguments": _arguments(part)},
        }
        for part in parts
        if isinstance(part, ToolCallPart)
    ]
    return markup(CALLS) + write({"tool_calls": calls}, marks=tuple(MARKS)) if calls else ""


def _request_part(message: Message, names: Mapping[str, str]) -> ModelRequestPart:
    content = str(message["content"])
    if message["role"] == "tool":
        name = str(message["tool_call_id"])
        return ToolReturnPart(tool_name=names.get(name, ""), content=content, tool_call_id=name)
    return SystemPromptPart(content=content) if message["role"] == "system" else UserPromptPart(content=content)


def _response_parts(message: Message) -> list[ModelResponsePart]:
    content, calls = message.get("content"), cast(list[dict[str, Any]], message.get("tool_calls") or [])
    words: list[ModelResponsePart] = [TextPart(content=str(content))] if content else []
    return words + [
        ToolCallPart(
            tool_name=str(call["function"]["name"]),
            args=str(call["function"]["arguments"]),
            tool_call_id=str(call["id"]),
        )
        for call in calls
    ]


def _has_more_than_text(part: ModelResponsePart) -> bool:
    return not isinstance(part, TextPart | ToolCallPart) or bool(part.provider_details or part.id)


def _arguments(call: ToolCallPart) -> str:
    """Return the arguments of a call as the model wrote them; an empty object if it wrote none."""
    if isinstance(call.args, str):
        return call.args if call.args.strip() else "{}"
    return write(cast(JsonValue, call.args or {}))


def _with_an_object(part: ModelResponsePart) -> ModelResponsePart:
    """Return a part whose arguments are a JSON object, if it is a call: providers refuse a conversation otherwise."""
    if isinstance(part, ToolCallPart) and not is_object(_arguments(part)):
        return replace(part, args="{}")
    return part


def _digest(context: str) -> bytes:
    return hashlib.sha256(context.encode()).digest()
