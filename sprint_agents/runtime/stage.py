"""Run one stage: the planner's words or a policy's plan, its executions at the same time, and their join.

Invariants:

- An executor starts the moment its prompt closes, on the planner's own tokens up to there.
- The join appends the executions in prompt order as the ids that the executors produced.
- What the planner writes is never cut short: an execution that is accepted ends its siblings, not the plan.
- After an error or a cancellation nothing of the stage runs on, and the planner's state is where the stage began.
"""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Literal

from sprint_agents.context import Context
from sprint_agents.dialects.base import Form
from sprint_agents.dialects.completions import PlanReader, PromptClosed, Result
from sprint_agents.dialects.diagnostics import Diagnostic
from sprint_agents.events import PlannerWrote, StageStarted
from sprint_agents.generation import Generation
from sprint_agents.plan import Ask, Attempts, Nested, Plan, Stage, Subtask
from sprint_agents.state import State

from .branches import Branches, check
from .draft import Draft, Pending
from .execution import Carry
from .join import kept, write
from .session import Session, usage_of
from .trunk import Trunk

CarryBy = Callable[[Nested, float], Carry]
"""Makes a policy, with its share of the budget, the one that carries out subtasks."""


async def run_stage(
    session: Session,
    planner: State,
    step: Plan | Ask | Attempts,
    *,
    number: int,
    task: str = "",
    attempt: CarryBy,
    nest: CarryBy,
) -> Stage[Any] | Pending:
    """Run stage ``number`` and leave ``planner`` behind its join, or behind its plan if the step does not wait.

    Raises:
        EngineError: the planner's own request failed.
        BudgetExceeded: nothing is left for the planner.
        ExecutionFailed: a subtask failed under ``fail_fast``.
        PolicyError: the step cannot be run as it stands.
    """
    start = planner.context
    if session.inside:
        session.inside.words = None
    if session.listening:
        session.emit(StageStarted(stage=number))
    try:
        async with AsyncExitStack() as owned:
            if isinstance(step, Attempts):
                return await _attempts(session, planner, step, number, task, owned, attempt)
            if isinstance(step, Ask) and step.form != "plan":
                return await _written_end(session, planner, number, step.form)
            carry = nest(step.nested, step.share) if step.nested else None
            if isinstance(step, Plan):
                draft, written = await _given_plan(session, planner, step, number, owned, carry)
            else:
                draft, written = await _written_plan(session, planner, step, number, owned, carry)
            return await _end(session, planner, step, draft, owned, written=written)
    except BaseException:
        planner.context = start
        raise


async def _end(
    session: Session, planner: State, step: Plan | Ask, draft: Draft, owned: AsyncExitStack, *, written: str | None
) -> Stage[Any] | Pending:
    """Wait for the executions and join them, or do neither; ``written`` is the plan's text if there is a plan."""
    dialect, number, branches = session.dialect, draft.number, draft.branches
    assert branches is not None
    if written is not None and branches.numbers and not step.wait:
        await write(dialect, planner, number, [], plan=written)
        return Pending(draft, branches, step.keep, owned.pop_all())
    executed = await branches.finish()
    await owned.aclose()
    if written is not None:
        joining = kept(step.keep, executed, stage=number, accepted=branches.accepted)
        await write(dialect, planner, number, joining, plan=written)
    return draft.finished(executed)


async def _written_plan(
    session: Session, planner: State, step: Ask, number: int, owned: AsyncExitStack, carry: Carry | None
) -> tuple[Draft, str | None]:
    """Let the model write a plan, or its answer; subtasks start while it writes."""
    reader = session.dialect.read_plan(number, "plan")
    tag_tokens = _TagTokens(reader)
    await planner.append(_opening(session, planner, number, "plan"))
    trunk = Trunk(session, planner, cached=len(planner.context))
    fork = await owned.enter_async_context(planner.fork())
    branches = Branches(session, fork, trunk, stage=number, width=step.width, accept=step.accept)
    odd: list[Diagnostic] = []
    ends: list[tuple[int, int]] = []

    async def dispatch(closed: Sequence[PromptClosed]) -> None:
        for item in closed:
            context = await generation.cut(item.end)
            ends.append((item.number, item.end))
            subtask = Subtask(number=item.number, prompt=item.prompt)
            if item.after:
                subtask = subtask.model_copy(update={"after": _known(item, branches, number, odd)})
            await branches.start(subtask, context, rest=item.rest, carry=carry)

    max_tokens = session.planner.max_tokens or session.limits.plan_tokens
    # What a nested policy's model writes may be a result as well.
    schema = None if session.inside else session.schema("plan")
    call = session.call(planner, max_tokens=max_tokens, stops=session.stops.plan, schema=schema)
    async with session.turn, call as generation:
        async for chunk in generation:
            _heard(session, generation, chunk.text, number)
            await dispatch(reader.feed(chunk.text))
    trunk.end()
    # A prompt that the plan's end cuts short is certain only now.
    await dispatch(reader.close())
    for prompt, end in ends:
        before = generation.tokens_before(end)
        branches.book(prompt, content_tokens=before - tag_tokens.before(generation, end), all_tokens=before)
    usage = usage_of(generation, tag_tokens.before(generation, generation.length))
    draft = Draft(number, reader.plan or "", usage, None, [*reader.diagnostics, *odd], trunk, branches)
    if reader.answer is not None:
        return replace(draft, answer=reader.answer), None
    if reader.plan is not None:
        return draft, generation.text
    if session.inside:
        return replace(draft, answer=_result(session, generation), diagnostics=()), None
    await planner.append(session.dialect.write_end("plan", generation.text))
    return draft, None


