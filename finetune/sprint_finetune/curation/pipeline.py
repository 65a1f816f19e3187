"""Run the pipeline over a source, resumably: one JSONL file per stage in one folder.

Invariants:

- A stage's result for a trace is in its file before the next stage starts, and is never computed again.
- Traces are independent. The stage files have them in order of completion, the output files in the source's order.
- Only one process at a time works in a folder.
"""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from sprint_agents.errors import ConfigurationError, escape_surrogates
from sprint_finetune.grading import MathVerifier, Verifier

from .answers import check_answer
from .dag import ExtractionFault, dag_fault
from .extractor import Extractor, steps_fault
from .file_lock import locked
from .filtering import Criteria, rejection_of, rejection_of_sample
from .lines import lines_of
from .output_files import write_results
from .packing import SHORTEST_EXECUTION, pack, shape_of
from .records import Dag, Extraction, Packed, Rejection, Sample, Shape, StageName, Trace, Verdict
from .reformatting import Style, prompts_of
from .report import Report, Tally
from .samples import sample_of
from .stage_file import StageFile
from .violations import violations_of

RecordT = TypeVar("RecordT", bound=BaseModel)

_SETTINGS = TypeAdapter(dict[str, JsonValue])

FORMAT = 2
"""Version of the folder's format. Increase it with every change; folders of other versions are refused."""


class CurationSettings(BaseModel):
    """Every setting that affects the samples, apart from the source and the extractor.

    Executions with fewer than ``shortest_execution`` lines are folded into their plan. ``eval_share`` of the problems
    is kept for evaluation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    criteria: Criteria = Criteria()
    style: Style = Style()
    shortest_execution: int = Field(default=SHORTEST_EXECUTION, ge=1)
    eval_share: float = Field(default=0.05, ge=0, le=1)


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run, in traces, including those of earlier processes."""

    done: int
    total: int
    kept: int


