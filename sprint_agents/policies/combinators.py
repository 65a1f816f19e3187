"""Policies made of other policies."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from typing import Any, cast

from sprint_agents.arguments import at_least
from sprint_agents.errors import NoAnswer, show
from sprint_agents.functions import is_async
from sprint_agents.plan import Accept, Answer, Ask, Execution, Plan, Stage, Step
from sprint_agents.settles import Settles

from .policy import Planning, Policy, factory, steps_of

Check = Callable[[Any], bool | Awaitable[bool]]
"""Says whether an answer, of the planner's declared type, is good; may be async."""

Feedback = Callable[[Execution[Any]], str | Awaitable[str]]
"""Writes a note about a failed attempt; may be async."""


@factory
def limit_width(policy: Policy, width: int) -> Policy:
    """Let ``policy`` start at most ``width`` subtasks in a stage; further ones are recorded as failed.

    If the policy sets a lower bound itself, that one holds.
    """
    at_least(1, width=width)

    def limited(step: Plan | Ask) -> Plan | Ask:
        least = width if step.width is None else min(width, step.width)
        return step.model_copy(update={"width": least})

    return relayed(policy, limited)


@factory
def first_success(policy: Policy, check: Accept) -> Policy:
    """End each stage of ``policy`` with the first execution that passes ``check``, and cancel its siblings.

    ``check`` is a text that an execution holds, a regular expression that is found in it, a function that receives each
    ``Execution`` that succeeded, or a ``Settles``. It replaces the policy's own ``accept``, and what the checkpoint
    says.
    """
    settles = Settles.of(check)

    def accepting(step: Plan | Ask) -> Plan | Ask:
        return step.model_copy(update={"accept": settles})

    return relayed(policy, accepting)


@factory
def race(*policies: Policy, check: Check | None = None) -> Policy:
    """Run all ``policies`` on the task at once, take the first answer that passes ``check``, and cancel the others.

    Each policy works on its own fork. Without a ``check``, any answer passes.
    """
    at_least(1, policies=len(policies))

    async def policy(planning: Planning) -> AsyncGenerator[Step, Stage]:
        stage = yield planning.attempt(*policies, accept=_passes(check))
        if stage.accepted is None:
            raise no_answer(stage.executions)
        yield Answer(value=stage.executions[stage.accepted - 1].value)

    return policy


@factory
def with_fallback(*policies: Policy, check: Check | None = None) -> Policy:
    """Run ``policies`` in turn until one gives an answer that passes ``check``.

    Each policy works on its own fork, so it sees nothing of the failed ones. Without a ``check``, any answer passes.
    """
    at_least(1, policies=len(policies))
    return _in_turn(lambda: policies, check)


@factory
def until(policy: Policy, check: Check, *, attempts: int = 3, feedback: Feedback | None = None) -> Policy:
    """Repeat ``policy``, up to ``attempts`` times, until its answer passes ``check``.

    Each attempt works on its own fork. ``feedback`` turns a failed attempt into a note that the next attempts see.
    Without it they see nothing of the failed ones, and give another answer only at a temperature above 0.
    """
    at_least(1, attempts=attempts)
    return _in_turn(lambda: (policy for _ in range(attempts)), check, feedback)


def _in_turn(policies: Callable[[], Iterable[Policy]], check: Check | None, feedback: Feedback | None = None) -> Policy:
    async def policy(planning: Planning) -> AsyncGenerator[Step, Stage]:
        tried: list[Execution[Any]] = []
        for each in policies():
            if tried and feedback is not None:
                yield Plan.of(text=await planning.call(feedback, tried[-1]))
            stage = yield planning.attempt(each, accept=_passes(check))
            tried += stage.executions
            if stage.accepted is not None:
                yield Answer(value=tried[-1].value)
                return
        raise no_answer(tried)

    return policy


def no_answer(attempts: Sequence[Execution[Any]]) -> NoAnswer:
    """Make the error that reports the outcome of each attempt."""
    outcomes = (
        f"{number}: {attempt.failure.type}: {attempt.failure.message}"
        if attempt.failure
        else f"{number}: the answer {show(attempt.value)} did not pass"
        for number, attempt in enumerate(attempts, 1)
    )
    return NoAnswer(f"none of {len(attempts)} attempts came to a good answer; {'; '.join(outcomes)}")


def _passes(check: Check | None) -> Accept:
    if check is None:
        return accept_any

    async def passes(attempt: Execution[Any]) -> bool:
        return await cast("Awaitable[bool]", check(attempt.value))

    return passes if is_async(check) else (lambda attempt: check(attempt.value))


async def accept_any(_: Execution[Any]) -> bool:
    """Accept an execution; async, because a sync function would be called in a thread."""
    return True


def relayed(
    policy: Policy,
    change: Callable[[Plan | Ask], Step] | None = None,
    *,
    first: Callable[[Planning], Step] | None = None,
) -> Policy:
    """Relay the steps of ``policy``, after a ``first`` one, with ``change`` applied to those that start subtasks."""

    async def relay(planning: Planning) -> AsyncGenerator[Step, Stage]:
        if first is not None:
            yield first(planning)
        steps = steps_of(policy, planning)
        try:
            step = await anext(steps)
            while True:
                if change and (isinstance(step, Plan) or (isinstance(step, Ask) and step.form == "plan")):
                    step = change(step)
                stage = yield step
                step = await steps.asend(stage)
        except StopAsyncIteration:
            return  # without an answer: the runtime raises the error
        finally:
            await steps.aclose()

    return relay
