"""One executor's turns: calls of tools, corrections, and in the end a result of the declared type.

Invariants:

- Every turn goes on from the very ids of the turn before, so all that was read and written is in the engine's cache.
- A request that fails for a passing trouble is sent again from where it began; no tool is called twice for it.
- Each request is booked once, broken-off ones too; one that stands in for another counts as a retry.
"""

from collections.abc import Callable
from typing import Any

from sprint_agents.agents import Executor
from sprint_agents.context import Context
from sprint_agents.dialects.completions import Result, ToolCalls, Turn
from sprint_agents.dialects.prompts import ToolOutcome
from sprint_agents.engine import Chunk
from sprint_agents.errors import InvalidResult
from sprint_agents.events import ExecutionRetried, ExecutorWrote
from sprint_agents.generation import Generation
from sprint_agents.plan import Subtask, ToolUse
from sprint_agents.retries import may_be_corrected, retry
from sprint_agents.state import State
from sprint_agents.usage import CallUsage

from .session import Session, usage_of
from .tool_loop import use_tools


class Turns:
    """The turns of an ``executor`` on ``branch``, which stands where its own words begin.

    With the result, ``text`` is its own words, ``last`` the completion that they were a part of, ``written`` the text
    of that, ``uses`` the calls of tools, and ``content_tokens`` what counts: not tags, not what did not validate.
    """

    __slots__ = (
        "_attempt",
        "_branch",
        "_costs",
        "_executor",
        "_repeats",
        "_session",
        "_stage",
        "_subtask",
        "_tool_turns",
        "_wrong",
        "content_tokens",
        "last",
        "text",
        "uses",
        "written",
    )

    last: Generation

    def __init__(
        self,
        session: Session,
        executor: Executor[Any],
        branch: State,
        subtask: Subtask,
        stage: int,
        costs: list[CallUsage],
    ) -> None:
        self._session = session
        self._executor = executor
        self._branch = branch
        self._subtask = subtask
        self._stage = stage
        self._costs = costs
        self._attempt = 1
        self._repeats = 0
        self._tool_turns = 0
        self._wrong: InvalidResult | None = None
        self.text = self.written = ""
        self.uses: tuple[ToolUse, ...] = ()
        self.content_tokens = 0

    async def take(self) -> Any:
        """Let the model take turns until one is a result, and return that as the declared type.

        Raises:
            InvalidResult: it is none; see ``correct``.
            EngineError: a request failed, under ``retry`` more than once.
            BudgetExceeded: nothing is left for the next request.
        """
        session = self._session
        if self._wrong is not None:
            await self._note(self._wrong)
        while True:
            if session.failure.mode == "retry":
                attempts = session.failure.attempts
                generation = await retry(self._complete, attempts=attempts, before_retry=self._again)
            else:
                generation = await self._complete()
            turn = self._read(generation)
            if isinstance(turn, Result):
                return self._executor.read(turn.text, is_json=turn.is_json)
            await self._use(turn)

    async def correct(self, wrong: InvalidResult) -> Any:
        """Have the model take more turns, as often as the executor has attempts, until its result is valid.

        Raises:
            InvalidResult: it gave none.
            EngineError: as ``take`` does, which made the first attempt.
            BudgetExceeded: as ``take`` does.
        """
        attempts = self._executor.attempts
        return await retry(self.take, attempts=attempts, when=may_be_corrected, before_retry=self._again, after=wrong)

    def transcript(self, start: Context) -> str:
        """Return all that was read and written after ``start``, if that was more than one turn."""
        return self._branch.context.text_since(start) if self._attempt > 1 or self.uses else ""

    async def _complete(self) -> Generation:
        """Send one request; where it breaks off, the branch stays where it was."""
        session = self._session
        generation: Generation | None = None
        try:
            async with session.call(
                self._branch,
                max_tokens=self._executor.max_tokens or session.limits.execution_tokens,
                stops=session.stops.execution,
                schema=session.schema("execution"),
                may_call=True,
            ) as generation:
                if session.listening:
                    await generation.drain(self._heard(generation))
                else:
                    await generation.drain()
        except BaseException:
            if generation is not None:
                self._book(generation, 0)
            raise
        return generation

    def _heard(self, generation: Generation) -> Callable[[Chunk], None]:
        stage, number = self._stage, self._subtask.number

        def hear(chunk: Chunk) -> None:
            tokens = generation.tokens
            self._session.emit(ExecutorWrote(stage=stage, number=number, text=chunk.text, tokens=tokens))

        return hear

    def _read(self, generation: Generation) -> Turn:
        """Read a turn and book it."""
        self.last = generation
        self.written = written = generation.text
        turn = self._session.dialect.read_turn(self._stage, self._subtask.number, written)
        own = tokens = generation.tokens
        if isinstance(turn, Result):
            self.text = turn.text
            own = generation.tokens_before(turn.end) - (generation.tokens_before(turn.start) if turn.start else 0)
        self._book(generation, tokens - own)
        self.content_tokens += own
        return turn

    def _book(self, generation: Generation, tag_tokens: int) -> None:
        self._costs.append(usage_of(generation, tag_tokens, retries=self._repeats))
        self._repeats = 0

    def _again(self, _: int, error: BaseException) -> None:
        """Take note that the next request stands in for one that came to nothing."""
        self._attempt += 1
        self._repeats = 1
        if isinstance(error, InvalidResult):
            self._wrong = error
        self._session.ledger.note_retry()
        self._session.emit(
            ExecutionRetried(stage=self._stage, number=self._subtask.number, attempt=self._attempt, reason=str(error))
        )

    async def _note(self, wrong: InvalidResult) -> None:
        """Tell the model what is wrong with its last turn, which does not count as its work."""
        self._wrong = None
        turn = self._costs[-1]
        self.content_tokens -= turn.generated_tokens - turn.tag_tokens
        dialect, number = self._session.dialect, self._subtask.number
        note = dialect.write_feedback("execution", self._stage, number, self.written, error=wrong.reason)
        await self._branch.append(note)

    async def _use(self, turn: ToolCalls) -> None:
        """Make the calls that a turn asks for, and tell the model what became of them.

        Raises:
            InvalidResult: it may ask for no more.
        """
        executor, number, written = self._executor, self._subtask.number, self.written
        if self._tool_turns == executor.tool_turns:
            self.text = written
            used_up = f"all {executor.tool_turns} turns that may call tools are used up: give the result"
            raise InvalidResult(used_up, text=written)
        self._tool_turns += 1
        uses = await use_tools(
            self._session, executor, turn.calls, stage=self._stage, number=number, first=len(self.uses) + 1
        )
        self.uses += tuple(uses)
        self._costs.append(CallUsage(tool_calls=len(uses)))
        outcomes = [ToolOutcome(use.tool, use.text, failed=use.failed) for use in uses]
        dialect = self._session.dialect
        await self._branch.append(dialect.write_feedback("execution", self._stage, number, written, outcomes=outcomes))
