r"""Calls of tools as the API has them: what a request offers, and what streams in, fragment by fragment.

OpenAI names each call by its ``index``, with ``id`` and ``name`` in its first fragment and ``arguments`` cut anywhere.
Others leave the index out, give all calls the same one and tell them apart by id (Ollama, until 2026), give no ids or
empty ones, repeat the name or send a new id with every fragment, or send each call whole, some with arguments that are
no text. So a fragment with a name begins another call where the name is another, or the call before it is whole.

What was called stands in a context as the API's own JSON, ``{"tool_calls": […]}``, so that it can be sent back as it
came.
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, JsonValue, ValidationError

from sprint_agents.dialects.json.values import write
from sprint_agents.engine import ToolBrief

from .api import Body, Target
from .conversation import MARKS
from .frames import CallDelta, FunctionDelta
from .schema import parsed


@dataclass(slots=True)
class _Call:
    index: int | None
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class Calls:
    """The calls of one completion, put together from their fragments."""

    calls: list[_Call] = field(default_factory=list[_Call])

    def __bool__(self) -> bool:
        return bool(self.calls)

    def add(self, delta: CallDelta) -> None:
        """Take the next fragment."""
        function = delta.function or FunctionDelta()
        call = self._of(delta, function)
        call.id = call.id or delta.id or ""
        call.name = call.name or function.name or ""
        if isinstance(function.arguments, str):
            call.arguments += function.arguments
        elif function.arguments is not None:
            call.arguments = write(function.arguments)

    def written(self) -> str:
        """Write the calls as the message of the assistant has them; those without an id of their own get one."""
        ids: set[str] = set()
        found: list[JsonValue] = []
        for call in self.calls:
            if not call.id or call.id in ids:
                call.id = secrets.token_hex(5)[:9]  # Mistral's templates want nine letters or digits
            ids.add(call.id)
            arguments = call.arguments if call.arguments.strip() else "{}"
            found.append(
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}},
            )
        return write({"tool_calls": found}, marks=tuple(MARKS))

    def _of(self, delta: CallDelta, function: FunctionDelta) -> _Call:
        """Find the call that a fragment belongs to; it may be the first of a new one."""
        known = [call for call in self.calls if delta.index is None or call.index == delta.index]
        last = known[-1] if known else None
        if last is None or (function.name and last.name and _is_another(last, delta, function)):
            last = _Call(delta.index)
            self.calls.append(last)
        return last


def _is_another(last: _Call, delta: CallDelta, function: FunctionDelta) -> bool:
    """Whether a fragment with a name, for a place where there is a call already, begins another call."""
    if function.name != last.name:
        return True
    return _is_whole(last.arguments) and (delta.id != last.id if delta.id else bool(function.arguments))


def offered(tools: Sequence[ToolBrief], target: Target, *, may_call: bool) -> Body:
    """Write the tools that a request offers, each in strict form where it can be had; all requests of a run alike.

    Raises:
        ConfigurationError: the caller insists on strict form, and a tool cannot be said in it.
    """
    functions: list[JsonValue] = []
    for tool in tools:
        schema, held = target.told(parsed(tool.schema), what=f"tool {tool.name!r}")
        function: Body = {"name": tool.name, "description": tool.description, "parameters": schema, "strict": held}
        functions.append({"type": "function", "function": function})
    return {"tools": functions, "tool_choice": "auto" if may_call else "none"}


def read_calls(text: str) -> list[JsonValue] | None:
    """Read what ``Calls`` wrote, as a message sends it back; None if it is something else, or cut off.

    Arguments that are no JSON object become an empty one: some servers refuse a whole conversation for them, and what
    was wrong is told to the model as the tool's answer.
    """
    try:
        message = _Message.model_validate_json(text)
    except ValidationError:
        return None
    return [_sent(call) for call in message.tool_calls]


class _Whole(BaseModel):
    name: str
    arguments: str


class _Sent(BaseModel):
    id: str
    function: _Whole


class _Message(BaseModel):
    tool_calls: list[_Sent]


def _sent(call: _Sent) -> JsonValue:
    arguments = call.function.arguments if _is_whole(call.function.arguments) else "{}"
    return {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": arguments}}


def _is_whole(arguments: str) -> bool:
    try:
        return isinstance(json.loads(arguments), dict)
    except ValueError:
        return False
