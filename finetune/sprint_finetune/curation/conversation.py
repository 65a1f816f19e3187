"""Ask a model for JSON in a conversation, and read its answers."""

import json
import re
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from sprint_agents.dialects import turns_of_engine
from sprint_agents.engine import Engine, Sampling
from sprint_agents.retries import retry
from sprint_agents.state import State

from .dag import ExtractionFault

AnswerT = TypeVar("AnswerT", bound=BaseModel)

_ATTEMPTS = 4
_DECODER = json.JSONDecoder()
_HIDDEN = re.compile(r"<think>.*?</think>", re.DOTALL)


@dataclass(slots=True)
class JSONConversation:
    """The conversation with one model.

    Answers follow the JSON schema of ``form`` if the engine can constrain them. Temporary failures of the engine are
    retried from the same context.
    """

    engine: Engine
    form: type[BaseModel]
    max_tokens: int
    sampling: Sampling
    _state: State = field(init=False)
    _turns: int = 0

    def __post_init__(self) -> None:
        self._state = State(self.engine, sampling=self.sampling)

    async def ask(self, words: str) -> str:
        """Send ``words`` to the model and return the text of its answer.

        Raises:
            EngineError: the engine failed permanently, or too often.
        """
        await self._state.append(self._framed(words))
        schema = json.dumps(self.form.model_json_schema()) if self.engine.capabilities.schemas else None
        generation = await retry(
            lambda: self._state.generate(max_tokens=self.max_tokens, schema=schema), attempts=_ATTEMPTS
        )
        self._turns += 1
        return generation.text

    def _framed(self, words: str) -> str:
        """Write the user's words between the end of the previous turn and the start of the model's turn.

        An engine without chat turns gets plain paragraphs.
        """
        turns = turns_of_engine(self.engine)
        if turns is None:
            return f"{words.strip()}\n\n" if self._turns == 0 else f"\n\n{words.strip()}\n\n"
        if self._turns == 0:
            before = turns.open("user", after="nothing")
        else:
            before = _rest(self._state.context.text, turns.close("assistant")) + turns.open("user")
        return f"{before}{words.strip()}{turns.close('user')}{turns.open('assistant')}"


def read_json(text: str, form: type[AnswerT]) -> AnswerT | ExtractionFault:
    r"""Read a model's answer: the last JSON object in it that matches the form, regardless of the text around it.

    >>> class Sum(BaseModel):
    ...     total: int
    >>> read_json('Sure!\n```json\n{"total": 3}\n```', Sum), read_json("It is 3.", Sum).reason
    (Sum(total=3), 'not_json')
    """
    found = ExtractionFault("not_json", "there is no JSON object in the answer")
    position = 0
    visible = _HIDDEN.sub("", text)
    best: AnswerT | None = None
    while (start := visible.find("{", position)) >= 0:
        try:
            _, position = _DECODER.raw_decode(visible, start)
        except (ValueError, RecursionError) as error:
            if best is None and found.detail.startswith("there"):
                found = ExtractionFault("not_json", f"the JSON in the answer cannot be read: {error}")
            position = start + 1
            continue
        try:
            # The text again, since pydantic's reader refuses what the standard library's accepts and UTF-8 cannot hold.
            best = form.model_validate_json(visible[start:position])
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            found = ExtractionFault("wrong_shape", f"at {place or 'the top'}: {first['msg']}")
    return found if best is None else best


def _rest(text: str, close: str) -> str:
    """Return the rest of the mark that closes a turn: the model may already have written its beginning."""
    for size in range(min(len(close), len(text)), 0, -1):
        if text.endswith(close[:size]):
            return close[size:]
    return close
