"""``sprint view``: runs, and journals of runs, as one page of HTML."""

import webbrowser
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sprint_agents import Run
from sprint_agents.errors import ConfigurationError
from sprint_agents.plan import Execution, Failure, Stage
from sprint_agents.runtime.journal_file import is_journal
from sprint_agents.runtime.journal_reading import read_journal
from sprint_agents.runtime.journal_records import Path as StagePath
from sprint_agents.runtime.recorded import RecordedStage, RecordedStages
from sprint_agents.usage import CallUsage, StageUsage, Usage
from sprint_agents.viewer import render_page


def view_files(files: Sequence[Path], out: Path, *, show: bool) -> int:
    """Write the page of all runs in ``files`` and return how many there are; ``show`` opens it in a browser.

    Raises:
        ConfigurationError: a file cannot be read, holds no run, or ``out`` cannot be written.
        JournalError: a journal is damaged, or has an older format.
    """
    runs = [run for file in files for run in read_runs(file)]
    try:
        out.write_text(render_page(runs, title=", ".join(file.name for file in files)), "utf-8")
    except OSError as error:
        raise ConfigurationError(f"{out} cannot be written: {error.strerror or error}") from error
    if show:
        webbrowser.open(out.absolute().as_uri())
    return len(runs)


def read_runs(file: Path) -> Iterator[str]:
    """Yield the runs of a file as JSON: the lines of ``sprint batch`` or ``sprint run --json``, or one journal.

    Raises:
        ConfigurationError: the file cannot be read, or a line is not a run.
        JournalError: the journal is damaged, or has an older format.
    """
    if is_journal(file):
        yield run_of_journal(file).model_dump_json()
        return
    try:
        lines = file.read_text("utf-8-sig").split("\n")  # JSON may hold other line ends, such as U+2028
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"{file} cannot be read: {reason}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield Run[Any, Any].model_validate_json(line).model_dump_json()
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(map(str, fault["loc"]))
            raise ConfigurationError(
                f"{file}, line {number} is not a run: {place}: {fault['msg']}. `sprint view` reads the files of "
                "`sprint batch`, of `sprint run --json`, and journals"
            ) from error


def run_of_journal(file: Path) -> Run[Any, Any]:
    """Return what a journal has of its run; a stage that had not ended is ``interrupted``.

    An execution that a policy or a sprint was carrying out has the stages that it had until then. Its prompt is not in
    the journal.

    Raises:
        JournalError: it is damaged, or has an older format.
    """
    header, recorded = read_journal(file)
    stages = _stages(recorded, ())
    totals = CallUsage.sum([stage.usage.total for stage in stages])
    usage = Usage(
        sequential_tokens=sum(stage.usage.sequential_tokens for stage in stages),
        sequential_tokens_strict=sum(stage.usage.sequential_tokens_strict for stage in stages),
        sequential_seconds=sum(stage.usage.sequential_seconds for stage in stages),
        sequential_requests=tuple(one for stage in stages for one in stage.usage.sequential_requests),
        total_tokens=recorded.spent.tokens,
        prompt_tokens=totals.prompt_tokens,
        cached_tokens=totals.cached_tokens,
        recomputed_tokens=totals.prompt_tokens - totals.cached_tokens,
        calls=recorded.spent.calls,
        stages=sum(not stage.interrupted for stage in stages),
        subtasks=sum(len(stage.executions) for stage in stages),
        width=max((len(stage.executions) for stage in stages), default=0),
        retries=recorded.spent.retries,
        tool_calls=totals.tool_calls,
        failures=sum(not execution.stopped for stage in stages for execution in stage.failures),
        seconds=recorded.spent.seconds,
    )
    return Run[Any, Any](
        id=header.run_id,
        task=header.task,
        policy=header.policy,
        origin=header.origin,
        answer=stages[-1].answer if stages else None,
        stages=stages,
        usage=usage,
    )


def _stages(recorded: RecordedStages, path: StagePath) -> tuple[Stage[Any], ...]:
    """Return the stages of a run, or of an execution that had not ended, with the open ones within them."""
    level = len(path)
    inner: dict[int, set[int]] = {}  # by stage, the executions that had begun stages of their own
    for other in recorded.stages:
        if len(other) >= level + 2 and other[:level] == path:
            inner.setdefault(other[level], set()).add(other[level + 1])
    found = recorded.stages.get(path, {})
    return tuple(
        _stage(
            number,
            found.get(number, RecordedStage()),
            [_open(one, _stages(recorded, (*path, number, one))) for one in sorted(inner.get(number, ()))],
        )
        for number in sorted(found.keys() | inner.keys())
    )


def _open(number: int, stages: tuple[Stage[Any], ...]) -> Execution[Any]:
    """Return an execution that had not ended, of which only its own stages are known."""
    started = min((stage.started for stage in stages), default=0.0)
    return Execution[Any](
        number=number,
        prompt="",
        failure=Failure(type="Superseded", message="it had not ended"),
        usage=CallUsage.sum([stage.usage.total for stage in stages]),
        stages=stages,
        prompt_closed=started,
        started=started,
        ended=max((stage.ended for stage in stages), default=0.0),
    )


def _stage(number: int, recorded: RecordedStage, unfinished: Sequence[Execution[Any]]) -> Stage[Any]:
    known = {kept.execution.number: kept.execution for kept in recorded.known_executions}
    if recorded.finished is not None:
        return recorded.finished.finished.stage.model_copy(update={"executions": tuple(known.values())})
    known = {execution.number: execution for execution in unfinished} | known
    executions = tuple(known[one] for one in sorted(known))
    call = recorded.completion.call if recorded.completion else None
    text = "".join(chunk.text for chunk in recorded.completion.chunks) if recorded.completion else ""
    costs = [execution.usage for execution in executions] + ([call.usage] if call else [])
    times = [execution.prompt_closed for execution in executions] + ([call.started] if call else [])
    ends = [execution.ended for execution in executions] + ([call.ended] if call else [])
    return Stage[Any](
        number=number,
        plan=text,
        executions=executions,
        interrupted=True,
        started=min(times, default=0.0),
        ended=max(ends, default=0.0),
        calls=(call,) if call else (),
        usage=StageUsage(total=CallUsage.sum(costs), sequential_tokens=0, sequential_tokens_strict=0),
    )
