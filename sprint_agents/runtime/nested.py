"""Policies inside a run: one that carries out a subtask with plans of its own, or one that tries the whole task.

Both work on a fork of the planner's context, and what they write stays there: of a subtask the result joins, of an
attempt nothing.

Invariants:

- A nested policy uses its share of the run's budget at most, and the run's budget holds whatever the shares are.
- It holds no place among the executions under way while it waits for its own, so they cannot wait for each other.
- Policies are nested ``DEEPEST`` deep at most.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, cast

from sprint_agents.agents import Executor, as_text
from sprint_agents.engine import Sampling
from sprint_agents.errors import NoAnswer, PolicyError
from sprint_agents.events import Event, ExecutorWrote, PlannerWrote, SubtaskStarted
from sprint_agents.plan import Answer, Subtask
from sprint_agents.policies import Planning, Policy
from sprint_agents.state import State, Stops
from sprint_agents.usage import CallUsage

from .answering import agreed
from .executed import AnyExecution, Executed, failed
from .execution import Carry
from .session import Inside, Listener, RoleStops, Session

DEEPEST = 8
"""How deep policies may be nested; a policy that wants less looks at ``planning.depth``."""


Read = Callable[..., Awaitable[Any]]
"""Reads an answer, and may ask the model for it again; see ``answering.agreed``."""


class Follow(Protocol):
    """Follows a policy to its answer; ``drive`` has it, which knows this module."""

    async def __call__(
        self,
        session: Session,
        policy: Policy,
        planning: Planning,
        planner: State,
        *,
        plans: int,
        read: Read | None,
    ) -> Answer:
        """Run the policy's steps on ``planner``, whose context holds ``plans`` already, and ``read`` the answer."""
        ...


def carried_by(policy: Policy, share: float, *, follow: Follow, parent: Planning, whole: bool, turn: int) -> Carry:
    """Make ``policy`` the one that carries out subtasks of the ``turn``-th stage of ``parent``.

    It writes inside the subtask's execution, or with ``whole`` in the place of the planner itself.
    """

    async def carry(session: Session, branch: State, subtask: Subtask, stage: int, costs: list[CallUsage]) -> Executed:
        if parent.depth >= DEEPEST:
            raise PolicyError(
                f"policies are nested {DEEPEST} deep: give nested= only where planning.depth is below a bound of yours"
            )
        if session.listening:
            session.emit(SubtaskStarted(stage=stage, number=subtask.number, prompt=subtask.prompt))
        start = branch.context
        if not whole:
            inputs = bool(subtask.inputs)
            await branch.append(session.dialect.write_header(stage, subtask.number, nested=True, inputs=inputs))
        child = await _child(session, branch, subtask, stage, share=share, turn=turn, whole=whole)
        planning = Planning(task=subtask.prompt, limits=session.limits, ledger=child.ledger, depth=parent.depth + 1)
        # In the context, an attempt's first plan is this stage's; a subtask's comes behind it.
        plans = stage - 1 if whole else stage
        read = None if child.inside else partial(agreed, child, planning)
        try:
            answer = await follow(child, policy, planning, branch, plans=plans, read=read)
            value = _result(child, answer.value) if child.inside else answer.value
        except PolicyError:
            raise
        except Exception as error:
            if session.failure.mode == "fail_fast" and not whole:  # what a failed attempt means, its policy decides
                raise
            return _record(failed(subtask, error, [_cost(planning)]), planning)
        finally:
            costs[:] = [_cost(planning)]
        return _record(_succeeded(child, subtask, answer, value, branch.context.text_since(start)), planning)

    return carry


