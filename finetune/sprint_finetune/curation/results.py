"""The files that a finished curation leaves: samples by split, their sequential twins, and the report."""

import os
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from sprint_agents.errors import ConfigurationError

from .lines import lines_of
from .packing import shape_of
from .page import Shown, report_page
from .quality import violations_of
from .records import Packed, Rejection, Sample, Split, Trace
from .report import Report, Tally
from .store import StageFile

SHOWN = 24
"""How many samples the page of the report draws."""


class Twin(BaseModel):
    """A line of the sequential twin's training file: the sample's chain in the place of its trajectory."""

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
    """Write ``train.jsonl``, ``eval.jsonl``, the same in ``sequential/``, ``report.json`` and ``report.html``.

    Each file is replaced as a whole. The order is that of ``ids``, the source's.
    """
    lines: dict[Split, list[bytes]] = {"train": [], "eval": []}
    twins: dict[Split, list[bytes]] = {"train": [], "eval": []}
    shown: list[Shown] = []
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
            shown.append(Shown(trace, stages, sample.shape))
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
    """Write a file anew; whoever is killed meanwhile leaves the old one."""
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        file.writelines(line + b"\n" for line in lines)
    os.replace(new, path)


def shown_of(folder: Path, trace_id: str) -> Shown:
    """Read a packed trace of a curation's folder, kept or not.

    Raises:
        ConfigurationError: the folder has no such trace, or it was rejected before it was packed.
    """
    for name in ("traces", "packed"):
        if not (folder / f"{name}.jsonl").is_file():
            raise ConfigurationError(f"{folder} is no folder of a curation: it has no {name}.jsonl")
    with StageFile(folder / "traces.jsonl", Trace) as traces, StageFile(folder / "packed.jsonl", Packed) as packed:
        trace, stages = traces.get(trace_id), packed.get(trace_id)
        if isinstance(trace, Trace) and isinstance(stages, Packed):
            shape = shape_of(stages).model_copy(update={"violations": violations_of(trace, stages)})
            return Shown(trace, stages, shape)
        if isinstance(trace, Rejection):
            raise ConfigurationError(f"{trace_id!r} was rejected when it was read: {trace.detail}")
        if trace is None:
            some = ", ".join(repr(known) for known in islice(traces.ids(), 3))
            raise ConfigurationError(f"{folder} has no trace {trace_id!r}: it has {some or 'none'}, …")
    raise ConfigurationError(f"{trace_id!r} was not packed: {folder}/report.json says why traces were rejected")
