"""Log-probabilities as servers send them: a list of objects in chats, parallel lists in completions."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ValidationError

from sprint_agents.engine import TokenLogprob
from sprint_agents.errors import EngineProtocolError

_ID = "token_id:"
"""Precedes the id of a token, which vLLM writes instead of its text if it is asked to."""
_NUMBERED = re.compile(f"{_ID}[0-9]{{1,18}}")

Weighed = tuple[int | str, float]


class _Alternative(BaseModel):
    token: str
    logprob: float


class _ChatToken(_Alternative):
    top_logprobs: list[_Alternative] | None = None


class _ChatLogprobs(BaseModel):
    content: list[_ChatToken] | None = None


class _CompletionLogprobs(BaseModel):
    token_logprobs: list[float | None]
    top_logprobs: list[Mapping[str, float] | None] | None = None


@dataclass(slots=True)
class ChatLogprobs:
    """Those of one chat, each with at most ``alternatives``; they wait for the chunk with the text of their tokens.

    ``arrived`` once there was one.
    """

    alternatives: int
    arrived: bool = False
    _waiting: list[TokenLogprob] = field(default_factory=list[TokenLogprob])

    def add(self, content: object) -> None:
        """Read the ``logprobs`` of an event.

        Raises:
            EngineProtocolError: they are in another form than OpenAI's.
        """
        try:
            found = _ChatLogprobs.model_validate(content).content or ()
        except ValidationError as error:
            raise _unreadable(content) from error
        for each in found:
            top = [(one.token, one.logprob) for one in each.top_logprobs or ()]
            self._waiting.append(TokenLogprob(each.token, each.logprob, _best(top, self.alternatives)))
            self.arrived = True

    def take(self, *, without: int = 0) -> Sequence[TokenLogprob]:
        """Return those that have arrived, without the tokens of the last ``without`` characters."""
        taken, self._waiting = self._waiting, []
        while taken and without >= len(str(taken[-1].token)):
            without -= len(str(taken.pop().token))
        return taken


def completion_logprobs(content: object, ids: Sequence[int], *, alternatives: int) -> list[TokenLogprob]:
    """Read the ``logprobs`` of an event with these token ids; alternatives are texts where the server tells no ids.

    Raises:
        EngineProtocolError: they are in another form than OpenAI's, or not those of the ids.
    """
    try:
        found = _CompletionLogprobs.model_validate(content)
    except ValidationError as error:
        raise _unreadable(content) from error
    if len(found.token_logprobs) != len(ids):
        raise EngineProtocolError(
            f"the server sent {len(found.token_logprobs)} log-probabilities with {len(ids)} tokens"
        )
    tops = found.top_logprobs or [None] * len(ids)
    return [
        TokenLogprob(
            token, value or 0.0, _best([(_token(text), one) for text, one in (top or {}).items()], alternatives)
        )
        for token, value, top in zip(ids, found.token_logprobs, tops, strict=True)
    ]


def _best(alternatives: Sequence[Weighed], count: int) -> tuple[Weighed, ...]:
    """Return the most likely ones; servers return more than they are asked for, or in another order."""
    return tuple(sorted(alternatives, key=lambda one: -one[1])[:count])


def _token(text: str) -> int | str:
    return int(text.removeprefix(_ID)) if _NUMBERED.fullmatch(text) else text


def _unreadable(content: object) -> EngineProtocolError:
    return EngineProtocolError(
        f"the server sent log-probabilities in a form that is not OpenAI's: {str(content)[:200]}"
    )
