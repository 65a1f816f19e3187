"""The conversation of an executor with its model: tool calls, corrections, and at the end a valid result.

Invariants:

- Every turn continues the exact ids of the previous one, so the engine has all of the conversation in its cache.
- A request that fails with a retryable error is sent again from where it began; no tool is called twice because of it.
- Every request is recorded once, interrupted ones too; one that repeats a failed request counts as a retry.
"""

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydantic_core import to_json

from sprint_agents.agents import Executor
from sprint_agents.context import Context
from sprint_agents.dialects.base import ToolOutcome
from sprint_agents.dialects.completions import Result, ToolCall, ToolCalls, Turn
from sprint_agents.errors import InvalidResult, message_of
from sprint_agents.events import ExecutionRetried, ToolCalled, ToolFinished
from sprint_agents.generation import Generation
from sprint_agents.plan import ToolUse
from sprint_agents.retries import may_be_corrected, retry
from sprint_agents.usage import CallUsage

from .assignment import Assignment
from .progress import cut_off
from .session import MeteredCall, Session
from .validation import validate
from .written import emit_executor


@dataclass(slots=True)
class ExecutorConversation:
    """The turns of an executor's model on the branch of an ``assignment``, whose own context begins at ``start``.

    Attributes:
        completion: the model's last completion; ``turn_text`` is its text.
        text: the result in it, without markup.
        uses: the tool calls so far.
        content_tokens: what the model generated, without tags and invalid results.
    """

    session: Session
    executor: Executor[Any]
    assignment: Assignment
    start: Context
    completion: Generation = field(init=False)
    turn_text: str = ""
    text: str = ""
    uses: tuple[ToolUse, ...] = ()
    content_tokens: int = 0
    _call: MeteredCall = field(init=False)
    _attempt: int = 1
    _tool_turns: int = 0
    _repeats: int = 0
    _invalid: InvalidResult | None = None

    async def result(self) -> Any:
        """Let the model take turns until one is a result, and return that as the declared type.

        Raises:
            InvalidResult: the result is invalid; see ``correct``.
            EngineError: a request failed; under ``retry``, more than once.
            BudgetExceeded: the budget has nothing left for the next request.
        """
        failure = self.session.failure
        if self._invalid is not None:
            await self._request_correction(self._invalid)
        while True:
            if failure.mode == "retry":
                generation = await retry(self._complete, attempts=failure.attempts, before_retry=self._count_retry)
            else:
                generation = await self._complete()
            turn = await self._read(generation)
            if isinstance(turn, Result):
                if turn.fault:
                    raise InvalidResult(turn.fault, text=turn.text)
                value = self.executor.read(turn.text, is_json=turn.is_json)
                if self.executor.validator is not None:
                    stage, number = self.assignment.stage, self.assignment.subtask.number
                    await validate(self.session, self.executor, value, turn.text, stage=stage, number=number)
                return value
            await self._answer_calls(turn)

    async def correct(self, invalid: InvalidResult) -> Any:
        """Return a valid result after a first one was ``invalid``, within the executor's ``attempts``.

        Raises:
            InvalidResult: the model gave no valid result.
            EngineError: as ``result`` does.
            BudgetExceeded: as ``result`` does.
        """
        attempts, announce = self.executor.attempts, self._count_retry
        return await retry(self.result, attempts=attempts, when=may_be_corrected, before_retry=announce, after=invalid)

    @property
    def transcript(self) -> str:
        """All that was read and written, or nothing after a single turn, which the planner's context has anyway."""
        return self.assignment.branch.context.text_since(self.start) if self._attempt > 1 or self.uses else ""

    async def _complete(self) -> Generation:
        """Send one request; if it fails, the branch keeps its context."""
        session = self.session
        max_tokens = self.executor.max_tokens or session.limits.execution_tokens
        setting = "Executor(max_tokens=…)" if self.executor.max_tokens else "Limits(execution_tokens=…)"
        schema = session.schema("execution")
        stage, number = self.assignment.stage, self.assignment.subtask.number
        self._call = call = session.call(
            self.assignment.branch,
            "execution",
            max_tokens=max_tokens,
            schema=schema,
            stage=stage,
            number=number,
            begun=self.assignment.begun,
        )
        generation: Generation | None = None
        try:
            async with call as generation:
                self.completion = generation
                listen = partial(emit_executor, session, stage, number, generation) if session.reading else None
                await generation.drain(listen)
        except BaseException:
            if generation is not None:
                self._record(0)
            raise
        self.assignment.diagnostics += cut_off(
            generation, limit=max_tokens, setting=setting, stage=stage, number=number
        )
        return generation

    async def _read(self, generation: Generation) -> Turn:
        """Read a turn and record its cost."""
        assignment = self.assignment
        self.turn_text = generation.text
        turn = self.session.dialect.read_turn(assignment.stage, assignment.subtask.number, self.turn_text)
        own = tokens = generation.tokens
        if isinstance(turn, Result):
            self.text = turn.text
            own = await generation.tokens_between(turn.start, turn.end, known=self.session.known_ends)
        self._record(tokens - own)
        self.content_tokens += own
        return turn

    def _record(self, tag_tokens: int) -> None:
        call = self._call.record(tag_tokens, retries=self._repeats)
        self.assignment.calls += (call,)
        self.assignment.costs += (call.usage,)
        self.assignment.logprobs = self.completion.logprobs
        self._repeats = 0

    def _count_retry(self, _: int, error: BaseException) -> None:
        """Record that the next request repeats one that failed, or whose result was invalid."""
        self._attempt += 1
        self._repeats = 1
        if isinstance(error, InvalidResult):
            self._invalid = error
        self.session.ledger.note_retries()
        self.session.emit(
            ExecutionRetried(
                **self.session.stamp(),
                stage=self.assignment.stage,
                number=self.assignment.subtask.number,
                attempt=self._attempt,
                reason=message_of(error),
            )
        )

    async def _request_correction(self, invalid: InvalidResult) -> None:
        """Tell the model why its last turn is invalid; that turn does not count as content."""
        self._invalid = None
        cost = self.assignment.costs[-1]
        self.content_tokens -= cost.generated_tokens - cost.tag_tokens
        await self._reply(error=invalid.reason)

    async def _answer_calls(self, turn: ToolCalls) -> None:
        """Make the tool calls of a turn at the same time, and tell the model their outcomes.

        Raises:
            InvalidResult: the executor's ``tool_turns`` are used up.
        """
        if self._tool_turns == self.executor.tool_turns:
            self.text = self.turn_text
            used_up = f"all {self._tool_turns} turns that may call tools are used up: give the result"
            raise InvalidResult(used_up, text=self.turn_text)
        self._tool_turns += 1
        first = len(self.uses) + 1
        asks = any(call.tool in self.executor.tools and self.executor.tools[call.tool].approve for call in turn.calls)
        async with self.session.lend_place() if asks else nullcontext():
            uses = await self._use_tools(turn.calls, first)
        self.uses += tuple(uses)
        self.assignment.costs += (CallUsage(tool_calls=len(uses)),)
        await self._reply(outcomes=[ToolOutcome(use.tool, use.text, failed=use.failed) for use in uses])

    async def _use_tools(self, calls: Sequence[ToolCall], first: int) -> list[ToolUse]:
        """Call tools at the same time.

        Raises:
            FunctionError: the function that approves a call has failed, or did not answer.
        """
        if len(calls) == 1:
            return [await self._use_tool(calls[0], first)]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._use_tool(call, index)) for index, call in enumerate(calls, first)]
        except ExceptionGroup as several:
            raise several.exceptions[0] from several.exceptions[0].__cause__
        return [task.result() for task in tasks]

    async def _reply(self, *, error: str = "", outcomes: Sequence[ToolOutcome] = ()) -> None:
        """Append what the model reads before its next turn."""
        dialect, stage, number = self.session.dialect, self.assignment.stage, self.assignment.subtask.number
        reply = dialect.write_feedback("execution", stage, number, self.turn_text, error=error, outcomes=outcomes)
        await self.assignment.branch.append(reply)

    async def _use_tool(self, call: ToolCall, index: int) -> ToolUse:
        """Call one tool, the ``index``-th of the execution; an error is part of the outcome and ends nothing."""
        session, tools = self.session, self.executor.tools
        stage, number, name = self.assignment.stage, self.assignment.subtask.number, call.tool
        started = session.clock.now()
        if session.listening:
            session.emit(
                ToolCalled(
                    run_id=session.run_id,
                    at=started,
                    stage=stage,
                    number=number,
                    call=index,
                    tool=name,
                    arguments=call.arguments,
                )
            )
        if name in tools:
            tool, seconds = tools[name], self.executor.tool_timeout
            outcome = await tool.use(
                call.arguments,
                seconds=seconds,
                threads=session.threads,
                context=session.context(stage, number) if tool.takes_context or tool.approve else None,
                review_seconds=session.limits.review_seconds,
            )
        else:
            choice = f"use one of {', '.join(tools)}" if tools else "there are none, give the result"
            outcome = ToolOutcome(name, to_json(f"there is no tool {name!r}: {choice}").decode(), failed=True)
        ended = session.clock.now()
        use = ToolUse(
            tool=name,
            arguments=call.arguments,
            text=outcome.text,
            failed=outcome.failed,
            refused=outcome.refused,
            started=started,
            seconds=ended - started,
        )
        if session.listening:
            session.emit(
                ToolFinished(
                    run_id=session.run_id,
                    at=ended,
                    stage=stage,
                    number=number,
                    call=index,
                    tool=name,
                    text=use.text,
                    failed=use.failed,
                    seconds=use.seconds,
                )
            )
        return use
