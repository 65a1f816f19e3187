"""The executions of one stage while they run: their dependencies, their number, and the first that is accepted.

Invariants:

- An execution waits only for those that its subtask names, and no two wait for each other.
- A subtask that was not started or was given up has an execution with a failure, so none is lost.
- An execution that is kept from when the stage was begun before has no task, and is not started again.
- In order, an execution settles the stage only if none before it does, however fast it is.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from graphlib import TopologicalSorter
from typing import Any

from sprint_agents.context import Context
from sprint_agents.dialects.completions import Diagnostic
from sprint_agents.errors import (
    DeadlineExceeded,
    ExecutionFailed,
    RunError,
    Superseded,
    WidthExceeded,
)
from sprint_agents.events import ExecutionFinished
from sprint_agents.functions import own_cancellation
from sprint_agents.logs import branch_in_logs
from sprint_agents.plan import Accept, Execution, Subtask
from sprint_agents.settles import Settles
from sprint_agents.state import Fork
from sprint_agents.usage import CallUsage, EngineCall

from .assignment import Assignment
from .critical_path import BranchWork
from .early_ends import SearchGate, meets
from .executor import Runner, SubtaskOutcome, execute
from .gate import Gate
from .hook_calls import HookCalls
from .join import Settled, append_executions
from .open_stage import OpenStage
from .prefill import JoinPrefill
from .prefix import SharedPrefix
from .session import Session

_Work = Callable[[], Coroutine[Any, Any, SubtaskOutcome]]
"""A function, since a coroutine whose task is cancelled before it starts would never be awaited."""


@dataclass(slots=True)
class _Branch(Assignment):
    """An assignment, its task (None if it was not started) and its outcome.

    ``content_tokens`` are its ``plan_tokens`` without tags. ``kept`` if the outcome is from when the stage was begun
    before. It was ``late`` if it ended because the time that is kept for the answer began.
    """

    content_tokens: int = 0
    task: asyncio.Task[SubtaskOutcome] | None = None
    outcome: SubtaskOutcome | None = None
    kept: bool = False
    late: bool = False

    @property
    def counts(self) -> bool:
        """Whether the execution is on a path through the stage: it was started, and not cancelled."""
        return self.kept or (self.task is not None and not self.task.cancelled())


@dataclass(slots=True)
class Branches:
    """The executions of ``stage``, which ``runner`` carries out in tasks of ``fork``.

    At most ``width`` are started. ``accepted`` is the number of the one that settles the stage so far, by ``accept``.
    ``kept`` has those that had finished when the stage was begun before; None if it is never begun again.
    """

    session: Session
    runner: Runner
    fork: Fork
    prefix: SharedPrefix
    stage: int
    width: int | None = None
    accept: Accept | None = None
    kept: OpenStage | None = None
    accepted: int | None = None
    _settles: Settles | None = field(init=False)
    _branches: dict[int, _Branch] = field(default_factory=dict[int, _Branch])
    _verdict: asyncio.Event | None = None

    def __post_init__(self) -> None:
        self._settles = None if self.accept is None else Settles.of(self.accept)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The subtasks so far, in prompt order."""
        return tuple(self._branches)

    @property
    def concurrency(self) -> int | None:
        """The most executions that are active at once; None for no bound."""
        return self.session.gate.places if isinstance(self.session.gate, Gate) else None

    @property
    def settled(self) -> Settled | None:
        """The execution that settles the stage; None if none has so far."""
        return None if self.accepted is None else Settled(self.accepted, self._in_order)

    @property
    def diagnostics(self) -> list[Diagnostic]:
        """The faults of the executors' completions, in prompt order."""
        return [fault for branch in self._branches.values() for fault in branch.diagnostics]

    async def start(self, subtask: Subtask, context: Context, *, rest: str = "", plan_tokens: int = 0) -> None:
        """Start ``subtask`` after ``context`` and ``rest``, as soon as the executions that it names are finished.

        The planner had written ``plan_tokens`` when its prompt was closed, by the count of the engine so far.

        Start those before, with no other await between.
        """
        state = self.fork.branch(context)
        if rest:
            await state.append(rest)
        clock = self.session.clock
        branch = _Branch(clock, self.stage, subtask, state, prompt_closed=clock.now(), plan_tokens=plan_tokens)
        outcome = self.kept.take_outcome(subtask, state.context) if self.kept else None
        refusal = self._refusal(subtask.number)
        self._branches[subtask.number] = branch
        if outcome is not None and self.kept is not None:
            self._take(branch, outcome, self.kept)
            return
        if refusal is not None:
            self._give_up(branch, refusal)
            return
        if self.prefix.extend(context) or subtask.after:
            work = partial(self._wait_and_execute, branch, len(context))
        else:
            work = partial(execute, self.session, self.runner, branch)
        if self.kept is not None:
            work = partial(self._keep, branch, work, self.kept)
        if self.session.hooks is not None:
            work = partial(self._show, branch, work, self.session.hooks)
        if self._settles is not None:
            work = partial(self._judge, branch, work)
        with branch_in_logs(subtask.number):  # the task keeps it
            branch.task = self.fork.start(work())
        if self.session.bounded and self.runner.uses_tokens:
            self.session.ledger.follow(branch.task)

    def _take(self, branch: _Branch, outcome: SubtaskOutcome, kept: OpenStage) -> None:
        """Take an outcome from when the stage was begun before; only its verdict may be missing."""
        branch.outcome, branch.diagnostics, branch.kept = outcome, outcome.diagnostics, True
        number, execution = branch.subtask.number, outcome.execution
        if self.session.listening:
            self._emit_finished(execution, replayed=True)
        if self._settles is None or not execution.succeeded:
            return
        if number not in kept.verdicts:
            branch.task = self.fork.start(self._judge(branch, partial(_done, outcome)))
        elif kept.verdicts[number] and self._may_settle(number):
            self._accept_only(branch)

    async def _keep(self, branch: _Branch, work: _Work, kept: OpenStage) -> SubtaskOutcome:
        """Keep the outcome of an execution, in case the stage is begun again."""
        context = branch.branch.context
        try:
            branch.outcome = outcome = await work()
            outcome.diagnostics = branch.diagnostics
        except Exception as error:
            kept.drop_inner(branch.subtask.number, error)
            raise
        if not (branch.diagnostics and self.session.ledger.spent):  # cut off; with a larger budget it may be longer
            await kept.keep_outcome(outcome, context)
        return outcome

    async def _show(self, branch: _Branch, work: _Work, hooks: HookCalls) -> SubtaskOutcome:
        """Have a hook look at a finished execution, which stays finished if its task is cancelled meanwhile."""
        branch.outcome = outcome = await work()
        session, number = self.session, branch.subtask.number
        call = partial(session.call_function, stage=self.stage, number=number)
        label = self.stage + session.shift
        await hooks.after("after_execution", outcome.execution, call, stage=label, number=number)
        return outcome

    def set_prompt_tokens(self, number: int, *, content: int, strict: int) -> None:
        """Set how many tokens the planner had written up to the end of a prompt, without tags and with them.

        They are known only when the planner's request has ended, because some servers report token counts only then.
        """
        branch = self._branches[number]
        branch.content_tokens, outcome = content, branch.outcome or _result(branch.task)
        if branch.plan_tokens != strict and outcome is not None:
            outcome.execution = outcome.execution.model_copy(update={"plan_tokens": strict})
        branch.plan_tokens = strict

    def begin_after(self, call: EngineCall | None) -> None:
        """Have all subtasks begin where the planner's ``call`` ended, because none could start before."""
        usage = call.usage if call else CallUsage()
        for number in self._branches:
            content = usage.generated_tokens - usage.tag_tokens
            self.set_prompt_tokens(number, content=content, strict=usage.generated_tokens)

    def _refusal(self, number: int) -> RunError | None:
        """Return why subtask ``number`` may not start."""
        if self.accepted is None and self.kept is not None:
            self.accepted = self.kept.accepted
        if self.accepted is not None and not self._may_settle(number):
            return Superseded(f"not started: {self._label(self.accepted)} was accepted before")
        if self.width is not None and len(self._branches) >= self.width:
            return WidthExceeded(f"not started: the policy limits a stage to {self.width} subtasks")
        return None

    async def _wait_and_execute(self, branch: _Branch, length: int) -> SubtaskOutcome:
        if branch.subtask.after:
            branch.subtask = await self._with_inputs(branch)
        reading = await self.prefix.turn(length)
        if reading is None:
            return await execute(self.session, self.runner, branch)
        branch.begun = reading.begun
        try:
            return await execute(self.session, self.runner, branch)
        finally:
            reading.ended()

    async def _with_inputs(self, branch: _Branch) -> Subtask:
        """Wait for the executions that a subtask names, and append them after its prompt."""
        after = branch.subtask.after
        awaited = [other for number, other in self._branches.items() if number in after]
        if tasks := [other.task for other in awaited if other.task]:
            await asyncio.wait(tasks)  # awaited one by one, they would be cancelled along with this task
        outcomes = {other.subtask.number: self._outcome(other) for other in awaited}
        await append_executions(self.session.dialect, branch.branch, self.stage, list(outcomes.values()), inputs=True)
        inputs = tuple(outcomes[number].execution for number in after)
        return branch.subtask.model_copy(update={"inputs": inputs})

    async def _judge(self, branch: _Branch, work: _Work) -> SubtaskOutcome:
        """Cancel the executions that this one makes unnecessary if it settles the stage."""
        branch.outcome = outcome = await work()  # kept, even if another one is accepted meanwhile
        number = branch.subtask.number
        if self._may_settle(number) and outcome.execution.succeeded:
            # Of executions that finish at the same time, the first counts, however long their verdicts take.
            earlier, self._verdict = self._verdict, asyncio.Event()
            verdict = self._verdict
            try:
                assert self._settles is not None
                accepted = await meets(self._settles, outcome.execution, self.session, stage=self.stage)
                if earlier is not None:
                    await earlier.wait()
            finally:
                verdict.set()
            if settled := accepted and self._may_settle(number):
                self._accept_only(branch)
            elif not accepted and isinstance(self.session.gate, SearchGate):
                self.session.gate.miss()
            if self.kept is not None:
                self.kept.keep_verdict(number, accepted=settled)
        return outcome

    @property
    def _in_order(self) -> bool:
        return self._settles is not None and self._settles.in_order

    def _may_settle(self, number: int) -> bool:
        """Say whether execution ``number`` may settle the stage: none has or, in order, one that comes after it has."""
        return self.accepted is None or (self._in_order and number < self.accepted)

    def _accept_only(self, branch: _Branch) -> None:
        self.accepted = branch.subtask.number
        for number, other in self._branches.items():
            if other is not branch and other.task is not None and not self._may_settle(number):
                other.task.cancel()

    async def finish(self, prefill: JoinPrefill | None = None) -> list[SubtaskOutcome]:
        """Wait for all executions, or for the first that is accepted, and return them in prompt order.

        ``prefill`` is offered what comes first in that order, whenever the next one still runs.

        Raises:
            ExecutionFailed: an execution failed under ``fail_fast``.
            PolicyError: ``accept`` failed.
        """
        tasks = [branch.task for branch in self._branches.values() if branch.task]
        kept = self.session.answer_time
        timer = asyncio.get_running_loop().call_later(max(0.0, kept.left), self._end_late) if kept else None
        try:
            await self._wait(tasks, prefill)
        finally:
            if timer is not None:
                timer.cancel()
        return [self._outcome(branch) for branch in self._branches.values()]

    def _end_late(self) -> None:
        """Cancel what still runs, since the rest of the time is for the answer."""
        for branch in self._branches.values():
            if branch.task is not None and not branch.task.done():
                branch.late = True
                branch.task.cancel()

    async def _wait(self, tasks: Sequence[asyncio.Task[SubtaskOutcome]], prefill: JoinPrefill | None) -> None:
        for task in tasks:
            if not task.done():
                if prefill is not None:
                    prefill.offer(self._before(task), task)
                await asyncio.wait([task])  # if the run is cancelled, an execution that ignores it cannot hold that up

    def _before(self, task: asyncio.Task[SubtaskOutcome]) -> list[SubtaskOutcome]:
        """Return the executions before that of ``task``, which have ended, up to one that was cancelled."""
        found: list[SubtaskOutcome] = []
        for branch in self._branches.values():
            outcome = branch.outcome or _result(branch.task)
            if branch.task is task or outcome is None:
                break
            found.append(outcome)
        return found

    def abandon(self) -> list[SubtaskOutcome]:
        """Return the executions after the fork was left; those that it cancelled have failed."""
        return [self._outcome(branch, left=True) for branch in self._branches.values()]

    def _outcome(self, branch: _Branch, *, left: bool = False) -> SubtaskOutcome:
        """Return the outcome of a subtask whose task is done; with ``left`` an error of the task is a failure."""
        if branch.outcome is not None:
            return branch.outcome
        assert branch.task is not None
        if branch.task.cancelled():
            if branch.late and not left:
                kept = self.session.ledger.budget.answer_seconds
                return self._give_up(
                    branch, DeadlineExceeded(f"cancelled: the run's last {kept:g} s are for the answer")
                )
            if self.accepted is None and not left:
                error = own_cancellation()
                if self.session.failure.mode == "fail_fast":
                    raise ExecutionFailed(f"subtask {self._label(branch.subtask.number)} failed: {error}") from error
                return self._give_up(branch, error)
            by = "its run ended first" if self.accepted is None else f"{self._label(self.accepted)} was accepted first"
            return self._give_up(branch, Superseded(f"cancelled: {by}"))
        if left and isinstance(error := branch.task.exception(), Exception):
            cause = error.__cause__ if isinstance(error, ExecutionFailed) else None
            branch.outcome = SubtaskOutcome.failure(branch, cause if isinstance(cause, Exception) else error)
        else:
            branch.outcome = branch.task.result()
        return branch.outcome

    def _give_up(self, branch: _Branch, error: RunError) -> SubtaskOutcome:
        branch.outcome = SubtaskOutcome.failure(branch, error)
        if self.session.listening:
            self._emit_finished(branch.outcome.execution, replayed=False)
        return branch.outcome

    def _emit_finished(self, execution: Execution[Any], *, replayed: bool) -> None:
        session = self.session
        session.emit(
            ExecutionFinished(
                **session.stamp(),
                stage=self.stage,
                execution=execution,
                replayed=replayed,
            )
        )

    @property
    def works(self) -> Iterator[BranchWork]:
        """The branches on paths through the finished stage, each after those that it waited for.

        Subtasks that were not started or were cancelled are left out, because no other execution waited for them.
        """
        for number in self._in_order_of_start():
            branch = self._branches[number]
            if branch.counts:
                yield self._outcome(branch), branch.content_tokens, branch.subtask.after

    def _in_order_of_start(self) -> Iterable[int]:
        if not any(branch.subtask.after for branch in self._branches.values()):
            return self._branches
        graph = {number: branch.subtask.after for number, branch in self._branches.items()}
        return TopologicalSorter(graph).static_order()

    def _label(self, number: int) -> str:
        return f"{self.stage}.{number}"


def _result(task: asyncio.Task[SubtaskOutcome] | None) -> SubtaskOutcome | None:
    """Return what a task has returned; None if it has not ended, or has raised."""
    if task is None or not task.done() or task.cancelled() or task.exception() is not None:
        return None
    return task.result()


async def _done(outcome: SubtaskOutcome) -> SubtaskOutcome:
    return outcome
