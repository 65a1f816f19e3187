"""Run one stage: the planner's words or a policy's plan, its executions at the same time, and their join.

Invariants:

- An executor starts the moment its prompt closes, on the planner's own tokens up to there.
- The join appends the executions in prompt order as the ids that the executors produced.
- After an error or a cancellation nothing of the stage runs on, and the planner's state is where the stage began.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sprint_agents import metrics
from sprint_agents.context import Context
from sprint_agents.dialect.answers import answer_value
from sprint_agents.dialect.diagnostics import Diagnostic
from sprint_agents.dialect.items import Item, PromptClosed
from sprint_agents.dialect.protocol import Reader
from sprint_agents.dialect.tags import closing
from sprint_agents.errors import PolicyError
from sprint_agents.events import PlannerWrote, StageStarted
from sprint_agents.plan import Ask, Plan, Stage, Subtask
from sprint_agents.state import Fork, Generation, State
from sprint_agents.usage import CallUsage, StageUsage

from .execution import Executed, execute
from .session import Session, usage_of
from .trunk import Trunk


@dataclass(frozen=True, slots=True)
class _Dispatch:
    """A subtask under way; the token counts are the planner's up to the end of its prompt."""

    task: asyncio.Task[Executed]
    content_tokens: int
    all_tokens: int


async def run_stage(session: Session, planner: State, step: Plan | Ask, *, number: int) -> Stage[Any]:
    """Run stage ``number`` and leave ``planner`` behind its join.

    Raises:
        EngineError: the planner's own request failed.
        BudgetExceeded: nothing is left for the planner.
        ExecutionFailed: a subtask failed under ``fail_fast``.
    """
    start = planner.context
    if session.listening:
        session.emit(StageStarted(stage=number))
    try:
        if isinstance(step, Plan):
            return await _given_plan(session, planner, step, number)
        if step.form == "plan":
            return await _written_plan(session, planner, number)
        return await _written_end(session, planner, number, step.form)
    except BaseException:
        planner.context = start
        raise


async def _written_plan(session: Session, planner: State, number: int) -> Stage[Any]:
    """Let the model write a plan, or its answer; subtasks start while it writes."""
    reader = session.dialect.reader(number, "plan")
    tag_tokens = _TagTokens(reader)
    dispatched: list[_Dispatch] = []
    await planner.append(session.dialect.opening(number, "plan"))
    trunk = Trunk(session, planner, cached=len(planner.context))

    async def dispatch(items: Sequence[Item]) -> None:
        for item in items:
            if isinstance(item, PromptClosed):
                context = await generation.cut(item.end)
                before = generation.tokens_before(item.end)
                subtask = Subtask(number=item.number, prompt=item.prompt)
                task = await _dispatch(session, fork, trunk, context, subtask, number, rest=item.rest)
                dispatched.append(_Dispatch(task, before - tag_tokens.before(generation, item.end), before))

    max_tokens = session.planner.max_tokens or session.limits.plan_tokens
    async with planner.fork() as fork:
        async with session.call(planner, max_tokens=max_tokens, stops=session.stops.plan) as generation:
            async for chunk in generation:
                _heard(session, generation, chunk.text, number)
                await dispatch(reader.feed(chunk.text))
        trunk.end()
        # A prompt that the plan's end cuts short is certain only now.
        await dispatch(reader.close())
        executed: list[Executed] = await fork.gather()
    if reader.answer is None and reader.plan is not None:
        await _join(session, planner, number, executed, written=generation.text)
    elif reader.answer is None:
        await planner.append(session.dialect.ending("plan", generation.text))
    return _stage(
        number,
        reader.plan or "",
        executed,
        dispatched,
        usage_of(generation, tag_tokens.before(generation, generation.length)),
        commits=trunk.costs,
        answer=None if reader.answer is None else answer_value(reader.answer),
        diagnostics=reader.diagnostics,
    )


async def _given_plan(session: Session, planner: State, plan: Plan, number: int) -> Stage[Any]:
    """Write a policy's plan into the context as the planner would have, and run it."""
    _check_numbers(plan, number)
    pieces = session.dialect.given(number, plan.text, [subtask.prompt for subtask in plan.subtasks])
    dispatched: list[_Dispatch] = []
    trunk = Trunk(session, planner, cached=0)
    if len(plan.subtasks) == 1:
        trunk.end()  # nobody to share it with
    async with planner.fork() as fork:
        for subtask, piece in zip(plan.subtasks, pieces, strict=False):
            await planner.append(piece)
            task = await _dispatch(session, fork, trunk, planner.context, subtask, number)
            dispatched.append(_Dispatch(task, 0, 0))
        await planner.append(pieces[-1])
        executed: list[Executed] = await fork.gather()
    await _join(session, planner, number, executed, written=pieces[-1])
    return _stage(number, plan.text, executed, dispatched, CallUsage(), commits=trunk.costs)


