"""Sprints and policies inside a run.

A sprint carries out a subtask as a separate run, on its own context. A nested policy works on a fork of the planner's
context: it carries out a subtask, whose result joins, or it attempts the whole task and leaves nothing in the context.

Invariants:

- A nested policy uses at most its share of the run's budget, and the run's budget holds whatever the shares are.
- A nested policy does not count towards the executions that may run at the same time. It waits for its own executions,
  so if it did, executions could wait for each other forever.
- Policies are nested at most ``DEEPEST`` deep.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from sprint_agents.agents import Executor, Planner, as_text
from sprint_agents.budget import Ledger
from sprint_agents.context import Context
from sprint_agents.engine import Sampling
from sprint_agents.errors import NoAnswer, PolicyError, run_of
from sprint_agents.events import BudgetAwaited, Event, ExecutorWrote, InnerEvent, PlannerWrote
from sprint_agents.generation import Generation
from sprint_agents.plan import Ask, Attempts, Execution, Plan, Subtask
from sprint_agents.policies import Planning
from sprint_agents.run import Run
from sprint_agents.usage import CallUsage

from .assignment import Assignment
from .clock import RunClock
from .executor import Runner, SubtaskOutcome, run_program
from .journal import StageJournal
from .listeners import Listener, Relay
from .options import RunInputs
from .session import EnclosingExecution, Session
from .stops import planner_or_execution_stops

DEEPEST = 8
"""How deep policies may be nested; a policy that wants less reads ``planning.depth``."""


JournalOf = Callable[[int], StageJournal]
"""Returns the journal of the stages that carry out the execution with this number."""


class NestedSprint(Protocol):
    """A ``Sprint``, as the run sees it that it is a part of."""

    @property
    def planner(self) -> Planner[Any]:
        """Return the agent whose answers are the results."""
        ...

    async def run_within(
        self,
        subtask: Subtask,
        *,
        ledger: Ledger,
        clock: RunClock,
        listeners: Sequence[Listener],
        journal: StageJournal | None,
        inputs: RunInputs,
    ) -> Run[Any, Any]:
        """Solve ``subtask`` within the run to which ``ledger`` and ``clock`` belong; ``journal`` keeps its stages.

        Its functions get the ``inputs`` of that run.

        Raises:
            SprintError: the run failed; ``error.run`` is the run so far.
        """
        ...


@dataclass(frozen=True, slots=True)
class SprintRunner(Runner):
    """Has a sprint carry out each subtask as a separate run, which shares the budget, the deadline and the end.

    ``journal_of`` keeps the stages of these runs.
    """

    sprint: NestedSprint
    journal_of: JournalOf | None = None

    @property
    def agent(self) -> Planner[Any]:
        """The planner of the sprint."""
        return self.sprint.planner

    async def run(self, session: Session, assignment: Assignment) -> SubtaskOutcome:
        """Run the sprint, again after a retryable error under ``retry``."""
        return await run_program(session, assignment, self._run)

    async def _run(self, session: Session, assignment: Assignment) -> SubtaskOutcome:
        stage, subtask = assignment.stage, assignment.subtask

        def relay(event: Event) -> None:
            session.emit(
                InnerEvent(run_id=session.run_id, at=event.at, stage=stage, number=subtask.number, event=event)
            )

        listeners = [Relay(relay, session.reading)] if session.listening else []
        journal = self.journal_of(subtask.number) if self.journal_of else None
        try:
            run = await self.sprint.run_within(
                subtask,
                ledger=session.ledger,
                clock=session.clock,
                listeners=listeners,
                journal=journal,
                inputs=session.inputs,
            )
        except BaseException as error:
            if (failed := run_of(error)) is not None:
                assignment.costs += (_cost_of(failed),)
                assignment.stages = failed.stages
            raise
        assignment.costs += (_cost_of(run),)
        assignment.stages = run.stages
        execution = assignment.record(as_text(run.answer), run.answer, transcript=run.transcript)
        content, strict = run.usage.sequential_tokens, run.usage.sequential_tokens_strict
        return SubtaskOutcome(execution, None, execution.text, content, strict)


def write_subtask(subtask: Subtask) -> str:
    r"""Write a subtask as a task: its prompt, then each subtask that it waited for with its result or failure.

    >>> from sprint_agents.plan import Execution
    >>> apples = Execution[int](number=1, prompt="count the apples", text="7", value=7)
    >>> print(write_subtask(Subtask(number=3, prompt="add them up", after=(1,), inputs=(apples,))))
    add them up
    <BLANKLINE>
    Subtask 1: count the apples
    Result: 7
    """
    return "\n\n".join([subtask.prompt, *map(_write_input, subtask.inputs)])


def _write_input(execution: Execution[Any]) -> str:
    failure = execution.failure
    outcome = f"Failed: {failure.type}: {failure.message[:200]}" if failure else f"Result: {execution.text.strip()}"
    return f"Subtask {execution.number}: {execution.prompt}\n{outcome}"


def _cost_of(run: Run[Any, Any]) -> CallUsage:
    usage = run.usage
    stages = CallUsage.sum([stage.usage.total for stage in run.stages])
    return replace(stages, calls=usage.calls, generated_tokens=usage.total_tokens, retries=usage.retries)


@dataclass(frozen=True, slots=True)
class NestedPolicy:
    """The part of a run in which a policy carries out an assignment; ``start`` is where its context begins."""

    session: Session
    planning: Planning
    assignment: Assignment
    start: Context

    @classmethod
    async def open(
        cls, session: Session, assignment: Assignment, *, parent: Planning, step: Plan | Ask | Attempts, number: int
    ) -> "NestedPolicy":
        """Prepare the session, the budget and the context of a nested policy.

        Args:
            session: the session of the policy whose step it is.
            assignment: the subtask, or the attempt.
            parent: what that policy sees of its run.
            step: that policy's step, of which the nested policy carries out a subtask or makes an attempt.
            number: the number of the step, from 1.

        Raises:
            PolicyError: policies are nested too deep.
        """
        if parent.depth >= DEEPEST:
            raise PolicyError(
                f"policies are nested {DEEPEST} deep: give nested= only where planning.depth is below a bound of yours"
            )
        stage, subtask, branch = assignment.stage, assignment.subtask, assignment.branch
        start = branch.context
        enclosing, stops, attempts = session.enclosing, session.stops, session.attempts
        attempt = isinstance(step, Attempts)
        if isinstance(step, Attempts):
            attempts = step
            branch.sampling = branch.sampling.with_logprobs(step.logprobs)
        else:
            inputs = bool(subtask.inputs)
            await branch.append(session.dialect.write_header(stage, subtask.number, nested=True, inputs=inputs))
            enclosing = EnclosingExecution(stage, subtask.number, branch.context)
        if enclosing:
            stops = await planner_or_execution_stops(session)
        # Attempts and subtasks begin with the same context, so each gets another seed; the first keeps the run's.
        offset = 1000 * (number - 1) + subtask.number - 1
        branch.sampling = _with_seed_offset(branch.sampling, offset)
        nested = replace(
            session,
            stops=stops,
            ledger=session.ledger.share(step.share),
            sampling=_with_seed_offset(session.sampling, offset),
            listeners=[_relay(session, stage, subtask.number)] if session.listening else (),
            planner_gate=session.gate,
            enclosing=enclosing,
            attempts=attempts,
            shift=0,
            review=None,
            steering=None,
            answer_time=None,
        )
        planning = Planning(
            task=subtask.prompt,
            inputs=parent.inputs if attempt else subtask.inputs,
            limits=session.limits,
            ledger=nested.ledger,
            depth=parent.depth + 1,
            deps=parent.deps,
        )
        return cls(nested, planning, assignment, start)

    def success(
        self, answer: object, completion: Generation | None, agent: Executor[Any] | Planner[Any] | None
    ) -> SubtaskOutcome:
        """Return the outcome of a policy that ended with ``answer``, which the model wrote as its last ``completion``.

        Raises:
            NoAnswer: the answer is empty.
            InvalidResult: it is not of the type that ``agent``, the run's executor, declares.
        """
        self.close()
        if self.session.enclosing is None:
            value, text = answer, self.assignment.branch.context.text_since(self.start)
        else:
            value = _as_result(answer, agent)
            text = answer if isinstance(answer, str) else as_text(value)
        execution = self.assignment.record(text, value)
        ids, joining = (completion.ids, completion.text) if completion else (None, text)
        return self._with_tokens(SubtaskOutcome(execution, ids, joining))

    def failure(self, error: Exception) -> SubtaskOutcome:
        """Return the outcome of a policy that failed with ``error``."""
        self.close()
        return self._with_tokens(SubtaskOutcome.failure(self.assignment, error))

    def close(self) -> None:
        """Replace the assignment's costs and stages by those of the policy, interrupted ones included."""
        self.assignment.stages = tuple(self.planning.stages)
        known = CallUsage.sum([stage.usage.total for stage in self.planning.stages])
        ledger = self.planning.ledger
        self.assignment.costs = (replace(known, calls=ledger.calls, generated_tokens=ledger.tokens),)

    def _with_tokens(self, outcome: SubtaskOutcome) -> SubtaskOutcome:
        stages = self.planning.stages
        outcome.content_tokens = sum(stage.usage.sequential_tokens for stage in stages)
        outcome.all_tokens = sum(stage.usage.sequential_tokens_strict for stage in stages)
        return outcome


