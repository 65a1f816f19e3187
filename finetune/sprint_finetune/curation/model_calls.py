"""Questions to a model that may cost money: each is sent at a pace, within a budget, and once.

A question waits for the budget first and for the pace last, so that whatever passed the pace is sent at once. A request
that the server refuses for now passes the pace again. Its ``Retry-After`` pauses all requests, because they share the
provider's limits.
"""

import json
from dataclasses import dataclass, field
from math import ceil

from pydantic import BaseModel

from sprint_agents.engine import Chunk, Finish, Thoughts
from sprint_agents.errors import EngineError, EngineOverloaded
from sprint_agents.generation import Generation
from sprint_agents.retries import may_succeed_later, retry
from sprint_agents.state import State

from .answer_record import AnswerRecord, KeptAnswer, question_id
from .pace import Pace
from .spending import CallTokens, Spending

SHORTEST_TOKEN = 1.5
"""Characters per token that a reservation assumes. 170 numbered chains of a 7B model had 1.8 to 4.3 (SmolLM2's)."""

_ATTEMPTS = 8
"""How often a question is sent whose request breaks, over about 13 seconds."""


@dataclass(slots=True, kw_only=True)
class ModelCalls:
    """The questions of one extractor, to any engine.

    ``patience`` is for how many seconds a question is sent again that the server refuses for now (status 429, 503).
    """

    record: AnswerRecord | None = None
    pace: Pace = field(default_factory=Pace)
    spending: Spending = field(default_factory=Spending)
    patience: float = 900.0

    def __post_init__(self) -> None:
        if self.record:
            self.record.charge(self.spending)

    async def ask(self, state: State, form: type[BaseModel], *, max_tokens: int, thoughts: Thoughts) -> str:
        """Complete the context of ``state`` with an answer in ``form``, and return its text.

        A recorded answer is used instead of a request. Engines with schemas constrain the answer, but
        not its ``thoughts``.

        Raises:
            BudgetExceeded: the budget has no room for another question.
            EngineError: the engine failed permanently, or too often.
        """
        engine = state.engine
        schema = json.dumps(form.model_json_schema()) if engine.capabilities.schemas else None
        question = question_id(
            engine.name, state.context.text, sampling=state.sampling, max_tokens=max_tokens, schema=schema
        )
        if self.record and (known := self.record.get(question)):
            return await _replay(state, known)
        most = CallTokens(ceil(len(state.context.text) / SHORTEST_TOKEN), max_tokens)
        async with self.spending.reserved(engine.name, most):
            generation, counts = await self._send(state, most, schema, thoughts)
            self.spending.spend(engine.name, counts)
            if self.record:
                ids = None if generation.ids == [*map(ord, generation.text)] else tuple(generation.ids)
                answer = KeptAnswer(id=question, model=engine.name, text=generation.text, counts=counts, ids=ids)
                await self.record.keep(answer)
        return generation.text

    async def _send(
        self, state: State, most: CallTokens, schema: str | None, thoughts: Thoughts
    ) -> tuple[Generation, CallTokens]:
        async def once() -> tuple[Generation, CallTokens]:
            passage = await self.pace.enter(tokens=most.total)
            async with state.stream(max_tokens=most.completion, schema=schema, thoughts=thoughts) as generation:
                await generation.drain()
            counts = CallTokens(generation.prompt_tokens, generation.tokens, generation.cached_tokens)
            self.pace.correct(passage, tokens=counts.total)
            return generation, counts

        def pause(_: int, error: BaseException) -> None:
            if isinstance(error, EngineOverloaded) and error.retry_after is not None:
                self.pace.pause(error.retry_after)

        async def sent() -> tuple[Generation, CallTokens]:
            return await retry(once, patience=self.patience, when=_refused_for_now, before_retry=pause)

        return await retry(sent, attempts=_ATTEMPTS, when=lambda error: not _refused_for_now(error) and _broken(error))


def _refused_for_now(error: BaseException) -> bool:
    return isinstance(error, EngineOverloaded)


def _broken(error: BaseException) -> bool:
    return isinstance(error, EngineError) and may_succeed_later(error)


async def _replay(state: State, known: KeptAnswer) -> str:
    """Append a recorded answer to the context, as the ids that the model wrote."""
    ids = known.ids if known.ids is not None else [*map(ord, known.text)]
    finish = Finish("stop", None, known.counts.prompt, known.counts.cached)
    async with state.replay([Chunk(ids, known.text, finish)]) as generation:
        await generation.drain()
    return known.text
