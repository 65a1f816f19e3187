"""Policies made of policies."""

from collections.abc import AsyncGenerator, Callable
from typing import Any

from sprint_agents.plan import Accept, Answer, Ask, Execution, Plan, Stage, Step

from .attempts import no_answer
from .factory import at_least, factory
from .planning import Planning, Policy, steps_of

Check = Callable[[Any], bool]
"""Says whether an answer, of the planner's declared type, is good."""


@factory
def limit_width(policy: Policy, width: int) -> Policy:
    """Let ``policy`` start at most ``width`` subtasks a stage; those beyond are recorded as failed.

    A lower bound of the policy's own stays.
    """
    at_least(1, width=width)

    def limited(step: Plan | Ask) -> Plan | Ask:
        least = width if step.width is None else min(width, step.width)
        return step.model_copy(update={"width": least})

    return _changed(policy, limited)


@factory
def first_success(policy: Policy, check: Accept) -> Policy:
    """End each stage of ``policy`` with the first execution that passes ``check``; its siblings are cancelled.

    ``check`` is given each ``Execution`` that succeeded, and takes the place of the policy's own ``accept``.
    """

    def accepting(step: Plan | Ask) -> Plan | Ask:
        return step.model_copy(update={"accept": check})

    return _changed(policy, accepting)


@factory
def race(*policies: Policy, check: Check | None = None) -> Policy:
    """Have all ``policies`` solve the task at once, and take the first answer that passes ``check``.

    Each works on a fork of its own; the others are cancelled. Without a ``check``, any answer passes.
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
    """Have the next of ``policies`` solve the task where those before it fail, or their answer does not pass ``check``.

    Each works on a fork of its own, so it reads nothing of what failed.
    """
    at_least(1, policies=len(policies))

    async def policy(planning: Planning) -> AsyncGenerator[Step, Stage]:
        tried: list[Execution[Any]] = []
        for policy in policies:
            stage = yield planning.attempt(policy, accept=_passes(check))
            tried += stage.executions
            if stage.accepted is not None:
                yield Answer(value=tried[-1].value)
        raise no_answer(tried)

    return policy


@factory
def until(
    policy: Policy, check: Check, *, attempts: int = 3, feedback: Callable[[Execution[Any]], str] | None = None
) -> Policy:
    """Have ``policy`` solve the task again, up to ``attempts`` times, until its answer passes ``check``.

    Each attempt works on a fork of its own. ``feedback`` writes what the next ones read of one that failed: without it
    they read nothing, and come to something else only at a temperature above 0.
    """
    at_least(1, attempts=attempts)

    async def repeated(planning: Planning) -> AsyncGenerator[Step, Stage]:
        tried: list[Execution[Any]] = []
        for _ in range(attempts):
            stage = yield planning.attempt(policy, accept=_passes(check))
            tried += stage.executions
            if stage.accepted is not None:
                yield Answer(value=tried[-1].value)
            if feedback is not None and len(tried) < attempts:
                yield Plan.of(text=planning.quote(feedback(tried[-1])))
        raise no_answer(tried)

    return repeated


def _passes(check: Check | None) -> Accept:
    return lambda attempt: check is None or check(attempt.value)


def _changed(policy: Policy, change: Callable[[Plan | Ask], Step]) -> Policy:
    """Pass on the steps of ``policy``, those that plan ``change``d."""

    async def changed(planning: Planning) -> AsyncGenerator[Step, Stage]:
        steps = steps_of(policy, planning)
        try:
            step = await anext(steps)
            while True:
                if isinstance(step, Plan) or (isinstance(step, Ask) and step.form == "plan"):
                    step = change(step)
                stage = yield step
                step = await steps.asend(stage)
        except StopAsyncIteration:
            return  # without an answer, which the runtime tells
        finally:
            await steps.aclose()

    return changed
