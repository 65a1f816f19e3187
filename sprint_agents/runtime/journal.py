"""A journal: the finished parts of a run, from which another process can resume it.

A record is written when the planner's completion ends, when an execution ends, when ``accept`` gives a verdict, and
when a stage is joined. The stages of nested policies and sprints have their records too, with a path.

Invariants:

- What is recorded is not done again: a resumed run takes over finished stages, and the finished parts of open ones.
- An execution has finished when its record is on the disk. A stage that is joined is written before the next step.
- A finished stage is a consistent cut if no other one is pending. Stages after the last cut are begun again, from their
  parts.
- A resumed run replays its policy: the policy yields the same steps and is sent the recorded stages. So a journal is
  only resumed with the settings that began it.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from sprint_agents.agents import Executor, Planner
from sprint_agents.budget import Ledger
from sprint_agents.context import Context
from sprint_agents.engine import Chunk, Engine
from sprint_agents.errors import (
    BudgetExceeded,
    EngineError,
    ExecutionFailed,
    InvalidRequest,
    InvalidResult,
    JournalError,
)
from sprint_agents.events import StageFinished
from sprint_agents.functions import Threads
from sprint_agents.plan import Ask, Failure, Plan
from sprint_agents.usage import CallUsage, EngineCall

from .clock import RunClock
from .executor import SubtaskOutcome
from .journal_file import JournalFile
from .journal_reading import check_header, read_records
from .journal_records import (
    CompletionRecord,
    EndRecord,
    ExecutionRecord,
    JournalHeader,
    KeptExecution,
    NotesRecord,
    Path,
    ResetRecord,
    ReviewRecord,
    Spent,
    StageRecord,
    StepRecord,
    VerdictRecord,
    dump,
)
from .open_stage import KeptCompletion, KeptReview, OpenStage, StepForm, ended_with_budget, is_final
from .recorded import RecordedStage, RecordedStages
from .session import Session


class Journal:
    """The journal of one run, open for appending; a context manager. ``begin`` comes before any other use.

    Its own thread waits for the disk.

    Attributes:
        header: that of the run, from an earlier process if there was one.
        agents: read the values of results; ``clock`` is the run's, which continues where an earlier process ended.
    """

    def __init__(self, path: FilePath, header: JournalHeader, agents: Sequence[Executor[Any] | Planner[Any]]) -> None:
        """Open ``path``, which may hold the records of an earlier process.

        Raises:
            JournalError: the file belongs to another run, is damaged before its last line, or is in use.
        """
        self._file = JournalFile(path)
        self.agents = agents
        try:
            if self._file.records:
                self.header, records = read_records(self._file.records, path)
                check_header(path, self.header, header)
                self._recorded = RecordedStages.read(records)
            else:
                self.header, self._recorded = header, RecordedStages()
                self._file.append(dump(header))
        except BaseException:
            self._file.close()
            raise
        self._threads = Threads(1)
        self._begun: set[Path] = set()
        self._written = False

    def begin(self, ledger: Ledger) -> "StageJournal":
        """Start the clock and return the journal of the run's stages; ``ledger`` is the account of the run."""
        self._ledger = ledger
        self.clock = RunClock.start(origin=self.header.origin, passed=self._recorded.spent.seconds)
        return StageJournal(self)

    @property
    def paused(self) -> bool:
        """Whether the run ended in an earlier process because a plan waits for its review."""
        return self._recorded.paused

    @property
    def answered(self) -> bool:
        """Whether the run has its answer, from an earlier process."""
        return self._recorded.answered

    @property
    def spent(self) -> Spent:
        """The costs of the run so far."""
        return Spent.of(self._ledger, self.clock.now())

    def begin_path(self, path: Path) -> dict[int, RecordedStage]:
        """Return the recorded stages of a path; if this process has begun it before, it begins again with none."""
        self.reset(path)
        self._begun.add(path)
        return self._recorded.stages.get(path, {})

    def reset(self, path: Path) -> None:
        """Drop what a path has, here and in the file."""
        if path in self._begun:
            self._recorded.forget(path)
            self._begun = {other for other in self._begun if other[: len(path)] != path}
            self.write(ResetRecord(kind="reset", path=path, spent=self.spent))

    def rest(self, path: Path) -> tuple[CallUsage, int]:
        """Return what an earlier process spent on a path beyond its finished stages, and on how many subtasks."""
        cost, subtasks = self._recorded.rest(path)
        if not path:  # the account of the run has requests too that a failure or the end cut off
            spent, ledger = self._recorded.spent, self._ledger
            cost = CallUsage(
                calls=max(0, spent.calls - ledger.calls),
                generated_tokens=max(0, spent.tokens - ledger.tokens),
                retries=max(0, spent.retries - ledger.retries),
            )
        return cost, subtasks

    def write(self, record: StepRecord | ResetRecord | EndRecord) -> None:
        """Write a record, so that it survives the process.

        Raises:
            JournalError: the journal cannot hold it, or the disk is full.
        """
        self._file.append(dump(record))
        self._written = True

    async def sync(self) -> None:
        """Return when all that was written survives the machine.

        Raises:
            JournalError: the disk cannot be written.
        """
        await self._file.sync(self._threads)

    def end(self, error: Failure | None) -> None:
        """Record the end of the run in this process, unless nothing has changed since it had its answer.

        An error of the disk is not raised: it would hide the run's own, and the run's stages are recorded.
        """
        if self._written or not self._recorded.answered:
            with suppress(JournalError):
                self.write(EndRecord(kind="end", error=error, spent=self.spent))

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()
        self._file.close()


