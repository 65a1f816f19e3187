"""Early ends of stages: which execution settles a stage, and how many run at once until one does."""

from contextlib import AbstractAsyncContextManager
from typing import Any

from sprint_agents.errors import PolicyError, describe
from sprint_agents.functions import check_function
from sprint_agents.plan import Ask, Attempts, Execution, Plan
from sprint_agents.settles import Settles
from sprint_agents.step_costs import StepCosts

from .executor import ModelRunner, Runner
from .gate import Gate
from .session import Session


def with_settles(step: Plan | Ask | Attempts, session: Session) -> Plan | Ask | Attempts:
    """Have a plan of the model settled as the run says, unless the policy's own step says what settles it.

    A nested policy's plans split a subtask, of which the rule says nothing.
    """
    unsaid = isinstance(step, Ask) and step.plans and "accept" not in step.model_fields_set
    if not unsaid or session.settles is None or session.enclosing:
        return step
    return step.model_copy(update={"accept": session.settles})


def gate_until(settles: Settles, session: Session, runner: Runner) -> AbstractAsyncContextManager[Any]:
    """Return the places for executions of a stage that one of them may settle.

    A bound of the user's holds. Otherwise the engine's costs decide, if they are known, for executions that a model
    carries out: the first in the plan's order start, and each of the others when a place is free.
    """
    engine = session.executor_engine
    if isinstance(session.gate, Gate) or engine is None or not isinstance(runner, ModelRunner):
        return session.gate
    costs = engine.capabilities.step_costs
    return session.gate if costs is None else SearchGate(costs, settles)


class SearchGate(Gate):
    """As many places as pay until an execution settles the stage: the more have not, the more places."""

    def __init__(self, costs: StepCosts, settles: Settles) -> None:
        super().__init__(costs.width(chance=settles.chance))
        self._costs, self._settles, self._missed = costs, settles, 0

    def miss(self) -> None:
        """Count an execution that does not settle the stage."""
        self._missed += 1
        self.widen(self._costs.width(chance=self._settles.chance_after(self._missed)))


async def meets(settles: Settles, execution: Execution[Any], session: Session, *, stage: int) -> bool:
    """Say whether a successful execution of ``stage`` settles it.

    Raises:
        PolicyError: the function that should say so failed.
    """
    condition = settles.holds
    if not callable(condition):
        return settles.found_in(execution.text)
    try:
        check_function(condition, what="accept=")
        return bool(await session.call_function(condition, execution, stage=stage, number=execution.number))
    except Exception as error:
        raise PolicyError(
            f"accept= failed on execution {stage}.{execution.number}, {describe(error)}: "
            "it is given each Execution that succeeded and says whether the stage needs no other"
        ) from error