def _with_seed_offset(sampling: Sampling, offset: int) -> Sampling:
    if sampling.seed is None or not offset:
        return sampling
    return sampling.model_copy(update={"seed": sampling.seed + offset})


def _relay(session: Session, stage: int, number: int) -> Listener:
    """Emit what a nested policy's agents write, and wait for, as part of the execution that it carries out."""
    tokens = 0

    def relay(event: Event) -> None:
        nonlocal tokens
        if isinstance(event, PlannerWrote | ExecutorWrote):
            tokens += 1
            session.emit(
                ExecutorWrote(
                    run_id=event.run_id,
                    at=event.at,
                    stage=stage,
                    number=number,
                    text=event.text,
                    tokens=tokens,
                    reasoning=event.reasoning,
                    logprobs=event.logprobs,
                )
            )
        elif isinstance(event, BudgetAwaited):
            session.emit(event.model_copy(update={"stage": stage, "number": number}))

    return Relay(relay, session.reading)


def _as_result(answer: object, agent: Executor[Any] | Planner[Any] | None) -> Any:
    """Read a nested policy's answer as a result of the executor's type."""
    if answer is None or answer == "":
        raise NoAnswer("the nested policy ended without an answer: the model wrote none within its limits")
    if not isinstance(agent, Executor):
        return answer
    return agent.read(answer) if isinstance(answer, str) else agent.accept(answer)