@dataclass(slots=True)
class StageJournal:
    """The part of a journal with the stages of one policy: the run's own, or one that is nested at ``path``."""

    whole: Journal
    path: Path = ()
    _stages: dict[int, RecordedStage] = field(default_factory=dict[int, RecordedStage])
    _replaying: bool = False

    def begin(self) -> None:
        """Begin the policy; if this process has begun it before, from nothing."""
        self._stages = self.whole.begin_path(self.path)
        self._replaying = True

    def replay(self, number: int) -> StageFinished | None:
        """Return the record of stage ``number``, with its values; None if it has yet to finish.

        Raises:
            JournalError: a value no longer validates.
        """
        recorded = self._stages.get(number)
        if recorded is None or recorded.finished is None:
            return None
        finished = recorded.finished.finished
        try:
            executions = [kept.restore(self.whole.agents).execution for kept in recorded.known_executions]
        except InvalidResult as error:
            raise _other_type(number, error) from error
        stage = finished.stage.model_copy(update={"executions": tuple(executions)})
        return finished.model_copy(update={"stage": stage, "replayed": True})

    def form_of(self, number: int) -> StepForm | None:
        """Return the form of the planner's completion in stage ``number``; None if none is recorded."""
        recorded = self._stages.get(number)
        return recorded.completion.form if recorded is not None and recorded.completion is not None else None

    def accepted(self, last: int) -> bool:
        """Say whether the answer of stage ``last`` was taken for the run's, in a process that has ended."""
        return self.whole.answered and not self.path and last == max(self._stages, default=0)

    def catch_up(self, ledger: Ledger) -> None:
        """Charge what an earlier process spent beyond the finished stages, once, as the first open stage begins."""
        if self._replaying:
            self._replaying = False
            ledger.charge(*self.whole.rest(self.path))

    async def open(self, number: int, engine: Engine) -> "JournalledStage":
        """Return what is recorded of an open stage, to which more will be added.

        Raises:
            JournalError: a value no longer validates, or ``engine`` has another vocabulary.
        """
        stage = JournalledStage(number, journal=self)
        if (recorded := self._stages.pop(number, None)) is not None:
            stage.completion = recorded.completion.restore() if recorded.completion else None
            stage.verdicts, stage.notes = recorded.verdicts, recorded.notes
            if recorded.review is not None:
                stage.review = KeptReview(recorded.review.proposed, recorded.review.plan)
            try:
                stage.outcomes = {n: r.restore(self.whole.agents) for n, r in recorded.executions.items()}
            except InvalidResult as error:
                raise _other_type(number, error) from error
            if stage.completion is not None:
                ids = [token for chunk in stage.completion.chunks for token in chunk.ids]
                await check_vocabulary(ids, "".join(chunk.text for chunk in stage.completion.chunks), engine)
            for kept in stage.outcomes.values():
                if kept.outcome.ids is not None:
                    await check_vocabulary(kept.outcome.ids, kept.outcome.text, engine)
        return stage

    async def finish(self, finished: StageFinished, stage: OpenStage | None, *, spent: bool) -> None:
        """Write a finished stage, and return when it is on the disk; ``spent`` if the budget's tokens were used up."""
        numbers = tuple(execution.number for execution in finished.stage.executions)
        others: list[KeptExecution] = []
        for execution in finished.stage.executions:
            kept = stage.outcomes.get(execution.number) if stage else None
            if kept is None or kept.outcome.execution is not execution:
                outcome = SubtaskOutcome(execution, None, "")
                others.append(KeptExecution.of(outcome, finished.stage.number, self.whole.agents))
        bare = finished.stage.model_copy(update={"executions": ()})
        self.whole.write(
            StageRecord(
                kind="stage",
                path=self.path,
                finished=finished.model_copy(update={"stage": bare}),
                numbers=numbers,
                plan_tokens=tuple(execution.plan_tokens for execution in finished.stage.executions),
                others=tuple(others),
                out_of_budget=spent or any(map(ended_with_budget, finished.stage.executions)),
                spent=self.whole.spent,
            )
        )
        await self.whole.sync()

    def inner(self, stage: int, number: int) -> "StageJournal":
        """Return the journal of what carries out an execution."""
        return StageJournal(self.whole, (*self.path, stage, number))


