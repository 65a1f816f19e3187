"""``sprint inspect``: the numbers of finished trajectories, and of journals."""

import codecs
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import typer
from pydantic import BaseModel, ConfigDict
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sprint_agents.dialects.completions import Diagnostic
from sprint_agents.errors import ConfigurationError
from sprint_agents.runtime.journal_file import is_journal
from sprint_agents.runtime.journal_reading import read_journal
from sprint_agents.trajectory import Trajectory
from sprint_agents.usage import StageUsage, parallelisation_ratio

from .commands import error_line, printable
from .display import plain

_FROZEN = ConfigDict(frozen=True, extra="forbid", defer_build=True)

MAX_BYTES = 64 * 1024 * 1024
"""The largest file that is read; a trajectory of the paper's limits has about 1 MB."""


class InspectedSubtask(BaseModel):
    """A subtask's number, as in its tags, and its tokens; ``executed`` says whether it has an execution.

    ``plan_tokens`` are those of the plan up to its end; a journal does not say.
    """

    model_config = _FROZEN

    number: str
    plan_tokens: int | None = None
    execution_tokens: int
    executed: bool


class InspectedStage(BaseModel):
    """A stage's number, the tokens of its plan, and its subtasks.

    A stage of a journal is ``open`` if it had not ended; its subtasks are those that are executed.
    """

    model_config = _FROZEN

    number: int
    plan_tokens: int
    subtasks: tuple[InspectedSubtask, ...]
    open: bool = False


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


def inspect_journal(path: Path) -> Inspection:
    """Read the journal of a run, with the finished executions of its open stage.

    Raises:
        JournalError: it is damaged, or has an older format.
    """
    _, recorded = read_journal(path)
    stages: list[InspectedStage] = []
    usages: list[StageUsage] = []
    answer: str | None = None
    for number, stage in sorted(recorded.stages.get((), {}).items()):
        executions = [kept.execution for kept in stage.known_executions]
        tokens = [execution.usage.generated_tokens for execution in executions]
        planned = stage.completion.call.usage.generated_tokens if stage.completion else 0
        if stage.finished is not None:
            finished = stage.finished.finished.stage
            usages.append(finished.usage)
            planned, answer = finished.usage.total.generated_tokens - sum(tokens), finished.answer
        subtasks = tuple(
            InspectedSubtask(number=f"{number}.{execution.number}", execution_tokens=count, executed=True)
            for execution, count in zip(executions, tokens, strict=True)
        )
        is_open = stage.finished is None
        stages.append(InspectedStage(number=number, plan_tokens=planned, subtasks=subtasks, open=is_open))
    widths = [len(stage.subtasks) for stage in stages]
    return Inspection(
        file=str(path),
        stages=tuple(stages),
        answer=answer,
        diagnostics=(),
        token_unit="tokens",  # noqa: S106 - not a password
        sequential_tokens=sum(usage.sequential_tokens for usage in usages),
        sequential_tokens_strict=sum(usage.sequential_tokens_strict for usage in usages),
        total_tokens=recorded.spent.tokens,
        width=max(widths, default=0),
        parallelisation_ratio=parallelisation_ratio(widths),
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


def inspect_files(files: Sequence[Path], *, console: Console, as_json: bool) -> bool:
    """Print the stages, answer and metrics of each file; report an unreadable file on stderr and continue.

    Returns:
        Whether all files could be read.
    """
    unread = 0
    for file in files:
        try:
            inspection = inspect_journal(file) if is_journal(file) else inspect_file(file)
        except ConfigurationError as error:
            typer.echo(error_line(error), err=True)
            unread += 1
            continue
        if as_json:
            typer.echo(inspection.model_dump_json())
        else:
            _write(inspection, console)
    return not unread


def _write(inspection: Inspection, console: Console) -> None:
    console.print(Text(printable(inspection.file), style="bold"), soft_wrap=True)
    if inspection.stages:
        console.print(_stages(inspection))
    answer = "none" if inspection.answer is None else plain(inspection.answer)
    unit = inspection.token_unit
    lines = [
        f"answer          {answer}",
        f"total           {inspection.total_tokens:,} {unit}",
        f"in sequence     {inspection.sequential_tokens_strict:,} {unit} "
        f"({inspection.sequential_tokens:,} as the paper counts)",
        f"width           {inspection.width}",
        f"steps per stage {inspection.parallelisation_ratio:.2f}",
        *(f"{item.kind} at {item.position}: {item.message}" for item in inspection.diagnostics),
        *(
            f"stage {stage.number} is open: {len(stage.subtasks)} executions have finished"
            for stage in inspection.stages
            if stage.open
        ),
    ]
    for line in lines:
        console.print(Text(printable(line)), soft_wrap=True)
    console.print()


def _stages(inspection: Inspection) -> Table:
    table = Table(box=box.SIMPLE)
    table.add_column("stage")
    for title in ("plan", "subtask", "plan before", "execution"):
        table.add_column(title, justify="right")
    for stage in inspection.stages:
        name, plan = str(stage.number), f"{stage.plan_tokens:,}"
        for subtask in stage.subtasks:
            execution = f"{subtask.execution_tokens:,}" if subtask.executed else "none"
            before = "" if subtask.plan_tokens is None else f"{subtask.plan_tokens:,}"
            table.add_row(name, plan, subtask.number, before, execution)
            name = plan = ""
        if not stage.subtasks:
            table.add_row(name, plan, "", "", "")
    return table