async def curate(
    source: Iterable[Trace | Rejection],
    folder: Path,
    *,
    extractor: Extractor,
    settings: CurationSettings | None = None,
    verifier: Verifier | None = None,
    concurrency: int = 8,
    on_progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Take the traces of ``source`` through all stages, and write samples and report into ``folder``.

    Call it again with the same arguments to resume an interrupted run. ``concurrency`` traces are processed at once.
    ``verifier`` compares answers; the default uses math-verify. If an error ends the run, questions that were being
    asked are still answered and kept, and the samples that are finished are written.

    Raises:
        ConfigurationError: the folder is in use, or belongs to another source, extractor or settings.
        BudgetExceeded: the extractor's budget is spent.
        EngineError: the extractor's engine failed.
    """
    settings = settings or CurationSettings()
    async with AsyncExitStack() as opened:
        files = opened.enter_context(_open_folder(folder, extractor, settings))
        used = verifier or await opened.enter_async_context(MathVerifier(processes=min(4, os.cpu_count() or 1)))
        ids = list(_read_source(source, files.traces))
        pipeline = _Pipeline(files, extractor, settings, used)
        await _through_all(pipeline, ids, concurrency, on_progress)
        report = write_results(folder, _tally(files, ids), ids, files.traces, files.packed, files.samples)
        if pipeline.errors:
            raise pipeline.errors[0]
        return report


@dataclass(frozen=True, slots=True)
class _Files:
    traces: StageFile[Trace]
    answers: StageFile[Verdict]
    steps: StageFile[Extraction]
    dags: StageFile[Dag]
    packed: StageFile[Packed]
    shapes: StageFile[Shape]
    samples: StageFile[Sample]


class _Stopped(Exception):
    """Another trace has ended the run."""


@dataclass(frozen=True, slots=True)
class _Pipeline:
    """All stages after reading the source, for one trace at a time. Once there are ``errors``, nothing is extracted."""

    files: _Files
    extractor: Extractor
    settings: CurationSettings
    verifier: Verifier
    errors: list[Exception] = field(default_factory=list[Exception])

    async def run(self, trace: Trace) -> Sample | Rejection:
        """Take a trace through the stages until one rejects it. Finished stages are read from their files."""
        verdict = await _once(self.files.answers, trace, lambda: check_answer(trace, self.verifier))
        if isinstance(verdict, Rejection):
            return verdict
        extraction = await _once(self.files.steps, trace, lambda: self._extract(trace))
        if isinstance(extraction, Rejection):
            return extraction
        dag = await _once(self.files.dags, trace, lambda: self._find_parents(trace, extraction))
        if isinstance(dag, Rejection):
            return dag
        packed = await _once(self.files.packed, trace, lambda: self._pack(extraction, dag))
        if isinstance(packed, Rejection):
            return packed
        shape = await _once(self.files.shapes, trace, lambda: self._filter(trace, packed))
        if isinstance(shape, Rejection):
            return shape
        return await _once(self.files.samples, trace, lambda: self._reformat(trace, verdict, packed, shape))

    async def _extract(self, trace: Trace) -> Extraction | Rejection:
        self._check_running()
        extraction = await self.extractor.steps(trace)
        if isinstance(extraction, Rejection):
            return extraction
        fault = steps_fault(extraction.steps, lines=len(lines_of(trace.trace).chain))
        return _rejected(trace, "steps", fault) if fault else extraction

    async def _find_parents(self, trace: Trace, extraction: Extraction) -> Dag | Rejection:
        self._check_running()
        dag = await self.extractor.dag(trace, extraction)
        if isinstance(dag, Rejection):
            return dag
        fault = dag_fault(dict(enumerate(dag.parents, 1)), steps=len(extraction.steps))
        return _rejected(trace, "dag", fault) if fault else dag

    def _check_running(self) -> None:
        if self.errors:
            raise _Stopped

    async def _pack(self, extraction: Extraction, dag: Dag) -> Packed | Rejection:
        return pack(extraction, dag, shortest=self.settings.shortest_execution)

    async def _filter(self, trace: Trace, packed: Packed) -> Shape | Rejection:
        shape = shape_of(packed).model_copy(update={"violations": violations_of(trace, packed)})
        return rejection_of(shape, self.settings.criteria) or shape

    async def _reformat(self, trace: Trace, verdict: Verdict, packed: Packed, shape: Shape) -> Sample | Rejection:
        settings = self.settings
        sample = sample_of(trace, verdict, packed, shape, style=settings.style, eval_share=settings.eval_share)
        if isinstance(sample, Rejection):
            return sample
        return rejection_of_sample(sample, prompts_of(trace, packed), settings.criteria) or sample


def _rejected(trace: Trace, stage: StageName, fault: ExtractionFault) -> Rejection:
    return Rejection(id=trace.id, stage=stage, reason=fault.reason, detail=fault.detail)


async def _once(
    file: StageFile[RecordT], trace: Trace, work: Callable[[], Awaitable[RecordT | Rejection]]
) -> RecordT | Rejection:
    """Return the result of a stage for a trace, computing it if it is not in the file."""
    result = file.get(trace.id)
    if result is None:
        result = await work()
        file.append(trace.id, result)
    return result


async def _through_all(
    pipeline: _Pipeline, ids: list[str], concurrency: int, on_progress: Callable[[Progress], None] | None
) -> None:
    waiting = iter(ids)
    counts: Counter[bool] = Counter()

    async def work() -> None:
        for trace_id in waiting:
            trace = pipeline.files.traces.get(trace_id)
            kept = isinstance(trace, Trace) and isinstance(await pipeline.run(trace), Sample)
            counts[kept] += 1
            if on_progress:
                on_progress(Progress(counts.total(), len(ids), counts[True]))

    async def work_until_an_error() -> None:
        try:
            await work()
        except _Stopped:
            pass
        except Exception as error:
            # Not raised here: the group would cancel what the other traces have asked, and it would be paid for twice.
            pipeline.errors.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, len(ids))):
            group.create_task(work_until_an_error())


def _read_source(source: Iterable[Trace | Rejection], file: StageFile[Trace]) -> Iterator[str]:
    """Append new traces of the source to the file, and yield all ids in the order of the source.

    Raises:
        ConfigurationError: the file has another trace with the same id.
    """
    seen: Counter[str] = Counter()
    for item in map(_in_utf8, source):
        seen[item.id] += 1
        trace_id, result = item.id, item
        if (count := seen[item.id]) > 1:
            trace_id = f"{item.id}#{count}"
            detail = f"the id {item.id!r} is not unique"
            result = Rejection(id=trace_id, stage="read", reason="duplicate", detail=detail)
        if trace_id not in file:
            file.append(trace_id, result)
        elif file.get(trace_id) != result:
            raise ConfigurationError(
                f"{trace_id!r} has changed in the source since it was read into this folder: use another folder"
            )
        yield trace_id


def _in_utf8(item: Trace | Rejection) -> Trace | Rejection:
    """Reject a trace with half of a surrogate pair, which no file and no tokenizer can hold."""
    fields = item.model_dump()
    odd = [name for name, value in fields.items() if isinstance(value, str) and value != escape_surrogates(value)]
    if not odd:
        return item
    if isinstance(item, Rejection):
        return item.model_copy(update={name: escape_surrogates(fields[name]) for name in odd})
    detail = f"the column {odd[0]!r} has half of a surrogate pair, which UTF-8 cannot hold"
    return Rejection(id=escape_surrogates(item.id), stage="read", reason="unreadable", detail=detail)


def _tally(files: _Files, ids: list[str]) -> Tally:
    tally = Tally()
    for trace_id in ids:
        for file in (files.traces, files.answers, files.steps, files.dags, files.packed, files.shapes, files.samples):
            result = file.get(trace_id)
            if isinstance(result, Rejection):
                tally.reject(result)
            elif isinstance(result, Trace):
                tally.read(result)
            elif isinstance(result, Packed):
                tally.pack(shape_of(result))
    return tally


@contextmanager
def _open_folder(folder: Path, extractor: Extractor, settings: CurationSettings) -> Generator[_Files]:
    """Lock a folder for this process, verify that it belongs to this call, and open its files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("ab")
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written: {error.strerror or error}") from error
    with ExitStack() as opened:
        opened.enter_context(lock)
        if not locked(lock):
            raise ConfigurationError(f"another process is working in {folder}: wait for it, or use another folder")
        _claim(folder / "settings.json", extractor, settings)

        def stage(name: str, record: type[RecordT]) -> StageFile[RecordT]:
            return opened.enter_context(StageFile(folder / f"{name}.jsonl", record))

        yield _Files(
            traces=stage("traces", Trace),
            answers=stage("answers", Verdict),
            steps=stage("steps", Extraction),
            dags=stage("dags", Dag),
            packed=stage("packed", Packed),
            shapes=stage("shapes", Shape),
            samples=stage("samples", Sample),
        )


def _claim(path: Path, extractor: Extractor, settings: CurationSettings) -> None:
    """Write down the settings that the folder is made with, or compare them with those already there."""
    mine = {"format": FORMAT, "extractor": extractor.name, **settings.model_dump(mode="json")}
    if not path.exists():
        new = path.with_suffix(".new")
        new.write_text(json.dumps(mine, indent=2) + "\n", encoding="utf-8")
        os.replace(new, path)
        return
    try:
        theirs = _SETTINGS.validate_json(path.read_bytes())
    except ValidationError as error:
        raise ConfigurationError(f"{path} is not a JSON object: use another folder, or remove the file") from error
    if theirs != mine:
        differing = [key for key in mine if theirs.get(key) != mine[key]]
        raise ConfigurationError(
            f"{path.parent} was made with another {', '.join(differing) or 'format'}: use another folder, "
            "or the settings in its settings.json"
        )