@dataclass(slots=True, kw_only=True)
class JournalledStage(OpenStage):
    """An open stage that writes each finished part to the journal."""

    journal: StageJournal

    def keep_completion(
        self, step: Ask, context: Context, chunks: Sequence[Chunk], call: EngineCall
    ) -> KeptCompletion | None:
        """Keep and write the planner's completion."""
        kept = OpenStage.keep_completion(self, step, context, chunks, call)
        if kept is not None:
            record = CompletionRecord(
                kind="completion",
                path=self.journal.path,
                stage=self.number,
                form=kept.form,
                on=kept.on,
                chunks=tuple(kept.chunks),
                call=call,
                spent=self.journal.whole.spent,
            )
            self.journal.whole.write(record)
        return kept

    async def keep_outcome(self, outcome: SubtaskOutcome, context: Context) -> None:
        """Keep and write a final outcome; return when it is on the disk."""
        await OpenStage.keep_outcome(self, outcome, context)
        if not is_final(outcome.execution):
            return
        journal, kept = self.journal.whole, self.outcomes[outcome.execution.number]
        record = ExecutionRecord(
            kind="execution",
            path=self.journal.path,
            stage=self.number,
            on=kept.on,
            kept=KeptExecution.of(outcome, self.number, journal.agents),
            spent=journal.spent,
        )
        journal.write(record)
        await journal.sync()

    def keep_notes(self, notes: tuple[str, ...]) -> None:
        """Keep and write what the stage begins with."""
        OpenStage.keep_notes(self, notes)
        journal, path = self.journal.whole, self.journal.path
        journal.write(NotesRecord(kind="notes", path=path, stage=self.number, notes=notes, spent=journal.spent))

    def keep_review(self, proposed: Plan, plan: Plan | None) -> None:
        """Keep and write the verdict on a plan."""
        OpenStage.keep_review(self, proposed, plan)
        journal = self.journal.whole
        record = ReviewRecord(
            kind="review",
            path=self.journal.path,
            stage=self.number,
            proposed=proposed,
            plan=plan,
            spent=journal.spent,
        )
        journal.write(record)

    def keep_verdict(self, number: int, *, accepted: bool) -> None:
        """Keep and write what ``accept`` said of an execution."""
        OpenStage.keep_verdict(self, number, accepted=accepted)
        record = VerdictRecord(
            kind="verdict",
            path=self.journal.path,
            stage=self.number,
            number=number,
            accepted=accepted,
            spent=self.journal.whole.spent,
        )
        self.journal.whole.write(record)

    def drop_inner(self, number: int, error: Exception) -> None:
        """Forget the stages of an execution whose ``error`` ends the run and would come again from the same stages."""
        cause = error.__cause__ if isinstance(error, ExecutionFailed) else error
        if not isinstance(cause, EngineError | BudgetExceeded):
            self.journal.whole.reset((*self.journal.path, self.number, number))


def _other_type(stage: int, error: InvalidResult) -> JournalError:
    return JournalError(
        f"the journal's stage {stage} was written with another type of results ({error}): "
        "resume with the agents that began the run, or use another path"
    )


async def open_stage(number: int, session: Session, journal: StageJournal | None) -> OpenStage | None:
    """Return what had finished of the next stage when it was begun before; None if it is never begun again.

    Raises:
        JournalError: as ``StageJournal.open`` does.
    """
    if journal is not None:
        journal.catch_up(session.ledger)
        return await journal.open(number, session.engine)
    return OpenStage(number) if session.failure.mode == "retry" else None


async def check_vocabulary(ids: Sequence[int], text: str, engine: Engine) -> None:
    """Refuse recorded token ids that mean something else to ``engine``.

    Raises:
        JournalError: the engine decodes them to another text.
    """
    try:
        same = await engine.decode(ids) == text
    except InvalidRequest:
        same = False
    if not same:
        raise JournalError(
            f"the journal was written with another tokenizer than that of {engine.name}: "
            "resume with the model that began the run, or use another path"
        )
