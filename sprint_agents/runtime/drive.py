"""Follow a policy from its first step to its answer.

Invariants:

- Stages are numbered by their steps. In the context, plans are: a chain or an attempt leaves none there.
- A stage is told, and journalled, when its executions are joined: a consistent cut if no other one is pending by then.
- When a policy has ended, for whatever reason, nothing of it runs on.
"""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from sprint_agents.context import Context
from sprint_agents.errors import InvalidRequest, JournalError, PolicyError
from sprint_agents.events import Event, StageFinished
from sprint_agents.plan import Answer, Ask, Attempts, Join, Plan, Stage
from sprint_agents.policies import Planning, Policy, steps_of
from sprint_agents.retries import retry
from sprint_agents.state import State

from .answering import agreed, repeated
from .draft import Pending
from .join import kept, write
from .journal import Journal, restored
from .nested import carried_by
from .session import Session
from .stage import run_stage


async def drive(session: Session, policy: Policy, planning: Planning, planner: State, journal: Journal | None) -> Any:
    """Return the answer's value, of the planner's declared type.

    Raises:
        PolicyError: the policy is no async generator, yields what is no step, or ends without an answer.
        NoAnswer: it answered with nothing.
        InvalidResult: its answer is not of the declared type.
    """
    read = partial(agreed, session, planning)
    return (await _follow(session, policy, planning, planner, journal=journal, read=read)).value


async def _follow(
    session: Session,
    policy: Policy,
    planning: Planning,
    planner: State,
    *,
    plans: int = 0,
    journal: Journal | None = None,
    read: Callable[..., Awaitable[Any]] | None = None,
) -> Answer:
    """Run the steps of ``policy`` behind the ``plans`` that the context holds, up to its answer, as it is ``read``."""
    planning.quote = session.dialect.quote
    steps = steps_of(policy, planning)
    async with AsyncExitStack() as running:
        stages = _Stages(session, planning, planner, journal, running, plans=plans, told=planner.context)
        running.callback(stages.keep_what_finished)
        finished: Stage[Any] | None = None
        try:
            while True:
                try:
                    step = await steps.asend(finished)  # type: ignore[arg-type]
                except StopAsyncIteration:
                    raise PolicyError("the policy ended without an answer: yield Answer(value=…) last") from None
                if isinstance(step, Answer):
                    await stages.give_up()
                    return step if read is None else Answer(value=await read(step.value, again=stages.correct))
                finished = await stages.take(step)
        finally:
            await steps.aclose()


