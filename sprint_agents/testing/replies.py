"""Scripted replies of the fake engine: texts, sequences, functions and faults, and where a completion ends."""

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from math import log
from typing import Any, Literal, NamedTuple, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from sprint_agents.arguments import at_least, check_argument
from sprint_agents.context import Context
from sprint_agents.dialects.tags.format import load_tags
from sprint_agents.engine import Request, TokenLogprob
from sprint_agents.errors import ConfigurationError, EngineError, EngineRejected

from .tokenizer import END_ID, WordTokenizer

_LEAST_PROBABILITY = 1e-9
_NOISE = (" lorem", " ipsum", "\n", " 7", ">", "{", '"', "\\boxed{", "1.2", "\u00e9", "\u2211", " ", "-----")


class Fault(BaseModel):
    """A failure of one request after ``after`` tokens of its completion have been sent.

    A fault always happens. If the completion is shorter than ``after``, the fault happens at its end, before the reader
    receives the finish. A ``cause`` of None is a lost connection; ``tokens`` and ``seed`` belong to garbage.

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
        """Raise ``cause``, an engine error; every time the same instance."""
        return cls(kind="error", cause=cause, after=after)

    @classmethod
    def drop(cls, *, after: int = 0) -> Self:
        """Lose the connection: raise EngineUnavailable, which may be retried."""
        return cls(kind="error", after=after)

    @classmethod
    def hang(cls, *, after: int = 0) -> Self:
        """Send nothing more until the request is aborted or its reader is cancelled."""
        return cls(kind="hang", after=after)

    @classmethod
    def garbage(cls, *, tokens: int = 40, seed: int = 0, after: int = 0) -> Self:
        """Continue with about ``tokens`` tokens of noise and stray tags, which depend on ``seed`` only."""
        return cls(kind="garbage", tokens=tokens, seed=seed, after=after)

    def noise(self) -> str:
        """Draw the text of a garbage fault."""
        pieces = (*_NOISE, *load_tags().special_tokens)
        return "".join(random.Random(self.seed).choices(pieces, k=self.tokens))  # noqa: S311


@dataclass(frozen=True, slots=True)
class Reply:
    """The text of a completion, with a delay in seconds beyond the engine's latency, and a fault.

    ``probability`` is that of each token, for requests that ask for log-probabilities: one for all tokens or one for
    each, of which the last one holds for the tokens that follow. The alternatives share the rest.

    >>> Reply("42", delay=0.5, fault=Fault.hang(after=1)).text
    '42'
    """

    text: str
    _: KW_ONLY
    delay: float = 0.0
    fault: Fault | None = None
    probability: float | Sequence[float] = 1.0

    def __post_init__(self) -> None:
        check_argument("text of a Reply", self.text, str)
        check_argument("delay= of a Reply", self.delay, float)
        if self.fault is not None:
            check_argument("fault= of a Reply", self.fault, Fault | None)
        at_least(0, delay=self.delay)
        if type(self.probability) is not float or self.probability != 1.0:  # the default needs no check
            check_argument("probability= of a Reply", self.probability, float | Sequence[float])
            given = [self.probability] if isinstance(self.probability, float | int) else self.probability
            if not given or not all(0 < each <= 1 for each in given):
                raise ConfigurationError(
                    f"probability= of a Reply is {self.probability}: give numbers above 0, 1 at most"
                )

    def probability_of(self, token: int) -> float:
        """Return the probability of the token at this index."""
        given = self.probability
        return given if isinstance(given, float | int) else given[min(token, len(given) - 1)]


class Prompt:
    """The argument of a reply function: the ``request``, and its ``number`` from 1 in order of arrival.

    Reading ``text`` decodes the whole context; ``tail`` decodes only the end of it.
    """

    __slots__ = ("_text", "_tokenizer", "number", "request")

    def __init__(self, request: Request, *, number: int, tokenizer: WordTokenizer) -> None:
        self.request = request
        self.number = number
        self._tokenizer = tokenizer
        self._text: str | None = None

    @property
    def ids(self) -> list[int]:
        """The token ids of the context."""
        return self.request.context.flatten()

    @property
    def text(self) -> str:
        """The text that the model reads: that of the context's ids."""
        if self._text is None:
            self._text = self._tokenizer.decode(self.ids)
        return self._text

    def tail(self, characters: int) -> str:
        """Return the last ``characters`` of ``text``."""
        pieces: list[str] = []
        missing = characters
        context: Context | None = self.request.context
        while context is not None and missing > 0:
            piece = self._tokenizer.own_text(context)
            pieces.append(piece[-missing:])
            missing -= len(piece)
            context = context.parent
        return "".join(reversed(pieces))


