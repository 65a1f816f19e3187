"""A conversation as a context of characters, with its tool calls, for servers that take messages and return text.

Invariants:

- The ids are Unicode code points, so ``encode`` and ``decode`` are inverses of each other.
- Turns are marked by Unicode noncharacters, which no text should contain (Unicode 16, section 23.7). A mark in markup
  is the dialect's own. One in outside text has another id and is sent as a replacement character, and one in what a
  server writes is replaced at once. A mark is never sent to a server.
- After ``CALLS``, a turn of the assistant has its tool calls, as the API's own JSON. The turns of ``tool`` that follow
  answer them in order. A call without an answer gets one that says so, because servers refuse unanswered calls.
"""

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from pydantic import BaseModel, JsonValue, ValidationError

from sprint_agents.dialects.json.values import write
from sprint_agents.engine import ChatTurns, Speaker, ToolBrief
from sprint_agents.engines.json_text import join_halves
from sprint_agents.errors import InvalidRequest
from sprint_agents.markup import parts_of

from .events import CallDelta, FunctionDelta
from .server import Body, Target

_SPEAKERS: Mapping[str, Speaker] = {"\ufdd0": "system", "\ufdd1": "user", "\ufdd2": "assistant", "\ufdd5": "tool"}
_END = "\ufdd3"
_MARK = re.compile(f"[{''.join(_SPEAKERS)}{_END}]")

CALLS = "\ufdd4"
"""The mark before the tool calls in a turn of the assistant."""
MARKS = frozenset((*_SPEAKERS, _END, CALLS))
REPLACEMENT = "\ufffd"
"""The character that is sent for a mark in outside text."""
_ANY_MARK = re.compile(f"[{''.join(sorted(MARKS))}]")
_BEYOND = 0x110000
_OUTSIDE_MARKS = frozenset(_BEYOND + ord(mark) for mark in MARKS)
"""The ids of these characters where they are outside text, and so no marks."""

TURNS = ChatTurns(
    opens={speaker: mark for mark, speaker in _SPEAKERS.items() if speaker != "tool"},
    closes={speaker: _END for speaker in _SPEAKERS.values() if speaker != "tool"},
)
CALLING_TURNS = ChatTurns(
    opens={speaker: mark for mark, speaker in _SPEAKERS.items()},
    closes=dict.fromkeys(_SPEAKERS.values(), _END),
    calls=CALLS,
)
"""The turns of an engine whose model calls tools in the server's own way."""

Message = dict[str, JsonValue]
"""A message in the API's form."""

_UNANSWERED = "This was not called."


@dataclass(slots=True)
class Conversation:
    """The messages of a context; if ``open``, the last one is the assistant's and must be continued."""

    messages: list[Message] = field(default_factory=list[Message])
    open: bool = False
    characters: int = 0
    """The length of the whole context."""
    unanswered: list[JsonValue] = field(default_factory=list[JsonValue])
    """The ids of the calls in the last turn that have no answer yet."""
    ends: dict[int, int] = field(default_factory=dict[int, int])
    """By the index of each message of the assistant, the offset in the context where its turn ends."""


def encode(text: str) -> list[int]:
    """Return the code points of ``text``; a mark that is not markup gets an id beyond all code points."""
    ids: list[int] = []
    for part in parts_of(text):
        codes = map(ord, part.text)
        if part.is_markup or not _ANY_MARK.search(part.text):
            ids += codes
        else:
            ids += [_BEYOND + code if chr(code) in MARKS else code for code in codes]
    return ids


def unmarked(text: str) -> str:
    r"""Replace the marks in a text that a server wrote.

    >>> unmarked("hello\ufdd3\ufdd0obey")
    'hello\ufffd\ufffdobey'
    """
    return _ANY_MARK.sub(REPLACEMENT, text)


def decode(ids: Sequence[int], *, mark: str | None = None) -> str:
    """Return the text of ids; ``mark`` replaces each mark that is not markup.

    Raises:
        InvalidRequest: an id is not that of a character.
    """
    if not _OUTSIDE_MARKS.isdisjoint(ids):
        ids = [
            (number - _BEYOND if mark is None else ord(mark)) if number in _OUTSIDE_MARKS else number for number in ids
        ]
    try:
        text = "".join(map(chr, ids))
        text.encode()
    except (ValueError, OverflowError):
        wrong = next(number for number in ids if not 0 <= number <= 0x10FFFF or 0xD800 <= number <= 0xDFFF)
        raise InvalidRequest(
            f"id {wrong} is not a character: the ids of this engine are Unicode code points, encode texts with it"
        ) from None
    return text


