"""Run one stage: the planner's words or a policy's plan, its executions at the same time, and their join.

Invariants:

- An executor starts the moment its prompt closes, on the planner's own tokens up to there.
- The join appends the executions in prompt order as the ids that the executors produced.
- After an error or a cancellation nothing of the stage runs on, and the planner's state is where the stage began.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sprint_agents import metrics
from sprint_agents.context import Context
from sprint_agents.dialect.answers import answer_value
from sprint_agents.dialect.diagnostics import Diagnostic
from sprint_agents.dialect.reader import Item, PromptClosed, TagReader
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
    reader = TagReader(session.tags, stage=number)
    tag_tokens = _TagTokens(reader)
    dispatched: list[_Dispatch] = []
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
        await planner.append("\n")
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
    tags = session.tags
    _check(plan, number, re.compile("|".join(map(re.escape, tags.special_tokens))))
    dispatched: list[_Dispatch] = []
    trunk = Trunk(session, planner, cached=0)
    if len(plan.subtasks) == 1:
        trunk.end()  # nobody to share it with
    async with planner.fork() as fork:
        # Written up to the end of each prompt, where its executor starts.
        pending = f"{tags.plan.of(number).open}\n" + (f"{plan.text}\n" if plan.text else "")
        prompt_tags = tags.prompt.of(number)
        for subtask in plan.subtasks:
            tag = prompt_tags.numbered(subtask.number)
            await planner.append(f"{pending}{tag.open}{subtask.prompt}{tag.close}")
            task = await _dispatch(session, fork, trunk, planner.context, subtask, number)
            dispatched.append(_Dispatch(task, 0, 0))
            pending = "\n"
        await planner.append(pending)
        executed: list[Executed] = await fork.gather()
    await _join(session, planner, number, executed, written="\n")
    return _stage(number, plan.text, executed, dispatched, CallUsage(), commits=trunk.costs)


async def _written_end(session: Session, planner: State, number: int, form: str) -> Stage[Any]:
    """Let the model write one sequential chain up to its answer, or only the answer."""
    tags, limits = session.tags, session.limits
    pair, cap = (tags.chain, limits.chain_tokens) if form == "chain" else (tags.answer, limits.answer_tokens)
    reader = TagReader(tags, stage=number, within="chain" if form == "chain" else "answer")
    await planner.append(f"{pair.open}\n")
    async with session.call(planner, max_tokens=cap, stops=session.stops.answer) as generation:
        async for chunk in generation:
            _heard(session, generation, chunk.text, number)
            reader.feed(chunk.text)
    reader.close()
    if reader.answer is None:
        await planner.append(f"{closing(generation.text, pair.close)}\n")
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
    tags = session.tags
    pending = f"{closing(written, tags.plan.of(number).close)}\n"
    if executed:
        around, execution = tags.executions.of(number), tags.execution.of(number)
        pending += f"{around.open}\n"
        for item in executed:
            tag = execution.numbered(item.execution.number)
            pending += f"{tag.open}\n"
            if item.ids is None:
                pending += f"{item.text}{closing(item.text, tag.close)}\n"
                continue
            await planner.append(pending)
            planner.context = planner.context.extend(item.ids, item.text)
            pending = f"{closing(item.text, tag.close)}\n"
        pending += f"{around.close}\n"
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

    def __init__(self, reader: TagReader) -> None:
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


def _check(plan: Plan, number: int, tag: re.Pattern[str]) -> None:
    """Refuse a policy's plan that would read as something else.

    Raises:
        PolicyError: a text holds a tag, or the numbers are not 1, 2, 3, ….
    """
    if [subtask.number for subtask in plan.subtasks] != list(range(1, len(plan.subtasks) + 1)):
        raise PolicyError(f"the subtasks of plan {number} are not numbered 1, 2, 3, …: make it with Plan.of(prompt, …)")
    for text in (plan.text, *(subtask.prompt for subtask in plan.subtasks)):
        if match := tag.search(text):
            raise PolicyError(
                f"a text of plan {number} holds the tag {match.group()!r}, which would end or start a part of it"
            )
