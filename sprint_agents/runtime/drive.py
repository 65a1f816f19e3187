"""Follow a policy from its first step to its answer."""

import inspect
from typing import Any

from sprint_agents.errors import InvalidRequest, JournalError, NoAnswer, PolicyError
from sprint_agents.events import StageFinished
from sprint_agents.plan import Answer, Ask, Plan, Stage
from sprint_agents.policies import Planning, Policy
from sprint_agents.retrying import retried
from sprint_agents.state import State

from .journal import Journal
from .session import Session
from .stage import run_stage


async def drive(session: Session, policy: Policy, planning: Planning, planner: State, journal: Journal | None) -> Any:
    """Return the answer's value, of the planner's declared type.

    Raises:
        PolicyError: the policy is no async generator, yields what is no step, or ends without an answer.
        NoAnswer: it answered with nothing.
        InvalidResult: its answer is not of the declared type.
    """
    steps = policy(planning)
    _check_generator(policy, steps)
    finished: Stage[Any] | None = None
    try:
        while True:
            try:
                step = await steps.asend(finished)  # type: ignore[arg-type]
            except StopAsyncIteration:
                raise PolicyError("the policy ended without an answer: yield Answer(value=…) last") from None
            if isinstance(step, Answer):
                return _value(session, step)
            if not isinstance(step, (Plan, Ask)):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise PolicyError(f"a policy yields a Plan, planning.ask() or an Answer, not {step!r}")
            finished = await _take(session, planning, planner, step, journal)
            planning.stages.append(finished)
    finally:
        await steps.aclose()


def _check_generator(policy: Policy, steps: object) -> None:
    if not inspect.isasyncgen(steps):
        raise PolicyError(
            f"a policy is an async generator function and {policy!r} returned {type(steps).__name__}: "
            "write it as `async def policy(planning): stage = yield planning.ask(); yield Answer(value=stage.answer)`"
        )


async def _take(
    session: Session, planning: Planning, planner: State, step: Plan | Ask, journal: Journal | None
) -> Stage[Any]:
    """Run one step as the next stage, or take it from the journal."""
    number = len(planning.stages) + 1
    if number > session.limits.stages:
        raise PolicyError(
            f"the policy wants stage {number} of at most {session.limits.stages}: answer, or raise Limits(stages=…)"
        )
    if journal and (recorded := journal.replay(number)):
        return await _replay(session, planner, recorded)
    if isinstance(step, Ask) and step.form == "plan" and number == session.limits.stages:
        step = Ask(form="answer")
    start = planner.context
    if session.failure.mode == "retry":
        stage = await retried(
            lambda: run_stage(session, planner, step, number=number), attempts=session.failure.attempts
        )
    else:
        stage = await run_stage(session, planner, step, number=number)
    if session.listening:
        session.emit(
            StageFinished(
                stage=stage,
                token_ids=tuple(planner.context.ids_since(start)),
                text=planner.context.text_since(start),
            )
        )
    return stage


async def _replay(session: Session, planner: State, recorded: StageFinished) -> Stage[Any]:
    """Take a finished stage from the journal, ids and all.

    Raises:
        JournalError: its ids mean something else to this engine.
    """
    try:
        same = await session.engine.decode(recorded.token_ids) == recorded.text
    except InvalidRequest:
        same = False
    if not same:
        raise JournalError(
            f"the journal was written with another tokenizer than that of {session.engine.name}: "
            "resume with the model that began the run, or use another path"
        )
    planner.context = planner.context.extend(recorded.token_ids, recorded.text)
    session.ledger.charge(recorded.stage)
    session.emit(recorded)
    return recorded.stage


def _value(session: Session, answer: Answer) -> Any:
    if answer.value is None or answer.value == "":
        raise NoAnswer("the run ended without an answer: the planner wrote none within its limits")
    if isinstance(answer.value, str):
        return session.planner.read(answer.value)
    return session.planner.accept(answer.value)
