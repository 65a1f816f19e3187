"""Tool calls in the server's own way: the tools that a request offers, and the calls that stream in as fragments.

A context holds calls as the API's own JSON, ``{"tool_calls": […]}``, so that they can be sent back unchanged.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from sprint_agents.dialects.json.values import write
from sprint_agents.engine import ToolBrief

from .conversation import MARKS, is_object
from .events import CallDelta, FunctionDelta
from .schema import parse_schema
from .server import Body, Target


@dataclass(slots=True)
class _StreamedCall:
    index: int | None
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class StreamedCalls:
    """The calls of one completion, assembled from their fragments.

    OpenAI identifies each call by its ``index``, with ``id`` and ``name`` in the first fragment and ``arguments`` cut
    anywhere. Other servers omit the index, give all calls the same one and tell them apart by id (Ollama, until 2026),
    give no ids or empty ones, repeat the name or send a new id with every fragment, or send each call whole, some with
    arguments that are not text. So a fragment with a name begins another call if the name differs, or if the call
    before it is complete.
    """

    calls: list[_StreamedCall] = field(default_factory=list[_StreamedCall])

    def __bool__(self) -> bool:
        return bool(self.calls)

    def add(self, delta: CallDelta) -> None:
        """Add the next fragment."""
        function = delta.function or FunctionDelta()
        call = self._of(delta, function)
        call.id = call.id or delta.id or ""
        call.name = call.name or function.name or ""
        if isinstance(function.arguments, str):
            call.arguments += function.arguments
        elif function.arguments is not None:
            call.arguments = write(function.arguments)

    def write(self) -> str:
        """Write the calls as in a message of the assistant; calls without a unique id get one."""
        ids: set[str] = set()
        found: list[JsonValue] = []
        for call in self.calls:
            if not call.id or call.id in ids:
                call.id = secrets.token_hex(5)[:9]  # Mistral's templates require nine letters or digits
            ids.add(call.id)
            arguments = call.arguments if call.arguments.strip() else "{}"
            found.append(
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}},
            )
        return write({"tool_calls": found}, marks=tuple(MARKS))

    def _of(self, delta: CallDelta, function: FunctionDelta) -> _StreamedCall:
        """Return the call that a fragment belongs to, which may be a new one."""
        known = [call for call in self.calls if delta.index is None or call.index == delta.index]
        last = known[-1] if known else None
        if last is None or (function.name and last.name and _is_another(last, delta, function)):
            last = _StreamedCall(delta.index)
            self.calls.append(last)
        return last


def _is_another(last: _StreamedCall, delta: CallDelta, function: FunctionDelta) -> bool:
    """Say whether a fragment with a name begins another call than ``last``, the latest call at its index.

    After ``f`` with the arguments ``{"a": 1}``, a fragment ``f`` with a new id begins another call; after ``{"a"`` it
    continues the first one, because its arguments are not complete.
    """
    if function.name != last.name:
        return True
    return is_object(last.arguments) and (delta.id != last.id if delta.id else bool(function.arguments))


def describe_tools(tools: Sequence[ToolBrief], target: Target, *, may_call: bool) -> Body:
    """Write the tools that a request offers, in strict form if possible. All requests of a run offer the same tools.

    Raises:
        ConfigurationError: the caller insists on strict form, and it cannot express a tool's arguments.
    """
    functions: list[JsonValue] = []
    for tool in tools:
        schema, held = target.express(parse_schema(tool.schema), what=f"tool {tool.name!r}")
        function: Body = {"name": tool.name, "description": tool.description, "parameters": schema, "strict": held}
        functions.append({"type": "function", "function": function})
    return {"tools": functions, "tool_choice": "auto" if may_call else "none"}
