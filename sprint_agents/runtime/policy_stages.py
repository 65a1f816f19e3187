"""The stages of one policy: each step becomes a stage, is taken from the journal, or waits to be joined.

Invariants:

- A stage has the number of its step. The context numbers plans, since chains and attempts leave no plan there.
- A stage is announced, and journalled, when its executions have joined; it is a consistent cut if none is pending then.
- When a run fails, its open and its pending stages are in its record with what they had finished.
"""

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

from sprint_agents.agents import as_text
from sprint_agents.context import Context
from sprint_agents.dialects.base import Dialect, Form
from sprint_agents.errors import InvalidResult, NoAnswer, PolicyError
from sprint_agents.events import NoteRead, StageFinished
from sprint_agents.generation import Generation
from sprint_agents.logs import log, stage_in_logs
from sprint_agents.markup import PromptText
from sprint_agents.plan import Ask, Attempts, Join, Plan, Stage
from sprint_agents.policies import Planning
from sprint_agents.retries import may_be_corrected, retry
from sprint_agents.settles import Settles
from sprint_agents.state import State
from sprint_agents.usage import EngineCall

from .early_ends import gate_until, with_settles
from .executor import Runner
from .journal import StageJournal, check_vocabulary, open_stage
from .journal_records import count_subtasks
from .nested import JournalOf, SprintRunner
from .open_stage import OpenStage
from .progress import must_answer, repeated_plan
from .session import Session
from .stage import StageRun
from .steps import check_step, numbered, renumber, with_retries
from .validation import validate

Nest = Callable[[Plan | Ask | Attempts, int, Planning, Runner, JournalOf | None], Runner]
"""Returns what has policies carry out what a step starts, the step with this number."""


class PolicyAnswer(NamedTuple):
    """The answer of a policy, and the ``completion`` that is this answer if a nested policy's model wrote it."""

    value: Any
    completion: Generation | None = None