async def _child(
    session: Session, branch: State, subtask: Subtask, stage: int, *, share: float, turn: int, whole: bool
) -> Session:
    """Make the session of a nested policy, and give its branch a seed of its own."""
    offset = 1000 * (turn - 1) + subtask.number - 1
    branch.sampling = _seeded(branch.sampling, offset)
    inside = _inside(session, branch, subtask, stage, whole=whole)
    return replace(
        session,
        stops=await _inner(session) if inside else session.stops,
        ledger=session.ledger.share(share),
        sampling=_seeded(session.sampling, offset),
        listeners=[_relay(session, stage, subtask.number)] if session.listening else (),
        turn=session.gate,
        inside=inside,
    )


def _inside(session: Session, branch: State, subtask: Subtask, stage: int, *, whole: bool) -> Inside | None:
    """Return the execution that a nested policy writes: its subtask's, or the one that it is an attempt at."""
    if not whole:
        return Inside(stage, subtask.number, branch.context)
    return replace(session.inside, words=None) if session.inside else None


async def _inner(session: Session) -> RoleStops:
    """Add to a planner's stops those of an execution, which is what it writes."""
    stops, end = session.stops, session.stops.execution
    if session.elsewhere is not None:  # those were for another vocabulary
        end = await Stops.resolve(session.engine, session.dialect.constraints("execution").stops)

    def both(own: Stops) -> Stops:
        return Stops(own.ids | end.ids, tuple(dict.fromkeys((*own.texts, *end.texts))))

    return replace(stops, plan=both(stops.plan), answer=both(stops.answer))


def _seeded(sampling: Sampling, offset: int) -> Sampling:
    """Give a nested policy a seed of its own, where there is one; offset 0 keeps it."""
    if sampling.seed is None or not offset:
        return sampling
    return sampling.model_copy(update={"seed": sampling.seed + offset})


def _relay(session: Session, stage: int, number: int) -> Listener:
    """Show what a nested planner writes as the words of the execution that it carries out."""
    tokens = 0

    def hear(event: Event) -> None:
        nonlocal tokens
        if isinstance(event, PlannerWrote | ExecutorWrote):
            tokens += 1
            session.emit(ExecutorWrote(stage=stage, number=number, text=event.text, tokens=tokens))

    return hear


def _result(session: Session, value: object) -> Any:
    """Take a nested policy's answer as a result of the executor's type."""
    if value is None or value == "":
        raise NoAnswer("the nested policy ended without an answer: the model wrote none within its limits")
    agent: object = session.executor
    if not isinstance(agent, Executor):
        return value
    typed = cast("Executor[Any]", agent)
    return typed.read(value) if isinstance(value, str) else typed.accept(value)


def _succeeded(session: Session, subtask: Subtask, answer: Answer, value: Any, written: str) -> Executed:
    """Make the execution; a result that is the model's last words joins as the ids that it wrote."""
    inside = session.inside
    if inside is None:
        execution = AnyExecution(number=subtask.number, prompt=subtask.prompt, text=written, value=value)
        return Executed(execution, None, written)
    text = answer.value if isinstance(answer.value, str) else as_text(value)
    execution = AnyExecution(number=subtask.number, prompt=subtask.prompt, text=text, value=value)
    if inside.words is not None and inside.result == answer.value:
        return Executed(execution, inside.words.ids, inside.words.text)
    return Executed(execution, None, text)


def _record(executed: Executed, planning: Planning) -> Executed:
    """Add the policy's own stages and what they cost."""
    update = {"stages": tuple(planning.stages), "usage": _cost(planning)}
    return Executed(
        executed.execution.model_copy(update=update),
        executed.ids,
        executed.text,
        content_tokens=sum(stage.usage.sequential_tokens for stage in planning.stages),
        all_tokens=sum(stage.usage.sequential_tokens_strict for stage in planning.stages),
    )


def _cost(planning: Planning) -> CallUsage:
    """Sum what a policy used, broken-off stages too."""
    known = CallUsage.sum([stage.usage.total for stage in planning.stages])
    ledger = planning.ledger
    return replace(known, calls=ledger.calls, generated_tokens=ledger.tokens)
