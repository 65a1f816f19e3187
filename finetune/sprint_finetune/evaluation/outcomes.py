"""The outcome of a run, as one line of a file from which an interrupted evaluation resumes."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from pydantic import BaseModel, ConfigDict, ValidationError

from sprint_agents import Run, Stage
from sprint_agents.errors import ConfigurationError

SPURIOUS_SHARE = 0.9
"""A parallel stage is spurious if its critical path has at least this share of its tokens: it saved almost nothing."""

Key = tuple[str, str, int]
"""Identifies an outcome: method, case and seed."""


class Outcome(BaseModel):
    """The result of solving one case once with one method. Counts are tokens unless the name says otherwise.

    Attributes:
        parallel_tokens: tokens written by executors in stages with at least two executions.
        parallel_stages: number of those stages.
        spurious_stages: number of those stages that gained nothing: two prompts are the same, or the critical path has
            ``SPURIOUS_SHARE`` of all tokens (spurious parallelism, arXiv 2602.02276).
        correct: None if correctness could not be decided.
        seconds: wall time; None if other runs shared the engine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    case: str
    seed: int
    answer: str | None
    correct: bool | None
    error: str | None
    sequential_tokens: int
    sequential_tokens_strict: int
    total_tokens: int
    recomputed_tokens: int
    parallel_tokens: int
    stages: int
    width: int
    parallel_stages: int
    spurious_stages: int
    seconds: float | None

    @property
    def key(self) -> Key:
        """Identifies the outcome within a comparison."""
        return self.method, self.case, self.seed

    @classmethod
    def of(cls, run: Run[str], *, method: str, case: str, seed: int, correct: bool | None, alone: bool) -> Self:
        """Make the outcome of a finished or failed run. ``alone`` says that the run had the engine to itself."""
        wide = [stage for stage in run.stages if len(stage.executions) > 1]
        return cls(
            method=method,
            case=case,
            seed=seed,
            answer=run.answer,
            correct=correct,
            error=run.error.type if run.error else None,
            sequential_tokens=run.usage.sequential_tokens,
            sequential_tokens_strict=run.usage.sequential_tokens_strict,
            total_tokens=run.usage.total_tokens,
            recomputed_tokens=run.usage.recomputed_tokens,
            parallel_tokens=sum(execution.usage.generated_tokens for stage in wide for execution in stage.executions),
            stages=run.usage.stages,
            width=run.usage.width,
            parallel_stages=len(wide),
            spurious_stages=sum(_spurious(stage) for stage in wide),
            seconds=run.usage.seconds if alone else None,
        )


def _spurious(stage: Stage[Any]) -> bool:
    prompts = {" ".join(execution.prompt.split()).casefold() for execution in stage.executions}
    whole = stage.usage.total.generated_tokens
    return len(prompts) < len(stage.executions) or stage.usage.sequential_tokens_strict >= SPURIOUS_SHARE * whole


class OutcomeFile:
    """Outcomes on disk, one per line, each written immediately.

    An existing file is continued. An incomplete last line is dropped.

    Raises:
        ConfigurationError: any other line of the file is not an outcome.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outcomes: dict[Key, Outcome] = {}
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = 0
        if self.path.exists():
            for outcome, end in self._read():
                self.outcomes[outcome.key] = outcome
                whole = end
        self._file = self.path.open("a", encoding="utf-8")
        self._file.truncate(whole)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()

    def add(self, outcome: Outcome) -> None:
        """Add an outcome, in memory and on disk."""
        if self._file is None:
            raise RuntimeError("the file is not open: use it as a context manager")
        self.outcomes[outcome.key] = outcome
        self._file.write(outcome.model_dump_json() + "\n")
        self._file.flush()

    def of(self, method: str) -> Mapping[tuple[str, int], Outcome]:
        """Return the outcomes of a method by case and seed."""
        return {(case, seed): outcome for (name, case, seed), outcome in self.outcomes.items() if name == method}

    def _read(self) -> Iterator[tuple[Outcome, int]]:
        """Yield the outcome of each complete line, and the offset at which the line ends."""
        end = 0
        lines = self.path.read_bytes().splitlines(keepends=True)
        for number, line in enumerate(lines, 1):
            end += len(line)
            if number == len(lines) and not line.endswith(b"\n"):
                return
            try:
                yield Outcome.model_validate_json(line), end
            except ValidationError as error:
                raise ConfigurationError(
                    f"{self.path}, line {number} is not an outcome of an evaluation: {error.errors()[0]['msg']}. "
                    "Use another file, or delete this one"
                ) from error
