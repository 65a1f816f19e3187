"""The executions of one stage while they are under way: what they wait for, how many, and the first that is accepted.

Invariants:

- An execution waits for nothing but those that its subtask names, and no two wait for each other.
- What was never started, and what was given up, is an execution with a failure as well: none is lost.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from sprint_agents.context import Context
from sprint_agents.errors import PolicyError, RunError, Superseded, WidthExceeded
from sprint_agents.events import ExecutionFinished
from sprint_agents.metrics import Branch
from sprint_agents.plan import Accept, Execution, Plan, Subtask
from sprint_agents.state import Fork, State
from sprint_agents.usage import CallUsage

from .executed import Executed, failed
from .execution import Carry, execute
from .join import write
from .session import Session
from .trunk import Trunk


@dataclass(slots=True)
class _Entry:
    """A subtask and what became of it; the token counts are the planner's up to the end of its prompt.

    There is no ``task`` where it was not started.
    """

    subtask: Subtask
    content_tokens: int = 0
    all_tokens: int = 0
    task: asyncio.Task[Executed] | None = None
    executed: Executed | None = None
    costs: list[CallUsage] = field(default_factory=list[CallUsage])


class Branches:
    """The executions of stage ``stage``, whose tasks ``fork`` owns."""

    __slots__ = ("_accept", "_entries", "_fork", "_session", "_stage", "_trunk", "_width", "accepted")

    def __init__(
        self,
        session: Session,
        fork: Fork,
        trunk: Trunk,
        *,
        stage: int,
        width: int | None = None,
        accept: Accept | None = None,
    ) -> None:
        self._session = session
        self._fork = fork
        self._trunk = trunk
        self._stage = stage
        self._width = width
        self._accept = accept
        self._entries: dict[int, _Entry] = {}
        self.accepted: int | None = None

    @property
    def numbers(self) -> tuple[int, ...]:
        """The subtasks so far, in prompt order."""
        return tuple(self._entries)

    async def start(
        self,
        subtask: Subtask,
        context: Context,
        *,
        rest: str = "",
        carry: Carry | None = None,
    ) -> None:
        """Start ``subtask`` behind ``context`` and ``rest``, as soon as those that it names are finished.

        They must all have been started before anything else is awaited.
        """
        branch = self._fork.branch(context)
        if rest:
            await branch.append(rest)
        entry = _Entry(subtask)
        refusal = self._refusal()
        self._entries[subtask.number] = entry
        if refusal is not None:
            self._give_up(entry, refusal)
            return
        if self._trunk.grow(context) or subtask.after:
            work = self._wait_and_execute(entry, branch, len(context), carry)
        else:
            work = execute(self._session, branch, subtask, stage=self._stage, carry=carry, costs=entry.costs)
        entry.task = self._fork.start(work if self._accept is None else self._judged(entry, work))

    def book(self, number: int, *, content_tokens: int, all_tokens: int) -> None:
        """Note what the planner had written up to the end of a prompt, without tags and with them.

        That is certain only when its request has ended: some servers say only then how many tokens the text was.
        """
        entry = self._entries[number]
        entry.content_tokens, entry.all_tokens = content_tokens, all_tokens

    def _refusal(self) -> RunError | None:
        """Say why no more may be started."""
        if self.accepted is not None:
            return Superseded(f"not started: {self._label(self.accepted)} was accepted before")
        if self._width is not None and len(self._entries) >= self._width:
            return WidthExceeded(f"not started: the policy limits a stage to {self._width} subtasks")
        return None

    async def _wait_and_execute(self, entry: _Entry, branch: State, length: int, carry: Carry | None) -> Executed:
        subtask = entry.subtask
        if subtask.after:
            subtask = await self._with_inputs(subtask, branch)
        await self._trunk.reach(length)
        return await execute(self._session, branch, subtask, stage=self._stage, carry=carry, costs=entry.costs)

    async def _with_inputs(self, subtask: Subtask, branch: State) -> Subtask:
        """Wait for the executions that ``subtask`` names, and write them behind its prompt."""
        awaited = [entry for number, entry in self._entries.items() if number in subtask.after]
        if tasks := [entry.task for entry in awaited if entry.task]:
            await asyncio.wait(tasks)  # not one by one: whoever is cancelled while awaiting a task cancels that task
        finished = {entry.subtask.number: self._outcome(entry) for entry in awaited}
        await write(self._session.dialect, branch, self._stage, [*finished.values()], inputs=True)
        inputs = tuple(finished[number].execution for number in subtask.after)
        return subtask.model_copy(update={"inputs": inputs})

    async def _judged(self, entry: _Entry, work: Coroutine[Any, Any, Executed]) -> Executed:
        """Cancel the others if this execution is the first that is accepted."""
        executed = await work
        if self.accepted is None and executed.execution.succeeded and self._accepts(executed.execution):
            self.accepted = entry.subtask.number
            for other in self._entries.values():
                if other is not entry and other.task is not None:
                    other.task.cancel()
        return executed

    def _accepts(self, execution: Execution[Any]) -> bool:
        assert self._accept is not None
        try:
            return bool(self._accept(execution))
        except Exception as error:
            raise PolicyError(
                f"accept= failed on execution {self._label(execution.number)}, {error!r}: "
                "it is given each Execution that succeeded and says whether the stage needs no other"
            ) from error

    async def finish(self) -> list[Executed]:
        """Wait for all executions, or for the first that is accepted, and return them in prompt order.

        Raises:
            ExecutionFailed: one failed under ``fail_fast``.
            PolicyError: ``accept`` failed.
        """
        tasks = [entry.task for entry in self._entries.values() if entry.task]
        if self._accept is None:
            for task in tasks:
                await task
        elif tasks:
            await asyncio.wait(tasks)
        return [self._outcome(entry) for entry in self._entries.values()]

    def abandoned(self) -> list[Executed]:
        """Return what there was when the fork was left; what still ran then has failed."""
        return [self._outcome(entry, ended=True) for entry in self._entries.values()]

    def _outcome(self, entry: _Entry, *, ended: bool = False) -> Executed:
        """Return what became of a subtask whose task is done."""
        if entry.executed is not None:
            return entry.executed
        assert entry.task is not None
        if entry.task.cancelled():
            by = "its run ended first" if self.accepted is None else f"{self._label(self.accepted)} was accepted first"
            return self._give_up(entry, Superseded(f"cancelled: {by}"))
        if ended and isinstance(error := entry.task.exception(), Exception):
            entry.executed = failed(entry.subtask, error, entry.costs)
        else:
            entry.executed = entry.task.result()
        return entry.executed

    def _give_up(self, entry: _Entry, error: RunError) -> Executed:
        entry.executed = failed(entry.subtask, error, entry.costs)
        if self._session.listening:
            self._session.emit(ExecutionFinished(stage=self._stage, execution=entry.executed.execution))
        return entry.executed

    def paths(self) -> tuple[list[Branch], list[Branch]]:
        """Return the branches of the finished stage for ``metrics``, without and with tags and retries.

        Whatever an execution waited for comes before it; what was not started or given up, nobody waited for.
        """
        content: dict[int, Branch] = {}
        strict: dict[int, Branch] = {}
        for number in self._in_order_of_start():
            entry = self._entries[number]
            if entry.task is None or entry.task.cancelled():
                continue
            executed, after = self._outcome(entry), entry.subtask.after
            content[number] = (_end(entry.content_tokens, content, after), executed.content_tokens)
            strict[number] = (_end(entry.all_tokens, strict, after), executed.all_tokens)
        return list(content.values()), list(strict.values())

    def _in_order_of_start(self) -> Iterable[int]:
        if not any(entry.subtask.after for entry in self._entries.values()):
            return self._entries
        graph = {number: entry.subtask.after for number, entry in self._entries.items()}
        return TopologicalSorter(graph).static_order()

    def _label(self, number: int) -> str:
        return f"{self._stage}.{number}"


def _end(before: int, branches: Mapping[int, Branch], after: Sequence[int]) -> int:
    """Return how many tokens had to be there before an execution could start."""
    return max([before, *(sum(branches[number]) for number in after if number in branches)]) if after else before


def check(plan: Plan, stage: int) -> None:
    """Refuse a policy's plan whose subtasks cannot be run as they stand.

    Raises:
        PolicyError: the numbers are not 1, 2, 3, …; or a subtask waits for itself, for one that there is not, or for
            one that waits for it.
    """
    if [subtask.number for subtask in plan.subtasks] != list(range(1, len(plan.subtasks) + 1)):
        raise PolicyError(f"the subtasks of plan {stage} are not numbered 1, 2, 3, …: make it with Plan.of(prompt, …)")
    graph = {subtask.number: subtask.after for subtask in plan.subtasks if subtask.after}
    for number, after in graph.items():
        if strange := [other for other in after if not 1 <= other <= len(plan.subtasks)]:
            raise PolicyError(
                f"subtask {stage}.{number} is to wait for {stage}.{strange[0]}, which the plan does not have: "
                f"after= names subtasks of the same plan, 1 to {len(plan.subtasks)}"
            )
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle = " for ".join(f"{stage}.{number}" for number in reversed(error.args[1]))
        raise PolicyError(
            f"subtasks of plan {stage} wait for each other, {cycle}: take one of these out of after="
        ) from None
