"""A conversation as a context of characters: the private vocabulary of servers that take messages and give text.

Invariants:

- The ids are Unicode code points, so ``encode`` and ``decode`` are inverse to each other by construction.
- Turns are marked by Unicode noncharacters, which no text that is meant for interchange holds (Unicode 16, 23.7); no
  mark is ever sent to a server.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sprint_agents.dialect.conversation import Speaker, Turns
from sprint_agents.errors import InvalidRequest

_SPEAKERS: Mapping[str, Speaker] = {"\ufdd0": "system", "\ufdd1": "user", "\ufdd2": "assistant"}
_END = "\ufdd3"
_MARK = re.compile(f"[{''.join(_SPEAKERS)}{_END}]")

MARKS = frozenset((*_SPEAKERS, _END))

TURNS = Turns(
    opens={speaker: mark for mark, speaker in _SPEAKERS.items()},
    closes=dict.fromkeys(_SPEAKERS.values(), _END),
)


@dataclass(slots=True)
class Conversation:
    """The messages of a context; if ``open``, the last of them is the assistant's and is to be gone on with."""

    messages: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    open: bool = False

    @property
    def characters(self) -> int:
        """How much text there is."""
        return sum(len(message["content"]) for message in self.messages)


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


def conversation_of(text: str) -> Conversation:
    """Split a context at its marks; what stands outside of turns is the user's, blanks between turns are nothing.

    Raises:
        InvalidRequest: nobody has said anything yet.
    """
    found = Conversation()
    start, speaker = 0, None
    for mark in _MARK.finditer(text):
        _add(found, speaker, text[start : mark.start()], closed=mark.group() == _END)
        start, speaker = mark.end(), _SPEAKERS.get(mark.group())
    last = text[start:]
    found.open = speaker == "assistant" and bool(last)
    _add(found, speaker, last, closed=False)
    if not any(message["role"] != "assistant" for message in found.messages):
        raise InvalidRequest("the context holds no turn of a user: an assistant has nothing to answer")
    return found


def joined(messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Make one message of neighbours of the same speaker, with a blank line between them."""
    found: list[dict[str, str]] = []
    for message in messages:
        if found and found[-1]["role"] == message["role"]:
            found[-1] = message | {"content": f"{found[-1]['content']}\n\n{message['content']}"}
        else:
            found.append(message)
    return found


def _add(conversation: Conversation, speaker: Speaker | None, content: str, *, closed: bool) -> None:
    """Add a turn; an empty one only if it was closed, since someone may indeed have said nothing."""
    if content.strip() if speaker is None else content or closed:
        conversation.messages.append({"role": speaker or "user", "content": content})