async def _given_plan(
    session: Session, planner: State, plan: Plan, number: int, owned: AsyncExitStack, carry: Carry | None
) -> tuple[Draft, str]:
    """Write a policy's plan into the context as the planner would have, and run it."""
    check(plan, number)
    prompts, after = [subtask.prompt for subtask in plan.subtasks], [subtask.after for subtask in plan.subtasks]
    pieces = session.dialect.write_plan(number, plan.text, prompts, after=after)
    trunk = Trunk(session, planner, cached=0)
    if len(plan.subtasks) == 1:
        trunk.end()  # nobody to share it with
    fork = await owned.enter_async_context(planner.fork())
    branches = Branches(session, fork, trunk, stage=number, width=plan.width, accept=plan.accept)
    contexts: list[Context] = []
    for piece in pieces:
        await planner.append(piece)
        contexts.append(planner.context)
    for subtask, context in zip(plan.subtasks, contexts, strict=False):
        await branches.start(subtask, context, carry=carry)
    return Draft(number, plan.text, trunk=trunk, branches=branches), pieces[-1]


async def _attempts(
    session: Session,
    planner: State,
    step: Attempts,
    number: int,
    task: str,
    owned: AsyncExitStack,
    attempt: CarryBy,
) -> Stage[Any]:
    """Have each policy solve the task on a fork of its own."""
    trunk = Trunk(session, planner, cached=0)
    if len(step.policies) == 1:
        trunk.end()
    fork = await owned.enter_async_context(planner.fork())
    branches = Branches(session, fork, trunk, stage=number, accept=step.accept)
    for index, policy in enumerate(step.policies, 1):
        subtask = Subtask(number=index, prompt=task)
        await branches.start(subtask, planner.context, carry=attempt(policy, step.share))
    executed = await branches.finish()
    await owned.aclose()
    return Draft(number, trunk=trunk, branches=branches).finished(executed)


async def _written_end(session: Session, planner: State, number: int, form: Literal["chain", "answer"]) -> Stage[Any]:
    """Let the model write one sequential chain up to its answer, or only the answer."""
    dialect, limits = session.dialect, session.limits
    cap = limits.chain_tokens if form == "chain" else limits.answer_tokens
    reader = dialect.read_plan(number, form)
    opening = _opening(session, planner, number, form)
    await planner.append(opening)
    schema = None if session.inside or form == "chain" else session.schema("answer")
    call = session.call(planner, max_tokens=cap, stops=session.stops.answer, schema=schema)
    async with session.turn, call as generation:
        async for chunk in generation:
            _heard(session, generation, chunk.text, number)
            reader.feed(chunk.text)
    reader.close()
    usage = usage_of(generation, _TagTokens(reader).before(generation, generation.length))
    if session.inside and (reader.answer is None or not opening):
        return Draft(number, planner=usage, answer=_result(session, generation)).finished()
    if reader.answer is None:
        await planner.append(dialect.write_end(form, generation.text))
    return Draft(number, reader.chain or "", usage, reader.answer, reader.diagnostics).finished()


def _opening(session: Session, planner: State, number: int, form: Form) -> str:
    """Return what stands before the planner's words; in a subtask of its own, that is the header to begin with."""
    inside = session.inside
    return "" if inside and planner.context is inside.start else session.dialect.write_opening(number, form)


def _result(session: Session, generation: Generation) -> str:
    """Read a completion inside an execution that is neither plan nor answer: it is the result."""
    inside = session.inside
    assert inside is not None
    inside.words = generation
    turn = session.dialect.read_turn(inside.stage, inside.number, generation.text)
    inside.result = turn.text if isinstance(turn, Result) else generation.text
    return inside.result


def _known(item: PromptClosed, branches: Branches, stage: int, odd: list[Diagnostic]) -> tuple[int, ...]:
    """Return the subtasks before this one that it is to wait for; the others are ``odd``, and nobody waits for them."""
    known = branches.numbers
    for other in item.after:
        if other not in known:
            message = (
                f"subtask {stage}.{item.number} is to wait for {other}, which does not stand before it: it does not"
            )
            odd.append(
                Diagnostic(kind="odd_dependency", message=message, stage=stage, number=item.number, position=item.end)
            )
    return tuple(other for other in item.after if other in known)


def _heard(session: Session, generation: Generation, text: str, number: int) -> None:
    if session.listening:
        session.emit(PlannerWrote(stage=number, text=text, tokens=generation.tokens))


class _TagTokens:
    """Counts the tokens of tags as a completion grows, each tag once."""

    __slots__ = ("_count", "_reader", "_seen")

    def __init__(self, reader: PlanReader) -> None:
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
