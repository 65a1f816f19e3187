"""Follow a policy from its first step to its answer.

Invariant: when a policy has ended, for whatever reason, none of its tasks is left.
"""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from sprint_agents.agents import Executor
from sprint_agents.errors import PolicyError
from sprint_agents.plan import Answer, Ask, Attempts, Plan, Stage
from sprint_agents.policies import Planning, Policy, steps_of
from sprint_agents.state import State

from .assignment import Assignment
from .executor import Runner, SubtaskOutcome
from .journal import StageJournal
from .nested import JournalOf, NestedPolicy
from .policy_stages import PolicyAnswer, PolicyStages
from .session import Session
from .steps import closing, policy_runs
from .validation import validate


async def follow(
    session: Session,
    policy: Policy,
    planning: Planning,
    planner: State,
    runner: Runner,
    *,
    plans: int = 0,
    journal: StageJournal | None = None,
) -> PolicyAnswer:
    """Run the steps of ``policy`` and return its answer; the answer of a run is of the planner's declared type.

    Args:
        session: the run, or the part of it that a nested policy has.
        policy: yields the steps.
        planning: what the policy sees of the run; gets its stages.
        planner: the context of the planner, which holds ``plans`` plans so far.
        runner: carries out subtasks that no nested policy carries out.
        plans: the number of plans in the context.
        journal: holds the stages of an earlier process, which are not run again, and gets those that finish.

    Raises:
        PolicyError: the policy is not an async generator, yields something that is not a step, or ends without an
            answer.
        NoAnswer: its answer is empty.
        InvalidResult: its answer is not of the declared type.
    """
    planning.call = session.call_function
    if journal is not None:
        journal.begin()
    with policy_runs(planning):
        steps = steps_of(policy, planning)
    async with AsyncExitStack() as running:
        stages = PolicyStages(
            session,
            planning,
            planner,
            runner,
            journal,
            running,
            nest=PolicyRunner,
            plans=plans,
            announced_context=planner.context,
        )
        running.callback(stages.abandon)
        if journal is not None:
            running.callback(journal.catch_up, session.ledger)
        stage: Stage[Any] | None = None
        async with closing(steps, planning):
            while True:
                with policy_runs(planning):
                    try:
                        step = await steps.asend(stage)  # type: ignore[arg-type]
                    except StopAsyncIteration:
                        raise PolicyError("the policy ended without an answer: yield Answer(value=…) last") from None
                if isinstance(step, Answer):
                    await stages.give_up_pending()
                    return await stages.answer(step.value)
                stage = await stages.take(step)


@dataclass(frozen=True, slots=True)
class PolicyRunner(Runner):
    """Has policies carry out what a ``step`` of another policy starts: its subtasks, or its attempts.

    ``planning`` and ``number`` are that policy's view of the run and the number of its step; ``runner`` carries out the
    subtasks of the nested policies, and ``journal_of`` keeps their stages.
    """

    gated: ClassVar[bool] = False

    step: Plan | Ask | Attempts
    number: int
    planning: Planning
    runner: Runner
    journal_of: JournalOf | None = None

    async def run(self, session: Session, assignment: Assignment) -> SubtaskOutcome:
        """Follow the policy on the branch of the assignment; what it writes stays there."""
        step = self.step
        attempt = isinstance(step, Attempts)
        policy = cast("Policy", step.policies[assignment.subtask.number - 1] if attempt else step.nested)
        nested = await NestedPolicy.open(session, assignment, parent=self.planning, step=step, number=self.number)
        # In the context, the first plan of an attempt is this stage's plan; that of a subtask comes after it.
        plans = assignment.stage - 1 if attempt else assignment.stage
        journal = self.journal_of(assignment.subtask.number) if self.journal_of else None
        try:
            branch = assignment.branch
            answer = await follow(
                nested.session, policy, nested.planning, branch, self.runner, plans=plans, journal=journal
            )
            outcome, agent = nested.success(answer.value, answer.completion, self.runner.agent), self.runner.agent
            if isinstance(agent, Executor) and agent.validator is not None and not attempt:
                stage, number = assignment.stage, assignment.subtask.number
                await validate(session, agent, outcome.execution.value, outcome.text, stage=stage, number=number)
            return outcome
        except PolicyError:
            raise
        except Exception as error:
            if session.failure.mode == "fail_fast" and not attempt:
                raise  # a failed attempt is data in any case: the policy decides what it means
            return nested.failure(error)
        finally:
            nested.close()
