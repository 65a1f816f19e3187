"""A conversation as a context of characters: the private vocabulary of servers that take messages and give text.

Invariants:

- The ids are Unicode code points, so ``encode`` and ``decode`` are inverse to each other by construction.
- Turns are marked by Unicode noncharacters, which no text that is meant for interchange holds (Unicode 16, 23.7); no
  mark is ever sent to a server.
- Behind ``CALLS`` in a turn of the assistant's stand its calls, as the API's own JSON. Turns of the tool's behind it
  answer them in their order; a call that none answers gets an answer that says so, for no server takes it without.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from sprint_agents.engine import ChatTurns, Speaker
from sprint_agents.errors import InvalidRequest

_SPEAKERS: Mapping[str, Speaker] = {"\ufdd0": "system", "\ufdd1": "user", "\ufdd2": "assistant", "\ufdd5": "tool"}
_END = "\ufdd3"
_MARK = re.compile(f"[{''.join(_SPEAKERS)}{_END}]")

CALLS = "\ufdd4"
"""What stands before the calls of an assistant's turn."""
MARKS = frozenset((*_SPEAKERS, _END, CALLS))

TURNS = ChatTurns(
    opens={speaker: mark for mark, speaker in _SPEAKERS.items() if speaker != "tool"},
    closes={speaker: _END for speaker in _SPEAKERS.values() if speaker != "tool"},
)
CALLING_TURNS = ChatTurns(
    opens={speaker: mark for mark, speaker in _SPEAKERS.items()},
    closes=dict.fromkeys(_SPEAKERS.values(), _END),
    calls=CALLS,
)
"""Those of an engine whose model calls tools by the API's own way."""

Message = dict[str, JsonValue]
"""One message as the API has it."""

ReadCalls = Callable[[str], list[JsonValue] | None]

_UNANSWERED = "This was not called."


@dataclass(slots=True)
class Conversation:
    """The messages of a context; if ``open``, the last of them is the assistant's and is to be gone on with."""

    messages: list[Message] = field(default_factory=list[Message])
    open: bool = False
    characters: int = 0
    """How much text there is."""
    unanswered: list[JsonValue] = field(default_factory=list[JsonValue])
    """The ids of the last turn's calls that no tool has answered yet."""


def encode(text: str) -> list[int]:
    """Return the code points of ``text``."""
    return list(map(ord, text))


def decode(ids: Sequence[int]) -> str:
    """Return the text of code points.

    Raises:
        InvalidRequest: one of them is no character.
    """
    try:
        text = "".join(map(chr, ids))
        text.encode()
    except (ValueError, OverflowError):
        wrong = next(number for number in ids if not 0 <= number <= 0x10FFFF or 0xD800 <= number <= 0xDFFF)
        raise InvalidRequest(
            f"id {wrong} is no character: the ids of this engine are Unicode code points, encode texts with it"
        ) from None
    return text


def conversation_of(text: str, read_calls: ReadCalls = lambda _: None) -> Conversation:
    """Split a context at its marks; what stands outside of turns is the user's, blanks between turns are nothing.

    ``read_calls`` reads what stands behind ``CALLS``, None if that makes no sense.

    Raises:
        InvalidRequest: nobody has said anything yet.
    """
    found = Conversation(characters=len(text))
    start, speaker = 0, None
    for mark in _MARK.finditer(text):
        _add(found, speaker, text[start : mark.start()], read_calls, closed=mark.group() == _END)
        start, speaker = mark.end(), _SPEAKERS.get(mark.group())
    last = text[start:]
    _add(found, speaker, last, read_calls, closed=False)
    found.open = speaker == "assistant" and bool(last) and not found.unanswered
    _answer(found)
    if not any(message["role"] != "assistant" for message in found.messages):
        raise InvalidRequest("the context holds no turn of a user: an assistant has nothing to answer")
    return found


def joined(messages: Sequence[Message]) -> list[Message]:
    """Make one message of neighbours of the same speaker, with a blank line between them; calls and answers stay."""
    found: list[Message] = []
    for message in messages:
        alike = found and found[-1]["role"] == message["role"] and message["role"] != "tool"
        if alike and not ("tool_calls" in found[-1] or "tool_calls" in message):
            found[-1] = message | {"content": f"{found[-1]['content']}\n\n{message['content']}"}
        else:
            found.append(message)
    return found


def _add(
    conversation: Conversation, speaker: Speaker | None, content: str, read_calls: ReadCalls, *, closed: bool
) -> None:
    """Add a turn; an empty one only if it was closed, since someone may indeed have said nothing."""
    if not (content.strip() if speaker is None else content or closed):
        return
    if speaker == "tool" and conversation.unanswered:
        _answer(conversation, content.replace(CALLS, ""), most=1)
        return
    _answer(conversation)
    words, _, behind = content.partition(CALLS)
    if speaker == "assistant" and behind and (calls := read_calls(behind)):
        conversation.messages.append({"role": "assistant", "content": words or None, "tool_calls": calls})
        conversation.unanswered = [call["id"] for call in calls if isinstance(call, dict)]
        return
    role = "user" if speaker in (None, "tool") else speaker
    conversation.messages.append({"role": role, "content": content.replace(CALLS, "")})


def _answer(conversation: Conversation, text: str = _UNANSWERED, *, most: int | None = None) -> None:
    """Answer the calls that still wait for it, ``most`` of them."""
    answered = conversation.unanswered[:most]
    conversation.unanswered = conversation.unanswered[len(answered) :]
    for name in answered:
        conversation.messages.append({"role": "tool", "tool_call_id": name, "content": text})
