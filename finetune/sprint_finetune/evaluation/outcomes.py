"""The outcome of a run, as one line of a file from which an interrupted evaluation resumes."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from pydantic import BaseModel, ConfigDict, ValidationError

from sprint_agents import Run, Stage
from sprint_agents.errors import ConfigurationError, EngineOverloaded, EngineTimeout, EngineUnavailable
from sprint_agents.runtime.settings import changed_settings

SPURIOUS_SHARE = 0.9
"""A parallel stage is spurious if its critical path has at least this share of its tokens: it saved almost nothing."""

_NO_FAULT = frozenset(kind.__name__ for kind in (EngineOverloaded, EngineTimeout, EngineUnavailable))

Key = tuple[str, str, int]
"""Identifies an outcome: method, case and seed."""


class Outcome(BaseModel):
    """The result of solving one case once with one method. Counts are tokens unless the name says otherwise.

    Attributes:
        parallel_tokens: tokens written by executors in stages with at least two executions.
        parallel_stages: number of those stages.
        spurious_stages: number of those stages that gained nothing: two prompts are the same, or the critical path has
            ``SPURIOUS_SHARE`` of all tokens (spurious parallelism, arXiv 2602.02276).
        setup: digests of the case, the method's settings and the check, by name; a resumed evaluation must share them.
        correct: None if correctness could not be decided.
        error: type of the error of a failed run, and its ``error_message``.
        check_error: error of the check, by which ``correct`` is None.
        seconds: wall time; None if other runs shared the engine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    case: str
    seed: int
    setup: Mapping[str, str]
    answer: str | None
    correct: bool | None
    error: str | None
    error_message: str | None
    check_error: str | None
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

    @property
    def is_no_fault(self) -> bool:
        """Whether the run failed because of the engine alone, so that it is repeated when the evaluation resumes."""
        return self.error in _NO_FAULT

    @classmethod
    def of(
        cls,
        run: Run[Any],
        *,
        answer: str | None,
        method: str,
        case: str,
        seed: int,
        setup: Mapping[str, str],
        correct: bool | None,
        check_error: str | None,
        timed: bool,
    ) -> Self:
        """Make the outcome of a finished or failed run. ``timed`` says that the run had the engine to itself."""
        wide = [stage for stage in run.stages if len(stage.executions) > 1]
        return cls(
            method=method,
            case=case,
            seed=seed,
            setup=setup,
            answer=answer,
            correct=correct,
            error=run.error.type if run.error else None,
            error_message=run.error.message if run.error else None,
            check_error=check_error,
            sequential_tokens=run.usage.sequential_tokens,
            sequential_tokens_strict=run.usage.sequential_tokens_strict,
            total_tokens=run.usage.total_tokens,
            recomputed_tokens=run.usage.recomputed_tokens,
            parallel_tokens=sum(execution.usage.generated_tokens for stage in wide for execution in stage.executions),
            stages=run.usage.stages,
            width=run.usage.width,
            parallel_stages=len(wide),
            spurious_stages=sum(_spurious(stage) for stage in wide),
            seconds=run.usage.seconds if timed else None,
        )


def _spurious(stage: Stage[Any]) -> bool:
    prompts = {" ".join(execution.prompt.split()).casefold() for execution in stage.executions}
    whole = stage.usage.total.generated_tokens
    return len(prompts) < len(stage.executions) or stage.usage.sequential_tokens_strict >= SPURIOUS_SHARE * whole


class OutcomeFile:
    """Outcomes on disk, one per line, each written immediately; journals of unfinished runs are in a folder beside it.

    An existing file is continued. An incomplete last line is dropped. Of several lines with the same key the last one
    counts.

    Raises:
        ConfigurationError: any other line of the file is not an outcome, or it cannot be read and written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outcomes: dict[Key, Outcome] = {}
        self._journals = path.with_name("unfinished")
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        whole = 0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists():
                for outcome, end in self._read():
                    self.outcomes[outcome.key] = outcome
                    whole = end
            self._file = self.path.open("a", encoding="utf-8")
            self._file.truncate(whole)
        except OSError as error:
            raise ConfigurationError(f"{self.path} cannot be read and written: {error.strerror or error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()
        with suppress(OSError):  # there is none, or it is not empty
            self._journals.rmdir()

    def add(self, outcome: Outcome) -> None:
        """Add an outcome, in memory and on disk."""
        if self._file is None:
            raise RuntimeError("the file is not open: use it as a context manager")
        self.outcomes[outcome.key] = outcome
        self._file.write(outcome.model_dump_json() + "\n")
        self._file.flush()

    def journal(self, name: str) -> Path:
        """Return the file for the journal of a run, in a folder that exists."""
        self._journals.mkdir(exist_ok=True)
        return self._journals / f"{name}.jsonl"

    def check_same(self, outcome: Outcome, *, setup: Mapping[str, str]) -> None:
        """Refuse to continue a file that has ``outcome`` with another setup.

        Raises:
            ConfigurationError: it has; the message names what has changed.
        """
        if changed := changed_settings(outcome.setup, setup):
            raise ConfigurationError(
                f"{self.path} has an outcome of {outcome.method} on case {outcome.case!r} that was measured otherwise. "
                f"Changed since: {', '.join(changed)}. Repeat the command that began it, or give another --out"
            )

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
