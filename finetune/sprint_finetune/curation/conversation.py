"""Ask a model for JSON in a conversation."""

from dataclasses import dataclass, field

from pydantic import BaseModel

from sprint_agents.dialects import turns_of_engine
from sprint_agents.engine import Engine, Sampling
from sprint_agents.markup import PromptText, compose, markup
from sprint_agents.state import State

from .model_calls import ModelCalls


@dataclass(slots=True)
class JSONConversation:
    """The conversation with one model. Answers follow the JSON schema of ``form`` if the engine can constrain them."""

    engine: Engine
    form: type[BaseModel]
    max_tokens: int
    sampling: Sampling
    calls: ModelCalls
    _state: State = field(init=False)
    _turns: int = 0

    def __post_init__(self) -> None:
        self._state = State(self.engine, sampling=self.sampling)

    async def ask(self, words: str) -> str:
        """Send ``words`` to the model and return the text of its answer.

        Raises:
            BudgetExceeded: the budget has no room for another question.
            EngineError: the engine failed permanently, or too often.
        """
        await self._state.append(self._framed(words))
        turns = turns_of_engine(self.engine)
        thoughts = turns.thoughts if turns else "none"
        text = await self.calls.ask(self._state, self.form, max_tokens=self.max_tokens, thoughts=thoughts)
        self._turns += 1
        return text

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
        return compose([before, words.strip(), turns.close("user"), turns.open("assistant")])


def _rest(text: str, close: str) -> PromptText:
    """Return the rest of the mark that closes a turn: the model may already have written its beginning."""
    for size in range(min(len(close), len(text)), 0, -1):
        if text.endswith(close[:size]):
            return markup(close[size:])
    return markup(close)