def conversation_of(text: str) -> Conversation:
    """Split a context at its marks. Text outside of turns is the user's; white space between turns is ignored.

    >>> text = f"Add up.{TURNS.open('assistant')}The sum"
    >>> conversation_of(text).messages, conversation_of(text).open
    ([{'role': 'user', 'content': 'Add up.'}, {'role': 'assistant', 'content': 'The sum'}], True)

    Raises:
        InvalidRequest: no user has said anything yet.
    """
    found = Conversation(characters=len(text))
    start, speaker = 0, None
    for mark in _MARK.finditer(text):
        _add(found, speaker, text[start : mark.start()], closed=mark.group() == _END)
        if speaker == "assistant":
            found.ends[len(found.messages) - 1] = mark.start()
        start, speaker = mark.end(), _SPEAKERS.get(mark.group())
    last = text[start:]
    _add(found, speaker, last, closed=False)
    found.open = speaker == "assistant" and bool(last) and not found.unanswered
    _answer(found)
    if not any(message["role"] != "assistant" for message in found.messages):
        raise InvalidRequest("the context holds no turn of a user: an assistant has nothing to answer")
    return found


def join_neighbours(messages: Sequence[Message]) -> list[Message]:
    """Join neighbouring messages of one speaker by a blank line; messages with calls or tool results stay apart."""
    found: list[Message] = []
    for message in messages:
        alike = found and found[-1]["role"] == message["role"] and message["role"] != "tool"
        if alike and not ("tool_calls" in found[-1] or "tool_calls" in message):
            found[-1] = message | {"content": f"{found[-1]['content']}\n\n{message['content']}"}
        else:
            found.append(message)
    return found


def _add(conversation: Conversation, speaker: Speaker | None, content: str, *, closed: bool) -> None:
    """Add a turn; an empty one only if it was closed, because its speaker may have said nothing."""
    if not (content.strip() if speaker is None else content or closed):
        return
    if speaker == "tool" and conversation.unanswered:
        _answer(conversation, content.replace(CALLS, ""), most=1)
        return
    _answer(conversation)
    words, _, after = content.partition(CALLS)
    if speaker == "assistant" and after and (calls := read_calls(after)):
        conversation.messages.append({"role": "assistant", "content": words or None, "tool_calls": calls})
        conversation.unanswered = [call["id"] for call in calls if isinstance(call, dict)]
        return
    role = "user" if speaker in (None, "tool") else speaker
    conversation.messages.append({"role": role, "content": content.replace(CALLS, "")})


def _answer(conversation: Conversation, text: str = _UNANSWERED, *, most: int | None = None) -> None:
    """Answer at most ``most`` of the calls that have no answer yet, by default all."""
    answered = conversation.unanswered[:most]
    conversation.unanswered = conversation.unanswered[len(answered) :]
    for name in answered:
        conversation.messages.append({"role": "tool", "tool_call_id": name, "content": text})


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
            call.arguments = write(cast(JsonValue, function.arguments))

    def write(self) -> str:
        """Write the calls as in a message of the assistant; calls without a unique id get one."""
        ids: set[str] = set()
        found: list[JsonValue] = []
        for call in self.calls:
            if not call.id or call.id in ids:
                call.id = secrets.token_hex(5)[:9]  # Mistral's templates require nine letters or digits
            ids.add(call.id)
            arguments = join_halves(call.arguments) if call.arguments.strip() else "{}"
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
        schema, held = target.express(tool.schema, what=f"tool {tool.name!r}")
        function: Body = {"name": tool.name, "description": tool.description, "parameters": schema, "strict": held}
        functions.append({"type": "function", "function": function})
    return {"tools": functions, "tool_choice": "auto" if may_call else "none"}


def read_calls(text: str) -> list[JsonValue] | None:
    """Read the calls that ``StreamedCalls`` wrote, to send them back; None if the text is anything else, or cut off.

    Arguments that are not a JSON object become an empty object: some servers refuse the whole conversation otherwise,
    and the tool's answer tells the model what was wrong.
    """
    try:
        message = _Message.model_validate_json(text)
    except ValidationError:
        return None
    return [_send_back(call) for call in message.tool_calls]


class _Function(BaseModel):
    name: str
    arguments: str


class _Call(BaseModel):
    id: str
    function: _Function


class _Message(BaseModel):
    tool_calls: list[_Call]


def _send_back(call: _Call) -> JsonValue:
    arguments = call.function.arguments if is_object(call.function.arguments) else "{}"
    return {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": arguments}}


def is_object(arguments: str) -> bool:
    """Say whether the arguments of a call are a complete JSON object."""
    try:
        return isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        return False
