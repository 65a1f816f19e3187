"""The report of ``sprint inspect`` on a file: one trajectory, its subtasks and its metrics, as one flat record."""

import codecs
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from .dialects.diagnostics import Diagnostic
from .errors import ConfigurationError
from .trajectory import Trajectory

_FROZEN = ConfigDict(frozen=True, extra="forbid", defer_build=True)

MAX_BYTES = 64 * 1024 * 1024
"""The largest file that is read; a trajectory of the paper's limits has about 1 MB."""


class InspectedSubtask(BaseModel):
    """A subtask's number, as in its tags, and its tokens; ``executed`` says whether it has an execution."""

    model_config = _FROZEN

    number: str
    plan_tokens: int
    execution_tokens: int
    executed: bool


class InspectedStage(BaseModel):
    """A stage's number, the tokens of its plan, and its subtasks."""

    model_config = _FROZEN

    number: int
    plan_tokens: int
    subtasks: tuple[InspectedSubtask, ...]


class Inspection(BaseModel):
    """A file's trajectory in numbers; for the metrics see ``trajectory.Metrics``."""

    model_config = _FROZEN

    file: str
    stages: tuple[InspectedStage, ...]
    answer: str | None
    diagnostics: tuple[Diagnostic, ...]
    token_unit: Literal["words", "tokens"]
    sequential_tokens: int
    sequential_tokens_strict: int
    total_tokens: int
    width: int
    parallelisation_ratio: float


def inspect_file(path: Path, *, count_tokens: Callable[[str], int] | None = None) -> Inspection:
    """Read the one trajectory in a text file, which may be a raw log; see ``Trajectory.from_text``.

    The file is UTF-8, or UTF-16 with a byte order mark. Bytes that are not UTF-8 are replaced, and reported as a
    diagnostic. Of several trajectories the first is read; the text after its answer is reported as well.

    Raises:
        ConfigurationError: the file cannot be read, is larger than ``MAX_BYTES``, or is binary.
    """
    text, undecodable = _read(path)
    trajectory = Trajectory.from_text(text, count_tokens=count_tokens)
    diagnostics = trajectory.diagnostics if undecodable is None else (undecodable, *trajectory.diagnostics)
    metrics = trajectory.metrics
    return Inspection(
        file=str(path),
        stages=tuple(
            InspectedStage(
                number=stage.number,
                plan_tokens=stage.plan_tokens,
                subtasks=tuple(
                    InspectedSubtask(
                        number=subtask.number,
                        plan_tokens=subtask.plan_tokens,
                        execution_tokens=subtask.execution_tokens,
                        executed=subtask.execution is not None,
                    )
                    for subtask in stage.subtasks
                ),
            )
            for stage in trajectory.stages
        ),
        answer=trajectory.answer,
        diagnostics=diagnostics,
        token_unit=metrics.token_unit,
        sequential_tokens=metrics.sequential_tokens,
        sequential_tokens_strict=metrics.sequential_tokens_strict,
        total_tokens=metrics.total_tokens,
        width=metrics.width,
        parallelisation_ratio=metrics.parallelisation_ratio,
    )


def _read(path: Path) -> tuple[str, Diagnostic | None]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_BYTES:
        raise ConfigurationError(f"{path} is larger than {MAX_BYTES} bytes: give a file with one trajectory")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace"), None
    if (zero := data.find(b"\0")) >= 0:
        raise ConfigurationError(f"{path} is a binary file (a zero byte at offset {zero}): give a trajectory in text")
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode("utf-8"), None
    except UnicodeDecodeError as error:
        text = data.decode("utf-8", errors="replace")
        position = len(data[: error.start].decode("utf-8"))
        message = f"byte {data[error.start]:#04x} is no UTF-8, here and maybe later: replaced by U+FFFD"
        return text, Diagnostic(kind="undecodable_bytes", message=message, stage=0, position=position)