@dataclass(slots=True)
class PolicyStages:
    """The stages of one policy: records in ``planning``, and those that are pending here as well.

    Attributes:
        running: owns the executions of pending stages.
        nest: returns what has policies carry out what a step starts.
        plans: the number of plans in the context.
        announced_context: the context up to the last announced stage.
        last: the latest stage that was run; ``open`` is its number until it is joined or pending.
        kept: what had finished of the stages that are not joined, by number.
        journal_stages: stages of the journal that the policy has yet to join.
        forced: the planner was asked for its answer, although the policy asked for a plan.
    """

    session: Session
    planning: Planning
    planner: State
    runner: Runner
    journal: StageJournal | None
    running: AsyncExitStack
    nest: Nest
    plans: int
    announced_context: Context
    last: StageRun | None = None
    open: int | None = None
    kept: dict[int, OpenStage] = field(default_factory=dict[int, OpenStage])
    pending: dict[int, StageRun] = field(default_factory=dict[int, StageRun])
    journal_stages: dict[int, StageFinished] = field(default_factory=dict[int, StageFinished])
    forced: bool = False

    async def take(self, step: object) -> Stage[Any]:
        """Run a step, or take its stage from the journal."""
        if isinstance(step, Join):
            return await self._join(step)
        step = check_step(step, self.session.engine)
        number, limits = len(self.planning.stages) + 1, self.session.limits
        plans = isinstance(step, Ask) and step.plans
        if plans and self.forced:
            return await self._request_missing_answer()
        if number > (most := limits.stages):
            raise PolicyError(f"the policy wants stage {number} of at most {most}: answer, or raise Limits(stages=…)")
        if plans and (number == most or must_answer(self.planning.stages, limits) or self._nears_end(number)):
            while self.planning.pending:
                await self._join(Join())
            step, self.forced = Ask(form="answer"), True
        if record := self.journal and self.journal.replay(number):
            stage = await self._replay(record, step)
        else:
            stage = await self._run(step, number)
        if stage.answer is None and (isinstance(step, Plan) or (isinstance(step, Ask) and step.plans)):
            self.plans += 1
        return stage

    def _nears_end(self, number: int) -> bool:
        """Say whether the run must answer in stage ``number`` because its budget nears its end.

        A stage that an earlier process has begun keeps its form.
        """
        if self.planning.depth:
            return False
        session = self.session
        begun = self.journal.form_of(number) if self.journal is not None else None
        if begun is not None:
            return begun == "answer"
        return session.ledger.nears_end or (session.answer_time is not None and session.answer_time.left <= 0)

    async def answer(self, value: object) -> PolicyAnswer:
        """Return the policy's answer, read as the planner's type.

        An answer that the planner itself wrote, in the last stage, may be corrected as often as the planner has
        ``attempts``. The answer of a nested policy is the result of an execution, which its runner reads.

        Raises:
            NoAnswer: the answer is empty.
            InvalidResult: it is not of the declared type.
        """
        if self.session.enclosing:
            last = self.last
            return PolicyAnswer(value, last.result if last is not None and last.answer == value else None)
        last = self.planning.stages[-1] if self.planning.stages else None
        own = last is not None and not last.executions and isinstance(value, str | None) and value == last.answer
        try:
            return PolicyAnswer(await self._accept(value))
        except (InvalidResult, NoAnswer) as error:
            if not own:
                raise
            stage = await self._correct(error)
            return PolicyAnswer(self._read(stage.answer))

    async def _request_missing_answer(self) -> Stage[Any]:
        """Let the planner answer again if it had to answer and did not; a policy may not ask on after an answer.

        Raises:
            NoAnswer: it gives none again.
        """
        try:
            self._read(self.planning.stages[-1].answer)
        except NoAnswer as error:
            return await self._correct(error)
        raise PolicyError("the policy asks on after the planner's last answer: yield Answer(value=stage.answer)")

    async def _correct(self, error: InvalidResult | NoAnswer) -> Stage[Any]:
        """Let the planner correct its answer, within its ``attempts``, and return the stage with a valid one."""
        errors: list[BaseException] = []

        async def correct() -> Stage[Any]:
            stage = await self._request_correction(errors.pop())
            await self._accept(stage.answer)
            return stage

        with stage_in_logs(len(self.planning.stages)):
            return await retry(
                correct,
                attempts=self.session.planner.attempts,
                when=may_be_corrected,
                before_retry=lambda _, error: errors.append(error),
                after=error,
            )

    async def _accept(self, answer: object) -> Any:
        """Read an answer, and have the planner's validator look at it, unless an earlier process knew its verdict."""
        value, planner, last = self._read(answer), self.session.planner, len(self.planning.stages)
        if planner.validator is None or (self.journal is not None and self.journal.accepted(last)):
            return value
        text = answer if isinstance(answer, str) else as_text(value)
        if self.journal is not None and self.journal.replay(last + 1) is not None:
            raise InvalidResult("its validator refused it in an earlier process", text=text)
        await validate(self.session, planner, value, text)
        return value

    def _read(self, answer: object) -> Any:
        if answer is None or answer == "":
            faults = self.planning.stages[-1].diagnostics if self.planning.stages else ()
            causes = "; ".join(dict.fromkeys(fault.message for fault in faults)) or "the planner wrote none"
            raise NoAnswer(f"the run ended without an answer: {causes}")
        planner = self.session.planner
        return planner.read(answer) if isinstance(answer, str) else planner.accept(answer)

    async def _request_correction(self, error: BaseException) -> Stage[Any]:
        """Let the planner answer again, after a note of what is wrong with its last answer."""
        reason = error.reason if isinstance(error, InvalidResult) else "there is none"
        number, step = len(self.planning.stages) + 1, Ask(form="answer")
        if record := self.journal and self.journal.replay(number):
            return await self._replay(record, step)
        self.session.ledger.note_retries()
        dialect, context = self.session.dialect, self.planner.context
        written = context.own_text
        if self.planning.stages[-1].answer is None and context.parent is not None:
            written = context.parent.own_text + written  # the turn, and the text that has closed it
        written = _without_opening(dialect, self.plans + 1, written)
        await self.planner.append(dialect.write_feedback("answer", self.plans + 1, 0, written, error=reason))
        return await self._run(step, number, correction=True)

    async def _run(self, step: Plan | Ask | Attempts, number: int, *, correction: bool = False) -> Stage[Any]:
        session, plan_number, runner = self.session, self.plans + 1, self.runner
        step = with_settles(step, session)
        retries, started, calls = int(correction), session.clock.now(), list[EngineCall]()
        if isinstance(step, Ask) and step.form == "answer" and not self.planning.depth:
            session.ledger.begin_answer()
        journal_of = partial(self.journal.inner, number) if self.journal is not None else None
        if isinstance(step, Attempts) or step.nested:
            runner = self.nest(step, number, self.planning, self.runner, journal_of)
        elif isinstance(runner, SprintRunner):
            runner = replace(runner, journal_of=journal_of)
        if number != plan_number:
            shift = number - plan_number
            listeners = [renumber(session, shift)] if session.listening else ()
            session = replace(session, listeners=listeners, shift=shift)
        if step.accept is not None:
            session = replace(session, interrupts=True, gate=gate_until(Settles.of(step.accept), session, runner))
        if session.hooks is not None:
            await session.hooks.before("before_stage", step, partial(self._call_hook, number))

        self.open, kept = number, await open_stage(number, session, self.journal)
        if kept is not None:
            self.kept[number] = kept
        if session.steering is not None or (kept is not None and kept.notes):
            await self._read_notes(session, plan_number, kept)

        async def work() -> Stage[Any]:
            self.last = StageRun(session, self.planner, step, runner, plan_number, started, kept, calls)
            return await self.last.run(self.planning.task)

        def count(_: int, error: BaseException) -> None:
            nonlocal retries
            retries += 1
            session.ledger.note_retries()

        mode, attempts = session.failure.mode, session.failure.attempts
        with stage_in_logs(number):
            stage = await (retry(work, attempts=attempts, before_retry=count) if mode == "retry" else work())
            for diagnostic in stage.diagnostics:
                log("info", "plan.odd", kind=diagnostic.kind, position=diagnostic.position)
        stage, run, self.open = numbered(stage, number), self.last, None
        assert run is not None
        if isinstance(step, Ask) and (repeated := repeated_plan(stage, self.planning.stages)):
            stage = stage.model_copy(update={"diagnostics": (*stage.diagnostics, *repeated)})
        if run.tasks is not None:
            self.pending[number] = run
            self.running.push_async_exit(run.tasks)
            self.planning.stages.append(stage)
            return stage
        self.planning.stages.append(stage)
        return await self._finish(with_retries(stage, retries, correction=correction))

    async def _read_notes(self, session: Session, plan_number: int, kept: OpenStage | None) -> None:
        """Append what was said to the run; a stage that an earlier process began reads what it had read then."""
        if kept is not None and kept.begun:
            notes = kept.notes
        else:
            notes = session.steering.take() if session.steering is not None else ()
            if notes and kept is not None:
                kept.keep_notes(notes)
        for note in notes:
            await self.planner.append(session.dialect.write_message(note))
            if session.listening:
                session.emit(NoteRead(**session.stamp(), stage=plan_number, text=note))

    async def _join(self, step: Join) -> Stage[Any]:
        """Wait for the executions of a pending stage and append them to the planner's context.

        Raises:
            PolicyError: that stage is not pending, or none is.
        """
        waiting = self.planning.pending
        number = step.stage if step.stage is not None else next(iter(waiting), None)
        if number is None or number not in waiting:
            which = "no stage is" if number is None else f"stage {number} is not"
            raise PolicyError(
                f"there is nothing to join, {which} pending: ask for a plan with planning.ask(wait=False) before"
            )
        if number in self.journal_stages:
            return await self._restore(self.journal_stages.pop(number))
        stage = await self.pending[number].join(since=self.planning.stages[number - 1 :])
        del self.pending[number]
        return await self._finish(numbered(stage, number))

    async def give_up_pending(self) -> None:
        """End the pending stages, because the policy has its answer."""
        for number in self.planning.pending:
            if number in self.journal_stages:
                await self._restore(self.journal_stages.pop(number))
                continue
            run = self.pending[number]
            assert run.tasks is not None
            await run.tasks.aclose()
            del self.pending[number]
            await self._finish(numbered(run.abandon(), number))

    def abandon(self) -> None:
        """Record what the unfinished stages of a failed policy had finished, when none of its tasks is left."""
        for number, run in self.pending.items():
            self.planning.stages[number - 1] = numbered(run.abandon(interrupted=True), number)
        if self.open is not None and self.last is not None and self.last.begun:
            self.planning.stages.append(numbered(self.last.abandon(interrupted=True), self.open))

    async def _finish(self, stage: Stage[Any]) -> Stage[Any]:
        """Record a stage whose executions have joined, have a hook look at it, and announce it."""
        self.planning.stages[stage.number - 1] = stage  # first, since the run may end while the hook is awaited
        if (hooks := self.session.hooks) is not None:
            await hooks.after("after_stage", stage, partial(self._call_hook, stage.number), stage=stage.number)
            if faults := hooks.take_faults():
                stage = stage.model_copy(update={"diagnostics": (*stage.diagnostics, *faults)})
                self.planning.stages[stage.number - 1] = stage
        await self._announce(stage)
        return stage

    async def _call_hook(self, number: int, hook: Callable[..., Any], value: object) -> Any:
        return await self.session.call_function(hook, value, stage=number)

    async def _announce(self, stage: Stage[Any]) -> None:
        kept = self.kept.pop(stage.number, None)
        if not self.session.listening and self.journal is None:
            return
        context, before = self.planner.context, self.announced_context
        text = context.marked_text_since(before, self.session.dialect.mark)
        finished = StageFinished(
            **self.session.stamp(),
            stage=stage,
            token_ids=tuple(context.ids_since(before)),
            text=str(text),
            markup=text.spans,
            cut=not self.planning.pending,
        )
        self.announced_context = context
        self.session.emit(finished)
        if self.journal is not None:
            await self.journal.finish(finished, kept, spent=self.session.ledger.spent)

    async def _replay(self, record: StageFinished, step: Plan | Ask | Attempts) -> Stage[Any]:
        """Take a stage from the journal; if the step does not wait, it is pending until the policy joins it."""
        stage = record.stage
        if stage.executions and stage.answer is None and not isinstance(step, Attempts) and not step.wait:
            numbers = tuple(execution.number for execution in stage.executions)
            stage = stage.model_copy(update={"executions": (), "accepted": None, "pending": numbers})
            self.journal_stages[stage.number] = record
            self.planning.stages.append(stage)
            return stage
        self.planning.stages.append(stage)
        return await self._restore(record)

    async def _restore(self, record: StageFinished) -> Stage[Any]:
        """Append what a recorded stage added to the context, with its token ids.

        Raises:
            JournalError: the engine has another vocabulary.
        """
        await check_vocabulary(record.token_ids, record.text, self.session.engine)
        stage = record.stage
        self.planner.context = self.planner.context.extend(record.token_ids, PromptText(record.text, record.markup))
        self.planning.stages[stage.number - 1] = stage
        self.session.ledger.charge(stage.usage.total, count_subtasks(stage.executions))
        self.session.emit(record.model_copy(update={**self.session.stamp()}))
        self.announced_context = self.planner.context
        return stage


def _without_opening(dialect: Dialect, stage: int, written: str) -> str:
    """Return the planner's turn alone; a stage that a journal supplied is one text, with what preceded the turn."""
    forms: tuple[Form, ...] = ("answer", "plan", "graph", "chain")
    for opening in [dialect.write_opening(stage, form) for form in forms]:
        if opening and opening in written:
            return written.partition(opening)[2]
    return written