async def _written_end(session: Session, planner: State, number: int, form: Literal["chain", "answer"]) -> Stage[Any]:
    """Let the model write one sequential chain up to its answer, or only the answer."""
    dialect, limits = session.dialect, session.limits
    cap = limits.chain_tokens if form == "chain" else limits.answer_tokens
    reader = dialect.reader(number, form)
    await planner.append(dialect.opening(number, form))
    async with session.call(planner, max_tokens=cap, stops=session.stops.answer) as generation:
        async for chunk in generation:
            _heard(session, generation, chunk.text, number)
            reader.feed(chunk.text)
    reader.close()
    if reader.answer is None:
        await planner.append(dialect.ending(form, generation.text))
    return _stage(
        number,
        reader.chain or "",
        [],
        [],
        usage_of(generation, _TagTokens(reader).before(generation, generation.length)),
        answer=None if reader.answer is None else answer_value(reader.answer),
        diagnostics=reader.diagnostics,
    )


async def _dispatch(
    session: Session, fork: Fork, trunk: Trunk, context: Context, subtask: Subtask, stage: int, *, rest: str = ""
) -> asyncio.Task[Executed]:
    branch = fork.branch(context)
    if rest:
        await branch.append(rest)
    if not trunk.grow(context):
        return fork.start(execute(session, branch, subtask, stage=stage))

    async def wait_and_execute() -> Executed:
        await trunk.reach(len(context))
        return await execute(session, branch, subtask, stage=stage)

    return fork.start(wait_and_execute())


async def _join(session: Session, planner: State, number: int, executed: Sequence[Executed], *, written: str) -> None:
    """Close the plan and append the executions in prompt order; adjacent text is encoded at once."""
    dialect = session.dialect
    pending = dialect.plan_end(number, written, executions=bool(executed))
    for item in executed:
        pair = dialect.execution(number, item.execution.number)
        pending += pair.open
        if item.ids is None:
            pending += f"{item.text}{closing(item.text, pair.close)}\n"
            continue
        await planner.append(pending)
        planner.context = planner.context.extend(item.ids, item.text)
        pending = f"{closing(item.text, pair.close)}\n"
    if executed:
        pending += dialect.executions_end(number)
    await planner.append(pending)


def _stage(
    number: int,
    plan: str,
    executed: Sequence[Executed],
    dispatched: Sequence[_Dispatch],
    planner: CallUsage,
    *,
    commits: Sequence[CallUsage] = (),
    answer: str | None = None,
    diagnostics: Sequence[Diagnostic] = (),
) -> Stage[Any]:
    """Assemble the record of a stage, with its part of the critical path (PAPER, Metrics)."""
    pairs = list(zip(dispatched, executed, strict=True))
    costs = [planner, *commits, *(item.execution.usage for item in executed)]
    return Stage[Any](
        number=number,
        plan=plan,
        executions=tuple(item.execution for item in executed),
        answer=answer,
        diagnostics=tuple(diagnostics),
        usage=StageUsage(
            total=CallUsage(
                calls=sum(cost.calls for cost in costs),
                prompt_tokens=sum(cost.prompt_tokens for cost in costs),
                cached_tokens=sum(cost.cached_tokens for cost in costs),
                generated_tokens=sum(cost.generated_tokens for cost in costs),
                tag_tokens=sum(cost.tag_tokens for cost in costs),
                retries=sum(cost.retries for cost in costs),
            ),
            sequential_tokens=metrics.sequential_tokens(
                planner.generated_tokens - planner.tag_tokens,
                ((at.content_tokens, item.content_tokens) for at, item in pairs),
            ),
            sequential_tokens_strict=metrics.sequential_tokens_strict(
                planner.generated_tokens, ((at.all_tokens, item.all_tokens) for at, item in pairs)
            ),
        ),
    )


def _heard(session: Session, generation: Generation, text: str, number: int) -> None:
    if session.listening:
        session.emit(PlannerWrote(stage=number, text=text, tokens=len(generation.ids)))


class _TagTokens:
    """Counts the tokens of tags as a completion grows, each tag once."""

    __slots__ = ("_count", "_reader", "_seen")

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._seen = 0
        self._count = 0

    def before(self, generation: Generation, offset: int) -> int:
        """Count the ids that lie in tags before ``offset``, which must not fall from call to call."""
        spans = self._reader.spans
        while self._seen < len(spans) and spans[self._seen].end <= offset:
            tag = spans[self._seen]
            self._count += generation.tokens_before(tag.end) - generation.tokens_before(tag.start)
            self._seen += 1
        return self._count


def _check_numbers(plan: Plan, number: int) -> None:
    """Refuse a policy's plan whose subtasks are not in order.

    Raises:
        PolicyError: the numbers are not 1, 2, 3, ….
    """
    if [subtask.number for subtask in plan.subtasks] != list(range(1, len(plan.subtasks) + 1)):
        raise PolicyError(f"the subtasks of plan {number} are not numbered 1, 2, 3, …: make it with Plan.of(prompt, …)")
