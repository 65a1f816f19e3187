"""Sources of traces: files and Hugging Face data sets.

A source yields traces, and a rejection for each line that is not one. The order must not change, because the ids of
rejections contain the line's position. If the source as a whole is unusable (missing file, missing columns), an error
is raised instead.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from pydantic import BaseModel, ConfigDict, Field

from sprint_agents.dialects.tags.format import load_tags
from sprint_agents.dialects.tags.lexer import Lexer, Tag
from sprint_agents.errors import ConfigurationError, MissingExtra

from .formats import fields_of, with_think_tags
from .lines import lines_of
from .records import Reason, Rejection, Trace
from .rows import BadRow, rows_of


class Columns(BaseModel):
    """The names of the columns. Data without a column ``id`` gets ids from its content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    problem: str = "problem"
    trace: str = "trace"
    answer: str = "answer"
    id: str = "id"


class Reading(BaseModel):
    """How to read a source: its columns, and the maximum length of a trace in characters.

    Without ``columns``, the format of each row is recognised, and the report says which formats there were.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: Columns | None = None
    longest: int = Field(default=200_000, ge=1)


class RowSource(Protocol):
    """The part of a data set's interface that is used: column names, if known, and rows."""

    @property
    def column_names(self) -> list[str] | None:
        """Return the names of the columns, or None if they are not known."""
        ...

    def __iter__(self) -> Iterator[Mapping[str, Any]]: ...


def from_file(path: Path, *, reading: Reading | None = None) -> Iterator[Trace | Rejection]:
    """Read a file: JSON lines, a JSON array, Parquet or CSV. The format of its rows is recognised (``formats``).

    Raises:
        ConfigurationError: the file cannot be read.
    """
    reading = reading or Reading()
    for row in rows_of(path):
        if isinstance(row, BadRow):
            yield _rejected(row.place, row.reason, row.detail)
        else:
            yield from _traces(row.place, row.columns, reading)


