"""The output files of a finished curation: samples by split, their sequential twins, and the report."""

import os
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from sprint_agents.errors import ConfigurationError

from .html_report import PackedTrace, report_page
from .lines import lines_of
from .packing import shape_of
from .records import Packed, Rejection, Sample, Split, Trace
from .report import Report, Tally
from .stage_file import StageFile
from .violations import violations_of

SHOWN = 24
"""Number of samples that the report page draws."""


class Twin(BaseModel):
    """A line of the sequential twin's training file: the sample's chain instead of its trajectory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    problem: str
    answer: str
    text: str


def write_results(
    folder: Path,
    tally: Tally,
    ids: Sequence[str],
    traces: StageFile[Trace],
    packed: StageFile[Packed],
    samples: StageFile[Sample],
) -> Report:
    """Write ``train.jsonl``, ``eval.jsonl``, the same files in ``sequential/``, ``report.json`` and ``report.html``.

    Each file is replaced as a whole. Lines follow the order of ``ids``, which is that of the source.
    """
    lines: dict[Split, list[bytes]] = {"train": [], "eval": []}
    twins: dict[Split, list[bytes]] = {"train": [], "eval": []}
    shown: list[PackedTrace] = []
    for trace_id in ids:
        sample, trace, stages = samples.get(trace_id), traces.get(trace_id), packed.get(trace_id)
        if not (isinstance(sample, Sample) and isinstance(trace, Trace) and isinstance(stages, Packed)):
            continue
        parts = lines_of(trace.trace)
        tally.keep(sample, lines=len(parts.chain) + len(parts.conclusion))
        lines[sample.split].append(sample.model_dump_json().encode())
        twin = Twin(id=sample.id, problem=sample.problem, answer=sample.answer, text=sample.chain)
        twins[sample.split].append(twin.model_dump_json().encode())
        if len(shown) < SHOWN:
            shown.append(PackedTrace(trace, stages, sample.shape))
    report = tally.report()
    try:
        (folder / "sequential").mkdir(exist_ok=True)
        for split in lines:
            _replace(folder / f"{split}.jsonl", lines[split])
            _replace(folder / "sequential" / f"{split}.jsonl", twins[split])
        _replace(folder / "report.json", [report.model_dump_json(indent=2).encode()])
        _replace(folder / "report.html", [report_page(report, shown).encode()])
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written: {error.strerror or error}") from error
    return report


def _replace(path: Path, lines: Iterable[bytes]) -> None:
    """Write a file and rename it, so that the old file survives a kill."""
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        file.writelines(line + b"\n" for line in lines)
    os.replace(new, path)


def read_packed_trace(folder: Path, trace_id: str) -> PackedTrace:
    """Read a packed trace, kept or not, from the output folder of a curation.

    Raises:
        ConfigurationError: the folder has no such trace, or it was rejected before it was packed.
    """
    for name in ("traces", "packed"):
        if not (folder / f"{name}.jsonl").is_file():
            raise ConfigurationError(f"{folder} is not the output folder of a curation: it has no {name}.jsonl")
    with StageFile(folder / "traces.jsonl", Trace) as traces, StageFile(folder / "packed.jsonl", Packed) as packed:
        trace, stages = traces.get(trace_id), packed.get(trace_id)
        if isinstance(trace, Trace) and isinstance(stages, Packed):
            shape = shape_of(stages).model_copy(update={"violations": violations_of(trace, stages)})
            return PackedTrace(trace, stages, shape)
        if isinstance(trace, Rejection):
            raise ConfigurationError(f"{trace_id!r} was rejected while reading: {trace.detail}")
        if trace is None:
            some = ", ".join(repr(known) for known in islice(traces.ids(), 3))
            raise ConfigurationError(f"{folder} has no trace {trace_id!r}: its ids are {some or 'none'}, …")
    raise ConfigurationError(f"{trace_id!r} was not packed: see {folder}/report.json for the rejections")