Respond: TypeAlias = Callable[[Prompt], "str | Reply | Awaitable[str | Reply]"]
"""A function that answers a request; it may be async."""
Replies: TypeAlias = "str | Reply | Sequence[Replies] | Mapping[str, Replies] | Respond"
"""Everything that ``FakeEngine`` accepts as replies."""


def responder(replies: Replies) -> Respond:
    """Turn replies of any form into a function.

    Raises:
        ConfigurationError: they are of no such form.
    """
    if isinstance(replies, str | Reply):
        reply = Reply(replies) if isinstance(replies, str) else replies
        return lambda prompt: reply
    if callable(replies):
        check_argument("a reply function", replies, Respond)
        return replies
    if isinstance(replies, Mapping):
        check_argument("replies", replies, Mapping[str, Any])
        return _by_key({key: responder(value) for key, value in replies.items()})
    if not isinstance(replies, Sequence) or isinstance(replies, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
        kind = type(replies).__name__
        raise ConfigurationError(f"replies are of type {kind}: pass a text, a Reply, a function, a list or a dict")
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
        # Contexts grow, so the key that occurs last belongs to this request; of two that end together, the longer.
        ends = [(text.rfind(key) + len(key) if key else 0, len(key), key) for key in table if key in text]
        if not ends:
            raise EngineRejected(
                f"no reply for request {prompt.number}: none of {list(table)!r} occurs in its context, "
                f"which ends in {prompt.tail(80)!r}. Add a key, or '' for all others"
            )
        return table[max(ends)[2]](prompt)

    return respond


class ScriptedCompletion(NamedTuple):
    """All ids that a request is sent, and why they end there (see ``Finish``)."""

    ids: tuple[int, ...]
    reason: Literal["stop", "length"]
    matched: int | str | None

    def logprobs(self, request: Request, reply: Reply, *, tokenizer: WordTokenizer) -> tuple[TokenLogprob, ...]:
        """Return the log-probabilities that ``reply`` gives the ids; nothing if ``request`` does not ask for them."""
        count = request.sampling.logprobs
        if count is None:
            return ()
        others = [tokenizer.encode(f"other{number}")[0] for number in range(1, count)]
        found: list[TokenLogprob] = []
        for index, token in enumerate(self.ids, request.written):
            own = reply.probability_of(index)
            rest = log(max(1 - own, _LEAST_PROBABILITY) / max(len(others), 1))
            top = sorted([(token, log(own)), *((other, rest) for other in others)], key=lambda one: -one[1])
            found.append(TokenLogprob(token, log(own), tuple(top[:count])))
        return tuple(found)


def cut(ids: Sequence[int], request: Request, *, max_tokens: int, tokenizer: WordTokenizer) -> ScriptedCompletion:
    """End ``ids`` after the first stop of ``request``, the end token at the latest, or after ``max_tokens`` tokens.

    Stops are kept, a stop text with all of the token that completes it. If a stop id and a stop text end together,
    ``matched`` is the id. If the request continues a completion, what was written before is left out.
    """
    ended = (*ids, END_ID)
    if request.stop_ids.isdisjoint(ended):
        length, matched = ended.index(END_ID) + 1, END_ID
    else:
        length, matched = next((n, it) for n, it in enumerate(ended, 1) if it in request.stop_ids or it == END_ID)
    for stop in request.stop_texts:
        at = tokenizer.decode(ended[:length]).find(stop)
        if at >= 0 and (count := _tokens_over(ended, at + len(stop), tokenizer)) < length:
            length, matched = count, stop
    written = request.written
    if length > written + max_tokens:
        return ScriptedCompletion(ended[written : written + max_tokens], "length", None)
    return ScriptedCompletion(ended[written:length], "stop", matched)


def _tokens_over(ids: Sequence[int], characters: int, tokenizer: WordTokenizer) -> int:
    """Count the leading ``ids`` whose text it takes to cover ``characters``."""
    count = 0
    while characters > 0:
        characters -= len(tokenizer.decode(ids[count : count + 1]))
        count += 1
    return count
