"""What the fake engine answers: texts, scripts, functions, and the faults that spoil them."""

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from sprint_agents.context import Context
from sprint_agents.dialects.tags.format import load_tags
from sprint_agents.engine import Request
from sprint_agents.errors import EngineError, EngineRejected

from .tokens import WordTokenizer

_NOISE = (" lorem", " ipsum", "\n", " 7", ">", "{", '"', "\\boxed{", "1.2", "\u00e9", "\u2211", " ", "-----")


class Fault(BaseModel):
    """Something that goes wrong with one request once ``after`` tokens of its completion have been sent.

    A fault always strikes: if the completion is shorter than ``after``, then at its end, before the reader is told
    that it ended. ``cause`` None stands for a lost connection; ``tokens`` and ``seed`` are those of garbage.

    >>> Fault.drop(after=3).after
    3
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    kind: Literal["error", "hang", "garbage"]
    after: int = Field(default=0, ge=0)
    cause: EngineError | None = None
    tokens: int = Field(default=0, ge=0)
    seed: int = 0

    @classmethod
    def error(cls, cause: EngineError, *, after: int = 0) -> Self:
        """Fail with ``cause``, any error of the engine part of the tree; every time with this one instance."""
        return cls(kind="error", cause=cause, after=after)

    @classmethod
    def drop(cls, *, after: int = 0) -> Self:
        """Lose the connection: EngineUnavailable, which is worth a retry."""
        return cls(kind="error", after=after)

    @classmethod
    def hang(cls, *, after: int = 0) -> Self:
        """Send nothing more until the request is aborted or its reader cancelled."""
        return cls(kind="hang", after=after)

    @classmethod
    def garbage(cls, *, tokens: int = 40, seed: int = 0, after: int = 0) -> Self:
        """Go on with about ``tokens`` tokens of noise and stray tags, the same for the same ``seed``."""
        return cls(kind="garbage", tokens=tokens, seed=seed, after=after)

    def noise(self) -> str:
        """Draw the text of a garbage fault."""
        pieces = (*_NOISE, *load_tags().special_tokens)
        return "".join(random.Random(self.seed).choices(pieces, k=self.tokens))  # noqa: S311


@dataclass(frozen=True, slots=True)
class Reply:
    """A completion: its text, how many seconds it takes beyond the engine's latency, and what goes wrong.

    >>> Reply("42", delay=0.5, fault=Fault.hang(after=1)).text
    '42'
    """

    text: str
    _: KW_ONLY
    delay: float = 0.0
    fault: Fault | None = None


class Prompt:
    """One request as a reply function sees it: the engine's ``request``, and its ``number``, from 1 by arrival.

    Reading ``text`` costs the whole context; ``tail`` only what it returns.
    """

    __slots__ = ("_text", "_tokenizer", "number", "request")

    def __init__(self, request: Request, *, number: int, tokenizer: WordTokenizer) -> None:
        self.request = request
        self.number = number
        self._tokenizer = tokenizer
        self._text: str | None = None

    @property
    def ids(self) -> list[int]:
        """The context's token ids."""
        return self.request.context.flatten()

    @property
    def text(self) -> str:
        """What the model reads: the text of the context's ids."""
        if self._text is None:
            self._text = self._tokenizer.decode(self.ids)
        return self._text

    def tail(self, characters: int) -> str:
        """Return the last ``characters`` of ``text``."""
        pieces: list[str] = []
        missing = characters
        context: Context | None = self.request.context
        while context is not None and missing > 0:
            piece = self._tokenizer.decode(context.own_ids)
            pieces.append(piece[-missing:])
            missing -= len(piece)
            context = context.parent
        return "".join(reversed(pieces))


Respond: TypeAlias = Callable[[Prompt], "str | Reply | Awaitable[str | Reply]"]
"""A function that answers a request; it may be async."""
Replies: TypeAlias = "str | Reply | Sequence[Replies] | Mapping[str, Replies] | Respond"
"""All that ``FakeEngine`` can answer from."""


def responder(replies: Replies) -> Respond:
    """Turn any form of replies into a function."""
    if isinstance(replies, str | Reply):
        reply = Reply(replies) if isinstance(replies, str) else replies
        return lambda prompt: reply
    if callable(replies):
        return replies
    if isinstance(replies, Mapping):
        return _by_key({key: responder(value) for key, value in replies.items()})
    return _in_order([responder(value) for value in replies])


def _in_order(script: Sequence[Respond]) -> Respond:
    rest = iter(script)

    def respond(prompt: Prompt) -> str | Reply | Awaitable[str | Reply]:
        following = next(rest, None)
        if following is None:
            raise EngineRejected(
                f"the script of {len(script)} replies is used up, and request {prompt.number} asks for one more, "
                f"after {prompt.tail(80)!r}"
            )
        return following(prompt)

    return respond


def _by_key(table: Mapping[str, Respond]) -> Respond:
    def respond(prompt: Prompt) -> str | Reply | Awaitable[str | Reply]:
        text = prompt.text
        # Contexts grow, so the key that occurs last is what is asked now; of two that end together, the longer.
        ends = [(text.rfind(key) + len(key) if key else 0, len(key), key) for key in table if key in text]
        if not ends:
            raise EngineRejected(
                f"no reply for request {prompt.number}: none of {list(table)!r} occurs in its context, "
                f"which ends in {prompt.tail(80)!r}. Add a key, or '' for all others"
            )
        return table[max(ends)[2]](prompt)

    return respond
