"""The contents of a journal, in memory: the finished stages of a run, and the parts of its open ones.

Invariants:

- A stage counts as finished only up to the last cut of its policy, where no stage was pending.
- A later record of the same thing replaces an earlier one.
- What a finished execution or stage consists of is dropped, so its cost counts once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sprint_agents.errors import PlanPaused
from sprint_agents.usage import CallUsage

from .journal_records import (
    AnyRecord,
    CompletionRecord,
    EndRecord,
    ExecutionRecord,
    KeptExecution,
    NotesRecord,
    Path,
    ResetRecord,
    ReviewRecord,
    Spent,
    StageRecord,
    StepRecord,
    VerdictRecord,
    count_subtasks,
)


@dataclass(slots=True)
class RecordedStage:
    """The records of one stage; ``finished`` only up to the last cut."""

    completion: CompletionRecord | None = None
    executions: dict[int, ExecutionRecord] = field(default_factory=dict[int, ExecutionRecord])
    verdicts: dict[int, bool] = field(default_factory=dict[int, bool])
    review: ReviewRecord | None = None
    notes: tuple[str, ...] = ()
    finished: StageRecord | None = None

    @property
    def known_executions(self) -> list[KeptExecution]:
        """The executions of the finished stage, or the finished ones of an open stage, in order."""
        known = {number: record.kept for number, record in self.executions.items()}
        if self.finished is None:
            return [known[number] for number in sorted(known)]
        known |= {other.execution.number: other for other in self.finished.others}
        finished = self.finished
        return [
            known[number].with_plan_tokens(tokens)
            for number, tokens in zip(finished.numbers, finished.plan_tokens, strict=True)
        ]


@dataclass(slots=True)
class RecordedStages:
    """The records of a journal by their stages.

    Attributes:
        stages: by path, then by number.
        spent: the account at the last record.
        answered: the run has its answer, so none of it is left to run.
        paused: the run ended because a plan waits for its review.
    """

    stages: dict[Path, dict[int, RecordedStage]] = field(default_factory=dict[Path, dict[int, RecordedStage]])
    spent: Spent = field(default_factory=Spent)
    answered: bool = False
    paused: bool = False
    _since_cut: dict[Path, list[StageRecord]] = field(default_factory=dict[Path, list[StageRecord]])

    @classmethod
    def read(cls, records: Iterable[AnyRecord]) -> "RecordedStages":
        """Collect the records of a journal."""
        run = cls()
        for record in records:
            run.spent = record.spent
            error = record.error if isinstance(record, EndRecord) else None
            run.answered = isinstance(record, EndRecord) and error is None
            run.paused = error is not None and error.type == PlanPaused.__name__
            if isinstance(record, ResetRecord):
                run.forget(record.path)
            elif not isinstance(record, EndRecord):
                run._add(record)
        if not run.answered:
            for path, stages in run.stages.items():
                last = stages[max(stages)]
                # The result of a nested policy joins as the ids that its model wrote, which only the completion has.
                is_result = bool(path) and last.completion is not None
                if is_result or (last.finished is not None and last.finished.out_of_budget):
                    last.finished = None
        return run

    def _add(self, record: StepRecord) -> None:
        path = record.path
        stage = self.stages.setdefault(path, {}).setdefault(record.stage, RecordedStage())
        if isinstance(record, CompletionRecord):
            stage.completion = record
        elif isinstance(record, NotesRecord):
            stage.notes = record.notes
        elif isinstance(record, ReviewRecord):
            stage.review = record
        elif isinstance(record, VerdictRecord):
            stage.verdicts[record.number] = record.accepted
        elif isinstance(record, ExecutionRecord):
            number = record.kept.execution.number
            before = stage.executions.get(number)
            if before is not None and before.on != record.on:
                stage.verdicts.pop(number, None)
            stage.executions[number] = record
            self.forget((*path, record.stage, number))
        else:
            # If stages 1 and 2 are pending, 3 is a cut and 4 is pending, stages 1 to 3 have finished; 4 is open.
            since_cut = self._since_cut.setdefault(path, [])
            since_cut.append(record)
            if record.finished.cut:
                for finished in since_cut:
                    self.stages[path][finished.stage].finished = finished
                    self.forget((*path, finished.stage))
                since_cut.clear()

    def rest(self, path: Path) -> tuple[CallUsage, int]:
        """Return the cost and the number of subtasks that a path has beyond its finished stages."""
        parts = list(self._parts(path, finished=False))
        return CallUsage.sum([cost for cost, _ in parts]), sum(subtasks for _, subtasks in parts)

    def _parts(self, path: Path, *, finished: bool) -> Iterator[tuple[CallUsage, int]]:
        """Yield the costs and the number of subtasks of what is recorded, with the ``finished`` stages or without."""
        for stage in self.stages.get(path, {}).values():
            if stage.finished is not None:
                if finished:
                    executions = [kept.execution for kept in stage.known_executions]
                    yield stage.finished.finished.stage.usage.total, count_subtasks(executions)
                continue
            if stage.completion is not None:
                yield stage.completion.call.usage, 0
            for record in stage.executions.values():
                yield record.kept.execution.usage, count_subtasks([record.kept.execution])
        for inner in self.stages:  # that carry out unfinished executions; those of others are forgotten
            if len(inner) == len(path) + 2 and inner[:-2] == path:
                yield from self._parts(inner, finished=True)

    def forget(self, path: Path) -> None:
        """Drop the stages of a path and of those below it."""
        for other in [other for other in self.stages if other[: len(path)] == path]:
            del self.stages[other]
            self._since_cut.pop(other, None)