def from_jsonl(path: Path, *, reading: Reading | None = None) -> Iterator[Trace | Rejection]:
    """Read a file with one JSON object per line, as ``from_file`` does.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    return from_file(path, reading=reading)


def from_dataset(name: str, *, split: str = "train", reading: Reading | None = None) -> Iterator[Trace | Rejection]:
    """Read a data set with Hugging Face ``datasets``: a folder, a data file, a saved data set, or a name on the hub.

    Raises:
        MissingExtra: ``datasets`` is not installed.
        ConfigurationError: the data set cannot be loaded or read to its end, or a column is missing.
    """
    return from_rows(_DataSet(name, _load(name, split)), name=name, reading=reading)


def from_rows(rows: RowSource, *, name: str, reading: Reading | None = None) -> Iterator[Trace | Rejection]:
    """Read the rows of a data set that is already loaded. ``name`` is used in messages.

    Raises:
        ConfigurationError: a column is missing.
    """
    reading = reading or Reading()
    known = rows.column_names
    columns = reading.columns or Columns()
    missing = [column for column in (columns.problem, columns.trace, columns.answer) if known and column not in known]
    if missing and reading.columns:
        raise ConfigurationError(
            f"{name} has no column {_listed(missing)}: it has {_listed(sorted(known or []))}. "
            "Name the columns with the problem, the trace and the answer"
        )
    for number, row in enumerate(rows, 1):
        yield from _traces(f"row-{number}", row, reading)


@dataclass(frozen=True, slots=True)
class _DataSet:
    """A data set of Hugging Face whose rows are read while they are iterated over, so that broken ones are met late."""

    name: str
    rows: RowSource

    @property
    def column_names(self) -> list[str] | None:
        return self.rows.column_names

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        try:
            yield from self.rows
        except Exception as error:  # as in ``_load``; also pyarrow's types
            raise _unusable(self.name, "read", error) from error


def _unusable(name: str, what: str, error: Exception) -> ConfigurationError:
    return ConfigurationError(f"the data set {name!r} cannot be {what}: {' '.join(str(error).split())[:300]}")


def _load(name: str, split: str) -> RowSource:
    try:
        datasets: Any = import_module("datasets")
    except ModuleNotFoundError as error:
        raise MissingExtra("finetune", "datasets") from error
    path = Path(name)
    try:
        if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
            loaded = datasets.load_from_disk(name)
            return cast(RowSource, loaded[split] if isinstance(loaded, dict) else loaded)
        if path.is_file():
            kind = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}.get(path.suffix, "json")
            return cast(RowSource, datasets.load_dataset(kind, data_files=name, split=split, streaming=True))
        return cast(RowSource, datasets.load_dataset(name, split=split, streaming=True))
    except Exception as error:  # the library raises many types: OSError, ValueError, its own, the hub's
        raise _unusable(name, "loaded", error) from error


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _traces(place: str, row: Mapping[str, Any], reading: Reading) -> Iterator[Trace | Rejection]:
    """Read the traces of a row: one, or one for each of its generations."""
    if reading.columns is not None or {"problem", "trace", "answer"} <= row.keys():
        yield _trace(place, row, reading)
        return
    found = fields_of(row)
    if not found.traces:
        known = f"its columns are {_listed(row)}"
        yield _rejected(place, "missing_field", f"it has no trace in a format that is recognised: {known}")
    for number, text in enumerate(found.traces, 1):
        many = len(found.traces) > 1
        name = f"{found.id}/{number}" if many and found.id else found.id
        columns = {"problem": found.problem, "trace": text, "answer": found.answer, "id": name}
        item = _trace(f"{place}/{number}" if many else place, columns, reading, of=row)
        yield item.model_copy(update={"format": found.format}) if isinstance(item, Trace) else item


def _trace(
    place: str, row: Mapping[str, Any], reading: Reading, *, of: Mapping[str, Any] | None = None
) -> Trace | Rejection:
    columns = reading.columns or Columns()
    fields: dict[str, str] = {}
    for name, column in (("problem", columns.problem), ("answer", columns.answer), ("trace", columns.trace)):
        value = row.get(column)
        text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
        if not isinstance(text, str) or value != value:  # nan, which is written for a missing value
            found = f"its columns are {_listed(of or row)}" if value is None else f"it holds {value!r:.80}"
            return _rejected(place, "missing_field", f"the column {column!r} has no text: {found}")
        if not text.strip():
            reason = "empty_trace" if name == "trace" else "missing_field"
            return _rejected(place, reason, f"the column {column!r} is empty")
        fields[name] = text
    fields["trace"] = with_think_tags(fields["trace"])
    own = row.get(columns.id)
    trace = Trace(id=str(own) if isinstance(own, str | int) and str(own) else _id_of(fields), **fields)
    return _checked(place, trace, reading)


def _checked(place: str, trace: Trace, reading: Reading) -> Trace | Rejection:
    if (size := len(trace.trace)) > reading.longest:
        return _rejected(
            place, "too_long", f"the trace has {size:,} characters, but at most {reading.longest:,} are allowed"
        )
    lines = lines_of(trace.trace)
    if not lines.chain:
        return _rejected(place, "empty_trace", "the trace has no line of reasoning")
    text = "\n".join([trace.problem, *lines.chain, *lines.conclusion])
    lexer = Lexer(load_tags())
    tags = [piece for piece in (*lexer.feed(text), *lexer.close()) if isinstance(piece, Tag)]
    if tags:
        return _rejected(
            place, "tag_in_text", f"it contains {tags[0].text!r}, a tag of the dialect that the sample is written in"
        )
    return trace


def _id_of(fields: Mapping[str, str]) -> str:
    content = "\0".join((fields["problem"], fields["trace"])).encode(errors="surrogatepass")
    return f"trace-{hashlib.sha256(content).hexdigest()[:16]}"


def _rejected(place: str, reason: Reason, detail: str) -> Rejection:
    return Rejection(id=place, stage="read", reason=reason, detail=detail)