@dataclass(slots=True)
class _Stages:
    """The stages of one policy: finished ones in ``planning``, those that did not wait here too.

    ``running`` owns their executions. ``told`` is the context up to which listeners know it.
    """

    session: Session
    planning: Planning
    planner: State
    journal: Journal | None
    running: AsyncExitStack
    plans: int
    told: Context
    pending: dict[int, Pending] = field(default_factory=dict[int, Pending])
    recorded: dict[int, StageFinished] = field(default_factory=dict[int, StageFinished])

    async def take(self, step: object) -> Stage[Any]:
        """Run a step, or take its stage from the journal."""
        if isinstance(step, Join):
            return await self._join(step)
        if not isinstance(step, Plan | Ask | Attempts):
            raise PolicyError(
                f"a policy yields a Plan, an Answer, or what planning.ask, .attempt and .join return, not {step!r}"
            )
        if isinstance(step, Ask) and step.form != "plan" and (options := step.model_fields_set - {"form"}):
            raise PolicyError(
                f"planning.ask({step.form!r}) starts no subtasks, so {min(options)}= says nothing: leave it out, "
                "or ask for a plan"
            )
        number = len(self.planning.stages) + 1
        if number > (most := self.session.limits.stages):
            raise PolicyError(f"the policy wants stage {number} of at most {most}: answer, or raise Limits(stages=…)")
        if isinstance(step, Ask) and step.form == "plan" and number == most:
            while self.planning.pending:
                await self._join(Join())
            step = Ask(form="answer")
        if recorded := self._recorded(number, step):
            stage = await self._replay(recorded, step)
        else:
            stage = await self._run(step, number)
        if stage.answer is None and (isinstance(step, Plan) or (isinstance(step, Ask) and step.form == "plan")):
            self.plans += 1
        return stage

    async def correct(self, error: str) -> Stage[Any]:
        """Have the planner answer again, behind a note of what is wrong with its last answer."""
        number, step = len(self.planning.stages) + 1, Ask(form="answer")
        if recorded := self._recorded(number, step):
            return await self._replay(recorded, step)
        self.session.ledger.note_retry()
        written = self.planner.context.own_text
        await self.planner.append(
            self.session.dialect.write_feedback("answer", self.plans + 1, 0, written, error=error)
        )
        return await self._run(step, number, correction=True)

    def _recorded(self, number: int, step: Plan | Ask | Attempts) -> StageFinished | None:
        """Return what the journal holds of a stage, if anything, its values typed again."""
        recorded = self.journal.replay(number) if self.journal else None
        if recorded is None:
            return None
        agent = self.session.planner if isinstance(step, Attempts) else self.session.executor
        return restored(recorded, agent)

    async def _run(self, step: Plan | Ask | Attempts, number: int, *, correction: bool = False) -> Stage[Any]:
        session, label = self.session, self.plans + 1
        retries = int(correction)

        def count(_: int, error: BaseException) -> None:
            nonlocal retries
            retries += 1
            session.ledger.note_retry()

        if number != label and session.listening:
            session = replace(session, listeners=[_shifted(session, number - label)])
        carried = partial(carried_by, follow=_follow, parent=self.planning, turn=number)
        work = partial(
            run_stage,
            session,
            self.planner,
            step,
            number=label,
            task=self.planning.task,
            attempt=partial(carried, whole=True),
            nest=partial(carried, whole=False),
        )
        failure = session.failure
        trying = retry(work, attempts=failure.attempts, before_retry=count) if failure.mode == "retry" else work()
        result = await trying
        if isinstance(result, Pending):
            self.pending[number] = result
            self.running.push_async_exit(result.owned)
            stage = _numbered(result.draft.pending(), number)
            self.planning.stages.append(stage)
            return stage
        stage = repeated(_numbered(result, number), retries, correction=correction)
        self.planning.stages.append(stage)
        self._tell(stage)
        return stage

    async def _join(self, step: Join) -> Stage[Any]:
        """Wait for the executions of a stage and append them to the planner's context.

        Raises:
            PolicyError: that stage, or no stage at all, is pending.
        """
        waiting = self.planning.pending
        number = step.stage if step.stage is not None else next(iter(waiting), None)
        if number is None or number not in waiting:
            which = "no stage is" if number is None else f"stage {number} is not"
            raise PolicyError(
                f"there is nothing to join, {which} pending: ask for a plan with planning.ask(wait=False) before"
            )
        if number in self.recorded:
            return await self._take_over(self.recorded.pop(number))
        pending, start = self.pending[number], self.planner.context
        executed = await pending.branches.finish()
        await pending.owned.aclose()
        label = pending.draft.number
        try:
            if joining := kept(pending.keep, executed, stage=label, accepted=pending.branches.accepted):
                await write(self.session.dialect, self.planner, label, joining)
        except BaseException:
            self.planner.context = start
            raise
        del self.pending[number]
        return self._settle(number, pending.draft.joined(executed, since=self.planning.stages[number - 1 :]))

    async def give_up(self) -> None:
        """End what is pending, for the policy has its answer."""
        for number in self.planning.pending:
            if number in self.recorded:
                await self._take_over(self.recorded.pop(number))
                continue
            pending = self.pending.pop(number)
            await pending.owned.aclose()
            self._settle(number, pending.draft.finished(pending.branches.abandoned()))

    def keep_what_finished(self) -> None:
        """Record what a run that failed leaves behind, now that nothing of it runs."""
        for number, pending in self.pending.items():
            stage = pending.draft.finished(pending.branches.abandoned())
            self.planning.stages[number - 1] = _numbered(stage, number)

    def _settle(self, number: int, stage: Stage[Any]) -> Stage[Any]:
        stage = _numbered(stage, number)
        self.planning.stages[number - 1] = stage
        self._tell(stage)
        return stage

    def _tell(self, stage: Stage[Any]) -> None:
        if self.session.listening:
            context = self.planner.context
            self.session.emit(
                StageFinished(
                    stage=stage,
                    token_ids=tuple(context.ids_since(self.told)),
                    text=context.text_since(self.told),
                    cut=not self.planning.pending,
                )
            )
            self.told = context

    async def _replay(self, recorded: StageFinished, step: Plan | Ask | Attempts) -> Stage[Any]:
        """Take a stage from the journal; one that did not wait, as it was before its join."""
        stage = recorded.stage
        if stage.executions and stage.answer is None and not isinstance(step, Attempts) and not step.wait:
            numbers = tuple(execution.number for execution in stage.executions)
            stage = stage.model_copy(update={"executions": (), "accepted": None, "pending": numbers})
            self.recorded[stage.number] = recorded
            self.planning.stages.append(stage)
            return stage
        self.planning.stages.append(stage)
        return await self._take_over(recorded)

    async def _take_over(self, recorded: StageFinished) -> Stage[Any]:
        """Bring what a stage added to the context from the journal, ids and all.

        Raises:
            JournalError: its ids mean something else to this engine.
        """
        try:
            same = await self.session.engine.decode(recorded.token_ids) == recorded.text
        except InvalidRequest:
            same = False
        if not same:
            raise JournalError(
                f"the journal was written with another tokenizer than that of {self.session.engine.name}: "
                "resume with the model that began the run, or use another path"
            )
        stage = recorded.stage
        self.planner.context = self.planner.context.extend(recorded.token_ids, recorded.text)
        self.planning.stages[stage.number - 1] = stage
        self.session.ledger.charge(stage)
        self.session.emit(recorded)
        self.told = self.planner.context
        return stage


def _numbered(stage: Stage[Any], number: int) -> Stage[Any]:
    return stage if stage.number == number else stage.model_copy(update={"number": number})


def _shifted(session: Session, shift: int) -> Callable[[Event], None]:
    """Tell events of a stage under its step's number, where the context counts its plan otherwise."""

    def hear(event: Event) -> None:
        session.emit(event.model_copy(update={"stage": event.stage + shift}))  # type: ignore[union-attr]

    return hear
